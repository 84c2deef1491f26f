//! The values of a stored tensor: how many there must be, and their bytes.

use std::borrow::Cow;

use super::dtype::{self, ElementType, Field};
use super::proto::{EXTERNAL, TensorProto};
use crate::diag::{Diagnostic, Result};

/// The row of a tensor's type.
///
/// # Errors
/// `onnx/tensor-type`.
pub fn dtype_of(tensor: &TensorProto) -> Result<&'static ElementType> {
    dtype::find(tensor.data_type)
        .ok_or_else(|| wrong_type(tensor, &format!("has the type number {}, which ONNX does not define", tensor.data_type)).into())
}

/// The shape and the number of elements.
///
/// # Errors
/// `onnx/tensor-shape`: a negative extent, or more elements than 63 bits count.
pub fn shape_of(tensor: &TensorProto) -> Result<(Vec<u64>, u64)> {
    shape_of_dims(&tensor.dims).ok_or_else(|| {
        let message = format!("tensor `{}` has the impossible shape {:?}", tensor.name, tensor.dims);
        Box::new(Diagnostic::new("onnx/tensor-shape", message).help("export the model again"))
    })
}

fn shape_of_dims(dims: &[i64]) -> Option<(Vec<u64>, u64)> {
    let shape: Vec<u64> = dims.iter().map(|d| u64::try_from(*d).ok()).collect::<Option<_>>()?;
    // Zeros left out, so that no product of some extents overflows anywhere.
    let most = shape.iter().try_fold(1_u64, |n, d| n.checked_mul((*d).max(1)))?;
    let elements = if shape.contains(&0) { 0 } else { most };
    i64::try_from(most).ok().map(|_| (shape, elements))
}

/// The bytes that shape and type need; 0 for strings.
///
/// # Errors
/// `onnx/tensor-type`, `onnx/tensor-shape`.
pub fn bytes_needed(tensor: &TensorProto) -> Result<u64> {
    let row = dtype_of(tensor)?;
    let (_, elements) = shape_of(tensor)?;
    row.bytes(elements).filter(|n| i64::try_from(*n).is_ok()).ok_or_else(|| {
        let message = format!("tensor `{}` of shape {:?} has more bytes than can be counted", tensor.name, tensor.dims);
        Box::new(Diagnostic::new("onnx/tensor-shape", message))
    })
}

/// Whether the values lie in another file.
pub fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(EXTERNAL)
}

/// Checks type, shape, and (unless external) the number of values.
///
/// # Errors
/// `onnx/tensor-type`, `onnx/tensor-shape`, `onnx/tensor-size-mismatch`.
pub fn check(tensor: &TensorProto) -> Result<()> {
    let row = dtype_of(tensor)?;
    let needed = bytes_needed(tensor)?;
    let (_, elements) = shape_of(tensor)?;
    if tensor.segment.is_some() {
        return Err(wrong_type(tensor, "is a segment of a larger tensor, which no reader supports").into());
    }
    if is_external(tensor) {
        return Ok(());
    }
    if let Some(raw) = &tensor.raw_data {
        return if row.field == Field::Strings {
            Err(wrong_type(tensor, "keeps strings as raw data").into())
        } else {
            same_size(tensor, raw.len() as u64, needed, "bytes")
        };
    }
    if stored_entries(tensor).iter().any(|(field, n)| *field != row.field && *n > 0) {
        return Err(wrong_type(tensor, &format!("is {} but keeps its values in the field of another type", row.name)).into());
    }
    let have = stored_entries(tensor).iter().find(|(field, _)| *field == row.field).map_or(0, |(_, n)| *n);
    same_size(tensor, have as u64, row.field_entries(elements).unwrap_or(u64::MAX), "values")
}

fn stored_entries(t: &TensorProto) -> [(Field, usize); 6] {
    [
        (Field::Float, t.float_data.len()),
        (Field::Double, t.double_data.len()),
        (Field::Int32, t.int32_data.len()),
        (Field::Int64, t.int64_data.len()),
        (Field::Uint64, t.uint64_data.len()),
        (Field::Strings, t.string_data.len()),
    ]
}

