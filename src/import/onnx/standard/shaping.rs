//! Operators that move elements without computing: reshapes, transposes, concatenation, slices, padding.

use super::call::{Extent, Extents, Outputs, axes_of, axis_of, numbers, tensor};
use super::extent::{add, broadcast, divide, fresh_extents, mul, natural, number, product, sub, sum, unify};
use super::{Fresh, MAX_RANK, NodeInfo, dtype};
use crate::ir::Dim;

/// The shape that an input states: its elements, else as many extents as it has elements.
pub(super) fn stated_shape(call: &NodeInfo<'_>, at: usize, fresh: Fresh<'_>) -> Option<Extents> {
    if let Some(dims) = call.dims(at) {
        return Some(dims.iter().cloned().map(Some).collect());
    }
    let rank = call.length(at).filter(|n| *n <= MAX_RANK)?;
    Some(fresh_extents(rank, fresh))
}

/// `Reshape`: 0 copies an extent (unless `allowzero`), -1 stands for what is left.
pub(super) fn reshape(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let known: Option<Vec<Dim>> = match call.ints("shape").filter(|_| !call.has(1)) {
        Some(shape) => Some(shape.iter().map(|n| Dim::Const(*n)).collect()),
        None => call.dims(1).map(<[Dim]>::to_vec),
    };
    let Some(wanted) = known else { return Ok(vec![tensor(call.dtype(0), stated_shape(call, 1, fresh))]) };
    let shape = reshaped(call.shape(0), &wanted, call.flag("allowzero", false), fresh)?;
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

fn reshaped(from: Option<&[Extent]>, wanted: &[Dim], allow_zero: bool, fresh: Fresh<'_>) -> Result<Extents, String> {
    let (zero, open) = (Dim::Const(0), Dim::Const(-1));
    let copied = |i: usize, d: &Dim| !allow_zero && *d == zero && from.is_none_or(|f| i < f.len());
    let mut out: Extents = Vec::new();
    for (i, d) in wanted.iter().enumerate() {
        out.push(match from {
            _ if *d == open => None,
            Some(from) if copied(i, d) => from[i].clone(),
            None if copied(i, d) => None,
            _ if !allow_zero && *d == zero => return Err(format!("extent {i} is copied from a tensor of a lower rank")),
            _ => natural(Some(d.clone()))?,
        });
    }
    let opens: Vec<usize> = wanted.iter().enumerate().filter(|(_, d)| **d == open).map(|(i, _)| i).collect();
    // What is copied stands on both sides, known or not.
    let both = |i: &usize| wanted.get(*i).is_some_and(|d| copied(*i, d));
    let before = from.and_then(|f| product(&rest(f, |i| both(&i))));
    let after = product(&rest(&out, |i| both(&i) || opens.contains(&i)));
    match &opens[..] {
        [] => same_count(before.as_ref(), after.as_ref()).map(|()| out),
        [at] => {
            out[*at] = Some(quotient(before, after)?.unwrap_or_else(fresh));
            Ok(out)
        }
        _ => Err("two extents are -1".into()),
    }
}

fn rest(extents: &[Extent], left_out: impl Fn(usize) -> bool) -> Extents {
    extents.iter().enumerate().filter(|(i, _)| !left_out(*i)).map(|(_, e)| e.clone()).collect()
}

fn same_count(before: Option<&Dim>, after: Option<&Dim>) -> Result<(), String> {
    match (before, after) {
        (Some(Dim::Const(a)), Some(Dim::Const(b))) if a != b => Err(format!("{a} elements become {b}")),
        _ => Ok(()),
    }
}

fn quotient(before: Extent, after: Extent) -> Result<Extent, String> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(None) };
    match (&before, &after) {
        (Dim::Const(0), Dim::Const(0)) => Ok(number(0)),
        (Dim::Const(a), Dim::Const(b)) if *b == 0 || a % b != 0 => Err(format!("{a} elements do not fall into {b}")),
        _ => Ok(before.checked_div_exact(&after)),
    }
}

/// `Transpose`.
pub(super) fn transpose(call: &NodeInfo<'_>) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let perm = permutation(call, shape.len())?;
    Ok(vec![tensor(call.dtype(0), Some(perm.iter().map(|i| shape[*i].clone()).collect()))])
}

