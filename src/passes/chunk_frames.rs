//! `chunk-frames`: computes runs of frame-separable operators over some frames at a time.
//!
//! Convolutions, norms and elementwise operators on `[batch·frames, c, h, w]` act on each image alone, so a run of them may be
//! computed for some images at a time with the same result. This is what lets a temporal decoder decode "in chunks" without
//! changing the picture: its spatial halves are cut, its temporal halves see all frames (`docs/facts/svd_onnx.md` section 6).
//! A run that is only one operator long is left alone: cutting it frees nothing. One knob per level.

use std::collections::BTreeMap;

use super::regions::{Region, counts, separable, split};
use super::{Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::{NodeId, Op, OpGraph};
use crate::units::Bytes;

pub(super) struct ChunkFrames;

/// At most this many pieces, unless the axis is shorter.
const MOST: i64 = 16;

static INFO: PassInfo = PassInfo {
    id: "chunk-frames",
    summary: "compute convolutions and norms over some frames at a time",
    effect: Effect::Exact,
    asks: Some(Scope::Segment),
    requires: &[Property::Bound, Property::Typed],
    establishes: &[],
    example: "
choose: m.l.frames=2
before:
model m(x: f32[3, 32, 2, 2]) -> y: f32[3, 32, 4, 4] = %1
  %0 = GroupNorm{groups=32 eps=0.000001 silu}(%x, {param m/scale: f32[32]}, {param m/bias: f32[32]}) : f32[3, 32, 2, 2]
  %1 = Resize{factors=[1, 1, 2, 2]}(%0) : f32[3, 32, 4, 4]
after:
model m(x: f32[3, 32, 2, 2]) -> y: f32[3, 32, 4, 4] = %0
  %0 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 1), (1, 3)]}(%x) : f32[3, 32, 4, 4] @m.l.frames
    1: model m.body(in0: f32[1, 32, 2, 2]) -> out0: f32[1, 32, 4, 4] = %1
      %0 = GroupNorm{groups=32 eps=0.000001 silu}(%in0, {param m/scale: f32[32]}, {param m/bias: f32[32]}) : f32[1, 32, 2, 2]
      %1 = Resize{factors=[1, 1, 2, 2]}(%0) : f32[1, 32, 4, 4]
    2: model m.body(in0: f32[2, 32, 2, 2]) -> out0: f32[2, 32, 4, 4] = %1
      %0 = GroupNorm{groups=32 eps=0.000001 silu}(%in0, {param m/scale: f32[32]}, {param m/bias: f32[32]}) : f32[2, 32, 2, 2]
      %1 = Resize{factors=[1, 1, 2, 2]}(%0) : f32[2, 32, 4, 4]
",
};

impl Pass for ChunkFrames {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, graph: &OpGraph, _: &Machine) -> Vec<Knob> {
        let mut extents: BTreeMap<String, i64> = BTreeMap::new();
        for region in sites(graph) {
            extents.insert(knob_id(graph, &region), region.extent);
        }
        let words = |extent| counts(extent, MOST).into_iter().map(|n| n.to_string());
        let about = "pieces of the frames axis in which spatial blocks are computed";
        let knob = |(id, extent): (String, i64)| Knob::exact(id, Scope::Segment, words(extent), about);
        extents.into_iter().map(knob).collect()
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        for region in sites(rw.graph()) {
            let knob = knob_id(rw.graph(), &region);
            rw.tag(&region.nodes, &knob);
            let count = cx.choices.count(&knob);
            let last = region.nodes[region.nodes.len() - 1];
            let widest = region.nodes.iter().filter_map(|n| rw.graph().node(*n).outs[0].bytes()).max().unwrap_or(0);
            let why = Why::new("frames-are-independent").with("widest", Bytes(widest)).with("pieces", count).with("images", region.extent);
            if count > 1 {
                rw.apply(last, Some(&knob), why, |e| split(e, &region, count))?;
            }
        }
        Ok(())
    }
}

fn knob_id(graph: &OpGraph, region: &Region) -> String {
    format!("{}.{}.frames", graph.name, graph.node(region.nodes[0]).group)
}

/// Maximal runs of separable nodes that follow each other in the execution order within one group.
fn sites(graph: &OpGraph) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut run: Vec<NodeId> = Vec::new();
    let mut extent = 0;
    for id in graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_))) {
        let images = images(graph, id);
        let joins =
            run.last().is_none_or(|last| graph.node(*last).group == graph.node(id).group) && (run.is_empty() || images == Some(extent));
        if !joins || images.is_none() {
            close(graph, &mut regions, &mut run, extent);
        }
        if let Some(images) = images {
            extent = images;
            run.push(id);
        }
    }
    close(graph, &mut regions, &mut run, extent);
    regions
}

fn close(graph: &OpGraph, regions: &mut Vec<Region>, run: &mut Vec<NodeId>, extent: i64) {
    let nodes = std::mem::take(run);
    if nodes.len() > 1 && extent > 1 {
        let region = Region { nodes, axis: 0, extent };
        // What nobody reads has nothing to join.
        if !region.outputs(graph).is_empty() {
            regions.push(region);
        }
    }
}

/// The number of images, if the node is part of a spatial block and acts on each of them alone.
fn images(graph: &OpGraph, id: NodeId) -> Option<i64> {
    let node = graph.node(id);
    let [images, _, _, _] = &node.outs[0].shape[..] else { return None };
    let tensors = graph.inputs_of(id).into_iter().filter(|o| graph.as_weight(*o).is_none());
    let pictures = tensors.into_iter().all(|o| graph.ty(o).rank() == 4);
    (node.knob.is_none() && of_a_block(&node.op) && pictures && separable(graph, id, 0)).then(|| images.as_const())?
}

/// What spatial blocks are made of. Much else is separable, but a run that goes on beyond its block frees less than its pieces cost.
fn of_a_block(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_)
            | Op::GroupNorm(_)
            | Op::InstanceNorm { .. }
            | Op::Silu
            | Op::Gelu { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Upsample { .. }
            | Op::Pad { .. }
            | Op::Cast { .. }
    )
}
