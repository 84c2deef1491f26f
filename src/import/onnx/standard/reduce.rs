//! Reductions along axes.

use super::call::{Extents, Outputs, axes_of, axis_of, tensor};
use super::extent::{fresh_extents, number};
use super::{Fresh, NodeInfo, dtype};

/// `ReduceSum` and its like: axes as an attribute or as an input; without axes all, unless `noop_with_empty_axes`.
pub(super) fn reduce(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let keep = call.flag("keepdims", true);
    let Some(shape) = call.extents(0) else {
        let scalar = !keep && !call.has(1) && call.ints("axes").is_none() && !call.flag("noop_with_empty_axes", false);
        return Ok(vec![tensor(call.dtype(0), scalar.then(Vec::new))]);
    };
    let Some(axes) = reduced_axes(call, shape.len())? else {
        let left = call.length(1).and_then(|n| shape.len().checked_sub(n));
        let open =
            if keep { Some(fresh_extents(shape.len(), fresh)) } else { left.filter(|_| call.has(1)).map(|n| fresh_extents(n, fresh)) };
        return Ok(vec![tensor(call.dtype(0), open)]);
    };
    Ok(vec![tensor(call.dtype(0), Some(without(shape, &axes, keep)))])
}

/// The axes that a reduction names; none if they depend on data.
pub(super) fn reduced_axes(call: &NodeInfo<'_>, rank: usize) -> Result<Option<Vec<usize>>, String> {
    let axes = match call.axes(1) {
        Some(None) => return Ok(None),
        Some(Some(axes)) => axes_of(&axes, rank)?,
        None => Vec::new(),
    };
    let all = axes.is_empty() && !call.flag("noop_with_empty_axes", false);
    Ok(Some(if all { (0..rank).collect() } else { axes }))
}

fn without(shape: Extents, axes: &[usize], keep: bool) -> Extents {
    let all = shape.into_iter().enumerate();
    if keep {
        return all.map(|(i, e)| if axes.contains(&i) { number(1) } else { e }).collect();
    }
    all.filter(|(i, _)| !axes.contains(i)).map(|(_, e)| e).collect()
}

/// `ArgMax`, `ArgMin`: indices along one axis.
pub(super) fn arg(call: &NodeInfo<'_>) -> Outputs {
    let shape = match call.extents(0) {
        None => None,
        Some(shape) => {
            let axis = axis_of(call.int_or("axis", 0), shape.len())?;
            Some(without(shape, &[axis], call.flag("keepdims", true)))
        }
    };
    Ok(vec![tensor(Some(dtype::INT64), shape)])
}

/// `NegativeLogLikelihoodLoss`, `SoftmaxCrossEntropyLoss`: a loss an element, or one; then the log probabilities.
pub(super) fn loss(call: &NodeInfo<'_>) -> Outputs {
    let each = call.text("reduction") == Some("none");
    let shape = if each { call.extents(1) } else { Some(Vec::new()) };
    Ok(vec![tensor(call.dtype(0), shape), call.ty(0)])
}

/// `Det`: the last two axes go.
pub(super) fn det(call: &NodeInfo<'_>) -> Outputs {
    let shape = match call.shape(0) {
        None => None,
        Some([lead @ .., a, b]) => {
            super::extent::unify(a, b)?;
            Some(lead.to_vec())
        }
        Some(short) => return Err(format!("rank {} instead of 2 or more", short.len())),
    };
    Ok(vec![tensor(call.dtype(0), shape)])
}
