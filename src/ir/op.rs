//! Operators of an operator graph.
//!
//! Three kinds live side by side. *Standard* operators mean what ONNX says, with attributes typed and shapes symbolic. *Raised*
//! operators carry intent (`Attention`, `GroupNorm`, `GeGlu`, …) and no provider runs them: the pass `select-kernels` chooses
//! their form. *Provider* operators are the contrib kernels of ONNX Runtime that `select-kernels` emits. Anything else that a
//! model file contains passes through as [`Op::Foreign`].
//!
//! Where an operator takes optional inputs, they are the last ones and may be left out.

use super::dim::Dim;
use super::graph::OpGraph;
use super::types::DType;
use crate::weights::WeightExpr;

/// One operator with its attributes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// An input of the graph.
    Input,
    /// A constant: stored weights, a seeded generator, a literal, or an expression over them.
    Weight(WeightExpr),
    /// `0, 1, …, len - 1` as f32; folded into a literal once `len` is known.
    Arange {
        /// Number of elements.
        len: Dim,
    },

    // ---- standard
    /// An elementwise function of one tensor.
    Unary(Unary),
    /// An elementwise function of two tensors that broadcast as in numpy.
    Binary(Binary),
    /// `[…, m, k] × […, k, n]`, batch axes broadcast.
    MatMul,
    /// `[m, k] × [k, n]` (`trans_b`: `[n, k]`) plus an optional bias `[n]`.
    Gemm {
        /// Is the second operand stored transposed?
        trans_b: bool,
    },
    /// Convolution over 1 to 3 spatial axes: input `[n, c, …]`, weight `[co, c / groups, …]`, optional bias `[co]`.
    Conv(Conv),
    /// The transpose of a convolution, without groups: input `[n, c, …]`, weight `[c, co, …]`, optional bias `[co]`; each element of
    /// the input adds its multiple of the kernel, `strides` apart, and `pads` are cut off the edges of the sum.
    ConvTranspose(Conv),
    /// Softmax along one axis.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// Per image and channel `(x - mean) / sqrt(var + eps) * scale + bias`; inputs x `[n, c, …]`, scale `[c]`, bias `[c]`.
    InstanceNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// Normalisation over the last axis; inputs x, scale, bias.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// Mean over axes, which stay with extent 1.
    ReduceMean {
        /// The axes, ascending.
        axes: Vec<usize>,
    },
    /// The same elements in another shape.
    Reshape {
        /// The new shape.
        shape: Vec<Dim>,
    },
    /// Axes permuted: output axis i is input axis `perm[i]`.
    Transpose {
        /// The permutation.
        perm: Vec<usize>,
    },
    /// `x · scale + bias` for each element of axis 1; inputs x `[n, c, …]`, scale `[c]`, bias `[c]`. Written as a batch normalisation
    /// with mean 0 and variance 1.
    ChannelAffine,
    /// Cuts an axis into pieces of these extents, one output each.
    Split {
        /// The axis.
        axis: usize,
        /// Extent of each piece.
        sizes: Vec<i64>,
    },
    /// Joins tensors along one axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// The range `start..end` of one axis.
    Slice {
        /// The axis.
        axis: usize,
        /// First index.
        start: Dim,
        /// One past the last index.
        end: Dim,
    },
    /// Broadcast to a shape.
    Expand {
        /// The shape.
        shape: Vec<Dim>,
    },
    /// Element type changed.
    Cast {
        /// The new type.
        to: DType,
    },
    /// Nearest-neighbour enlargement by whole factors, one per axis.
    Upsample {
        /// Factor per axis.
        factors: Vec<i64>,
    },
    /// Zeros around the edges.
    Pad {
        /// Elements before each axis.
        before: Vec<i64>,
        /// Elements after each axis.
        after: Vec<i64>,
    },

    // ---- raised
    /// `x · Wᵀ + b` over the last axis; inputs x `[…, k]`, weight `[n, k]`, optional bias `[n]`.
    Linear,
    /// Multi-head attention; inputs q `[b, lq, heads·d]`, k and v `[b, lk, heads·d]`, optionally a mask that is added to the
    /// scores, `[b or 1, heads or 1, lq, lk]`; output as q.
    Attention(Attention),
    /// Group normalisation over channels (axis 1) and all later axes; inputs x `[n, c, …]`, scale `[c]`, bias `[c]`.
    GroupNorm(GroupNorm),
    /// Root-mean-square normalisation over the last axis; inputs x, scale.
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `x · sigmoid(x)`.
    Silu,
    /// The Gaussian error linear unit.
    Gelu {
        /// The tanh approximation instead of erf?
        tanh: bool,
    },
    /// `a · gelu(g)` where `[a, g]` are the halves of the last axis.
    GeGlu,
    /// Rotary position embedding; inputs x `[b, l, heads·d]`, cos and sin `[l, d / 2]`.
    RotaryEmbedding {
        /// Number of heads.
        heads: i64,
    },
    /// Convolution over frames only; inputs x `[b, c, f, h, w]`, weight `[co, c, k, 1, 1]`, optional bias `[co]`; zeros beyond the ends.
    TemporalConv,

    // ---- provider kernels (domain com.microsoft)
    /// ONNX Runtime's fused attention; inputs and output as [`Op::Attention`]; never materialises the scores.
    MultiHeadAttention(Attention),
    /// `x · sigmoid(alpha · x)` in one kernel.
    QuickGelu {
        /// Factor inside the sigmoid.
        alpha: f32,
    },
    /// `x · Wᵀ` over the last axis of x in one kernel, whatever its rank; inputs x `[…, k]`, weight `[n, k]`.
    FusedMatMul,
    /// `gelu(x + bias)` with erf; inputs x `[…, n]`, bias `[n]`.
    BiasGelu,
    /// A convolution whose sums start from a tensor of the output's shape; inputs x, weight, bias, that tensor. f32 on the CPU only.
    FusedConv(Conv),
    /// Group normalisation on `[n, h, w, c]`, optionally followed by `x · sigmoid(x)`; scale and bias are f32. CUDA only.
    GroupNormNhwc(GroupNorm),

    // ---- structure
    /// The body once per chunk of an axis.
    ForChunks(Box<ForChunks>),
    /// An operator that vidc does not know; kept as it was.
    Foreign(Box<Foreign>),
}

