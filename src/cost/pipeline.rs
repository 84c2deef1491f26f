//! What a whole pipeline costs once every choice is made: read off the lowered program, call by call.
//!
//! ```text
//! latency   = sum over calls of executions · latency of the session  +  loads in the run · time of a load
//! peak      = overhead + max over calls of (what the sessions loaded meanwhile keep + transient)
//! keep      = weights + their copies in the layout of kernels + a share for each node
//! transient = tensors bound by the caller + max over steps of (live buffers + scratch)
//!             + values of the pipeline that wait meanwhile, where the device works in host memory
//! ```
//! A call in an arm of a branch counts as if its arm were always taken: the figure is the most that a run takes, exact where one arm
//! calls models at most; the lower end of the interval counts no call that need not be made.
//!
//! A session that nothing unloads is loaded once and stays for further runs: no run pays for it. Everything is whole numbers, so
//! that the search, which adds the same parts in another order ([`Footprint`]), gives the same figure as [`report`], to the last digit.
//!
//! Intervals: latency ± its time-weighted mean relative deviation; memory as the provider's row says, which is measured on the CPU.
//! Budgets are held against the upper end, since running out of memory is the worse error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::graph::{GraphFigures, WeightBytes};
use super::latency::{Machine, transfer_time};
use super::quality::Quality;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::DeviceKind;
use crate::ir::OpGraph;
use crate::ir::pipeline::{Moment, Pipeline, Walk};
use crate::units::{Bytes, Time};

/// Rate at which a CPU's weights come from disk into memory, bytes/s: a plain solid-state drive with a cold page cache; a prior.
const DISK: f64 = 2e9;
/// What a process holds on the host beside tensors: the same for every device (code, sessions, staging).
const HOST_OVERHEAD: Bytes = Bytes(100_000_000);

/// What an amount of weights and a call need while they are in memory: the parts of which a peak is made.
///
/// A session that stays loaded during every call adds its weights to a sum that all calls share; one that is there for its own calls
/// alone adds them to what its own worst call needs, and the largest of those counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Adds to the sum over units.
    pub sum: Bytes,
    /// Adds to the maximum over units.
    pub max: Bytes,
}

impl Footprint {
    /// The footprint of a session with what it keeps for nodes and the transient of its worst call; `kept`: loaded during the calls of all
    /// others too.
    pub fn of(weights: WeightBytes, nodes: Bytes, transient: Bytes, kept: bool) -> Self {
        let (resident, most) = (weights.resident() + nodes, transient.max(weights.spared));
        if kept { Self { sum: resident, max: most } } else { Self { sum: Bytes(0), max: resident + most } }
    }
}

/// Time to load weights once.
pub fn load_time(weights: Bytes, machine: &Machine) -> Time {
    if machine.kind == DeviceKind::Gpu && machine.link.is_some() {
        transfer_time(weights, true, machine)
    } else {
        Time::from_secs(weights.0 as f64 / DISK)
    }
}

/// What one call needs beside weights: (on the device, on the host). `pieces`: into how many it is cut; the caller's tensors are there
/// for all of them. `beside`: values of the pipeline that wait meanwhile.
pub fn transient(graph: &GraphFigures, pieces: u64, beside: Bytes, machine: &Machine) -> (Bytes, Bytes) {
    let bound = graph.bound * pieces;
    let device = bound + graph.total.transient;
    if machine.unified { (device + beside, Bytes(0)) } else { (device, bound + beside) }
}

/// The upper end of a predicted amount of memory: what budgets are held against.
pub fn upper(bytes: Bytes, machine: &Machine) -> Bytes {
    Bytes(bytes.0.saturating_add(percent(bytes, machine.target.figures.memory_error.above)))
}

/// The lower end of a predicted amount of memory.
pub fn lower(bytes: Bytes, machine: &Machine) -> Bytes {
    Bytes(bytes.0.saturating_sub(percent(bytes, machine.target.figures.memory_error.below)))
}

/// The largest predicted amount whose upper end keeps to a budget.
pub fn within(budget: Bytes, machine: &Machine) -> Bytes {
    Bytes((u128::from(budget.0) * 100 / u128::from(100 + machine.target.figures.memory_error.above)) as u64)
}

fn percent(bytes: Bytes, share: u64) -> u64 {
    (u128::from(bytes.0) * u128::from(share)).div_ceil(100) as u64
}

