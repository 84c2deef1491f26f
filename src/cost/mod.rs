//! Latency and quality of operators; memory of a schedule.

pub mod fit;
pub mod latency;
