//! Element types of tensors, with their names in the three worlds they meet: vidc, ONNX, safetensors.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE 754 double precision.
    F64,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// One byte, 0 or 1.
    Bool,
    /// Something else that a model file may hold and vidc only passes on: strings, sequences, types below a byte, types not known.
    Opaque,
}

/// (type, bytes an element, vidc's name, number in ONNX's `TensorProto.DataType`, safetensors' name)
const TABLE: [(DType, u64, &str, i32, &str); 10] = [
    (DType::F32, 4, "f32", 1, "F32"),
    (DType::F16, 2, "f16", 10, "F16"),
    (DType::BF16, 2, "bf16", 16, "BF16"),
    (DType::F64, 8, "f64", 11, "F64"),
    (DType::I64, 8, "i64", 7, "I64"),
    (DType::I32, 4, "i32", 6, "I32"),
    (DType::U8, 1, "u8", 2, "U8"),
    (DType::I8, 1, "i8", 3, "I8"),
    (DType::Bool, 1, "bool", 9, "BOOL"),
    (DType::Opaque, 0, "opaque", 0, "OPAQUE"),
];

impl DType {
    fn row(self) -> &'static (Self, u64, &'static str, i32, &'static str) {
        &TABLE[self as usize]
    }

    /// Bytes an element; 0 if it is opaque.
    pub fn size(self) -> u64 {
        self.row().1
    }

    /// vidc's name: `f32`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The number in ONNX's `TensorProto.DataType`; 0 (undefined) if it is opaque.
    pub fn onnx(self) -> i32 {
        self.row().3
    }

    /// The name in a safetensors header.
    pub fn safetensors(self) -> &'static str {
        self.row().4
    }

    /// The type with this ONNX number.
    pub fn from_onnx(number: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.3 == number).map(|row| row.0)
    }

    /// The type with this safetensors name.
    pub fn from_safetensors(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.4 == name).map(|row| row.0)
    }

    /// Is it a floating-point type?
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for row in &TABLE {
            assert_eq!(row.0.row(), row);
            assert_eq!(DType::from_onnx(row.3), Some(row.0));
            assert_eq!(DType::from_safetensors(row.4), Some(row.0));
        }
    }
}
