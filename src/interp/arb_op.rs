//! One operator of each kind that is evaluated, with random shapes and attributes: for tests of what is known about operators.

use proptest::prelude::*;

use crate::ir::op::{Attention, Binary, Conv, ForChunks, GroupNorm, Join, Place, Sliced, Unary};
use crate::ir::{DType, Dim, Op, OpGraph, TensorType};

/// Number of kinds.
pub(crate) const KINDS: usize = 37;

/// What shapes and attributes are made from: extents from 1 to 4, and bits.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    extents: [usize; 6],
    bits: u32,
}

pub(crate) fn arb_seed() -> impl Strategy<Value = Seed> {
    (proptest::array::uniform6(1..=4_usize), any::<u32>()).prop_map(|(extents, bits)| Seed { extents, bits })
}

/// The number of an operator's kind; `None` for what is not evaluated. A new operator gets a number here and a row in [`Seed::op`].
pub(crate) fn kind(op: &Op) -> Option<usize> {
    Some(match op {
        Op::Input | Op::Weight(_) | Op::Foreign(_) => return None,
        Op::Unary(_) => 0,
        Op::Binary(_) => 1,
        Op::MatMul => 2,
        Op::Gemm { .. } => 3,
        Op::Conv(_) => 4,
        Op::ConvTranspose(_) => 5,
        Op::Softmax { .. } => 6,
        Op::InstanceNorm { .. } => 7,
        Op::LayerNorm { .. } => 8,
        Op::ReduceMean { .. } => 9,
        Op::Reshape { .. } => 10,
        Op::Transpose { .. } => 11,
        Op::ChannelAffine => 12,
        Op::Split { .. } => 13,
        Op::Concat { .. } => 14,
        Op::Slice { .. } => 15,
        Op::Expand { .. } => 16,
        Op::Cast { .. } => 17,
        Op::Upsample { .. } => 18,
        Op::Pad { .. } => 19,
        Op::Linear => 20,
        Op::Attention(_) => 21,
        Op::GroupNorm(_) => 22,
        Op::RmsNorm { .. } => 23,
        Op::Silu => 24,
        Op::Gelu { .. } => 25,
        Op::GeGlu => 26,
        Op::RotaryEmbedding { .. } => 27,
        Op::TemporalConv => 28,
        Op::MultiHeadAttention(_) => 29,
        Op::QuickGelu { .. } => 30,
        Op::FusedMatMul => 31,
        Op::BiasGelu => 32,
        Op::FusedConv(_) => 33,
        Op::GroupNormNhwc(_) => 34,
        Op::Arange { .. } => 35,
        Op::ForChunks(_) => 36,
    })
}

/// An operator and the shapes of its inputs.
pub(crate) type Case = (Op, Vec<Vec<usize>>);

impl Seed {
    fn bit(&self, i: u32) -> bool {
        self.bits >> i & 1 == 1
    }

    /// A number below `n`.
    fn pick(&self, n: usize) -> usize {
        (self.bits >> 8) as usize % n
    }

