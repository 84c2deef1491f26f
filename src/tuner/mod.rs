//! The tuner: which answers to the knobs make the best plan, with a proof.
//!
//! ```text
//! Stages ── space ──► knobs of every model, and pipeline.residency
//!        ── table ──► figures of every answer, from a few compiles a model (segment knobs do not see each other)
//!        ── search ─► exact label-setting search over those figures ──► choices, certificate, front
//!        ── compile with every check ──► the figures again; they must be equal to the last digit
//! ```
//! The figure that a certificate speaks of is the one that [`estimate`] gives for the same choices.

pub mod record;
pub mod search;
pub mod space;
pub mod table;

mod knees;

use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::cost::graph::GraphCost;
use crate::cost::pipeline::{Predicted, StageCost, report, upper};
use crate::cost::quality::Noise;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::pipeline::WHOLE;
use crate::ir::{CallSite, OpGraph};
use crate::passes::assign_precision::{knob_id, precision};
use crate::passes::manager::Debugging;
use crate::passes::{Checks, Choices, Guidance, Knob, Planned, compile, residency};
use crate::units::{Bytes, Time};
use search::{Limits, Plan};
use space::Space;
use table::Tables;

/// A call of a model in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Where, and with which extents; knobs begin with the name of its instance.
    pub site: CallSite,
    /// How often its weights must be loaded where only the model that runs is kept (`ir::stays`).
    pub loads: u64,
    /// Bytes of the pipeline's values that are alive beside those of the call.
    pub beside: Bytes,
}

impl Stage {
    /// What of `beside` is in the device's memory: all of it where host and device are one, else none.
    pub fn on_device(&self, machine: &Machine) -> Bytes {
        if machine.unified { self.beside } else { Bytes(0) }
    }
}

/// The calls of a pipeline in the order in which they run: what the tuner looks at.
#[derive(Clone, Debug)]
pub struct Stages<'a> {
    /// The pipeline and its models.
    pub program: &'a Planned,
    /// The calls.
    pub stages: Vec<Stage>,
}

impl<'a> Stages<'a> {
    /// Every call of a program.
    pub fn of(program: &'a Planned) -> Self {
        let sites = program.calls();
        let loads = program.loads();
        let beside = program.pipeline.alive_beside_calls();
        let stage = |((site, loads), beside)| Stage { site, loads, beside: Bytes(beside) };
        Self { program, stages: sites.into_iter().zip(loads).zip(beside).map(stage).collect() }
    }

    /// The noise of a stage's model at a precision: of a part of a model its share.
    pub fn noise(&self, stage: &Stage, precision: crate::hwdb::Precision) -> Noise {
        let share = self.program.pipeline.models.get(&stage.site.model).map_or(WHOLE, |m| m.share);
        Noise(Noise::of(precision).0 * u64::from(share) / u64::from(WHOLE))
    }

    /// The graph of one piece of a call, and the number of pieces.
    ///
    /// # Errors
    /// `graph/model-size` if the model cannot take the extents.
    pub fn bound(&self, stage: &Stage, choices: &Choices) -> Result<(OpGraph, u64)> {
        let pieces = Guidance::pieces(&stage.site.instance, stage.site.batch, choices).max(1);
        Ok((self.program.instance(&stage.site, pieces)?, pieces as u64))
    }
}

/// What is best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Least time of one run.
    #[default]
    Latency,
    /// Least device memory, then least time.
    Memory,
    /// Least time a clip; a pipeline makes one clip at a time, so this is the least time of a run.
    Throughput,
}

/// The usual [`Request::tolerance`]: less than what runs of one plan differ by.
pub const TOLERANCE: f64 = 0.01;

/// What is asked of the search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// What is best.
    pub objective: Objective,
    /// Most device memory, held against the upper end of the prediction; the device's own if absent.
    pub memory: Option<Bytes>,
    /// Least decibels PSNR against the reference.
    pub min_psnr: Option<f64>,
    /// Answers that are given.
    pub fixed: Choices,
    /// How much worse than the best the figure of the objective may be, as a share of it, for the sake of quality, memory and plain
    /// answers: 0.01 is 1 %.
    pub tolerance: f64,
    /// Time for the search itself; the tables that every bound rests on are always made.
    pub time_limit: Option<Duration>,
}

