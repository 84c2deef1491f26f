//! Element by element: integers with symbols, and floats rounded as their type rounds.

use super::super::{Elements, Fresh, NodeInfo, ShapeValue, dtype};
use super::{as_dims, is_float, largest, layout, range_of};
use crate::ir::Dim;

/// Exponents of integers that are multiplied out.
const MAX_EXPONENT: i64 = 8;

type OfNumber = fn(f64) -> f64;
type OfNumbers = fn(f64, f64) -> f64;

/// Functions of one float.
const UNARY: &[(&str, OfNumber)] = &[
    ("Abs", f64::abs),
    ("Neg", |x| -x),
    ("Sqrt", f64::sqrt),
    ("Floor", f64::floor),
    ("Ceil", f64::ceil),
    ("Round", f64::round_ties_even),
    ("Exp", f64::exp),
    ("Log", f64::ln),
    ("Reciprocal", |x| 1.0 / x),
    ("Relu", |x| larger(x, 0.0)),
    ("Sigmoid", |x| 1.0 / (1.0 + (-x).exp())),
    ("Tanh", f64::tanh),
    ("Sin", f64::sin),
    ("Cos", f64::cos),
    ("Erf", libm::erf),
    ("Sign", |x| if x == 0.0 { 0.0 } else { x.signum() }),
];

/// Functions of two floats.
const BINARY: &[(&str, OfNumbers)] = &[
    ("Add", |a, b| a + b),
    ("Sub", |a, b| a - b),
    ("Mul", |a, b| a * b),
    ("Div", |a, b| a / b),
    ("Pow", f64::powf),
    ("Sum", |a, b| a + b),
    ("Min", smaller),
    ("Max", larger),
];

/// Comparisons of two floats.
const COMPARE: &[(&str, fn(f64, f64) -> bool)] = &[
    ("Equal", |a, b| a == b),
    ("Less", |a, b| a < b),
    ("LessOrEqual", |a, b| a <= b),
    ("Greater", |a, b| a > b),
    ("GreaterOrEqual", |a, b| a >= b),
];

/// The larger of two numbers, the left one of equal ones; NaN if one of them is, as the kernels have it.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    // Not `f64::max`: of two zeros it gives either, as the compiler likes.
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a < b {
        b
    } else {
        a
    }
}

/// The smaller of two numbers, the left one of equal ones; NaN if one of them is, as the kernels have it.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if b < a {
        b
    } else {
        a
    }
}

