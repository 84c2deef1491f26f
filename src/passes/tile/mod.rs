//! `tile`: computes regions of a model tile by tile, along an axis of which each index stands for itself.
//!
//! ```text
//! spatial     convolutions, norms, … on [batch·frames, c, h, w]      along frames              `spatial`
//!             inside of one piece of frames                          along rows, with halos    `rows`
//! temporal    convolutions over frames and what is around them       along rows of pixels      `temporal`
//! ff          Linear ─ GeGlu ─ Linear                                along rows of tokens      `feed_forward`
//! ```
//! Legal because of what `ir::axes` says: index i of such a region reads index i alone of what it reads. A norm over the axis that is cut
//! does not; it becomes sweeps (`sweep`): partial statistics of each tile, merged (`norm`), then applied with what follows. So
//! a temporal decoder decodes "in chunks" without changing the picture (`docs/facts/svd_onnx.md` section 6).
//!
//! What it gains is memory: the tensors inside of a region are those of one tile. It costs copies of what goes in and out, smaller kernels,
//! and in sweeps what is computed twice, or memory for what is kept. Tensors between regions that are cut differently live as blocks
//! (`unroll-chunks`), which is why one knob governs spatial and temporal runs of a level.

mod answer;
mod body;
mod feed_forward;
mod norm;
mod region;
mod rows;
mod spatial;
mod sweep;
mod temporal;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::op::ForChunks;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::units::Bytes;
use answer::{Answer, Level, answers};
use region::{Region, counts};
use sweep::{Tiles, tile};

pub(super) struct Tile;

/// What the knobs of feed-forward blocks and of levels are called.
const BLOCKS: &str = "feed-forward";
const LEVELS: &str = "frames";
/// More pieces than this bring nothing to a feed-forward block: the hidden tensor is then smaller than the rest of it.
const MOST: i64 = 8;
/// A run holds about so many of its tensors at once. It is cut over rows where they may take as much as the largest tensor of the graph;
/// elsewhere it is not what a model's memory goes to.
const HELD: u64 = 4;

