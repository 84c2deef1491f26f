//! The search space: every knob of a pipeline with its answers.
//!
//! A model's *global* knobs (guidance, element type) change tensors everywhere in it, and guidance even changes which segment
//! knobs there are and what they can answer (a batch of 50 images can be cut otherwise than one of 25). So a model's space is
//! a list of [`Variant`]s, one for each combination of its global answers, each with its own segment knobs. Models do not see
//! each other; they share only the knob [`RESIDENCY`].

use std::sync::Arc;

use rayon::prelude::*;

use super::{Stage, Stages};
use crate::cost::pipeline::Residency;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::OpGraph;
use crate::passes::{Choices, Guidance, Knob, RESIDENCY, Scope, offered_knobs, residency_knob};

/// The models of the stages that call one model, for one answer to guidance.
#[derive(Debug)]
pub struct Bound {
    /// For each stage of the model: its index, the bound graph, and the number of pieces of a call.
    pub stages: Vec<(usize, OpGraph, u64)>,
}

/// One combination of a model's global answers.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The global answers.
    pub globals: Choices,
    /// How many of them are not the plain one.
    pub departures: u32,
    /// The graphs.
    pub bound: Arc<Bound>,
    /// The segment knobs.
    pub segments: Vec<Knob>,
}

/// The space of one model.
#[derive(Debug)]
pub struct ModelSpace {
    /// The model.
    pub model: String,
    /// All knobs of all variants, domains united.
    pub knobs: Vec<Knob>,
    /// What is left of the variants once fixed answers are taken out.
    pub variants: Vec<Variant>,
}

/// The space of a pipeline.
#[derive(Debug)]
pub struct Space {
    /// Answers to [`RESIDENCY`] that are left.
    pub residencies: Vec<Residency>,
    /// The models in the order of their first stage.
    pub models: Vec<ModelSpace>,
}

impl Space {
    /// The space that is left when some answers are fixed.
    ///
    /// # Errors
    /// `tune/unknown-knob` and `tune/not-in-domain` for the fixed answers; what binding and the passes return.
    pub fn of(stages: &Stages<'_>, machine: &Machine, fixed: &Choices) -> Result<Self> {
        let mut names: Vec<&str> = Vec::new();
        for s in &stages.stages {
            if !names.contains(&s.site.instance.as_str()) {
                names.push(&s.site.instance);
            }
        }
        let models: Result<Vec<ModelSpace>> = names.par_iter().map(|name| model_space(stages, name, machine, fixed)).collect();
        let mut space = Self { residencies: Residency::ALL.to_vec(), models: models? };
        fixed.check(&space.knobs())?;
        space.fix(fixed)?;
        Ok(space)
    }

    /// Every knob, the pipeline's own first.
    pub fn knobs(&self) -> Vec<Knob> {
        std::iter::once(residency_knob()).chain(self.models.iter().flat_map(|m| m.knobs.iter().cloned())).collect()
    }

    /// How many combinations of answers are left.
    pub fn combinations(&self) -> u128 {
        let segments = |v: &Variant| v.segments.iter().fold(1, |n: u128, k| n.saturating_mul(k.domain.len() as u128));
        let model = |m: &ModelSpace| m.variants.iter().map(segments).fold(0, u128::saturating_add);
        self.models.iter().map(model).fold(self.residencies.len() as u128, u128::saturating_mul)
    }

    fn fix(&mut self, fixed: &Choices) -> Result<()> {
        if let Some(r) = fixed.get(RESIDENCY).and_then(Residency::from_name) {
            self.residencies = vec![r];
        }
        for m in &mut self.models {
            m.variants.retain_mut(|v| {
                let globals_agree = v.globals.0.iter().all(|(id, answer)| fixed.get(id).is_none_or(|f| f == answer));
                globals_agree && v.segments.iter_mut().all(|k| restrict(k, fixed))
            });
            if m.variants.is_empty() {
                let message = format!("the fixed answers for the model `{}` exclude each other", m.model);
                let help = "which answers a segment knob has depends on the model's guidance; leave one of them open";
                return Err(Box::new(Diagnostic::new("tune/not-in-domain", message).help(help)));
            }
        }
        Ok(())
    }
}

