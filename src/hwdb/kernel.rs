//! The families of kernels, and the classes of kernels within them that differ enough to be told apart.

use serde::{Deserialize, Serialize};

/// Operators that share parameters of the latency formulas.
///
/// The first ten are *broad*: every profile can predict them. The others are classes within a broad family, whose kernels run at other
/// rates on a CPU. A profile that has no parameters of a class uses those of its [`Family::broad`] family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Matrix products, batched or not.
    Gemm,
    /// Convolutions.
    Conv,
    /// Fused attention.
    Attention,
    /// Operators that read and write each element once, with a few additions or products.
    Elementwise,
    /// Operators that take an exponential or the like of each element.
    Activation,
    /// Normalisations.
    Norm,
    /// Softmax over the last axis.
    Softmax,
    /// Permutations of axes.
    Transpose,
    /// Concat, slice, cast, plain copies.
    Copy,
    /// Interpolation.
    Resize,
    /// Products of two activations: nothing is packed beforehand.
    GemmPairs,
    /// Transposed convolutions: a product, whose columns are added up.
    ConvSpread,
    /// Convolutions with kernels of one element.
    ConvPoint,
    /// Convolutions of at most [`FEW_CHANNELS`] input channels.
    ConvThin,
    /// Convolutions to at most [`FEW_CHANNELS`] output channels.
    ConvNarrow,
    /// Convolutions whose kernel is longer than 1 along one axis alone: those over frames.
    ConvLine,
    /// Convolutions that leave out places.
    ConvStrided,
    /// Functions of two tensors of which one is repeated.
    Broadcast,
    /// A factor and a summand for each channel.
    Affine,
    /// Sigmoid and what is made of it, exponential, tanh.
    Silu,
    /// Gelu and the error function.
    Gelu,
    /// Statistics over all of a channel or group, and what they make of it.
    InstanceNorm,
    /// Statistics over the last axis, and what they make of it.
    LayerNorm,
    /// Means alone.
    Mean,
    /// Permutations that keep the last axis, and so move whole rows.
    Rows,
    /// Parts of a tensor.
    Slice,
}

/// A convolution with no more channels than this has rows too short for the kernels that others have.
pub const FEW_CHANNELS: u64 = 16;

impl Family {
    /// Every family and class, in table order.
    pub const ALL: [Self; 26] = [
        Self::Gemm,
        Self::Conv,
        Self::Attention,
        Self::Elementwise,
        Self::Activation,
        Self::Norm,
        Self::Softmax,
        Self::Transpose,
        Self::Copy,
        Self::Resize,
        Self::GemmPairs,
        Self::ConvSpread,
        Self::ConvPoint,
        Self::ConvThin,
        Self::ConvNarrow,
        Self::ConvLine,
        Self::ConvStrided,
        Self::Broadcast,
        Self::Affine,
        Self::Silu,
        Self::Gelu,
        Self::InstanceNorm,
        Self::LayerNorm,
        Self::Mean,
        Self::Rows,
        Self::Slice,
    ];

    /// The broad families.
    pub fn broad_ones() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|f| f.broad() == *f)
    }

    /// The broad family that it is, or is a class of.
    #[must_use]
    pub fn broad(self) -> Self {
        match self {
            Self::GemmPairs | Self::ConvSpread => Self::Gemm,
            Self::ConvPoint | Self::ConvThin | Self::ConvNarrow | Self::ConvLine | Self::ConvStrided => Self::Conv,
            Self::Broadcast | Self::Affine | Self::Silu | Self::Gelu => Self::Elementwise,
            Self::InstanceNorm | Self::LayerNorm | Self::Mean => Self::Norm,
            Self::Rows => Self::Transpose,
            Self::Slice => Self::Copy,
            broad => broad,
        }
    }
}
