//! Remarks: what was done or considered at a site, and the reason with the facts that it rests on.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::ir::DType;
use crate::units::Bytes;

/// A typed fact behind a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A size.
    Bytes(Bytes),
    /// A count or an extent.
    Count(i64),
    /// An element type.
    Type(DType),
    /// A ratio or another real number.
    Ratio(f64),
    /// A word: a form, a knob's choice, an operator.
    Word(String),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(b) => write!(f, "{b}"),
            Self::Count(c) => write!(f, "{c}"),
            Self::Type(t) => write!(f, "{t}"),
            Self::Ratio(r) => write!(f, "{r:.3}"),
            Self::Word(w) => f.write_str(w),
        }
    }
}

impl From<Bytes> for Fact {
    fn from(b: Bytes) -> Self {
        Self::Bytes(b)
    }
}

impl From<i64> for Fact {
    fn from(c: i64) -> Self {
        Self::Count(c)
    }
}

impl From<DType> for Fact {
    fn from(t: DType) -> Self {
        Self::Type(t)
    }
}

impl From<&str> for Fact {
    fn from(w: &str) -> Self {
        Self::Word(w.into())
    }
}

/// The reason of an edit, or of leaving something alone: a rule and the facts it looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// The rule's name; kebab case, stable.
    pub rule: &'static str,
    /// What it looked at.
    pub facts: BTreeMap<&'static str, Fact>,
}

impl Why {
    /// A reason without facts.
    pub fn new(rule: &'static str) -> Self {
        Self { rule, facts: BTreeMap::new() }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, fact: impl Into<Fact>) -> Self {
        self.facts.insert(name, fact.into());
        self
    }
}

/// What was done or considered at a site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remark {
    /// Done, or considered and not done?
    pub applied: bool,
    /// The model, or the pipeline's name.
    pub unit: String,
    /// The node's name.
    pub site: String,
    /// The knob that asked for it, if one did.
    pub knob: Option<String>,
    /// The reason.
    pub why: Why,
}