    /// An operator of a kind.
    pub(crate) fn op(&self, kind: usize) -> Case {
        let [a, b, c, d, e, _] = self.extents;
        let (x, eps) = (vec![a, b, c, d], 0.1);
        let norm = |groups| GroupNorm { groups, eps, silu: self.bit(0) };
        let one = |op: Op| (op, vec![x.clone()]);
        // Bias or not.
        let and = |mut shapes: Vec<Vec<usize>>, bias: usize| {
            if self.bit(1) {
                shapes.push(vec![bias]);
            }
            shapes
        };
        match kind {
            0 => one(Op::Unary(Unary::Sin)),
            1 => (Op::Binary(Binary::Sub), self.broadcast(&x)),
            2 => (Op::MatMul, self.matmul()),
            3 if self.bit(0) => (Op::Gemm { trans_b: true }, and(vec![vec![a, b], vec![c, b]], c)),
            3 => (Op::Gemm { trans_b: false }, and(vec![vec![a, b], vec![b, c]], c)),
            4 => self.conv(),
            5 => self.conv_transposed(),
            6 => one(Op::Softmax { axis: self.pick(4) }),
            7 => (Op::InstanceNorm { eps }, vec![x, vec![b], vec![b]]),
            8 => (Op::LayerNorm { eps }, vec![x, vec![d], vec![d]]),
            9 => one(Op::ReduceMean { axes: (0..4).filter(|i| self.bit(*i as u32)).collect() }),
            10 => one(Op::Reshape { shape: self.reshaped() }),
            11 => one(Op::Transpose { perm: self.permutation(4) }),
            12 => (Op::ChannelAffine, vec![x, vec![b], vec![b]]),
            13 => self.split(),
            14 => self.concat(),
            15 => self.slice(),
            16 => (Op::Expand { shape: dims(&x) }, vec![self.broadcast(&x).swap_remove(1)]),
            17 => one(Op::Cast { to: DType::F16 }),
            18 => one(Op::Upsample { factors: (0..4).map(|i| 1 + i64::from(self.bit(i)) + i64::from(self.bit(i + 4))).collect() }),
            19 => {
                let zeros = |from: u32| (0..4_u32).map(|i| i64::from(self.bit(i + from))).collect();
                one(Op::Pad { before: zeros(0), after: zeros(4) })
            }
            20 => (Op::Linear, and(vec![x, vec![e, d]], e)),
            21 => (Op::Attention(self.heads()), self.attention()),
            22 => (Op::GroupNorm(norm(1 + self.pick(2) as i64)), vec![vec![a, 2 * b, c, d], vec![2 * b], vec![2 * b]]),
            23 => (Op::RmsNorm { eps }, vec![x, vec![d]]),
            24 => one(Op::Silu),
            25 => one(Op::Gelu { tanh: self.bit(0) }),
            26 => (Op::GeGlu, vec![vec![a, b, 2 * c]]),
            27 => {
                let heads = 1 + self.pick(2);
                (Op::RotaryEmbedding { heads: heads as i64 }, vec![vec![a, b, 2 * c * heads], vec![b, c], vec![b, c]])
            }
            28 => {
                let k = 1 + 2 * self.pick(2);
                (Op::TemporalConv, and(vec![vec![a, b, c + 1, d, 2], vec![e, b, k, 1, 1]], e))
            }
            29 => (Op::MultiHeadAttention(self.heads()), self.attention()),
            30 => one(Op::QuickGelu { alpha: 1.702 }),
            31 => (Op::FusedMatMul, vec![x, vec![e, d]]),
            32 => (Op::BiasGelu, vec![x, vec![d]]),
            33 => self.conv_onto(),
            34 => (Op::GroupNormNhwc(norm(1 + self.pick(2) as i64)), vec![vec![a, b, c, 2 * d], vec![2 * d], vec![2 * d]]),
            35 => (Op::Arange { len: Dim::Const(a as i64) }, vec![]),
            _ => self.chunks(),
        }
    }

    /// A shape and one that broadcasts to it.
    fn broadcast(&self, x: &[usize]) -> Vec<Vec<usize>> {
        let small: Vec<usize> = x.iter().enumerate().map(|(i, n)| if self.bit(i as u32) { 1 } else { *n }).collect();
        vec![x.to_vec(), small[self.pick(x.len())..].to_vec()]
    }

    fn matmul(&self) -> Vec<Vec<usize>> {
        let [a, b, m, k, n, _] = self.extents;
        let [left, right] = [0, 2].map(|i| [self.bit(i), self.bit(i + 1)]);
        let one = |alone: bool, n: usize| if alone { 1 } else { n };
        let x = vec![one(left[0], a), one(left[1] && !right[1], b), m, k];
        let w = match self.pick(3) {
            0 => vec![k, n],
            1 => vec![one(right[1], b), k, n],
            _ => vec![one(right[0] && !left[0], a), one(right[1], b), k, n],
        };
        vec![x, w]
    }

    /// Kernel, strides and pads of two axes, of which none is larger than the image.
    fn window(&self) -> Conv {
        let each = |i: u32| (1 + i64::from(self.bit(i)) + i64::from(self.bit(i + 1)), 1 + i64::from(self.bit(i + 2)));
        let [(k, s), (l, t)] = [each(2), each(5)];
        let pad = |i: u32, k: i64| (i64::from(self.bit(i)).min(k - 1), i64::from(self.bit(i + 1)).min(k - 1));
        Conv { kernel: vec![k, l], strides: vec![s, t], pads: vec![pad(10, k), pad(12, l)], groups: 1 }
    }

    fn conv(&self) -> Case {
        let [n, c, h, w, m, g] = self.extents;
        let window = self.window();
        let taps = [window.kernel[0] as usize, window.kernel[1] as usize];
        // Depthwise half of the time where there are groups.
        let per_group = if self.bit(14) { 1 } else { c };
        let out = if self.bit(15) { g } else { g * m };
        let x = vec![n, g * per_group, h + 2, w + 2];
        let shapes = [vec![x, vec![out, per_group, taps[0], taps[1]]], if self.bit(1) { vec![vec![out]] } else { vec![] }].concat();
        (Op::Conv(Conv { groups: g as i64, ..window }), shapes)
    }

