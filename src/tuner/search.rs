//! The exact search: which alternative of each unit.
//!
//! A *unit* is a session, an *alternative* one of its variants with every segment knob answered, a *round* one arrangement of the
//! calls. In a round a plan's figures are
//!
//! ```text
//! time = Σ time        peak = overhead + Σ sum + max max        noise = Σ noise        departures = Σ departures
//! ```
//! and each operator is monotone, so a partial plan that is no better than another in every component can be dropped: label
//! setting with dominance pruning is exact. Within a variant the same holds for its knobs, with time and noise adding up and the
//! transient as a maximum.
//!
//! Two passes. The first finds every efficient (time, memory, noise): the front, the least figure of the objective under the
//! limits, the smallest plan. The second, which knows that figure, looks only at partial plans that can still come within the
//! tolerance of it and takes the one with less noise, then less memory, then fewer answers that are not the plain ones: figure by
//! figure, each capped at what the plan at hand has, so that few partial plans stay.
//!
//! *Anytime*: when the deadline comes, the best complete plan of a greedy scan is given with a lower bound from the partial
//! plans that are still open: completed by the least of everything that remains, none can be better than that.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::Objective;
use crate::cost::graph::WeightBytes;
use crate::cost::pipeline::{Footprint, load_time};
use crate::cost::quality::Noise;
use crate::hwdb::Machine;
use crate::units::Bytes;

/// One answer to a segment knob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFigures {
    /// Picoseconds over the whole run.
    pub time: u64,
    /// Bytes at the worst step, bound tensors included.
    pub transient: u64,
    /// Bytes that the session keeps for the nodes.
    pub nodes: u64,
    /// Noise power, units of [`Noise`].
    pub noise: u64,
    /// Is it another than the plain one?
    pub departs: bool,
}

/// A variant of a unit with its open segment knobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternatives {
    /// Steps that no knob governs, picoseconds.
    pub time: u64,
    /// The same, bytes at the worst step.
    pub transient: u64,
    /// The same, bytes that the session keeps for the nodes.
    pub nodes: u64,
    /// Its weights.
    pub weights: WeightBytes,
    /// Noise power, units of [`Noise`].
    pub noise: u64,
    /// Answers of the model that are not the plain ones.
    pub departures: u32,
    /// The segment knobs.
    pub rows: Vec<Vec<AnswerFigures>>,
}

/// A unit in one arrangement of the calls.
#[derive(Clone, Debug)]
pub struct UnitFigures {
    /// Is it loaded during the calls of all others too?
    pub kept: bool,
    /// How often a run loads its weights.
    pub loads: u64,
    /// Its variants.
    pub variants: Vec<Alternatives>,
}

/// One arrangement of the calls.
#[derive(Clone, Debug)]
pub struct RoundFigures {
    /// Answers of the pipeline that are not the plain ones.
    pub departures: u32,
    /// Their noise.
    pub noise: u64,
    /// The units.
    pub units: Vec<UnitFigures>,
}

/// A unit's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick<'a> {
    /// Which variant.
    pub variant: usize,
    /// The answer to each of its segment knobs.
    pub answers: &'a [u8],
}

/// A variant with every segment knob answered.
#[derive(Clone, Debug)]
struct Alternative {
    time: u64,
    transient: u64,
    nodes: u64,
    weights: WeightBytes,
    noise: u64,
    departures: u32,
    variant: u32,
    answers: Vec<u8>,
}

/// Everything that the search needs to know.
#[derive(Clone, Debug)]
pub struct Problem {
    machine: Machine,
    rounds: Vec<Round>,
}

/// An arrangement with the alternatives of its units.
#[derive(Clone, Debug)]
struct Round {
    departures: u32,
    noise: u64,
    units: Vec<RoundUnit>,
}

#[derive(Clone, Debug)]
struct RoundUnit {
    kept: bool,
    loads: u64,
    /// Shared by the rounds in which the unit has the same figures.
    alternatives: Arc<Vec<Alternative>>,
}

