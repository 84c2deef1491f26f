//! The parts of a model that was cut: what runs before the loop, and what stays in it.
//!
//! Tensors that cross travel in *packs*: those of one class whose shapes differ along one axis only are joined along it, so
//! that a step is handed a few inputs and not a hundred, and are cut apart inside.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::Prepare;
use super::cut::{Sized, When};
use crate::diag::Result;
use crate::ir::{Dim, NodeId, Op, OpGraph, Order, Outlet, TensorType};

/// Tensors that cross together.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    /// Name of the port: an output of one part, an input of the other.
    pub(super) port: String,
    /// The class of all of them.
    pub(super) when: When,
    /// The axis along which they are joined; not used for a single one.
    axis: usize,
    members: Vec<Outlet>,
}

/// What members of a pack have in common: class, axis, the other extents. A tensor without such an axis travels alone.
type Key = Option<(When, usize, Vec<Dim>)>;

/// The packs of a border; ports are named after their class.
pub(super) fn packs(graph: &OpGraph, sized: &Sized<'_>, border: &[Outlet]) -> Vec<Pack> {
    let mut keyed: Vec<(Key, Pack)> = Vec::new();
    for value in border {
        let when = sized.when[&value.node];
        let shape = &graph.ty(*value).shape;
        let axis = (1..shape.len()).rev().find(|i| shape[*i].as_const().is_some_and(|n| n != 1));
        let key = axis.map(|axis| {
            let mut rest = shape.clone();
            rest.remove(axis);
            (when, axis, rest)
        });
        match keyed.iter_mut().find(|(k, _)| k.is_some() && *k == key) {
            Some((_, pack)) => pack.members.push(*value),
            None => keyed.push((key, Pack { port: String::new(), when, axis: axis.unwrap_or(0), members: vec![*value] })),
        }
    }
    let mut packs: Vec<Pack> = keyed.into_iter().map(|(_, pack)| pack).collect();
    packs.sort_by_key(|p| p.when);
    let mut counts = BTreeMap::new();
    for pack in &mut packs {
        let class = if pack.when == When::Step { "schedule" } else { "once" };
        let i = counts.entry(class).or_insert(0);
        pack.port = format!("{class}_{i}");
        *i += 1;
    }
    packs
}

/// The part that makes these packs before the loop, at the sizes of the call. Where a pack is known step by step, so are the
/// inputs with an axis of steps in front; all others are as they were.
pub(super) fn before(name: String, sized: &Sized<'_>, packs: &[&Pack], steps: i64) -> Result<OpGraph> {
    let needed = needed(sized.graph, packs.iter().flat_map(|p| &p.members).map(|o| o.node));
    let mut out = OpGraph::new(name);
    out.needs_f32 = sized.graph.needs_f32;
    let mut map: BTreeMap<Outlet, Outlet> = BTreeMap::new();
    for id in sized.graph.nodes().into_iter().filter(|id| needed.contains(id)) {
        let new = copy(&mut out, sized, id, &map, steps)?;
        map.insert(Outlet { node: id, slot: 0 }, new);
    }
    for pack in packs {
        let members: Vec<Outlet> = pack.members.iter().map(|m| map[m]).collect();
        let axis = pack.axis + usize::from(pack.when == When::Step);
        let value = match members[..] {
            [one] => one,
            _ => out.add(Op::Concat { axis }, &members, pack.port.clone(), &"".into())?,
        };
        out.output(pack.port.clone(), value);
    }
    Ok(out)
}