/// Where a quality figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QualityFrom {
    /// The same function as the reference.
    Exact,
    /// From the noise of the answers, figures of others or measured ones.
    Estimated,
    /// There is no figure: an answer was taken of which nobody knows what it costs.
    Unmeasured,
}

impl From<Quality> for QualityFrom {
    fn from(quality: Quality) -> Self {
        match quality {
            Quality::Exact => Self::Exact,
            Quality::Estimated(_) => Self::Estimated,
            Quality::Unmeasured => Self::Unmeasured,
        }
    }
}

/// One stage of a [`Predicted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictedStage {
    /// The model that it calls.
    pub model: String,
    /// How often the compiled graph runs.
    pub executions: u64,
    /// All executions and loads, seconds.
    pub latency_s: f64,
    /// Weights on the device, bytes.
    pub weight_bytes: u64,
    /// Bound tensors, live buffers and scratch at the worst step, bytes.
    pub transient_bytes: u64,
    /// All executions, floating-point operations.
    pub flop: u64,
}

/// What a peak of memory consists of, bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeakParts {
    /// The session that is called then, or loaded.
    pub during: String,
    /// Program, libraries, the driver's context.
    pub process: Bytes,
    /// Weights of the sessions loaded then, as they are stored.
    pub weights: Bytes,
    /// Their copies in the layout of kernels.
    pub packed: Bytes,
    /// What the sessions keep for their nodes.
    pub nodes: Bytes,
    /// Inputs and outputs of the call.
    pub bound: Bytes,
    /// Other values of the pipeline that wait meanwhile.
    pub beside: Bytes,
    /// Tensors inside of the session at its worst step.
    pub activations: Bytes,
    /// What the kernel of that step works in.
    pub scratch: Bytes,
}

impl PeakParts {
    /// All of it.
    pub fn sum(&self) -> Bytes {
        self.process + self.weights + self.packed + self.nodes + self.bound + self.beside + self.activations + self.scratch
    }
}

/// The predicted figures of a pipeline; field names are those of vidc's JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// Seconds.
    pub latency_s: f64,
    /// One standard deviation less.
    pub latency_s_lo: f64,
    /// One standard deviation more.
    pub latency_s_hi: f64,
    /// The same in whole picoseconds: the figure that the certificate speaks of.
    pub latency_ps: u64,
    /// Device memory at the worst moment, bytes.
    pub peak_bytes: u64,
    /// Lower end.
    pub peak_bytes_lo: u64,
    /// Upper end, which budgets are held against.
    pub peak_bytes_hi: u64,
    /// What no order of the operators could go below, bytes.
    #[serde(default)]
    pub peak_bytes_least: u64,
    /// What it consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_parts: Option<PeakParts>,
    /// Host memory at the worst moment, bytes; the device's where both share one memory.
    pub host_bytes: u64,
    /// Lower end.
    pub host_bytes_lo: u64,
    /// Upper end.
    pub host_bytes_hi: u64,
    /// Does `quality_db` say something measured?
    pub quality: QualityFrom,
    /// Decibels PSNR of frames against the reference; absent if every choice is exact, or if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_db: Option<f64>,
    /// The stages in order.
    pub stages: Vec<PredictedStage>,
}

impl Predicted {
    /// The latency as the search counts it.
    pub fn latency(&self) -> Time {
        Time(self.latency_ps)
    }

    /// Device memory as the search counts it.
    pub fn peak(&self) -> Bytes {
        Bytes(self.peak_bytes)
    }
}

/// Time to make sessions ready for the first time, seconds: kernels are chosen and engines built, which later starts read from files.
pub fn first_start<'a>(graphs: impl Iterator<Item = &'a OpGraph>, machine: &Machine) -> Time {
    let nodes = |g: &OpGraph| g.nodes().into_iter().filter(|id| g.node(*id).op.onnx_type().is_some()).count() as f64;
    Time::from_secs(graphs.map(nodes).sum::<f64>() * machine.target.figures.compile_s_per_node)
}