/// Elementwise functions of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unary {
    Sigmoid,
    Tanh,
    Erf,
    Exp,
    Sqrt,
    Sin,
    Cos,
    Neg,
    /// Gelu with erf, the standard operator (opset 20).
    GeluErf,
    /// Gelu with tanh, the standard operator (opset 20).
    GeluTanh,
}

/// Elementwise functions of two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
}

/// Attributes of a convolution; one entry a spatial axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Kernel extents.
    pub kernel: Vec<i64>,
    /// Steps.
    pub strides: Vec<i64>,
    /// Zeros before and after each axis.
    pub pads: Vec<(i64, i64)>,
    /// Channel groups.
    pub groups: i64,
}

impl Conv {
    /// A square 2-D convolution with the same zeros on all sides.
    pub fn square(kernel: i64, stride: i64, pad: i64) -> Self {
        Self { kernel: vec![kernel; 2], strides: vec![stride; 2], pads: vec![(pad, pad); 2], groups: 1 }
    }
}

/// Attributes of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Number of heads.
    pub heads: i64,
    /// Factor on the scores; `1 / sqrt(head size)` as a rule.
    pub scale: f32,
}

/// Attributes of group normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Number of groups.
    pub groups: i64,
    /// Added to the variance.
    pub eps: f32,
    /// Followed by `x · sigmoid(x)`?
    pub silu: bool,
}

/// A body that runs once per range of an axis, and whose outputs are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct ForChunks {
    /// For each input of the node: how the body sees a piece of it, or `None` where it sees the whole.
    pub sliced: Vec<Option<Sliced>>,
    /// How the pieces of each output are joined.
    pub joined: Vec<Join>,
    /// The ranges, ascending, without gap or overlap, covering the axis.
    pub ranges: Vec<(i64, i64)>,
    /// The body for each distinct place of a range: same operators, other shapes and other padding.
    pub bodies: Vec<(Place, OpGraph)>,
}

/// How a piece of an input is cut: for the range `s..e` of an axis of extent `n` it is `max(0, s - before)..min(n, e + after)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sliced {
    /// The axis.
    pub axis: usize,
    /// How far a piece reaches back before its range; with `after` the *halo*, which neighbouring pieces share.
    pub before: i64,
    /// How far it reaches on behind its range.
    pub after: i64,
}

impl Sliced {
    /// Pieces that are the ranges themselves.
    pub fn plain(axis: usize) -> Self {
        Self { axis, before: 0, after: 0 }
    }

    /// Do pieces reach beyond their ranges?
    pub fn has_halo(self) -> bool {
        (self.before, self.after) != (0, 0)
    }

    /// The piece for a range of an axis of this extent.
    pub fn piece(self, (start, end): (i64, i64), total: i64) -> (i64, i64) {
        ((start - self.before).max(0), (end + self.after).min(total))
    }

    /// The extent of the piece for a range at this place.
    pub fn extent(self, place: Place) -> i64 {
        place.extent + self.before.min(place.before) + self.after.min(place.after)
    }
}

/// Where a range is, as far as its body can tell: ranges of the same place see pieces of the same shapes, and the same edges of the
/// axis within their halos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Extent of the range.
    pub extent: i64,
    /// Elements in front of it, as many as the widest halo sees.
    pub before: i64,
    /// Elements behind it, as many as the widest halo sees.
    pub after: i64,
}

