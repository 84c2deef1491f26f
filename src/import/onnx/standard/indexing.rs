//! Operators that pick elements by index or by condition.

use super::call::{Extents, Outputs, axis_of, tensor};
use super::extent::{fresh_extents, number, product};
use super::{Fresh, MAX_RANK, NodeInfo, dtype};
use crate::ir::Dim;

/// `Gather`: the shape of the indices in place of the axis.
pub(super) fn gather(call: &NodeInfo<'_>) -> Outputs {
    let (Some(data), Some(indices)) = (call.shape(0), call.shape(1)) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let axis = axis_of(call.int_or("axis", 0), data.len())?;
    let shape = [&data[..axis], indices, &data[axis + 1..]].concat();
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// `GatherElements`: the shape of the indices.
pub(super) fn gather_elements(call: &NodeInfo<'_>) -> Outputs {
    if let (Some(data), Some(indices)) = (call.rank(0), call.rank(1))
        && data != indices
    {
        return Err(format!("indices of rank {indices} into a tensor of rank {data}"));
    }
    Ok(vec![tensor(call.dtype(0), call.extents(1))])
}

/// `GatherND`: the last axis of the indices walks as many axes of the data.
pub(super) fn gather_nd(call: &NodeInfo<'_>) -> Outputs {
    let unknown = || Ok(vec![tensor(call.dtype(0), None)]);
    let (Some(data), Some(indices)) = (call.shape(0), call.shape(1)) else { return unknown() };
    let Some((last, lead)) = indices.split_last() else { return Err("indices of rank 0".into()) };
    let Some(walked) = last.as_ref().and_then(Dim::as_const) else { return unknown() };
    let batch = usize::try_from(call.int_or("batch_dims", 0)).map_err(|_| "a negative number of batch axes")?;
    let walked = usize::try_from(walked).ok().and_then(|w| w.checked_add(batch));
    let Some(rest) = walked.and_then(|w| data.get(w..)) else { return Err(format!("indices walk more axes than {}", data.len())) };
    Ok(vec![tensor(call.dtype(0), Some([lead, rest].concat()))])
}

/// `Compress`: as many slices as the condition holds.
pub(super) fn compress(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let kept = call.known_ints(1).map(|c| Dim::Const(c.iter().filter(|v| **v != 0).count() as i64));
    let kept = Some(kept.unwrap_or_else(fresh));
    let Some(axis) = call.int("axis") else { return Ok(vec![tensor(call.dtype(0), Some(vec![kept]))]) };
    let Some(mut shape) = call.extents(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let axis = axis_of(axis, shape.len())?;
    shape[axis] = kept;
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// `TopK`: `k` elements along the axis, and where they were.
pub(super) fn top_k(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let both = |shape: Option<Extents>| Ok(vec![tensor(call.dtype(0), shape.clone()), tensor(Some(dtype::INT64), shape)]);
    let Some(mut shape) = call.extents(0) else { return both(None) };
    let axis = axis_of(call.int_or("axis", -1), shape.len())?;
    let known = call.int("k").map(Dim::Const).or_else(|| call.dims(1)?.first().cloned());
    if let (Some(Dim::Const(k)), Some(Dim::Const(n))) = (&known, &shape[axis])
        && (*k < 0 || k > n)
    {
        return Err(format!("{k} of {n} elements"));
    }
    shape[axis] = Some(known.unwrap_or_else(fresh));
    both(Some(shape))
}

/// `NonZero`: an index for each axis of each element that is not 0.
pub(super) fn non_zero(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let rank = call.rank(0).map(|n| Dim::Const(n as i64));
    Ok(vec![tensor(Some(dtype::INT64), Some(vec![rank, Some(fresh())]))])
}

/// `Unique`: the distinct elements or slices, where each stands first, which of them each is, how often.
pub(super) fn unique(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let count = Some(fresh());
    let (mut distinct, mut inverse) = (Some(vec![count.clone()]), call.shape(0).map(|s| vec![product(s)]));
    if let Some(axis) = call.int("axis") {
        let shape = call.extents(0);
        let at = shape.as_ref().map(|s| axis_of(axis, s.len())).transpose()?;
        inverse = shape.as_ref().zip(at).map(|(s, at)| vec![s[at].clone()]);
        distinct = shape.zip(at).map(|(mut s, at)| {
            s[at].clone_from(&count);
            s
        });
    }
    let int = |shape| tensor(Some(dtype::INT64), shape);
    let inverse = Some(inverse.unwrap_or_else(|| vec![None]));
    Ok(vec![tensor(call.dtype(0), distinct), int(Some(vec![count.clone()])), int(inverse), int(Some(vec![count]))])
}

/// `OneHot`: a new axis as long as `depth`.
pub(super) fn one_hot(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let Some(mut shape) = call.extents(0) else { return Ok(vec![tensor(call.dtype(2), None)]) };
    if shape.len() >= MAX_RANK {
        return Ok(vec![tensor(call.dtype(2), None)]);
    }
    let axis = axis_of(call.int_or("axis", -1), shape.len() + 1)?;
    let depth = call.dims(1).and_then(|d| d.first().cloned());
    let depth = depth.or_else(|| Some(Dim::Const(*call.floats(1)?.first()? as i64)));
    if depth.as_ref().and_then(Dim::as_const).is_some_and(|d| d < 0) {
        return Err("a negative depth".into());
    }
    shape.insert(axis, Some(depth.unwrap_or_else(fresh)));
    Ok(vec![tensor(call.dtype(2), Some(shape))])
}

/// `NonMaxSuppression`: batch, class and box of each that is kept.
pub(super) fn non_max_suppression(fresh: Fresh<'_>) -> Outputs {
    Ok(vec![tensor(Some(dtype::INT64), Some(vec![Some(fresh()), number(3)]))])
}

/// `ArrayFeatureExtractor`: the named columns.
pub(super) fn columns(call: &NodeInfo<'_>) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let count = call.shape(1).and_then(product);
    let out = match shape {
        [] | [_] => vec![number(1), count],
        [lead @ .., _] => [lead, &[count]].concat(),
    };
    Ok(vec![tensor(call.dtype(0), Some(out))])
}

/// `StringSplit`: a new axis of parts, and how many parts each has.
pub(super) fn string_split(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let parts = call.extents(0).map(|s| [s, fresh_extents(1, fresh)].concat());
    Ok(vec![tensor(Some(dtype::STRING), parts), tensor(Some(dtype::INT64), call.extents(0))])
}

/// `StringNormalizer`: words of one row, less the stop words.
pub(super) fn string_normalizer(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let shape = match call.shape(0) {
        Some([_]) => Some(vec![Some(fresh())]),
        Some([_, _]) => Some(vec![number(1), Some(fresh())]),
        Some(other) => return Err(format!("rank {} instead of 1 or 2", other.len())),
        None => None,
    };
    Ok(vec![tensor(Some(dtype::STRING), shape)])
}

/// `TfIdfVectorizer`: a row of counts, as long as the largest index.
pub(super) fn tf_idf(call: &NodeInfo<'_>) -> Outputs {
    let most = call.ints("ngram_indexes").and_then(|v| v.iter().max()).and_then(|n| n.checked_add(1));
    let shape = call.shape(0).map(|s| match s {
        [] | [_] => vec![most.map(Dim::Const)],
        [rows, ..] => vec![rows.clone(), most.map(Dim::Const)],
    });
    Ok(vec![tensor(Some(dtype::FLOAT), shape)])
}
