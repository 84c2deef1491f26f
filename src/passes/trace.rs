//! The trace: what each pass did to each model, in order.

use std::time::Duration;

use serde::Serialize;

use super::remark::Remark;

/// Did a pass change the model?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It did.
    Changed,
    /// It had nothing to do.
    Unchanged,
    /// It was switched off on request.
    Disabled,
    /// It needs sizes that are not bound.
    Skipped,
}

/// One pass over one model.
#[derive(Clone, Debug, Serialize)]
pub struct PassRecord {
    /// The pass.
    pub id: &'static str,
    /// The model.
    pub unit: String,
    /// What came of it.
    pub status: Status,
    /// Nodes before.
    pub nodes_before: usize,
    /// Nodes after.
    pub nodes_after: usize,
    /// What was done and what was considered.
    pub remarks: Vec<Remark>,
    /// How long it took; not part of any snapshot.
    #[serde(skip)]
    pub elapsed: Duration,
}

/// Every pass over every model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trace {
    /// In the order in which they ran.
    pub records: Vec<PassRecord>,
}