impl Place {
    /// That of a range whose body sees nothing around it.
    pub fn alone(extent: i64) -> Self {
        Self { extent, before: 0, after: 0 }
    }
}

/// How what the body yields for one range becomes a part of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// It is a piece of this axis: as long there as the range.
    Along(usize),
    /// It is something about the range, such as partial statistics, with a leading axis of extent 1; the output has one entry a range there.
    Stacked,
}

impl Join {
    /// The axis along which the parts are joined.
    pub fn axis(self) -> usize {
        match self {
            Self::Along(axis) => axis,
            Self::Stacked => 0,
        }
    }

    /// The extent there of the part of a range, and of the output, whose ranges are so many and end there.
    pub fn extents(self, range: i64, ranges: i64, end: i64) -> (i64, i64) {
        match self {
            Self::Along(_) => (range, end),
            Self::Stacked => (1, ranges),
        }
    }
}

impl ForChunks {
    /// Cuts `0..extent` into `count` ranges that differ by at most one.
    pub fn even_ranges(extent: i64, count: i64) -> Vec<(i64, i64)> {
        let count = count.clamp(1, extent.max(1));
        (0..count).map(|i| (i * extent / count, (i + 1) * extent / count)).collect()
    }

    /// The extent of the axis that the ranges cover.
    pub fn total(&self) -> i64 {
        self.ranges.last().map_or(0, |(_, end)| *end)
    }

    /// The place of each range, in order, where inputs are cut so.
    pub fn places(sliced: &[Option<Sliced>], ranges: &[(i64, i64)]) -> Vec<Place> {
        let widest = |halo: fn(&Sliced) -> i64| sliced.iter().flatten().map(halo).max().unwrap_or(0);
        let (before, after, total) = (widest(|s| s.before), widest(|s| s.after), ranges.last().map_or(0, |r| r.1));
        let place = |(start, end): &(i64, i64)| Place { extent: end - start, before: before.min(*start), after: after.min(total - end) };
        ranges.iter().map(place).collect()
    }

    /// The ranges, each with its place.
    pub fn placed(&self) -> impl Iterator<Item = ((i64, i64), Place)> + use<> {
        self.ranges.clone().into_iter().zip(Self::places(&self.sliced, &self.ranges))
    }

    /// The body for ranges at this place.
    pub fn body(&self, place: Place) -> Option<&OpGraph> {
        self.bodies.iter().find(|(p, _)| *p == place).map(|(_, g)| g)
    }
}

/// An operator that vidc does not interpret, with its attributes as they stood in the file. Its inputs are first those that are
/// present, in order, then what the bodies capture, body by body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreign {
    /// ONNX domain; empty for the standard one.
    pub domain: String,
    /// Operator type.
    pub op_type: String,
    /// Attributes as read, graphs aside.
    pub attributes: Vec<crate::onnx::proto::AttributeProto>,
    /// Attributes that are graphs.
    pub bodies: Vec<Body>,
    /// Positions of inputs that are left out, ascending.
    pub absent_inputs: Vec<u16>,
    /// Positions of outputs that are left out, ascending.
    pub absent_outputs: Vec<u16>,
    /// Types of the outputs that are present.
    pub outputs: Vec<super::types::TensorType>,
}

/// A graph inside a foreign operator (`If`, `Loop`, `Scan`).
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The attribute that it is.
    pub attribute: String,
    /// The graph; its last `captures` inputs are values from around the operator.
    pub graph: OpGraph,
    /// How many values it captures.
    pub captures: usize,
}

impl Foreign {
    /// Number of inputs that are captured by bodies; they are the last ones.
    pub fn captures(&self) -> usize {
        self.bodies.iter().map(|b| b.captures).sum()
    }

    /// Inserts `absent` at the positions that are left out.
    pub fn with_absent<T: Clone>(present: &[T], positions: &[u16], absent: &T) -> Vec<T> {
        let mut present = present.iter().cloned();
        let mut out = Vec::new();
        for position in 0.. {
            if positions.contains(&position) {
                out.push(absent.clone());
            } else if let Some(next) = present.next() {
                out.push(next);
            } else {
                break;
            }
        }
        out
    }
}

/// The domain of ONNX Runtime's own operators.
pub const CONTRIB: &str = "com.microsoft";

