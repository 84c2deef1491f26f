//! Tensors that live in pieces, because nobody reads them whole.
//!
//! ```text
//! made and read along the same ranges            each piece is read as it is
//! made along frames, read along rows             each piece is taken apart by a Split as soon as it is made;
//!                                                a reader's piece is the Concat of its blocks of all frames
//! made whole, read along ranges                  taken apart by one Split in front of its readers
//! read with a halo                               a reader's piece is the Concat of a piece and the edges of its neighbours
//! ```
//! So what was read goes piece by piece, as ONNX Runtime frees a tensor behind its last reader, where a slice of a whole tensor keeps all
//! of it. Makers and readers must have one knob: what it does may change the cost of nobody else.

use crate::diag::Result;
use crate::ir::op::{Join, Sliced};
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};
use crate::passes::Edit;

/// How a tensor is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The axis, and the halo of pieces.
    pub(super) sliced: Sliced,
    /// The ranges of it.
    pub(super) ranges: Vec<(i64, i64)>,
}

impl Cut {
    fn split(&self) -> Op {
        Op::Split { axis: self.sliced.axis, sizes: self.ranges.iter().map(|(start, end)| end - start).collect() }
    }

    /// The indices of piece number `at`.
    fn piece(&self, at: usize) -> (i64, i64) {
        self.sliced.piece(self.ranges[at], self.ranges.last().map_or(0, |(_, end)| *end))
    }

    /// Is a piece of this cut made of one piece of another, whose pieces have no halo, and the edges of its neighbours?
    fn is_near(&self, other: &Self) -> bool {
        let reach = self.sliced.before.max(self.sliced.after);
        let alike = self.sliced.axis == other.sliced.axis && self.ranges == other.ranges;
        alike && self.ranges.iter().all(|(start, end)| end - start >= reach)
    }

    fn without_halo(&self) -> Self {
        Self { sliced: Sliced::plain(self.sliced.axis), ranges: self.ranges.clone() }
    }
}

/// What becomes of the pieces of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Somebody reads it whole.
    Joined,
    /// They are read as they are.
    Read,
    /// They are taken apart for readers that cut another axis.
    Split(Cut),
}

/// A tensor in pieces.
#[derive(Clone, Debug)]
pub(super) struct Loose {
    /// How it was made.
    pub(super) cut: Cut,
    /// What becomes of the pieces.
    pub(super) fate: Fate,
    /// The pieces so far.
    pub(super) pieces: Vec<Outlet>,
    /// The blocks of each, if they are taken apart.
    blocks: Vec<Vec<Outlet>>,
}

impl Loose {
    pub(super) fn new(cut: Cut, fate: Fate) -> Self {
        Self { cut, fate, pieces: Vec::new(), blocks: Vec::new() }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, e: &mut Edit<'_>, piece: Outlet) -> Result<()> {
        self.pieces.push(piece);
        if let Fate::Split(cut) = &self.fate {
            self.blocks.push(split(e, piece, cut)?);
        }
        Ok(())
    }
}

/// What becomes of the pieces of an output that is joined so.
pub(super) fn fate(graph: &OpGraph, out: Outlet, join: Join, ranges: &[(i64, i64)]) -> Fate {
    let Join::Along(axis) = join else { return Fate::Joined };
    let own = Cut { sliced: Sliced::plain(axis), ranges: ranges.to_vec() };
    let Some(all) = readers(graph, out, graph.node(out.node).knob.as_deref()) else { return Fate::Joined };
    if all.iter().all(|(_, cut)| cut.is_near(&own)) {
        return Fate::Read;
    }
    let mut others = all.iter().map(|(_, cut)| cut).filter(|cut| **cut != own);
    match others.next() {
        Some(cut) if cut.sliced.axis != axis && !cut.sliced.has_halo() && others.all(|other| other == cut) => Fate::Split(cut.clone()),
        _ => Fate::Joined,
    }
}

