//! `chunk-feed-forward`: computes `Linear → GeGlu → Linear` over one part of the rows at a time.
//!
//! Legal because all three act on each row alone. The hidden tensor between them is eight times as wide as the input (2250 MiB
//! at the first level of SVD-XT in fp16, `docs/facts/svd.md` 2.6) and is what the pieces shrink; they cost a copy of input and
//! output and smaller matrix products. One knob per level.

use std::collections::BTreeMap;

use super::regions::{Region, counts, separable, split};
use super::{Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::units::Bytes;

pub(super) struct ChunkFeedForward;

/// More pieces than this bring nothing: the hidden tensor is then smaller than the rest of the block.
const MOST: i64 = 8;

static INFO: PassInfo = PassInfo {
    id: "chunk-feed-forward",
    summary: "compute feed-forward blocks over one part of the rows at a time",
    effect: Effect::Exact,
    asks: Some(Scope::Segment),
    requires: &[Property::Bound, Property::Typed],
    establishes: &[],
    example: "
choose: m.l.feed-forward=2
before:
model m(x: f32[4, 5, 2]) -> y: f32[4, 5, 2] = %2
  %0 = Linear(%x, {param m/up: f32[8, 2]}) : f32[4, 5, 8]
  %1 = GeGlu(%0) : f32[4, 5, 4]
  %2 = Linear(%1, {param m/down: f32[2, 4]}) : f32[4, 5, 2]
after:
model m(x: f32[4, 5, 2]) -> y: f32[4, 5, 2] = %0
  %0 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 2), (2, 4)]}(%x) : f32[4, 5, 2] @m.l.feed-forward
    2: model m.body(in0: f32[2, 5, 2]) -> out0: f32[2, 5, 2] = %2
      %0 = Linear(%in0, {param m/up: f32[8, 2]}) : f32[2, 5, 8]
      %1 = GeGlu(%0) : f32[2, 5, 4]
      %2 = Linear(%1, {param m/down: f32[2, 4]}) : f32[2, 5, 2]
",
};

impl Pass for ChunkFeedForward {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, graph: &OpGraph, _: &Machine) -> Vec<Knob> {
        let mut extents: BTreeMap<String, i64> = BTreeMap::new();
        for region in graph.nodes().into_iter().filter_map(|id| site(graph, id)) {
            let most = extents.entry(knob_id(graph, &region)).or_insert(1);
            *most = region.extent.max(*most);
        }
        let words = |extent| counts(extent, MOST).into_iter().map(|n| n.to_string());
        let about = "pieces in which feed-forward blocks are computed";
        let knob = |(id, extent): (String, i64)| Knob::exact(id, Scope::Segment, words(extent), about);
        extents.into_iter().map(knob).filter(|k| k.answers.len() > 1).collect()
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        for id in rw.graph().nodes() {
            if !rw.graph().contains(id) {
                continue;
            }
            let Some(region) = site(rw.graph(), id) else { continue };
            let knob = knob_id(rw.graph(), &region);
            rw.tag(&region.nodes, &knob);
            let count = cx.choices.count(&knob);
            let last = region.nodes[region.nodes.len() - 1];
            let hidden = rw.graph().node(region.nodes[0]).outs[0].bytes().unwrap_or(0);
            let why = Why::new("rows-are-independent").with("hidden", Bytes(hidden)).with("pieces", count);
            if count > 1 {
                rw.apply(last, Some(&knob), why, |e| split(e, &region, count))?;
            }
        }
        Ok(())
    }
}

fn knob_id(graph: &OpGraph, region: &Region) -> String {
    format!("{}.{}.feed-forward", graph.name, graph.node(region.nodes[0]).group)
}

/// `Linear → GeGlu → Linear` around a GeGlu, if nobody else reads what lies between and the rows of all three are independent.
fn site(graph: &OpGraph, id: NodeId) -> Option<Region> {
    if graph.node(id).op != Op::GeGlu {
        return None;
    }
    let up = graph.inputs_of(id)[0];
    let [(down, 0)] = graph.users(Outlet { node: id, slot: 0 })[..] else { return None };
    let alone = graph.users(up).len() == 1 && !graph.is_output(up) && !graph.is_output(Outlet { node: id, slot: 0 });
    let layers = graph.node(up.node).op == Op::Linear && graph.node(down).op == Op::Linear;
    let nodes = vec![up.node, id, down];
    let rows = alone && layers && nodes.iter().all(|n| separable(graph, *n, 0));
    let extent = graph.node(id).outs[0].shape.first()?.as_const()?;
    rows.then_some(Region { nodes, axis: 0, extent })
}