/// The predicted figures of a lowered pipeline. `sessions` gives the cost of one execution of each session.
///
/// # Errors
/// `internal/bug` if a session that the pipeline calls has no cost.
pub fn report(
    pipeline: &Pipeline,
    sessions: &dyn Fn(&str) -> Option<GraphFigures>,
    quality: Quality,
    machine: &Machine,
) -> Result<Predicted> {
    let walk = pipeline.walk();
    let figures =
        |name: &str| sessions(name).ok_or_else(|| Box::new(Diagnostic::new("internal/bug", format!("the session `{name}` has no cost"))));
    let all: BTreeMap<&str, GraphFigures> =
        walk.moments.iter().map(|m| Ok((m.placement.session.as_str(), figures(&m.placement.session)?))).collect::<Result<_>>()?;
    let stages: Vec<Stage<'_>> = walk.moments.iter().map(|m| stage(m, &all[m.placement.session.as_str()], &walk, machine)).collect();
    let least = |m: &Moment<'_>, s: &Stage<'_>| {
        let comes_and_goes = s.device - s.figures.total.transient + s.figures.widest;
        kept(m, &all, machine).sum() + comes_and_goes.max(s.figures.weights.spared)
    };
    let peak_least = walk.moments.iter().zip(&stages).map(|(m, s)| least(m, s)).max().unwrap_or_default();
    let parts = walk.moments.iter().zip(&stages).map(|(m, s)| parts(m, s, &all, machine)).max_by_key(PeakParts::sum);
    let peak = parts.as_ref().map_or(machine.overhead, PeakParts::sum);
    let host = if machine.unified {
        peak
    } else {
        let staged: Bytes = all.iter().filter(|(name, _)| walk.unloaded.contains(*name)).map(|(_, f)| f.weights.stored).sum();
        let kept = all.iter().filter(|(name, _)| !walk.unloaded.contains(*name)).map(|(_, f)| f.weights.stored).max().unwrap_or_default();
        // Pinned copies of what is loaded again and again, one session while it is copied of the others.
        HOST_OVERHEAD + staged + kept + stages.iter().map(|s| s.host).max().unwrap_or_default()
    };
    let latency: Time = stages.iter().map(|s| s.time).sum();
    let least: Time = stages.iter().map(|s| s.least).sum();
    let sigma = relative_deviation(&stages, latency);
    Ok(Predicted {
        latency_s: latency.secs(),
        latency_s_lo: least.secs() * (1.0 - sigma).max(0.0),
        latency_s_hi: latency.secs() * (1.0 + sigma),
        latency_ps: latency.0,
        peak_bytes: peak.0,
        peak_bytes_lo: lower(peak, machine).0,
        peak_bytes_hi: upper(peak, machine).0,
        peak_bytes_least: peak_least.0,
        peak_parts: parts,
        host_bytes: host.0,
        host_bytes_lo: lower(host, machine).0,
        host_bytes_hi: upper(host, machine).0,
        quality: quality.into(),
        quality_db: quality.db(),
        stages: stages.iter().map(Stage::predicted).collect(),
    })
}

/// A call with its figures.
struct Stage<'p> {
    session: &'p str,
    figures: GraphFigures,
    executions: u64,
    time: Time,
    /// The same if no branch is taken that need not be.
    least: Time,
    device: Bytes,
    host: Bytes,
}

fn stage<'p>(m: &Moment<'p>, figures: &GraphFigures, walk: &Walk<'_>, machine: &Machine) -> Stage<'p> {
    let session = m.placement.session.as_str();
    let pieces = m.placement.pieces.max(1) as u64;
    let loads = if walk.unloaded.contains(session) { m.loads } else { 0 };
    let (device, host) = transient(figures, pieces, Bytes(m.beside), machine);
    let least_loads = if walk.unloaded.contains(session) { m.least_loads } else { 0 };
    let load = load_time(figures.weights.stored, machine);
    let executions = m.times * pieces;
    let time = figures.total.time * executions + load * loads;
    let least = figures.total.time * (m.least * pieces) + load * least_loads;
    Stage { session, figures: *figures, executions, time, least, device, host }
}

impl Stage<'_> {
    fn predicted(&self) -> PredictedStage {
        PredictedStage {
            model: self.session.into(),
            executions: self.executions,
            latency_s: self.time.secs(),
            weight_bytes: self.figures.weights.stored.0,
            transient_bytes: self.device.0,
            flop: (self.figures.flop * self.executions).0,
        }
    }
}

