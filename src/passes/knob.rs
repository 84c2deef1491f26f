//! Knobs and choices: the questions that passes offer, their answers with what each does, and what the tuner, a tuning record or
//! `--choose` answered.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cost::quality::{Noise, Quality};
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

/// What a knob is a question about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The whole pipeline: every model may come out otherwise.
    Pipeline,
    /// One model: its answer changes tensors that cross segments, types or the batch.
    Model,
    /// One segment of a model: its answer changes only the nodes that the knob governs.
    Segment,
}

/// The name of a knob: `pipeline.question`, `model.question` or `model.group.question`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct KnobId(String);

impl KnobId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for KnobId {
    fn from(id: T) -> Self {
        Self(id.into())
    }
}

impl Borrow<str> for KnobId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for KnobId {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for KnobId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for KnobId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for KnobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an answer costs in quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "known_from")]
pub enum QualityLoss {
    /// Nothing: the answer is exact.
    Exact,
    /// A figure that others published for models of this kind.
    Literature {
        /// The noise that it adds.
        noise: Noise,
    },
    /// A figure measured on this model.
    Measured {
        /// The noise that it adds.
        noise: Noise,
    },
    /// Nobody knows. No search takes such an answer unless it is told to.
    Unmeasured,
}

impl QualityLoss {
    /// The noise that a search counts: none for what nobody knows.
    pub fn noise(self) -> Noise {
        match self {
            Self::Exact | Self::Unmeasured => Noise(0),
            Self::Literature { noise } | Self::Measured { noise } => noise,
        }
    }

    /// The same for a part that makes `share` of `whole` of a model's noise.
    fn of_part(self, share: u32, whole: u32) -> Self {
        let part = |n: Noise| Noise(n.0 * u64::from(share) / u64::from(whole));
        match self {
            Self::Literature { noise } => Self::Literature { noise: part(noise) },
            Self::Measured { noise } => Self::Measured { noise: part(noise) },
            other => other,
        }
    }
}

/// A possible answer to a knob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Its word.
    pub name: String,
    /// What it does.
    pub effect: Effect,
    /// What it costs in quality.
    pub quality: QualityLoss,
    /// Only the user gives it: no search tries it, for it gains nothing on this device.
    #[serde(skip_serializing_if = "is_false")]
    pub on_request: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_false(b: &bool) -> bool {
    !b
}

impl Answer {
    /// An answer that computes the same.
    pub fn exact(name: impl Into<String>) -> Self {
        Self { name: name.into(), effect: Effect::Exact, quality: QualityLoss::Exact, on_request: false }
    }

    /// An answer that changes results.
    pub fn changing(name: impl Into<String>, effect: Effect, quality: QualityLoss) -> Self {
        Self { name: name.into(), effect, quality, on_request: false }
    }

    /// Is it in the default space?
    fn is_searched(&self, unmeasured: bool) -> bool {
        !self.on_request && (unmeasured || self.quality != QualityLoss::Unmeasured)
    }
}

/// A question that the compiler may decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Knob {
    /// Its name.
    pub id: KnobId,
    /// What it is about.
    pub scope: Scope,
    /// The possible answers in order; the first is the plain one, which the reference uses.
    pub answers: Vec<Answer>,
    /// One line for people.
    pub about: String,
}

impl Knob {
    /// A knob of which every answer computes the same.
    pub fn exact(
        id: impl Into<KnobId>,
        scope: Scope,
        answers: impl IntoIterator<Item = impl Into<String>>,
        about: impl Into<String>,
    ) -> Self {
        Self { id: id.into(), scope, answers: answers.into_iter().map(Answer::exact).collect(), about: about.into() }
    }

    /// The session that a knob of a model is about.
    pub fn model(&self) -> Option<&str> {
        match self.scope {
            Scope::Model => self.id.rsplit_once('.').map(|(model, _)| model),
            Scope::Pipeline | Scope::Segment => None,
        }
    }

    /// The plain answer.
    pub fn plain(&self) -> &str {
        self.answers.first().map_or("", |a| a.name.as_str())
    }

