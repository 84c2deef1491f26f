//! Stored tensors as values.

use half::{bf16, f16};

use super::super::{Elements, MAX_ELEMENTS, ShapeValue, dtype};
use crate::ir::Dim;
use crate::onnx::proto::TensorProto;
use crate::onnx::tensor;

/// The elements of a stored tensor, if they are few, numbers, and in the model.
pub(in crate::import::onnx::standard) fn read(stored: &TensorProto) -> Option<ShapeValue> {
    let (shape, elements) = tensor::shape_of(stored).ok()?;
    if elements > MAX_ELEMENTS as u64 || tensor::is_external(stored) {
        return None;
    }
    let shape: Vec<usize> = shape.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<_>>()?;
    let bytes = tensor::bytes(stored).ok()?;
    let value = ShapeValue { shape, elements: decoded(stored.data_type, &bytes)? };
    super::normal(value, stored.data_type)
}

fn decoded(number: i32, bytes: &[u8]) -> Option<Elements> {
    let ints = |f: fn(&[u8]) -> i64, width: usize| Some(Elements::Dims(bytes.chunks_exact(width).map(|b| Dim::Const(f(b))).collect()));
    let floats = |f: fn(&[u8]) -> f64, width: usize| Some(Elements::Numbers(bytes.chunks_exact(width).map(f).collect()));
    match number {
        dtype::FLOAT => floats(|b| f64::from(f32::from_bits(little(b) as u32)), 4),
        dtype::DOUBLE => floats(|b| f64::from_bits(little(b)), 8),
        dtype::FLOAT16 => floats(|b| f16::from_bits(little(b) as u16).to_f64(), 2),
        dtype::BFLOAT16 => floats(|b| bf16::from_bits(little(b) as u16).to_f64(), 2),
        dtype::BOOL => ints(|b| i64::from(b[0] != 0), 1),
        2 => ints(|b| i64::from(b[0]), 1),
        3 => ints(|b| i64::from(b[0] as i8), 1),
        4 => ints(|b| little(b) as i64, 2),
        5 => ints(|b| i64::from(little(b) as u16 as i16), 2),
        dtype::INT32 => ints(|b| i64::from(little(b) as u32 as i32), 4),
        12 => ints(|b| little(b) as i64, 4),
        dtype::INT64 => ints(|b| little(b) as i64, 8),
        13 => {
            let all: Option<Vec<Dim>> = bytes.chunks_exact(8).map(|b| i64::try_from(little(b)).ok().map(Dim::Const)).collect();
            all.map(Elements::Dims)
        }
        _ => None,
    }
}

/// Little-endian bytes, at most 8.
fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}
