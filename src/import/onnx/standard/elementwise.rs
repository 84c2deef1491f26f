//! Operators that compute each element from those at its place: the output has the shape of the input, or of the broadcast.

use super::call::{Extent, Outputs, tensor};
use super::extent::{broadcast_all, unify_shapes};
use super::{Fresh, NodeInfo, dtype};

/// Same type as input `at`.
pub(super) fn same_as(call: &NodeInfo<'_>, at: usize) -> Outputs {
    Ok(vec![call.ty(at)])
}

/// The first input's shape with a fixed element type.
pub(super) fn same_shape(call: &NodeInfo<'_>, dtype: i32) -> Outputs {
    Ok(vec![tensor(Some(dtype), call.extents(0))])
}

/// The first input's shape; the element type is the attribute `name`, else that of the input.
pub(super) fn retyped(call: &NodeInfo<'_>, name: &str) -> Outputs {
    Ok(vec![tensor(call.dtype_attribute(name).or(call.dtype(0)), call.extents(0))])
}

/// `Cast`, `BitCast`: the element type is the attribute `to`.
pub(super) fn cast(call: &NodeInfo<'_>) -> Outputs {
    Ok(vec![tensor(call.dtype_attribute("to"), call.extents(0))])
}

/// `CastLike`.
pub(super) fn cast_like(call: &NodeInfo<'_>) -> Outputs {
    Ok(vec![tensor(call.dtype(1), call.extents(0))])
}

/// All inputs broadcast; the element type is `result`, else that of the first input that has one.
pub(super) fn broadcast(call: &NodeInfo<'_>, result: Option<i32>, fresh: Fresh<'_>) -> Outputs {
    let shapes: Vec<Option<&[Extent]>> = (0..call.inputs.len()).map(|i| call.shape(i)).collect();
    let dtype = result.or_else(|| (0..call.inputs.len()).find_map(|i| call.dtype(i)));
    Ok(vec![tensor(dtype, broadcast_all(shapes, fresh)?)])
}

/// `Pow`: the exponent may have another element type.
pub(super) fn pow(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    Ok(vec![tensor(call.dtype(0), broadcast_all([call.shape(0), call.shape(1)], fresh)?)])
}

/// `Where`.
pub(super) fn select(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let shape = broadcast_all((0..3).map(|i| call.shape(i)), fresh)?;
    Ok(vec![tensor(call.dtype(1).or(call.dtype(2)), shape)])
}

/// `Dropout`: the value and which elements were kept.
pub(super) fn dropout(call: &NodeInfo<'_>) -> Outputs {
    let mask = if call.version >= 10 { Some(dtype::BOOL) } else { call.dtype(0) };
    Ok(vec![call.ty(0), tensor(mask, call.extents(0))])
}

/// Each output is like the input at its place; what optimisers return: `Adagrad`, `Adam`, `Momentum`.
pub(super) fn updated_state(call: &NodeInfo<'_>, states: usize) -> Outputs {
    // Inputs: rate, step, then n values, n gradients, and n of each state; outputs: n values and n of each state.
    let n = call.inputs.len().saturating_sub(2) / (states + 2);
    let values = (0..n).map(|i| call.ty(2 + i));
    let kept = (0..n * states).map(|i| call.ty(2 + 2 * n + i));
    Ok(values.chain(kept).collect())
}

/// `BatchNormalization`: the value, then statistics of the type of the stored ones.
pub(super) fn batch_norm(call: &NodeInfo<'_>) -> Outputs {
    let channels = unify_shapes(call.extents(3), call.extents(4))?;
    let statistics = |at: usize| tensor(call.dtype(at), channels.clone());
    // Before version 14: mean, variance, saved mean, saved variance.
    Ok(vec![call.ty(0), statistics(3), statistics(4), statistics(3), statistics(4)])
}

/// `LayerNormalization` and its like: the value, then statistics with an extent of 1 from `axis` on.
pub(super) fn layer_norm(call: &NodeInfo<'_>) -> Outputs {
    let stash = call.dtype_attribute("stash_type").unwrap_or(dtype::FLOAT);
    let reduced = match call.shape(0) {
        None => None,
        Some(shape) => {
            let axis = super::call::axis_of(call.int_or("axis", -1), shape.len())?;
            Some(shape.iter().enumerate().map(|(i, e)| if i < axis { e.clone() } else { super::extent::number(1) }).collect())
        }
    };
    let statistics = tensor(Some(stash), reduced);
    Ok(vec![call.ty(0), statistics.clone(), statistics])
}

/// `LpNormalization` and others whose attribute `axis` must exist.
pub(super) fn along_axis(call: &NodeInfo<'_>, default: i64) -> Outputs {
    if let (Some(rank), Some(axis)) = (call.rank(0), call.int("axis").or(Some(default))) {
        let flattens = call.version < 13 && axis == rank as i64;
        if !flattens && rank > 0 {
            super::call::axis_of(axis, rank)?;
        }
    }
    same_as(call, 0)
}