/// The attribute `perm`; by default all axes the other way round.
pub(super) fn permutation(call: &NodeInfo<'_>, rank: usize) -> Result<Vec<usize>, String> {
    let Some(perm) = call.ints("perm") else { return Ok((0..rank).rev().collect()) };
    if perm.len() != rank {
        return Err(format!("{} axes are permuted of a tensor of rank {rank}", perm.len()));
    }
    axes_of(perm, rank)
}

/// `Concat` along `axis`; other extents are equal.
pub(super) fn concat(call: &NodeInfo<'_>, first: usize, step: usize) -> Outputs {
    let shapes: Vec<Option<&[Extent]>> = (first..call.inputs.len()).step_by(step).map(|i| call.shape(i)).collect();
    let dtype = (first..call.inputs.len()).step_by(step).find_map(|i| call.dtype(i));
    let known: Vec<&[Extent]> = shapes.iter().copied().flatten().collect();
    let Some(rank) = known.first().map(|s| s.len()) else { return Ok(vec![tensor(dtype, None)]) };
    let axis = axis_of(call.int_or("axis", 1), rank)?;
    let mut out = known[0].to_vec();
    for shape in &known[1..] {
        let mut aligned = shape.to_vec();
        if let (Some(to), Some(from)) = (aligned.get_mut(axis), out.get(axis)) {
            to.clone_from(from);
        }
        out = super::extent::unify_all(&out, &aligned)?;
    }
    let along: Extents = shapes.iter().map(|s| s.and_then(|s| s[axis].clone())).collect();
    out[axis] = sum(&along);
    Ok(vec![tensor(dtype, Some(out))])
}

/// `Squeeze`: the named axes, else all of extent 1.
pub(super) fn squeeze(call: &NodeInfo<'_>) -> Outputs {
    let dtype = call.dtype(0);
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(dtype, None)]) };
    let dropped = match call.axes(1) {
        Some(Some(axes)) => Some(axes_of(&axes, shape.len())?),
        Some(None) => None,
        None => ones(shape),
    };
    if let Some(axis) = dropped.iter().flatten().find(|a| shape[**a].as_ref().and_then(Dim::as_const).is_some_and(|n| n != 1)) {
        return Err(format!("axis {axis} has more than one element"));
    }
    let Some(dropped) = dropped else {
        let left = call.length(1).filter(|_| call.has(1)).and_then(|n| shape.len().checked_sub(n));
        return Ok(vec![tensor(dtype, left.map(|n| vec![None; n]))]);
    };
    Ok(vec![tensor(dtype, Some(rest(shape, |i| dropped.contains(&i))))])
}

/// The axes of extent 1, if that is known of every axis.
fn ones(shape: &[Extent]) -> Option<Vec<usize>> {
    let known: Vec<i64> = shape.iter().map(|e| e.as_ref()?.as_const()).collect::<Option<_>>()?;
    Some((0..known.len()).filter(|i| known[*i] == 1).collect())
}

/// `Unsqueeze`: axes of the result that are 1.
pub(super) fn unsqueeze(call: &NodeInfo<'_>) -> Outputs {
    let dtype = call.dtype(0);
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(dtype, None)]) };
    let Some(Some(axes)) = call.axes(1) else {
        let rank = call.length(1).and_then(|n| n.checked_add(shape.len())).filter(|n| *n <= MAX_RANK);
        return Ok(vec![tensor(dtype, rank.map(|n| vec![None; n]))]);
    };
    if axes.len() + shape.len() > MAX_RANK {
        return Ok(vec![tensor(dtype, None)]);
    }
    let ones = axes_of(&axes, shape.len() + axes.len())?;
    let mut old = shape.iter();
    let new = (0..shape.len() + axes.len()).map(|i| if ones.contains(&i) { number(1) } else { old.next().cloned().flatten() });
    Ok(vec![tensor(dtype, Some(new.collect()))])
}

/// `Flatten` to a matrix before and from `axis`.
pub(super) fn flatten(call: &NodeInfo<'_>) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(call.dtype(0), Some(vec![None, None]))]) };
    let axis = call.int_or("axis", 1);
    let axis = if axis == shape.len() as i64 { shape.len() } else { axis_of(axis, shape.len())? };
    Ok(vec![tensor(call.dtype(0), Some(vec![product(&shape[..axis]), product(&shape[axis..])]))])
}

