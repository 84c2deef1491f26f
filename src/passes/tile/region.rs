//! A region: a run of nodes that may be computed tile by tile along one axis of a picture, which has another place in the shape of each
//! of its tensors.

use std::collections::BTreeSet;

use super::norm;
use crate::ir::axes::{self, Dependence, Window};
use crate::ir::op::Sliced;
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};

/// A node of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The node, of one output.
    pub(super) id: NodeId,
    /// The axis of its output that is cut.
    pub(super) axis: usize,
    /// For each input how it is cut, or `None` where every tile reads the whole.
    pub(super) reads: Vec<Option<Sliced>>,
}

impl Member {
    /// Does a tile of it read what lies around the tile?
    pub(super) fn looks_around(&self) -> bool {
        self.reads.iter().flatten().any(|s| s.has_halo())
    }
}

/// A tensor that tiles read: itself, and the axis that is cut, if it is.
pub(super) type Read = (Outlet, Option<usize>);

/// A run of nodes that may be computed tile by tile.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// The nodes, in execution order, without a gap in it.
    pub(super) members: Vec<Member>,
    /// The extent of the axis that is cut.
    pub(super) extent: i64,
}

impl Region {
    /// The nodes.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.members.iter().map(|m| m.id).collect()
    }

    /// The last node: what is added in the region's place runs where it ran.
    pub(super) fn last(&self) -> NodeId {
        self.members[self.members.len() - 1].id
    }

    /// The member that makes a tensor.
    pub(super) fn maker(&self, tensor: Outlet) -> Option<&Member> {
        self.members.iter().find(|m| m.id == tensor.node)
    }

    /// The members whose statistics go over the axis that is cut.
    pub(super) fn norms(&self, graph: &OpGraph) -> Vec<Member> {
        self.members.iter().filter(|m| norm::spans(graph, m.id, m.axis)).cloned().collect()
    }

    /// The tensors of the region that are read outside.
    pub(super) fn outputs(&self, graph: &OpGraph) -> Vec<Outlet> {
        let inside: BTreeSet<NodeId> = self.members.iter().map(|m| m.id).collect();
        let made = self.members.iter().map(|m| Outlet { node: m.id, slot: 0 });
        made.filter(|o| graph.is_output(*o) || graph.users(*o).iter().any(|(user, _)| !inside.contains(user))).collect()
    }

    /// Bytes of its largest tensor.
    pub(super) fn widest(&self, graph: &OpGraph) -> u64 {
        self.members.iter().filter_map(|m| graph.ty(Outlet { node: m.id, slot: 0 }).bytes()).max().unwrap_or(0)
    }
}

/// A node as a member of a region that cuts this axis of its output. Each index of it follows one index of what it reads, or reads
/// all of it whatever the index; constants are read whole. A norm over the axis is one too: it is applied once its statistics
/// are known.
pub(super) fn member(graph: &OpGraph, id: NodeId, axis: usize) -> Option<Member> {
    member_with_halo(graph, id, axis).filter(|m| !m.looks_around())
}

/// The same, where a convolution may also read what is near an index.
pub(super) fn member_with_halo(graph: &OpGraph, id: NodeId, axis: usize) -> Option<Member> {
    let spans = norm::spans(graph, id, axis);
    let (axes, inputs) = (axes::at(graph, id), graph.inputs_of(id));
    let read = |i: usize| match axes.along(0, axis, i) {
        Dependence::Independent { axis } if graph.as_weight(inputs[i]).is_none() => Some(Some(Sliced::plain(axis))),
        Dependence::Window(w) => halo(&graph.node(id).op, &w).map(Some),
        Dependence::Broadcast => Some(None),
        Dependence::Whole if spans && i == 0 => Some(Some(Sliced::plain(axis))),
        Dependence::Independent { .. } | Dependence::Reduced { .. } | Dependence::Whole => None,
    };
    let reads: Vec<Option<Sliced>> = (0..inputs.len()).map(read).collect::<Option<_>>()?;
    let cut = graph.node(id).outs.len() == 1 && reads.iter().any(Option::is_some);
    cut.then_some(Member { id, axis, reads })
}

/// What a convolution reads around an index, if its result is as long as what it reads and has no gaps: what it pads at the edges of the
/// whole is what it reads of neighbours inside of it.
fn halo(op: &Op, w: &Window) -> Option<Sliced> {
    let (before, after) = (w.before.as_const()?, w.after.as_const()?);
    let dense = w.stride == 1 && w.spread == 1 && w.dilation == Dim::Const(1);
    let as_long = before >= 0 && after >= 0 && before + after == w.kernel - 1;
    (matches!(op, Op::Conv(_)) && dense && as_long).then_some(Sliced { axis: w.axis, before, after })
}

/// May all tensors that a node reads be cut along the same axis as its result?
pub(super) fn separable(graph: &OpGraph, id: NodeId, axis: usize) -> Option<Member> {
    let same = |m: &Member| {
        let inputs = graph.inputs_of(id);
        m.reads
            .iter()
            .zip(inputs)
            .all(|(read, o)| if graph.as_weight(o).is_some() { read.is_none() } else { *read == Some(Sliced::plain(axis)) })
    };
    member(graph, id, axis).filter(same).filter(|_| !norm::spans(graph, id, axis))
}

/// Counts worth offering for an axis: powers of two up to the extent, and the extent itself where it is small.
pub(super) fn counts(extent: i64, most: i64) -> Vec<i64> {
    let mut counts: Vec<i64> = std::iter::successors(Some(1), |c| Some(c * 2)).take_while(|c| *c <= extent.min(most)).collect();
    if extent <= most && !counts.contains(&extent) {
        counts.push(extent);
    }
    counts
}
