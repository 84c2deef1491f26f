//! `merge-linears`: linear layers over a few rows take work off others, and become one product and a cut.
//!
//! A denoiser projects the time embedding once a block and the context once an attention: dozens of products of a few rows, each of
//! which costs little more than its dispatch. Three rules, in this order:
//! - *A layer behind a layer* is one with the product of the weights, if that is the smaller one. Legal because products associate.
//! - *A bias moves* from a layer over many rows to one over few that is added, broadcast, to the same sum: `(x·Wᵀ + b + r) + v =
//!   (x·Wᵀ + r) + (v + b)`. The layer over many rows then needs no sweep for its bias.
//! - *Layers over the same rows* are one product with their weights stacked, cut by one `Split`: each column of a product depends on
//!   its own row of the weight alone. Only where the rows are few: over many the cut would copy as much as the product computes.
//!
//! Only on the CPU so far, where it was measured.

use std::collections::BTreeMap;

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::Result;
use crate::ir::dim::product;
use crate::ir::op::Binary;
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet};
use crate::weights::WeightExpr;

pub(super) struct MergeLinears;

/// Above this many rows the copy of the cut is not hidden in the dispatches that are saved.
const MOST_ROWS: i64 = 128;

static INFO: PassInfo = PassInfo {
    id: "merge-linears",
    summary: "compute linear layers over a few rows as one, and let them take biases of others",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Bound, Property::Typed],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 3]) -> y: f32[2, 4] = %0, z: f32[2, 5] = %1
  %0 = Linear(%x, {param m/a: f32[4, 3]}) : f32[2, 4]
  %1 = Linear(%x, {param m/b: f32[5, 3]}) : f32[2, 5]
after:
model m(x: f32[2, 3]) -> y: f32[2, 4] = %1, z: f32[2, 5] = %1.1
  %0 = Linear(%x, {concat[0](param m/a: f32[4, 3], param m/b: f32[5, 3])}) : f32[2, 9]
  %1 = Split{axis=1 sizes=[4, 5]}(%0) : f32[2, 4], f32[2, 5]
",
};

impl Pass for MergeLinears {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        if !cx.machine.target.forms.merges_linears {
            return Ok(());
        }
        // A merge can make another one possible (the merged layer may follow a layer directly, or share its input with others), so until nothing changes.
        // Each round leaves fewer layers.
        while round(rw)? {}
        Ok(())
    }
}

/// All rules once; whether a layer went away.
fn round(rw: &mut Rewriter<'_>) -> Result<bool> {
    let mut fewer = false;
    for id in rw.graph().nodes() {
        if rw.graph().contains(id) {
            fewer |= compose(rw, id)?;
        }
    }
    for id in rw.graph().nodes() {
        if rw.graph().contains(id) {
            move_bias(rw, id)?;
        }
    }
    for layers in sites(rw.graph()) {
        let why = Why::new("same-few-rows").with("layers", layers.len() as i64);
        rw.apply(layers[0], None, why, |e| merge(e, &layers))?;
        fewer = true;
    }
    Ok(fewer)
}

/// Multiplications that are worth doing at compile time to save a layer.
const MOST_WORK: u64 = 1 << 25;

/// The number of rows of a linear layer in f32 with constant weights that no knob governs.
fn rows(graph: &OpGraph, id: NodeId) -> Option<i64> {
    let node = graph.node(id);
    let inputs = graph.inputs_of(id);
    let plain = node.op == Op::Linear && node.outs[0].dtype == DType::F32 && node.knob.is_none();
    let constant = inputs.get(1..)?.iter().all(|w| graph.as_weight(*w).is_some());
    let shape = &node.outs[0].shape;
    (plain && constant).then(|| product(&shape[..shape.len() - 1]).as_const())?
}

fn sole(graph: &OpGraph, o: Outlet) -> bool {
    graph.user_count(o) == 1 && !graph.is_output(o)
}

/// A layer that alone reads a layer without bias becomes one layer over the first one's input; whether it did.
fn compose(rw: &mut Rewriter<'_>, id: NodeId) -> Result<bool> {
    let graph = rw.graph();
    if rows(graph, id).is_none_or(|r| r > MOST_ROWS) {
        return Ok(false);
    }
    let outer = graph.inputs_of(id);
    let inner = outer[0].node;
    if rows(graph, inner).is_none() || !sole(graph, outer[0]) || graph.inputs_of(inner).len() != 2 {
        return Ok(false);
    }
    let first = graph.inputs_of(inner);
    let (Some(left), Some(right)) = (graph.as_weight(outer[1]).cloned(), graph.as_weight(first[1]).cloned()) else { return Ok(false) };
    let (n, m, k) = (left.shape()[0], right.shape()[0], right.shape()[1]);
    let work = n.saturating_mul(m).saturating_mul(k);
    if n.saturating_mul(k) > m.saturating_mul(k.saturating_add(n)) || work > MOST_WORK {
        return Ok(false);
    }
    rw.apply(id, None, Why::new("layer-behind-a-layer").with("multiplications", work as i64), |e| {
        let weight = e.weight(left.matmul(&right)?);
        let args: Vec<Outlet> = [first[0], weight].into_iter().chain(outer[2..].iter().copied()).collect();
        let y = e.add(Op::Linear, &args, "")?;
        e.replace(Outlet { node: id, slot: 0 }, y)?;
        e.remove(id)?;
        e.remove(inner)
    })?;
    Ok(true)
}