/// One axis of a `Slice`.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub start: Dim,
    pub end: Dim,
    pub step: i64,
}

/// The axes that a `Slice` names and the ranges along them; an inner none is a range that depends on data, none if even the axes do.
pub(super) fn ranges(call: &NodeInfo<'_>, rank: usize) -> Result<Option<Vec<(usize, Option<Range>)>>, String> {
    let bounds = |name: &str, at: usize| -> Option<Vec<Dim>> {
        if call.version < 10 && call.is_standard() {
            return call.ints(name).map(|v| v.iter().map(|n| Dim::Const(*n)).collect());
        }
        call.dims(at).map(<[Dim]>::to_vec)
    };
    let (starts, ends) = (bounds("starts", 1), bounds("ends", 2));
    let count = starts.as_ref().or(ends.as_ref()).map(Vec::len).or_else(|| call.length(1)).or_else(|| call.length(2));
    let Some(count) = count.filter(|n| *n <= MAX_RANK) else { return Ok(None) };
    let axes = match call.axes(3) {
        Some(Some(axes)) => axes,
        Some(None) => return Ok(None),
        None => (0..count as i64).collect(),
    };
    let axes = axes_of(&axes, rank)?;
    let steps = if call.has(4) { call.known_ints(4) } else { Some(vec![1; count]) };
    let lengths = [Some(axes.len()), starts.as_ref().map(Vec::len), ends.as_ref().map(Vec::len), steps.as_ref().map(Vec::len)];
    if lengths.iter().flatten().any(|n| *n != count) {
        return Err("starts, ends, axes and steps differ in length".into());
    }
    let range = |i: usize| {
        let (start, end) = (starts.as_ref()?[i].clone(), ends.as_ref()?[i].clone());
        Some(Range { start, end, step: steps.as_ref()?[i] })
    };
    if steps.iter().flatten().any(|s| *s == 0) {
        return Err("a step is 0".into());
    }
    Ok(Some(axes.iter().enumerate().map(|(i, axis)| (*axis, range(i))).collect()))
}

/// `Slice`.
pub(super) fn slice(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let Some(mut shape) = call.extents(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let Some(ranges) = ranges(call, shape.len())? else {
        let open = fresh_extents(shape.len(), fresh);
        return Ok(vec![tensor(call.dtype(0), Some(open))]);
    };
    for (axis, range) in ranges {
        let of = shape[axis].take();
        shape[axis] = match (&range, &of) {
            (Some(range), Some(of)) => Some(sliced(range, of).unwrap_or_else(&mut *fresh)),
            (Some(range), None) => sliced_of_unknown(range),
            _ => Some(fresh()),
        };
    }
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// Both bounds on the same side: what is between them, if the axis reaches that far, is not known; nothing between them is.
fn sliced_of_unknown(range: &Range) -> Extent {
    let (start, end) = (range.start.as_const()?, range.end.as_const()?);
    let empty = (start < 0) == (end < 0) && if range.step > 0 { end <= start } else { end >= start };
    empty.then_some(Dim::Const(0))
}

/// How many elements a range has of `of`; none if that depends on the symbols (taken to be at least 1).
pub(super) fn sliced(range: &Range, of: &Dim) -> Option<Dim> {
    let step = Dim::Const(range.step.checked_abs()?);
    let (low, high) = if range.step > 0 { (Dim::Const(0), of.clone()) } else { (Dim::Const(-1), of.checked_sub(&Dim::Const(1))?) };
    let start = clamped(&range.start, of, &low, &high)?;
    let end = clamped(&range.end, of, &low, &high)?;
    let span = if range.step > 0 { end.checked_sub(&start)? } else { start.checked_sub(&end)? };
    let count = span.checked_div_ceil(step.as_const()?)?;
    count.decided_max(&Dim::Const(0), 1).cloned()
}

/// A bound counted from the front and kept within the axis.
pub(super) fn clamped(bound: &Dim, of: &Dim, low: &Dim, high: &Dim) -> Option<Dim> {
    let negative = bound.at_most(&Dim::Const(-1), 1)?;
    // The largest numbers stand for the ends, whatever the axis.
    if bound.as_const().is_some_and(|n| n >= i64::from(i32::MAX)) && high.as_const().is_none() {
        return Some(high.clone());
    }
    if bound.as_const().is_some_and(|n| n <= -i64::from(i32::MAX)) && high.as_const().is_none() {
        return Some(low.clone());
    }
    let from_front = if negative { bound.checked_add(of)? } else { bound.clone() };
    from_front.decided_max(low, 1)?.decided_min(high, 1).cloned()
}

/// `Split`.
pub(super) fn split(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let outputs = call.outputs;
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(call.dtype(0), None); outputs]) };
    let axis = axis_of(call.int_or("axis", 0), shape.len())?;
    let piece = |extent: Extent| {
        let mut shape = shape.to_vec();
        shape[axis] = extent;
        tensor(call.dtype(0), Some(shape))
    };
    let pieces = match pieces(call, &shape[axis])? {
        Some(pieces) => pieces,
        None => (0..outputs).map(|_| Some(fresh())).collect(),
    };
    Ok(pieces.into_iter().map(piece).collect())
}

