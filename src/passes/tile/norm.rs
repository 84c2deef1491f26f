//! A group norm whose statistics go over several tiles, in three steps: statistics of each tile, what follows from all of them, and
//! its application to a tile.
//!
//! Mean and variance of a tile are taken one after the other (a variance as the mean of squares less the square of the mean
//! would cancel), and merged as Chan, Golub and `LeVeque` do: the variance of all is the mean over the tiles of
//! `variance + (mean - mean of all)²`, each tile with its share of the elements. All of it in f32, whatever the type of
//! the tensor: parts that are f32 themselves do not become better by being merged in f64.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Result};
use crate::ir::axes::{self, Dependence};
use crate::ir::dim::product;
use crate::ir::op::{Binary, GroupNorm, Unary};
use crate::ir::{DType, Dim, NodeId, Op, OpGraph, Outlet, TensorType};
use crate::passes::Edit;
use crate::weights::{Arithmetic, WeightExpr};

/// Adds an operator with a name and yields its result.
type Add<'a> = dyn FnMut(Op, &[Outlet], &str) -> Result<Outlet> + 'a;

/// Is it a group norm whose statistics go over this axis, one of the picture's, with constants for scale and bias?
pub(super) fn spans(graph: &OpGraph, id: NodeId, axis: usize) -> bool {
    let constants = || graph.inputs_of(id)[1..].iter().all(|o| graph.as_weight(*o).is_some());
    let whole = || axis > 1 && axes::at(graph, id).along(0, axis, 0) == Dependence::Whole;
    matches!(graph.node(id).op, Op::GroupNorm(_)) && whole() && constants()
}

/// The attributes of a node that [`spans`] an axis.
pub(super) fn attributes(graph: &OpGraph, id: NodeId) -> Result<GroupNorm> {
    match graph.node(id).op {
        Op::GroupNorm(g) => Ok(g),
        _ => Err(Box::new(Diagnostic::new("internal/bug", format!("`{}` is no group norm", graph.node(id).name)))),
    }
}

/// Factor and shift of norms whose statistics are known.
pub(super) type Factors = BTreeMap<NodeId, [Outlet; 2]>;

/// Mean and variance of each image and group of a tile, f32 `[1, 2n, groups, 1]`: the means, then the variances. One tensor, because ONNX
/// Runtime runs first what is asked for first: apart, it would take the means of all tiles and hold every tile for its variance.
pub(super) fn statistics(add: &mut Add<'_>, x: Outlet, ty: &TensorType, groups: i64) -> Result<Outlet> {
    let n = ty.shape[0].clone();
    let x = if ty.dtype == DType::F32 { x } else { add(Op::Cast { to: DType::F32 }, &[x], "wide")? };
    let rest = product(&ty.shape[1..]).div_floor(groups);
    let x = add(Op::Reshape { shape: vec![n.clone(), groups.into(), rest] }, &[x], "groups")?;
    let mean = add(Op::ReduceMean { axes: vec![2] }, &[x], "mean")?;
    let apart = add(Op::Binary(Binary::Sub), &[x, mean], "apart")?;
    let square = add(Op::Binary(Binary::Mul), &[apart, apart], "square")?;
    let variance = add(Op::ReduceMean { axes: vec![2] }, &[square], "variance")?;
    let entry = Op::Reshape { shape: vec![Dim::Const(1), n, groups.into(), Dim::Const(1)] };
    let both = [add(entry.clone(), &[mean], "mean")?, add(entry, &[variance], "variance")?];
    add(Op::Concat { axis: 1 }, &both, "statistics")
}

