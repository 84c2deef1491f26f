//! Runs inside of spatial ones that may be cut over rows of pixels as well: convolutions read some rows around a tile, its *halo*.
//!
//! They are cut inside of the body that computes some images: one image is done with all its sweeps before the next begins, and holds
//! its tensors alone. A list of blocks, images times rows, would hold what is between two sweeps of all images, and need ranges,
//! halos and joins of two axes in `ForChunks`; nested, it is what it was.

use super::norm;
use super::region::{Member, Region, member_with_halo};
use crate::ir::{NodeId, Op, OpGraph};

/// The axis of rows in `[batch·frames, c, h, w]`.
const ROWS: usize = 2;

/// Maximal runs among these nodes, which follow each other in the execution order, that have a convolution over several rows. Strided
/// convolutions and enlargements end a run, as rows of theirs are not rows of what they read.
pub(super) fn runs(graph: &OpGraph, nodes: &[NodeId]) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut run = Region { members: Vec::new(), extent: 0 };
    for id in nodes.iter().filter(|id| !matches!(graph.node(**id).op, Op::Input | Op::Weight(_))) {
        let extent = graph.node(*id).outs[0].shape.get(ROWS).and_then(crate::ir::Dim::as_const).filter(|n| *n > 1);
        let found = extent.zip(member_with_halo(graph, *id, ROWS).filter(|m| keeps_rows(m) && !enlarges(graph, m)));
        if found.is_none() || extent != Some(run.extent) {
            regions.extend(close(graph, &mut run));
        }
        if let Some((extent, member)) = found {
            run.extent = extent;
            run.members.push(member);
        }
    }
    regions.extend(close(graph, &mut run));
    regions
}

fn close(graph: &OpGraph, run: &mut Region) -> Option<Region> {
    let mut region = std::mem::replace(run, Region { members: Vec::new(), extent: 0 });
    // Nothing is gained by a norm that nothing of the region reads.
    while region.members.last().is_some_and(|m| norm::spans(graph, m.id, m.axis)) {
        region.members.pop();
    }
    let looks_around = region.members.iter().any(Member::looks_around);
    (region.members.len() > 1 && looks_around && !region.outputs(graph).is_empty()).then_some(region)
}

/// Is all that is cut cut along rows?
fn keeps_rows(member: &Member) -> bool {
    member.reads.iter().flatten().all(|s| s.axis == ROWS)
}

/// Does it look around in an enlargement? `fuse-upsample` makes one of the two, with a kernel of its own: a choice that took it apart
/// would change the weights, which no knob of a level may.
fn enlarges(graph: &OpGraph, member: &Member) -> bool {
    let enlarged = || graph.inputs_of(member.id).iter().any(|o| matches!(graph.node(o.node).op, Op::Upsample { .. }));
    member.looks_around() && enlarged()
}
