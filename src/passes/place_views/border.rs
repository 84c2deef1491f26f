//! What stands around a cluster: the tensors that it reads and those that others read of it, and the reshapes between.

use std::collections::BTreeSet;

use super::cluster::{Cluster, Flexible, Freedom, flexible};
use super::division::{Division, rebroadcast};
use super::{Shape, behind, dims, is_view, out};
use crate::ir::{NodeId, OpGraph, Outlet};

/// A change of the tensors around a cluster: what each operand reads, and in which shapes others read what it yields.
#[derive(Default)]
pub(super) struct Border {
    /// Reader, slot, the tensor behind, the shape that is needed.
    pub(super) reads: Vec<(NodeId, u16, Outlet, Shape)>,
    /// Constants that broadcast: reader, slot, new shape.
    pub(super) constants: Vec<(NodeId, u16, Shape)>,
    /// Tensors that others read in their old shape.
    pub(super) shown: Vec<Outlet>,
    /// Reshapes that remain.
    pub(super) cost: usize,
}

/// The border of a cluster under a division; `None` if an operator cannot work so.
pub(super) fn border(graph: &OpGraph, cluster: &Cluster, division: &Division) -> Option<Border> {
    let inside: BTreeSet<NodeId> = cluster.nodes.iter().copied().collect();
    let mut border = Border::default();
    for id in &cluster.nodes {
        let f = flexible(graph, *id)?;
        let old = dims(graph, out(*id))?;
        let new = division.shape(&old)?;
        if f.freedom == Freedom::FirstTwo && new.get(..2) != old.get(..2) {
            return None;
        }
        border.inward(graph, *id, &f, &inside, |have, full| if full { division.shape(have) } else { rebroadcast(have, &old, &new) })?;
        border.cost += outward(graph, *id, &inside, &old, &new, &mut border.shown);
    }
    border.cost += border.views(graph, &inside)?;
    Some(border)
}

impl Border {
    /// What an operator reads from outside; `shape` is the new shape of a tensor, whether it has the division or broadcasts.
    fn inward(
        &mut self,
        graph: &OpGraph,
        id: NodeId,
        f: &Flexible,
        inside: &BTreeSet<NodeId>,
        shape: impl Fn(&[i64], bool) -> Option<Shape>,
    ) -> Option<()> {
        let inputs = graph.inputs_of(id);
        let slots = f.full.iter().map(|s| (*s, true)).chain(f.broadcast.iter().map(|s| (*s, false)));
        for (slot, full) in slots {
            let input = inputs[usize::from(slot)];
            if full && inside.contains(&input.node) {
                continue;
            }
            let shape = shape(&dims(graph, input)?, full)?;
            if graph.as_weight(input).is_some() {
                self.constants.push((id, slot, shape));
            } else {
                self.reads.push((id, slot, behind(graph, input), shape));
            }
        }
        Some(())
    }

    /// The views that the operands need and that nobody else does.
    fn views(&self, graph: &OpGraph, inside: &BTreeSet<NodeId>) -> Option<usize> {
        let mut needed: BTreeSet<(Outlet, &Shape)> = BTreeSet::new();
        for (reader, _, source, shape) in &self.reads {
            if dims(graph, *source)? != *shape && !survives(graph, *source, shape, inside, *reader) {
                needed.insert((*source, shape));
            }
        }
        Some(needed.len())
    }
}

/// Reshapes behind a tensor of a cluster for those who read it outside.
fn outward(graph: &OpGraph, id: NodeId, inside: &BTreeSet<NodeId>, old: &[i64], new: &[i64], shown: &mut Vec<Outlet>) -> usize {
    let readers: Vec<NodeId> = graph.users(out(id)).into_iter().map(|(n, _)| n).filter(|n| !inside.contains(n)).collect();
    let mut shapes: BTreeSet<Shape> = readers.iter().filter(|r| is_view(graph, **r)).filter_map(|r| dims(graph, out(*r))).collect();
    if graph.is_output(out(id)) || readers.iter().any(|r| !is_view(graph, *r)) || reads_as_broadcast(graph, id, inside) {
        shapes.insert(old.to_vec());
        if old != new {
            shown.push(out(id));
        }
    }
    shapes.remove(new);
    shapes.len()
}

/// Does an operator of the cluster read this tensor of the cluster as one that broadcasts?
fn reads_as_broadcast(graph: &OpGraph, id: NodeId, inside: &BTreeSet<NodeId>) -> bool {
    let broadcasts = |n: NodeId, slot: u16| flexible(graph, n).is_some_and(|f| f.broadcast.contains(&slot));
    graph.users(out(id)).into_iter().any(|(n, slot)| inside.contains(&n) && broadcasts(n, slot))
}

/// Is there a view of this tensor in this shape that others need anyway, early enough?
fn survives(graph: &OpGraph, source: Outlet, shape: &[i64], inside: &BTreeSet<NodeId>, reader: NodeId) -> bool {
    view_of(graph, source, shape, reader).is_some_and(|v| graph.is_output(v) || graph.users(v).iter().any(|(n, _)| !inside.contains(n)))
}

/// A view of this tensor in this shape that stands before a reader.
pub(super) fn view_of(graph: &OpGraph, source: Outlet, shape: &[i64], reader: NodeId) -> Option<Outlet> {
    let early = |n: &NodeId| graph.node(*n).order < graph.node(reader).order;
    let shows = |n: &NodeId| is_view(graph, *n) && dims(graph, out(*n)).as_deref() == Some(shape);
    graph.users(source).into_iter().map(|(n, _)| n).find(|n| shows(n) && early(n)).map(out)
}
