//! How an operator is written when its tensors have other axes: one more in front, or fewer indices along one.

use super::super::dim::Dim;
use super::super::op::Op;

/// Where an operator counts the axes from that it treats differently from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// From the last one, or it treats all alike: further axes in front, or the axes in front in another division, change nothing.
    Back,
    /// From the first one, and it takes any number of them: the axes at the back may be divided differently.
    Front,
    /// It takes a fixed or a least number of axes, or its attributes name some or state extents.
    Named,
}

/// Where `op` counts axes from. Whether an axis may be divided differently is a question to [`super::Axes`] besides.
pub fn counting(op: &Op) -> Counting {
    match op {
        Op::Unary(_)
        | Op::Binary(_)
        | Op::LayerNorm { .. }
        | Op::Cast { .. }
        | Op::Linear
        | Op::RmsNorm { .. }
        | Op::Silu
        | Op::Gelu { .. }
        | Op::GeGlu
        | Op::QuickGelu { .. }
        | Op::FusedMatMul
        | Op::BiasGelu => Counting::Back,
        Op::InstanceNorm { .. } | Op::ChannelAffine | Op::GroupNorm(_) => Counting::Front,
        Op::Input
        | Op::Weight(_)
        | Op::Arange { .. }
        | Op::MatMul
        | Op::Gemm { .. }
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Softmax { .. }
        | Op::ReduceMean { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Split { .. }
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::Expand { .. }
        | Op::Upsample { .. }
        | Op::Pad { .. }
        | Op::Attention(_)
        | Op::RotaryEmbedding { .. }
        | Op::TemporalConv
        | Op::MultiHeadAttention(_)
        | Op::FusedConv(_)
        | Op::GroupNormNhwc(_)
        | Op::ForChunks(_)
        | Op::Foreign(_) => Counting::Named,
    }
}

/// `op` over tensors with one more axis in front, of this extent; `None` if it cannot be written for any. Where the operator
/// broadcasts, axes are aligned at the back, so the caller keeps the new axis in front of all others.
pub fn in_front(op: &Op, extent: &Dim) -> Option<Op> {
    let ahead = |shape: &[Dim]| std::iter::once(extent).chain(shape).cloned().collect::<Vec<_>>();
    let and = |first: i64, rest: &[i64]| std::iter::once(first).chain(rest.iter().copied()).collect::<Vec<_>>();
    Some(match op {
        Op::Softmax { axis } => Op::Softmax { axis: axis + 1 },
        Op::ReduceMean { axes } => Op::ReduceMean { axes: axes.iter().map(|a| a + 1).collect() },
        Op::Reshape { shape } => Op::Reshape { shape: ahead(shape) },
        Op::Expand { shape } => Op::Expand { shape: ahead(shape) },
        Op::Transpose { perm } => Op::Transpose { perm: std::iter::once(0).chain(perm.iter().map(|p| p + 1)).collect() },
        Op::Split { axis, sizes } => Op::Split { axis: axis + 1, sizes: sizes.clone() },
        Op::Concat { axis } => Op::Concat { axis: axis + 1 },
        Op::Slice { axis, start, end } => Op::Slice { axis: axis + 1, start: start.clone(), end: end.clone() },
        Op::Upsample { factors } => Op::Upsample { factors: and(1, factors) },
        Op::Pad { before, after } => Op::Pad { before: and(0, before), after: and(0, after) },
        Op::MatMul => Op::MatMul,
        other if counting(other) == Counting::Back => other.clone(),
        _ => return None,
    })
}

/// `op` for a piece of its output that has this extent along an axis, one that is independent of what is cut with it: a shape that
/// the operator states follows, and so do the range of a slice and groups of one channel each.
pub fn piece(op: &Op, axis: usize, extent: i64) -> Op {
    let mut op = op.clone();
    match &mut op {
        Op::Reshape { shape } | Op::Expand { shape } => {
            if let Some(d) = shape.get_mut(axis) {
                *d = Dim::Const(extent);
            }
        }
        // One that takes the whole axis.
        Op::Slice { axis: cut, start, end } if *cut == axis => (*start, *end) = (Dim::Const(0), Dim::Const(extent)),
        Op::Split { axis: cut, sizes } if *cut == axis => *sizes = vec![extent],
        Op::GroupNorm(g) | Op::GroupNormNhwc(g) if axis > 0 => g.groups = extent,
        Op::Conv(c) | Op::FusedConv(c) if axis == 1 && c.groups > 1 => c.groups = extent,
        _ => {}
    }
    op
}
