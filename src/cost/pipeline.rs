//! What a whole pipeline costs once every choice is made: its stages one after the other, and who stays in memory meanwhile.
//!
//! ```text
//! latency        = sum over stages of executions · latency of the model  (+ loads, if weights are loaded stage by stage)
//! peak, all      = overhead + sum over models of weights + max over stages of transient
//! peak, stage    = overhead + max over stages of (weights + transient)
//! transient      = tensors bound by the caller + max over steps of (live buffers + scratch)
//!                  + values of the pipeline that wait meanwhile, where the device works in host memory
//! ```
//! Everything is whole numbers, and [`Memory`] is the one place where the parts are put together; the search uses it too,
//! which is why its figure and that of [`report`] agree to the last digit.
//!
//! Intervals: latency ± its time-weighted mean relative deviation; memory from −8 % to +8 % (`docs/facts/tuning.md` B.2).
//! Budgets are held against the upper end, since running out of memory is the worse error.

use serde::{Deserialize, Serialize};

use super::graph::GraphCost;
use super::latency::{Machine, transfer_time};
use super::quality::Noise;
use crate::hwdb::DeviceKind;
use crate::units::{Bytes, Flop, Time};

/// Margin of the memory model, percent.
const MARGIN: u64 = 8;
/// Rate at which a CPU's weights come from disk into memory, bytes/s: a plain solid-state drive with a cold page cache; a prior.
const DISK: f64 = 2e9;
/// What a process holds on the host beside tensors: the same for every device (code, sessions, staging).
const HOST_OVERHEAD: Bytes = Bytes(100_000_000);

/// Which models are loaded while a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Residency {
    /// Every model, for the whole run.
    All,
    /// The stage's own: loaded before it and unloaded after.
    Stage,
}

impl Residency {
    /// Both, in the order of the knob's domain.
    pub const ALL: [Self; 2] = [Self::All, Self::Stage];

    /// The knob's answer.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Stage => "stage",
        }
    }

    /// The residency of an answer.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// A stage with its compiled model.
#[derive(Clone, Debug)]
pub struct StageCost {
    /// The model that it calls.
    pub model: String,
    /// How often the compiled graph runs.
    pub executions: u64,
    /// Pieces into which a call is cut; the caller's tensors are there for all of them.
    pub pieces: u64,
    /// How often the stage begins, so how often its weights are loaded where they are not kept.
    pub loads: u64,
    /// Noise of the model's element type; counted once a model.
    pub noise: Noise,
    /// One execution.
    pub latency: Time,
    /// See [`GraphCost::deviation`].
    pub deviation: u128,
    /// One execution.
    pub flop: Flop,
    /// The model's weights.
    pub weights: Bytes,
    /// Bound tensors, live buffers and scratch at the worst step.
    pub transient: Bytes,
    /// Values of the pipeline in host memory, the call's own included; none where the device works in host memory, which
    /// `transient` speaks of.
    pub host: Bytes,
}

impl StageCost {
    /// With the values that are alive beside the call's own.
    #[must_use]
    pub fn beside(mut self, values: Bytes, machine: &Machine) -> Self {
        if machine.unified {
            self.transient += values;
            self.host = Bytes(0);
        } else {
            self.host += values;
        }
        self
    }

    /// A stage from its compiled model.
    pub fn new(model: impl Into<String>, [executions, pieces, loads]: [u64; 3], noise: Noise, cost: &GraphCost) -> Self {
        Self {
            model: model.into(),
            executions,
            pieces,
            loads,
            noise,
            latency: cost.total.time,
            deviation: cost.deviation,
            flop: cost.flop,
            weights: cost.weights,
            transient: cost.bound * pieces + cost.total.transient,
            host: cost.bound * pieces,
        }
    }
}

/// How the memory of models and stages adds up under a residency.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// The device.
    pub machine: &'a Machine,
    /// Which models are loaded.
    pub residency: Residency,
}

