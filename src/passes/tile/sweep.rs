//! Puts a region's tiles in its place: one `ForChunks`, or several sweeps over the tiles where norms span them.
//!
//! ```text
//! x ─ norm ─ conv ─ norm ─ conv ─ y         sweep 1   x ─► statistics                                     of each tile
//!                                                     merged: factor and shift of the first norm
//!                                           sweep 2   x ─ normalised ─ conv ─► statistics [, conv's result]
//!                                                     merged: factor and shift of the second norm
//!                                           sweep 3   x ─ normalised ─ conv ─ normalised ─ conv ─► y
//! ```
//! What a norm reads is computed for its statistics and again for what follows, or kept from the sweep that made it.

use std::collections::{BTreeMap, BTreeSet};

use super::norm;
use super::region::{Member, Region};
use crate::diag::Result;
use crate::ir::axes;
use crate::ir::op::{ForChunks, Join};
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

/// A tensor that tiles read: itself, and the axis that is cut, if it is.
type Read = (Outlet, Option<usize>);

/// Replaces a region by tiles of it.
pub(super) fn tile(e: &mut Edit<'_>, region: &Region, tiles: Tiles) -> Result<()> {
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
    region.nodes().iter().rev().try_for_each(|id| e.remove(*id))
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
    norms: BTreeMap<NodeId, [Outlet; 2]>,
}

impl Sweeps<'_> {
    /// The sweep that makes the statistics of a norm, and what follows from them.
    fn statistics(&mut self, e: &mut Edit<'_>, norm: &Member, again: bool) -> Result<()> {
        let graph = e.graph();
        let read = (graph.inputs_of(norm.id)[0], norm.reads[0].unwrap_or(norm.axis));
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
        let extents: BTreeSet<i64> = self.ranges.iter().map(|(start, end)| end - start).collect();
        let body = |extent| Body::of(self, graph, &inputs, extent)?.finish(&members, goals, norm.map(|(id, read)| (id, read.0)));
        let bodies: Result<Vec<(i64, OpGraph)>> = extents.into_iter().map(|extent| Ok((extent, body(extent)?))).collect();
        let mut joined: Vec<Join> = goals.iter().map(|(_, axis)| Join::Along(*axis)).collect();
        joined.extend(norm.map(|_| Join::Stacked));
        let sliced = inputs.iter().map(|(_, axis)| *axis).collect();
        let chunks = ForChunks { sliced, joined, ranges: self.ranges.clone(), bodies: bodies? };
        let reads: Vec<Outlet> = inputs.iter().map(|(o, _)| self.kept.get(o).copied().unwrap_or(*o)).collect();
        Ok(e.add(Op::ForChunks(Box::new(chunks)), &reads, name)?.node)
    }

    /// What members read that no member makes, by first reader; then what they need to know of norms.
    fn inputs(&self, graph: &OpGraph, members: &[&Member], wanted: &[(Outlet, usize)]) -> Vec<Read> {
        let made: BTreeSet<NodeId> = members.iter().map(|m| m.id).collect();
        let inside = |o: &Outlet| made.contains(&o.node) && !self.kept.contains_key(o);
        let reads = |m: &&Member| {
            let each = graph.inputs_of(m.id).into_iter().zip(m.reads.clone());
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

/// The body of a sweep under construction.
struct Body<'a> {
    sweeps: &'a Sweeps<'a>,
    outer: &'a OpGraph,
    graph: OpGraph,
    extent: i64,
    /// The tensors of the body, by what they are outside.
    map: BTreeMap<Read, Outlet>,
}

impl<'a> Body<'a> {
    fn of(sweeps: &'a Sweeps<'a>, outer: &'a OpGraph, inputs: &[Read], extent: i64) -> Result<Self> {
        let mut body = Self { sweeps, outer, graph: OpGraph::new(format!("{}.body", outer.name)), extent, map: BTreeMap::new() };
        for (i, (tensor, axis)) in inputs.iter().enumerate() {
            let mut ty = outer.ty(*tensor).clone();
            if let Some(axis) = axis {
                ty.shape[*axis] = extent.into();
            }
            let input = body.graph.input(format!("in{i}"), ty);
            body.map.insert((*tensor, *axis), input);
        }
        Ok(body)
    }

    fn finish(mut self, members: &[&Member], goals: &[(Outlet, usize)], norm: Option<(NodeId, Outlet)>) -> Result<OpGraph> {
        for member in members {
            let made = self.member(member)?;
            self.map.insert((Outlet { node: member.id, slot: 0 }, Some(member.axis)), made);
        }
        for (i, (tensor, axis)) in goals.iter().enumerate() {
            let made = self.map[&(*tensor, Some(*axis))];
            self.graph.output(format!("out{i}"), made);
        }
        if let Some((id, read)) = norm {
            let axis = self.sweeps.region.members.iter().find(|m| m.id == id).and_then(|m| m.reads[0]);
            let x = self.map[&(read, axis)];
            let groups = norm::attributes(self.outer, id)?.groups;
            let (ty, node) = (self.graph.ty(x).clone(), self.outer.node(id));
            let graph = &mut self.graph;
            let mut add = |op, inputs: &[Outlet], name: &str| graph.add(op, inputs, format!("{}/{name}", node.name), &node.group);
            let statistics = norm::statistics(&mut add, x, &ty, groups)?;
            self.graph.output("statistics", statistics);
        }
        Ok(self.graph)
    }

    /// A member over a tile.
    fn member(&mut self, member: &Member) -> Result<Outlet> {
        let node = self.outer.node(member.id);
        let mut args = Vec::new();
        for read in self.outer.inputs_of(member.id).into_iter().zip(member.reads.iter().copied()) {
            if let Some(expr) = self.outer.as_weight(read.0) {
                let graph = &mut self.graph;
                self.map.entry(read).or_insert_with(|| graph.weight(expr.clone()));
            }
            args.push(self.map[&read]);
        }
        let Some(known) = self.sweeps.norms.get(&member.id) else {
            let op = axes::piece(&node.op, member.axis, self.extent);
            return self.graph.add(op, &args, node.name.clone(), &node.group);
        };
        let factors = known.map(|o| self.map[&(o, None)]);
        let attributes = norm::attributes(self.outer, member.id)?;
        let graph = &mut self.graph;
        let mut add = |op, inputs: &[Outlet], name: &str| graph.add(op, inputs, format!("{}/{name}", node.name), &node.group);
        norm::normalised(&mut add, args[0], node.outs[0].dtype, factors, attributes.silu)
    }
}
