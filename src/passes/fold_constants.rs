//! `fold-constants`: computes at compile time what depends on constants only.
//!
//! Rearrangements of weights (`Reshape`, `Transpose`, `Slice`, `Concat`, `Cast`) become weight expressions, which cost nothing
//! until a plan is written. All operators over small literals (positions, frequency tables) are evaluated by `interp` in f64
//! and rounded once. Weights that are not yet bound are never evaluated. Always exact; no knob.

use super::{Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::Result;
use crate::interp;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::units::Bytes;
use crate::weights::{WeightExpr, WeightOp};

pub(super) struct FoldConstants;

/// Larger results stay operators: they would have to be stored with the plan.
const LARGEST_LITERAL: u64 = 1 << 20;

static INFO: PassInfo = PassInfo {
    id: "fold-constants",
    summary: "compute at compile time what depends on constants only",
    effect: Effect::Exact,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[1, 2, 3]) -> y: f32[1, 2, 3] = %1
  %0 = Reshape{shape=[1, 2, 1]}({param m/scale: f32[2]}) : f32[1, 2, 1]
  %1 = Mul(%x, %0) : f32[1, 2, 3]
after:
model m(x: f32[1, 2, 3]) -> y: f32[1, 2, 3] = %0
  %0 = Mul(%x, {reshape[1, 2, 1](param m/scale: f32[2])}) : f32[1, 2, 3]
",
};

impl Pass for FoldConstants {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        for id in rw.graph().nodes() {
            let Some(expr) = folded(rw.graph(), id)? else { continue };
            let bytes = rw.graph().node(id).outs[0].bytes().unwrap_or(0);
            rw.apply(id, None, Why::new("constant").with("bytes", Bytes(bytes)), |e| {
                let constant = e.weight(expr);
                e.replace(Outlet { node: id, slot: 0 }, constant)?;
                e.remove(id)
            })?;
        }
        Ok(())
    }
}

fn folded(graph: &OpGraph, id: NodeId) -> Result<Option<WeightExpr>> {
    let node = graph.node(id);
    let never = matches!(
        node.op,
        Op::Input
            | Op::Weight(_)
            | Op::Foreign(_)
            | Op::ForChunks(_)
            | Op::Conv(_)
            | Op::FusedConv(_)
            | Op::Split { .. }
            | Op::TemporalConv
            | Op::Attention(_)
            | Op::MultiHeadAttention(_)
    );
    if never || graph.is_output(Outlet { node: id, slot: 0 }) {
        return Ok(None);
    }
    let inputs: Option<Vec<WeightExpr>> = graph.inputs_of(id).iter().map(|i| graph.as_weight(*i).cloned()).collect();
    let Some(inputs) = inputs else { return Ok(None) };
    // Literals first: a rearranged literal must stay one, for what reads it to fold as well.
    if evaluates(&node.op, &inputs, &node.outs[0]) {
        return interp::eval_literals(&node.op, &inputs.iter().collect::<Vec<_>>()).map(Some);
    }
    rearranged(&node.op, &inputs, &node.outs[0])
}

/// Are these small literals, whose result is one?
fn evaluates(op: &Op, inputs: &[WeightExpr], out: &crate::ir::TensorType) -> bool {
    let small =
        out.bytes().is_some_and(|b| b <= LARGEST_LITERAL) && inputs.iter().map(WeightExpr::byte_len).sum::<u64>() <= LARGEST_LITERAL;
    let moves = matches!(op, Op::Reshape { .. } | Op::Transpose { .. } | Op::Cast { .. } | Op::Concat { .. } | Op::Slice { .. });
    // The evaluator counts in f64: whole numbers beyond 2^53 (an open end of a range) are moved as bytes, not evaluated.
    let floats = out.dtype.is_float() && inputs.iter().all(|i| i.dtype().is_float());
    small && (floats || !moves) && inputs.iter().all(|i| matches!(i.op(), WeightOp::Literal(_)))
}

/// The weight expression of an operator that only moves elements.
fn rearranged(op: &Op, inputs: &[WeightExpr], out: &crate::ir::TensorType) -> Result<Option<WeightExpr>> {
    let Some(first) = inputs.first() else { return Ok(None) };
    let dims = |t: &crate::ir::TensorType| t.dims().map(|d| d.into_iter().map(|x| x as u64).collect::<Vec<_>>());
    Ok(match op {
        Op::Reshape { .. } => match dims(out) {
            Some(shape) => Some(first.reshape(&shape)?),
            None => None,
        },
        Op::Transpose { perm } => Some(first.transpose(perm)?),
        Op::Cast { to } => Some(first.cast(*to)?),
        Op::Concat { axis } => Some(WeightExpr::concat(inputs, *axis)?),
        Op::Slice { axis, start, end } => match (start.as_const(), end.as_const()) {
            (Some(s), Some(e)) => Some(first.slice(*axis, s as u64, e as u64)?),
            _ => None,
        },
        _ => None,
    })
}
