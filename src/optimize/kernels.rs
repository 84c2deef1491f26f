//! How long each kernel of a model takes, by ONNX Runtime's own profile: in the company of the others, with its inputs where the kernel
//! before it left them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::candidate::Candidate;
use super::measure::scratch;
use super::site::{TimedGraph, made_up};
use super::statistics::undisturbed;
use crate::diag::{Diagnostic, Result};
use crate::ir::{NodeId, Op, OpGraph};
use crate::runtime::profile::profile_nodes;
use crate::runtime::session::{Runtime, Session, SessionOptions};
use crate::runtime::tensor::{Tensor, TensorView, TensorViewMut};

/// The profile tells whole microseconds, rounded down; on the average a half is lost.
const LOST_S: f64 = 0.5e-6;
/// The least and the most runs.
const RUNS: (usize, usize) = (7, 200);

/// What a model takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelTimes {
    /// Seconds of each kernel, by the name of its node.
    pub kernels: BTreeMap<String, f64>,
    /// Seconds of a run without a profile: kernels and what is between them.
    pub run: f64,
    /// Seconds to make the session.
    pub load: f64,
}

/// Times the kernels of a model for about `seconds`, half of them under the profiler.
///
/// # Errors
/// Those of making and running a session, `runtime/profile`.
pub fn model_times(runtime: &Runtime, candidate: &Candidate, inputs: &[(String, Tensor)], seconds: f64) -> Result<ModelTimes> {
    let (run, load) = run_times(runtime, candidate, inputs, seconds / 2.0)?;
    let folder = scratch()?;
    let session = candidate.with(|o| o.profile = Some(folder.path().join("profile"))).open(runtime)?;
    let mut profiled = Running::new(session, inputs)?;
    profiled.samples(inputs, seconds / 2.0)?;
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for node in profile_nodes(&profiled.session.end_profile()?)? {
        samples.entry(node.name).or_default().push(node.dur_us as f64 * 1e-6);
    }
    // The first two runs make memory resident and take what the allocator keeps afterwards.
    let of = |all: &Vec<f64>| undisturbed(all.get(2..).unwrap_or(all)) + LOST_S;
    Ok(ModelTimes { kernels: samples.iter().map(|(name, all)| (name.clone(), of(all))).collect(), run, load })
}

/// Seconds of a run, and of making the session.
///
/// # Errors
/// Those of making and running a session.
pub fn run_times(runtime: &Runtime, candidate: &Candidate, inputs: &[(String, Tensor)], seconds: f64) -> Result<(f64, f64)> {
    let begin = Instant::now();
    let session = candidate.open(runtime)?;
    let load = begin.elapsed().as_secs_f64();
    Ok((undisturbed(&Running::new(session, inputs)?.samples(inputs, seconds)?), load))
}

/// Times the kernels of a scheduled graph of provider operators whose sizes are known, with made-up weights and inputs.
///
/// # Errors
/// Those of [`model_times`] and of writing the graph as a model.
pub fn graph_times(runtime: &Runtime, graph: &OpGraph, options: &SessionOptions, seconds: f64) -> Result<(Vec<(NodeId, f64)>, ModelTimes)> {
    let mut named = graph.clone();
    let ids: Vec<NodeId> = graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_))).collect();
    for (i, id) in ids.iter().enumerate() {
        named.node_mut(*id).name = format!("k{i}");
    }
    let (candidate, inputs) = made_up(&TimedGraph { graph: &named, options })?;
    let times = model_times(runtime, &candidate, &inputs, seconds)?;
    // A written node is called `NUMBER:NAME`.
    let by_name: BTreeMap<&str, f64> =
        times.kernels.iter().map(|(name, s)| (name.rsplit_once(':').map_or(name.as_str(), |(_, own)| own), *s)).collect();
    let of = |(i, id): (usize, &NodeId)| Some((*id, *by_name.get(format!("k{i}").as_str())?));
    let kernels: Vec<(NodeId, f64)> = ids.iter().enumerate().filter_map(of).collect();
    if kernels.is_empty() {
        return Err(Diagnostic::new("runtime/profile", format!("the profile of `{}` names none of its nodes", graph.name)).into());
    }
    Ok((kernels, times))
}

struct Running {
    session: Session,
    outputs: Vec<(String, Tensor)>,
}

impl Running {
    /// Runs once, to have memory for outputs.
    fn new(mut session: Session, inputs: &[(String, Tensor)]) -> Result<Self> {
        let names: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
        let made = session.run(&views(inputs), &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self { session, outputs: names.into_iter().zip(made).collect() })
    }

    /// Seconds of each of some runs.
    fn samples(&mut self, inputs: &[(String, Tensor)], seconds: f64) -> Result<Vec<f64>> {
        let (begin, mut out) = (Instant::now(), Vec::new());
        let inputs = views(inputs);
        while out.len() < RUNS.0 || (out.len() < RUNS.1 && begin.elapsed().as_secs_f64() < seconds) {
            let outputs: Vec<(&str, TensorViewMut<'_>)> = self.outputs.iter_mut().map(|(n, t)| (n.as_str(), t.view_mut())).collect();
            out.push(self.session.run_into(&inputs, outputs, None)?.as_secs_f64());
        }
        Ok(out)
    }
}

fn views(inputs: &[(String, Tensor)]) -> Vec<(&str, TensorView<'_>)> {
    inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect()
}