/// From the [`statistics`] of the tiles, f32 `[tiles, 2n, groups, 1]`, the factor and the shift that each image and channel of a tensor
/// of this type gets, f32 `[n, c, 1, …]`. `extents` are those of the tiles.
pub(super) fn factors(e: &mut Edit<'_>, statistics: Outlet, norm: NodeId, extents: &[i64]) -> Result<[Outlet; 2]> {
    let GroupNorm { groups, eps, .. } = attributes(e.graph(), norm)?;
    let ty = e.graph().node(norm).outs[0].clone();
    let images = ty.shape[0].as_const().ok_or_else(|| Diagnostic::new("internal/bug", "a norm over tiles has a symbolic extent"))?;
    let means = e.add(Op::Split { axis: 1, sizes: vec![images; 2] }, &[statistics], "statistics")?;
    let variances = Outlet { slot: 1, ..means };
    let shares = shares(e, extents)?;
    let mean = mean(e, means, shares, "mean")?;
    let apart = e.add(Op::Binary(Binary::Sub), &[means, mean], "apart")?;
    let square = e.add(Op::Binary(Binary::Mul), &[apart, apart], "square")?;
    let spread = e.add(Op::Binary(Binary::Add), &[variances, square], "spread")?;
    let variance = self::mean(e, spread, shares, "variance")?;
    let eps = e.weight(WeightExpr::literal_f32(&[1], &[eps])?);
    let safe = e.add(Op::Binary(Binary::Add), &[variance, eps], "eps")?;
    let deviation = e.add(Op::Unary(Unary::Sqrt), &[safe], "deviation")?;
    let [scale, bias] = affine(e, norm, groups)?;
    let factor = e.add(Op::Binary(Binary::Div), &[scale, deviation], "factor")?;
    let moved = e.add(Op::Binary(Binary::Mul), &[mean, factor], "moved")?;
    let shift = e.add(Op::Binary(Binary::Sub), &[bias, moved], "shift")?;
    let mut shape = vec![Dim::Const(1); ty.rank()];
    shape[..2].clone_from_slice(&ty.shape[..2]);
    let channels = Op::Reshape { shape };
    Ok([e.add(channels.clone(), &[factor], "factor")?, e.add(channels, &[shift], "shift")?])
}

/// What each tile counts, f32 `[tiles, 1, 1, 1]`, so that the mean over the tiles is that of their elements; none if all count the same.
fn shares(e: &mut Edit<'_>, extents: &[i64]) -> Result<Option<Outlet>> {
    let (tiles, total) = (extents.len(), extents.iter().sum::<i64>());
    if extents.iter().all(|x| *x == extents[0]) {
        return Ok(None);
    }
    let parts: Vec<f32> = extents.iter().map(|x| (x * tiles as i64) as f32).collect();
    let parts = WeightExpr::literal_f32(&[tiles as u64, 1, 1, 1], &parts)?;
    let total = WeightExpr::literal_f32(&[1], &[total as f32])?;
    Ok(Some(e.weight(parts.binary(Arithmetic::Div, &total)?)))
}

/// The mean over the tiles.
fn mean(e: &mut Edit<'_>, x: Outlet, shares: Option<Outlet>, name: &str) -> Result<Outlet> {
    let x = match shares {
        Some(shares) => e.add(Op::Binary(Binary::Mul), &[x, shares], name)?,
        None => x,
    };
    e.add(Op::ReduceMean { axes: vec![0] }, &[x], name)
}

/// Scale and bias of a norm, f32 `[groups, c / groups]`.
fn affine(e: &mut Edit<'_>, norm: NodeId, groups: i64) -> Result<[Outlet; 2]> {
    let mut constant = |slot: usize| {
        let tensor = e.graph().inputs_of(norm)[slot];
        let expr = e.graph().as_weight(tensor).cloned();
        let expr = expr.ok_or_else(|| Diagnostic::new("internal/bug", "a norm over tiles has a computed scale or bias"))?;
        let each = expr.elements() / groups as u64;
        Ok::<_, Box<Diagnostic>>(e.weight(expr.cast(DType::F32)?.reshape(&[groups as u64, each])?))
    };
    Ok([constant(1)?, constant(2)?])
}

/// The norm of a tile: factor, shift and activation in f32, then the tensor's own type.
pub(super) fn normalised(add: &mut Add<'_>, x: Outlet, dtype: DType, [factor, shift]: [Outlet; 2], silu: bool) -> Result<Outlet> {
    let x = if dtype == DType::F32 { x } else { add(Op::Cast { to: DType::F32 }, &[x], "wide")? };
    let scaled = add(Op::Binary(Binary::Mul), &[x, factor], "factor")?;
    let shifted = add(Op::Binary(Binary::Add), &[scaled, shift], "shift")?;
    let y = if silu { add(Op::Silu, &[shifted], "silu")? } else { shifted };
    if dtype == DType::F32 { Ok(y) } else { add(Op::Cast { to: dtype }, &[y], "narrow") }
}