impl RoundUnit {
    /// An alternative as the sums of the cost model take it.
    fn label(&self, pick: usize, machine: &Machine) -> Label {
        let a = &self.alternatives[pick];
        let footprint = Footprint::of(a.weights, Bytes(a.nodes), Bytes(a.transient), self.kept);
        let load = load_time(a.weights.stored, machine) * self.loads;
        Label {
            time: a.time.saturating_add(load.0),
            sum: footprint.sum.0,
            max: footprint.max.0,
            noise: a.noise,
            departures: a.departures,
            from: 0,
            pick: pick as u32,
        }
    }
}

/// What a plan must keep to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// The largest peak: of a budget, what [`within`](crate::cost::pipeline::within) leaves.
    pub peak: Option<Bytes>,
    /// Most noise.
    pub noise: Option<Noise>,
    /// How much worse than the best the figure of the objective may be for the sake of the others, as a share of it.
    pub tolerance: f64,
    /// When to stop.
    pub deadline: Option<Instant>,
}

impl Limits {
    fn fits(&self, peak: u64) -> bool {
        self.peak.is_none_or(|limit| Bytes(peak) <= limit)
    }

    fn over(&self) -> bool {
        self.deadline.is_some_and(|d| Instant::now() >= d)
    }
}

/// A complete plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Picoseconds.
    pub time: u64,
    /// Bytes of device memory.
    pub peak: u64,
    /// Noise power, units of [`Noise`].
    pub noise: u64,
    /// Answers that are not the plain ones.
    pub departures: u32,
    /// Which arrangement.
    pub round: usize,
    /// The alternative of each unit; [`Problem::pick`] reads it.
    alternatives: Vec<u32>,
}

/// What the search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The chosen plan: within the limits and the tolerance.
    pub best: Option<Plan>,
    /// The plan within the limits with the least figure of the objective.
    pub first: Option<Plan>,
    /// How much better the best could be, as a share of its figure.
    pub gap: f64,
    /// Was everything looked at?
    pub complete: bool,
    /// Plans of which no other is both faster and smaller, smallest first, whatever the memory limit.
    pub front: Vec<Plan>,
    /// The smallest plan, whatever the memory limit.
    pub least: Option<Plan>,
}

impl Problem {
    /// A problem from the figures of each arrangement.
    pub fn new(machine: &Machine, rounds: Vec<RoundFigures>) -> Self {
        let mut known: Vec<(Vec<Alternatives>, Arc<Vec<Alternative>>)> = Vec::new();
        let mut unit = |u: UnitFigures| {
            let found = known.iter().find(|(variants, _)| *variants == u.variants).map(|(_, a)| a.clone());
            let alternatives = found.unwrap_or_else(|| {
                let all = u.variants.par_iter().enumerate().flat_map_iter(|(i, v)| answered(i as u32, v)).collect();
                let made = Arc::new(all);
                known.push((u.variants, Arc::clone(&made)));
                made
            });
            RoundUnit { kept: u.kept, loads: u.loads, alternatives }
        };
        let round =
            |r: RoundFigures| Round { departures: r.departures, noise: r.noise, units: r.units.into_iter().map(&mut unit).collect() };
        Self { machine: machine.clone(), rounds: rounds.into_iter().map(round).collect() }
    }

    /// What a plan chooses for a unit.
    pub fn pick(&self, plan: &Plan, unit: usize) -> Pick<'_> {
        let a = &self.rounds[plan.round].units[unit].alternatives[plan.alternatives[unit] as usize];
        Pick { variant: a.variant as usize, answers: &a.answers }
    }

    /// The units of a round as labels.
    fn labels(&self, round: usize) -> Vec<Vec<Label>> {
        let unit = |u: &RoundUnit| (0..u.alternatives.len()).map(|i| u.label(i, &self.machine)).collect();
        self.rounds[round].units.iter().map(unit).collect()
    }

    /// A partial plan without any unit.
    fn root(&self, round: usize) -> Label {
        let Round { departures, noise, .. } = self.rounds[round];
        Label { time: 0, noise, max: 0, sum: 0, departures, from: 0, pick: 0 }
    }

    /// Bytes of device memory.
    fn peak(&self, sum: u64, max: u64) -> u64 {
        (self.machine.overhead + Bytes(sum) + Bytes(max)).0
    }
}

