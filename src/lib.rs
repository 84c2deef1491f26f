//! vidc compiles video-diffusion pipelines for the machine people really have.
//!
//! The module list is the data flow; a module uses only modules of a lower layer (`tests/all/layering.rs` holds the table).
//! Start at ARCHITECTURE.md.

pub mod diag;
pub mod files;
pub mod units;

pub mod host;
pub mod media;
pub mod metrics;
pub mod onnx;
pub mod spec;
pub mod weights;

pub mod ir;
pub mod scenarios;
pub mod target;

pub mod hwdb;
pub mod interp;
pub mod models;

pub mod cost;

pub mod passes;

pub mod import;
pub mod plan;

pub mod runtime;

pub mod optimize;
pub mod tuner;

#[cfg(test)]
mod skipped;
