//! Operators that only move elements: each element of an output is one of the inputs', so a list of places says all.

use super::super::call::{Extent, axis_of};
use super::super::{Elements, MAX_ELEMENTS, NodeInfo, ShapeValue, ValueInfo, reduce, shaping};
use super::as_dims;
use crate::ir::Dim;

/// Where the elements of an output come from, and its shape.
type Places = (Vec<usize>, Vec<usize>);

/// The outputs, if the inputs that are moved and the indices are known.
pub(super) fn moved(call: &NodeInfo<'_>, infos: &[ValueInfo]) -> Option<Vec<ShapeValue>> {
    let data = call.value(0)?;
    let shape = |at: usize| infos.get(at).and_then(|f| known_shape(f.ty.as_ref()?.shape.as_deref()?));
    let all: Vec<usize> = (0..data.elements.len()).collect();
    let places: Option<Places> = match call.op_type {
        "Identity" => Some((data.shape.clone(), all)),
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" => shape(0).map(|s| (s, all)),
        "Transpose" => transposed(call, data),
        "Expand" | "Tile" => repeated(&data.shape, shape(0)?),
        "Slice" => sliced(call, data),
        "Gather" => gathered(call, data),
        "GatherElements" => gathered_elements(call, data),
        "GatherND" => gathered_nd(call, data),
        "Compress" => compressed(call, data),
        "Concat" => return concatenated(call).map(|v| vec![v]),
        "Split" => return split(call, data),
        "Pad" => return padded(call, data, shape(0)?).map(|v| vec![v]),
        "ScatterND" | "ScatterElements" | "Scatter" => return scattered(call, data).map(|v| vec![v]),
        _ => None,
    };
    Some(vec![take(&data.elements, places?)?])
}

/// A shape of numbers.
fn known_shape(shape: &[Extent]) -> Option<Vec<usize>> {
    shape.iter().map(|e| usize::try_from(e.as_ref()?.as_const()?).ok()).collect()
}

/// Elements between neighbours along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1_usize; shape.len()];
    for i in (1..shape.len()).rev() {
        // Of a shape that has too many elements nobody uses them.
        out[i - 1] = out[i].saturating_mul(shape[i]);
    }
    out
}

/// How many elements, if that is few.
fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= MAX_ELEMENTS)
}

/// For each element of `shape`, the sum over its coordinates of what `at` gives for the axis and the coordinate.
pub(super) fn places(shape: &[usize], at: impl Fn(usize, usize) -> usize) -> Option<Vec<usize>> {
    let (n, own) = (count(shape)?, strides(shape));
    let place = |flat: usize| (0..shape.len()).map(|axis| at(axis, flat / own[axis] % shape[axis])).sum();
    Some((0..n).map(place).collect())
}

fn take(elements: &Elements, (shape, from): Places) -> Option<ShapeValue> {
    let elements = match elements {
        Elements::Dims(d) => Elements::Dims(from.iter().map(|i| d.get(*i).cloned()).collect::<Option<_>>()?),
        Elements::Numbers(n) => Elements::Numbers(from.iter().map(|i| n.get(*i).copied()).collect::<Option<_>>()?),
    };
    Some(ShapeValue { shape, elements })
}

