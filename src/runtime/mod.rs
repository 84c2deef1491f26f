//! Provisions ONNX Runtime, executes a plan, measures.
