//! Operators that move elements.

use super::{Lifted, computable, one};
use crate::import::onnx::reader::{Reader, UpgradedNode};
use crate::ir::{DType, Dim, Op, Outlet};

/// Ends of slices that mean "to the end".
const FAR: i64 = 1 << 31;

pub(super) fn same(_: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    one(node.input(0)?)
}

/// Without training nothing is dropped.
pub(super) fn dropout(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let training = match node.input(2) {
        Some(flag) => r.known_integers(flag)? != [0],
        None => false,
    };
    if training || !node.one_output() { None } else { one(node.input(0)?) }
}

/// A constant that is not stored as a tensor and has no known elements (text) stays foreign.
pub(super) fn constant(_: &mut Reader<'_, '_>, _: &UpgradedNode<'_>) -> Lifted {
    None
}

/// `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`: the same elements in the inferred shape.
pub(super) fn reshaped(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = known(r, node.input(0)?)?;
    let shape = node.known_extents(0)?;
    // One extent may be what remains, so it is written without being known.
    let kept = |(i, d): (usize, &Dim)| d.as_const().is_some() || r.graph.ty(x).shape.get(i) == Some(d);
    let open = shape.iter().enumerate().filter(|e| !kept(*e)).count();
    if open > 1 && shape.iter().any(|d| !computable(r, d, x)) {
        return None;
    }
    one(r.add(node, Op::Reshape { shape }, &[x])?)
}

/// A tensor of a type that vidc knows.
fn known(r: &Reader<'_, '_>, outlet: Outlet) -> Option<Outlet> {
    (r.dtype(outlet) != DType::Opaque).then_some(outlet)
}

pub(super) fn transpose(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = known(r, node.input(0)?)?;
    let perm = match node.ints("perm") {
        Some(perm) => perm.iter().map(|p| usize::try_from(*p).ok()).collect::<Option<_>>()?,
        None => (0..r.rank(x)).rev().collect(),
    };
    one(r.add(node, Op::Transpose { perm }, &[x])?)
}

pub(super) fn concat(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let parts: Vec<Outlet> = node.inputs.iter().map(|i| i.and_then(|o| known(r, o))).collect::<Option<_>>()?;
    let axis = UpgradedNode::axis(node.attribute("axis")?.i.unwrap_or(0), r.rank(*parts.first()?))?;
    one(r.add(node, Op::Concat { axis }, &parts)?)
}

/// One slice an axis; steps are 1 and bounds known.
pub(super) fn slice(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let mut x = known(r, node.input(0)?)?;
    let (starts, ends) = (r.known_dims(node.input(1)?)?, r.known_dims(node.input(2)?)?);
    let axes = match node.input(3) {
        Some(axes) => r.known_integers(axes)?,
        None => (0..starts.len() as i64).collect(),
    };
    if let Some(steps) = node.input(4)
        && r.known_integers(steps)?.iter().any(|s| *s != 1)
    {
        return None;
    }
    if starts.len() != axes.len() || ends.len() != axes.len() {
        return None;
    }
    for ((axis, start), end) in axes.iter().zip(&starts).zip(&ends) {
        let axis = UpgradedNode::axis(*axis, r.rank(x))?;
        let extent = r.graph.ty(x).shape[axis].clone();
        let (start, end) = (bound(&extent, start)?, bound(&extent, end)?);
        // Bounds that cross are an empty slice, which is rare enough to stay foreign.
        if start.as_const().zip(end.as_const()).is_some_and(|(s, e)| s > e) || !computable(r, &start, x) || !computable(r, &end, x) {
            return None;
        }
        if start != Dim::Const(0) || end != extent {
            x = r.add(node, Op::Slice { axis, start, end }, &[x])?;
        }
    }
    one(x)
}

/// A bound of a slice counted from the front and inside of the axis, if that can be said.
fn bound(extent: &Dim, at: &Dim) -> Option<Dim> {
    match (at.as_const(), extent.as_const()) {
        (Some(n), Some(e)) => Some(Dim::Const(if n < 0 { n.saturating_add(e).max(0) } else { n.min(e) })),
        (Some(n), None) if n >= FAR => Some(extent.clone()),
        (Some(n), None) if n < 0 && n > -FAR => Some(extent.clone() + n),
        // A start or an end inside of a symbolic axis, which the rest of the file relies on as well.
        (Some(n), None) => (n >= 0).then_some(Dim::Const(n)),
        (None, _) => (at == extent || symbolic_part(extent, at)).then(|| at.clone()),
    }
}

/// Is `at` a fixed fraction of the extent (a half, say)?
fn symbolic_part(extent: &Dim, at: &Dim) -> bool {
    (2..=16).any(|parts| (1..parts).any(|k| extent.div_exact(parts).is_some_and(|d| &(d * k) == at)) || &extent.div_floor(parts) == at)
}

