//! The table: one row for each operator and input.

use super::super::dim::{Dim, product};
use super::super::op::{Conv, Op};
use super::super::types::TensorType;
use super::{Dependence, Window};

/// An input of an operator as an output reads it.
pub(super) struct Read<'a> {
    pub(super) op: &'a Op,
    pub(super) inputs: &'a [&'a TensorType],
    pub(super) outs: &'a [TensorType],
    pub(super) slot: usize,
    pub(super) out: &'a TensorType,
    pub(super) input: usize,
    pub(super) x: &'a TensorType,
}

impl Read<'_> {
    /// The rows; `a` is the axis of the output. What an operator does to some axes stands first, then what it does to all others.
    pub(super) fn along(&self, a: usize) -> Dependence {
        use Dependence::{Broadcast, Reduced, Whole};
        let last = a + 1 == self.out.rank();
        match (self.op, self.input) {
            // Nothing is read, or nobody knows what.
            (Op::Input | Op::Weight(_) | Op::Arange { .. } | Op::ForChunks(_) | Op::Foreign(_), _) => Whole,

            // Products: the result has the rows of x and the columns of the weight.
            (Op::Linear | Op::FusedMatMul | Op::Gemm { .. }, 0) if last => Broadcast,
            (Op::Gemm { trans_b: false }, 1) => self.vector(a, last, 1),
            (Op::Linear | Op::FusedMatMul | Op::Gemm { .. }, 1..) => self.vector(a, last, 0),
            (Op::MatMul, input) => self.matmul(a, input),
            (Op::Conv(c), input) | (Op::FusedConv(c), input @ 0..=2) => self.conv(a, input, c),
            (Op::ConvTranspose(c), input) => self.conv_transposed(a, input, c),
            (Op::TemporalConv, input) => self.temporal(a, input),
            (Op::Attention(_) | Op::MultiHeadAttention(_), input) => self.attention(a, input),

            // Norms: statistics over some axes, then a factor and a shift along one.
            (Op::Softmax { axis }, _) if a == *axis => Whole,
            (Op::LayerNorm { .. } | Op::RmsNorm { .. }, 0) if last => Whole,
            (Op::InstanceNorm { .. }, 0) if a > 1 => Whole,
            (Op::GroupNorm(g), 0) if a > 1 || (a == 1 && !self.is(1, g.groups)) => Whole,
            (Op::GroupNormNhwc(g), 0) if a > 0 && !(last && self.is(a, g.groups)) => Whole,
            (Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNormNhwc(_), 1..) => self.vector(a, last, 0),
            (Op::InstanceNorm { .. } | Op::GroupNorm(_) | Op::ChannelAffine, 1..) => self.vector(a, a == 1, 0),
            (Op::ReduceMean { axes }, _) if axes.contains(&a) => Reduced { axis: a },

            // Elements that change their places.
            (Op::Reshape { .. }, _) => kept_axis(&self.out.shape, &self.x.shape, a).map_or(Whole, |axis| Dependence::Independent { axis }),
            (Op::Transpose { perm }, _) => Dependence::Independent { axis: perm[a] },
            (Op::Split { axis, .. }, _) if a == *axis => self.shifted(a, negative(&ahead(self.outs, self.slot, a))),
            (Op::Concat { axis }, input) if a == *axis => self.shifted(a, ahead(self.inputs.iter().copied(), input, a)),
            (Op::Slice { axis, start, .. }, _) if a == *axis => self.shifted(a, negative(start)),
            (Op::Pad { before, .. }, _) => self.shifted(a, Dim::Const(before[a])),
            (Op::Upsample { factors }, _) => {
                let f = factors[a];
                let zeros = Dim::Const(f - 1);
                self.window(
                    a,
                    Window { axis: a, kernel: f, stride: 1, dilation: Dim::Const(1), before: zeros.clone(), after: zeros, spread: f },
                )
            }

            // Pairs and halves of the last axis.
            (Op::GeGlu, _) if last => {
                let half = self.out.shape[a].clone();
                let none = Dim::Const(0);
                self.window(a, Window { axis: a, kernel: 2, stride: 1, dilation: half, before: none.clone(), after: none, spread: 1 })
            }
            (Op::RotaryEmbedding { .. }, _) if last => Whole,
            (Op::RotaryEmbedding { .. }, 1..) => self.vector(a, a == 1, 0),

            // Element by element, or by the rows, columns and pieces that are left.
            (Op::Binary(_) | Op::Expand { .. } | Op::BiasGelu, _) => self.aligned(a),
            (
                Op::Unary(_)
                | Op::Silu
                | Op::Gelu { .. }
                | Op::QuickGelu { .. }
                | Op::Cast { .. }
                | Op::ChannelAffine
                | Op::Linear
                | Op::FusedMatMul
                | Op::Gemm { .. }
                | Op::FusedConv(_)
                | Op::Softmax { .. }
                | Op::LayerNorm { .. }
                | Op::RmsNorm { .. }
                | Op::InstanceNorm { .. }
                | Op::GroupNorm(_)
                | Op::GroupNormNhwc(_)
                | Op::ReduceMean { .. }
                | Op::Split { .. }
                | Op::Concat { .. }
                | Op::Slice { .. }
                | Op::GeGlu
                | Op::RotaryEmbedding { .. },
                _,
            ) => self.same(a),
        }
    }
}