fn row<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// The value of an operator that computes element by element.
pub(super) fn elementwise(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Option<ShapeValue> {
    match call.op_type {
        "Cast" | "CastLike" => {
            let to = call.dtype_attribute("to").or_else(|| call.dtype(1))?;
            Some(with(call.value(0)?, cast(&call.value(0)?.elements, to, fresh)?))
        }
        "Where" => select(call, fresh),
        "Clip" => clip(call, fresh),
        "Not" | "BitwiseNot" | "Abs" | "Neg" | "Sqrt" | "Floor" | "Ceil" | "Round" | "Exp" | "Log" | "Reciprocal" | "Relu" | "Sigmoid"
        | "Tanh" | "Sin" | "Cos" | "Erf" | "Sign" => {
            let value = call.value(0)?;
            Some(with(value, unary(call.op_type, &value.elements, call.dtype(0)?, fresh)?))
        }
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Min" | "Max" | "Sum" | "Equal" | "Less" | "LessOrEqual" | "Greater"
        | "GreaterOrEqual" | "And" | "Or" | "Xor" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "BitShift" => {
            let mut all = (0..call.inputs.len()).map(|i| call.value(i));
            let first = all.next()??.clone();
            all.try_fold(first, |a, b| pair(call, &a, b?, fresh))
        }
        _ => None,
    }
}

fn with(value: &ShapeValue, elements: Elements) -> ShapeValue {
    ShapeValue { shape: value.shape.clone(), elements }
}

/// Whether an element is not 0; none if that depends on the symbols.
pub(super) fn truth(d: &Dim) -> Option<bool> {
    let zero = Dim::Const(0);
    if *d == zero {
        return Some(false);
    }
    let apart = Dim::Const(1).at_most(d, 0) == Some(true) || d.at_most(&Dim::Const(-1), 0) == Some(true);
    apart.then_some(true)
}

fn is_natural(d: &Dim) -> bool {
    d.lower_bound(0).is_some_and(|n| n >= 0)
}

fn bool_dim(b: bool) -> Dim {
    Dim::Const(i64::from(b))
}

/// The elements of a value as another type.
fn cast(elements: &Elements, to: i32, fresh: Fresh<'_>) -> Option<Elements> {
    if to == dtype::BOOL {
        let truths = match elements {
            Elements::Numbers(n) => n.iter().map(|n| bool_dim(*n != 0.0)).collect(),
            Elements::Dims(d) => d.iter().map(|d| truth(d).map_or_else(&mut *fresh, bool_dim)).collect(),
        };
        return Some(Elements::Dims(truths));
    }
    match elements {
        Elements::Numbers(n) if is_float(to) => Some(Elements::Numbers(n.clone())),
        Elements::Numbers(n) => {
            let (low, high) = range_of(to)?;
            let inside = |n: f64| n.is_finite() && n.abs() < 9e18 && (low..=high).contains(&(n.trunc() as i128));
            n.iter().map(|n| inside(*n).then_some(Dim::Const(n.trunc() as i64))).collect::<Option<_>>().map(Elements::Dims)
        }
        Elements::Dims(d) => Some(Elements::Dims(d.clone())),
    }
}

fn unary(op: &str, elements: &Elements, dtype: i32, fresh: Fresh<'_>) -> Option<Elements> {
    match elements {
        Elements::Numbers(n) => {
            let f = row(UNARY, op)?;
            // The kernel keeps NaN in 32 bits and makes it 0 in 16.
            if op == "Sign" && n.iter().any(|x| x.is_nan()) {
                return None;
            }
            Some(Elements::Numbers(n.iter().map(|x| f(*x)).collect()))
        }
        Elements::Dims(d) => {
            let out = d.iter().map(|d| unary_dim(op, d, is_float(dtype), fresh)).collect::<Option<_>>();
            out.map(Elements::Dims)
        }
    }
}

fn unary_dim(op: &str, d: &Dim, float: bool, fresh: Fresh<'_>) -> Option<Dim> {
    let zero = Dim::Const(0);
    match op {
        "Not" => Some(truth(d).map_or_else(fresh, |t| bool_dim(!t))),
        "Neg" => zero.checked_sub(d),
        "Abs" if is_natural(d) => Some(d.clone()),
        "Abs" => zero.checked_sub(d).filter(is_natural),
        "Relu" => d.decided_max(&zero, 0).cloned(),
        "Sign" => match (d.as_const(), truth(d)) {
            (Some(n), _) => Some(Dim::Const(n.signum())),
            (None, Some(true)) if is_natural(d) => Some(Dim::Const(1)),
            _ => None,
        },
        // Whole numbers in a float tensor.
        "Floor" | "Ceil" | "Round" if float => Some(d.clone()),
        _ => None,
    }
}

/// Two values broadcast and joined.
fn pair(call: &NodeInfo<'_>, a: &ShapeValue, b: &ShapeValue, fresh: Fresh<'_>) -> Option<ShapeValue> {
    let (shape, left, right) = aligned(&a.shape, &b.shape)?;
    let pairs = left.into_iter().zip(right);
    let float = call.dtype(0).is_some_and(is_float);
    let op = if call.op_type == "Sum" { "Add" } else { call.op_type };
    if let (Elements::Numbers(x), Elements::Numbers(y)) = (&a.elements, &b.elements) {
        if let Some(f) = row(COMPARE, op) {
            let dims = pairs.map(|(i, j)| bool_dim(f(x[i], y[j]))).collect();
            return Some(ShapeValue { shape, elements: Elements::Dims(dims) });
        }
        if op == "Mod" {
            // Floats have only the truncating remainder.
            return Some(ShapeValue { shape, elements: Elements::Numbers(pairs.map(|(i, j)| x[i] % y[j]).collect()) });
        }
        let f = row(BINARY, op)?;
        let round = |n: f64| super::rounded(n, call.dtype(0).unwrap_or(dtype::DOUBLE));
        return Some(ShapeValue { shape, elements: Elements::Numbers(pairs.map(|(i, j)| round(f(x[i], y[j]))).collect()) });
    }
    let (x, y) = (as_dims(&a.elements)?, as_dims(&b.elements)?);
    let dims = pairs.map(|(i, j)| binary_dim(call, op, &x[i], &y[j], float, fresh)).collect::<Option<_>>()?;
    Some(ShapeValue { shape, elements: Elements::Dims(dims) })
}

/// The broadcast shape, and where the elements of both sides are.
fn aligned(a: &[usize], b: &[usize]) -> Option<(Vec<usize>, Vec<usize>, Vec<usize>)> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    let axis = |i: usize| match (extent(a, i), extent(b, i)) {
        (1, n) | (n, 1) => Some(n),
        (n, m) => (n == m).then_some(n),
    };
    let shape: Vec<usize> = (0..rank).map(axis).collect::<Option<_>>()?;
    let own = |s: &[usize]| {
        let strides = layout::strides(s);
        layout::places(&shape, |axis, i| (axis + s.len()).checked_sub(rank).map_or(0, |own| if s[own] == 1 { 0 } else { i * strides[own] }))
    };
    let (left, right) = (own(a)?, own(b)?);
    Some((shape, left, right))
}