/// What is in memory at the worst moment of a call. Loading the session counts as one: what it reads and then spares is there before
/// anything that comes and goes is.
fn parts(m: &Moment<'_>, stage: &Stage<'_>, all: &BTreeMap<&str, GraphFigures>, machine: &Machine) -> PeakParts {
    let f = &stage.figures;
    let running = transient_parts(m, all, machine, (f.total.transient - f.scratch, f.scratch));
    let mut loading = kept(m, all, machine);
    loading.weights += f.weights.spared;
    loading.during = format!("loading {}", stage.session);
    running.filter(|r| r.sum() >= loading.sum()).unwrap_or(loading)
}

/// What is in memory during a call while its session has so much of (activations, scratch); none if the session has no figures.
pub fn transient_parts(
    m: &Moment<'_>,
    all: &BTreeMap<&str, GraphFigures>,
    machine: &Machine,
    (activations, scratch): (Bytes, Bytes),
) -> Option<PeakParts> {
    let f = all.get(m.placement.session.as_str())?;
    let bound = f.bound * m.placement.pieces.max(1) as u64;
    let beside = if machine.unified { Bytes(m.beside) } else { Bytes(0) };
    Some(PeakParts { bound, beside, activations, scratch, ..kept(m, all, machine) })
}

/// What stays in memory all through a call.
fn kept(m: &Moment<'_>, all: &BTreeMap<&str, GraphFigures>, machine: &Machine) -> PeakParts {
    let loaded = || m.loaded.iter().filter_map(|s| all.get::<str>(s));
    let none = Bytes(0);
    PeakParts {
        during: m.placement.session.clone(),
        process: machine.overhead,
        weights: loaded().map(|f| f.weights.stored - f.weights.spared).sum(),
        packed: loaded().map(|f| f.weights.packed).sum(),
        nodes: loaded().map(|f| f.total.nodes).sum(),
        bound: none,
        beside: none,
        activations: none,
        scratch: none,
    }
}