/// Every answering of a variant's knobs that no other beats in time, transient memory, noise and departures.
fn answered(variant: u32, v: &Alternatives) -> Vec<Alternative> {
    let root = Label { time: v.time, sum: v.nodes, max: v.transient, noise: v.noise, departures: v.departures, from: 0, pick: 0 };
    let mut levels = vec![vec![root]];
    for row in &v.rows {
        let mut next = Vec::new();
        for (from, l) in levels[levels.len() - 1].iter().enumerate() {
            next.extend(row.iter().enumerate().map(|(pick, a)| Label {
                time: l.time.saturating_add(a.time),
                max: l.max.max(a.transient),
                sum: l.sum.saturating_add(a.nodes),
                noise: l.noise.saturating_add(a.noise),
                departures: l.departures + u32::from(a.departs),
                from: from as u32,
                pick: pick as u32,
            }));
        }
        levels.push(pruned(next, true));
    }
    let last = levels.len() - 1;
    let alternative = |(i, l): (usize, &Label)| Alternative {
        time: l.time,
        transient: l.max,
        nodes: l.sum,
        weights: v.weights,
        noise: l.noise,
        departures: l.departures,
        variant,
        answers: picks(&levels, i).into_iter().map(|p| p as u8).collect(),
    };
    levels[last].iter().enumerate().map(alternative).collect()
}

/// A partial plan: figures so far, the label that it extends and the alternative that it adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    time: u64,
    noise: u64,
    max: u64,
    sum: u64,
    departures: u32,
    from: u32,
    pick: u32,
}

/// The alternatives chosen on the way to a label of the last level.
fn picks(levels: &[Vec<Label>], mut at: usize) -> Vec<u32> {
    let mut out = Vec::with_capacity(levels.len() - 1);
    for level in levels[1..].iter().rev() {
        out.push(level[at].pick);
        at = level[at].from as usize;
    }
    out.reverse();
    out
}

/// Labels that no other label beats or equals in every component, in a fixed order. Sorted by time, a label is beaten if one
/// before it has no more of the rest; labels before it are kept as the least maximum for each (sum, noise, departures).
fn pruned(mut labels: Vec<Label>, by_departures: bool) -> Vec<Label> {
    labels.sort_unstable_by_key(|l| (l.time, l.max, l.sum, l.noise, l.departures, l.from, l.pick));
    let mut least: Vec<(u64, u64, u32, u64)> = Vec::new();
    labels.retain(|l| {
        let departures = if by_departures { l.departures } else { 0 };
        if least.iter().any(|(s, n, d, m)| *s <= l.sum && *n <= l.noise && *d <= departures && *m <= l.max) {
            return false;
        }
        least.retain(|(s, n, d, m)| !(*s >= l.sum && *n >= l.noise && *d >= departures && *m >= l.max));
        least.push((l.sum, l.noise, departures, l.max));
        true
    });
    labels
}

/// The least of each component that the units from `i` on add.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    time: u64,
    sum: u64,
    max: u64,
    noise: u64,
}

fn rests(units: &[Vec<Label>]) -> Vec<Rest> {
    let mut out = vec![Rest::default(); units.len() + 1];
    for (i, unit) in units.iter().enumerate().rev() {
        let least = |f: fn(&Label) -> u64| unit.iter().map(f).min().unwrap_or(0);
        let next = out[i + 1];
        out[i] = Rest {
            time: next.time.saturating_add(least(|l| l.time)),
            sum: next.sum.saturating_add(least(|l| l.sum)),
            max: next.max.max(least(|l| l.max)),
            noise: next.noise.saturating_add(least(|l| l.noise)),
        };
    }
    out
}