/// Two integers; a result that cannot be expressed but is not negative becomes a new symbol.
pub(super) fn binary_dim(call: &NodeInfo<'_>, op: &str, a: &Dim, b: &Dim, float: bool, fresh: Fresh<'_>) -> Option<Dim> {
    let natural = is_natural(a) && is_natural(b);
    let open = |fresh: Fresh<'_>| natural.then(fresh);
    match op {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" if float => a.checked_div_exact(b),
        "Div" => quotient(a, b).or_else(|| open(fresh).filter(|_| b.as_const().is_none())),
        "Mod" => remainder(a, b, call.flag("fmod", false)).or_else(|| open(fresh).filter(|_| b.as_const().is_none())),
        "Pow" => power(a, b),
        "Min" => a.decided_min(b, 0).cloned().or_else(|| open(fresh)),
        "Max" => a.decided_max(b, 0).cloned().or_else(|| open(fresh)),
        "And" | "Or" | "Xor" => Some(logic(op, a, b).unwrap_or_else(fresh)),
        "BitwiseAnd" => Some(Dim::Const(a.as_const()? & b.as_const()?)),
        "BitwiseOr" => Some(Dim::Const(a.as_const()? | b.as_const()?)),
        "BitwiseXor" => Some(Dim::Const(a.as_const()? ^ b.as_const()?)),
        "BitShift" => shifted(a.as_const()?, b.as_const()?, call.text("direction")?),
        _ => Some(compared(op, a, b)?.map_or_else(fresh, bool_dim)),
    }
}

/// Is it a natural number for all extents? Those of inputs are at least 1, so `h - 1` is one; an extent that depends on data may be 0.
fn is_natural_of_extents(d: &Dim) -> bool {
    d.lower_bound(i64::from(d.is_named())).is_some_and(|n| n >= 0)
}

/// Integer division cuts towards 0, which is the floor where both are natural numbers.
fn quotient(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) => x.checked_div(y).map(Dim::Const),
        (None, Some(y)) if y > 0 && is_natural_of_extents(a) => a.checked_div_floor(y),
        _ => a.checked_div_exact(b),
    }
}

/// The sign is that of the divisor, or with `truncate` that of the dividend.
fn remainder(a: &Dim, b: &Dim, truncate: bool) -> Option<Dim> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) if truncate => x.checked_rem(y).map(Dim::Const),
        (Some(x), Some(y)) => {
            let r = x.checked_rem(y)?;
            Some(Dim::Const(if r != 0 && (r < 0) != (y < 0) { r + y } else { r }))
        }
        (None, Some(y)) if y > 0 && (!truncate || is_natural_of_extents(a)) => {
            a.checked_sub(&a.checked_div_floor(y)?.checked_mul(&Dim::Const(y))?)
        }
        _ => None,
    }
}

fn power(a: &Dim, b: &Dim) -> Option<Dim> {
    let n = b.as_const().filter(|n| (0..=63).contains(n))?;
    if let Some(x) = a.as_const() {
        return x.checked_pow(n as u32).map(Dim::Const);
    }
    (n <= MAX_EXPONENT).then(|| (0..n).try_fold(Dim::Const(1), |p, _| p.checked_mul(a)))?
}

fn shifted(a: i64, by: i64, direction: &str) -> Option<Dim> {
    let by = u32::try_from(by).ok().filter(|n| *n < 63)?;
    if a < 0 {
        return None;
    }
    let out = if direction == "LEFT" { i64::try_from(i128::from(a) << by).ok()? } else { a >> by };
    Some(Dim::Const(out))
}

fn logic(op: &str, a: &Dim, b: &Dim) -> Option<Dim> {
    let (x, y) = (truth(a), truth(b));
    match op {
        "And" if x == Some(false) || y == Some(false) => Some(bool_dim(false)),
        "Or" if x == Some(true) || y == Some(true) => Some(bool_dim(true)),
        "And" => Some(bool_dim(x? && y?)),
        "Or" => Some(bool_dim(x? || y?)),
        _ => Some(bool_dim(x? != y?)),
    }
}