/// Leaves only the fixed answer in a domain; false if it is not there.
fn restrict(knob: &mut Knob, fixed: &Choices) -> bool {
    if let Some(answer) = fixed.get(&knob.id) {
        knob.domain.retain(|d| d == answer);
    }
    !knob.domain.is_empty()
}

fn model_space(stages: &Stages<'_>, model: &str, machine: &Machine, fixed: &Choices) -> Result<ModelSpace> {
    let mine: Vec<(usize, &Stage)> = stages.stages.iter().enumerate().filter(|(_, s)| s.site.instance == model).collect();
    let batch = mine.iter().map(|(_, s)| s.site.batch).max().unwrap_or(1);
    let guidance = Guidance::knob(model, batch);
    let answers: Vec<Choices> = combinations(guidance.as_slice());
    let parts: Result<Vec<(Vec<Knob>, Vec<Variant>)>> =
        answers.into_par_iter().map(|g| variants(stages, &mine, &g, machine, fixed)).collect();
    let mut out = ModelSpace { model: model.into(), knobs: guidance.into_iter().collect(), variants: Vec::new() };
    for (knobs, variants) in parts? {
        out.variants.extend(variants);
        for knob in knobs {
            unite(&mut out.knobs, knob);
        }
    }
    let departures = |v: &Variant| out.knobs.iter().filter(|k| v.globals.get(&k.id).is_some_and(|a| a != k.default())).count() as u32;
    let counts: Vec<u32> = out.variants.iter().map(departures).collect();
    out.variants.iter_mut().zip(counts).for_each(|(v, n)| v.departures = n);
    Ok(out)
}

/// The variants under one answer to guidance, with all knobs that are offered there.
fn variants(
    stages: &Stages<'_>,
    mine: &[(usize, &Stage)],
    guidance: &Choices,
    machine: &Machine,
    fixed: &Choices,
) -> Result<(Vec<Knob>, Vec<Variant>)> {
    let mut bound = Vec::new();
    let mut knobs = Vec::new();
    for (index, stage) in mine {
        let (graph, pieces) = stages.bound(stage, guidance)?;
        for mut knob in offered_knobs(&graph, machine)? {
            let asked = fixed.get(&knob.id).filter(|a| knob.on_request.iter().any(|o| o == a));
            knob.domain.extend(asked.map(str::to_owned));
            unite(&mut knobs, knob);
        }
        bound.push((*index, graph, pieces));
    }
    let bound = Arc::new(Bound { stages: bound });
    let (globals, segments): (Vec<Knob>, Vec<Knob>) = knobs.iter().cloned().partition(|k| k.scope == Scope::Global);
    let variant = |mut answers: Choices| {
        answers.0.extend(guidance.0.clone());
        Variant { globals: answers, departures: 0, bound: bound.clone(), segments: segments.clone() }
    };
    Ok((knobs, combinations(&globals).into_iter().map(variant).collect()))
}

/// Adds a knob, or the answers that a knob of the same name does not have yet.
fn unite(knobs: &mut Vec<Knob>, knob: Knob) {
    match knobs.iter_mut().find(|k| k.id == knob.id) {
        Some(old) => {
            let new: Vec<String> = knob.domain.into_iter().filter(|d| !old.domain.contains(d)).collect();
            old.domain.extend(new);
        }
        None => knobs.push(knob),
    }
}

/// Every combination of answers.
fn combinations(knobs: &[Knob]) -> Vec<Choices> {
    let extend = |partial: Vec<Choices>, knob: &Knob| {
        let with = |c: &Choices, answer: &String| {
            let mut c = c.clone();
            c.set(&knob.id, answer);
            c
        };
        partial.iter().flat_map(|c| knob.domain.iter().map(move |a| with(c, a))).collect()
    };
    knobs.iter().fold(vec![Choices::default()], extend)
}
