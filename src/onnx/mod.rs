//! ONNX protobuf in and out.

/// Stand-in.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeProto;
