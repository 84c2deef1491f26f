//! Runs the cases and makes points of what their kernels took.

use super::cases::{Case, cases};
use crate::cost::fit::Point;
use crate::cost::operator::point;
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::op::Unary;
use crate::ir::{DType, Op, OpGraph, TensorType};
use crate::optimize::kernels::{graph_times, run_times};
use crate::optimize::providers::providers;
use crate::optimize::site::{TimedGraph, made_up};
use crate::passes::Choices;
use crate::passes::manager::{Checks, Debugging, compile_graph};
use crate::runtime::session::{Runtime, SessionOptions};

/// A kernel that ran, with where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The case.
    pub case: String,
    /// Its operator.
    pub op: String,
    /// What it did and how long it took.
    pub point: Point,
}

/// Everything that a probe measures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements {
    /// Kernels.
    pub kernels: Vec<Measured>,
    /// From one node to the next, seconds.
    pub dispatch: f64,
}

/// How a probe is run.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Options of its sessions.
    pub options: SessionOptions,
    /// Seconds for all cases together, loading aside.
    pub seconds: f64,
}

/// Measures every case; `progress` hears of each before it runs.
///
/// # Errors
/// Those of passes and sessions.
pub fn measure(runtime: &Runtime, machine: &Machine, effort: &Effort, progress: &mut dyn FnMut(&str)) -> Result<Measurements> {
    let cases = cases()?;
    let each = effort.seconds / (cases.len() + 1) as f64;
    let mut out = Measurements { dispatch: dispatch(runtime, effort, each)?, ..Measurements::default() };
    for case in &cases {
        progress(&case.name);
        out.kernels.extend(measure_case(runtime, machine, case, &effort.options, each)?);
    }
    Ok(out)
}

pub(super) fn measure_case(
    runtime: &Runtime,
    machine: &Machine,
    case: &Case,
    options: &SessionOptions,
    seconds: f64,
) -> Result<Vec<Measured>> {
    let lowered = compile_graph(&case.graph, machine, &Choices::default(), Checks::Traced, &Debugging::default())?.graph;
    let (times, _) = graph_times(runtime, &lowered, options, seconds)?;
    let mut out = Vec::new();
    for (id, seconds) in times {
        if let Some(point) = point(&lowered, id, seconds)? {
            out.push(Measured { case: case.name.clone(), op: lowered.node(id).op.name().to_owned(), point });
        }
    }
    Ok(out)
}

/// A case on a provider that runs it as one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeCase {
    /// The case.
    pub case: String,
    /// What its operators do; their `seconds` are of no meaning.
    pub parts: Vec<Point>,
    /// How many operators it has.
    pub nodes: usize,
    /// Seconds of a run.
    pub run: f64,
    /// Seconds to make the session.
    pub load: f64,
}

/// Measures every case as a whole, for providers that fuse operators and do not tell how long each takes.
///
/// # Errors
/// Those of passes and sessions.
pub fn measure_whole(runtime: &Runtime, machine: &Machine, effort: &Effort, progress: &mut dyn FnMut(&str)) -> Result<Vec<WholeCase>> {
    let cases = cases()?;
    let each = effort.seconds / cases.len() as f64;
    let mut out = Vec::new();
    for case in cases {
        progress(&case.name);
        let lowered = compile_graph(&case.graph, machine, &Choices::default(), Checks::Traced, &Debugging::default())?.graph;
        let options = SessionOptions { providers: providers(&lowered, machine), ..effort.options.clone() };
        let (candidate, inputs) = made_up(&TimedGraph { graph: &lowered, options: &options })?;
        let (run, load) = run_times(runtime, &candidate, &inputs, each)?;
        let nodes: Vec<_> = lowered.nodes().into_iter().filter(|id| !matches!(lowered.node(*id).op, Op::Input | Op::Weight(_))).collect();
        let parts = nodes.iter().map(|id| point(&lowered, *id, 0.0)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        out.push(WholeCase { case: case.name, parts, nodes: nodes.len(), run, load });
    }
    Ok(out)
}

/// A chain of tiny nodes: what a run takes beyond its kernels, a node.
fn dispatch(runtime: &Runtime, effort: &Effort, seconds: f64) -> Result<f64> {
    const NODES: usize = 200;
    let mut times = [0.0; 2];
    for (time, nodes) in times.iter_mut().zip([1, 1 + NODES]) {
        let (_, all) = graph_times(runtime, &chain(nodes)?, &effort.options, seconds / 2.0)?;
        *time = all.run;
    }
    Ok(((times[1] - times[0]) / NODES as f64).max(0.0))
}

fn chain(nodes: usize) -> Result<OpGraph> {
    let mut graph = OpGraph::new("chain");
    let mut x = graph.input("x", TensorType::new(DType::F32, [1]));
    for i in 0..nodes {
        x = graph.add(Op::Unary(Unary::Neg), &[x], format!("neg{i}"), &"probe".into())?;
    }
    graph.output("y", x);
    Ok(graph)
}
