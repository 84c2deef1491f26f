//! Memory that a kernel takes while it runs, on top of its inputs and outputs.
//!
//! # The CPU provider
//! Each formula gives the bytes that one-operator models ask for, counted by the allocator of runs (ONNX Runtime 1.31.1, 2 threads, 57
//! shapes; `docs/facts/ort.md` section 8). Per element of f32:
//! - Convolution: where it has more channels than pixels, the whole im2col matrix of one image; else 64 KiB a thread, for a slice of it.
//!   One tap needs none: the image is the matrix.
//! - Transposed convolution: the columns of one image.
//! - Fused attention: q, k and v transposed, and a thread's block of scores, output and statistics, sized by the cache.
//! - `BiasGelu`: the sum, another tensor of the output's size.
//! - Softmax along another than the last axis: two transposed copies.
//! - A 16-bit type without a kernel of its own runs as f32 between casts: copies of inputs and output, twice as large.
//!
//! # GPUs
//! A convolution takes the smaller of its im2col matrix and the workspace that the row allows; fused attention the statistics of the
//! softmax, 4 bytes a query and head (`docs/facts/tuning.md` B.2).

use super::latency::Machine;
use crate::ir::op::{Attention, Conv};
use crate::ir::{DType, Node, Op, TensorType};
use crate::target::{Scratch, Target};
use crate::units::Bytes;

/// What a thread of a convolution expands a slice of the image into: 16,384 elements of f32.
const CONVOLUTION_SLICE: u64 = 64 << 10;
/// The cache that blocks of fused attention are cut for. Cores have 0.5 to 2 MiB of it, and the block grows no faster.
const ATTENTION_CACHE: u64 = 1 << 20;

/// The scratch of a node of a lowered graph.
pub(super) fn scratch(node: &Node, inputs: &[&TensorType], machine: &Machine) -> Bytes {
    Bytes(match machine.target.figures.scratch {
        Scratch::Mlas => on_cpu(node, inputs, machine.units.max(1.0) as u64).saturating_add(widened(node, inputs, machine.target)),
        Scratch::Workspace(most) => on_gpu(node, inputs, most),
    })
}

fn on_cpu(node: &Node, inputs: &[&TensorType], threads: u64) -> u64 {
    let out = elements(&node.outs[0]).saturating_mul(4);
    match &node.op {
        Op::Conv(c) | Op::FusedConv(c) if taps(c) == 1 && c.strides.iter().all(|s| *s == 1) => 0,
        Op::Conv(c) | Op::FusedConv(c) => {
            let pixels: u64 = extents(&node.outs[0])[2..].iter().product();
            let channels = extents(&node.outs[0])[1] / c.groups.max(1) as u64;
            if channels > pixels { im2col(c, 1, inputs[0], &node.outs[0], 4) } else { CONVOLUTION_SLICE * threads }
        }
        // The columns of one image.
        Op::ConvTranspose(c) => {
            let pixels: u64 = extents(inputs[0])[2..].iter().product();
            let wide = extents(&node.outs[0])[1];
            pixels.saturating_mul(wide).saturating_mul(taps(c)).saturating_mul(4)
        }
        Op::MultiHeadAttention(a) => {
            let operands: u64 = inputs.iter().take(3).map(|t| elements(t).saturating_mul(4)).sum();
            operands + threads * attention_block(a, inputs)
        }
        Op::BiasGelu => out,
        Op::Softmax { axis } if axis + 1 < node.outs[0].rank() => 2 * out,
        _ => 0,
    }
}

/// What one thread of the blocked kernel works in: a block of queries against a block of keys.
fn attention_block(a: &Attention, inputs: &[&TensorType]) -> u64 {
    let (q, k, v) = (extents(inputs[0]), extents(inputs[1]), extents(inputs[2]));
    let heads = a.heads.max(1) as u64;
    let (of_q, of_v) = (q[2] / heads, v[2] / heads);
    let most = (ATTENTION_CACHE / (16 * (of_q + of_v)).max(1)).max(1);
    let (keys, queries) = (most.min(k[1]), most.min(of_q + of_v).min(q[1]));
    4 * queries * (2 + keys + of_v)
}

/// Copies in f32 of what a kernel reads and writes, where the provider has no kernel for its type.
fn widened(node: &Node, inputs: &[&TensorType], target: &Target) -> u64 {
    let narrow = |t: &TensorType| target.kernels.widened.contains(&t.dtype);
    let Some((domain, op_type)) = node.op.onnx_type() else { return 0 };
    let first = inputs.first().map_or(DType::F32, |t| t.dtype);
    if !target.kernels.widens(domain, op_type, first) {
        return 0;
    }
    inputs.iter().copied().chain(&node.outs).filter(|t| narrow(t)).map(|t| elements(t).saturating_mul(4)).sum()
}

fn on_gpu(node: &Node, inputs: &[&TensorType], workspace: Bytes) -> u64 {
    match &node.op {
        Op::Conv(c) | Op::FusedConv(c) => {
            let images = extents(inputs[0])[0];
            workspace.0.min(im2col(c, images, inputs[0], &node.outs[0], inputs[0].dtype.size()))
        }
        Op::ConvTranspose(c) => {
            let pixels: u64 = extents(inputs[0])[2..].iter().product();
            let wide = extents(&node.outs[0])[1];
            pixels.saturating_mul(wide).saturating_mul(taps(c)).saturating_mul(node.outs[0].dtype.size())
        }
        Op::MultiHeadAttention(a) => {
            let q = extents(inputs[0]);
            4 * a.heads.max(1) as u64 * q[0] * q[1]
        }
        _ => 0,
    }
}

