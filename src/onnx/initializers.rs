//! The initializers of a model without their values: what a loader asks of a model whose nodes are somebody else's matter.

use prost::Message;

use super::proto::StringStringEntryProto;
use super::reader::not_a_model;
use super::scan::scan;
use crate::diag::Result;

/// An initializer of the main graph, without its values.
#[derive(Clone, PartialEq, Message)]
pub struct Initializer {
    /// Shape; empty for a scalar.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// A row of [`super::dtype::DTYPES`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// `location`, `offset`, `length`, `checksum`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 0: in the model; 1: in the file that `external_data` names.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

/// The fields of a graph that are read here; what is not named is skipped on the wire.
#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Initializer>,
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

/// The initializers of a model's main graph, in its order. Nodes and values are skipped, not decoded.
///
/// # Errors
/// `onnx/not-a-model`, `onnx/too-deep`, `onnx/too-many-parts`.
pub fn initializers(bytes: &[u8]) -> Result<Vec<Initializer>> {
    scan(bytes)?;
    let model = Model::decode(bytes).map_err(|e| not_a_model(&format!("the bytes are not an ONNX model: {e}")))?;
    Ok(model.graph.ok_or_else(|| not_a_model("the file holds no graph"))?.initializer)
}

#[cfg(test)]
mod tests {
    use super::super::proto::{GraphProto, NodeProto, TensorProto};
    use super::super::{build, decode, encode};
    use super::*;

    #[test]
    fn they_are_those_of_the_whole_model() {
        let own = build::tensor("own", 1, &[2], vec![0; 8]);
        let external_data = vec![build::entry("location", "w.bin")];
        let outside = TensorProto { data_location: Some(1), external_data, raw_data: None, name: "w".into(), ..own.clone() };
        let node = NodeProto { op_type: "Neg".into(), ..NodeProto::default() };
        let graph = GraphProto { node: vec![node], initializer: vec![own, outside], ..GraphProto::default() };
        let bytes = encode(&build::model(graph, 21)).unwrap();
        let whole = decode(bytes.clone().into()).unwrap().graph.unwrap().initializer;
        let found = initializers(&bytes).unwrap();
        assert_eq!(found.len(), 2);
        for (a, b) in found.iter().zip(&whole) {
            assert_eq!(
                (&a.dims, a.data_type, &a.name, &a.external_data, a.data_location),
                (&b.dims, b.data_type, &b.name, &b.external_data, b.data_location)
            );
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [&b""[..], b"\xff\xff\xff", b"\x08\x0a"] {
            assert_eq!(initializers(bytes).unwrap_err().code, "onnx/not-a-model", "{bytes:?}");
        }
    }
}
