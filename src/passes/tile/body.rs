//! The body of a sweep: what a tile is computed from, for one place of it.
//!
//! ```text
//! y = conv(conv(x)) + x, kernels of 3 rows      y of a tile     rows  s   .. e
//!                                               inner conv            s-1 .. e+1
//!                                               x                     s-2 .. e+2, of which the sum reads s..e
//! ```
//! Each tensor is computed with the widest halo that a reader needs; who needs less reads a slice of it. At the edges of the picture a
//! halo ends, and there, and only there, a convolution pads as it did before.

use std::collections::BTreeMap;

use super::norm::{self, Factors};
use super::region::{Member, Read};
use crate::diag::Result;
use crate::ir::axes;
use crate::ir::op::{Place, Sliced};
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};

/// How far tiles of each tensor reach, by the tensor and the axis that is cut; those that are not named have no halo.
pub(super) type Halos = BTreeMap<(Outlet, usize), Sliced>;

/// The halos of what these members read and make, from the last one back.
pub(super) fn halos(graph: &OpGraph, members: &[&Member]) -> Halos {
    let mut halos = Halos::new();
    for member in members.iter().rev() {
        let made = halo_of(&halos, Outlet { node: member.id, slot: 0 }, member.axis);
        for (tensor, read) in graph.inputs_of(member.id).into_iter().zip(&member.reads) {
            let Some(need) = read.map(|read| around(made, read)) else { continue };
            let widest = halos.entry((tensor, need.axis)).or_insert(need);
            *widest = Sliced { axis: need.axis, before: need.before.max(widest.before), after: need.after.max(widest.after) };
        }
    }
    halos
}

/// The halo of a tensor.
pub(super) fn halo_of(halos: &Halos, tensor: Outlet, axis: usize) -> Sliced {
    halos.get(&(tensor, axis)).copied().unwrap_or(Sliced::plain(axis))
}

/// What must be there of an input, for a result that reaches so far and reads it so.
fn around(made: Sliced, read: Sliced) -> Sliced {
    Sliced { axis: read.axis, before: made.before + read.before, after: made.after + read.after }
}

/// The body of a sweep under construction.
pub(super) struct Body<'a> {
    /// The norms that are applied here.
    norms: &'a Factors,
    outer: &'a OpGraph,
    halos: &'a Halos,
    graph: OpGraph,
    place: Place,
    /// The tensors of the body, by what they are outside.
    map: BTreeMap<Read, Outlet>,
}

impl<'a> Body<'a> {
    pub(super) fn of(norms: &'a Factors, outer: &'a OpGraph, halos: &'a Halos, inputs: &[Read], place: Place) -> Self {
        let mut graph = OpGraph::new(format!("{}.body", outer.name));
        let mut map = BTreeMap::new();
        for (i, (tensor, axis)) in inputs.iter().enumerate() {
            let mut ty = outer.ty(*tensor).clone();
            if let Some(axis) = axis {
                ty.shape[*axis] = halo_of(halos, *tensor, *axis).extent(place).into();
            }
            map.insert((*tensor, *axis), graph.input(format!("in{i}"), ty));
        }
        Self { norms, outer, halos, graph, place, map }
    }

    /// Adds the members, and makes the goals outputs, then the statistics of what a norm reads.
    pub(super) fn finish(
        mut self,
        members: &[&Member],
        goals: &[(Outlet, usize)],
        norm: Option<(NodeId, (Outlet, usize))>,
    ) -> Result<OpGraph> {
        for member in members {
            let made = self.member(member)?;
            self.map.insert((Outlet { node: member.id, slot: 0 }, Some(member.axis)), made);
        }
        for (i, (tensor, axis)) in goals.iter().enumerate() {
            let made = self.rows(*tensor, Sliced::plain(*axis))?;
            self.graph.output(format!("out{i}"), made);
        }
        if let Some((id, (read, axis))) = norm {
            let x = self.rows(read, Sliced::plain(axis))?;
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
        let made = halo_of(self.halos, Outlet { node: member.id, slot: 0 }, member.axis);
        let mut args = Vec::new();
        for (tensor, read) in self.outer.inputs_of(member.id).into_iter().zip(&member.reads) {
            args.push(match read {
                Some(read) => self.rows(tensor, around(made, *read))?,
                None => self.whole(tensor),
            });
        }
        let Some(known) = self.norms.get(&member.id) else {
            let mut op = axes::piece(&node.op, member.axis, made.extent(self.place));
            if let (Op::Conv(c), Some(Some(read))) = (&mut op, member.reads.first().filter(|_| member.looks_around())) {
                c.pads[member.axis - 2] = self.padding(made, *read);
            }
            return self.graph.add(op, &args, node.name.clone(), &node.group);
        };
        let factors = known.map(|o| self.map[&(o, None)]);
        let attributes = norm::attributes(self.outer, member.id)?;
        let graph = &mut self.graph;
        let mut add = |op, inputs: &[Outlet], name: &str| graph.add(op, inputs, format!("{}/{name}", node.name), &node.group);
        norm::normalised(&mut add, args[0], node.outs[0].dtype, factors, attributes.silu)
    }

    /// A tensor that each tile reads whole.
    fn whole(&mut self, tensor: Outlet) -> Outlet {
        if let Some(expr) = self.outer.as_weight(tensor) {
            let graph = &mut self.graph;
            self.map.entry((tensor, None)).or_insert_with(|| graph.weight(expr.clone()));
        }
        self.map[&(tensor, None)]
    }

    /// A tensor as far as this halo reaches.
    fn rows(&mut self, tensor: Outlet, need: Sliced) -> Result<Outlet> {
        let (x, place) = (self.map[&(tensor, Some(need.axis))], self.place);
        let there = halo_of(self.halos, tensor, need.axis);
        if there.extent(place) == need.extent(place) {
            return Ok(x);
        }
        let start = there.before.min(place.before) - need.before.min(place.before);
        let (axis, end) = (need.axis, start + need.extent(place));
        let node = self.outer.node(tensor.node);
        let op = Op::Slice { axis, start: Dim::Const(start), end: Dim::Const(end) };
        self.graph.add(op, &[x], format!("{}/inner", node.name), &node.group)
    }

    /// What a convolution pads: the part of what it reads that lies beyond the edges of the picture.
    fn padding(&self, made: Sliced, read: Sliced) -> (i64, i64) {
        let (need, place) = (around(made, read), self.place);
        let before = need.before.min(place.before) - made.before.min(place.before);
        let after = need.after.min(place.after) - made.after.min(place.after);
        (read.before - before, read.after - after)
    }
}
