//! Tensors in host memory as sessions take and give them: element type, shape, 64-byte aligned bytes in row-major order.

pub use super::element::Element;
use super::ffi::{self, AlignedBytes};
use crate::weights::DType;

/// Bytes of a tensor; `None` if they cannot be counted.
pub fn byte_len(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size() as usize, |n, d| n.checked_mul(*d))
}

/// A tensor that somebody else holds.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The type of its elements.
    pub dtype: DType,
    /// Its extents.
    pub shape: &'a [usize],
    /// Its elements in row-major order, aligned to the element's size.
    pub bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// A view of a slice.
    pub fn of<T: Element>(shape: &'a [usize], values: &'a [T]) -> Self {
        Self { dtype: T::TYPE, shape, bytes: ffi::bytes_of(values) }
    }
}

/// A tensor that somebody else holds, to write to.
#[derive(Debug)]
pub struct TensorViewMut<'a> {
    /// The type of its elements.
    pub dtype: DType,
    /// Its extents.
    pub shape: &'a [usize],
    /// Its elements in row-major order, aligned to the element's size.
    pub bytes: &'a mut [u8],
}

impl<'a> TensorViewMut<'a> {
    /// A view of a slice.
    pub fn of<T: Element>(shape: &'a [usize], values: &'a mut [T]) -> Self {
        Self { dtype: T::TYPE, shape, bytes: ffi::bytes_of_mut(values) }
    }
}

/// A tensor in memory of its own.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: AlignedBytes,
}

impl Tensor {
    /// A tensor of zeros; `None` if its bytes cannot be counted.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Option<Self> {
        let len = byte_len(dtype, shape)?;
        Some(Self { dtype, shape: shape.to_vec(), data: AlignedBytes::zeroed(len) })
    }

    /// A copy of `bytes`; `None` if they are not as many as the shape says.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Self> {
        (byte_len(dtype, shape)? == bytes.len()).then(|| Self { dtype, shape: shape.to_vec(), data: AlignedBytes::copied(bytes) })
    }

    /// A copy of `values`; `None` if they are not as many as the shape says.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Option<Self> {
        Self::from_bytes(T::TYPE, shape, ffi::bytes_of(values))
    }

    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements in row-major order.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Its elements, if they are of type `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        if self.dtype == T::TYPE { ffi::elements(&self.data) } else { None }
    }

    /// Its elements to write to, if they are of type `T`.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        if self.dtype == T::TYPE { ffi::elements_mut(&mut self.data) } else { None }
    }

    /// Borrows it as an input.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { dtype: self.dtype, shape: &self.shape, bytes: &self.data }
    }

    /// Borrows it as an output.
    pub fn view_mut(&mut self) -> TensorViewMut<'_> {
        TensorViewMut { dtype: self.dtype, shape: &self.shape, bytes: &mut self.data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_keeps_type_shape_and_values() {
        let t = Tensor::from_slice(&[2, 2], &[1i64, 2, 3, 4]).unwrap();
        assert_eq!((t.dtype(), t.shape(), t.bytes().len()), (DType::I64, &[2, 2][..], 32));
        assert_eq!(t.as_slice::<i64>(), Some(&[1, 2, 3, 4][..]));
        assert_eq!(t.as_slice::<f32>(), None);
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Tensor::from_slice(&[3], &[1f32]).is_none());
        assert!(Tensor::zeros(DType::F32, &[usize::MAX, 2]).is_none());
        assert_eq!(byte_len(DType::BF16, &[]), Some(2));
    }
}
