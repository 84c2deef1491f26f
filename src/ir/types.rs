//! The type of a tensor: element type and symbolic shape.

use std::fmt;

use super::dim::{Bindings, Dim, product};
pub use crate::weights::DType;

/// Element type and shape of one tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        Self { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> Dim {
        product(&self.shape)
    }

    /// The extents as numbers, if all symbols are bound.
    pub fn dims(&self) -> Option<Vec<i64>> {
        self.shape.iter().map(Dim::as_const).collect()
    }

    /// Size in bytes, if all symbols are bound; 0 for an opaque value, whatever its shape.
    pub fn bytes(&self) -> Option<u64> {
        if self.dtype == DType::Opaque {
            return Some(0);
        }
        u64::try_from(self.numel().as_const()?).ok()?.checked_mul(self.dtype.size())
    }

    /// The same shape with another element type.
    #[must_use]
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, shape: self.shape.clone() }
    }

    /// Replaces symbols by numbers.
    #[must_use]
    pub fn bind(&self, bindings: &Bindings) -> Self {
        Self { dtype: self.dtype, shape: self.shape.iter().map(|d| d.bind(bindings)).collect() }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{}[{}]", self.dtype, dims.join(", "))
    }
}
