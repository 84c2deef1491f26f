//! Whether changing weights is worth what it saves.

use super::carrier::{Changed, Params};
use super::{Attempt, Miss};
use crate::ir::{OpGraph, Outlet};
use crate::units::Bytes;
use crate::weights::{WeightExpr, WeightOp, products_stay_normal};

/// Weights beyond this are changed only for operators that are not negligible.
pub(super) const LARGE: u64 = 64 << 20;
/// Weights up to this may have other readers: the affine of a norm is written once more.
const SMALL: u64 = 64 << 10;
/// An operator is negligible if the weights changed for it are more than this many times the bytes that it moves.
pub(super) const NEGLIGIBLE: u64 = 8;

/// Bytes of weights that were used directly from their file and that a change makes the plan store anew.
pub(super) fn stored(all: &[Changed]) -> Bytes {
    let untouched = |e: &WeightExpr| matches!(e.op(), WeightOp::Param { .. } | WeightOp::Stored(_) | WeightOp::Random { .. });
    let each = |c: &Changed| if c.another_weight() && untouched(&c.old.weight) { c.new.weight.byte_len() } else { 0 };
    Bytes(all.iter().map(each).sum())
}

/// May these carriers be given new parameters to save an operator that yields `out`?
pub(super) fn allowed(graph: &OpGraph, all: &[Changed], out: Outlet) -> Attempt<()> {
    all.iter().try_for_each(|c| each(graph, c))?;
    let (weights, moved) = (stored(all).0, graph.ty(out).bytes().map(|b| b.saturating_mul(2)));
    let little = weights > LARGE && moved.is_some_and(|m| m.saturating_mul(NEGLIGIBLE) < weights);
    if little { Err(Miss::Unmet("large-weight-for-little")) } else { Ok(()) }
}

fn each(graph: &OpGraph, c: &Changed) -> Attempt<()> {
    let Params { weight, bias } = &c.new;
    let shared = graph.user_count(graph.inputs_of(c.id)[1]) > 1;
    if c.another_weight() && c.old.weight.byte_len() > SMALL && shared {
        return Err(Miss::Unmet("weight-has-other-readers"));
    }
    if weight.byte_len() > c.old.weight.byte_len() {
        return Err(Miss::Unmet("weight-would-grow"));
    }
    let another_bias = bias.as_ref().filter(|b| c.old.bias.as_ref() != Some(*b));
    let weight_fits = !c.another_weight() || products_stay_normal(weight, c.carrier.weight_out)?;
    // A bias has no channels that could have ranges of their own.
    let bias_fits = another_bias.map_or(Ok(true), |b| products_stay_normal(b, usize::MAX));
    if weight_fits && bias_fits? { Ok(()) } else { Err(Miss::Unmet("products-leave-the-normal-range")) }
}
