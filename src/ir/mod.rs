//! Program, Pipeline, OpGraph, types, symbolic dims, shape inference, weight expressions, Schedule, verify, canonical text, fingerprint.

pub mod dim;
pub mod types;

pub use dim::{Bindings, Dim};
pub use types::{DType, TensorType};
