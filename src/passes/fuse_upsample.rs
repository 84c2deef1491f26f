//! `fuse-upsample`: a nearest-neighbour enlargement and the convolution that reads it are one transposed convolution.
//!
//! The enlarged image repeats each pixel `f` times, and a kernel of `k` taps over repeated pixels multiplies each of them by a sum of
//! taps: output `r` reads pixel `⌊(r + d - before) / f⌋` through tap `d`. Those sums, one for each distance between a pixel and an
//! output, are the `k + f - 1` taps of a transposed convolution with stride `f`. Legal because a product distributes over a sum. Of a
//! 3×3 kernel and an image enlarged twice it leaves 16 of 36 products, and the enlarged image is never written.
//!
//! Only on the CPU in f32, where it took 0.60 to 0.80 of the time of the two (28 images of 64 channels 16×16 to 14 of 64 channels
//! 128×128, two threads). The two must be governed by the same knob, so that what a knob's answer costs does not depend on another.

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::Result;
use crate::ir::op::Conv;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::target::{Form, Target};
use crate::weights::WeightExpr;

pub(super) struct FuseUpsample;

static INFO: PassInfo = PassInfo {
    id: "fuse-upsample",
    summary: "convolve an enlarged image by a transposed convolution of the small one",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Lowered, Property::Flat],
    establishes: &[],
    example: "
before:
model m(x: f32[1, 2, 4, 5]) -> y: f32[1, 3, 8, 10] = %1
  %0 = Resize{factors=[1, 1, 2, 2]}(%x) : f32[1, 2, 8, 10]
  %1 = Conv{kernel=[3, 3] strides=[1, 1] pads=[(1, 1), (1, 1)] groups=1}(%0, {param m/w: f32[3, 2, 3, 3]}, {param m/b: f32[3]}) : f32[1, 3, 8, 10]
after:
model m(x: f32[1, 2, 4, 5]) -> y: f32[1, 3, 8, 10] = %0
  %0 = ConvTranspose{kernel=[4, 4] strides=[2, 2] pads=[(1, 1), (1, 1)] groups=1}(%x, {transpose[1, 0, 2, 3](reshape[3, 2, 4, 4](matmul(reshape[6, 9](param m/w: f32[3, 2, 3, 3]), literal f32[9, 16] = sha256:a9119841ab57f249)))}, {param m/b: f32[3]}) : f32[1, 3, 8, 10]
",
};

impl Pass for FuseUpsample {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        for id in rw.graph().nodes() {
            let Some(site) = site(rw.graph(), id, cx.machine.target) else { continue };
            let inputs = rw.graph().inputs_of(id);
            let small = rw.graph().inputs_of(site.upsample)[0];
            let knob = rw.graph().node(id).knob.clone();
            let transposed = transposed(&site.conv, &site.factors);
            let weight = summed(&site.weight, &site.conv, &site.factors, &transposed.kernel)?;
            let why = Why::new("products-of-equal-pixels").with("taps", transposed.kernel.iter().product::<i64>());
            rw.apply(id, knob.as_deref(), why, |e| {
                let mut args = vec![small, e.weight(weight)];
                args.extend(&inputs[2..]);
                let y = e.add(Op::ConvTranspose(transposed), &args, "")?;
                e.replace(Outlet { node: id, slot: 0 }, y)?;
                e.remove(id)?;
                e.remove(site.upsample)
            })?;
        }
        Ok(())
    }
}

struct Site {
    upsample: NodeId,
    conv: Conv,
    /// One a spatial axis.
    factors: Vec<i64>,
    weight: WeightExpr,
}

/// A convolution that alone reads an enlarged image, if it has fewer products as a transposed one.
fn site(graph: &OpGraph, id: NodeId, target: &Target) -> Option<Site> {
    let node = graph.node(id);
    let Op::Conv(conv) = &node.op else { return None };
    let inputs = graph.inputs_of(id);
    let upsample = graph.node(inputs[0].node);
    let Op::Upsample { factors } = &upsample.op else { return None };
    let sole = graph.user_count(inputs[0]) == 1 && !graph.is_output(inputs[0]);
    let (across, factors) = factors.split_at(2);
    let weight = graph.as_weight(inputs[1])?.clone();
    let unit = conv.groups == 1 && across == [1, 1] && conv.strides.iter().all(|s| *s == 1);
    let inside = conv.pads.iter().zip(&conv.kernel).all(|((before, after), k)| before < k && after < k);
    let products = |kernel: &[i64]| kernel.iter().try_fold(1, |all: i64, k| all.checked_mul(*k));
    let fewer = products(&transposed(conv, factors).kernel)? < products(&[factors, &conv.kernel].concat())?;
    let gains = target.has(Form::TransposedUpsample, node.outs[0].dtype);
    (sole && unit && inside && fewer && gains && upsample.knob == node.knob).then(|| Site {
        upsample: inputs[0].node,
        conv: conv.clone(),
        factors: factors.to_vec(),
        weight,
    })
}

