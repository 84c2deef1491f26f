//! Weight expressions.
use std::fmt;

use super::DType;

/// An expression over stored tensors.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightExpr {
    /// A parameter that is not yet bound to a file.
    Param {
        /// Component.
        stage: String,
        /// Name in the file.
        name: String,
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
    },
    /// A literal.
    Literal {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
        /// Little-endian elements.
        bytes: Vec<u8>,
    },
}

impl WeightExpr {
    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Param { dtype, .. } | Self::Literal { dtype, .. } => *dtype,
        }
    }
    /// Shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Param { shape, .. } | Self::Literal { shape, .. } => shape,
        }
    }
}

impl fmt::Display for WeightExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Param { stage, name, .. } => write!(f, "param {stage}/{name}"),
            Self::Literal { dtype, shape, .. } => write!(f, "literal {dtype}{shape:?}"),
        }
    }
}