    fn conv_transposed(&self) -> Case {
        let [n, c, h, w, m, _] = self.extents;
        let window = self.window();
        let weight = vec![c, m, window.kernel[0] as usize, window.kernel[1] as usize];
        let shapes = [vec![vec![n, c, h + 2, w + 2], weight], if self.bit(1) { vec![vec![m]] } else { vec![] }].concat();
        (Op::ConvTranspose(window), shapes)
    }

    fn conv_onto(&self) -> Case {
        let [n, c, h, w, m, _] = self.extents;
        let window = self.window();
        let extent = |i: usize, n: usize| {
            let (before, after) = window.pads[i];
            ((n as i64 + before + after - window.kernel[i]) / window.strides[i] + 1) as usize
        };
        let sum = vec![n, m, extent(0, h + 2), extent(1, w + 2)];
        let weight = vec![m, c, window.kernel[0] as usize, window.kernel[1] as usize];
        (Op::FusedConv(window), vec![vec![n, c, h + 2, w + 2], weight, vec![m], sum])
    }

    /// Axes that are joined, divided, kept, or of extent 1.
    fn reshaped(&self) -> Vec<Dim> {
        let [a, b, c, d, ..] = self.extents;
        dims(&match self.pick(7) {
            0 => vec![a * b, c, d],
            1 => vec![a, b * c, 1, d],
            2 => vec![a, b, c * d],
            3 => vec![a * b * c * d],
            4 => vec![1, a, b, c, d],
            5 => vec![a, b, c, 1, d],
            _ => vec![a, c, b, d],
        })
    }

    fn permutation(&self, rank: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..rank).collect();
        let mut number = self.bits as usize;
        let next = |_| {
            let at = number % left.len();
            number /= left.len();
            left.remove(at)
        };
        (0..rank).map(next).collect()
    }

    fn split(&self) -> Case {
        let [a, b, c, d, e, _] = self.extents;
        let axis = self.pick(3);
        let mut x = vec![a, b, c];
        x[axis] = d + e;
        (Op::Split { axis, sizes: vec![d as i64, e as i64] }, vec![x])
    }

    fn concat(&self) -> Case {
        let [a, b, c, d, e, _] = self.extents;
        let axis = self.pick(3);
        let piece = |n: usize| {
            let mut x = vec![a, b, c];
            x[axis] = n;
            x
        };
        (Op::Concat { axis }, if self.bit(0) { vec![piece(d), piece(e)] } else { vec![piece(d)] })
    }

    fn slice(&self) -> Case {
        let [a, b, c, d, e, _] = self.extents;
        let axis = self.pick(3);
        let start = if self.bit(0) { e } else { 0 };
        let mut x = vec![a, b, c];
        x[axis] = start + d + usize::from(self.bit(1));
        (Op::Slice { axis, start: start.into(), end: (start + d).into() }, vec![x])
    }

    fn heads(&self) -> Attention {
        Attention { heads: 1 + self.pick(2) as i64, scale: 0.7 }
    }

    fn attention(&self) -> Vec<Vec<usize>> {
        let [b, l, m, c, v, _] = self.extents;
        let heads = self.heads().heads as usize;
        let mut shapes = vec![vec![b, l, heads * c], vec![b, m, heads * c], vec![b, m, heads * v]];
        if self.bit(0) {
            shapes.push(vec![if self.bit(1) { 1 } else { b }, if self.bit(2) { 1 } else { heads }, l, m]);
        }
        shapes
    }

    /// A function of a tensor over two pieces of its first axis.
    fn chunks(&self) -> Case {
        let [a, b, ..] = self.extents;
        let (total, ranges) = (a + 1, ForChunks::even_ranges(a as i64 + 1, 2));
        let mut extents: Vec<i64> = ranges.iter().map(|(s, e)| e - s).collect();
        extents.dedup();
        let body = |n: i64| {
            let mut graph = OpGraph::new("body");
            let x = graph.input("x", TensorType::new(DType::F32, [n, b as i64]));
            let y = graph.add(Op::Unary(Unary::Sin), &[x], "y", &"".into()).expect("it fits");
            graph.output("y", y);
            (Place::alone(n), graph)
        };
        let bodies = extents.into_iter().map(body).collect();
        let chunks = ForChunks { sliced: vec![Some(Sliced::plain(0))], joined: vec![Join::Along(0)], ranges, bodies };
        (Op::ForChunks(Box::new(chunks)), vec![vec![total, b]])
    }
}

fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|n| Dim::from(*n)).collect()
}