/// Of `k` taps with pads `b` and `a` over pixels repeated `f` times: `k + f - 1` taps, `f` apart, with pads `k - 1 - b` and `k - 1 - a`.
fn transposed(conv: &Conv, factors: &[i64]) -> Conv {
    Conv {
        kernel: conv.kernel.iter().zip(factors).map(|(k, f)| k + f - 1).collect(),
        strides: factors.to_vec(),
        pads: conv.kernel.iter().zip(&conv.pads).map(|(k, (before, after))| (k - 1 - before, k - 1 - after)).collect(),
        groups: 1,
    }
}

/// The weight `[co, c, taps…]` summed to `[c, co, kernel…]`.
fn summed(weight: &WeightExpr, conv: &Conv, factors: &[i64], kernel: &[i64]) -> Result<WeightExpr> {
    let taps: i64 = conv.kernel.iter().product();
    let sums: i64 = kernel.iter().product();
    let mut matrix = vec![0.0; (taps * sums) as usize];
    for tap in 0..taps {
        for sum in 0..sums {
            let adds = axes(tap, &conv.kernel).zip(axes(sum, kernel)).zip(conv.kernel.iter().zip(factors));
            // Repetition t of a pixel under tap d is at distance j = t - d + k - 1.
            if adds.into_iter().all(|((d, j), (k, f))| (0..*f).contains(&(j + d + 1 - k))) {
                matrix[(tap * sums + sum) as usize] = 1.0;
            }
        }
    }
    let matrix = WeightExpr::literal_f32(&[taps as u64, sums as u64], &matrix)?;
    let (co, c) = (weight.shape()[0], weight.shape()[1]);
    let shape: Vec<u64> = [co, c].into_iter().chain(kernel.iter().map(|k| *k as u64)).collect();
    let order: Vec<usize> = [1, 0].into_iter().chain(2..shape.len()).collect();
    weight.reshape(&[co * c, taps as u64])?.matmul(&matrix)?.reshape(&shape)?.transpose(&order)
}

/// The indices of a position in an array of these extents.
fn axes(position: i64, extents: &[i64]) -> impl Iterator<Item = i64> {
    let mut rest = position;
    let mut digits: Vec<i64> = extents
        .iter()
        .rev()
        .map(|e| {
            let d = rest % e;
            rest /= e;
            d
        })
        .collect();
    digits.reverse();
    digits.into_iter()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hwdb;
    use crate::ir::{DType, TensorType, verify};
    use crate::passes::Choices;
    use crate::passes::property_tests::{EXACT, close, outputs};

    /// Extent, factor, taps and pads of an axis.
    fn axis() -> impl Strategy<Value = (i64, i64, i64, i64, i64)> {
        (1..=4i64, 1..=3i64, 2..=4i64).prop_flat_map(|(n, f, k)| (Just(n), Just(f), Just(k), 0..k, 0..k))
    }

    fn graph(axes: &[(i64, i64, i64, i64, i64)]) -> OpGraph {
        let mut graph = OpGraph::new("m");
        let shape: Vec<i64> = [2, 3].into_iter().chain(axes.iter().map(|a| a.0)).collect();
        let x = graph.input("x", TensorType::new(DType::F32, shape));
        let factors = [1, 1].into_iter().chain(axes.iter().map(|a| a.1)).collect();
        let large = graph.add(Op::Upsample { factors }, &[x], "u", &"g".into()).unwrap();
        let kernel: Vec<i64> = axes.iter().map(|a| a.2).collect();
        let taps: Vec<u64> = [5, 3].into_iter().chain(kernel.iter().map(|k| *k as u64)).collect();
        let weight = graph.weight(WeightExpr::param("m", "w.weight", DType::F32, &taps).unwrap());
        let pads = axes.iter().map(|a| (a.3, a.4)).collect();
        let conv = Conv { strides: vec![1; kernel.len()], kernel, pads, groups: 1 };
        if let Ok(y) = graph.add(Op::Conv(conv), &[large, weight], "c", &"g".into()) {
            graph.output("y", y);
        }
        graph
    }

    proptest! {
        #[test]
        fn the_transposed_convolution_is_the_same(axes in proptest::collection::vec(axis(), 1..=3)) {
            let before = graph(&axes);
            // A kernel may be larger than its image.
            prop_assume!(!before.outputs().is_empty());
            let mut after = before.clone();
            let machine = hwdb::machine("x86-cpu-2core").unwrap();
            let mut rw = Rewriter::new("m", &mut after);
            FuseUpsample.run(&mut rw, &PassCx { machine: &machine, choices: &Choices::default(), debugging: &crate::passes::Debugging::default() }).unwrap();
            let enlarged = axes.iter().any(|a| a.1 > 1);
            prop_assert_eq!(rw.finish().iter().any(|r| r.applied), enlarged);
            verify(&after).map_err(|d| TestCaseError::fail(format!("{d:?}")))?;
            close(&outputs::<f64>(&after), &outputs::<f64>(&before), EXACT, "");
        }
    }
}
