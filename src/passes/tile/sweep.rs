//! Puts a region's tiles in its place: one `ForChunks`, or several sweeps over the tiles where norms span them.
//!
//! ```text
//! x ─ norm ─ conv ─ norm ─ conv ─ y         sweep 1   x ─► statistics                                     of each tile
//!                                                     merged: factor and shift of the first norm
//!                                           sweep 2   x ─ normalised ─ conv ─► statistics [, conv's result]
//!                                                     merged: factor and shift of the second norm
//!                                           sweep 3   x ─ normalised ─ conv ─ normalised ─ conv ─► y
//! ```
//! Where convolutions read rows around a tile, a sweep computes them again: its inputs are cut with the sum of the halos on the way to its
//! results (`body`). What a norm reads is computed for its statistics and again for what follows, or kept from the sweep that made it.

use std::collections::{BTreeMap, BTreeSet};

use super::body::{Body, halo_of, halos};
use super::norm::{self, Factors};
use super::region::{Member, Read, Region};
use crate::diag::Result;
use crate::ir::op::{ForChunks, Join, Place, Sliced};
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::passes::Edit;

/// How a region is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    /// How many tiles.
    pub(super) count: i64,
    /// Is what norms read computed again by each sweep, and not kept?
    pub(super) again: bool,
}

/// Replaces a region by tiles of it; returns the node that yields what it yielded.
pub(super) fn tile(e: &mut Edit<'_>, region: &Region, tiles: Tiles) -> Result<NodeId> {
    let mut sweeps =
        Sweeps { region, ranges: ForChunks::even_ranges(region.extent, tiles.count), kept: BTreeMap::new(), norms: BTreeMap::new() };
    for norm in region.norms(e.graph()) {
        sweeps.statistics(e, &norm, tiles.again)?;
    }
    let outputs = region.outputs(e.graph());
    let goals: Vec<(Outlet, usize)> = outputs.iter().filter_map(|o| Some((*o, region.maker(*o)?.axis))).collect();
    let node = sweeps.add(e, &goals, None, "tiles")?;
    for (slot, old) in outputs.iter().enumerate() {
        e.replace(*old, Outlet { node, slot: slot as u16 })?;
    }
    region.nodes().iter().rev().try_for_each(|id| e.remove(*id))?;
    Ok(node)
}

/// Does a norm of the region read what is dearer than moved elements, so that it may be kept or computed again?
pub(super) fn has_choice(graph: &OpGraph, region: &Region) -> bool {
    let none = BTreeMap::new();
    region.norms(graph).iter().any(|n| is_computed(graph, region, graph.inputs_of(n.id)[0], &none))
}

fn is_computed(graph: &OpGraph, region: &Region, tensor: Outlet, kept: &BTreeMap<Outlet, Outlet>) -> bool {
    let moves = |m: &&Member| matches!(graph.node(m.id).op, Op::Reshape { .. } | Op::Transpose { .. });
    needed(graph, region, &[tensor], kept).iter().any(|m| !moves(m))
}

/// The members that make these tensors, from outside and from what is kept.
fn needed<'r>(graph: &OpGraph, region: &'r Region, goals: &[Outlet], kept: &BTreeMap<Outlet, Outlet>) -> Vec<&'r Member> {
    let mut wanted: BTreeSet<NodeId> = BTreeSet::new();
    let mut stack = goals.to_vec();
    while let Some(tensor) = stack.pop() {
        if kept.contains_key(&tensor) || region.maker(tensor).is_none() || !wanted.insert(tensor.node) {
            continue;
        }
        stack.extend(graph.inputs_of(tensor.node));
    }
    region.members.iter().filter(|m| wanted.contains(&m.id)).collect()
}

struct Sweeps<'r> {
    region: &'r Region,
    ranges: Vec<(i64, i64)>,
    /// Tensors of the region that an earlier sweep left, whole.
    kept: BTreeMap<Outlet, Outlet>,
    /// Factor and shift of norms whose statistics are known.
    norms: Factors,
}

