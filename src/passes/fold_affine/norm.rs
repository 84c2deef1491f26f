//! The affine of a norm that would be written out goes into the matrix products that alone read it: the norm keeps a scale of ones
//! and a shift of zeros, which cost nothing.

use super::carrier::Changed;
use super::carrier::{Carrier, Change, Params, carrier};
use super::uptake::{changed_readers, set};
use super::worth::{allowed, stored};
use super::{Attempt, Outcome, settled};
use crate::diag::Result;
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet};
use crate::passes::{PassCx, Rewriter, Why, select_kernels};
use crate::weights::{Arithmetic, WeightExpr};

pub(super) fn visit(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, id: NodeId) -> Result<Outcome> {
    let graph = rw.graph();
    let Some((carrier, affine)) = affine(graph, cx, id) else { return Ok(Outcome::Nothing) };
    let all = match settled(into_readers(graph, id, &carrier, &affine))? {
        Ok(all) => all,
        Err(rule) => return Ok(Outcome::Declined(Why::new("an-affine-stays").with("readers", rule))),
    };
    let empty = empty(&affine)?;
    let why = Why::new("norm-affine-into-the-readers").with("readers", all.len() as i64).with("weights", stored(&all));
    rw.apply(id, None, why, |e| {
        all.iter().try_for_each(|c| set(e, c.id, &c.new))?;
        set(e, id, &empty)
    })?;
    Ok(Outcome::Done)
}

/// The affine of a norm that has one and that the provider has no kernel for.
fn affine(graph: &OpGraph, cx: &PassCx<'_>, id: NodeId) -> Option<(Carrier, Params)> {
    let out = Outlet { node: id, slot: 0 };
    let written_out = match &graph.node(id).op {
        Op::GroupNorm(g) => !g.silu && !select_kernels::fused_group_norm(graph.ty(out), g.groups, cx.machine.target),
        _ => true,
    };
    let (carrier, affine) = carrier(graph, id).filter(|_| written_out)?;
    let idle = affine.weight.splat() == Some(1.0) && affine.bias.as_ref().is_none_or(|b| b.splat() == Some(0.0));
    (!idle && affine.weight.dtype() == DType::F32).then_some((carrier, affine))
}

/// The readers of a norm with its affine in their weights.
fn into_readers(graph: &OpGraph, id: NodeId, norm: &Carrier, affine: &Params) -> Attempt<Vec<Changed>> {
    let out = Outlet { node: id, slot: 0 };
    let scale = Change { how: Arithmetic::Mul, by: affine.weight.clone() };
    let shift = affine.bias.clone().map(|by| Change { how: Arithmetic::Add, by });
    let all = changed_readers(graph, out, Some(norm.out_axis), |carrier, old| {
        // x̂·scale + shift: the shift stands nearer to the reader.
        let shifted = shift.as_ref().map_or_else(|| Ok(old.clone()), |shift| carrier.changed_in_front(old, shift))?;
        carrier.changed_in_front(&shifted, &scale)
    })?;
    allowed(graph, &all, out)?;
    Ok(all)
}

/// An affine that changes nothing.
fn empty(affine: &Params) -> Result<Params> {
    let (shape, count) = (affine.weight.shape(), affine.weight.elements() as usize);
    let idle = |value: f32| WeightExpr::literal_f32(shape, &vec![value; count]);
    Ok(Params { weight: idle(1.0)?, bias: affine.bias.as_ref().map(|_| idle(0.0)).transpose()? })
}