/// One slice an output.
pub(super) fn split(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = known(r, node.input(0)?)?;
    let axis = UpgradedNode::axis(node.int("axis", 0), r.rank(x))?;
    let extent = r.graph.ty(x).shape[axis].clone();
    let sizes: Vec<Dim> = if let Some(sizes) = node.input(1) {
        r.known_dims(sizes)?
    } else {
        let parts = i64::try_from(node.outputs.len()).ok()?;
        match extent.div_exact(parts) {
            Some(each) => vec![each; node.outputs.len()],
            None => return None,
        }
    };
    if sizes.len() != node.outputs.len() || sizes.iter().any(|s| !computable(r, s, x)) {
        return None;
    }
    let mut start = Dim::Const(0);
    let mut out = Vec::new();
    for size in sizes {
        let end = start.checked_add(&size)?;
        out.push(Some(r.add(node, Op::Slice { axis, start, end: end.clone() }, &[x])?));
        start = end;
    }
    (start == extent).then_some(out)
}

/// One index of an axis is a slice without the axis.
pub(super) fn gather(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let (x, indices) = (known(r, node.input(0)?)?, node.input(1)?);
    let [at] = r.known_integers(indices)?[..] else { return None };
    let axis = UpgradedNode::axis(node.int("axis", 0), r.rank(x))?;
    let extent = r.graph.ty(x).shape[axis].as_const()?;
    let at = if at < 0 { at.checked_add(extent)? } else { at };
    if !(0..extent).contains(&at) {
        return None;
    }
    let shape = node.extents(r, 0, x)?;
    let piece = r.add(node, Op::Slice { axis, start: Dim::Const(at), end: Dim::Const(at + 1) }, &[x])?;
    one(r.add(node, Op::Reshape { shape }, &[piece])?)
}

pub(super) fn expand(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = known(r, node.input(0)?)?;
    let shape = node.extents(r, 0, x)?;
    if r.graph.ty(x).shape == shape {
        return one(x);
    }
    one(r.add(node, Op::Expand { shape }, &[x])?)
}

/// Copies along axes of one element.
pub(super) fn tile(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = known(r, node.input(0)?)?;
    let shape = node.extents(r, 0, x)?;
    let from = &r.graph.ty(x).shape;
    if from.len() != shape.len() || from.iter().zip(&shape).any(|(a, b)| a != b && *a != Dim::Const(1)) {
        return None;
    }
    one(r.add(node, Op::Expand { shape }, &[x])?)
}

/// `Where` with a known condition that is the same everywhere.
pub(super) fn chosen(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let condition = r.known_integers(node.input(0)?)?;
    let first = *condition.first()?;
    if condition.iter().any(|c| (*c != 0) != (first != 0)) {
        return None;
    }
    let x = known(r, node.input(if first != 0 { 1 } else { 2 })?)?;
    let shape = node.extents(r, 0, x)?;
    if r.graph.ty(x).shape == shape {
        return one(x);
    }
    one(r.add(node, Op::Expand { shape }, &[x])?)
}

pub(super) fn cast(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = known(r, node.input(0)?)?;
    let to = i32::try_from(node.attribute("to")?.i?).ok().and_then(DType::from_onnx).filter(|d| *d != DType::Opaque)?;
    one(r.add(node, Op::Cast { to }, &[x])?)
}

/// Zeros around the edges.
pub(super) fn pad(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    if !matches!(node.text("mode"), None | Some("constant")) {
        return None;
    }
    if let Some(value) = node.input(2)
        && r.known_numbers(value)? != [0.0]
    {
        return None;
    }
    let given = r.known_integers(node.input(1)?)?;
    let rank = r.rank(x);
    let axes: Vec<usize> = match node.input(3) {
        Some(axes) => r.known_integers(axes)?.iter().map(|a| UpgradedNode::axis(*a, rank)).collect::<Option<_>>()?,
        None => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() || given.iter().any(|p| *p < 0) {
        return None;
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (i, axis) in axes.iter().enumerate() {
        before[*axis] = given[i];
        after[*axis] = given[i + axes.len()];
    }
    one(r.add(node, Op::Pad { before, after }, &[x])?)
}

/// Nearest neighbours with whole factors. Centres of pixels and corners agree there: the nearest of `(i + 0.5) / f - 0.5` is
/// `floor(i / f)` for every whole `f`.
pub(super) fn resize(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    let place = node.text("coordinate_transformation_mode").unwrap_or("half_pixel");
    let nearest = node.text("nearest_mode").unwrap_or("round_prefer_floor");
    let copies = matches!((place, nearest), ("asymmetric", "floor") | ("half_pixel", "round_prefer_floor" | "round_prefer_ceil"));
    if node.text("mode").unwrap_or("nearest") != "nearest" || !copies || node.attribute("axes").is_some() {
        return None;
    }
    let out = node.extents(r, 0, x)?;
    let shape = &r.graph.ty(x).shape;
    if out.len() != shape.len() {
        return None;
    }
    let factors: Vec<i64> = match node.input(2).and_then(|s| r.known_numbers(s)).filter(|s| !s.is_empty()) {
        Some(scales) => scales.iter().map(|s| whole(*s)).collect::<Option<_>>()?,
        None => shape.iter().zip(&out).map(|(a, b)| ratio(a, b)).collect::<Option<_>>()?,
    };
    one(r.add(node, Op::Upsample { factors }, &[x])?)
}

fn whole(scale: f64) -> Option<i64> {
    (scale >= 1.0 && scale.fract() == 0.0 && scale <= 64.0).then_some(scale as i64)
}

fn ratio(from: &Dim, to: &Dim) -> Option<i64> {
    (1..=64).find(|f| &(from.clone() * *f) == to)
}
