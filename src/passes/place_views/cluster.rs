//! Which operators may be divided differently, and which of them are divided alike.

use std::collections::BTreeMap;

use super::{dims, out};
use crate::ir::axes::{self, Counting, Dependence, counting};
use crate::ir::{NodeId, Op, OpGraph};

/// How an operator may be divided differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freedom {
    /// In any way.
    Any,
    /// The last axis stays.
    Last,
    /// The first two axes stay.
    FirstTwo,
}

/// The inputs of an operator that have its division, those that broadcast, and its freedom.
pub(super) struct Flexible {
    pub(super) full: Vec<u16>,
    pub(super) broadcast: Vec<u16>,
    pub(super) freedom: Freedom,
}

/// What may be divided differently, and how; `None` for all other operators.
pub(super) fn flexible(graph: &OpGraph, id: NodeId) -> Option<Flexible> {
    let node = graph.node(id);
    dims(graph, out(id))?;
    let inputs = graph.inputs_of(id);
    if let Op::Binary(_) = node.op {
        let whole = |slot: &u16| graph.ty(inputs[usize::from(*slot)]) == &node.outs[0];
        let (full, broadcast): (Vec<u16>, Vec<u16>) = (0..2).partition(whole);
        let both_constant = inputs.iter().all(|i| graph.as_weight(*i).is_some());
        return (!full.is_empty() && !both_constant).then_some(Flexible { full, broadcast, freedom: Freedom::Any });
    }
    let constants = inputs.iter().skip(1).all(|w| graph.as_weight(*w).is_some());
    let freedom = freedom(graph, id).filter(|_| constants)?;
    Some(Flexible { full: vec![0], broadcast: vec![], freedom })
}

/// The freedom of an operator over one tensor and constants: axes that it treats element by element, whatever its constants, may be
/// divided as long as those that it knows by their place keep it.
fn freedom(graph: &OpGraph, id: NodeId) -> Option<Freedom> {
    let node = graph.node(id);
    let (axes, inputs, rank) = (axes::at(graph, id), graph.inputs_of(id).len(), node.outs[0].rank());
    let free = |a: &usize| {
        let same = axes.along(0, *a, 0) == Dependence::Independent { axis: *a };
        same && (1..inputs).all(|i| axes.along(0, *a, i) == Dependence::Broadcast)
    };
    let fixed: Vec<usize> = (0..rank).filter(|a| !free(a)).collect();
    match (counting(&node.op), &fixed[..]) {
        // A cluster has one element type.
        _ if matches!(node.op, Op::Cast { .. }) => None,
        (Counting::Back, []) => Some(Freedom::Any),
        (Counting::Back, [a]) if a + 1 == rank => Some(Freedom::Last),
        (Counting::Front, [1]) => Some(Freedom::FirstTwo),
        (Counting::Back | Counting::Front | Counting::Named, _) => None,
    }
}

/// Operators that share a division of their axes.
pub(super) struct Cluster {
    /// In execution order.
    pub(super) nodes: Vec<NodeId>,
    /// Does the last axis stay?
    pub(super) last: bool,
}

/// The clusters of a graph, by first operator.
pub(super) fn clusters(graph: &OpGraph) -> Vec<Cluster> {
    let nodes: Vec<(NodeId, Flexible)> = graph.nodes().into_iter().filter_map(|id| Some((id, flexible(graph, id)?))).collect();
    let place: BTreeMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
    // A tensor that broadcasts ties its operator to its own shape; a norm's readers may divide its output as they like.
    let alone = |f: &Flexible, id: NodeId| {
        let inputs = graph.inputs_of(id);
        f.broadcast.iter().any(|s| graph.as_weight(inputs[usize::from(*s)]).is_none())
    };
    let mut of: Vec<usize> = (0..nodes.len()).collect();
    for (i, (id, f)) in nodes.iter().enumerate() {
        let inputs = graph.inputs_of(*id);
        for input in f.full.iter().map(|s| inputs[usize::from(*s)]) {
            let Some(j) = place.get(&input.node).copied() else { continue };
            let cut = alone(f, *id) || alone(&nodes[j].1, input.node) || matches!(graph.node(input.node).op, Op::LayerNorm { .. });
            if !cut {
                let (a, b) = (root(&mut of, i), root(&mut of, j));
                of[a.max(b)] = a.min(b);
            }
        }
    }
    let mut groups: BTreeMap<usize, Cluster> = BTreeMap::new();
    for (i, (id, f)) in nodes.iter().enumerate() {
        let cluster = groups.entry(root(&mut of, i)).or_insert_with(|| Cluster { nodes: Vec::new(), last: false });
        cluster.nodes.push(*id);
        cluster.last |= f.freedom == Freedom::Last;
    }
    groups.into_values().collect()
}

fn root(of: &mut [usize], mut i: usize) -> usize {
    while of[i] != i {
        of[i] = of[of[i]];
        i = of[i];
    }
    i
}