/// The rows of the table that take more than a line.
impl Read<'_> {
    /// The same axis of the input.
    fn same(&self, a: usize) -> Dependence {
        self.vector(a, true, a)
    }

    /// If `here`, this axis of the input, else none: an input that has one axis of the output and no other.
    fn vector(&self, a: usize, here: bool, axis: usize) -> Dependence {
        match (here, self.x.shape.get(axis) == Some(&self.out.shape[a])) {
            (false, _) => Dependence::Broadcast,
            (true, true) => Dependence::Independent { axis },
            (true, false) => Dependence::Whole,
        }
    }

    /// The axis of the input that broadcasting puts under axis `a`.
    fn aligned(&self, a: usize) -> Dependence {
        let axis = (a + self.x.rank()).checked_sub(self.out.rank());
        match axis.map(|axis| (axis, &self.x.shape[axis])) {
            None => Dependence::Broadcast,
            Some((axis, extent)) if *extent == self.out.shape[a] => Dependence::Independent { axis },
            Some((_, Dim::Const(1))) => Dependence::Broadcast,
            Some(_) => Dependence::Whole,
        }
    }

    /// Does this axis of the output have this extent?
    fn is(&self, a: usize, extent: i64) -> bool {
        self.out.shape[a] == Dim::Const(extent)
    }

    fn window(&self, a: usize, w: Window) -> Dependence {
        let still = w.kernel == 1 && w.stride == 1 && w.spread == 1 && w.before == Dim::Const(0);
        if still && self.x.shape[w.axis] == self.out.shape[a] {
            return Dependence::Independent { axis: w.axis };
        }
        Dependence::Window(w)
    }

    /// Index i of the output is index `i - by` of the input.
    fn shifted(&self, a: usize, by: Dim) -> Dependence {
        let after = &(&self.out.shape[a] - &self.x.shape[a]) - &by;
        self.window(a, Window { axis: a, kernel: 1, stride: 1, dilation: Dim::Const(1), before: by, after, spread: 1 })
    }

    fn matmul(&self, a: usize, input: usize) -> Dependence {
        let (rows, columns) = (a + 2 == self.out.rank(), a + 1 == self.out.rank());
        match input {
            0 if rows => self.vector(a, true, self.x.rank() - 2),
            1 if columns => self.vector(a, true, self.x.rank() - 1),
            _ if rows || columns => Dependence::Broadcast,
            _ => self.aligned(a),
        }
    }

    /// A convolution: channels of a group are combined, spatial axes are windows.
    fn conv(&self, a: usize, input: usize, c: &Conv) -> Dependence {
        match (input, a) {
            (0, 0) => self.same(0),
            (0, 1) if c.groups == 1 => Dependence::Broadcast,
            (0, 1) if self.is(1, c.groups) => self.same(1),
            (0, 1) => Dependence::Whole,
            (0, _) => {
                let i = a - 2;
                let (before, after) = (Dim::Const(c.pads[i].0), Dim::Const(c.pads[i].1));
                self.window(
                    a,
                    Window { axis: a, kernel: c.kernel[i], stride: c.strides[i], dilation: Dim::Const(1), before, after, spread: 1 },
                )
            }
            _ => self.vector(a, a == 1, 0),
        }
    }

    /// As [`Read::conv`] without groups, over an image whose elements stand `strides` apart, with the kernel turned around.
    fn conv_transposed(&self, a: usize, input: usize, c: &Conv) -> Dependence {
        match (input, a) {
            (0, 0) => self.same(0),
            (0, 1) => Dependence::Broadcast,
            (0, _) => {
                let i = a - 2;
                let (kernel, spread) = (c.kernel[i], c.strides[i]);
                let (before, after) = (Dim::Const(kernel - 1 - c.pads[i].0), Dim::Const(kernel - 1 - c.pads[i].1));
                self.window(a, Window { axis: a, kernel, stride: 1, dilation: Dim::Const(1), before, after, spread })
            }
            (1, _) => self.vector(a, a == 1, 1),
            _ => self.vector(a, a == 1, 0),
        }
    }

    /// A convolution over frames, whose kernel is an extent of the weight.
    fn temporal(&self, a: usize, input: usize) -> Dependence {
        let Some(k) = self.inputs.get(1).and_then(|w| w.shape.get(2)?.as_const()) else { return Dependence::Whole };
        self.conv(a, input, &Conv { kernel: vec![k, 1, 1], strides: vec![1; 3], pads: vec![(k / 2, k / 2), (0, 0), (0, 0)], groups: 1 })
    }

    /// Each query looks at all keys; a head keeps to its channels.
    fn attention(&self, a: usize, input: usize) -> Dependence {
        match (input, a) {
            (0..=2, 0) | (0, 1) => self.same(a),
            // The scores of a head combine its channels of q and k, the result of a head has its channels of v, one by one.
            (2, 2) => self.same(a),
            (1 | 2, 1) => Dependence::Broadcast,
            (0 | 1, _) => Dependence::Whole,
            // The mask: [b or 1, heads or 1, lq, lk].
            (_, 0) if self.x.shape[0] == self.out.shape[0] => Dependence::Independent { axis: 0 },
            (_, 0) => Dependence::Broadcast,
            (_, 1) => self.vector(a, true, 2),
            _ if self.x.shape[1] == Dim::Const(1) => Dependence::Broadcast,
            _ => Dependence::Whole,
        }
    }
}

fn negative(d: &Dim) -> Dim {
    &Dim::Const(0) - d
}

/// The extents along an axis of the tensors that come before one.
fn ahead<'a>(types: impl IntoIterator<Item = &'a TensorType>, of: usize, axis: usize) -> Dim {
    types.into_iter().take(of).fold(Dim::Const(0), |sum, t| &sum + &t.shape[axis])
}

/// The axis of `from` that axis `a` of `to` is, both shapes of the same elements: the one of the same extent with as many elements
/// in front of it. None if it was divided or joined.
fn kept_axis(to: &[Dim], from: &[Dim], a: usize) -> Option<usize> {
    let front = product(&to[..a]);
    let alike = |shape: &[Dim], i: usize| shape[i] == to[a] && product(&shape[..i]) == front;
    let there: Vec<usize> = (0..from.len()).filter(|i| alike(from, *i)).collect();
    // Several are alike only if their extent is 1.
    let which = (0..a).filter(|i| alike(to, *i)).count();
    there.get(which).or(there.last()).copied()
}
