//! The families of kernels.

use serde::{Deserialize, Serialize};

/// Operators that share parameters of the latency formulas.
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
}

impl Family {
    /// Every family, in table order.
    pub const ALL: [Self; 10] = [
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
    ];
}