impl Op {
    /// The operator's name in text, `explain` and the cost breakdown.
    pub fn name(&self) -> &str {
        match self {
            Self::Input => "Input",
            Self::Weight(_) => "Weight",
            Self::Arange { .. } => "Arange",
            Self::Unary(u) => u.name(),
            Self::Binary(b) => b.name(),
            Self::MatMul => "MatMul",
            Self::Gemm { .. } => "Gemm",
            Self::Conv(_) => "Conv",
            Self::Softmax { .. } => "Softmax",
            Self::InstanceNorm { .. } => "InstanceNormalization",
            Self::LayerNorm { .. } => "LayerNormalization",
            Self::ReduceMean { .. } => "ReduceMean",
            Self::Reshape { .. } => "Reshape",
            Self::Transpose { .. } => "Transpose",
            Self::Concat { .. } => "Concat",
            Self::Slice { .. } => "Slice",
            Self::Expand { .. } => "Expand",
            Self::Cast { .. } => "Cast",
            Self::Upsample { .. } => "Resize",
            Self::Pad { .. } => "Pad",
            Self::Linear => "Linear",
            Self::Attention(_) => "Attention",
            Self::GroupNorm(_) => "GroupNorm",
            Self::RmsNorm { .. } => "RmsNorm",
            Self::Silu => "Silu",
            Self::Gelu { .. } => "Gelu",
            Self::GeGlu => "GeGlu",
            Self::RotaryEmbedding { .. } => "RotaryEmbedding",
            Self::TemporalConv => "TemporalConv",
            Self::MultiHeadAttention(_) => "MultiHeadAttention",
            Self::QuickGelu { .. } => "QuickGelu",
            Self::FusedMatMul => "FusedMatMul",
            Self::BiasGelu => "BiasGelu",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::FusedConv(_) => "FusedConv",
            Self::ChannelAffine => "ChannelAffine",
            Self::Split { .. } => "Split",
            Self::GroupNormNhwc(_) => "GroupNormNhwc",
            Self::ForChunks(_) => "ForChunks",
            Self::Foreign(f) => &f.op_type,
        }
    }

    /// Domain and operator type of the ONNX node that it is written as; nothing for what is written as no node and for raised operators.
    pub fn onnx_type(&self) -> Option<(&str, &str)> {
        let standard = |op_type| Some(("", op_type));
        let contrib = |op_type| Some((CONTRIB, op_type));
        match self {
            Self::Input | Self::Weight(_) | Self::ForChunks(_) => None,
            Self::Arange { .. }
            | Self::Linear
            | Self::Attention(_)
            | Self::GroupNorm(_)
            | Self::RmsNorm { .. }
            | Self::Silu
            | Self::Gelu { .. }
            | Self::GeGlu
            | Self::RotaryEmbedding { .. }
            | Self::TemporalConv => None,
            Self::Unary(u) => standard(u.name()),
            Self::Binary(b) => standard(b.name()),
            Self::MatMul => standard("MatMul"),
            Self::Gemm { .. } => standard("Gemm"),
            Self::Conv(_) => standard("Conv"),
            Self::ConvTranspose(_) => standard("ConvTranspose"),
            Self::Softmax { .. } => standard("Softmax"),
            Self::InstanceNorm { .. } => standard("InstanceNormalization"),
            Self::LayerNorm { .. } => standard("LayerNormalization"),
            Self::ReduceMean { .. } => standard("ReduceMean"),
            Self::Reshape { .. } => standard("Reshape"),
            Self::Transpose { .. } => standard("Transpose"),
            Self::Concat { .. } => standard("Concat"),
            Self::Split { .. } => standard("Split"),
            Self::Slice { .. } => standard("Slice"),
            Self::Expand { .. } => standard("Expand"),
            Self::Cast { .. } => standard("Cast"),
            Self::Upsample { .. } => standard("Resize"),
            Self::Pad { .. } => standard("Pad"),
            // Mean 0 and variance 1 leave a scale and a shift.
            Self::ChannelAffine => standard("BatchNormalization"),
            Self::MultiHeadAttention(_) => contrib("MultiHeadAttention"),
            Self::QuickGelu { .. } => contrib("QuickGelu"),
            Self::FusedMatMul => contrib("FusedMatMul"),
            Self::BiasGelu => contrib("BiasGelu"),
            Self::FusedConv(_) => contrib("FusedConv"),
            Self::GroupNormNhwc(_) => contrib("GroupNorm"),
            Self::Foreign(f) => Some((&f.domain, &f.op_type)),
        }
    }

    /// Must `select-kernels` replace it before a provider can run the graph?
    pub fn is_raised(&self) -> bool {
        self.onnx_type().is_none() && !matches!(self, Self::Input | Self::Weight(_) | Self::ForChunks(_))
    }

    /// Does the output share its input's memory in ONNX Runtime (no kernel work, no new buffer)?
    pub fn is_view(&self) -> bool {
        matches!(self, Self::Reshape { .. })
    }
}

impl Unary {
    /// ONNX operator type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Erf => "Erf",
            Self::Exp => "Exp",
            Self::Sqrt => "Sqrt",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Neg => "Neg",
            Self::GeluErf | Self::GeluTanh => "Gelu",
        }
    }
}

impl Binary {
    /// ONNX operator type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
        }
    }
}
