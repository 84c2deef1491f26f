//! ONNX protobuf in and out.