/// Bytes of the matrix that a convolution is when written as a product, for so many images: one column a tap and input channel.
fn im2col(c: &Conv, images: u64, x: &TensorType, y: &TensorType, element: u64) -> u64 {
    let (x, y) = (extents(x), extents(y));
    let factors = [images, x[1], element, taps(c)].into_iter().chain(y[2..].iter().copied());
    factors.fold(1, u64::saturating_mul) / c.groups.max(1) as u64
}

fn taps(c: &Conv) -> u64 {
    c.kernel.iter().map(|k| (*k).max(0) as u64).product()
}

fn extents(t: &TensorType) -> Vec<u64> {
    t.shape.iter().map(|d| d.as_const().unwrap_or(0).max(0) as u64).collect()
}

fn elements(t: &TensorType) -> u64 {
    extents(t).into_iter().fold(1, u64::saturating_mul)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwdb;
    use crate::ir::OpGraph;

    const CPU: &str = "x86-cpu-2core";
    const GPU: &str = "rtx3090";

    fn of(key: &str, op: Op, inputs: &[(DType, &[i64])]) -> u64 {
        let mut g = OpGraph::new("m");
        let inputs: Vec<_> = inputs
            .iter()
            .enumerate()
            .map(|(i, (ty, shape))| g.input(format!("x{i}"), TensorType::new(*ty, shape.iter().copied())))
            .collect();
        let types: Vec<TensorType> = inputs.iter().map(|o| g.ty(*o).clone()).collect();
        let y = g.add(op, &inputs, "y", &"".into()).unwrap();
        scratch(g.node(y.node), &types.iter().collect::<Vec<_>>(), &hwdb::machine(key).unwrap()).0
    }

    fn conv(key: &str, kernel: i64, x: &[i64], w: &[i64]) -> u64 {
        of(key, Op::Conv(Conv::square(kernel, 1, kernel / 2)), &[(DType::F32, x), (DType::F32, w)])
    }

    /// The bytes that ONNX Runtime asked for in these cases.
    #[test]
    fn kernels_of_the_cpu_take_what_was_counted() {
        assert_eq!(conv(CPU, 3, &[8, 32, 64, 64], &[32, 32, 3, 3]), 131_072);
        assert_eq!(conv(CPU, 3, &[1, 256, 8, 8], &[256, 256, 3, 3]), 589_824);
        assert_eq!(conv(CPU, 3, &[1, 512, 4, 4], &[512, 512, 3, 3]), 294_912);
        assert_eq!(conv(CPU, 1, &[1, 64, 128, 128], &[64, 64, 1, 1]), 0);
        let twice = Conv { kernel: vec![4; 2], strides: vec![2; 2], pads: vec![(1, 1); 2], groups: 1 };
        assert_eq!(of(CPU, Op::ConvTranspose(twice), &[(DType::F32, &[4, 32, 64, 64]), (DType::F32, &[32, 32, 4, 4])]), 8_388_608);
        assert_eq!(of(CPU, Op::BiasGelu, &[(DType::F32, &[16, 1024, 128]), (DType::F32, &[128])]), 8_388_608);
        assert_eq!(of(CPU, Op::Softmax { axis: 1 }, &[(DType::F32, &[16, 1024, 128])]), 16_777_216);
        let heads = |heads| Op::MultiHeadAttention(Attention { heads, scale: 1.0 });
        let (q, k): (&[i64], &[i64]) = (&[1, 1024, 512], &[1, 77, 512]);
        assert_eq!(of(CPU, heads(8), &[(DType::F32, q), (DType::F32, k), (DType::F32, k)]), 2_558_976);
        let x: &[i64] = &[1024, 8, 32];
        assert_eq!(of(CPU, heads(2), &[(DType::F32, x), (DType::F32, x), (DType::F32, x)]), 3_147_392);
    }

    #[test]
    fn what_runs_between_casts_needs_copies_in_f32() {
        let x: &[i64] = &[1, 4, 8, 8];
        let (narrow, wide) = (of(CPU, Op::Upsample { factors: vec![1, 1, 2, 2] }, &[(DType::F16, x)]), 4 * (256 + 1024));
        assert_eq!(narrow, wide);
        assert_eq!(of(CPU, Op::Upsample { factors: vec![1, 1, 2, 2] }, &[(DType::F32, x)]), 0);
    }

    #[test]
    fn kernels_of_gpus_take_what_the_row_allows() {
        assert_eq!(conv(GPU, 3, &[2, 4, 4, 4], &[6, 4, 3, 3]), 2 * 4 * 9 * 16 * 4);
        assert_eq!(conv(GPU, 3, &[2, 512, 64, 64], &[512, 512, 3, 3]), 32 << 20);
        let x: &[i64] = &[2, 16, 12];
        let heads = Op::MultiHeadAttention(Attention { heads: 3, scale: 1.0 });
        assert_eq!(of(GPU, heads, &[(DType::F32, x), (DType::F32, x), (DType::F32, x)]), 4 * 3 * 2 * 16);
    }
}