    /// The answer with this name.
    pub fn answer(&self, name: &str) -> Option<&Answer> {
        self.answers.iter().find(|a| a.name == name)
    }

    /// The strongest effect of an answer.
    pub fn effect(&self) -> Effect {
        self.answers.iter().map(|a| a.effect).max().unwrap_or(Effect::Exact)
    }

    /// The words of all answers.
    pub fn words(&self) -> Vec<&str> {
        self.answers.iter().map(|a| a.name.as_str()).collect()
    }

    /// The knob of a part that makes `share` of `whole` of its model's noise.
    #[must_use]
    pub fn of_part(mut self, share: u32, whole: u32) -> Self {
        self.answers.iter_mut().for_each(|a| a.quality = a.quality.of_part(share, whole));
        self
    }

    /// The knob with the answers that a search tries: those of the default space and the one that is given; with what nobody
    /// measured if `unmeasured`. A given answer is the only one left.
    #[must_use]
    pub fn searched(mut self, given: &Choices, unmeasured: bool) -> Self {
        match given.get(&self.id) {
            Some(asked) => self.answers.retain(|a| a.name == asked),
            None => self.answers.retain(|a| a.is_searched(unmeasured)),
        }
        self
    }
}

/// The full set of answers; a knob without an entry has its plain one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Choices(pub BTreeMap<KnobId, String>);

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
    pub fn set(&mut self, knob: impl Into<KnobId>, answer: impl Into<String>) {
        self.0.insert(knob.into(), answer.into());
    }

    /// Gives further answers.
    #[must_use]
    pub fn and(mut self, more: &Self) -> Self {
        self.0.extend(more.0.iter().map(|(k, v)| (k.clone(), v.clone())));
        self
    }

    /// Checks every answer against the knobs on offer.
    ///
    /// # Errors
    /// `tune/unknown-knob` or `tune/not-in-domain`, with what there is.
    pub fn check(&self, knobs: &[Knob]) -> Result<()> {
        self.wrong(knobs).map_or(Ok(()), |(_, d)| Err(Box::new(d)))
    }

    /// The first answer that does not fit the knobs on offer, and what is wrong with it.
    pub fn wrong(&self, knobs: &[Knob]) -> Option<(&KnobId, Diagnostic)> {
        let wrong = |(id, answer): (&KnobId, &String)| match knobs.iter().find(|k| k.id == *id) {
            None => {
                let d = Diagnostic::new("tune/unknown-knob", format!("there is no knob `{id}` for this graph on this device"));
                Some(d.help(suggest(id, knobs.iter().map(|k| k.id.as_str()))))
            }
            Some(knob) if knob.answer(answer).is_none() => {
                let d = Diagnostic::new("tune/not-in-domain", format!("the knob `{id}` cannot be `{answer}`"));
                Some(d.help(format!("its answers are: {}", knob.words().join(", "))))
            }
            Some(_) => None,
        };
        self.0.iter().find_map(|(id, answer)| Some((id, wrong((id, answer))?)))
    }

    /// Each knob of these with the answer that it has here, where that is not the plain one.
    pub fn departures<'k>(&self, knobs: &'k [Knob]) -> Vec<(&'k Knob, &'k Answer)> {
        let given = |k: &'k Knob| self.get(&k.id).and_then(|name| k.answer(name)).filter(|a| a.name != k.plain());
        knobs.iter().filter_map(|k| Some((k, given(k)?))).collect()
    }

    /// The quality of a plan with these answers: the noise of all together.
    pub fn quality(&self, knobs: &[Knob]) -> Quality {
        let figures: Vec<QualityLoss> = self.departures(knobs).into_iter().map(|(_, a)| a.quality).collect();
        if figures.contains(&QualityLoss::Unmeasured) {
            return Quality::Unmeasured;
        }
        let noise: Noise = figures.into_iter().map(QualityLoss::noise).sum();
        if noise.0 == 0 { Quality::Exact } else { Quality::Estimated(noise) }
    }
}