impl Sweeps<'_> {
    /// The sweep that makes the statistics of a norm, and what follows from them.
    fn statistics(&mut self, e: &mut Edit<'_>, norm: &Member, again: bool) -> Result<()> {
        let graph = e.graph();
        let read = (graph.inputs_of(norm.id)[0], norm.reads[0].map_or(norm.axis, |s| s.axis));
        let keeps = !again && is_computed(graph, self.region, read.0, &self.kept);
        let goals = if keeps { vec![read] } else { Vec::new() };
        let node = self.add(e, &goals, Some((norm.id, read)), "statistics")?;
        let out = |slot: usize| Outlet { node, slot: slot as u16 };
        let extents: Vec<i64> = self.ranges.iter().map(|(start, end)| end - start).collect();
        let factors = norm::factors(e, out(goals.len()), norm.id, &extents)?;
        self.norms.insert(norm.id, factors);
        if keeps {
            self.kept.insert(read.0, out(0));
        }
        Ok(())
    }

    /// Adds a sweep that yields these tensors, and the statistics of a norm that reads another.
    fn add(&self, e: &mut Edit<'_>, goals: &[(Outlet, usize)], norm: Option<(NodeId, (Outlet, usize))>, name: &str) -> Result<NodeId> {
        let graph = e.graph();
        let wanted: Vec<(Outlet, usize)> = goals.iter().copied().chain(norm.map(|(_, read)| read)).collect();
        let members = needed(graph, self.region, &wanted.iter().map(|(o, _)| *o).collect::<Vec<_>>(), &self.kept);
        let inputs = self.inputs(graph, &members, &wanted);
        let halos = halos(graph, &members);
        let sliced: Vec<Option<Sliced>> = inputs.iter().map(|(o, axis)| axis.map(|axis| halo_of(&halos, *o, axis))).collect();
        let places: BTreeSet<Place> = ForChunks::places(&sliced, &self.ranges).into_iter().collect();
        let body = |place| Body::of(&self.norms, graph, &halos, &inputs, place).finish(&members, goals, norm);
        let bodies: Result<Vec<(Place, OpGraph)>> = places.into_iter().map(|place| Ok((place, body(place)?))).collect();
        let mut joined: Vec<Join> = goals.iter().map(|(_, axis)| Join::Along(*axis)).collect();
        joined.extend(norm.map(|_| Join::Stacked));
        let chunks = ForChunks { sliced, joined, ranges: self.ranges.clone(), bodies: bodies? };
        let reads: Vec<Outlet> = inputs.iter().map(|(o, _)| self.kept.get(o).copied().unwrap_or(*o)).collect();
        Ok(e.add(Op::ForChunks(Box::new(chunks)), &reads, name)?.node)
    }

    /// What members read that no member makes, by first reader; then what they need to know of norms.
    fn inputs(&self, graph: &OpGraph, members: &[&Member], wanted: &[(Outlet, usize)]) -> Vec<Read> {
        let made: BTreeSet<NodeId> = members.iter().map(|m| m.id).collect();
        let inside = |o: &Outlet| made.contains(&o.node) && !self.kept.contains_key(o);
        let reads = |m: &&Member| {
            let each = graph.inputs_of(m.id).into_iter().zip(m.reads.iter().map(|s| s.map(|s| s.axis)));
            // A norm reads the tensor alone: scale and bias are part of its factor and shift.
            let most = if self.norms.contains_key(&m.id) { 1 } else { m.reads.len() };
            each.take(most).collect::<Vec<Read>>()
        };
        let mut inputs: Vec<Read> = Vec::new();
        let tensors = members.iter().flat_map(reads).chain(wanted.iter().map(|(o, axis)| (*o, Some(*axis))));
        for read in tensors.filter(|(o, _)| !inside(o) && graph.as_weight(*o).is_none()) {
            if !inputs.contains(&read) {
                inputs.push(read);
            }
        }
        inputs.extend(members.iter().filter_map(|m| self.norms.get(&m.id)).flatten().map(|o| (*o, None)));
        inputs
    }
}
