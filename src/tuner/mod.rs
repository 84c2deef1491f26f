//! The tuner: which answers to the knobs make the best plan, with a proof.
//!
//! ```text
//! Planned ── space ──► knobs of the pipeline and of every session, with what each answer costs in quality
//!         ── table ──► figures of every answer, from a few compiles a session (segment knobs do not see each other)
//!         ── search ─► exact label-setting search over those figures ──► choices, certificate, front
//!         ── compile with every check ──► the figures again; they must be equal to the last digit
//! ```
//! The figure that a certificate speaks of is the one that [`estimate`] gives for the same choices. The tuner names no pass and no
//! knob: what a knob does stands in its answers, what was decided in the lowered program. The program that it compiled last is handed
//! on, so that who writes the plan compiles nothing again.

pub mod fit;
pub mod record;
pub mod savings;
pub mod search;
pub mod space;
pub mod table;

mod knees;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::cost::graph::{GraphCost, GraphFigures};
use crate::cost::pipeline::{Predicted, QualityFrom, report, upper, within};
use crate::cost::quality::{Noise, Quality};
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::OpGraph;
use crate::passes::{Checks, Choices, Knob, Lowered, Planned};
use crate::units::{Bytes, Time};
use search::{Limits, Plan};
use space::{Space, Wanted};
use table::Tables;

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
    /// May answers be taken of which nobody knows what they cost in quality?
    pub allow_unmeasured: bool,
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
    /// The program with the answers of the best plan.
    pub lowered: Lowered,
}

/// What a search comes to.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// A plan fits.
    Fits(Box<Outcome>),
    /// None does.
    Misses(Miss),
}

/// The nearest miss: the plan that needs least, where none fits into the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The upper end of what it needs, which the budget was held against.
    pub needs: Bytes,
    /// The time that it would take.
    pub latency: Time,
}

impl Miss {
    /// The miss as a mistake.
    fn told(self, budget: Bytes, machine: &Machine) -> Diagnostic {
        let Self { needs, latency } = self;
        let message = format!("no plan fits into {budget}; the smallest needs {needs} and would take {latency}");
        Diagnostic::new("tune/no-plan-fits", message).help(if needs <= machine.memory {
            format!("allow {needs}, or ask for fewer frames or a smaller picture")
        } else {
            format!(
                "{} has {} in all: ask for fewer frames or a smaller picture, or name a device with {needs}",
                machine.key, machine.memory
            )
        })
    }
}

/// Finds the best answers.
///
/// # Errors
/// `tune/no-plan-fits` with the nearest miss; what [`attempt`] returns.
pub fn tune(planned: &Planned, request: &Request) -> Result<Outcome> {
    match attempt(planned, request)? {
        Attempt::Fits(outcome) => Ok(*outcome),
        Attempt::Misses(miss) => Err(miss.told(request.budget(planned.machine()), planned.machine()).into()),
    }
}

/// The same where a plan that does not fit is an answer as well.
///
/// # Errors
/// `tune/quality-not-reached`, `tune/out-of-time`; `tune/unknown-knob` and `tune/not-in-domain` for fixed answers; what binding and
/// compiling the models return.
pub fn attempt(planned: &Planned, request: &Request) -> Result<Attempt> {
    let start = Instant::now();
    let machine = planned.machine();
    let fixed = planned.given(&request.fixed);
    let space = Space::of(planned, Wanted { fixed: &fixed, unmeasured: request.allow_unmeasured })?;
    let tables = Tables::of(&space, planned)?;
    let problem = tables.problem(&space, machine);
    let budget = request.budget(machine);
    let limits = Limits {
        peak: Some(within(budget, machine)),
        noise: request.min_psnr.map(Noise::at_least_db),
        tolerance: request.tolerance,
        deadline: request.time_limit.map(|limit| Instant::now() + limit),
    };
    let found = search::search(&problem, request.objective, &limits);
    let (Some(best), Some(first)) = (&found.best, &found.first) else {
        return Ok(Attempt::Misses(nothing(&found, request, budget, machine)?));
    };
    let choices = table::choices(&space, &problem, best);
    let quality = |c: &Choices| c.quality(&space.knobs);
    let lowered = planned.compile(&choices, Checks::Full)?;
    let predicted = predict(&lowered, quality(&choices), machine)?;
    same_figures(best, &predicted)?;
    let point = |plan: &Plan| {
        let choices = table::choices(&space, &problem, plan);
        FrontPoint {
            latency_s: Time(plan.time).secs(),
            peak_bytes: plan.peak,
            peak_bytes_hi: upper(Bytes(plan.peak), machine).0,
            quality_db: quality(&choices).db(),
            choices,
        }
    };
    let front = knees::pick(&found.front).into_iter().map(point).collect();
    let one_gib_more = one_gib_more(&found.front, first, budget, machine).map(point);
    Ok(Attempt::Fits(Box::new(Outcome {
        front,
        one_gib_more,
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
        knobs: space.knobs,
        lowered,
    })))
}

