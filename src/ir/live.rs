//! Which nodes of a graph are needed.
//!
//! A node is needed if an output depends on it. It is needed as well if it alone has an extent that a needed node's shape is written
//! with: the written model reads that extent off its output ([`Dim::follows`]).

use std::collections::BTreeSet;

use super::dim::Dim;
use super::graph::{NodeId, OpGraph};
use super::op::Op;

/// The needed nodes; of inputs those that are read.
pub fn live(graph: &OpGraph) -> BTreeSet<NodeId> {
    let mut live = BTreeSet::new();
    reach(graph, graph.outputs().iter().map(|(_, o)| o.node).collect(), &mut live);
    let given = given(graph);
    let open = |id: NodeId| open_dims(graph, id, &given);
    let mut readers: Vec<NodeId> = graph.nodes().into_iter().filter(|id| !open(*id).is_empty()).collect();
    // Keeping one node may make a reader needed that was not, so until nothing changes.
    while let Some(at) = readers.iter().position(|id| live.contains(id)) {
        let reader = readers.remove(at);
        for dim in open(reader) {
            if let Some(carrier) = missing(graph, reader, dim, &given, &live) {
                reach(graph, vec![carrier], &mut live);
            }
        }
    }
    live
}

fn reach(graph: &OpGraph, mut stack: Vec<NodeId>, seen: &mut BTreeSet<NodeId>) {
    while let Some(id) = stack.pop() {
        if seen.insert(id) {
            stack.extend(graph.inputs_of(id).iter().map(|o| o.node));
        }
    }
}

/// The symbols that are extents of inputs.
pub fn given(graph: &OpGraph) -> BTreeSet<String> {
    let shapes = graph.inputs().iter().map(|i| &graph.node(*i).outs[0].shape);
    shapes.flatten().filter_map(|d| d.as_symbol()).map(str::to_owned).collect()
}

/// The dims of a node's shape that the extents of inputs do not give.
fn open_dims<'g>(graph: &'g OpGraph, id: NodeId, given: &BTreeSet<String>) -> Vec<&'g Dim> {
    let dims: Vec<&Dim> = match &graph.node(id).op {
        Op::Reshape { shape } | Op::Expand { shape } => shape.iter().collect(),
        Op::Slice { start, end, .. } => vec![start, end],
        _ => Vec::new(),
    };
    dims.into_iter().filter(|d| d.as_const().is_none() && !d.follows(|s| given.contains(s), [])).collect()
}

/// A node that has the dim, if none of the needed ones before the reader has.
fn missing(graph: &OpGraph, reader: NodeId, dim: &Dim, given: &BTreeSet<String>, live: &BTreeSet<NodeId>) -> Option<NodeId> {
    let before: Vec<NodeId> = graph.nodes().into_iter().take_while(|id| *id != reader).collect();
    let extents = |id: &NodeId| graph.node(*id).outs.iter().flat_map(|t| &t.shape);
    if dim.follows(|s| given.contains(s), before.iter().filter(|id| live.contains(id)).flat_map(extents)) {
        return None;
    }
    before.iter().find(|id| dim.follows(|s| given.contains(s), extents(id))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse;

    #[test]
    fn what_alone_has_an_extent_is_needed() {
        let graph = parse(
            "model m(x: f32[n, 4], s: f32[1, 4]) -> y: f32[unknown1, 4] = %2
  %0 = NonZero{domain=\"\"}(%x) : f32[2, unknown1]
  %1 = Exp(%x) : f32[n, 4]
  %2 = Expand{shape=[unknown1, 4]}(%s) : f32[unknown1, 4]
",
        )
        .unwrap();
        let names: Vec<&str> = live(&graph).iter().map(|id| graph.node(*id).op.name()).collect();
        assert!(names.contains(&"NonZero") && !names.contains(&"Exp"), "{names:?}");
    }
}
