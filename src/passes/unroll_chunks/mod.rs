//! `unroll-chunks`: writes each `ForChunks` out as ordered slices of one graph.
//!
//! Legal by the meaning of `ForChunks`. The pieces run one after the other, each is cut right before its body, so that
//! one piece's transients are dead before the next begins; `schedule` and the reversed node list make ONNX Runtime keep to it
//! (`docs/facts/ort.md` section 3). What only pieces read is never joined, nor kept whole while it is read (`loose`). No knob: the other
//! form, a loop in the plan, would save the copies along frames alone, 2 % of a decoder (`benches/memory`).

mod loose;

use std::collections::{BTreeMap, BTreeSet};

use super::{Edit, Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::{Diagnostic, Result};
use crate::ir::op::{ForChunks, Sliced};
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::weights::{WeightExpr, WeightOp};
use loose::{Cut, Fate, Loose, fate, part, taken_apart};

pub(super) struct UnrollChunks;

static INFO: PassInfo = PassInfo {
    id: "unroll-chunks",
    summary: "write chunked regions out as ordered slices",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Bound],
    establishes: &[Property::Flat],
    example: "
before:
model m(x: f32[4, 2]) -> y: f32[4, 2] = %0
  %0 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 2), (2, 4)]}(%x) : f32[4, 2]
    2: model m.body(in0: f32[2, 2]) -> out0: f32[2, 2] = %0
      %0 = Exp(%in0) : f32[2, 2]
after:
model m(x: f32[4, 2]) -> y: f32[4, 2] = %4
  %0 = Slice{axis=0 0..2}(%x) : f32[2, 2]
  %1 = Exp(%0) : f32[2, 2]
  %2 = Slice{axis=0 2..4}(%x) : f32[2, 2]
  %3 = Exp(%2) : f32[2, 2]
  %4 = Concat{axis=0}(%1, %3) : f32[4, 2]
",
};

impl Pass for UnrollChunks {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        let mut unrolling = Unrolling { constants: Constants::of(rw.graph()), loose: BTreeMap::new(), done: BTreeSet::new() };
        // A body may hold chunks itself: they come to the outer graph with it.
        loop {
            let sites = sites(rw.graph());
            if sites.is_empty() {
                return Ok(());
            }
            for id in sites {
                let Op::ForChunks(chunks) = rw.graph().node(id).op.clone() else { continue };
                let knob = rw.graph().node(id).knob.clone();
                let why = Why::new("ordered-slices").with("pieces", chunks.ranges.len() as i64);
                rw.apply(id, knob.as_deref(), why, |e| unrolling.unroll(e, id, &chunks))?;
            }
        }
    }
}

fn sites(graph: &OpGraph) -> Vec<NodeId> {
    graph.nodes().into_iter().filter(|id| matches!(graph.node(*id).op, Op::ForChunks(_))).collect()
}

/// The constants of the outer graph by identity, so that each piece reads the same node.
struct Constants(BTreeMap<*const WeightOp, Outlet>);

impl Constants {
    fn of(graph: &OpGraph) -> Self {
        let each = graph.nodes().into_iter().filter_map(|id| {
            let outlet = Outlet { node: id, slot: 0 };
            graph.as_weight(outlet).map(|w| (std::ptr::from_ref(w.op()), outlet))
        });
        Self(each.collect())
    }

    fn get(&mut self, e: &mut Edit<'_>, expr: &WeightExpr) -> Outlet {
        *self.0.entry(std::ptr::from_ref(expr.op())).or_insert_with(|| e.weight(expr.clone()))
    }
}

struct Unrolling {
    constants: Constants,
    /// Tensors that live in pieces.
    loose: BTreeMap<Outlet, Loose>,
    /// Sites that are written out and stay until those that read what they left in pieces are too.
    done: BTreeSet<NodeId>,
}

