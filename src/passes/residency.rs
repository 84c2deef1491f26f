//! `pipeline.residency`: which models are in the device's memory while one of them runs.
//!
//! Every model for the whole run, or each for its stays alone (`ir::stays`): same results, less memory, weights loaded again
//! where models take turns. The pipeline's own knob; the plan places the loads, the cost counts them.

use super::{Choices, Effect, Knob, Scope};
use crate::cost::pipeline::Residency;

/// The knob.
pub const RESIDENCY: &str = "pipeline.residency";

/// The knob with its answers.
pub fn residency_knob() -> Knob {
    Knob {
        id: RESIDENCY.into(),
        scope: Scope::Global,
        domain: Residency::ALL.iter().map(|r| r.name().into()).collect(),
        on_request: Vec::new(),
        effect: Effect::Exact,
        about: "every model loaded for the whole run, or only the one that runs".into(),
    }
}

/// The answer.
pub fn residency(choices: &Choices) -> Residency {
    choices.get(RESIDENCY).and_then(Residency::from_name).unwrap_or(Residency::All)
}
