//! Chooses by measurement: candidates are run side by side on ONNX Runtime, and what was measured is kept.
//!
//! [`paired`] compares whole models in one process, [`sequential`] says for how long, [`agenda`] what fits into a time, [`measure`] says what of
//! a model runs and what it allocates, [`peak`] what a process of its own needs, [`site`] times small graphs, [`cache`] keeps those times by
//! machine, [`kernels`] and [`probe`] measure a machine's figures, [`self_check`] asks whether a provider computes what it should. [`inspect`] and
//! [`diff`] say what is in a model without running it.

pub mod agenda;
pub mod answers;
mod apart;
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
pub mod providers;
pub mod rates;
pub mod self_check;
pub mod sequential;
pub mod site;
pub mod statistics;
pub mod write;