/// The extents of the pieces along the axis; none if they depend on data.
pub(super) fn pieces(call: &NodeInfo<'_>, along: &Extent) -> Result<Option<Extents>, String> {
    let stated: Option<Vec<Dim>> = call.ints("split").map(|v| v.iter().map(|n| Dim::Const(*n)).collect());
    let Some(stated) = stated.or_else(|| call.dims(1).map(<[Dim]>::to_vec)) else {
        return if call.has(1) { Ok(None) } else { Ok(Some(equal_pieces(call, along)?)) };
    };
    if stated.len() != call.outputs {
        return Err(format!("{} pieces for {} outputs", stated.len(), call.outputs));
    }
    let total = Dim::checked_product([]).and_then(|_| stated.iter().try_fold(Dim::Const(0), |s, d| s.checked_add(d)));
    unify(&total.clone().filter(|t| t.as_const().is_some()), along)?;
    stated.into_iter().map(|d| natural(Some(d))).collect::<Result<Extents, _>>().map(Some)
}

fn equal_pieces(call: &NodeInfo<'_>, along: &Extent) -> Result<Extents, String> {
    let outputs = call.outputs.max(1);
    let wanted = call.int_or("num_outputs", outputs as i64);
    if wanted != outputs as i64 {
        return Err(format!("{wanted} pieces for {outputs} outputs"));
    }
    let even = divide(along, wanted);
    if even.is_some() || along.is_none() {
        return Ok(vec![even; outputs]);
    }
    if call.version < 18 && along.as_ref().and_then(Dim::as_const).is_some() {
        return Err(format!("{} elements do not fall into {wanted} equal pieces", along.clone().unwrap_or(Dim::Const(0))));
    }
    let piece = along.as_ref().and_then(|d| d.checked_div_ceil(wanted));
    let mut out = vec![piece.clone(); outputs];
    out[outputs - 1] = sub(along, &mul(&piece, &number(wanted - 1)));
    if out[outputs - 1].as_ref().and_then(|d| d.lower_bound(1)).is_none_or(|n| n < 0) {
        out[outputs - 1] = None;
    }
    Ok(out)
}

/// `Expand` to the broadcast of the shape and an input.
pub(super) fn expand(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let wanted = match (call.shape(0), call.dims(1)) {
        (Some(shape), Some(dims)) => {
            let dims: Extents = dims.iter().cloned().map(Some).collect();
            Some(broadcast(shape, &dims, fresh)?)
        }
        (Some(shape), None) => call.length(1).filter(|n| *n <= MAX_RANK).map(|n| expanded_to_unknown(shape, n, fresh)),
        // Without the shape of the input, an extent of 1 says nothing.
        (None, Some(dims)) if dims.len() <= MAX_RANK => None,
        _ => None,
    };
    Ok(vec![tensor(call.dtype(0), wanted)])
}

/// Extents above 1 stay as they are: nothing else broadcasts with them.
fn expanded_to_unknown(shape: &[Extent], n: usize, fresh: Fresh<'_>) -> Extents {
    let rank = n.max(shape.len());
    let own = |i: usize| shape.get((i + shape.len()).checked_sub(rank)?)?.clone();
    let kept = |e: &Dim| e.as_const().is_some_and(|n| n != 1);
    (0..rank).map(|i| own(i).filter(kept).or_else(|| Some(fresh()))).collect()
}

