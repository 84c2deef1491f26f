//! What another answer to one knob would make of the peak of memory, everything else as it is.

use rayon::prelude::*;
use serde::Serialize;

use super::{Estimate, estimate};
use crate::cost::timeline::Wide;
use crate::diag::Result;
use crate::passes::{Choices, Knob, Planned, QualityLoss, Scope};

/// An answer that needs less memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Saving {
    /// The knob.
    pub knob: String,
    /// The answer.
    pub answer: String,
    /// Predicted device memory at the worst moment then, bytes.
    pub peak_bytes: u64,
    /// Predicted time then, seconds.
    pub latency_s: f64,
}

/// The answers that would lower the peak of the program with these answers, the largest saving first: of the knobs of the pipeline, of
/// the model that runs at a wide moment, and of the knob that governs the operator there. Answers that nobody knows the cost of in
/// quality are left out.
///
/// # Errors
/// Those of [`estimate`]; an answer that does not go with the others is left out.
pub fn savings(planned: &Planned, choices: &Choices, at: &Wide) -> Result<Vec<Saving>> {
    let Estimate { predicted, knobs, lowered } = estimate(planned, choices)?;
    let concerned = |k: &&Knob| match k.scope {
        Scope::Pipeline => true,
        Scope::Model => k.model() == Some(at.session.as_str()),
        Scope::Segment => at.knob.as_deref() == Some(&k.id.to_string()),
    };
    let others: Vec<(&Knob, &str)> = knobs
        .iter()
        .filter(concerned)
        .flat_map(|k| k.answers.iter().filter(|a| a.quality != QualityLoss::Unmeasured).map(move |a| (k, a.name.as_str())))
        .filter(|(k, answer)| lowered.choices.get(&k.id).unwrap_or(k.plain()) != *answer)
        .collect();
    let try_one = |(knob, answer): (&Knob, &str)| {
        let mut changed = lowered.choices.clone();
        changed.set(knob.id.clone(), answer);
        let p = estimate(planned, &changed).ok()?.predicted;
        let less = p.peak_bytes < predicted.peak_bytes;
        less.then(|| Saving { knob: knob.id.to_string(), answer: answer.into(), peak_bytes: p.peak_bytes, latency_s: p.latency_s })
    };
    let mut out: Vec<Saving> = others.into_par_iter().filter_map(try_one).collect();
    out.sort_by(|a, b| (a.peak_bytes, &a.knob, &a.answer).cmp(&(b.peak_bytes, &b.knob, &b.answer)));
    Ok(out)
}