impl Request {
    /// The memory that a plan may take on this machine.
    pub fn budget(&self, machine: &Machine) -> Bytes {
        self.memory.map_or(machine.memory, |m| m.min(machine.memory))
    }
}

/// What is proved about the chosen plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// No other answers are better under the cost model: none has a better figure than `best_…`, and none within the tolerance of it
    /// has less noise, then less memory, then fewer answers that are not the plain ones.
    pub optimal: bool,
    /// How much better the best could be, as a share of the chosen plan's figure; 0 if optimal.
    pub gap: f64,
    /// How much worse than the best the chosen plan's figure may be, as a share of it.
    pub tolerance: f64,
    /// Seconds of the plan with the best figure: the fastest, or the smallest where memory is asked for.
    pub best_latency_s: f64,
    /// Bytes of device memory of that plan.
    pub best_peak_bytes: u64,
    /// How many combinations of answers there are.
    pub combinations: f64,
    /// Seconds for everything. Not part of a tuning record, which is the same whenever it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_s: Option<f64>,
}

/// A point of the front: no plan is both faster and smaller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrontPoint {
    /// Seconds.
    pub latency_s: f64,
    /// Device memory, bytes.
    pub peak_bytes: u64,
    /// The upper end, which budgets are held against.
    pub peak_bytes_hi: u64,
    /// Estimated decibels; absent if exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_db: Option<f64>,
    /// The answers.
    pub choices: Choices,
}

/// What the search found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every answer of the best plan.
    pub choices: Choices,
    /// Its figures.
    pub predicted: Predicted,
    /// What is proved.
    pub certificate: Certificate,
    /// At most twelve points between the smallest and the fastest plan, smallest first.
    pub front: Vec<FrontPoint>,
    /// The best plan if 1 GiB more were allowed, as far as the device has it, if that is a better one.
    pub one_gib_more: Option<FrontPoint>,
    /// Every knob that there was to answer.
    pub knobs: Vec<Knob>,
}

/// Finds the best answers.
///
/// # Errors
/// `tune/no-plan-fits` with the nearest miss, `tune/quality-not-reached`, `tune/out-of-time`; `tune/unknown-knob` and
/// `tune/not-in-domain` for fixed answers; what binding and compiling the models return.
pub fn tune(stages: &Stages<'_>, machine: &Machine, request: &Request) -> Result<Outcome> {
    let start = Instant::now();
    let space = Space::of(stages, machine, &request.fixed)?;
    let tables = Tables::of(&space, stages, machine)?;
    let problem = tables.problem(&space, machine);
    let budget = request.budget(machine);
    let limits = Limits {
        peak: Some(budget),
        noise: request.min_psnr.map(Noise::at_least_db),
        tolerance: request.tolerance,
        deadline: request.time_limit.map(|limit| Instant::now() + limit),
    };
    let found = search::search(&problem, request.objective, &limits);
    let (Some(best), Some(first)) = (&found.best, &found.first) else { return Err(nothing(&found, request, machine).into()) };
    let choices = tables.choices(&space, &problem, best);
    let predicted = predict(stages, machine, &choices)?;
    same_figures(best, &predicted)?;
    let point = |plan: &Plan| FrontPoint {
        latency_s: Time(plan.time).secs(),
        peak_bytes: plan.peak,
        peak_bytes_hi: upper(Bytes(plan.peak)).0,
        quality_db: Noise(plan.noise).db(),
        choices: tables.choices(&space, &problem, plan),
    };
    Ok(Outcome {
        knobs: space.knobs(),
        front: knees::pick(&found.front).into_iter().map(point).collect(),
        one_gib_more: one_gib_more(&found.front, first, budget, machine.memory).map(point),
        certificate: Certificate {
            optimal: found.gap == 0.0,
            gap: found.gap,
            tolerance: request.tolerance,
            best_latency_s: Time(first.time).secs(),
            best_peak_bytes: first.peak,
            combinations: space.combinations() as f64,
            elapsed_s: Some(start.elapsed().as_secs_f64()),
        },
        choices,
        predicted,
    })
}

