//! Runs of operators that act on each image alone: convolutions, norms and elementwise operators on `[batch·frames, c, h, w]`.

use super::region::{Member, Region, separable};
use crate::ir::{NodeId, Op, OpGraph};

/// Maximal runs of separable nodes that follow each other in the execution order within one group. A run that is only one operator
/// long is left: cutting it frees nothing.
pub(super) fn runs(graph: &OpGraph) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut run = Region { members: Vec::new(), extent: 0 };
    for id in graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_))) {
        let images = images(graph, id);
        let extent = images.as_ref().map(|(extent, _)| *extent);
        let joins = run.members.last().is_none_or(|m| graph.node(m.id).group == graph.node(id).group && extent == Some(run.extent));
        if !joins || images.is_none() {
            close(graph, &mut regions, &mut run);
        }
        if let Some((extent, member)) = images {
            run.extent = extent;
            run.members.push(member);
        }
    }
    close(graph, &mut regions, &mut run);
    regions
}

fn close(graph: &OpGraph, regions: &mut Vec<Region>, run: &mut Region) {
    let region = std::mem::replace(run, Region { members: Vec::new(), extent: 0 });
    // What nobody reads has nothing to join.
    if region.members.len() > 1 && !region.outputs(graph).is_empty() {
        regions.push(region);
    }
}

/// The number of images and the node, if it is part of a spatial block and acts on each of them alone.
fn images(graph: &OpGraph, id: NodeId) -> Option<(i64, Member)> {
    let node = graph.node(id);
    let [images, _, _, _] = &node.outs[0].shape[..] else { return None };
    let tensors = graph.inputs_of(id).into_iter().filter(|o| graph.as_weight(*o).is_none());
    let pictures = tensors.into_iter().all(|o| graph.ty(o).rank() == 4);
    let member = (node.knob.is_none() && of_a_block(&node.op) && pictures).then(|| separable(graph, id, 0))??;
    Some((images.as_const()?, member))
}

/// What spatial blocks are made of. Much else is separable, but a run that goes on beyond its block frees less than its pieces cost.
fn of_a_block(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_)
            | Op::GroupNorm(_)
            | Op::InstanceNorm { .. }
            | Op::Silu
            | Op::Gelu { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Upsample { .. }
            | Op::Pad { .. }
            | Op::Cast { .. }
    )
}
