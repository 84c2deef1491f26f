//! Values that come from attributes and shapes.

use super::super::{Elements, Fresh, MAX_ELEMENTS, NodeInfo, ShapeValue, shaping};
use super::{as_dims, tensor};
use crate::ir::Dim;
use crate::onnx::proto::AttributeProto;

/// `Shape`, `Size`, `Constant`, `ConstantOfShape`, `Range`, `NonZero`, `OneHot`.
pub(super) fn make(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Option<ShapeValue> {
    match call.op_type {
        "Shape" => {
            let shape = call.shape(0)?;
            let range = shaping::axis_range(call, shape.len());
            // An unknown extent still is one number, so a symbol stands for it.
            Some(row(shape[range].iter().map(|e| e.clone().unwrap_or_else(&mut *fresh)).collect()))
        }
        "Size" => Some(scalar(super::super::extent::product(call.shape(0)?)?)),
        "Constant" => call.attributes.iter().find_map(stored),
        "ConstantOfShape" => constant_of_shape(call),
        "Range" => range(call),
        "NonZero" => non_zero(call.value(0)?),
        "OneHot" => one_hot(call),
        _ => None,
    }
}

/// The new axis last: exporters write the repeats of `repeat_interleave` so, with an extent of the model as the value that is on.
fn one_hot(call: &NodeInfo<'_>) -> Option<ShapeValue> {
    let indices = call.value(0)?;
    let rank = indices.shape.len() as i64;
    let [depth] = call.known_ints(1)?[..] else { return None };
    let Elements::Dims(values) = &call.value(2)?.elements else { return None };
    let [off, on] = &values[..] else { return None };
    let depth = usize::try_from(depth).ok().filter(|d| *d <= MAX_ELEMENTS)?;
    if !matches!(call.int_or("axis", -1), axis if axis == -1 || axis == rank) {
        return None;
    }
    let mut elements = Vec::new();
    for at in call.known_ints(0)? {
        let at = if at < 0 { at.checked_add(depth as i64)? } else { at };
        elements.extend((0..depth as i64).map(|i| if i == at { on.clone() } else { off.clone() }));
        if elements.len() > MAX_ELEMENTS {
            return None;
        }
    }
    let mut shape = indices.shape.clone();
    shape.push(depth);
    Some(ShapeValue { shape, elements: Elements::Dims(elements) })
}

/// A scalar.
pub(super) fn scalar(d: Dim) -> ShapeValue {
    ShapeValue { shape: Vec::new(), elements: Elements::Dims(vec![d]) }
}

fn row(dims: Vec<Dim>) -> ShapeValue {
    ShapeValue { shape: vec![dims.len()], elements: Elements::Dims(dims) }
}

fn stored(a: &AttributeProto) -> Option<ShapeValue> {
    let numbers = |shape: Vec<usize>, n: Vec<f64>| Some(ShapeValue { shape, elements: Elements::Numbers(n) });
    match a.name.as_str() {
        "value" => tensor::read(a.t.as_deref()?),
        "value_int" => Some(scalar(Dim::Const(a.i?))),
        "value_ints" => Some(row(a.ints.iter().take(MAX_ELEMENTS + 1).map(|n| Dim::Const(*n)).collect())),
        "value_float" => numbers(Vec::new(), vec![f64::from(a.f?)]),
        "value_floats" if a.floats.len() <= MAX_ELEMENTS => numbers(vec![a.floats.len()], a.floats.iter().map(|f| f64::from(*f)).collect()),
        _ => None,
    }
}

fn constant_of_shape(call: &NodeInfo<'_>) -> Option<ShapeValue> {
    let shape: Vec<usize> = call.known_ints(0)?.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<_>>()?;
    let count = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= MAX_ELEMENTS)?;
    let elements = match call.stored("value") {
        None => Elements::Numbers(vec![0.0; count]),
        Some(value) => match tensor::read(value)?.elements {
            Elements::Dims(d) => Elements::Dims(vec![d.first()?.clone(); count]),
            Elements::Numbers(n) => Elements::Numbers(vec![*n.first()?; count]),
        },
    };
    Some(ShapeValue { shape, elements })
}

/// The number of elements of a `Range`: `max(ceil((limit - start) / delta), 0)`; none if it depends on data.
pub(in crate::import::onnx::standard) fn range_length(call: &NodeInfo<'_>) -> Result<Option<Dim>, String> {
    let float = |at: usize| call.floats(at).and_then(|v| v.first().copied());
    if let (Some(start), Some(limit), Some(delta)) = (float(0), float(1), float(2)) {
        if delta == 0.0 {
            return Err("a step of 0".into());
        }
        let count = ((limit - start) / delta).ceil().max(0.0);
        return Ok((count < 1e15).then_some(Dim::Const(count as i64)));
    }
    // An extent that was cast to float is a whole number still; what stands beside it may be a plain float.
    let first = |at: usize| as_dims(&call.value(at)?.elements)?.into_iter().next();
    let (Some(start), Some(limit), Some(delta)) = (first(0), first(1), first(2)) else { return Ok(None) };
    Ok(match delta.as_const() {
        Some(0) => return Err("a step of 0".into()),
        Some(delta) => int_range_length(&start, &limit, delta),
        None => None,
    })
}

fn int_range_length(start: &Dim, limit: &Dim, delta: i64) -> Option<Dim> {
    let span = if delta > 0 { limit.checked_sub(start)? } else { start.checked_sub(limit)? };
    span.checked_div_ceil(delta.checked_abs()?)?.decided_max(&Dim::Const(0), 1).cloned()
}

fn range(call: &NodeInfo<'_>) -> Option<ShapeValue> {
    let count = usize::try_from(range_length(call).ok()??.as_const()?).ok().filter(|n| *n <= MAX_ELEMENTS)?;
    if let (Some(start), Some(delta)) = (call.floats(0), call.floats(2)) {
        let (start, delta) = (*start.first()?, *delta.first()?);
        let numbers = (0..count).map(|i| start + i as f64 * delta).collect();
        return Some(ShapeValue { shape: vec![count], elements: Elements::Numbers(numbers) });
    }
    let (start, delta) = (call.dims(0)?.first()?, call.dims(2)?.first()?);
    let at = |i: usize| start.checked_add(&delta.checked_mul(&Dim::from(i))?);
    Some(row((0..count).map(at).collect::<Option<_>>()?))
}

fn non_zero(value: &ShapeValue) -> Option<ShapeValue> {
    let holds: Vec<bool> = match &value.elements {
        Elements::Numbers(n) => n.iter().map(|n| *n != 0.0).collect(),
        Elements::Dims(d) => d.iter().map(super::arithmetic::truth).collect::<Option<_>>()?,
    };
    let found: Vec<usize> = (0..holds.len()).filter(|i| holds[*i]).collect();
    let strides = super::layout::strides(&value.shape);
    let index = |axis: usize, flat: usize| Dim::from(flat / strides[axis].max(1) % value.shape[axis].max(1));
    let dims = (0..value.shape.len()).flat_map(|axis| found.iter().map(move |flat| index(axis, *flat))).collect();
    Some(ShapeValue { shape: vec![value.shape.len(), found.len()], elements: Elements::Dims(dims) })
}
