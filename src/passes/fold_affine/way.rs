//! The way from a constant to the weights that may take it up, through operators that only move elements.

use super::carrier::{Carrier, Params, carrier};
use super::{Attempt, Miss};
use crate::ir::{NodeId, Op, OpGraph, Outlet, axes};

/// Operators between a constant and the weight that takes it up.
const FARTHEST: usize = 8;

/// What made a tensor that only it was made for, looking through what moves elements, and the axis of the channels there.
pub(super) fn producer(graph: &OpGraph, mut x: Outlet, mut axis: Option<usize>, scales: bool) -> Attempt<(NodeId, Option<usize>)> {
    for _ in 0..FARTHEST {
        if graph.is_output(x) {
            return Err(Miss::Unmet("an-output"));
        }
        if graph.user_count(x) != 1 {
            return Err(Miss::Unmet("other-readers"));
        }
        if carrier(graph, x.node).is_some() {
            return Ok((x.node, axis));
        }
        (x, axis) = backward(graph, x.node, axis, scales).ok_or(Miss::Unmet("no-weight"))?;
    }
    Err(Miss::Unmet("too-far"))
}

/// Every reader of a tensor, looking through what moves elements, if each can take up a change of its input on the axis.
pub(super) fn readers(graph: &OpGraph, x: Outlet, axis: Option<usize>) -> Attempt<Vec<(NodeId, Carrier, Params)>> {
    readers_within(graph, x, axis, FARTHEST)
}

fn readers_within(graph: &OpGraph, x: Outlet, axis: Option<usize>, depth: usize) -> Attempt<Vec<(NodeId, Carrier, Params)>> {
    if graph.is_output(x) {
        return Err(Miss::Unmet("an-output"));
    }
    let mut found = Vec::new();
    for (reader, slot) in graph.users(x) {
        match carrier(graph, reader) {
            Some((c, params)) if slot == 0 && c.in_axis().is_some() => {
                if axis.is_some() && axis != c.in_axis() {
                    return Err(Miss::Unmet("another-axis"));
                }
                found.push((reader, c, params));
            }
            _ => {
                let axis = forward(graph, reader, axis).filter(|_| depth > 0).ok_or(Miss::Unmet("no-weight"))?;
                found.extend(readers_within(graph, Outlet { node: reader, slot: 0 }, axis, depth - 1)?);
            }
        }
    }
    if found.is_empty() { Err(Miss::Unmet("no-weight")) } else { Ok(found) }
}

/// Where an axis of the input of an operator that only moves elements lies in its output; `None` for no axis stays so.
fn forward(graph: &OpGraph, id: NodeId, axis: Option<usize>) -> Option<Option<usize>> {
    let moves = matches!(graph.node(id).op, Op::Transpose { .. } | Op::Reshape { .. });
    match axis {
        _ if !moves => None,
        None => Some(None),
        Some(axis) => axes::at(graph, id).follows(0, 0, axis).map(Some),
    }
}

/// The reverse of [`forward`], through more operators: (the input to go on from, the axis there). What a scale may pass and a
/// shift may not is passed if `scales`.
fn backward(graph: &OpGraph, id: NodeId, axis: Option<usize>, scales: bool) -> Option<(Outlet, Option<usize>)> {
    let input = match &graph.node(id).op {
        Op::Transpose { .. } | Op::Reshape { .. } | Op::Slice { .. } | Op::Upsample { .. } => 0,
        // Zeros and pairs scale, but do not shift.
        Op::Pad { .. } | Op::RotaryEmbedding { .. } if scales => 0,
        // The weights of a query's keys sum to 1: a shift of all values is the same shift of the output.
        Op::Attention(_) => 2,
        _ => return None,
    };
    let x = *graph.inputs_of(id).get(input)?;
    match axis {
        None => Some((x, None)),
        Some(a) => axes::at(graph, id).along(0, a, input).independent().map(|axis| (x, Some(axis))),
    }
}