/// The figures that no completion of a label goes below.
fn optimistic(l: &Label, rest: Rest) -> Label {
    Label {
        time: l.time.saturating_add(rest.time),
        sum: l.sum.saturating_add(rest.sum),
        max: l.max.max(rest.max),
        noise: l.noise.saturating_add(rest.noise),
        ..*l
    }
}

/// More labels than this between two prunings would only cost memory.
const BLOCK: usize = 1 << 20;

/// The search in one round.
struct Fold<'a> {
    root: Label,
    units: &'a [Vec<Label>],
    rests: Vec<Rest>,
    by_departures: bool,
    limits: &'a Limits,
}

impl Fold<'_> {
    /// All levels; those that the deadline left undone are missing.
    fn run(&self, keep: impl Fn(&Label) -> bool) -> Vec<Vec<Label>> {
        let mut levels = vec![vec![self.root]];
        for i in 0..self.units.len() {
            match self.extend(&levels[i], i, &keep) {
                Some(next) => levels.push(next),
                None => break,
            }
        }
        levels
    }

    fn extend(&self, level: &[Label], unit: usize, keep: &impl Fn(&Label) -> bool) -> Option<Vec<Label>> {
        let mut next: Vec<Label> = Vec::new();
        let mut block = BLOCK;
        for (from, l) in level.iter().enumerate() {
            if self.limits.over() {
                return None;
            }
            let extended = self.units[unit].iter().map(|a| Label {
                time: l.time.saturating_add(a.time),
                sum: l.sum.saturating_add(a.sum),
                max: l.max.max(a.max),
                noise: l.noise.saturating_add(a.noise),
                departures: l.departures + a.departures,
                from: from as u32,
                pick: a.pick,
            });
            next.extend(extended.filter(|l| keep(&optimistic(l, self.rests[unit + 1]))));
            if next.len() > block {
                next = pruned(next, self.by_departures);
                block = BLOCK.max(2 * next.len());
            }
        }
        Some(pruned(next, self.by_departures))
    }
}

/// What the first pass over one round gave.
struct Scan {
    plans: Vec<Plan>,
    /// Optimistic figures of what is still open: (time, peak).
    open: Vec<(u64, u64)>,
}

/// Finds the best plan within the limits.
pub fn search(problem: &Problem, objective: Objective, limits: &Limits) -> Found {
    let rounds: Vec<Scan> = (0..problem.rounds.len()).map(|r| scan(problem, r, objective, limits)).collect();
    let complete = rounds.iter().all(|r| r.open.is_empty());
    let plans: Vec<&Plan> = rounds.iter().flat_map(|r| &r.plans).collect();
    let front = efficient(&plans);
    let figure = |time: u64, peak: u64| match objective {
        Objective::Latency | Objective::Throughput => (time, peak),
        Objective::Memory => (peak, time),
    };
    let fitting = front.iter().filter(|p| limits.fits(p.peak));
    let first = fitting.min_by_key(|p| figure(p.time, p.peak)).cloned();
    let open = rounds.iter().flat_map(|r| &r.open).filter(|(_, peak)| limits.fits(*peak)).map(|(t, p)| figure(*t, *p).0).min();
    let gap = first.as_ref().map_or(0.0, |best| gap(figure(best.time, best.peak).0, open));
    let best = if complete { first.as_ref().map(|b| settle(problem, b, objective, limits)) } else { first.clone() };
    Found { best, first, gap, complete, least: front.first().cloned(), front }
}

fn gap(found: u64, open: Option<u64>) -> f64 {
    match open {
        Some(bound) if bound < found => (found - bound) as f64 / found as f64,
        _ => 0.0,
    }
}

