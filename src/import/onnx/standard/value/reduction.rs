//! Sums, products, extremes and their places along axes.

use super::super::call::axis_of;
use super::super::{Elements, Fresh, NodeInfo, ShapeValue, dtype};
use super::{arithmetic, is_float, layout, rounded};
use crate::ir::Dim;

/// `ReduceSum`, `ReduceProd`, `ReduceMax`, `ReduceMin`, `ReduceMean`, `CumSum`, `ArgMax`, `ArgMin`.
pub(super) fn reduce(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Option<ShapeValue> {
    let data = call.value(0)?;
    match call.op_type {
        "CumSum" => running_sum(call, data),
        "ArgMax" | "ArgMin" => arg(call, data),
        "ReduceMean" => mean(call, data),
        op => {
            let (shape, groups) = layout::groups(call, data, None)?;
            let elements = match &data.elements {
                Elements::Numbers(n) => Elements::Numbers(groups.iter().map(|g| joined(call, op, g, n)).collect::<Option<_>>()?),
                Elements::Dims(d) => Elements::Dims(groups.iter().map(|g| joined_dims(call, op, g, d, fresh)).collect::<Option<_>>()?),
            };
            Some(ShapeValue { shape, elements })
        }
    }
}

/// Rounded after each step, as the type rounds; nothing joins to the neutral element, if the type has one.
fn joined(call: &NodeInfo<'_>, op: &str, group: &[usize], n: &[f64]) -> Option<f64> {
    let round = |x: f64| rounded(x, call.dtype(0).unwrap_or(dtype::DOUBLE));
    let numbers = group.iter().map(|i| n[*i]);
    match op {
        "ReduceSum" => Some(numbers.fold(0.0, |s, x| round(s + x))),
        "ReduceProd" => Some(numbers.fold(1.0, |p, x| round(p * x))),
        "ReduceMax" => numbers.reduce(arithmetic::larger),
        "ReduceMin" => numbers.reduce(arithmetic::smaller),
        _ => None,
    }
}

fn joined_dims(call: &NodeInfo<'_>, op: &str, group: &[usize], d: &[Dim], fresh: Fresh<'_>) -> Option<Dim> {
    let (pairwise, neutral) = match op {
        "ReduceSum" => ("Add", Some(Dim::Const(0))),
        "ReduceProd" => ("Mul", Some(Dim::Const(1))),
        "ReduceMax" => ("Max", None),
        "ReduceMin" => ("Min", None),
        _ => return None,
    };
    let mut rest = group.iter().map(|i| d[*i].clone());
    let first = neutral.or_else(|| rest.next())?;
    rest.try_fold(first, |a, b| arithmetic::binary_dim(call, pairwise, &a, &b, false, fresh))
}

fn mean(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<ShapeValue> {
    let Elements::Numbers(n) = &data.elements else { return None };
    let (shape, groups) = layout::groups(call, data, None)?;
    let numbers = groups.iter().map(|g| Some(joined(call, "ReduceSum", g, n)? / g.len() as f64)).collect::<Option<_>>()?;
    Some(ShapeValue { shape, elements: Elements::Numbers(numbers) })
}

fn running_sum(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<ShapeValue> {
    if call.flag("exclusive", false) || call.flag("reverse", false) {
        return None;
    }
    let axis = axis_of(*call.known_ints(1)?.first()?, data.shape.len()).ok()?;
    let before = layout::strides(&data.shape)[axis];
    let first = |i: usize| (i / before).is_multiple_of(data.shape[axis]);
    let elements = match &data.elements {
        Elements::Numbers(n) => {
            let mut out = n.clone();
            let round = |x: f64| rounded(x, call.dtype(0).unwrap_or(dtype::DOUBLE));
            (0..n.len()).filter(|i| !first(*i)).for_each(|i| out[i] = round(out[i - before] + n[i]));
            Elements::Numbers(out)
        }
        Elements::Dims(d) => {
            let mut out = d.clone();
            for i in (0..d.len()).filter(|i| !first(*i)) {
                out[i] = out[i - before].checked_add(&d[i])?;
            }
            Elements::Dims(out)
        }
    };
    Some(ShapeValue { shape: data.shape.clone(), elements })
}

/// The place of the first (or last) extreme.
fn arg(call: &NodeInfo<'_>, data: &ShapeValue) -> Option<ShapeValue> {
    let axis = axis_of(call.int_or("axis", 0), data.shape.len()).ok()?;
    let keys: Vec<f64> = match &data.elements {
        Elements::Numbers(n) => n.clone(),
        // As floats, different integers beyond 2^53 would compare equal.
        Elements::Dims(d) => {
            d.iter().map(|d| d.as_const().filter(|n| n.unsigned_abs() < 1 << 53).map(|n| n as f64)).collect::<Option<_>>()?
        }
    };
    if keys.iter().any(|k| k.is_nan()) || call.dtype(0).is_none_or(|d| !is_float(d) && super::range_of(d).is_none()) {
        return None;
    }
    let sign = if call.op_type == "ArgMax" { 1.0 } else { -1.0 };
    let last = call.flag("select_last_index", false);
    let (shape, groups) = layout::groups(call, data, Some(vec![axis]))?;
    let place = |group: &Vec<usize>| {
        let better = |a: f64, b: f64| if last { a >= b } else { a > b };
        let best = (1..group.len()).fold(0, |best, i| if better(sign * keys[group[i]], sign * keys[group[best]]) { i } else { best });
        (!group.is_empty()).then_some(Dim::from(best))
    };
    Some(ShapeValue { shape, elements: Elements::Dims(groups.iter().map(place).collect::<Option<_>>()?) })
}
