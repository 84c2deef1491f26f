//! `tile-attention`: computes self-attention for some queries at a time, scores materialised.
//!
//! Legal because each query's softmax is over the keys alone. The provider's fused kernel never materialises the scores and is
//! the plain answer; tiles are for providers and shapes where it is missing or slow. With t tiles the scores take 1/t of their
//! memory (`docs/facts/ort.md` section 4). One knob per level; cross- and temporal attention have too few queries to cut.

use std::collections::BTreeMap;

use super::written_attention::{COLUMNS, Chain, ROWS, attend, heads_apart};
use super::{Edit, Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::axes::{self, Dependence};
use crate::ir::op::{Attention, Binary, ForChunks, Join, Place, Sliced};
use crate::ir::{DType, Dim, NodeId, Op, OpGraph, Outlet, TensorType};
use crate::units::Bytes;
use crate::weights::WeightExpr;

pub(super) struct TileAttention;

/// Tile counts on offer.
const TILES: [i64; 4] = [2, 4, 8, 16];
/// A tile of fewer queries than this wastes the matrix product.
const LEAST_QUERIES: i64 = 16;

static INFO: PassInfo = PassInfo {
    id: "tile-attention",
    summary: "compute self-attention for some queries at a time",
    effect: Effect::Exact,
    asks: Some(Scope::Segment),
    requires: &[Property::Bound, Property::Typed],
    establishes: &[],
    example: "
choose: m.l.attention=tile-2
before:
model m(x: f32[1, 32, 4]) -> y: f32[1, 32, 4] = %0
  %0 = Attention{heads=2 scale=0.5}(%x, %x, %x) : f32[1, 32, 4]
after:
model m(x: f32[1, 32, 4]) -> y: f32[1, 32, 4] = %4
  %0 = Reshape{shape=[1, 32, 2, 2]}(%x) : f32[1, 32, 2, 2] @m.l.attention
  %1 = Transpose{perm=[0, 2, 3, 1]}(%0) : f32[1, 2, 2, 32] @m.l.attention
  %2 = Reshape{shape=[1, 32, 2, 2]}(%x) : f32[1, 32, 2, 2] @m.l.attention
  %3 = Transpose{perm=[0, 2, 1, 3]}(%2) : f32[1, 2, 32, 2] @m.l.attention
  %4 = ForChunks{sliced=[1, -, -] joined=[1] ranges=[(0, 16), (16, 32)]}(%x, %1, %3) : f32[1, 32, 4] @m.l.attention
    16: model m.body(q: f32[1, 16, 4], k: f32[1, 2, 2, 32], v: f32[1, 2, 32, 2]) -> out: f32[1, 16, 4] = %7
      %0 = Mul(%q, {literal f32[1] = 0.5}) : f32[1, 16, 4]
      %1 = Reshape{shape=[1, 16, 2, 2]}(%0) : f32[1, 16, 2, 2]
      %2 = Transpose{perm=[0, 2, 1, 3]}(%1) : f32[1, 2, 16, 2]
      %3 = MatMul(%2, %k) : f32[1, 2, 16, 32]
      %4 = Softmax{axis=3}(%3) : f32[1, 2, 16, 32]
      %5 = MatMul(%4, %v) : f32[1, 2, 16, 2]
      %6 = Transpose{perm=[0, 2, 1, 3]}(%5) : f32[1, 16, 2, 2]
      %7 = Reshape{shape=[1, 16, 4]}(%6) : f32[1, 16, 4]
",
};

impl Pass for TileAttention {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, graph: &OpGraph, _: &Machine) -> Vec<Knob> {
        let mut queries: BTreeMap<String, i64> = BTreeMap::new();
        for (id, lq) in graph.nodes().into_iter().filter_map(|id| Some((id, site(graph, id)?))) {
            let least = queries.entry(knob_id(graph, id)).or_insert(lq);
            *least = lq.min(*least);
        }
        let words = |lq| std::iter::once("fused".to_owned()).chain(tiles(lq).map(|t| format!("tile-{t}")));
        let about = "the provider's fused kernel, or tiles of queries";
        let knob = |(id, lq): (String, i64)| Knob::exact(id, Scope::Segment, words(lq), about);
        queries.into_iter().map(knob).collect()
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        for id in rw.graph().nodes() {
            let Some(lq) = site(rw.graph(), id) else { continue };
            let Op::Attention(attention) = rw.graph().node(id).op else { continue };
            let knob = knob_id(rw.graph(), id);
            rw.tag(&[id], &knob);
            let Some(count) = cx.choices.get(&knob).and_then(|c| c.strip_prefix("tile-")).and_then(|t| t.parse::<i64>().ok()) else {
                continue;
            };
            let scores = rw.graph().ty(rw.graph().inputs_of(id)[0]).shape[0].as_const().unwrap_or(0) * attention.heads * lq * lq * 4;
            let why = Why::new("queries-are-independent").with("scores", Bytes(scores as u64)).with("tiles", count);
            rw.apply(id, Some(&knob), why, |e| tile(e, id, attention, count))?;
        }
        Ok(())
    }
}

