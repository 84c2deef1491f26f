//! Reading a model file that may be hostile.

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use super::proto::ModelProto;
use super::scan::scan;
use crate::diag::{Diagnostic, Result};
use crate::files;

/// The most that a model file may have: protobuf's own limit.
pub const MAX_FILE: u64 = 2 << 30;

/// Reads a model. Raw tensor data stay slices of the one buffer that the file was read into.
///
/// Call [`super::check_external_data`] before its tensors are used.
///
/// # Errors
/// `io/unreadable`, `onnx/too-large`, and those of [`decode`].
pub fn read(path: &Path) -> Result<ModelProto> {
    let (mut file, len) = files::open_regular(path)?;
    if len > MAX_FILE {
        return Err(too_large(len).note(format!("the file is {}", path.display())).into());
    }
    let bytes = files::read_start(path, &mut file, len)?;
    decode(bytes.into()).map_err(|d| d.note(format!("the file is {}", path.display())).into())
}

/// Decodes a model: first a bounded walk over the wire form, then the messages.
///
/// # Errors
/// `onnx/not-a-model`, `onnx/too-deep`, `onnx/too-many-parts`.
pub fn decode(bytes: Bytes) -> Result<ModelProto> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(not_a_model("the file is a git-lfs pointer, not the model").help("run `git lfs pull` where it came from").into());
    }
    scan(&bytes)?;
    let model = ModelProto::decode(bytes).map_err(|e| not_a_model(&format!("the bytes are not an ONNX model: {e}")))?;
    if model.graph.is_none() {
        return Err(not_a_model("the file holds no graph").into());
    }
    Ok(model)
}

pub(super) fn not_a_model(message: &str) -> Diagnostic {
    Diagnostic::new("onnx/not-a-model", message)
}

pub(super) fn too_large(len: u64) -> Diagnostic {
    Diagnostic::new("onnx/too-large", format!("the model file has {len} bytes; the limit of the format is {MAX_FILE}"))
        .help("keep the weights as external data beside the model")
}

#[cfg(test)]
mod tests {
    use super::super::build::{self, attr};
    use super::super::proto::{AttributeProto, GraphProto, NodeProto};
    use super::super::writer::encode;
    use super::*;

    fn check(bytes: &[u8], code: &str) {
        assert_eq!(decode(Bytes::copy_from_slice(bytes)).unwrap_err().code, code, "{bytes:?}");
    }

    fn nested(levels: usize) -> ModelProto {
        let mut graph = GraphProto::default();
        for _ in 0..levels {
            let body = AttributeProto { ..attr::graph("body", graph) };
            graph = GraphProto { node: vec![NodeProto { attribute: vec![body], ..NodeProto::default() }], ..GraphProto::default() };
        }
        build::model(graph, 21)
    }

    #[test]
    fn what_is_not_a_model_is_refused() {
        check(b"", "onnx/not-a-model");
        check(b"version https://git-lfs.github.com/spec/v1\n", "onnx/not-a-model");
        check(b"PK\x03\x04 some archive", "onnx/not-a-model");
        check(&[0x3a, 0x7f], "onnx/not-a-model"); // graph longer than the file
        check(&[0xff; 11], "onnx/not-a-model"); // endless number
        check(&[0x3b], "onnx/not-a-model"); // a group
        check(&[0x08, 0x0a], "onnx/not-a-model"); // no graph
        check(&[0x12, 0x01, 0xff, 0x3a, 0x00], "onnx/not-a-model"); // a name that is not UTF-8
    }

    #[test]
    fn every_truncation_is_refused_or_shorter() {
        let whole = encode(&nested(2)).unwrap();
        for len in 0..whole.len() {
            if let Ok(model) = decode(Bytes::copy_from_slice(&whole[..len])) {
                assert_ne!(model, nested(2));
            }
        }
        assert_eq!(decode(whole.into()).unwrap(), nested(2));
    }

    #[test]
    fn depth_and_number_of_parts_are_bounded() {
        assert!(decode(encode(&nested(15)).unwrap().into()).is_ok());
        check(&encode(&nested(40)).unwrap(), "onnx/too-deep");
        // Five million empty nodes: ten megabytes on disk.
        let nodes = [0x0a, 0x00].repeat(5_000_000);
        let mut bytes = vec![0x3a];
        prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
        bytes.extend(nodes);
        check(&bytes, "onnx/too-many-parts");
    }

    #[test]
    fn a_file_is_read_or_its_name_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        assert_eq!(read(&path).unwrap_err().code, "io/unreadable");
        std::fs::write(&path, b"no").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.code, "onnx/not-a-model");
        assert!(error.notes[0].ends_with("m.onnx"));
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_FILE + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().code, "onnx/too-large");
    }
}
