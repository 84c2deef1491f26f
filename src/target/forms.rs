//! The forms that raised operators can take, and which of them a provider has for which element types.

use crate::weights::DType;

/// A kernel, or a way to arrange kernels, that only some providers have or gain from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Attention as one kernel that never writes the scores (`com.microsoft.MultiHeadAttention`).
    FusedAttention,
    /// `x·sigmoid(x)` as one kernel (`com.microsoft.QuickGelu`).
    QuickGelu,
    /// A product over the last axis of a tensor of any rank, without bias (`com.microsoft.FusedMatMul`).
    ProductOfAnyRank,
    /// GELU that adds the bias of the product before it (`com.microsoft.BiasGelu`).
    BiasGelu,
    /// A scale and a shift for each channel as one kernel (`BatchNormalization` with mean 0 and variance 1).
    ChannelAffine,
    /// A convolution whose sums start from another tensor (`com.microsoft.FusedConv`).
    ResidualConv,
    /// An enlarged image convolved as a transposed convolution of the small one.
    TransposedUpsample,
}

/// The kernel that a temporal convolution runs best on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemporalConv {
    /// The two-dimensional one, never slower.
    Flat,
    /// One of both, by size: a knob a level.
    Asked,
}

/// How a provider's convolutions keep their tensors in memory, whatever a graph says. Operators that look at another order make it turn whole tensors
/// round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As the graph says: all pixels of a channel, then the next channel.
    Planar,
    /// All channels of a pixel, then the next pixel.
    ChannelsLast,
}

/// A fused kernel of group norm and `SiLU` over channels-last tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNormKernel {
    /// The number of groups that it is compiled for.
    pub groups: i64,
    /// The numbers of channels that it is compiled for.
    pub channels: &'static [i64],
    /// Element types.
    pub types: &'static [DType],
}

/// What raised operators become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms {
    /// Each form with the element types that it is for. What is not here is written out in operators of the standard.
    pub table: &'static [(Form, &'static [DType])],
    /// The fused group norm, if there is one.
    pub group_norm: Option<GroupNormKernel>,
    /// How convolutions keep their tensors.
    pub layout: Layout,
    /// What temporal convolutions run on.
    pub temporal_conv: TemporalConv,
    /// Does one product for several small linear layers gain time?
    pub merges_linears: bool,
    /// Does a view cost a dispatch, so that views are moved to where they vanish?
    pub moves_views: bool,
}

impl Forms {
    /// Operators of the ONNX standard, and fused attention.
    pub const STANDARD: Self = Self {
        table: &[(Form::FusedAttention, &[DType::F32, DType::F16, DType::BF16])],
        group_norm: None,
        layout: Layout::Planar,
        temporal_conv: TemporalConv::Asked,
        merges_linears: false,
        moves_views: false,
    };

    /// Is there this form for tensors of this type?
    pub fn has(&self, form: Form, ty: DType) -> bool {
        self.table.iter().any(|(f, types)| *f == form && types.contains(&ty))
    }
}
