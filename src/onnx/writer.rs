//! Writing a model file.

use std::path::Path;

use prost::Message;

use super::proto::ModelProto;
use super::reader::{MAX_FILE, too_large};
use crate::diag::Result;
use crate::files;

/// The bytes of a model.
///
/// # Errors
/// `onnx/too-large`, before anything is allocated.
pub fn encode(model: &ModelProto) -> Result<Vec<u8>> {
    let len = model.encoded_len() as u64;
    if len > MAX_FILE {
        return Err(too_large(len).into());
    }
    Ok(model.encode_to_vec())
}

/// Writes a model, whole or not at all.
///
/// # Errors
/// `onnx/too-large`, `io/unwritable`.
pub fn write(path: &Path, model: &ModelProto) -> Result<()> {
    let bytes = encode(model)?;
    files::write_atomic(path, |w| w.write_all(&bytes))
}
