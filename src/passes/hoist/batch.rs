//! An operator over all steps at once: the same operator with the steps as a further, outermost axis.

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
    let ahead = |dims: &[Dim]| std::iter::once(Dim::Const(steps)).chain(dims.iter().cloned()).collect::<Vec<_>>();
    let as_is = vec![Prepare::AsIs; types.len()];
    let first_alone = varies.first() == Some(&true) && varies[1..].iter().all(|v| !v);
    let new = match op {
        Op::Binary(_) => {
            let prepare = types.iter().zip(varies).map(|(t, v)| if *v { padded(t, out.rank(), steps) } else { Prepare::AsIs });
            return Some((op.clone(), prepare.collect()));
        }
        Op::Concat { axis } => {
            let prepare = types.iter().zip(varies).map(|(t, v)| if *v { Prepare::AsIs } else { Prepare::Expand(ahead(&t.shape)) });
            return Some((Op::Concat { axis: axis + 1 }, prepare.collect()));
        }
        Op::Expand { shape } => {
            return Some((Op::Expand { shape: ahead(shape) }, vec![padded(types[0], out.rank(), steps)]));
        }
        _ if !first_alone => return None,
        // Element by element, or over the last axis whatever is in front.
        Op::Unary(_)
        | Op::Silu
        | Op::Gelu { .. }
        | Op::QuickGelu { .. }
        | Op::GeGlu
        | Op::Cast { .. }
        | Op::Linear
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. } => op.clone(),
        Op::MatMul if types[1].rank() <= types[0].rank() => op.clone(),
        Op::Reshape { shape } => Op::Reshape { shape: ahead(shape) },
        Op::Transpose { perm } => Op::Transpose { perm: std::iter::once(0).chain(perm.iter().map(|p| p + 1)).collect() },
        Op::Slice { axis, start, end } => Op::Slice { axis: axis + 1, start: start.clone(), end: end.clone() },
        Op::Softmax { axis } => Op::Softmax { axis: axis + 1 },
        Op::ReduceMean { axes } => Op::ReduceMean { axes: axes.iter().map(|a| a + 1).collect() },
        _ => return None,
    };
    Some((new, as_is))
}

/// A tensor of fewer axes than the result: the steps must stay outermost.
fn padded(ty: &TensorType, rank: usize, steps: i64) -> Prepare {
    let missing = rank.saturating_sub(ty.rank());
    if missing == 0 {
        return Prepare::AsIs;
    }
    let ones = vec![Dim::Const(1); missing];
    Prepare::Reshape(std::iter::once(Dim::Const(steps)).chain(ones).chain(ty.shape.iter().cloned()).collect())
}
