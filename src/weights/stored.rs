//! Stored tensors: where each lies, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DType, WeightsFile};
use crate::diag::{Diagnostic, Result};

/// The number of bytes of a tensor, if it can be counted in 63 bits. The extents of an empty tensor must be countable too
/// (zeros left out), so that no product of some of them overflows anywhere.
pub(super) fn byte_count(dtype: DType, shape: &[u64]) -> Option<u64> {
    let most = shape.iter().try_fold(dtype.size(), |n, d| n.checked_mul((*d).max(1)))?;
    let bytes = if shape.contains(&0) { 0 } else { most };
    i64::try_from(most).ok().map(|_| bytes)
}

/// A tensor in a file: little-endian values in row-major order.
#[derive(Clone, Debug)]
pub struct TensorRef {
    /// The file.
    pub file: Arc<WeightsFile>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<u64>,
}

impl TensorRef {
    /// The bytes, mapped.
    ///
    /// # Errors
    /// Those of [`WeightsFile::bytes`].
    pub fn bytes(&self) -> Result<&[u8]> {
        self.file.bytes(self.offset, self.len)
    }
}

impl PartialEq for TensorRef {
    /// The same bytes of the same file, seen with the same type and shape.
    fn eq(&self, other: &Self) -> bool {
        let place = |t: &Self| (t.offset, t.len, t.dtype);
        self.file.path() == other.file.path() && place(self) == place(other) && self.shape == other.shape
    }
}

/// A tensor in a file of raw data, as another format (ONNX external data) names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The tensor's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<u64>,
}

/// The tensors of one model on disk.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub(super) tensors: BTreeMap<String, TensorRef>,
    /// Names to element types that vidc does not read: an error when asked for, not before.
    pub(super) unsupported: BTreeMap<String, String>,
    pub(super) files: Vec<Arc<WeightsFile>>,
}

impl Stored {
    /// The tensor `name`; none if there is none.
    ///
    /// # Errors
    /// `weights/unsupported-dtype`.
    pub fn get(&self, name: &str) -> Result<Option<&TensorRef>> {
        if let Some(dtype) = self.unsupported.get(name) {
            let message = format!("tensor `{name}` is stored as {dtype}, which vidc does not read");
            return Err(Diagnostic::new("weights/unsupported-dtype", message).help("use the float32, float16 or bfloat16 files").into());
        }
        Ok(self.tensors.get(name))
    }

    /// All tensors that can be read, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TensorRef)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The number of tensors that can be read.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The files, in the order opened.
    pub fn files(&self) -> &[Arc<WeightsFile>] {
        &self.files
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|t| t.len).sum()
    }

    /// Tensors in files of raw data: the external data of a checked ONNX model. Each file is opened once.
    ///
    /// # Errors
    /// `io/unreadable`, `weights/out-of-range`, `weights/tensor-size-mismatch`, `weights/duplicate-tensor`.
    pub fn from_regions(regions: impl IntoIterator<Item = Region>) -> Result<Self> {
        let mut stored = Self::default();
        let mut opened: BTreeMap<PathBuf, Arc<WeightsFile>> = BTreeMap::new();
        for region in regions {
            let file = match opened.get(&region.path) {
                Some(file) => file.clone(),
                None => stored.open(&region.path, &mut opened)?,
            };
            let Region { name, offset, len, dtype, shape, .. } = region;
            stored.insert(name, TensorRef { file, offset, len, dtype, shape })?;
        }
        Ok(stored)
    }

    fn open(&mut self, path: &Path, opened: &mut BTreeMap<PathBuf, Arc<WeightsFile>>) -> Result<Arc<WeightsFile>> {
        let file = Arc::new(WeightsFile::open(path)?);
        self.files.push(file.clone());
        opened.insert(path.into(), file.clone());
        Ok(file)
    }

    /// Adds a tensor after checking that it lies in its file and has the size it needs.
    pub(super) fn insert(&mut self, name: String, tensor: TensorRef) -> Result<()> {
        check_place(&name, &tensor)?;
        if self.tensors.contains_key(&name) || self.unsupported.contains_key(&name) {
            return Err(duplicate(&name, &tensor.file.name()).into());
        }
        self.tensors.insert(name, tensor);
        Ok(())
    }
}

pub(super) fn duplicate(name: &str, file: &str) -> Diagnostic {
    Diagnostic::new("weights/duplicate-tensor", format!("tensor `{name}` is named twice in {file}")).help("fetch the file again")
}

fn check_place(name: &str, tensor: &TensorRef) -> Result<()> {
    let TensorRef { file, offset, len, dtype, shape } = tensor;
    if offset.checked_add(*len).is_none_or(|end| end > file.len()) {
        let message = format!("tensor `{name}` takes {len} bytes from byte {offset} of {}, which has {}", file.name(), file.len());
        return Err(Diagnostic::new("weights/out-of-range", message).help("the file is truncated; fetch it again").into());
    }
    let needed = byte_count(*dtype, shape);
    if needed == Some(*len) {
        return Ok(());
    }
    let needed = needed.map_or("more than can be counted".into(), |n| n.to_string());
    let message = format!("tensor `{name}` in {} is {dtype}{shape:?}, which needs {needed} bytes, but {len} are stored", file.name());
    Err(Diagnostic::new("weights/tensor-size-mismatch", message).help("the file is damaged; fetch it again").into())
}
