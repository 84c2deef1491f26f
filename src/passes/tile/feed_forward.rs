//! Feed-forward blocks: `Linear → GeGlu → Linear`, which act on each row alone.

use super::region::{Member, Region, separable};
use crate::ir::{NodeId, Op, OpGraph, Outlet};

/// All feed-forward blocks that may be cut along the first axis. The hidden tensor between the layers is eight times as wide as what
/// goes in (2250 MiB at the first level of SVD-XT in fp16, `docs/facts/svd.md` 2.6).
pub(super) fn blocks(graph: &OpGraph) -> Vec<Region> {
    graph.nodes().into_iter().filter_map(|id| block(graph, id)).collect()
}

/// The block around a GeGlu, if nobody else reads what lies between.
fn block(graph: &OpGraph, id: NodeId) -> Option<Region> {
    if graph.node(id).op != Op::GeGlu || graph.node(id).knob.is_some() {
        return None;
    }
    let up = graph.inputs_of(id)[0];
    let [(down, 0)] = graph.users(Outlet { node: id, slot: 0 })[..] else { return None };
    let alone = graph.users(up).len() == 1 && !graph.is_output(up) && !graph.is_output(Outlet { node: id, slot: 0 });
    let layers = graph.node(up.node).op == Op::Linear && graph.node(down).op == Op::Linear;
    if !alone || !layers {
        return None;
    }
    let members: Vec<Member> = [up.node, id, down].into_iter().map(|n| separable(graph, n, 0)).collect::<Option<_>>()?;
    let extent = graph.node(id).outs[0].shape.first()?.as_const()?;
    Some(Region { members, extent })
}