fn tiles(queries: i64) -> impl Iterator<Item = i64> {
    TILES.into_iter().filter(move |t| queries / t >= LEAST_QUERIES)
}

fn knob_id(graph: &OpGraph, id: NodeId) -> String {
    format!("{}.{}.attention", graph.name, graph.node(id).group)
}

/// The number of queries, if this is self-attention over enough of them to cut.
fn site(graph: &OpGraph, id: NodeId) -> Option<i64> {
    let Op::Attention(_) = graph.node(id).op else { return None };
    let [q, k, _] = graph.inputs_of(id)[..] else { return None };
    let queries = graph.ty(q).shape[1].as_const()?;
    // Every tile reads its queries, and the keys and values whole.
    let axes = axes::at(graph, id);
    let alone = axes.along(0, 1, 0) == Dependence::Independent { axis: 1 }
        && [1, 2].into_iter().all(|i| axes.along(0, 1, i) == Dependence::Broadcast);
    (alone && graph.ty(k).shape[1] == Dim::Const(queries) && tiles(queries).next().is_some()).then_some(queries)
}

fn tile(e: &mut Edit<'_>, id: NodeId, a: Attention, count: i64) -> Result<()> {
    let [q, k, v] = e.graph().inputs_of(id)[..] else { return Ok(()) };
    let (kt, vt) = (e.graph().ty(k).clone(), e.graph().ty(v).clone());
    let mut add = |op, inputs: &[Outlet], name: &str| e.add(op, inputs, name);
    let keys = heads_apart(&mut add, (k, &kt), a.heads, COLUMNS, "keys")?;
    let values = heads_apart(&mut add, (v, &vt), a.heads, ROWS, "values")?;
    let qt = e.graph().ty(q).clone();
    let ranges = ForChunks::even_ranges(qt.shape[1].as_const().unwrap_or(1), count);
    let extents: std::collections::BTreeSet<i64> = ranges.iter().map(|(s, end)| end - s).collect();
    let types = [e.graph().ty(keys).clone(), e.graph().ty(values).clone()];
    let group = e.graph().node(id).group.clone();
    let name = format!("{}.body", e.graph().name);
    let tile = |x| Ok((Place::alone(x), body(&name, &group, &qt, &types, a, x)?));
    let bodies: Result<Vec<(Place, OpGraph)>> = extents.into_iter().map(tile).collect();
    let chunks = ForChunks { sliced: vec![Some(Sliced::plain(1)), None, None], joined: vec![Join::Along(1)], ranges, bodies: bodies? };
    let out = e.add(Op::ForChunks(Box::new(chunks)), &[q, keys, values], "tiles")?;
    e.replace(Outlet { node: id, slot: 0 }, out)?;
    e.remove(id)
}

/// One tile: scale, scores, softmax in fp32, product with the values.
fn body(name: &str, group: &std::sync::Arc<str>, q: &TensorType, kv: &[TensorType; 2], a: Attention, extent: i64) -> Result<OpGraph> {
    let mut g = OpGraph::new(name);
    let mut qt = q.clone();
    qt.shape[1] = extent.into();
    let q = g.input("q", qt.clone());
    let k = g.input("k", kv[0].clone());
    let v = g.input("v", kv[1].clone());
    let scale = g.weight(WeightExpr::literal_f32(&[1], &[a.scale])?.cast(qt.dtype)?);
    let scaled = g.add(Op::Binary(Binary::Mul), &[q, scale], "scale", group)?;
    let mut add = |op, inputs: &[Outlet], name: &str| g.add(op, inputs, name, group);
    let q = heads_apart(&mut add, (scaled, &qt), a.heads, ROWS, "heads")?;
    let chain = Chain {
        mask: None,
        island: (qt.dtype != DType::F32).then_some(qt.dtype),
        joined: vec![qt.shape[0].clone(), extent.into(), &kv[1].shape[1] * &kv[1].shape[3]],
        names: ["softmax", "mix"],
    };
    let out = attend(&mut add, [q, k, v], chain)?;
    g.output("out", out);
    Ok(g)
}