/// Deviations of operators of one kind are not independent, so their shares add up.
fn relative_deviation(stages: &[Stage<'_>], latency: Time) -> f64 {
    let sum: u128 = stages.iter().map(|s| s.figures.deviation.saturating_mul(u128::from(s.executions))).fold(0, u128::saturating_add);
    if latency.0 == 0 { 0.0 } else { sum as f64 * 1e-6 / latency.0 as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::graph::Figures;
    use crate::cost::quality::Noise;
    use crate::hwdb;
    use crate::ir::pipeline::{Branch, Call, Loop, PipeGraph, PipeNode, PipeOp, Placement};
    use crate::units::Flop;

    fn call(session: &str) -> PipeOp {
        let placement = Some(Placement { session: session.into(), pieces: 1, device: "d".into() });
        PipeOp::Call(Call { model: session.into(), ports: Vec::new(), outputs: Vec::new(), placement })
    }

    fn load(session: &str) -> PipeOp {
        PipeOp::Load(session.into())
    }

    fn unload(session: &str) -> PipeOp {
        PipeOp::Unload(session.into())
    }

    /// Nodes in this order.
    fn graph(ops: Vec<PipeOp>) -> PipeGraph {
        let node = |op| PipeNode { name: String::new(), op, outputs: Vec::new(), span: None };
        let mut graph = PipeGraph::default();
        let order = ops.into_iter().map(|op| graph.add(node(op), &[])).collect();
        graph.fix_order(order);
        graph
    }

    fn pipeline(ops: Vec<PipeOp>) -> Pipeline {
        let mut p = crate::ir::pipeline::tests::resolved(&[]);
        p.graph = graph(ops);
        p
    }

    fn looped(steps: i64, body: Vec<PipeOp>) -> PipeOp {
        let body = graph(body);
        PipeOp::Loop(Box::new(Loop { steps, carry: Vec::new(), each: Vec::new(), captures: Vec::new(), body }))
    }

    /// A lowered pipeline in which a model is called, another 25 times in a loop, then the first again; `stage`: each is loaded for its
    /// stays alone.
    fn turns(stage: bool) -> Pipeline {
        let body = looped(25, vec![call("b")]);
        let ops = if stage {
            vec![load("a"), call("a"), unload("a"), load("b"), body, unload("b"), load("a"), call("a"), unload("a")]
        } else {
            vec![load("a"), load("b"), call("a"), body, call("a")]
        };
        pipeline(ops)
    }

    fn figures(weights: u64, transient: u64) -> GraphFigures {
        GraphFigures {
            total: Figures { time: Time(1_000_000), transient: Bytes(transient), nodes: Bytes(0) },
            deviation: 0,
            flop: Flop(7),
            weights: WeightBytes { stored: Bytes(weights), ..WeightBytes::default() },
            bound: Bytes(30),
            scratch: Bytes(0),
            widest: Bytes(transient),
        }
    }

    fn reported(p: &Pipeline, machine: &Machine) -> Predicted {
        let cost = |s: &str| Some(if s == "a" { figures(1000, 700) } else { figures(3000, 400) });
        report(p, &cost, Quality::Estimated(Noise(1)), machine).unwrap()
    }

    /// In a loop of ten steps a branch calls `b` or nothing: the figure counts every step, the lower end none of them.
    #[test]
    fn a_branch_costs_an_interval() {
        let machine = hwdb::machine("rtx3090").unwrap();
        let branch = |then: Vec<PipeOp>| {
            let (then, otherwise) = (graph(then), graph(Vec::new()));
            PipeOp::Branch(Box::new(Branch { below: 0.1, gives: Vec::new(), then, otherwise }))
        };
        let kept = pipeline(vec![load("a"), load("b"), call("a"), looped(10, vec![branch(vec![call("b")])])]);
        let r = reported(&kept, &machine);
        assert_eq!(r.latency_ps, 11_000_000);
        assert!((r.latency_s_lo - 1e-6).abs() < 1e-12 && (r.latency_s_hi - 11e-6).abs() < 1e-12, "{r:?}");
        assert_eq!(r.peak_bytes, machine.overhead.0 + 4000 + 700 + 30);
        // A load in an arm is paid at most as often as the arm is taken.
        let staged = pipeline(vec![load("a"), call("a"), unload("a"), looped(10, vec![branch(vec![load("b"), call("b"), unload("b")])])]);
        let s = reported(&staged, &machine);
        let load = |w| transfer_time(Bytes(w), true, &machine);
        assert_eq!(s.latency(), Time(11_000_000) + load(1000) + load(3000) * 10);
        assert!((s.latency_s_lo - (Time(1_000_000) + load(1000)).secs()).abs() < 1e-12, "{s:?}");
        assert_eq!(s.peak_bytes, machine.overhead.0 + 3000 + 400 + 30);
    }

    #[test]
    fn what_is_loaded_decides_which_weights_count() {
        let machine = hwdb::machine("rtx3090").unwrap();
        let all = reported(&turns(false), &machine);
        assert_eq!(all.peak_bytes, machine.overhead.0 + 4000 + 700 + 30);
        assert_eq!(all.latency_ps, 27_000_000);
        let one = reported(&turns(true), &machine);
        assert_eq!(one.peak_bytes, machine.overhead.0 + 3000 + 400 + 30);
        let loads: Time = [1000, 3000, 1000].into_iter().map(|w| transfer_time(Bytes(w), true, &machine)).sum();
        assert_eq!(one.latency(), all.latency() + loads);
        assert_eq!(one.host_bytes, HOST_OVERHEAD.0 + 4000 + 30);
        assert_eq!(all.host_bytes, HOST_OVERHEAD.0 + 3000 + 30);
    }

    #[test]
    fn on_a_cpu_host_and_device_are_one() {
        let machine = hwdb::machine("x86-cpu-2core").unwrap();
        let r = reported(&turns(true), &machine);
        assert_eq!(r.host_bytes, r.peak_bytes);
        assert_eq!(r.latency(), Time(27_000_000) + Time::from_secs(5000.0 / DISK));
    }

    #[test]
    fn ends_enclose_the_figure_and_grow_with_it() {
        let machine = hwdb::machine("rtx3090").unwrap();
        for b in [0, 1, 99, 100, 12_345_678_901, u64::MAX] {
            assert!(lower(Bytes(b), &machine).0 <= b && upper(Bytes(b), &machine).0 >= b);
            let most = within(Bytes(b), &machine);
            assert!(upper(most, &machine).0 <= b && (b == u64::MAX || upper(most + Bytes(1), &machine).0 > b), "{b}");
        }
        assert_eq!(upper(Bytes(100), &machine), Bytes(108));
        assert!(upper(Bytes(101), &machine) >= upper(Bytes(100), &machine));
    }
}