impl Memory<'_> {
    /// What a model adds to the sum and to the maximum of [`Memory::peak`]: its weights, and the transient of its worst stage.
    pub fn parts(&self, weights: Bytes, transient: Bytes) -> (Bytes, Bytes) {
        match self.residency {
            Residency::All => (weights, transient),
            Residency::Stage => (Bytes(0), weights + transient),
        }
    }

    /// Device memory at the worst moment.
    pub fn peak(&self, sum: Bytes, max: Bytes) -> Bytes {
        self.machine.overhead + sum + max
    }

    /// Host memory at the worst moment: where the device works in host memory, the same; else pinned copies of all weights
    /// if they are loaded stage by stage, and of one model while it is copied if not.
    pub fn host(&self, weights: Bytes, largest: Bytes, peak: Bytes) -> Bytes {
        match self.residency {
            _ if self.machine.unified => peak,
            Residency::All => HOST_OVERHEAD + largest,
            Residency::Stage => HOST_OVERHEAD + weights,
        }
    }

    /// Time to load weights `loads` times during the run.
    pub fn load_time(&self, weights: Bytes, loads: u64) -> Time {
        match self.residency {
            Residency::All => Time(0),
            Residency::Stage if self.machine.kind == DeviceKind::Gpu && self.machine.link.is_some() => {
                transfer_time(weights, true, self.machine) * loads
            }
            Residency::Stage => Time::from_secs(weights.0 as f64 / DISK) * loads,
        }
    }
}

/// The upper end of a predicted amount of memory: what budgets are held against.
pub fn upper(bytes: Bytes) -> Bytes {
    Bytes(bytes.0.saturating_add((u128::from(bytes.0) * u128::from(MARGIN)).div_ceil(100) as u64))
}

/// The lower end of a predicted amount of memory.
pub fn lower(bytes: Bytes) -> Bytes {
    Bytes(bytes.0 - (u128::from(bytes.0) * u128::from(MARGIN) / 100) as u64)
}

/// Where a quality figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// The same function as the reference.
    Exact,
    /// From estimated noise of element types.
    Estimated,
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
    /// Host memory at the worst moment, bytes; the device's where both share one memory.
    pub host_bytes: u64,
    /// Lower end.
    pub host_bytes_lo: u64,
    /// Upper end.
    pub host_bytes_hi: u64,
    /// Does `quality_db` say something measured?
    pub quality: Quality,
    /// Decibels PSNR of frames against the reference; absent if every choice is exact.
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

/// A model over all of its stages: they share its weights.
#[derive(Default)]
struct OfModel<'a> {
    name: &'a str,
    weights: Bytes,
    transient: Bytes,
    noise: Noise,
}

fn models(stages: &[StageCost]) -> Vec<OfModel<'_>> {
    let mut out: Vec<OfModel<'_>> = Vec::new();
    for s in stages {
        let at = out.iter().position(|m| m.name == s.model).unwrap_or_else(|| {
            out.push(OfModel { name: &s.model, ..OfModel::default() });
            out.len() - 1
        });
        let m = &mut out[at];
        m.weights = m.weights.max(s.weights);
        m.transient = m.transient.max(s.transient);
        m.noise = m.noise.max(s.noise);
    }
    out
}