/// Plans of which no other is both faster and smaller, smallest first.
fn efficient(plans: &[&Plan]) -> Vec<Plan> {
    let mut sorted: Vec<&Plan> = plans.to_vec();
    sorted.sort_by_key(|p| (p.peak, p.time, p.noise, p.departures, p.round, p.alternatives.clone()));
    let mut out: Vec<Plan> = Vec::new();
    for p in sorted {
        if out.last().is_none_or(|last| p.time < last.time) {
            out.push(p.clone());
        }
    }
    out
}

fn scan(problem: &Problem, round: usize, objective: Objective, limits: &Limits) -> Scan {
    let most_noise = limits.noise.map_or(u64::MAX, |n| n.0);
    let without_noise = |mut l: Label| {
        // Without a floor noise decides nothing yet, and one component less means far fewer labels.
        l.noise = if limits.noise.is_some() { l.noise } else { 0 };
        l
    };
    let units: Vec<Vec<Label>> =
        problem.labels(round).into_iter().map(|unit| pruned(unit.into_iter().map(without_noise).collect(), false)).collect();
    let fold = Fold { root: without_noise(problem.root(round)), rests: rests(&units), units: &units, by_departures: false, limits };
    let levels = fold.run(|l| l.noise <= most_noise);
    if levels.len() > units.len() {
        let last = levels.len() - 1;
        let plans = (0..levels[last].len()).map(|i| plan(problem, round, picks(&levels, i))).collect();
        return Scan { plans, open: Vec::new() };
    }
    let (done, rest) = (levels.len() - 1, fold.rests[levels.len() - 1]);
    let bound = |l: &Label| {
        let o = optimistic(l, rest);
        (o.time, problem.peak(o.sum, o.max))
    };
    let open = levels[done].iter().map(bound).collect();
    Scan { plans: greedy(problem, round, &units, most_noise, objective), open }
}

/// The figures of a plan from its alternatives, in the exact sums of the cost model.
fn plan(problem: &Problem, round: usize, alternatives: Vec<u32>) -> Plan {
    let mut all = problem.root(round);
    for (unit, a) in problem.rounds[round].units.iter().zip(&alternatives) {
        let l = unit.label(*a as usize, &problem.machine);
        all.time = all.time.saturating_add(l.time);
        all.sum = all.sum.saturating_add(l.sum);
        all.max = all.max.max(l.max);
        all.noise = all.noise.saturating_add(l.noise);
        all.departures += l.departures;
    }
    let peak = problem.peak(all.sum, all.max);
    Plan { time: all.time, peak, noise: all.noise, departures: all.departures, round, alternatives }
}

/// What a greedy scan prefers.
type Order = fn(&Label) -> (u64, u64);

/// Complete plans at hand: under each of some caps on the transient memory, the fastest, the smallest and the most exact
/// alternative of each unit.
fn greedy(problem: &Problem, round: usize, units: &[Vec<Label>], most_noise: u64, objective: Objective) -> Vec<Plan> {
    let mut caps: Vec<u64> = units.iter().flatten().map(|l| l.max).collect();
    caps.sort_unstable();
    caps.dedup();
    let stride = caps.len().div_ceil(64).max(1);
    let orders: [Order; 3] = [|l| (l.time, l.sum), |l| (l.sum, l.time), |l| (l.noise, l.time)];
    let smallest = caps.iter().copied().find(|cap| units.iter().all(|u| u.iter().any(|l| l.max <= *cap)));
    let mut plans = Vec::new();
    for cap in caps.into_iter().rev().step_by(stride).chain(smallest) {
        for order in orders {
            let picks: Option<Vec<u32>> =
                units.iter().map(|u| u.iter().filter(|l| l.max <= cap).min_by_key(|l| order(l)).map(|l| l.pick)).collect();
            plans.extend(picks.map(|p| plan(problem, round, p)));
        }
    }
    plans.retain(|p| p.noise <= most_noise);
    debug_assert!(objective != Objective::Memory || smallest.is_some() || units.iter().any(Vec::is_empty));
    plans
}

/// What a plan of the second round may have at most.
#[derive(Clone, Copy, Debug)]
struct Caps {
    time: u64,
    peak: u64,
    noise: u64,
    departures: u32,
}

