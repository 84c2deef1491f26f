//! Knobs and choices: the questions that passes offer and the answers that the tuner, a tuning record or `--choose` gives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Result, suggest};

/// What an answer does to the function that is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The same function; sums may be taken in another order.
    Exact,
    /// Fewer bits.
    Rounding,
    /// Another function.
    Approximate,
}

/// How far an answer reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// It changes tensors that cross segments: types or the batch of a whole model.
    Global,
    /// It changes only its own sites.
    Segment,
}

/// A question that the compiler may decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Knob {
    /// `model.group.question`, or `model.question`.
    pub id: String,
    /// How far it reaches.
    pub scope: Scope,
    /// The possible answers in order; the first is the plain one, which the reference uses.
    pub domain: Vec<String>,
    /// Further answers that only the user gives: no search tries them, for they gain nothing on this device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_request: Vec<String>,
    /// The strongest effect of an answer.
    pub effect: Effect,
    /// One line for people.
    pub about: String,
}

impl Knob {
    /// The plain answer.
    pub fn default(&self) -> &str {
        self.domain.first().map_or("", |d| d.as_str())
    }
}

/// The full set of answers; a knob without an entry has its plain one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Choices(pub BTreeMap<String, String>);

impl Choices {
    /// The answer to a knob, if one was given.
    pub fn get(&self, knob: &str) -> Option<&str> {
        self.0.get(knob).map(String::as_str)
    }

    /// The answer as a count; 1 if none was given.
    pub fn count(&self, knob: &str) -> i64 {
        self.get(knob).and_then(|c| c.parse().ok()).unwrap_or(1)
    }

    /// Gives an answer.
    pub fn set(&mut self, knob: &str, answer: impl Into<String>) {
        self.0.insert(knob.into(), answer.into());
    }

    /// Checks every answer against the knobs on offer.
    ///
    /// # Errors
    /// `tune/unknown-knob` or `tune/not-in-domain`, with what there is.
    pub fn check(&self, knobs: &[Knob]) -> Result<()> {
        for (id, answer) in &self.0 {
            let knob = knobs.iter().find(|k| k.id == *id).ok_or_else(|| {
                Diagnostic::new("tune/unknown-knob", format!("there is no knob `{id}` for this graph on this device"))
                    .help(suggest(id, knobs.iter().map(|k| k.id.as_str())))
            })?;
            if !knob.domain.contains(answer) && !knob.on_request.contains(answer) {
                let d = Diagnostic::new("tune/not-in-domain", format!("the knob `{id}` cannot be `{answer}`"));
                let answers: Vec<&str> = knob.domain.iter().chain(&knob.on_request).map(String::as_str).collect();
                return Err(Box::new(d.help(format!("its answers are: {}", answers.join(", ")))));
            }
        }
        Ok(())
    }
}
