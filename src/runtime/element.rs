//! Types of elements: as Rust writes them, as vidc names them, as ONNX Runtime numbers them.

use half::{bf16, f16};
use ort::sys::ONNXTensorElementDataType as Code;

use crate::weights::DType;

/// ONNX Runtime's codes of element types.
const CODES: [(DType, Code); 9] = [
    (DType::F32, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
    (DType::U8, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8),
    (DType::I8, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8),
    (DType::I32, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32),
    (DType::I64, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64),
    (DType::Bool, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL),
    (DType::F16, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16),
    (DType::F64, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE),
    (DType::BF16, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16),
];

/// The type with this code; `None` for the types that vidc does not run.
pub(super) fn of_onnx_runtime(code: Code) -> Option<DType> {
    CODES.into_iter().find(|row| row.1 == code).map(|row| row.0)
}

/// The code of a type.
pub(super) fn to_onnx_runtime(dtype: DType) -> Code {
    CODES.into_iter().find(|row| row.0 == dtype).expect("every element type has a row").1
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust number that is a tensor's element: plain bits, every pattern of which is a value.
pub trait Element: Copy + sealed::Sealed + 'static {
    /// Its element type.
    const TYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $name:ident),+) => {
        $(
            impl sealed::Sealed for $rust {}
            impl Element for $rust {
                const TYPE: DType = DType::$name;
            }
        )+
    };
}

element!(f32 => F32, f64 => F64, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i8 => I8, u8 => U8);