/// `Tile`.
pub(super) fn tile(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let Some(repeats) = call.dims(1) else {
        let open = fresh_extents(shape.len(), fresh);
        return Ok(vec![tensor(call.dtype(0), Some(open))]);
    };
    if repeats.len() != shape.len() {
        return Err(format!("{} repeats for rank {}", repeats.len(), shape.len()));
    }
    let out: Result<Extents, String> = shape.iter().zip(repeats).map(|(e, r)| natural(mul(e, &Some(r.clone())))).collect();
    Ok(vec![tensor(call.dtype(0), Some(out?))])
}

/// `Pad`: begins of all axes, then ends; an attribute before version 11.
pub(super) fn pad(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let Some(mut shape) = call.extents(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let axes = match call.axes(3) {
        Some(Some(axes)) => axes_of(&axes, shape.len())?,
        Some(None) => return Ok(vec![tensor(call.dtype(0), Some(fresh_extents(shape.len(), fresh)))]),
        None => (0..shape.len()).collect(),
    };
    let stated: Option<Vec<Dim>> = call.ints("pads").map(|v| v.iter().map(|n| Dim::Const(*n)).collect());
    let Some(pads) = stated.or_else(|| call.dims(1).map(<[Dim]>::to_vec)) else {
        axes.iter().for_each(|a| shape[*a] = Some(fresh()));
        return Ok(vec![tensor(call.dtype(0), Some(shape))]);
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    for (i, axis) in axes.iter().enumerate() {
        let both = pads[i].checked_add(&pads[i + axes.len()]);
        shape[*axis] = natural(add(&shape[*axis], &both))?;
    }
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// `DepthToSpace` (`grow`) and `SpaceToDepth`.
pub(super) fn depth_space(call: &NodeInfo<'_>, grow: bool) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(call.dtype(0), Some(vec![None; 4]))]) };
    let [n, c, h, w] = shape else { return Err(format!("rank {} instead of 4", shape.len())) };
    let block = call.int_or("blocksize", 0);
    if block < 1 {
        return Err(format!("a block size of {block}"));
    }
    let area = block.checked_mul(block).ok_or("a block size beyond counting")?;
    let (deep, wide) = (number(area), number(block));
    let out = if grow {
        vec![n.clone(), divided(c, area)?, mul(h, &wide), mul(w, &wide)]
    } else {
        vec![n.clone(), mul(c, &deep), divided(h, block)?, divided(w, block)?]
    };
    Ok(vec![tensor(call.dtype(0), Some(out))])
}

/// A division that the operator says leaves no rest.
fn divided(extent: &Extent, n: i64) -> Result<Extent, String> {
    match extent {
        Some(Dim::Const(c)) if c % n != 0 => Err(format!("an extent of {c} does not fall into {n}")),
        Some(d) => Ok(d.checked_div_floor(n)),
        None => Ok(None),
    }
}

/// `CenterCropPad`: the named axes take the stated extents.
pub(super) fn center_crop_pad(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let Some(mut shape) = call.extents(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let axes = match call.ints("axes") {
        Some(axes) => axes_of(axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    let stated = stated_shape(call, 1, fresh).unwrap_or_else(|| fresh_extents(axes.len(), fresh));
    if stated.len() != axes.len() {
        return Err(format!("{} extents for {} axes", stated.len(), axes.len()));
    }
    for (axis, extent) in axes.iter().zip(stated) {
        shape[*axis] = natural(extent)?;
    }
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// `Shape`: as many elements as the range of axes has.
pub(super) fn shape(call: &NodeInfo<'_>) -> Outputs {
    let count = call.rank(0).map(|rank| axis_range(call, rank).len() as i64);
    Ok(vec![tensor(Some(dtype::INT64), Some(vec![count.map(Dim::Const)]))])
}

/// The axes that `Shape` lists: `start` to `end`, clamped.
pub(super) fn axis_range(call: &NodeInfo<'_>, rank: usize) -> std::ops::Range<usize> {
    let clamp = |n: i64| (if n < 0 { n.saturating_add(rank as i64) } else { n }).clamp(0, rank as i64) as usize;
    let start = clamp(call.int_or("start", 0));
    start..clamp(call.int_or("end", i64::MAX)).max(start)
}

/// `Size`: a scalar.
pub(super) fn size() -> Outputs {
    Ok(vec![tensor(Some(dtype::INT64), numbers(&[]))])
}
