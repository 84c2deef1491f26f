//! Latency and quality of operators; memory of a schedule; what graphs and whole pipelines cost.
//!
//! [`latency`] is arithmetic on abstract work, [`operator`] says which work a node is, `scratch` what its kernel takes, [`graph`] adds up a lowered graph,
//! [`pipeline`] adds up stages, [`quality`] is the noise of rounding. Knows neither passes nor plans.

pub mod fit;
pub mod graph;
pub mod latency;
pub mod operator;
pub mod pipeline;
pub mod quality;
mod scratch;
pub mod timeline;
