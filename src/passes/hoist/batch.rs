//! An operator over all steps at once: the same operator with the steps as a further, outermost axis.

use crate::ir::axes::{self, Dependence, in_front};
use crate::ir::infer::infer;
use crate::ir::{Dim, Op, TensorType};

/// What must happen to an input first.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Prepare {
    /// Nothing.
    AsIs,
    /// Axes of extent 1 between the steps and the rest, so that it broadcasts as before.
    Reshape(Vec<Dim>),
    /// A copy for each step.
    Expand(Vec<Dim>),
}

/// The operator that does for all steps what `op` does for one, and what its inputs need; `None` if it has no such form.
/// `types` are the types of the inputs in one step, `varies` says which of them have the axis of steps in front.
pub(super) fn batched(op: &Op, types: &[&TensorType], out: &TensorType, varies: &[bool], steps: i64) -> Option<(Op, Vec<Prepare>)> {
    let steps = Dim::Const(steps);
    let all = in_front(op, &steps)?;
    let inputs = types.iter().zip(varies);
    let prepare: Vec<Prepare> = inputs
        .clone()
        .map(|(ty, varies)| match op {
            Op::Binary(_) | Op::Expand { .. } if *varies => padded(ty, out.rank(), &steps),
            Op::Concat { .. } if !varies => Prepare::Expand(ahead(&steps, &ty.shape)),
            _ => Prepare::AsIs,
        })
        .collect();
    let given: Vec<TensorType> = inputs.zip(&prepare).map(|((ty, varies), prepare)| prepared(ty, *varies, prepare, &steps)).collect();
    let outs = infer(&all, &given.iter().collect::<Vec<_>>()).ok()?;
    let wanted = TensorType { dtype: out.dtype, shape: ahead(&steps, &out.shape) };
    // Each step comes from that step of what has steps and from the whole of what has none.
    let given: Vec<&TensorType> = given.iter().collect();
    let axes = axes::of(&all, &given, &outs);
    let alone = |(input, (varies, prepare)): (usize, (&bool, &Prepare))| {
        let steps = *varies || matches!(prepare, Prepare::Expand(_));
        axes.along(0, 0, input) == if steps { Dependence::Independent { axis: 0 } } else { Dependence::Broadcast }
    };
    let legal = outs[..] == [wanted] && varies.iter().zip(&prepare).enumerate().all(alone);
    legal.then_some((all, prepare))
}

fn ahead(steps: &Dim, shape: &[Dim]) -> Vec<Dim> {
    std::iter::once(steps).chain(shape).cloned().collect()
}

/// An input as the operator over all steps reads it.
fn prepared(ty: &TensorType, varies: bool, prepare: &Prepare, steps: &Dim) -> TensorType {
    let shape = match prepare {
        Prepare::Reshape(shape) | Prepare::Expand(shape) => shape.clone(),
        Prepare::AsIs if varies => ahead(steps, &ty.shape),
        Prepare::AsIs => ty.shape.clone(),
    };
    TensorType { dtype: ty.dtype, shape }
}

/// A tensor of fewer axes than the result: the steps must stay outermost.
fn padded(ty: &TensorType, rank: usize, steps: &Dim) -> Prepare {
    let missing = rank.saturating_sub(ty.rank());
    if missing == 0 {
        return Prepare::AsIs;
    }
    let ones = vec![Dim::Const(1); missing];
    Prepare::Reshape(std::iter::once(steps.clone()).chain(ones).chain(ty.shape.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, Axis, IxDyn};
    use proptest::prelude::*;

    use super::*;
    use crate::interp::arb::wave;
    use crate::interp::arb_op::{KINDS, arb_seed};
    use crate::interp::eval_op;
    use crate::ir::DType;
    use crate::metrics::relative_l2;

    const STEPS: usize = 3;

    /// The value of an input in a step.
    fn value(input: usize, shape: &[usize], varies: bool, step: usize) -> ArrayD<f64> {
        wave(input * 10 + if varies { step } else { 0 }, shape)
    }

    /// The value of an input for all steps, prepared.
    fn all(input: usize, shape: &[usize], varies: bool, prepare: &Prepare) -> ArrayD<f64> {
        let steps: Vec<ArrayD<f64>> = (0..STEPS).map(|step| value(input, shape, varies, step)).collect();
        let joined = if varies {
            ndarray::stack(Axis(0), &steps.iter().map(|s| s.view()).collect::<Vec<_>>()).expect("alike")
        } else {
            steps[0].clone()
        };
        let sizes = |shape: &[Dim]| IxDyn(&shape.iter().map(|d| d.as_const().expect("bound") as usize).collect::<Vec<_>>());
        match prepare {
            Prepare::AsIs => joined,
            Prepare::Reshape(shape) => joined.into_shape_with_order(sizes(shape)).expect("as many"),
            Prepare::Expand(shape) => joined.broadcast(sizes(shape)).expect("it broadcasts").to_owned(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn all_steps_at_once_are_the_steps_one_by_one(kind in 0..KINDS, seed in arb_seed(), varies in any::<[bool; 4]>()) {
            let (op, shapes) = seed.op(kind);
            let varies = &varies[..shapes.len().min(4)];
            let types: Vec<TensorType> = shapes.iter().map(|s| TensorType::new(DType::F32, s.iter().copied())).collect();
            let types: Vec<&TensorType> = types.iter().collect();
            let outs = infer(&op, &types).expect("it fits");
            let found = (outs.len() == 1).then(|| batched(&op, &types, &outs[0], varies, STEPS as i64)).flatten();
            let Some((over_all, prepare)) = found.filter(|_| varies.contains(&true)) else { return Ok(()) };
            let inputs: Vec<ArrayD<f64>> = (0..shapes.len()).map(|i| all(i, &shapes[i], varies[i], &prepare[i])).collect();
            let got = eval_op(&over_all, &inputs.iter().collect::<Vec<_>>()).expect("it evaluates").swap_remove(0);
            for step in 0..STEPS {
                let inputs: Vec<ArrayD<f64>> = (0..shapes.len()).map(|i| value(i, &shapes[i], varies[i], step)).collect();
                let expect = eval_op(&op, &inputs.iter().collect::<Vec<_>>()).expect("it evaluates").swap_remove(0);
                let far = relative_l2(got.index_axis(Axis(0), step), expect.view());
                prop_assert!(far < 1e-13, "{op:?} of {shapes:?}: step {step} is off by {far:e}");
            }
        }
    }
}