fn copy(out: &mut OpGraph, sized: &Sized<'_>, id: NodeId, map: &BTreeMap<Outlet, Outlet>, steps: i64) -> Result<Outlet> {
    let node = sized.node(id);
    let varies = sized.when[&id] == When::Step;
    match &node.op {
        Op::Input if varies => {
            let shape = std::iter::once(Dim::Const(steps)).chain(node.outs[0].shape.iter().cloned());
            return Ok(out.input(&node.name, TensorType { dtype: node.outs[0].dtype, shape: shape.collect() }));
        }
        Op::Input => return Ok(out.input(&node.name, node.outs[0].clone())),
        Op::Weight(expr) => return Ok(out.weight(expr.clone())),
        _ => {}
    }
    let inputs: Vec<Outlet> = sized.graph.inputs_of(id).iter().map(|i| map[i]).collect();
    let Some((op, prepare)) = sized.batched(id).filter(|_| varies) else {
        return out.add(node.op.clone(), &inputs, &node.name, &node.group);
    };
    let mut ready = Vec::with_capacity(inputs.len());
    for (input, prepare) in inputs.into_iter().zip(prepare) {
        let op = match prepare {
            Prepare::AsIs => None,
            Prepare::Reshape(shape) => Some(Op::Reshape { shape }),
            Prepare::Expand(shape) => Some(Op::Expand { shape }),
        };
        ready.push(match op {
            Some(op) => out.add(op, &[input], format!("{}/steps", node.name), &node.group)?,
            None => input,
        });
    }
    out.add(op, &ready, &node.name, &node.group)
}

fn needed(graph: &OpGraph, of: impl Iterator<Item = NodeId>) -> BTreeSet<NodeId> {
    let mut stack: Vec<NodeId> = of.collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = stack.pop() {
        if seen.insert(id) {
            stack.extend(graph.inputs_of(id).iter().map(|o| o.node));
        }
    }
    seen
}

/// What stays in the loop: the packs are further inputs, and inputs that nobody reads any more are gone.
pub(super) fn inside(graph: &OpGraph, packs: &[Pack], out: &BTreeSet<NodeId>) -> Result<OpGraph> {
    let mut rest = graph.clone();
    let mut places = 0;
    for pack in packs {
        let input = rest.input(&pack.port, joined(graph, pack));
        let mut start = Dim::Const(0);
        for member in &pack.members {
            let value = if pack.members.len() == 1 {
                input
            } else {
                let node = graph.node(member.node);
                let end = &start + &graph.ty(*member).shape[pack.axis];
                let op = Op::Slice { axis: pack.axis, start: std::mem::replace(&mut start, end.clone()), end };
                places += 1;
                // Behind everything that passes put behind an input, before the first operator.
                let place = Order(vec![0, u32::MAX, u32::MAX, places]);
                Outlet { node: rest.add_at(op, &[input], format!("{}/from_{}", node.name, pack.port), node.group.clone(), place)?, slot: 0 }
            };
            let readers: Vec<(NodeId, u16)> = graph.users(*member).into_iter().filter(|(reader, _)| !out.contains(reader)).collect();
            rest.move_edges(*member, value, &readers);
        }
    }
    prune(graph, &mut rest);
    Ok(rest)
}

/// The type of a pack, with symbols.
fn joined(graph: &OpGraph, pack: &Pack) -> TensorType {
    let mut ty = graph.ty(pack.members[0]).clone();
    for member in &pack.members[1..] {
        ty.shape[pack.axis] = &ty.shape[pack.axis] + &graph.ty(*member).shape[pack.axis];
    }
    ty
}

/// Removes what no output needs any more; an input that was not read before either stays.
fn prune(before: &OpGraph, rest: &mut OpGraph) {
    let live = needed(rest, rest.outputs().iter().map(|(_, o)| o.node));
    let unread =
        |id: NodeId| before.contains(id) && before.node(id).op == Op::Input && before.users(Outlet { node: id, slot: 0 }).is_empty();
    for id in rest.nodes() {
        if !live.contains(&id) && !unread(id) {
            rest.remove_node(id);
        }
    }
    let inputs: Vec<NodeId> = rest.inputs.iter().copied().filter(|id| rest.contains(*id)).collect();
    rest.inputs = inputs;
}
