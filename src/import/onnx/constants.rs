//! Stored tensors as weight expressions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::standard::{Elements, ShapeValue, ValueInfo};
use crate::diag::{Diagnostic, Result};
use crate::files;
use crate::onnx::proto::{SparseTensorProto, TensorProto};
use crate::onnx::tensor;
use crate::weights::{DType, TensorRef, WeightExpr, WeightsFile};

/// The folder of the model and the files of it that are open.
pub(super) struct Folder {
    dir: PathBuf,
    files: HashMap<String, Arc<WeightsFile>>,
}

impl Folder {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.into(), files: HashMap::new() }
    }

    /// A tensor whose type vidc knows, as an expression; none for other types. Its place was checked before.
    ///
    /// # Errors
    /// `onnx/tensor-…`, `io/unreadable`.
    pub(super) fn expression(&mut self, t: &TensorProto) -> Result<Option<WeightExpr>> {
        let Some(dtype) = DType::from_onnx(t.data_type).filter(|d| *d != DType::Opaque) else { return Ok(None) };
        let (shape, _) = tensor::shape_of(t)?;
        if !tensor::is_external(t) {
            return WeightExpr::literal(dtype, &shape, &tensor::bytes(t)?).map(Some);
        }
        let (location, offset) = place(t);
        let len = tensor::bytes_needed(t)?;
        let file = self.file(location)?;
        WeightExpr::stored(TensorRef { file, offset, len, dtype, shape }).map(Some)
    }

    /// An external tensor of a type that vidc does not know, with its values taken into the model.
    ///
    /// # Errors
    /// As [`Self::expression`].
    pub(super) fn embedded(&mut self, t: &TensorProto) -> Result<TensorProto> {
        let mut out = t.clone();
        if tensor::is_external(t) {
            let (location, offset) = place(t);
            let len = tensor::bytes_needed(t)?;
            out.raw_data = Some(self.file(location)?.bytes(offset, len)?.to_vec().into());
            out.external_data.clear();
            out.data_location = None;
        }
        Ok(out)
    }

    fn file(&mut self, location: &str) -> Result<Arc<WeightsFile>> {
        if let Some(file) = self.files.get(location) {
            return Ok(file.clone());
        }
        let path = files::confined(&self.dir, location)
            .map_err(|why| Diagnostic::new("onnx/external-path-escape", format!("`{}`: {why}", location.escape_debug())))?;
        let file = Arc::new(WeightsFile::open(&path)?);
        self.files.insert(location.into(), file.clone());
        Ok(file)
    }
}

/// Location and offset of an external tensor.
fn place(t: &TensorProto) -> (&str, u64) {
    let value = |key: &str| t.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    (value("location").unwrap_or_default(), value("offset").and_then(|o| o.parse().ok()).unwrap_or(0))
}

/// The name of a sparse initialiser.
pub(super) fn sparse_name(t: &SparseTensorProto) -> &str {
    t.values.as_ref().map_or("", |v| v.name.as_str())
}

/// A value of which every element is a number, as a literal.
pub(super) fn literal(info: &ValueInfo) -> Option<WeightExpr> {
    let dtype = DType::from_onnx(info.ty.as_ref()?.dtype?).filter(|d| *d != DType::Opaque)?;
    let value = info.value.as_ref()?;
    let shape: Vec<u64> = value.shape.iter().map(|n| *n as u64).collect();
    WeightExpr::literal(dtype, &shape, &bytes(dtype, value)?).ok()
}

fn bytes(dtype: DType, value: &ShapeValue) -> Option<Vec<u8>> {
    match &value.elements {
        Elements::Dims(dims) if !dtype.is_float() => {
            let each: Option<Vec<Vec<u8>>> = dims.iter().map(|d| integer(dtype, d.as_const()?)).collect();
            each.map(|e| e.concat())
        }
        Elements::Numbers(numbers) if dtype.is_float() => Some(numbers.iter().flat_map(|x| float(dtype, *x)).collect()),
        _ => None,
    }
}

fn integer(dtype: DType, n: i64) -> Option<Vec<u8>> {
    Some(match dtype {
        DType::I64 => n.to_le_bytes().into(),
        DType::I32 => i32::try_from(n).ok()?.to_le_bytes().into(),
        DType::U8 => vec![u8::try_from(n).ok()?],
        DType::I8 => i8::try_from(n).ok()?.to_le_bytes().into(),
        DType::Bool => vec![u8::from(n != 0)],
        _ => return None,
    })
}

fn float(dtype: DType, x: f64) -> Vec<u8> {
    match dtype {
        DType::F64 => x.to_le_bytes().into(),
        DType::F16 => half::f16::from_f64(dtype.rounded(x)).to_le_bytes().into(),
        DType::BF16 => half::bf16::from_f64(dtype.rounded(x)).to_le_bytes().into(),
        _ => (x as f32).to_le_bytes().into(),
    }
}

/// A known truth value.
pub(super) fn truth(info: &ValueInfo) -> Option<bool> {
    match &info.value.as_ref()?.elements {
        Elements::Dims(dims) => match &dims[..] {
            [one] => one.as_const().map(|n| n != 0),
            _ => None,
        },
        Elements::Numbers(_) => None,
    }
}