/// The predicted figures of a pipeline whose choices are all made.
pub fn report(stages: &[StageCost], residency: Residency, machine: &Machine) -> Predicted {
    let memory = Memory { machine, residency };
    let models = models(stages);
    let (mut sum, mut max) = (Bytes(0), Bytes(0));
    for m in &models {
        let (s, x) = memory.parts(m.weights, m.transient);
        sum += s;
        max = max.max(x);
    }
    let peak = memory.peak(sum, max);
    let largest = models.iter().map(|m| m.weights).max().unwrap_or_default();
    let waiting = if machine.unified { Bytes(0) } else { stages.iter().map(|s| s.host).max().unwrap_or_default() };
    let host = memory.host(models.iter().map(|m| m.weights).sum(), largest, peak) + waiting;
    let weights = |s: &StageCost| models.iter().find(|m| m.name == s.model).map_or(s.weights, |m| m.weights);
    let time = |s: &StageCost| s.latency * s.executions + memory.load_time(weights(s), s.loads);
    let latency: Time = stages.iter().map(time).sum();
    let sigma = relative_deviation(stages, latency);
    let noise: Noise = models.iter().map(|m| m.noise).sum();
    Predicted {
        latency_s: latency.secs(),
        latency_s_lo: latency.secs() * (1.0 - sigma).max(0.0),
        latency_s_hi: latency.secs() * (1.0 + sigma),
        latency_ps: latency.0,
        peak_bytes: peak.0,
        peak_bytes_lo: lower(peak).0,
        peak_bytes_hi: upper(peak).0,
        host_bytes: host.0,
        host_bytes_lo: lower(host).0,
        host_bytes_hi: upper(host).0,
        quality: if noise.0 == 0 { Quality::Exact } else { Quality::Estimated },
        quality_db: noise.db(),
        stages: stages
            .iter()
            .map(|s| PredictedStage {
                model: s.model.clone(),
                executions: s.executions,
                latency_s: time(s).secs(),
                weight_bytes: s.weights.0,
                transient_bytes: s.transient.0,
                flop: (s.flop * s.executions).0,
            })
            .collect(),
    }
}

/// Deviations of operators of one kind are not independent, so their shares add up.
fn relative_deviation(stages: &[StageCost], latency: Time) -> f64 {
    let sum: u128 = stages.iter().map(|s| s.deviation.saturating_mul(u128::from(s.executions))).fold(0, u128::saturating_add);
    if latency.0 == 0 { 0.0 } else { sum as f64 * 1e-6 / latency.0 as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwdb;
    use crate::hwdb::Precision;

    fn stage(model: &str, executions: u64, weights: u64, transient: u64) -> StageCost {
        let noise = Noise::of(Precision::F16);
        let (latency, weights, transient) = (Time(1_000_000), Bytes(weights), Bytes(transient));
        StageCost {
            model: model.into(),
            executions,
            pieces: 1,
            loads: 1,
            noise,
            latency,
            deviation: 0,
            flop: Flop(7),
            weights,
            transient,
            host: Bytes(30),
        }
    }

    #[test]
    fn residency_decides_which_weights_count() {
        let machine = hwdb::machine("rtx3090").unwrap();
        let stages = [stage("a", 1, 1000, 50), stage("b", 25, 3000, 400), stage("a", 1, 1000, 700)];
        let all = report(&stages, Residency::All, &machine);
        assert_eq!(all.peak_bytes, machine.overhead.0 + 4000 + 700);
        assert_eq!(all.latency_ps, 27_000_000);
        let one = report(&stages, Residency::Stage, &machine);
        assert_eq!(one.peak_bytes, machine.overhead.0 + 3400);
        let loads: Time = [1000, 3000, 1000].into_iter().map(|w| transfer_time(Bytes(w), true, &machine)).sum();
        assert_eq!(one.latency(), all.latency() + loads);
        assert_eq!(one.host_bytes, HOST_OVERHEAD.0 + 4000 + 30);
        // Two models, each with the noise of its type once.
        assert!((all.quality_db.unwrap() - (66.0 - 10.0 * 2f64.log10())).abs() < 1e-6);
    }

    #[test]
    fn on_a_cpu_host_and_device_are_one() {
        let machine = hwdb::machine("x86-cpu-2core").unwrap();
        let r = report(&[stage("a", 2, 4_000_000_000, 10)], Residency::Stage, &machine);
        assert_eq!(r.host_bytes, r.peak_bytes);
        assert_eq!(r.latency(), Time(2_000_000) + Time::from_secs(2.0));
    }

    #[test]
    fn ends_enclose_the_figure_and_grow_with_it() {
        for b in [0, 1, 99, 100, 12_345_678_901, u64::MAX] {
            assert!(lower(Bytes(b)).0 <= b && upper(Bytes(b)).0 >= b);
        }
        assert_eq!(upper(Bytes(100)), Bytes(108));
        assert!(upper(Bytes(101)) >= upper(Bytes(100)));
    }
}
