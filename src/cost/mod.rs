//! Latency and quality of operators; memory of a schedule.
