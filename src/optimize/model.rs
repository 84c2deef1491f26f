//! One model through the passes.

use serde::Serialize;

use crate::diag::Result;
use crate::hwdb::Machine;
use crate::import::onnx::ImportedModel;
use crate::ir::{NodeId, Op, OpGraph};
use crate::passes::manager::{Debugging, run_passes};
use crate::passes::{Checks, Choices, Compiled, Pass, PassCx, operators};

/// How much of a model may change. Every level computes the same function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing: shapes that are known are written as constants, that is all.
    None,
    /// Constants are folded, common and dead nodes removed.
    Basic,
    /// All passes.
    #[default]
    Full,
}

/// Passes of the level [`Level::Basic`].
const BASIC: [&str; 2] = ["fold-constants", "eliminate"];
/// What a provider cannot run is written out at every level.
const LOWERING: [&str; 2] = ["assign-precision", "select-kernels"];

/// The passes of a level in their order.
pub fn passes(level: Level) -> Vec<Box<dyn Pass>> {
    let wanted = |id: &str| match level {
        Level::None => LOWERING.contains(&id),
        Level::Basic => LOWERING.contains(&id) || BASIC.contains(&id),
        Level::Full => true,
    };
    operators().into_iter().filter(|p| wanted(p.info().id)).collect()
}

/// A model after the passes of a level.
///
/// # Errors
/// What a pass returns.
pub fn optimize(model: &ImportedModel, machine: &Machine, choices: &Choices, level: Level, debugging: &Debugging) -> Result<Compiled> {
    run_passes(&passes(level), &model.graph, &PassCx { machine, choices, debugging }, Checks::Traced)
}

/// The operators that the outputs depend on, in order.
pub fn live(graph: &OpGraph) -> Vec<NodeId> {
    let needed = crate::ir::live::live(graph);
    graph.nodes().into_iter().filter(|id| needed.contains(id) && !matches!(graph.node(*id).op, Op::Input | Op::Weight(_))).collect()
}

/// The graph without what no output depends on; inputs stay.
pub fn live_part(graph: &OpGraph) -> OpGraph {
    let needed = crate::ir::live::live(graph);
    let mut part = graph.clone();
    for id in graph.nodes().into_iter().filter(|id| !needed.contains(id) && graph.node(*id).op != Op::Input) {
        part.remove_node(id);
    }
    part
}
