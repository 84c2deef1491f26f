//! Tensors in host memory as sessions take and give them: element type, shape, 64-byte aligned bytes in row-major order.

use half::{bf16, f16};
use ort::sys::ONNXTensorElementDataType as Code;

use super::ffi::{self, AlignedBytes};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 8-bit integer.
    I8,
    /// 8-bit natural number.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

/// Element type, its code in ONNX files (`TensorProto.DataType`), its code in ONNX Runtime, its size in bytes.
const TYPES: [(ElementType, i32, Code, usize); 9] = [
    (ElementType::F32, 1, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 4),
    (ElementType::U8, 2, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1),
    (ElementType::I8, 3, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, 1),
    (ElementType::I32, 6, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, 4),
    (ElementType::I64, 7, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, 8),
    (ElementType::Bool, 9, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, 1),
    (ElementType::F16, 10, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, 2),
    (ElementType::F64, 11, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, 8),
    (ElementType::BF16, 16, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, 2),
];

impl ElementType {
    fn row(self) -> (Self, i32, Code, usize) {
        TYPES.into_iter().find(|row| row.0 == self).expect("every element type has a row")
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        self.row().3
    }

    /// The type with this code in an ONNX file; `None` for the types that vidc does not run.
    pub fn of_onnx(code: i32) -> Option<Self> {
        TYPES.into_iter().find(|row| row.1 == code).map(|row| row.0)
    }

    pub(super) fn of_onnx_runtime(code: Code) -> Option<Self> {
        TYPES.into_iter().find(|row| row.2 == code).map(|row| row.0)
    }

    pub(super) fn to_onnx_runtime(self) -> Code {
        self.row().2
    }

    /// Bytes of a tensor of this type; `None` if they cannot be counted.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(self.size(), |n, d| n.checked_mul(*d))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust number that is a tensor's element: plain bits, every pattern of which is a value.
pub trait Element: Copy + sealed::Sealed + 'static {
    /// Its element type.
    const TYPE: ElementType;
}

macro_rules! element {
    ($($rust:ty => $name:ident),+) => {
        $(
            impl sealed::Sealed for $rust {}
            impl Element for $rust {
                const TYPE: ElementType = ElementType::$name;
            }
        )+
    };
}

element!(f32 => F32, f64 => F64, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i8 => I8, u8 => U8);

/// A tensor that somebody else holds.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The type of its elements.
    pub dtype: ElementType,
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
    pub dtype: ElementType,
    /// Its extents.
    pub shape: &'a [usize],
    /// Its elements in row-major order, aligned to the element's size.
    pub bytes: &'a mut [u8],
}

/// A tensor in memory of its own.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: ElementType,
    shape: Vec<usize>,
    data: AlignedBytes,
}

impl Tensor {
    /// A tensor of zeros; `None` if its bytes cannot be counted.
    pub fn zeros(dtype: ElementType, shape: &[usize]) -> Option<Self> {
        let len = dtype.bytes(shape)?;
        Some(Self { dtype, shape: shape.to_vec(), data: AlignedBytes::zeroed(len) })
    }

    /// A copy of `bytes`; `None` if they are not as many as the shape says.
    pub fn from_bytes(dtype: ElementType, shape: &[usize], bytes: &[u8]) -> Option<Self> {
        (dtype.bytes(shape)? == bytes.len()).then(|| Self { dtype, shape: shape.to_vec(), data: AlignedBytes::copied(bytes) })
    }

    /// A copy of `values`; `None` if they are not as many as the shape says.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Option<Self> {
        Self::from_bytes(T::TYPE, shape, ffi::bytes_of(values))
    }

    /// The type of its elements.
    pub fn dtype(&self) -> ElementType {
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
        assert_eq!((t.dtype(), t.shape(), t.bytes().len()), (ElementType::I64, &[2, 2][..], 32));
        assert_eq!(t.as_slice::<i64>(), Some(&[1, 2, 3, 4][..]));
        assert_eq!(t.as_slice::<f32>(), None);
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Tensor::from_slice(&[3], &[1f32]).is_none());
        assert!(Tensor::zeros(ElementType::F32, &[usize::MAX, 2]).is_none());
        assert_eq!(ElementType::BF16.bytes(&[]), Some(2));
    }
}