impl Unrolling {
    fn unroll(&mut self, e: &mut Edit<'_>, id: NodeId, chunks: &ForChunks) -> Result<()> {
        let inputs = e.graph().inputs_of(id);
        let cuts: Vec<Option<Cut>> =
            chunks.sliced.iter().map(|sliced| sliced.map(|sliced| Cut { sliced, ranges: chunks.ranges.clone() })).collect();
        for (input, cut) in inputs.iter().zip(&cuts) {
            if let Some(cut) = cut.as_ref().filter(|_| !self.loose.contains_key(input))
                && let Some(loose) = taken_apart(e, id, *input, cut)?
            {
                self.loose.insert(*input, loose);
            }
        }
        let mut outs: Vec<Loose> = Vec::new();
        for (slot, join) in chunks.joined.iter().enumerate() {
            let cut = Cut { sliced: Sliced::plain(join.axis()), ranges: chunks.ranges.clone() };
            outs.push(Loose::new(cut, fate(e.graph(), Outlet { node: id, slot: slot as u16 }, *join, &chunks.ranges)));
        }
        for (at, (_, place)) in chunks.placed().enumerate() {
            let body = chunks.body(place).ok_or_else(|| Diagnostic::new("internal/bug", "a chunk has no body of its place"))?;
            let mut args = Vec::new();
            for (input, cut) in inputs.iter().zip(&cuts) {
                args.push(match cut {
                    Some(cut) => part(e, self.loose.get(input), *input, cut, at)?,
                    None => *input,
                });
            }
            for (out, made) in outs.iter_mut().zip(inline(e, body, &args, &mut self.constants)?) {
                out.push(e, made)?;
            }
        }
        for (slot, out) in outs.into_iter().enumerate() {
            let whole = Outlet { node: id, slot: slot as u16 };
            if out.fate == Fate::Joined {
                let joined = e.add(Op::Concat { axis: out.cut.sliced.axis }, &out.pieces, "join")?;
                e.replace(whole, joined)?;
            } else {
                self.loose.insert(whole, out);
            }
        }
        self.leave(e, id)
    }

    /// Removes a site, unless others still read pieces of it, and the sites whose pieces nobody else reads now.
    fn leave(&mut self, e: &mut Edit<'_>, id: NodeId) -> Result<()> {
        self.done.insert(id);
        let mut gone: BTreeSet<NodeId> = BTreeSet::new();
        let mut stack = vec![id];
        while let Some(node) = stack.pop() {
            let mut slots = (0..e.graph().node(node).outs.len() as u16).map(|slot| Outlet { node, slot });
            let is_read = slots.any(|o| e.graph().users(o).iter().any(|(user, _)| !gone.contains(user)));
            if is_read || !self.done.remove(&node) {
                continue;
            }
            stack.extend(e.graph().inputs_of(node).into_iter().map(|o| o.node));
            gone.insert(node);
            e.remove(node)?;
        }
        Ok(())
    }
}

/// Copies a body's nodes to the site's place; returns its outputs.
fn inline(e: &mut Edit<'_>, body: &OpGraph, args: &[Outlet], constants: &mut Constants) -> Result<Vec<Outlet>> {
    let mut map: BTreeMap<Outlet, Outlet> = body.inputs().iter().map(|n| Outlet { node: *n, slot: 0 }).zip(args.iter().copied()).collect();
    for id in body.nodes() {
        let node = body.node(id);
        let at = Outlet { node: id, slot: 0 };
        match &node.op {
            Op::Input => {}
            Op::Weight(expr) => {
                let outlet = constants.get(e, expr);
                map.insert(at, outlet);
            }
            op => {
                let inputs: Vec<Outlet> = body.inputs_of(id).iter().map(|o| map[o]).collect();
                let new = e.add(op.clone(), &inputs, &node.name)?.node;
                for slot in 0..node.outs.len() as u16 {
                    map.insert(Outlet { node: id, slot }, Outlet { node: new, slot });
                }
            }
        }
    }
    Ok(body.outputs().iter().map(|(_, o)| map[o]).collect())
}
