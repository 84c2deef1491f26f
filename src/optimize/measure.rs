//! What of a model runs, in which order, how long each kind of kernel takes, how much memory its activations need, and what ONNX Runtime
//! makes of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, ModelSource};
use crate::diag::{Diagnostic, Result};
use crate::onnx;
use crate::onnx::proto::{GraphProto, ModelProto};
use crate::runtime::profile::{NodeRun, profile_nodes};
use crate::runtime::session::{Runtime, Session};
use crate::runtime::tensor::{Tensor, TensorView};
use crate::units::Bytes;

/// One kind of kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// How many ran.
    pub count: usize,
    /// Their time together, in microseconds.
    pub time_us: u64,
}

/// What one run executes; operators that are functions count as the kernels they are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Every kernel in the order in which it began.
    pub nodes: Vec<NodeRun>,
}

impl Executed {
    /// How many kernels ran.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// By operator.
    pub fn by_operator(&self) -> BTreeMap<String, Kernel> {
        let mut found: BTreeMap<String, Kernel> = BTreeMap::new();
        for node in &self.nodes {
            let kernel = found.entry(node.op.clone()).or_default();
            kernel.count += 1;
            kernel.time_us += node.dur_us;
        }
        found
    }

    /// Names of the nodes in the order in which they ran.
    pub fn order(&self) -> Vec<&str> {
        self.nodes.iter().map(|n| n.name.as_str()).collect()
    }
}

/// Runs a candidate twice under the profiler and returns the second run.
///
/// # Errors
/// Those of making and running a session, `runtime/profile`.
pub fn executed(runtime: &Runtime, candidate: &Candidate, inputs: &[(String, Tensor)]) -> Result<Executed> {
    let folder = scratch()?;
    let mut session = candidate.with(|o| o.profile = Some(folder.path().join("profile"))).open(runtime)?;
    run(&mut session, inputs)?;
    run(&mut session, inputs)?;
    let mut nodes = profile_nodes(&session.end_profile()?)?;
    // Both runs have the same inputs and so the same nodes: the second half of the events is the second run.
    let second = nodes.split_off(nodes.len() / 2);
    Ok(Executed { nodes: second })
}

/// A run whose outputs are of no interest.
///
/// # Errors
/// Those of running a session.
pub fn run(session: &mut Session, inputs: &[(String, Tensor)]) -> Result<()> {
    let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
    let outputs: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
    session.run(&views, &outputs.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
}

/// A folder for profiles and models that nobody keeps.
pub(super) fn scratch() -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("vidc-measure-").tempdir().map_err(|e| {
        Diagnostic::new("io/unwritable", format!("cannot make a temporary folder: {e}"))
            .help("set TMPDIR to a folder that can be written")
            .into()
    })
}

/// What a session takes of the memory of runs, counted by what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolBytes {
    /// Kept when the session is ready: weights in the layout of kernels.
    pub kept: Bytes,
    /// The most that a run had in use at once beside that: activations and what kernels work in. None if a device of its own memory runs it.
    pub activations: Option<Bytes>,
}

/// Counts the bytes that a candidate takes, whatever its own allocator. Inputs, and outputs whose shape the model knows, are the
/// caller's and not counted.
///
/// # Errors
/// Those of making and running a session.
pub fn pool_bytes(
    runtime: &Runtime,
    candidate: &Candidate,
    inputs: &[(String, Tensor)],
    outputs: &[super::inputs::TensorSpec],
) -> Result<PoolBytes> {
    let mut session = candidate.with(|o| o.pool = true).open(runtime)?;
    let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
    let mut memory = super::paired::output_memory(outputs)?;
    let mut activations = Bytes(0);
    // The second run is like all later ones: the first also made the memory pattern, if there is one.
    for _ in 0..2 {
        session.run_into(&views, memory.iter_mut().map(|(n, t)| (n.as_str(), t.view_mut())).collect(), None)?;
        activations = activations.max(session.last_run().most);
    }
    Ok(PoolBytes { kept: session.kept(), activations: session.in_host_memory().then_some(activations) })
}

/// How large a model is, as a list of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatistics {
    /// Nodes, those of inner graphs included.
    pub nodes: usize,
    /// The same without constants.
    pub computing: usize,
    /// By operator.
    pub operators: BTreeMap<String, usize>,
}

impl ModelStatistics {
    /// Counts a model; bodies of local functions count once.
    pub fn of(model: &ModelProto) -> Self {
        let mut out = Self::default();
        model.graph.iter().for_each(|g| out.add(g));
        for node in model.functions.iter().flat_map(|f| &f.node) {
            out.add_node(node);
        }
        out.computing = out.nodes - out.operators.get("Constant").copied().unwrap_or(0);
        out
    }

    fn add(&mut self, graph: &GraphProto) {
        graph.node.iter().for_each(|n| self.add_node(n));
    }

    fn add_node(&mut self, node: &crate::onnx::proto::NodeProto) {
        self.nodes += 1;
        *self.operators.entry(node.op_type.clone()).or_default() += 1;
        for attribute in &node.attribute {
            attribute.g.iter().map(AsRef::as_ref).chain(&attribute.graphs).for_each(|g| self.add(g));
        }
    }
}

/// Counts what ONNX Runtime makes of a candidate at its level; nothing for one on a plug-in, which compiles nodes that cannot be saved.
///
/// # Errors
/// Those of making a session and of reading a model.
pub fn optimized(runtime: &Runtime, candidate: &Candidate) -> Result<Option<ModelStatistics>> {
    if candidate.options.compiles() {
        return Ok(None);
    }
    let folder = scratch()?;
    let path = folder.path().join("optimized.onnx");
    let mut saving = candidate.with(|o| o.optimized_model = Some(path.clone()));
    // ONNX Runtime cannot save weights that it was given from outside; the graph is the same.
    if let ModelSource::Mapped { path, .. } = saving.model {
        saving.model = ModelSource::File(path);
    }
    drop(saving.open(runtime)?);
    Ok(Some(ModelStatistics::of(&onnx::read(&path)?)))
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
