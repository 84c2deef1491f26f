//! Program, Pipeline, OpGraph, types, symbolic dims, shape inference, weight expressions, Schedule, verify, canonical text, fingerprint.

pub mod dim;
pub mod pipeline;
pub mod signature;
pub mod types;

pub use dim::{Bindings, Dim};
pub use pipeline::Pipeline;
pub use signature::{Mismatch, Signature};
pub use types::{DType, TensorType};
