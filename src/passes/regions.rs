//! Cutting a run of nodes out of a graph and putting a `ForChunks` in its place. Shared by the passes that split.

use std::collections::{BTreeMap, BTreeSet};

use super::Edit;
use crate::diag::Result;
use crate::ir::axes::{self, Dependence};
use crate::ir::op::ForChunks;
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet, TensorType};

/// A run of nodes that may be computed piece by piece along one axis of its tensors.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// The nodes, in execution order, without a gap in it.
    pub(super) nodes: Vec<NodeId>,
    /// The axis that is cut, the same in every tensor that is cut.
    pub(super) axis: usize,
    /// Its extent.
    pub(super) extent: i64,
}

impl Region {
    /// The tensors that the region reads from outside, constants excepted, by first reader.
    pub(super) fn inputs(&self, graph: &OpGraph) -> Vec<Outlet> {
        let inside: BTreeSet<NodeId> = self.nodes.iter().copied().collect();
        let mut seen = BTreeSet::new();
        let reads = self.nodes.iter().flat_map(|n| graph.inputs_of(*n));
        reads.filter(|o| !inside.contains(&o.node) && graph.as_weight(*o).is_none() && seen.insert(*o)).collect()
    }

    /// The tensors of the region that are read outside.
    pub(super) fn outputs(&self, graph: &OpGraph) -> Vec<Outlet> {
        let inside: BTreeSet<NodeId> = self.nodes.iter().copied().collect();
        let made = self.nodes.iter().flat_map(|n| (0..graph.node(*n).outs.len() as u16).map(|slot| Outlet { node: *n, slot }));
        made.filter(|o| graph.is_output(*o) || graph.users(*o).iter().any(|(user, _)| !inside.contains(user))).collect()
    }

    /// Is the tensor cut, and not seen whole by every piece?
    pub(super) fn cuts(&self, ty: &TensorType) -> bool {
        ty.shape.get(self.axis) == Some(&Dim::Const(self.extent))
    }
}

/// May a node's result be computed piece by piece along an axis? Each index of it follows that index alone of the same axis of what
/// the node reads; constants, which every piece reads whole, do not have the axis.
pub(super) fn separable(graph: &OpGraph, id: NodeId, axis: usize) -> bool {
    let (axes, inputs) = (axes::at(graph, id), graph.inputs_of(id));
    let (constants, tensors): (Vec<usize>, Vec<usize>) = (0..inputs.len()).partition(|i| graph.as_weight(inputs[*i]).is_some());
    graph.node(id).outs.len() == 1
        && !tensors.is_empty()
        && tensors.into_iter().all(|i| axes.along(0, axis, i) == Dependence::Independent { axis })
        && constants.into_iter().all(|i| axes.along(0, axis, i) == Dependence::Broadcast)
}

/// Replaces a region by `count` pieces of it.
pub(super) fn split(e: &mut Edit<'_>, region: &Region, count: i64) -> Result<()> {
    let graph = e.graph();
    let (inputs, outputs) = (region.inputs(graph), region.outputs(graph));
    let ranges = ForChunks::even_ranges(region.extent, count);
    let extents: BTreeSet<i64> = ranges.iter().map(|(s, end)| end - s).collect();
    let bodies: Result<Vec<(i64, OpGraph)>> = extents.into_iter().map(|x| Ok((x, body(graph, region, &inputs, &outputs, x)?))).collect();
    let chunks = ForChunks {
        sliced: inputs.iter().map(|i| region.cuts(graph.ty(*i)).then_some(region.axis)).collect(),
        joined: vec![region.axis; outputs.len()],
        ranges,
        bodies: bodies?,
    };
    let node = e.add(Op::ForChunks(Box::new(chunks)), &inputs, "chunks")?.node;
    for (slot, old) in outputs.iter().enumerate() {
        e.replace(*old, Outlet { node, slot: slot as u16 })?;
    }
    for id in region.nodes.iter().rev() {
        e.remove(*id)?;
    }
    Ok(())
}

/// The region's nodes over pieces of the given extent.
fn body(graph: &OpGraph, region: &Region, inputs: &[Outlet], outputs: &[Outlet], extent: i64) -> Result<OpGraph> {
    let mut body = OpGraph::new(format!("{}.body", graph.name));
    let mut map: BTreeMap<Outlet, Outlet> = BTreeMap::new();
    for (i, input) in inputs.iter().enumerate() {
        let mut ty = graph.ty(*input).clone();
        if region.cuts(&ty) {
            ty.shape[region.axis] = extent.into();
        }
        map.insert(*input, body.input(format!("in{i}"), ty));
    }
    for id in &region.nodes {
        let node = graph.node(*id);
        let mut args = Vec::new();
        for read in graph.inputs_of(*id) {
            if let Some(expr) = graph.as_weight(read) {
                map.entry(read).or_insert_with(|| body.weight(expr.clone()));
            }
            args.push(map[&read]);
        }
        let new = body.add(axes::piece(&node.op, region.axis, extent), &args, node.name.clone(), &node.group)?;
        map.insert(Outlet { node: *id, slot: 0 }, new);
    }
    for (i, output) in outputs.iter().enumerate() {
        body.output(format!("out{i}"), map[output]);
    }
    Ok(body)
}

/// Counts worth offering for an axis: powers of two up to the extent, and the extent itself where it is small.
pub(super) fn counts(extent: i64, most: i64) -> Vec<i64> {
    let mut counts: Vec<i64> = std::iter::successors(Some(1), |c| Some(c * 2)).take_while(|c| *c <= extent.min(most)).collect();
    if extent <= most && !counts.contains(&extent) {
        counts.push(extent);
    }
    counts
}
