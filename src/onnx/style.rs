//! How a model is written: what the operators alone do not say.

use std::collections::BTreeMap;

use super::proto::ValueInfoProto;

/// Operator set of the standard domain that vidc writes: the newest that all providers run and that has Gelu.
pub const OPSET: i64 = 21;

/// How a model is written.
#[derive(Clone, Debug)]
pub struct Style {
    /// Operator set of the standard domain; at least [`OPSET`].
    pub opset: i64,
    /// Versions of further domains; those that are not here are at version 1.
    pub domains: BTreeMap<String, i64>,
    /// Nodes in reverse order, for ONNX Runtime to run them in the planned one.
    pub reversed: bool,
    /// Declarations of inputs and outputs as they were read, by name; taken for those whose types are opaque.
    pub declared: BTreeMap<String, ValueInfoProto>,
    /// The shapes that `Reshape` gives are known at run time only, so that ONNX Runtime's planner takes no two tensors for alike and
    /// keeps no buffer for a later one (`docs/facts/ort.md` section 3).
    pub hides_shapes: bool,
}

impl Default for Style {
    /// As a plan has it.
    fn default() -> Self {
        Self { opset: OPSET, domains: BTreeMap::new(), reversed: true, declared: BTreeMap::new(), hides_shapes: false }
    }
}