/// The figures of given answers, and every knob there is; knobs without an answer have their plain one. Compiles every model with every
/// check.
///
/// # Errors
/// `tune/unknown-knob`, `tune/not-in-domain`; what binding and compiling the models return.
pub fn estimate(stages: &Stages<'_>, machine: &Machine, choices: &Choices) -> Result<(Predicted, Vec<Knob>)> {
    // What is offered can depend on global answers, so the space is that of these answers.
    let space = Space::of(stages, machine, choices)?;
    Ok((predict(stages, machine, choices)?, space.knobs()))
}

fn predict(stages: &Stages<'_>, machine: &Machine, choices: &Choices) -> Result<Predicted> {
    let costs: Result<Vec<StageCost>> = stages.stages.par_iter().map(|s| stage_cost(stages, s, machine, choices, Checks::Full)).collect();
    Ok(report(&costs?, residency(choices), machine))
}

/// Compiles the model of a stage and takes its cost.
///
/// # Errors
/// What binding and compiling return.
pub fn stage_cost(stages: &Stages<'_>, stage: &Stage, machine: &Machine, choices: &Choices, checks: Checks) -> Result<StageCost> {
    let (graph, pieces) = stages.bound(stage, choices)?;
    let compiled = compile(&graph, machine, choices, checks, &Debugging::default())?;
    let model = &stage.site.instance;
    let p = precision(choices.get(&knob_id(model)));
    let cost = GraphCost::of(&compiled.graph, table::f32_as(p), machine)?;
    let runs = [stage.site.times * pieces, pieces, stage.loads];
    Ok(StageCost::new(model, runs, stages.noise(stage, p), &cost).beside(stage.beside, machine))
}

fn same_figures(plan: &Plan, predicted: &Predicted) -> Result<()> {
    let searched = (plan.time, plan.peak, Noise(plan.noise).db());
    let compiled = (predicted.latency_ps, predicted.peak_bytes, predicted.quality_db);
    if searched == compiled {
        return Ok(());
    }
    let message = format!("the search gives the plan {searched:?} (ps, bytes, dB), its compiled graphs {compiled:?}");
    Err(Box::new(Diagnostic::new("internal/bug", message).note("in the tuner: an answer changes nodes that another knob governs")))
}

/// The best plan with 1 GiB more, or with what the device has if that is less.
fn one_gib_more<'a>(front: &'a [Plan], best: &Plan, budget: Bytes, memory: Bytes) -> Option<&'a Plan> {
    let more = Bytes(budget.0.saturating_add(1 << 30)).min(memory);
    front.iter().filter(|p| upper(Bytes(p.peak)) <= more && p.time < best.time).min_by_key(|p| (p.time, p.peak))
}

/// Why there is no plan.
fn nothing(found: &search::Found, request: &Request, machine: &Machine) -> Diagnostic {
    let budget = request.budget(machine);
    let db = request.min_psnr.unwrap_or(0.0);
    match (&found.least, found.complete) {
        (Some(least), _) if upper(Bytes(least.peak)) > budget && found.complete => {
            let needs = upper(Bytes(least.peak));
            let time = Time(least.time);
            Diagnostic::new("tune/no-plan-fits", format!("no plan fits into {budget}; the smallest needs {needs} and would take {time}"))
                .help(if needs <= machine.memory {
                    format!("allow {needs}, or ask for fewer frames or a smaller picture")
                } else {
                    format!(
                        "{} has {} in all: ask for fewer frames or a smaller picture, or name a device with {needs}",
                        machine.key, machine.memory
                    )
                })
        }
        (None, true) => Diagnostic::new("tune/quality-not-reached", format!("no plan with these answers reaches {db} dB"))
            .help("ask for less, or do not fix answers that round"),
        _ => Diagnostic::new("tune/out-of-time", "the time limit was over before any plan was found that fits").help("allow more time"),
    }
}

#[cfg(test)]
mod tests;
