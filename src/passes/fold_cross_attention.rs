//! `fold-cross-attention`: attention over a single key is the value of that key.
//!
//! Legal because softmax over one element is 1 whatever the score: `softmax(q·kᵀ)·v = v`, broadcast over the queries
//! (`docs/facts/svd.md` 2.7, rewrite 1). The queries, the keys and their norm then have no reader and fall to `eliminate`. The
//! output projection moves before the broadcast, and the broadcast dissolves where the reader broadcasts by itself; where the
//! key was itself repeated over rows (`Expand`, then `Reshape`), the projections move before the repetition too, so they are
//! computed once a batch item and not once a pixel.

use super::{Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::Result;
use crate::ir::dim::product;
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};

pub(super) struct FoldCrossAttention;

static INFO: PassInfo = PassInfo {
    id: "fold-cross-attention",
    summary: "attention over one key is that key's value",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 6, 4], context: f32[2, 1, 3]) -> y: f32[2, 6, 4] = %5
  %0 = Linear(%x, {param m/q: f32[4, 4]}) : f32[2, 6, 4]
  %1 = Linear(%context, {param m/k: f32[4, 3]}) : f32[2, 1, 4]
  %2 = Linear(%context, {param m/v: f32[4, 3]}) : f32[2, 1, 4]
  %3 = Attention{heads=2 scale=0.5}(%0, %1, %2) : f32[2, 6, 4]
  %4 = Linear(%3, {param m/o: f32[4, 4]}) : f32[2, 6, 4]
  %5 = Add(%4, %x) : f32[2, 6, 4]
after:
model m(x: f32[2, 6, 4], context: f32[2, 1, 3]) -> y: f32[2, 6, 4] = %4
  %0 = Linear(%x, {param m/q: f32[4, 4]}) : f32[2, 6, 4]
  %1 = Linear(%context, {param m/k: f32[4, 3]}) : f32[2, 1, 4]
  %2 = Linear(%context, {param m/v: f32[4, 3]}) : f32[2, 1, 4]
  %3 = Linear(%2, {param m/o: f32[4, 4]}) : f32[2, 1, 4]
  %4 = Add(%3, %x) : f32[2, 6, 4]
",
};

impl Pass for FoldCrossAttention {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        for id in rw.graph().nodes() {
            if rw.graph().contains(id) && matches!(rw.graph().node(id).op, Op::Attention(_)) {
                visit(rw, id)?;
            }
        }
        Ok(())
    }
}

fn visit(rw: &mut Rewriter<'_>, id: NodeId) -> Result<()> {
    let graph = rw.graph();
    let [q, k, v] = graph.inputs_of(id)[..] else { return Ok(()) };
    let keys = graph.ty(k).shape[1].clone();
    if keys != Dim::Const(1) {
        if q.node != k.node && graph.ty(q).shape[1] != keys {
            rw.decline(id, None, Why::new("several-keys").with("keys", keys.as_const().unwrap_or(-1)));
        }
        return Ok(());
    }
    let queries = graph.ty(q).shape[1].as_const().unwrap_or(-1);
    let projection = sole_linear_reader(graph, Outlet { node: id, slot: 0 });
    rw.apply(id, None, Why::new("one-key").with("queries", queries), |e| {
        let value = before_repetition(e, v)?;
        let (site, value) = match projection {
            Some(linear) => (linear, project(e, linear, value)?),
            None => (id, value),
        };
        let old = Outlet { node: site, slot: 0 };
        let full = e.graph().ty(old).clone();
        let readers: Vec<NodeId> = e.graph().users(old).into_iter().map(|(n, _)| n).collect();
        let narrow = if e.graph().is_output(old) {
            // An output of the graph has a node of its own.
            projection.is_some() && e.graph().ty(value) == &full
        } else {
            e.graph().ty(value) == &full || readers.iter().all(|r| broadcasts(e.graph(), *r, old))
        };
        let new = if narrow { value } else { e.add(Op::Expand { shape: full.shape }, &[value], "broadcast")? };
        e.redirect(old, new, &[]);
        // Left where it is, the dead site would be found again.
        if site != id {
            e.remove(site)?;
        }
        e.remove(id)
    })
}

/// The linear layer that alone reads a tensor, if it is so.
fn sole_linear_reader(graph: &OpGraph, outlet: Outlet) -> Option<NodeId> {
    match graph.users(outlet)[..] {
        [(reader, 0)] if !graph.is_output(outlet) && graph.node(reader).op == Op::Linear => Some(reader),
        _ => None,
    }
}

/// `linear` applied to another input.
fn project(e: &mut super::Edit<'_>, linear: NodeId, value: Outlet) -> Result<Outlet> {
    let mut inputs = e.graph().inputs_of(linear);
    let repeated = repetition(e.graph(), value);
    inputs[0] = repeated.as_ref().map_or(value, |r| r.source);
    let out = e.add(Op::Linear, &inputs, "folded")?;
    repeated.map_or(Ok(out), |r| repeat(e, out, &r))
}

/// The value computed before the rows of its input were repeated, then repeated.
fn before_repetition(e: &mut super::Edit<'_>, value: Outlet) -> Result<Outlet> {
    if e.graph().node(value.node).op != Op::Linear {
        return Ok(value);
    }
    let input = e.graph().inputs_of(value.node)[0];
    if repetition(e.graph(), input).is_none() { Ok(value) } else { project(e, value.node, input) }
}

/// Rows that are copies: `Reshape(Expand(source))` where source is `[b, 1, t, c]`, the copies `[b, n, t, c]`, the rows `[b·n, t, c]`.
#[derive(Clone)]
struct Repetition {
    source: Outlet,
    copies: Dim,
}

fn repetition(graph: &OpGraph, rows: Outlet) -> Option<Repetition> {
    let reshape = graph.node(rows.node);
    let expanded = *graph.inputs_of(rows.node).first()?;
    let expand = graph.node(expanded.node);
    let (Op::Reshape { .. }, Op::Expand { .. }) = (&reshape.op, &expand.op) else { return None };
    let source = *graph.inputs_of(expanded.node).first()?;
    let (from, to) = (&graph.ty(source).shape, &expand.outs[0].shape);
    let [b, n, t, c] = &to[..] else { return None };
    let merged = reshape.outs[0].shape == [b * n, t.clone(), c.clone()];
    let only_copies = from[..] == [b.clone(), Dim::Const(1), t.clone(), c.clone()];
    (merged && only_copies).then(|| Repetition { source, copies: n.clone() })
}

fn repeat(e: &mut super::Edit<'_>, value: Outlet, r: &Repetition) -> Result<Outlet> {
    let s = e.graph().ty(value).shape.clone();
    let wide = vec![s[0].clone(), r.copies.clone(), s[2].clone(), s[3].clone()];
    let rows = vec![product(&wide[..2]), s[2].clone(), s[3].clone()];
    let wide = e.add(Op::Expand { shape: wide }, &[value], "repeat")?;
    e.add(Op::Reshape { shape: rows }, &[wide], "rows")
}

/// Does the reader combine the tensor with one of the full shape, element by element?
fn broadcasts(graph: &OpGraph, reader: NodeId, tensor: Outlet) -> bool {
    let others_full = graph.inputs_of(reader).iter().any(|i| *i != tensor && graph.ty(*i).shape == graph.ty(tensor).shape);
    matches!(graph.node(reader).op, Op::Binary(_)) && others_full
}