static INFO: PassInfo = PassInfo {
    id: "tile",
    summary: "compute regions over some frames, rows of pixels or tokens at a time",
    effect: Effect::Exact,
    asks: Some(Scope::Segment),
    requires: &[Property::Bound, Property::Typed],
    establishes: &[],
    example: "
choose: m.l.frames=1.rows-4
before:
model m(x: f32[1, 2, 3, 4, 1]) -> y: f32[1, 2, 3, 4, 1] = %1
  %0 = GroupNorm{groups=1 eps=0.5}(%x, {param m/scale: f32[2]}, {param m/bias: f32[2]}) : f32[1, 2, 3, 4, 1]
  %1 = TemporalConv(%0, {param m/w: f32[2, 2, 3, 1, 1]}) : f32[1, 2, 3, 4, 1]
after:
model m(x: f32[1, 2, 3, 4, 1]) -> y: f32[1, 2, 3, 4, 1] = %14
  %0 = ForChunks{sliced=[3] joined=[+] ranges=[(0, 1), (1, 2), (2, 3), (3, 4)]}(%x) : f32[4, 2, 1, 1] @m.l.frames
    1: model m.body(in0: f32[1, 2, 3, 1, 1]) -> statistics: f32[1, 2, 1, 1] = %7
      %0 = Reshape{shape=[1, 1, 6]}(%in0) : f32[1, 1, 6]
      %1 = ReduceMean{axes=[2]}(%0) : f32[1, 1, 1]
      %2 = Sub(%0, %1) : f32[1, 1, 6]
      %3 = Mul(%2, %2) : f32[1, 1, 6]
      %4 = ReduceMean{axes=[2]}(%3) : f32[1, 1, 1]
      %5 = Reshape{shape=[1, 1, 1, 1]}(%1) : f32[1, 1, 1, 1]
      %6 = Reshape{shape=[1, 1, 1, 1]}(%4) : f32[1, 1, 1, 1]
      %7 = Concat{axis=1}(%5, %6) : f32[1, 2, 1, 1]
  %1 = Split{axis=1 sizes=[1, 1]}(%0) : f32[4, 1, 1, 1], f32[4, 1, 1, 1] @m.l.frames
  %2 = ReduceMean{axes=[0]}(%1) : f32[1, 1, 1, 1] @m.l.frames
  %3 = Sub(%1, %2) : f32[4, 1, 1, 1] @m.l.frames
  %4 = Mul(%3, %3) : f32[4, 1, 1, 1] @m.l.frames
  %5 = Add(%1.1, %4) : f32[4, 1, 1, 1] @m.l.frames
  %6 = ReduceMean{axes=[0]}(%5) : f32[1, 1, 1, 1] @m.l.frames
  %7 = Add(%6, {literal f32[1] = 0.5}) : f32[1, 1, 1, 1] @m.l.frames
  %8 = Sqrt(%7) : f32[1, 1, 1, 1] @m.l.frames
  %9 = Div({reshape[1, 2](param m/scale: f32[2])}, %8) : f32[1, 1, 1, 2] @m.l.frames
  %10 = Mul(%2, %9) : f32[1, 1, 1, 2] @m.l.frames
  %11 = Sub({reshape[1, 2](param m/bias: f32[2])}, %10) : f32[1, 1, 1, 2] @m.l.frames
  %12 = Reshape{shape=[1, 2, 1, 1, 1]}(%9) : f32[1, 2, 1, 1, 1] @m.l.frames
  %13 = Reshape{shape=[1, 2, 1, 1, 1]}(%11) : f32[1, 2, 1, 1, 1] @m.l.frames
  %14 = ForChunks{sliced=[3, -, -] joined=[3] ranges=[(0, 1), (1, 2), (2, 3), (3, 4)]}(%x, %12, %13) : f32[1, 2, 3, 4, 1] @m.l.frames
    1: model m.body(in0: f32[1, 2, 3, 1, 1], in1: f32[1, 2, 1, 1, 1], in2: f32[1, 2, 1, 1, 1]) -> out0: f32[1, 2, 3, 1, 1] = %2
      %0 = Mul(%in0, %in1) : f32[1, 2, 3, 1, 1]
      %1 = Add(%0, %in2) : f32[1, 2, 3, 1, 1]
      %2 = TemporalConv(%1, {param m/w: f32[2, 2, 3, 1, 1]}) : f32[1, 2, 3, 1, 1]
",
};

