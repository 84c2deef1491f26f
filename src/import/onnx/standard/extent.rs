//! Arithmetic on extents that may be unknown: what cannot be computed is unknown, never wrong.

use super::Fresh;
use super::call::{Extent, Extents};
use crate::ir::Dim;

pub(super) fn number(n: i64) -> Extent {
    Some(Dim::Const(n))
}

pub(super) fn add(a: &Extent, b: &Extent) -> Extent {
    a.as_ref()?.checked_add(b.as_ref()?)
}

pub(super) fn sub(a: &Extent, b: &Extent) -> Extent {
    a.as_ref()?.checked_sub(b.as_ref()?)
}

pub(super) fn mul(a: &Extent, b: &Extent) -> Extent {
    a.as_ref()?.checked_mul(b.as_ref()?)
}

pub(super) fn product(extents: &[Extent]) -> Extent {
    extents.iter().try_fold(Dim::Const(1), |p, e| p.checked_mul(e.as_ref()?))
}

pub(super) fn sum(extents: &[Extent]) -> Extent {
    extents.iter().try_fold(Dim::Const(0), |p, e| p.checked_add(e.as_ref()?))
}

/// `extent / n`; unknown if it is not known to divide.
pub(super) fn divide(extent: &Extent, n: i64) -> Extent {
    extent.as_ref()?.div_exact(n).filter(|_| n > 0)
}

/// An extent that cannot be negative: an error if it is, for whatever symbols.
pub(super) fn natural(extent: Extent) -> Result<Extent, String> {
    match extent.as_ref().and_then(Dim::as_const) {
        Some(n) if n < 0 => Err(format!("an extent becomes {n}")),
        _ => Ok(extent),
    }
}

/// Combines two statements about one extent.
pub(super) fn unify(a: &Extent, b: &Extent) -> Result<Extent, String> {
    match (a, b) {
        (Some(Dim::Const(x)), Some(Dim::Const(y))) if x != y => Err(format!("extents {x} and {y} must be equal")),
        (Some(Dim::Const(_)), _) | (_, None) => Ok(a.clone()),
        (_, Some(Dim::Const(_))) | (None, _) => Ok(b.clone()),
        // The two are taken to be equal. A dim over symbols of inputs is preferred to one that depends on data, then the one with fewer symbols.
        (Some(x), Some(y)) => {
            let length = |d: &Dim| (!d.is_named(), d.symbols().len());
            Ok(Some(if length(y) < length(x) { y.clone() } else { x.clone() }))
        }
    }
}

pub(super) fn unify_all(a: &[Extent], b: &[Extent]) -> Result<Extents, String> {
    if a.len() != b.len() {
        return Err(format!("ranks {} and {} must be equal", a.len(), b.len()));
    }
    a.iter().zip(b).map(|(x, y)| unify(x, y)).collect()
}

/// Combines two shapes, of which each may be unknown.
pub(super) fn unify_shapes(a: Option<Extents>, b: Option<Extents>) -> Result<Option<Extents>, String> {
    match (a, b) {
        (Some(a), Some(b)) => unify_all(&a, &b).map(Some),
        (a, b) => Ok(a.or(b)),
    }
}

/// One axis of a broadcast: 1 gives way, a number above 1 wins over a symbol, two different symbols leave the extent open.
fn broadcast_axis(a: &Extent, b: &Extent, fresh: Fresh<'_>) -> Result<Extent, String> {
    let one = Some(Dim::Const(1));
    match (a, b) {
        _ if a == b || *b == one => Ok(a.clone()),
        _ if *a == one => Ok(b.clone()),
        (Some(Dim::Const(x)), Some(Dim::Const(y))) => Err(format!("extents {x} and {y} do not broadcast")),
        (Some(Dim::Const(_)), _) => Ok(a.clone()),
        (_, Some(Dim::Const(_))) => Ok(b.clone()),
        (Some(_), Some(_)) => Ok(Some(fresh())),
        _ => Ok(None),
    }
}

/// The shape that two shapes broadcast to.
pub(super) fn broadcast(a: &[Extent], b: &[Extent], fresh: Fresh<'_>) -> Result<Extents, String> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let lead = long.len() - short.len();
    let joined = long[lead..].iter().zip(short).map(|(x, y)| broadcast_axis(x, y, fresh));
    let tail: Extents = joined.collect::<Result<_, _>>()?;
    Ok(long[..lead].iter().cloned().chain(tail).collect())
}

/// The shape that all broadcast to; unknown if one is.
pub(super) fn broadcast_all<'a>(
    shapes: impl IntoIterator<Item = Option<&'a [Extent]>>,
    fresh: Fresh<'_>,
) -> Result<Option<Extents>, String> {
    let mut all: Extents = Vec::new();
    for shape in shapes {
        let Some(shape) = shape else { return Ok(None) };
        all = broadcast(&all, shape, fresh)?;
    }
    Ok(Some(all))
}

/// `n` extents that depend on data.
pub(super) fn fresh_extents(n: usize, fresh: Fresh<'_>) -> Extents {
    (0..n).map(|_| Some(fresh())).collect()
}