/// A figure that decides between plans.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Criterion {
    Time,
    Peak,
    Noise,
    Departures,
}

impl Criterion {
    fn of(self, p: &Plan) -> u64 {
        match self {
            Self::Time => p.time,
            Self::Peak => p.peak,
            Self::Noise => p.noise,
            Self::Departures => u64::from(p.departures),
        }
    }

    fn cap(self, caps: &mut Caps, most: u64) {
        match self {
            Self::Time => caps.time = most,
            Self::Peak => caps.peak = most,
            Self::Noise => caps.noise = most,
            Self::Departures => caps.departures = most as u32,
        }
    }
}

/// Among plans within the tolerance of `best` the one with the least noise, then the least memory, then the fewest departures, then
/// the least time. Where memory is the objective, time has the same tolerance before noise is looked at: a plan as small as the
/// smallest is not worth many times its time.
fn settle(problem: &Problem, best: &Plan, objective: Objective, limits: &Limits) -> Plan {
    let mut caps = Caps { time: u64::MAX, peak: u64::MAX, noise: limits.noise.map_or(u64::MAX, |n| n.0), departures: u32::MAX };
    let within = |least: u64| least.saturating_add((least as f64 * limits.tolerance) as u64);
    let order: &[Criterion] = match objective {
        Objective::Latency | Objective::Throughput => {
            caps.time = within(best.time);
            &[Criterion::Noise, Criterion::Peak, Criterion::Departures, Criterion::Time]
        }
        Objective::Memory => {
            caps.peak = within(best.peak);
            &[Criterion::Time, Criterion::Noise, Criterion::Peak, Criterion::Departures, Criterion::Time]
        }
    };
    let mut found = best.clone();
    for (i, figure) in order.iter().enumerate() {
        // Nothing beyond what is at hand is looked at.
        let known = figure.of(&found);
        figure.cap(&mut caps, known);
        let rest = &order[i..];
        found = least(problem, &found, caps, rest, limits);
        let most = if *figure == Criterion::Time && i == 0 { within(found.time) } else { figure.of(&found) };
        figure.cap(&mut caps, most);
    }
    found
}

/// The first by these figures among `known` and the plans that keep to the caps.
fn least(problem: &Problem, known: &Plan, caps: Caps, order: &[Criterion], limits: &Limits) -> Plan {
    // A figure that is looked at later decides nothing yet, and a component less means far fewer labels.
    let by_departures = order[0] == Criterion::Departures || caps.departures != u32::MAX;
    let with_noise = order[0] == Criterion::Noise || caps.noise != u64::MAX;
    let figures = |p: &Plan| order.iter().map(|f| f.of(p)).collect::<Vec<u64>>();
    let mut found = known.clone();
    for round in 0..problem.rounds.len() {
        let counted = |l: Label| Label { noise: if with_noise { l.noise } else { 0 }, ..l };
        let labels = |unit: Vec<Label>| pruned(unit.into_iter().map(counted).collect(), by_departures);
        let units: Vec<Vec<Label>> = problem.labels(round).into_iter().map(labels).collect();
        let fold = Fold { root: counted(problem.root(round)), rests: rests(&units), units: &units, by_departures, limits };
        let levels = fold.run(|l| {
            let peak = problem.peak(l.sum, l.max);
            l.time <= caps.time && l.noise <= caps.noise && l.departures <= caps.departures && peak <= caps.peak && limits.fits(peak)
        });
        if levels.len() > units.len() {
            let last = levels.len() - 1;
            let plans = (0..levels[last].len()).map(|i| plan(problem, round, picks(&levels, i)));
            let key = |p: &Plan| (figures(p), p.round, p.alternatives.clone());
            found = plans.chain(std::iter::once(found)).min_by_key(key).unwrap_or_else(|| known.clone());
        }
    }
    found
}

#[cfg(test)]
#[path = "search_tests.rs"]
pub(super) mod tests;
