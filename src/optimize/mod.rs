//! Chooses by measurement: candidates are run side by side on ONNX Runtime, and what was measured is kept.
//!
//! [`paired`] compares whole models in one process, [`measure`] says what of a model runs and what it allocates, [`peak`] what a
//! process of its own needs, [`site`] times small graphs, [`cache`] keeps those times by machine. [`kernels`] times every kernel
//! of a model, [`probe`] fits a profile of this machine to such times. [`inspect`] and [`diff`] say what is
//! in a model without running it.

pub mod answers;
pub mod cache;
pub mod candidate;
pub mod choose;
pub mod diff;
pub mod inputs;
pub mod inspect;
pub mod kernels;
pub mod measure;
pub mod model;
pub mod paired;
pub mod peak;
pub mod plan_memory;
pub mod probe;
pub mod rates;
pub mod site;
pub mod statistics;
pub mod write;
