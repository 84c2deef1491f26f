//! The integration tests of vidc, one binary.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says on stderr what it skipped or measured")]

mod branches;
mod cli;
mod cli_cases;
mod examples;
mod extents;
mod folding;
mod fuzz;
mod ladder;
mod layering;
mod memory;
mod onnx_backend;
mod order;
mod outputs;
mod plugins;
mod reference;
mod repeat;
mod repo;
mod residency;
mod serving;
#[path = "../../src/skipped.rs"]
mod skipped;
mod source;
mod targets;
mod third_party;
mod trained;