/// A program with given answers: its figures, and every knob that there is under them.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The figures.
    pub predicted: Predicted,
    /// The knobs.
    pub knobs: Vec<Knob>,
    /// The program with the answers; knobs without one have their plain one.
    pub lowered: Lowered,
}

/// The figures of given answers. Compiles every session with every check.
///
/// # Errors
/// `tune/unknown-knob`, `tune/not-in-domain`; what binding and compiling the models return.
pub fn estimate(planned: &Planned, choices: &Choices) -> Result<Estimate> {
    let choices = planned.given(choices);
    // What is offered can depend on other answers, so the space is that of these answers.
    let knobs = Space::of(planned, Wanted { fixed: &choices, unmeasured: false })?.knobs;
    let lowered = planned.compile(&choices, Checks::Full)?;
    let predicted = predict(&lowered, choices.quality(&knobs), planned.machine())?;
    Ok(Estimate { predicted, knobs, lowered })
}

/// The figures of a lowered program.
///
/// # Errors
/// What costing an operator returns.
pub fn predict(lowered: &Lowered, quality: Quality, machine: &Machine) -> Result<Predicted> {
    let sessions: Vec<(&str, &OpGraph)> = lowered.sessions.iter().map(|(name, c)| (name.as_str(), &c.graph)).collect();
    let cost = |(name, graph): (&'_ str, &OpGraph)| Ok((name.to_owned(), GraphCost::of(graph, machine)?.figures()));
    let figures: Result<BTreeMap<String, GraphFigures>> = sessions.into_par_iter().map(cost).collect();
    let figures = figures?;
    report(&lowered.program.pipeline, &|session| figures.get(session).copied(), quality, machine)
}

fn same_figures(plan: &Plan, predicted: &Predicted) -> Result<()> {
    let noise = if predicted.quality == QualityFrom::Unmeasured { None } else { Noise(plan.noise).db() };
    let searched = (plan.time, plan.peak, noise);
    let compiled = (predicted.latency_ps, predicted.peak_bytes, predicted.quality_db);
    if searched == compiled {
        return Ok(());
    }
    let message = format!("the search gives the plan {searched:?} (ps, bytes, dB), its compiled graphs {compiled:?}");
    Err(Box::new(Diagnostic::new("internal/bug", message).note("in the tuner: an answer changes nodes that another knob governs")))
}

/// The best plan with 1 GiB more, or with what the device has if that is less.
fn one_gib_more<'a>(front: &'a [Plan], best: &Plan, budget: Bytes, machine: &Machine) -> Option<&'a Plan> {
    let more = within(Bytes(budget.0.saturating_add(1 << 30)).min(machine.memory), machine);
    front.iter().filter(|p| Bytes(p.peak) <= more && p.time < best.time).min_by_key(|p| (p.time, p.peak))
}

/// Why there is no plan: the nearest miss, or what else is in the way.
fn nothing(found: &search::Found, request: &Request, budget: Bytes, machine: &Machine) -> Result<Miss> {
    let db = request.min_psnr.unwrap_or(0.0);
    let d = match (&found.least, found.complete) {
        (Some(least), true) if upper(Bytes(least.peak), machine) > budget => {
            return Ok(Miss { needs: upper(Bytes(least.peak), machine), latency: Time(least.time) });
        }
        (None, true) => Diagnostic::new("tune/quality-not-reached", format!("no plan with these answers reaches {db} dB"))
            .help("ask for less, or do not fix answers that round"),
        _ => Diagnostic::new("tune/out-of-time", "the time limit was over before any plan was found that fits").help("allow more time"),
    };
    Err(Box::new(d))
}

#[cfg(test)]
mod tests;
