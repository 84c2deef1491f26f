//! Times small operator graphs (sites, in one form or another) on ONNX Runtime, with made-up weights and inputs.
//!
//! Forms that are to be compared are timed together: their sessions are alive at the same time and take turns.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, ModelSource};
use super::inputs::{Dims, input_specs, random_inputs};
use super::paired::rotated;
use super::statistics::{median, spread};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Op, OpGraph, text, verify};
use crate::onnx;
use crate::passes::manager::is_bound;
use crate::plan::{Placed, emit};
use crate::runtime::session::{Runtime, Session, SessionOptions};
use crate::runtime::tensor::{Tensor, TensorView, TensorViewMut};
use crate::weights::{ParamSource, WeightExpr, WeightOp, evaluate};

/// How long something took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds of one run: the median of the samples.
    pub seconds: f64,
    /// Half the distance of the samples' quartiles, over the median.
    pub spread: f64,
    /// How many samples.
    pub runs: usize,
}

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Seconds for each of the graphs, after which no further round begins once there are [`Budget::LEAST`] of them.
    pub seconds: f64,
    /// The most rounds.
    pub rounds: usize,
    /// A sample is as many runs as take at least this long, in seconds: clocks and wake-ups of threads cost microseconds.
    pub sample: f64,
}

impl Budget {
    /// The least number of rounds.
    pub const LEAST: usize = 5;
}

impl Default for Budget {
    fn default() -> Self {
        Self { seconds: 0.3, rounds: 31, sample: 2e-3 }
    }
}

/// A graph and the options of its session.
#[derive(Clone, Copy, Debug)]
pub struct TimedGraph<'a> {
    /// A graph whose extents are all known, scheduled and of operators that have an ONNX form.
    pub graph: &'a OpGraph,
    /// How it is run.
    pub options: &'a SessionOptions,
}

/// The graph without what does not change its time: names, and the values of its weights.
///
/// # Errors
/// `weights/expression` cannot be, since the types are those of weights that exist.
pub fn normalised(graph: &OpGraph) -> Result<OpGraph> {
    let mut out = graph.clone();
    out.name = "site".into();
    for (i, id) in graph.nodes().into_iter().enumerate() {
        let node = out.node_mut(id);
        if let Op::Weight(expr) = &node.op
            && !is_exact(expr)
        {
            node.op = Op::Weight(WeightExpr::param("site", &format!("w{i}"), expr.dtype(), expr.shape())?);
        }
    }
    for (i, id) in graph.inputs().iter().enumerate() {
        out.node_mut(*id).name = format!("x{i}");
    }
    for (i, (name, _)) in out.outputs.iter_mut().enumerate() {
        *name = format!("y{i}");
    }
    Ok(out)
}

/// Must the values be these? Shapes, axes and single numbers must; tables of floats are weights, whatever they are made of.
fn is_exact(expr: &WeightExpr) -> bool {
    fn literal(expr: &WeightExpr) -> bool {
        match expr.op() {
            WeightOp::Literal(_) => true,
            _ => !expr.operands().is_empty() && expr.operands().into_iter().all(literal),
        }
    }
    literal(expr) && (!expr.dtype().is_float() || expr.elements() <= 1)
}

/// What decides how long a graph takes: its canonical text without names of weights, inputs and outputs.
///
/// # Errors
/// As [`normalised`].
pub fn signature(graph: &OpGraph) -> Result<String> {
    Ok(text::canonical(&normalised(graph)?))
}

/// Times one graph.
///
/// # Errors
/// `model/unbound` if an extent is open, `pass/not-lowered` if an operator has no ONNX form; those of making and running a session.
pub fn measure_graph(runtime: &Runtime, graph: &OpGraph, options: &SessionOptions, budget: Budget) -> Result<Timing> {
    Ok(measure_graphs(runtime, &[TimedGraph { graph, options }], budget)?[0])
}