impl Pass for Tile {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, graph: &OpGraph, _: &Machine) -> Vec<Knob> {
        let mut blocks: BTreeMap<String, i64> = BTreeMap::new();
        for region in feed_forward::blocks(graph) {
            let most = blocks.entry(knob_id(graph, &region, BLOCKS)).or_insert(1);
            *most = region.extent.max(*most);
        }
        let about = "pieces in which feed-forward blocks are computed";
        let words = |extent| counts(extent, MOST).into_iter().map(|n| n.to_string());
        let block = |(id, extent): (String, i64)| Knob::exact(id, Scope::Segment, words(extent), about);
        let level = |(id, level): (String, Level)| {
            let about = match (level.temporal.extent, level.spatial.extent) {
                (0, 0) => "pieces of the frames axis in which spatial blocks are computed",
                (0, _) => "pieces of frames in which spatial blocks are computed, tiles of rows with a halo inside of them",
                (_, 0) => "pieces of frames in which spatial blocks are computed, tiles of rows for temporal ones",
                _ => "pieces of frames in which spatial blocks are computed, tiles of rows for temporal ones and inside of spatial ones",
            };
            Knob::exact(id, Scope::Segment, answers(level).iter().map(ToString::to_string), about)
        };
        blocks.into_iter().map(block).chain(levels(graph).into_iter().map(level)).collect()
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        for region in feed_forward::blocks(rw.graph()) {
            let knob = knob_id(rw.graph(), &region, BLOCKS);
            let hidden = rw.graph().node(region.members[0].id).outs[0].bytes().unwrap_or(0);
            let tiles = Tiles { count: cx.choices.count(&knob), again: false };
            let why = Why::new("rows-are-independent").with("hidden", Bytes(hidden)).with("pieces", tiles.count);
            cut(rw, &region, &knob, tiles, why)?;
        }
        let runs = Runs::of(rw.graph());
        for (region, is_temporal) in runs.in_order(rw.graph()) {
            let knob = knob_id(rw.graph(), region, LEVELS);
            let answer: Answer = cx.choices.get(&knob).and_then(|word| word.parse().ok()).unwrap_or(Answer::WHOLE);
            let widest = Bytes(region.widest(rw.graph()));
            if is_temporal {
                let tiles = answer.rows.unwrap_or(Tiles { count: 1, again: false });
                let why = Why::new("pixels-are-independent").with("widest", widest).with("tiles", tiles.count).with("rows", region.extent);
                cut(rw, region, &knob, tiles, why)?;
            } else {
                let tiles = Tiles { count: answer.frames, again: false };
                let why =
                    Why::new("frames-are-independent").with("widest", widest).with("pieces", tiles.count).with("images", region.extent);
                let halo = answer.halo.filter(|_| runs.is_wide(rw.graph(), region));
                let images = cut(rw, region, &knob, tiles, why)?;
                match (images, halo) {
                    (Some(id), Some(halo)) => cut_images(rw, id, &knob, halo)?,
                    (None, Some(halo)) => cut_rows(rw, &region.nodes(), &knob, halo)?,
                    (_, None) => {}
                }
            }
        }
        Ok(())
    }
}

/// Cuts a region; returns what yields its results, if there is more than one tile.
fn cut(rw: &mut Rewriter<'_>, region: &Region, knob: &str, tiles: Tiles, why: Why) -> Result<Option<NodeId>> {
    rw.tag(&region.nodes(), knob);
    let mut made = None;
    if tiles.count > 1 {
        rw.apply(region.last(), Some(knob), why, |e| {
            made = Some(tile(e, region, tiles)?);
            Ok(())
        })?;
    }
    Ok(made)
}

/// Cuts rows in the bodies that compute some images each.
fn cut_images(rw: &mut Rewriter<'_>, id: NodeId, knob: &str, tiles: Tiles) -> Result<()> {
    let Op::ForChunks(mut chunks) = rw.graph().node(id).op.clone() else { return Ok(()) };
    for (_, body) in &mut chunks.bodies {
        let unit = rw.unit().to_owned();
        let mut inner = rw.of_body(&unit, body);
        let nodes = inner.graph().nodes();
        cut_rows(&mut inner, &nodes, knob, tiles)?;
        rw.extend(inner.finish());
    }
    rw.apply(id, Some(knob), Why::new("rows-inside-images").with("tiles", tiles.count), |e| e.set_op(id, Op::ForChunks(chunks)))
}

/// Cuts what may be cut along rows among these nodes.
fn cut_rows(rw: &mut Rewriter<'_>, nodes: &[NodeId], knob: &str, tiles: Tiles) -> Result<()> {
    for region in rows::runs(rw.graph(), nodes) {
        let widest = Bytes(region.widest(rw.graph()));
        let why = Why::new("rows-read-a-halo").with("widest", widest).with("tiles", tiles.count).with("rows", region.extent);
        cut(rw, &region, knob, tiles, why)?;
    }
    Ok(())
}

fn knob_id(graph: &OpGraph, region: &Region, question: &str) -> String {
    format!("{}.{}.{question}", graph.name, graph.node(region.last()).group)
}

/// What each level can be cut into, by its knob.
fn levels(graph: &OpGraph) -> BTreeMap<String, Level> {
    let runs = Runs::of(graph);
    let mut levels: BTreeMap<String, Level> = BTreeMap::new();
    for region in &runs.spatial {
        let level = levels.entry(knob_id(graph, region, LEVELS)).or_default();
        level.frames = region.extent;
        runs.rows(graph, region).iter().for_each(|r| level.spatial.add(r.extent, sweep::has_choice(graph, r)));
    }
    for region in &runs.temporal {
        let level = levels.entry(knob_id(graph, region, LEVELS)).or_default();
        level.temporal.add(region.extent, sweep::has_choice(graph, region));
    }
    levels
}