/// A comparison: the outer none if it is none, the inner one if it depends on the symbols.
fn compared(op: &str, a: &Dim, b: &Dim) -> Option<Option<bool>> {
    Some(match op {
        "Equal" if a == b => Some(true),
        "Equal" => (less(a, b) == Some(true) || less(b, a) == Some(true)).then_some(false),
        "Less" => less(a, b),
        "Greater" => less(b, a),
        "LessOrEqual" => a.at_most(b, 0),
        "GreaterOrEqual" => b.at_most(a, 0),
        _ => return None,
    })
}

fn less(a: &Dim, b: &Dim) -> Option<bool> {
    b.at_most(a, 0).map(|other| !other)
}

/// `Where`: the side that each condition picks; a side of which nothing is known may be there if it is never picked.
fn select(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Option<ShapeValue> {
    let condition = call.value(0)?;
    let picks: Vec<Option<bool>> = call.dims(0)?.iter().map(truth).collect();
    let (x, y) = (call.value(1), call.value(2));
    let shape_of = |v: Option<&ShapeValue>, at: usize| -> Option<Vec<usize>> {
        let of_type = || call.shape(at)?.iter().map(|e| usize::try_from(e.as_ref()?.as_const()?).ok()).collect();
        v.map(|v| v.shape.clone()).or_else(of_type)
    };
    let (xs, ys) = (shape_of(x, 1)?, shape_of(y, 2)?);
    let (sides, ..) = aligned(&xs, &ys)?;
    let (shape, at_condition, at_sides) = aligned(&condition.shape, &sides)?;
    let (_, from_x, from_y) = aligned(&xs, &ys)?;
    let dims = |v: Option<&ShapeValue>| v.and_then(|v| as_dims(&v.elements));
    let floats = |v: Option<&ShapeValue>| match &v?.elements {
        Elements::Numbers(n) => Some(n.clone()),
        Elements::Dims(_) => None,
    };
    let places = || at_condition.iter().zip(&at_sides).map(|(c, s)| (picks[*c], from_x[*s], from_y[*s]));
    if floats(x).is_some() || floats(y).is_some() {
        let (x, y) = (floats(x), floats(y));
        let pick = |(c, i, j): (Option<bool>, usize, usize)| if c? { x.as_ref()?.get(i).copied() } else { y.as_ref()?.get(j).copied() };
        let numbers = places().map(pick).collect::<Option<_>>()?;
        return Some(ShapeValue { shape, elements: Elements::Numbers(numbers) });
    }
    let (x, y) = (dims(x), dims(y));
    let out: Option<Vec<Dim>> = places()
        .map(|(c, i, j)| {
            let (a, b) = (x.as_ref().and_then(|x| x.get(i)), y.as_ref().and_then(|y| y.get(j)));
            match c {
                Some(true) => a.cloned(),
                Some(false) => b.cloned(),
                None if a == b => a.cloned(),
                None => (is_natural(a?) && is_natural(b?)).then(&mut *fresh),
            }
        })
        .collect();
    Some(ShapeValue { shape, elements: Elements::Dims(out?) })
}

/// `Clip`: bounds as inputs, or as attributes in old versions; without one the bound is the last finite number of the type.
fn clip(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Option<ShapeValue> {
    let value = call.value(0)?;
    let bound = |at: usize, name: &str| -> Option<Option<Elements>> {
        match (call.has(at), call.float(name)) {
            (true, _) => Some(Some(call.value(at)?.elements.clone())),
            (false, Some(f)) => Some(Some(Elements::Numbers(vec![f64::from(f)]))),
            _ => Some(call.dtype(0).and_then(largest).map(|most| Elements::Numbers(vec![if name == "min" { -most } else { most }]))),
        }
    };
    let mut elements = value.elements.clone();
    for (bound, op) in [(bound(1, "min")?, "Max"), (bound(2, "max")?, "Min")] {
        let Some(bound) = bound else { continue };
        elements = match (elements, bound) {
            (Elements::Numbers(n), Elements::Numbers(b)) => {
                let (f, b) = (row(BINARY, op)?, *b.first()?);
                Elements::Numbers(n.into_iter().map(|n| f(n, b)).collect())
            }
            (n, b) => {
                let (n, b) = (as_dims(&n)?, as_dims(&b)?);
                Elements::Dims(n.iter().map(|n| binary_dim(call, op, n, b.first()?, false, fresh)).collect::<Option<_>>()?)
            }
        };
    }
    Some(with(value, elements))
}