/// Who reads a tensor and how, if all of them are cut along an axis of it and have this knob; none if nobody does.
fn readers(graph: &OpGraph, tensor: Outlet, knob: Option<&str>) -> Option<Vec<(NodeId, Cut)>> {
    let reader = |(id, slot): (NodeId, u16)| {
        let node = graph.node(id);
        let Op::ForChunks(chunks) = &node.op else { return None };
        let sliced = chunks.sliced.get(usize::from(slot)).copied().flatten()?;
        (node.knob.as_deref() == knob).then(|| (id, Cut { sliced, ranges: chunks.ranges.clone() }))
    };
    let all: Vec<(NodeId, Cut)> = graph.users(tensor).into_iter().map(reader).collect::<Option<_>>()?;
    (!all.is_empty() && !graph.is_output(tensor)).then_some(all)
}

/// The pieces of a tensor that only sites like this one read, if some of them yields as much as it takes: what goes makes room for
/// what comes. A tensor that stays anyway, bound by the caller or a constant, is left whole.
pub(super) fn taken_apart(e: &mut Edit<'_>, site: NodeId, tensor: Outlet, cut: &Cut) -> Result<Option<Loose>> {
    let graph = e.graph();
    let stays = matches!(graph.node(tensor.node).op, Op::Input | Op::Weight(_));
    let Some(all) = readers(graph, tensor, graph.node(site).knob.as_deref()).filter(|_| !stays) else { return Ok(None) };
    let yields = |id: NodeId| graph.node(id).outs.iter().filter_map(crate::ir::TensorType::bytes).sum::<u64>();
    let makes_room = all.iter().any(|(id, _)| graph.ty(tensor).bytes().is_some_and(|b| b <= yields(*id)));
    let cut = cut.without_halo();
    if !makes_room || !all.iter().all(|(_, other)| other.is_near(&cut)) {
        return Ok(None);
    }
    let pieces = split(e, tensor, &cut)?;
    Ok(Some(Loose { cut, fate: Fate::Read, pieces, blocks: Vec::new() }))
}

fn split(e: &mut Edit<'_>, tensor: Outlet, cut: &Cut) -> Result<Vec<Outlet>> {
    let node = e.add(cut.split(), &[tensor], "apart")?.node;
    Ok((0..cut.ranges.len() as u16).map(|slot| Outlet { node, slot }).collect())
}

/// The piece number `at` of a tensor as a reader cuts it.
pub(super) fn part(e: &mut Edit<'_>, loose: Option<&Loose>, tensor: Outlet, cut: &Cut, at: usize) -> Result<Outlet> {
    let Some(loose) = loose else {
        return slice(e, tensor, cut.sliced.axis, cut.piece(at), "piece");
    };
    match &loose.fate {
        Fate::Split(other) if loose.cut == *cut => e.add(Op::Concat { axis: other.sliced.axis }, &loose.blocks[at], "piece"),
        Fate::Split(_) => {
            let blocks: Vec<Outlet> = loose.blocks.iter().map(|of_piece| of_piece[at]).collect();
            e.add(Op::Concat { axis: loose.cut.sliced.axis }, &blocks, "piece")
        }
        Fate::Read | Fate::Joined => with_edges(e, loose, cut, at),
    }
}

/// Piece number `at` with the edges of its neighbours that the halo takes in.
fn with_edges(e: &mut Edit<'_>, loose: &Loose, cut: &Cut, at: usize) -> Result<Outlet> {
    let (axis, (start, end), (from, to)) = (cut.sliced.axis, cut.ranges[at], cut.piece(at));
    let mut parts = Vec::new();
    if from < start {
        let extent = start - cut.ranges[at - 1].0;
        parts.push(slice(e, loose.pieces[at - 1], axis, (extent - (start - from), extent), "edge")?);
    }
    parts.push(loose.pieces[at]);
    if to > end {
        parts.push(slice(e, loose.pieces[at + 1], axis, (0, to - end), "edge")?);
    }
    if let [alone] = parts[..] { Ok(alone) } else { e.add(Op::Concat { axis }, &parts, "piece") }
}

fn slice(e: &mut Edit<'_>, tensor: Outlet, axis: usize, (start, end): (i64, i64), name: &str) -> Result<Outlet> {
    e.add(Op::Slice { axis, start: Dim::Const(start), end: Dim::Const(end) }, &[tensor], name)
}
