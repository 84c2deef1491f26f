//! Runs of operators that mix frames and leave the pixels alone: convolutions over frames with what is around them, the
//! transpositions that lead in and out among it. They are cut over rows of pixels.
//!
//! A run grows around a *seed*, an operator with a window along one axis (frames) and an axis behind it of which each index stands for
//! itself (rows). What `ir::axes` says of the neighbours in the execution order decides how far.

use std::collections::BTreeSet;

use super::norm;
use super::region::{Member, Region, member};
use crate::ir::axes::{self, Dependence};
use crate::ir::{NodeId, Op, OpGraph, Outlet};

/// All runs around seeds, over nodes that are not `taken`.
pub(super) fn runs(graph: &OpGraph, taken: &BTreeSet<NodeId>) -> Vec<Region> {
    let nodes: Vec<NodeId> = graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_))).collect();
    let mut regions: Vec<Region> = Vec::new();
    for (at, id) in nodes.iter().enumerate() {
        let free = |id: &NodeId| graph.node(*id).knob.is_none() && !taken.contains(id);
        let known = regions.iter().any(|r| r.members.iter().any(|m| m.id == *id));
        let Some(seed) = (free(id) && !known).then(|| seed(graph, *id)).flatten() else { continue };
        let same = |n: &&NodeId| free(n) && graph.node(**n).group == graph.node(*id).group;
        let (before, after) = (nodes[..at].iter().rev().take_while(same), nodes[at + 1..].iter().take_while(same));
        regions.extend(grow(graph, seed, before, after));
    }
    regions
}

/// A node with a window along one axis, as a member that cuts the first axis behind it that is independent.
fn seed(graph: &OpGraph, id: NodeId) -> Option<Member> {
    let shape = &graph.node(id).outs.first()?.shape;
    let axes = axes::at(graph, id);
    let windowed = (0..shape.len()).find(|a| matches!(axes.along(0, *a, 0), Dependence::Window(w) if w.kernel > 1))?;
    let cut = (windowed + 1..shape.len()).find(|a| axes.along(0, *a, 0).independent().is_some())?;
    member(graph, id, cut).filter(|_| shape[cut].as_const().is_some_and(|n| n > 1))
}

fn grow<'n>(
    graph: &OpGraph,
    seed: Member,
    before: impl Iterator<Item = &'n NodeId>,
    after: impl Iterator<Item = &'n NodeId>,
) -> Option<Region> {
    let extent = graph.node(seed.id).outs[0].shape[seed.axis].as_const()?;
    let mut region = Region { members: vec![seed], extent };
    before.map_while(|id| in_front(graph, &region, *id).map(|m| region.members.insert(0, m))).for_each(|()| ());
    after.map_while(|id| behind(graph, &region, *id).map(|m| region.members.push(m))).for_each(|()| ());
    // Nothing is gained by a norm that nothing of the region reads.
    while region.members.last().is_some_and(|m| norm::spans(graph, m.id, m.axis)) {
        region.members.pop();
    }
    let read = !region.outputs(graph).is_empty();
    (region.members.len() > 1 && read).then_some(region)
}

/// The node in front of a region as a member: one whose result the region reads, all along the same axis.
fn in_front(graph: &OpGraph, region: &Region, id: NodeId) -> Option<Member> {
    let made = Outlet { node: id, slot: 0 };
    let reads: BTreeSet<Option<usize>> = reads(graph, region).filter(|(o, _)| *o == made).map(|(_, axis)| axis).collect();
    let axis = if reads.len() == 1 { reads.first().copied().flatten() } else { None };
    member(graph, id, axis?)
}

/// The node behind a region as a member: one that reads results of it, along the axes that are cut.
fn behind(graph: &OpGraph, region: &Region, id: NodeId) -> Option<Member> {
    let inputs = graph.inputs_of(id);
    let (slot, from) = inputs.iter().enumerate().find_map(|(i, o)| Some((i, region.maker(*o)?)))?;
    let spans = norm::spans(graph, id, from.axis).then_some(from.axis);
    let axis = spans.or_else(|| axes::at(graph, id).follows(0, slot, from.axis))?;
    let fits = |m: &Member| {
        inputs.iter().zip(&m.reads).all(|(o, read)| region.maker(*o).is_none_or(|maker| read.map(|s| s.axis) == Some(maker.axis)))
    };
    member(graph, id, axis).filter(fits)
}

fn reads<'g>(graph: &'g OpGraph, region: &'g Region) -> impl Iterator<Item = (Outlet, Option<usize>)> + 'g {
    region.members.iter().flat_map(|m| graph.inputs_of(m.id).into_iter().zip(m.reads.iter().map(|s| s.map(|s| s.axis))))
}
