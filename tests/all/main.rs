//! The integration tests of vidc, one binary.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says on stderr what it skipped or measured")]

mod cli;
mod cli_cases;
mod examples;
mod extents;
mod fuzz;
mod layering;
mod onnx_backend;
mod order;
mod reference;
mod repo;
mod source;
mod third_party;
