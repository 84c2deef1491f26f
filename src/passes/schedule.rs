//! `schedule`: fixes the total order in which the nodes run.
//!
//! The order is the one that the nodes carry: the architecture's own, which runs depth first through each block, with every
//! expansion in the place of its site. This pass checks that nothing raised is left and that every tensor has a size (that nothing
//! stands before its producer is what `ir::verify` checks); the memory planner and the writer rely on it.

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter};
use crate::diag::{Diagnostic, Result};
use crate::ir::schedule::unsized_tensor;
use crate::ir::{NodeId, Op, Outlet};

pub(super) struct Schedule;

static INFO: PassInfo = PassInfo {
    id: "schedule",
    summary: "fix the order in which the nodes run",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Bound, Property::Typed, Property::Lowered, Property::Flat],
    establishes: &[Property::Scheduled],
    example: "
before:
model m(x: f32[2]) -> y: f32[2] = %0
  %0 = Exp(%x) : f32[2]
after:
model m(x: f32[2]) -> y: f32[2] = %0
  %0 = Exp(%x) : f32[2]
",
};

impl Pass for Schedule {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        let graph = rw.graph();
        let left = graph.nodes().into_iter().find(|id| graph.node(*id).op.is_raised() || matches!(graph.node(*id).op, Op::ForChunks(_)));
        if let Some(id) = left {
            let node = graph.node(id);
            return Err(Box::new(Diagnostic::new(
                "pass/not-lowered",
                format!("`{}` is still {}, which no provider runs", node.name, node.op.name()),
            )));
        }
        let outlets = |id: NodeId| (0..graph.node(id).outs.len() as u16).map(move |slot| Outlet { node: id, slot });
        let open = graph.nodes().into_iter().flat_map(outlets).find(|o| graph.ty(*o).bytes().is_none());
        open.map_or(Ok(()), |o| Err(Box::new(unsized_tensor(graph, o))))
    }
}