/// Times graphs that take turns; the timings are in their order.
///
/// # Errors
/// As [`measure_graph`].
pub fn measure_graphs(runtime: &Runtime, sites: &[TimedGraph<'_>], budget: Budget) -> Result<Vec<Timing>> {
    let models = sites.iter().map(|s| made_up(s)).collect::<Result<Vec<_>>>()?;
    time_models(runtime, &models, budget)
}

/// The graph as a model that holds seeded weights, and its inputs.
///
/// # Errors
/// As [`measure_graph`], sessions aside.
pub(super) fn made_up(site: &TimedGraph<'_>) -> Result<(Candidate, Vec<(String, Tensor)>)> {
    if !is_bound(site.graph) {
        let d = Diagnostic::new("model/unbound", format!("`{}` has symbolic dims, so it cannot be timed", site.graph.name));
        return Err(d.help("bind them with --dim NAME=N").into());
    }
    let graph = normalised(site.graph)?;
    let proto = emit(verify(&graph)?, &crate::onnx::Style::default(), &mut |expr| Ok(Placed::Embedded(values(expr)?)))?;
    let inputs = random_inputs(&input_specs(&proto, &Dims::new())?, SEED)?;
    Ok((Candidate::new("site", ModelSource::Memory(onnx::encode(&proto)?), site.options.clone()), inputs))
}

const SEED: u64 = 1;

fn values(expr: &WeightExpr) -> Result<Vec<u8>> {
    // Tables of integers are indices of something: zero is always one.
    if !is_exact(expr) && !expr.dtype().is_float() {
        return Ok(vec![0; expr.byte_len() as usize]);
    }
    Ok(evaluate(&expr.bind(&ParamSource::Random { seed: SEED })?)?.bytes)
}

struct Running<'a> {
    session: Session,
    inputs: Vec<(&'a str, TensorView<'a>)>,
    outputs: Vec<(String, Tensor)>,
    /// Runs a sample.
    repeat: usize,
    samples: Vec<f64>,
}

impl<'a> Running<'a> {
    fn start(runtime: &Runtime, candidate: &Candidate, inputs: &'a [(String, Tensor)], sample: f64) -> Result<Self> {
        const MOST: f64 = 1e4;
        let mut session = candidate.open(runtime)?;
        let inputs: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
        let names: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
        let made = session.run(&inputs, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut running = Self { session, inputs, outputs: names.into_iter().zip(made).collect(), repeat: 1, samples: vec![] };
        let once = running.sample()?.min(running.sample()?);
        running.repeat = (sample / once.max(1e-9)).ceil().clamp(1.0, MOST) as usize;
        Ok(running)
    }

    /// Seconds a run.
    fn sample(&mut self) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..self.repeat {
            let outputs: Vec<(&str, TensorViewMut<'_>)> = self.outputs.iter_mut().map(|(n, t)| (n.as_str(), t.view_mut())).collect();
            self.session.run_into(&self.inputs, outputs, None)?;
        }
        Ok(start.elapsed().as_secs_f64() / self.repeat as f64)
    }

    fn timing(&self) -> Result<Timing> {
        let nothing = || Diagnostic::new("internal/bug", "a site was measured in no round");
        let seconds = median(&self.samples).ok_or_else(nothing)?.median;
        Ok(Timing { seconds, spread: spread(&self.samples), runs: self.samples.len() })
    }
}

/// Times models that take turns, each on inputs of its own; the timings are in their order.
///
/// # Errors
/// Those of making and running a session.
pub(super) fn time_models(runtime: &Runtime, models: &[(Candidate, Vec<(String, Tensor)>)], budget: Budget) -> Result<Vec<Timing>> {
    let mut running = Vec::new();
    for (candidate, inputs) in models {
        running.push(Running::start(runtime, candidate, inputs, budget.sample)?);
    }
    let begin = Instant::now();
    for round in 0..budget.rounds.max(Budget::LEAST) {
        if round >= Budget::LEAST && begin.elapsed().as_secs_f64() > budget.seconds * models.len() as f64 {
            break;
        }
        for index in rotated(running.len(), round) {
            let sample = running[index].sample()?;
            running[index].samples.push(sample);
        }
    }
    running.iter().map(Running::timing).collect()
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