/// The layer over few rows whose copies, broadcast along all axes but the last, are this tensor, if nobody else reads it.
fn few_rows(graph: &OpGraph, mut o: Outlet) -> Option<NodeId> {
    let width = graph.ty(o).shape.last()?.clone();
    loop {
        let node = graph.node(o.node);
        if !sole(graph, o) || node.outs.len() != 1 || graph.ty(o).shape.last() != Some(&width) {
            return None;
        }
        match node.op {
            Op::Linear => return rows(graph, o.node).filter(|r| *r <= MOST_ROWS).map(|_| o.node),
            Op::Reshape { .. } | Op::Expand { .. } => o = *graph.inputs_of(o.node).first()?,
            _ => return None,
        }
    }
}

/// Moves the bias of a layer over many rows to the layer over few that is added to the same sum.
fn move_bias(rw: &mut Rewriter<'_>, id: NodeId) -> Result<()> {
    let graph = rw.graph();
    let Some((heavy, light)) = bias_site(graph, id) else { return Ok(()) };
    let (from, to) = (graph.inputs_of(heavy), graph.inputs_of(light));
    let Some(bias) = graph.as_weight(from[2]).cloned() else { return Ok(()) };
    let both = match to.get(2).map(|b| graph.as_weight(*b)) {
        None => bias,
        Some(Some(own)) if own.shape() == bias.shape() => own.add(&bias)?,
        Some(_) => return Ok(()),
    };
    // Both new layers keep the place of the one that they replace: neither runs before its inputs.
    rw.apply(light, None, Why::new("takes-a-bias"), |e| {
        let both = e.weight(both);
        let y = e.add(Op::Linear, &[to[0], to[1], both], "")?;
        e.replace(Outlet { node: light, slot: 0 }, y)?;
        e.remove(light)
    })?;
    rw.apply(heavy, None, Why::new("bias-over-fewer-rows"), |e| {
        let y = e.add(Op::Linear, &from[..2], "")?;
        e.replace(Outlet { node: heavy, slot: 0 }, y)?;
        e.remove(heavy)
    })
}

/// Finds `Add(Add(heavy, r), v)`, operands in any order, and gives two linear layers: the one with a bias over many rows
/// (`heavy`), and the one over few rows that makes `v`.
fn bias_site(graph: &OpGraph, id: NodeId) -> Option<(NodeId, NodeId)> {
    let sum = |o: Outlet| matches!(graph.node(o.node).op, Op::Binary(Binary::Add));
    let [a, b] = graph.inputs_of(id)[..] else { return None };
    if !sum(Outlet { node: id, slot: 0 }) || a == b {
        return None;
    }
    let heavy = |o: &Outlet| {
        let many = rows(graph, o.node).is_some_and(|r| r > MOST_ROWS) && graph.inputs_of(o.node).len() == 3;
        many && sole(graph, *o)
    };
    [(a, b), (b, a)].into_iter().find_map(|(part, other)| {
        let light = few_rows(graph, other)?;
        let full = graph.ty(part) == &graph.node(id).outs[0];
        let terms = if full && sum(part) && sole(graph, part) { graph.inputs_of(part.node) } else { return None };
        let heavy = terms.into_iter().find(|t| heavy(t) && graph.ty(*t) == graph.ty(part))?;
        Some((heavy.node, light))
    })
}

/// Linear layers with constant weights that read one tensor, in execution order; two and more. Not the tensor: it may be the output of
/// layers that are merged before.
fn sites(graph: &OpGraph) -> Vec<Vec<NodeId>> {
    let mut by_input: BTreeMap<(Outlet, usize), Vec<NodeId>> = BTreeMap::new();
    for id in graph.nodes().into_iter().filter(|id| graph.node(*id).op == Op::Linear) {
        let inputs = graph.inputs_of(id);
        let gated = graph.users(Outlet { node: id, slot: 0 }).iter().any(|(n, _)| graph.node(*n).op == Op::GeGlu);
        if !gated && rows(graph, id).is_some_and(|r| r <= MOST_ROWS) {
            by_input.entry((inputs[0], inputs.len())).or_default().push(id);
        }
    }
    by_input.into_values().filter(|layers| layers.len() > 1).collect()
}

fn merge(e: &mut super::Edit<'_>, layers: &[NodeId]) -> Result<()> {
    let inputs: Vec<Vec<Outlet>> = layers.iter().map(|id| e.graph().inputs_of(*id)).collect();
    let x = inputs[0][0];
    let mut args = vec![x];
    for slot in 1..inputs[0].len() {
        let parts: Vec<WeightExpr> = inputs.iter().filter_map(|i| e.graph().as_weight(i[slot]).cloned()).collect();
        args.push(e.weight(WeightExpr::concat(&parts, 0)?));
    }
    let sizes = layers.iter().map(|id| e.graph().node(*id).outs[0].shape.last().and_then(crate::ir::Dim::as_const).unwrap_or(0)).collect();
    let axis = e.graph().ty(x).rank() - 1;
    let all = e.add(Op::Linear, &args, "merged")?;
    let pieces = e.add(Op::Split { axis, sizes }, &[all], "cut")?;
    for (slot, id) in layers.iter().enumerate() {
        e.replace(Outlet { node: *id, slot: 0 }, Outlet { node: pieces.node, slot: slot as u16 })?;
        e.remove(*id)?;
    }
    Ok(())
}