fn transposed(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Places> {
    let perm = shaping::permutation(call, data.shape.len()).ok()?;
    let from = strides(&data.shape);
    let shape: Vec<usize> = perm.iter().map(|i| data.shape[*i]).collect();
    let places = places(&shape, |axis, i| i * from[perm[axis]])?;
    Some((shape, places))
}

/// `Expand` and `Tile`: a coordinate counts modulo the extent that it has in the data.
fn repeated(from: &[usize], shape: Vec<usize>) -> Option<Places> {
    let lead = shape.len().checked_sub(from.len())?;
    let own = strides(from);
    if from.contains(&0) {
        return count(&shape).filter(|n| *n == 0).map(|_| (shape, Vec::new()));
    }
    let places = places(&shape, |axis, i| axis.checked_sub(lead).map_or(0, |a| i % from[a] * own[a]))?;
    Some((shape, places))
}

fn sliced(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Places> {
    let (mut shape, own) = (data.shape.clone(), strides(&data.shape));
    let mut walk: Vec<(i64, i64)> = vec![(0, 1); shape.len()];
    for (axis, range) in shaping::ranges(call, shape.len()).ok()?? {
        let (range, of) = (range?, Dim::from(shape[axis]));
        let length = shaping::sliced(&range, &of)?.as_const()?;
        let low = Dim::Const(if range.step > 0 { 0 } else { -1 });
        let high = if range.step > 0 { of.clone() } else { of.clone() - 1 };
        walk[axis] = (shaping::clamped(&range.start, &of, &low, &high)?.as_const()?, range.step);
        shape[axis] = usize::try_from(length).ok()?;
    }
    let at = |axis: usize, i: usize| {
        let (start, step) = walk[axis];
        (start + i as i64 * step) as usize * own[axis]
    };
    let places = places(&shape, at)?;
    Some((shape, places))
}

/// An index counted from the front.
fn index(at: &Dim, extent: usize) -> Option<usize> {
    let at = at.as_const()?;
    axis_of(at, extent).ok()
}

fn gathered(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Places> {
    let axis = axis_of(call.int_or("axis", 0), data.shape.len()).ok()?;
    let indices: Vec<usize> = call.dims(1)?.iter().map(|i| index(i, data.shape[axis])).collect::<Option<_>>()?;
    let index_shape = &call.value(1)?.shape;
    let own = strides(&data.shape);
    // The indices as one axis first: their shape only names the same elements anew.
    let flat = [&data.shape[..axis], &[indices.len()], &data.shape[axis + 1..]].concat();
    let places = places(&flat, |a, i| if a == axis { indices[i] * own[axis] } else { i * own[a] })?;
    Some(([&data.shape[..axis], index_shape, &data.shape[axis + 1..]].concat(), places))
}

/// The place that each index along `axis` names, at the index's own coordinates elsewhere.
fn along_axis(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Vec<usize>> {
    let axis = axis_of(call.int_or("axis", 0), data.shape.len()).ok()?;
    let (indices, shape) = (call.dims(1)?, &call.value(1)?.shape);
    if shape.len() != data.shape.len() {
        return None;
    }
    let inside = |(a, (i, d)): (usize, (&usize, &usize))| a == axis || i <= d;
    if !shape.iter().zip(&data.shape).enumerate().all(inside) {
        return None;
    }
    let own = strides(&data.shape);
    let elsewhere = places(shape, |a, i| if a == axis { 0 } else { i * own[a] })?;
    elsewhere.iter().zip(indices).map(|(place, i)| Some(place + index(i, data.shape[axis])? * own[axis])).collect()
}

fn gathered_elements(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Places> {
    Some((call.value(1)?.shape.clone(), along_axis(call, data)?))
}

/// The first places of the slices that rows of indices name, and the shape of a slice. Without batch axes.
fn slices(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<(Vec<usize>, Vec<usize>)> {
    let (indices, shape) = (call.dims(1)?, &call.value(1)?.shape);
    let walked = *shape.last()?;
    if walked > data.shape.len() || call.int_or("batch_dims", 0) != 0 {
        return None;
    }
    let own = strides(&data.shape);
    let rows = count(&shape[..shape.len() - 1])?;
    let place = |row: usize| (0..walked).map(|a| Some(index(&indices[row * walked + a], data.shape[a])? * own[a])).sum::<Option<usize>>();
    Some(((0..rows).map(place).collect::<Option<_>>()?, data.shape[walked..].to_vec()))
}

fn gathered_nd(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Places> {
    let (first, slice) = slices(call, data)?;
    let (length, lead) = (count(&slice)?, call.value(1)?.shape.split_last()?.1.to_vec());
    count(&[first.len(), length])?;
    let places = first.iter().flat_map(|at| (0..length).map(move |i| at + i)).collect();
    Some(([lead, slice].concat(), places))
}

fn compressed(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Places> {
    let kept: Vec<usize> = call.known_ints(1)?.iter().enumerate().filter(|(_, c)| **c != 0).map(|(i, _)| i).collect();
    let Some(axis) = call.int("axis") else { return Some((vec![kept.len()], kept)) };
    let axis = axis_of(axis, data.shape.len()).ok()?;
    if kept.last().is_some_and(|i| *i >= data.shape[axis]) {
        return None;
    }
    let (mut shape, own) = (data.shape.clone(), strides(&data.shape));
    shape[axis] = kept.len();
    let places = places(&shape, |a, i| if a == axis { kept[i] * own[a] } else { i * own[a] })?;
    Some((shape, places))
}

/// All elements one after the other.
fn joined<'a>(parts: impl IntoIterator<Item = &'a Elements>) -> Option<Elements> {
    let mut parts = parts.into_iter();
    let mut all = parts.next()?.clone();
    for part in parts {
        match (&mut all, part) {
            (Elements::Dims(a), Elements::Dims(b)) => a.extend_from_slice(b),
            (Elements::Numbers(a), Elements::Numbers(b)) => a.extend_from_slice(b),
            (all, part) => {
                let mut dims = as_dims(all)?;
                dims.extend(as_dims(part)?);
                *all = Elements::Dims(dims);
            }
        }
        if all.len() > MAX_ELEMENTS {
            return None;
        }
    }
    Some(all)
}

fn concatenated(call: &NodeInfo<'_>) -> Option<ShapeValue> {
    let parts: Vec<&ShapeValue> = (0..call.inputs.len()).map(|i| call.value(i)).collect::<Option<_>>()?;
    let mut shape = parts.first()?.shape.clone();
    let axis = axis_of(call.int_or("axis", 1), shape.len()).ok()?;
    let other = |s: &[usize]| s.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, n)| *n).collect::<Vec<_>>();
    if parts.iter().any(|p| p.shape.len() != shape.len() || other(&p.shape) != other(&shape)) {
        return None;
    }
    let all = joined(parts.iter().map(|p| &p.elements))?;
    let (outer, inner) = (count(&shape[..axis])?, count(&shape[axis + 1..])?);
    let mut from = Vec::new();
    for o in 0..outer {
        let mut begin = 0;
        for part in &parts {
            let row = part.shape[axis] * inner;
            from.extend(begin + o * row..begin + (o + 1) * row);
            begin += part.elements.len();
        }
    }
    shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
    take(&all, (shape, from))
}

fn split(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<Vec<ShapeValue>> {
    let axis = axis_of(call.int_or("axis", 0), data.shape.len()).ok()?;
    let pieces = shaping::pieces(call, &Some(Dim::from(data.shape[axis]))).ok()??;
    let own = strides(&data.shape);
    let mut begin = 0;
    let mut out = Vec::new();
    for piece in known_shape(&pieces)? {
        let mut shape = data.shape.clone();
        shape[axis] = piece;
        let from = places(&shape, |a, i| if a == axis { (begin + i) * own[a] } else { i * own[a] })?;
        out.push(take(&data.elements, (shape, from))?);
        begin += piece;
    }
    Some(out)
}

/// `Pad` with a constant: the places outside are that of the constant, which stands behind the data.
fn padded(call: &NodeInfo<'_>, data: &ShapeValue, shape: Vec<usize>) -> Option<ShapeValue> {
    if call.has(3) || call.text("mode").is_some_and(|m| m != "constant") {
        return None;
    }
    let pads = call.known_ints(1)?;
    let rank = data.shape.len();
    if pads.len() != 2 * rank || shape.len() != rank {
        return None;
    }
    let fill = match (call.value(2), &data.elements) {
        (Some(fill), _) => fill.elements.clone(),
        (None, Elements::Dims(_)) => Elements::Dims(vec![Dim::Const(0)]),
        (None, Elements::Numbers(_)) => Elements::Numbers(vec![0.0]),
    };
    if call.has(2) && fill.len() != 1 {
        return None;
    }
    let all = joined([&data.elements, &fill])?;
    let (own, outside) = (strides(&data.shape), data.elements.len());
    let from = places(&shape, |axis, i| {
        let at = (i as i64).checked_sub(pads[axis]).and_then(|at| usize::try_from(at).ok()).filter(|at| *at < data.shape[axis]);
        at.map_or(MAX_ELEMENTS + 1, |at| at * own[axis])
    })?;
    let from = from.into_iter().map(|i| if i > MAX_ELEMENTS { outside } else { i }).collect();
    take(&all, (shape, from))
}

fn scattered(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<ShapeValue> {
    if call.text("reduction").is_some_and(|r| r != "none") {
        return None;
    }
    let updates = call.value(2)?;
    let targets: Vec<usize> = if call.op_type == "ScatterND" {
        let (first, slice) = slices(call, data)?;
        let length = count(&slice)?;
        count(&[first.len(), length])?;
        first.iter().flat_map(|at| (0..length).map(move |i| at + i)).collect()
    } else {
        along_axis(call, data)?
    };
    if targets.len() != updates.elements.len() {
        return None;
    }
    let n = data.elements.len();
    let mut from: Vec<usize> = (0..n).collect();
    for (i, target) in targets.iter().enumerate() {
        *from.get_mut(*target)? = n + i;
    }
    take(&joined([&data.elements, &updates.elements])?, (data.shape.clone(), from))
}

/// The elements of each group that a reduction joins, in order, and the shape of the result.
pub(super) fn groups(call: &NodeInfo<'_>, data: &ShapeValue, axes: Option<Vec<usize>>) -> Option<(Vec<usize>, Vec<Vec<usize>>)> {
    let rank = data.shape.len();
    let axes = match axes {
        Some(axes) => axes,
        None => reduce::reduced_axes(call, rank).ok()??,
    };
    let kept: Vec<usize> = (0..rank).map(|a| if axes.contains(&a) { 1 } else { data.shape[a] }).collect();
    let own = strides(&kept);
    let group = places(&data.shape, |a, i| if axes.contains(&a) { 0 } else { i * own[a] })?;
    let mut groups = vec![Vec::new(); count(&kept)?];
    for (i, g) in group.iter().enumerate() {
        groups[*g].push(i);
    }
    let shape = if call.flag("keepdims", true) { kept } else { (0..rank).filter(|a| !axes.contains(a)).map(|a| data.shape[a]).collect() };
    Some((shape, groups))
}