/// The values of a tensor in the model as little-endian bytes in row-major order, wherever they are stored.
///
/// # Errors
/// Those of [`check`]; `onnx/tensor-type` for strings and for external tensors, which have no bytes here.
pub fn bytes(tensor: &TensorProto) -> Result<Cow<'_, [u8]>> {
    check(tensor)?;
    let row = dtype_of(tensor)?;
    if is_external(tensor) || row.field == Field::Strings {
        return Err(wrong_type(tensor, "has no bytes in the model: its values are strings or lie in another file").into());
    }
    if let Some(raw) = &tensor.raw_data {
        return Ok(Cow::Borrowed(raw));
    }
    Ok(Cow::Owned(match row.field {
        Field::Float => tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Field::Double => tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Field::Int64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        // The low bytes of an entry are the value: two's complement, or the bits of a small float.
        Field::Int32 => low_bytes(tensor.int32_data.iter().map(|v| v.to_le_bytes()), row),
        Field::Uint64 => low_bytes(tensor.uint64_data.iter().map(|v| v.to_le_bytes()), row),
        Field::Strings => Vec::new(),
    }))
}

fn low_bytes<const N: usize>(entries: impl Iterator<Item = [u8; N]>, row: &ElementType) -> Vec<u8> {
    let width = usize::try_from(row.bits.div_ceil(8)).unwrap_or(N).min(N);
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&entry[..width]);
    }
    out
}

fn same_size(tensor: &TensorProto, have: u64, needed: u64, unit: &str) -> Result<()> {
    if have == needed {
        return Ok(());
    }
    let message = format!("tensor `{}` of shape {:?} needs {needed} {unit} but {have} are stored", tensor.name, tensor.dims);
    Err(Diagnostic::new("onnx/tensor-size-mismatch", message).help("the model is damaged; export it again").into())
}

fn wrong_type(tensor: &TensorProto, what: &str) -> Diagnostic {
    Diagnostic::new("onnx/tensor-type", format!("tensor `{}` {what}", tensor.name))
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;

    fn typed(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { name: "t".into(), data_type, dims: dims.to_vec(), ..TensorProto::default() }
    }

    fn code(tensor: &TensorProto) -> &'static str {
        check(tensor).map_or_else(|d| d.code, |()| "")
    }

    #[test]
    fn the_number_of_values_must_be_that_of_the_shape() {
        assert_eq!(code(&build::tensor("t", 1, &[2, 3], vec![0; 24])), "");
        assert_eq!(code(&build::tensor("t", 1, &[], vec![0; 4])), "");
        assert_eq!(code(&build::tensor("t", 1, &[0, 9], vec![])), "");
        assert_eq!(code(&build::tensor("t", 22, &[3], vec![0; 2])), "");
        assert_eq!(code(&build::tensor("t", 1, &[2, 3], vec![0; 23])), "onnx/tensor-size-mismatch");
        assert_eq!(code(&typed(1, &[2])), "onnx/tensor-size-mismatch");
        assert_eq!(code(&TensorProto { float_data: vec![1.0, 2.0], ..typed(1, &[2]) }), "");
        assert_eq!(code(&TensorProto { float_data: vec![1.0], ..typed(1, &[2]) }), "onnx/tensor-size-mismatch");
    }

    #[test]
    fn impossible_shapes_and_types_are_refused() {
        for dims in [&[-1][..], &[i64::MAX, 2], &[0, i64::MAX, 2], &[1 << 32, 1 << 32], &[1 << 62]] {
            assert_eq!(code(&typed(1, dims)), "onnx/tensor-shape", "{dims:?}");
        }
        assert_eq!(code(&typed(0, &[1])), "onnx/tensor-type");
        assert_eq!(code(&typed(99, &[1])), "onnx/tensor-type");
        assert_eq!(code(&TensorProto { int64_data: vec![1], ..typed(1, &[1]) }), "onnx/tensor-type");
        assert_eq!(code(&build::tensor("t", 8, &[1], vec![0])), "onnx/tensor-type");
    }

    #[test]
    fn typed_fields_become_bytes() {
        let get = |t: TensorProto| bytes(&t).unwrap().into_owned();
        assert_eq!(get(TensorProto { float_data: vec![1.0], ..typed(1, &[]) }), 1_f32.to_le_bytes());
        assert_eq!(get(TensorProto { int32_data: vec![-1, 2], ..typed(3, &[2]) }), [0xff, 2]);
        assert_eq!(get(TensorProto { int32_data: vec![0x3c00], ..typed(10, &[1]) }), [0, 0x3c]);
        assert_eq!(get(TensorProto { int64_data: vec![-2], ..typed(7, &[1]) }), (-2_i64).to_le_bytes());
        assert_eq!(get(TensorProto { uint64_data: vec![7], ..typed(12, &[1]) }), 7_u32.to_le_bytes());
        assert_eq!(bytes(&build::external_tensor("t", 1, &[1], "w", 0, 4)).unwrap_err().code, "onnx/tensor-type");
    }
}
