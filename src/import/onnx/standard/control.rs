//! Operators with bodies, and values that are no tensors.

use super::call::{Outputs, tensor};
use super::{NodeInfo, dtype};

/// Nothing can be said here: who holds the body, or the type of the sequence, knows.
pub(super) fn unknown() -> Outputs {
    Ok(Vec::new())
}

/// A scalar of a fixed type: `SequenceLength`, `OptionalHasElement`.
pub(super) fn scalar(dtype: i32) -> Outputs {
    Ok(vec![tensor(Some(dtype), Some(Vec::new()))])
}

/// `OptionalGetElement`: a tensor is its own element.
pub(super) fn element(call: &NodeInfo<'_>) -> Outputs {
    Ok(vec![call.ty(0)])
}

/// `ConcatFromSequence`, `CastMap` and others that give a tensor of which only the type is known, if that.
pub(super) fn open_tensor(dtype: Option<i32>) -> Outputs {
    Ok(vec![tensor(dtype, None)])
}

/// Strings that match: bools.
pub(super) fn matches(call: &NodeInfo<'_>) -> Outputs {
    super::elementwise::same_shape(call, dtype::BOOL)
}
