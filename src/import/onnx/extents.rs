//! Extents that cannot be named but are the same: what follows from the same things gets the same symbol, and what must be equal for
//! an operator to run is equal.

use super::standard::{Elements, NodeInfo, ValueInfo};
use crate::ir::Dim;
use crate::onnx::proto::NodeProto;

/// Operators whose output shape is decided by the values of these inputs.
const SHAPED: &[(&str, &[usize])] =
    &[("Reshape", &[1]), ("Slice", &[1, 2, 3, 4]), ("Expand", &[1]), ("Tile", &[1]), ("Pad", &[1, 3]), ("Split", &[1])];
/// Operators whose output shape follows from the shapes of the inputs alone.
const BROADCAST: &[&str] = &["Add", "Sub", "Mul", "Div", "Pow", "Where", "MatMul", "Equal", "Less", "Greater", "And", "Or"];
/// Operators on elements of shapes.
const ELEMENTS: &[&str] = &["Div", "Mod", "Min", "Max"];

/// What the extents of a call's outputs follow from, as a text that is equal for equal ones; none if they depend on data.
pub(super) fn origin(call: &NodeInfo<'_>) -> Option<String> {
    let known = |at: usize| input(call, at).is_none_or(|f| f.value.is_some());
    let typed = |f: &ValueInfo| shape(f).is_some_and(|s| s.iter().all(Option::is_some));
    if !call.domain.is_empty() || !call.inputs.iter().flatten().all(|f| typed(f)) {
        return None;
    }
    let says_all = if let Some((_, inputs)) = SHAPED.iter().find(|(op, _)| *op == call.op_type) {
        inputs.iter().all(|at| known(*at))
    } else {
        let elements = ELEMENTS.contains(&call.op_type) && call.inputs.iter().flatten().all(|f| f.value.is_some());
        elements || BROADCAST.contains(&call.op_type) && call.inputs.iter().flatten().all(|f| f.value.is_none())
    };
    says_all.then(|| format!("{} {} {:?} {:?} {:?}", call.op_type, call.version, call.attributes, call.inputs, call.outputs))
}

/// Extents of a slice's output that are an end or, if that is less, the whole axis of several elements: the symbol and the end.
pub(super) fn cut(call: &NodeInfo<'_>, outputs: &[ValueInfo]) -> Vec<(String, Dim)> {
    let found = || {
        let (from, to) = (shape(input(call, 0)?)?, shape(outputs.first()?)?);
        let (starts, ends) = (dims(input(call, 1)?)?, dims(input(call, 2)?)?);
        let counted: Vec<Dim> = (0..starts.len()).map(Dim::from).collect();
        let axes = match input(call, 3) {
            Some(axes) => dims(axes)?,
            None => &counted,
        };
        let steps = input(call, 4).map_or(Some(&[][..]), dims)?;
        let plain = steps.iter().all(|s| *s == Dim::Const(1)) && starts.iter().all(|s| *s == Dim::Const(0));
        (plain && axes.len() == ends.len()).then_some(())?;
        let one = |(axis, end): (&Dim, &Dim)| {
            let axis = usize::try_from(axis.as_const()?).ok()?;
            let several = from.get(axis)?.as_ref()?.as_const()? > 1;
            let symbol = to.get(axis)?.as_ref()?.as_symbol()?.to_owned();
            (several && end.is_named() && end.as_const().is_none()).then(|| (symbol, end.clone()))
        };
        Some(axes.iter().zip(ends).filter_map(one).collect())
    };
    if call.op_type == "Slice" && call.domain.is_empty() { found().unwrap_or_default() } else { Vec::new() }
}

/// Extents that must be equal for the node to run. Those that broadcast need not be, except a cut table (`is_cut`) and the end that it is
/// cut to: the table has several elements, so it fits only if it was long enough.
pub(super) fn must_be_equal(node: &NodeProto, inputs: &[Option<&ValueInfo>], is_cut: impl Fn(&Dim, &Dim) -> bool) -> Vec<(Dim, Dim)> {
    let shapes: Vec<&[Option<Dim>]> = inputs.iter().filter_map(|f| shape((*f)?)).collect();
    let [first, rest @ ..] = &shapes[..] else { return Vec::new() };
    let both = |a: &Option<Dim>, b: &Option<Dim>| Some((a.clone()?, b.clone()?)).filter(|(a, b)| a != b);
    match node.op_type.as_str() {
        "Concat" => {
            let axis = node.attribute.iter().find(|a| a.name == "axis").map_or(0, |a| a.i.unwrap_or(0));
            let axis = if axis < 0 { axis + first.len() as i64 } else { axis };
            let others = |s: &&[Option<Dim>]| {
                let pairs = first.iter().zip(s.iter()).enumerate().filter(|(i, _)| *i as i64 != axis);
                pairs.filter_map(|(_, (a, b))| both(a, b)).collect::<Vec<_>>()
            };
            rest.iter().filter(|s| s.len() == first.len()).flat_map(others).collect()
        }
        "MatMul" => match (first, rest) {
            ([.., k], [[.., k2, _]]) => both(k, k2).into_iter().collect(),
            _ => Vec::new(),
        },
        "Add" | "Sub" | "Mul" | "Div" => {
            let pairs = rest.iter().flat_map(|s| first.iter().rev().zip(s.iter().rev())).filter_map(|(a, b)| both(a, b));
            pairs.filter(|(a, b)| is_cut(a, b) || is_cut(b, a)).collect()
        }
        _ => Vec::new(),
    }
}

/// Of two dims that must be equal: a symbol that stands for an unknown extent, and the other dim, which replaces it and does not contain it.
pub(super) fn replaced((a, b): &(Dim, Dim)) -> Option<(String, Dim)> {
    let unknown = |d: &Dim, other: &Dim| {
        let symbol = d.as_symbol().filter(|_| !d.is_named())?;
        (!other.symbols().iter().any(|s| s == symbol)).then(|| (symbol.to_owned(), other.clone()))
    };
    unknown(a, b).or_else(|| unknown(b, a))
}

/// Replaces a symbol in what is known of a value.
pub(super) fn equate(info: &mut ValueInfo, symbol: &str, dim: &Dim) {
    let extents = info.ty.iter_mut().filter_map(|t| t.shape.as_mut()).flatten().flatten();
    extents.for_each(|d| *d = d.replace(symbol, dim));
    if let Some(Elements::Dims(dims)) = info.value.as_mut().map(|v| &mut v.elements) {
        dims.iter_mut().for_each(|d| *d = d.replace(symbol, dim));
    }
}

fn input<'a>(call: &NodeInfo<'a>, at: usize) -> Option<&'a ValueInfo> {
    call.inputs.get(at).copied().flatten()
}

fn shape(info: &ValueInfo) -> Option<&[Option<Dim>]> {
    info.ty.as_ref()?.shape.as_deref()
}

fn dims(info: &ValueInfo) -> Option<&[Dim]> {
    match &info.value.as_ref()?.elements {
        Elements::Dims(dims) => Some(dims),
        Elements::Numbers(_) => None,
    }
}