/// The runs of a graph that the knobs of levels govern.
struct Runs {
    spatial: Vec<Region>,
    temporal: Vec<Region>,
    /// Bytes of the largest tensor of the graph.
    widest: u64,
}

impl Runs {
    fn of(graph: &OpGraph) -> Self {
        let mut runs = Self { spatial: spatial::runs(graph), temporal: Vec::new(), widest: widest(graph) };
        let spatial = std::mem::take(&mut runs.spatial);
        // Of one image only rows can be cut.
        runs.spatial = spatial.into_iter().filter(|r| r.extent > 1 || !runs.rows(graph, r).is_empty()).collect();
        let taken: BTreeSet<NodeId> = runs.spatial.iter().flat_map(Region::nodes).collect();
        runs.temporal = temporal::runs(graph, &taken).into_iter().filter(|r| runs.is_wide(graph, r)).collect();
        runs
    }

    /// May the tensors that a region holds at once take as much as the largest of the graph?
    fn is_wide(&self, graph: &OpGraph, region: &Region) -> bool {
        region.widest(graph).saturating_mul(HELD) >= self.widest
    }

    /// The runs inside of a spatial one that are worth cutting over rows.
    fn rows(&self, graph: &OpGraph, region: &Region) -> Vec<Region> {
        if self.is_wide(graph, region) { rows::runs(graph, &region.nodes()) } else { Vec::new() }
    }

    /// All of them by their place in the execution order, and whether they are temporal.
    fn in_order(&self, graph: &OpGraph) -> Vec<(&Region, bool)> {
        let mut all: Vec<(&Region, bool)> =
            self.spatial.iter().map(|r| (r, false)).chain(self.temporal.iter().map(|r| (r, true))).collect();
        all.sort_by_key(|(r, _)| graph.node(r.last()).order.clone());
        all
    }
}

/// Bytes of the largest tensor of a graph. One that this pass cut counts as a whole, so that it is the same before and after; what others
/// cut is not looked into, so that it is the same whatever their knobs' answers are.
fn widest(graph: &OpGraph) -> u64 {
    let bytes = |o: Outlet| graph.ty(o).bytes().unwrap_or(0);
    let of_node = |id: NodeId| {
        let outs = (0..graph.node(id).outs.len() as u16).map(|slot| bytes(Outlet { node: id, slot })).max().unwrap_or(0);
        match &graph.node(id).op {
            Op::ForChunks(chunks) if is_own(graph, id) => pieces(chunks).max(outs),
            _ => outs,
        }
    };
    graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Weight(_))).map(of_node).max().unwrap_or(0)
}

/// Does a knob of this pass govern the node?
fn is_own(graph: &OpGraph, id: NodeId) -> bool {
    let question = graph.node(id).knob.as_deref().and_then(|knob| knob.rsplit('.').next());
    question.is_some_and(|q| q == BLOCKS || q == LEVELS)
}

/// Bytes of the largest tensor of the bodies, all pieces together.
fn pieces(chunks: &ForChunks) -> u64 {
    let mut sums: Vec<u64> = Vec::new();
    for (_, place) in chunks.placed() {
        let Some(body) = chunks.body(place) else { continue };
        let nodes = body.nodes().into_iter().filter(|id| !matches!(body.node(*id).op, Op::Weight(_)));
        for (i, id) in nodes.enumerate() {
            let bytes = match &body.node(id).op {
                Op::ForChunks(rows) => pieces(rows),
                _ => body.node(id).outs[0].bytes().unwrap_or(0),
            };
            sums.resize(sums.len().max(i + 1), 0);
            sums[i] = sums[i].saturating_add(bytes);
        }
    }
    sums.into_iter().max().unwrap_or(0)
}
