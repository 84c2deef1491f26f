//! What must hold of a pattern that was found, and what takes its place.

use super::attention as heads;
use super::matcher::uniform;
use super::{Site, SiteInEdit};
use crate::diag::Result;
use crate::interp;
use crate::ir::dim::product;
use crate::ir::op::{Binary, GroupNorm, Unary};
use crate::ir::{Dim, Op, OpGraph, Outlet, TensorType};
use crate::passes::Edit;
use crate::weights::WeightExpr;

impl Site<'_> {
    fn op(&self, name: &str) -> Option<&Op> {
        self.found.find(name).map(|o| &self.graph.node(o.node).op)
    }

    fn ty(&self, name: &str) -> &TensorType {
        self.graph.ty(self.found.get(name))
    }

    fn root(&self) -> &TensorType {
        self.graph.ty(self.found.root)
    }

    fn eps(&self) -> f32 {
        match self.op("n") {
            Some(Op::InstanceNorm { eps }) => *eps,
            _ => self.found.number("eps").unwrap_or(0.0) as f32,
        }
    }
}

// ---- activations

/// Is what takes the pattern's place of its type?
pub(super) fn same_type(site: &Site<'_>) -> bool {
    site.ty("x") == site.root()
}

pub(super) fn silu(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    e.add(Op::Silu, &[at.found.get("x")], "silu")
}

pub(super) fn gelu_erf(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    e.add(Op::Gelu { tanh: false }, &[at.found.get("x")], "gelu")
}

pub(super) fn gelu_tanh(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    e.add(Op::Gelu { tanh: true }, &[at.found.get("x")], "gelu")
}

/// The range of a slice, if it is one along this axis.
fn range<'a>(site: &'a Site<'_>, name: &str, along: usize) -> Option<(&'a Dim, &'a Dim)> {
    match site.op(name)? {
        Op::Slice { axis, start, end } if *axis == along => Some((start, end)),
        _ => None,
    }
}

pub(super) fn halves(site: &Site<'_>) -> bool {
    let y = site.ty("y");
    let Some(last) = y.rank().checked_sub(1) else { return false };
    let Some(half) = y.shape[last].div_exact(2) else { return false };
    range(site, "value", last) == Some((&Dim::Const(0), &half)) && range(site, "gate", last) == Some((&half, &y.shape[last]))
}

pub(super) fn curve_is_erf(site: &Site<'_>) -> bool {
    let graph = site.graph;
    let readers = graph.users(site.found.get("gate"));
    readers.iter().all(|(reader, _)| graph.node(*reader).op != Op::Gelu { tanh: true })
}

pub(super) fn geglu(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    e.add(Op::GeGlu, &[at.found.get("y")], "geglu")
}

// ---- linear layers and convolutions

pub(super) fn matrix(site: &Site<'_>) -> bool {
    site.ty("w").rank() == 2 && site.ty("x").rank() >= 1
}

pub(super) fn bias_fits(site: &Site<'_>) -> bool {
    let outputs = site.root().shape.last();
    site.found
        .find("b")
        .is_none_or(|b| site.graph.ty(b).shape.last() == outputs && site.graph.ty(b).numel() == outputs.cloned().unwrap_or(Dim::Const(0)))
        && site.root().rank() == site.ty("x").rank()
}

/// Is the weight stored `[n, k]`, as a linear layer has it?
fn stored_by_row(site: &Site<'_>) -> bool {
    site.found.nodes.iter().any(|id| site.graph.node(*id).op == Op::Gemm { trans_b: true })
}

pub(super) fn linear(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let stored = weight(e.graph(), at.found.get("w"))?;
    let w = if stored_by_row(&at.site(e)) { stored } else { stored.transpose(&[1, 0])? };
    let mut inputs = vec![at.found.get("x"), e.weight(w)];
    inputs.extend(bias(at, e)?);
    e.add(Op::Linear, &inputs, "linear")
}

/// The bias `[n]`, if there is one.
fn bias(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Option<Outlet>> {
    at.found.find("b").map(|b| vector(e, b)).transpose()
}

pub(super) fn linear_bias(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let mut inputs = vec![at.found.get("x"), at.found.get("w")];
    inputs.extend(bias(at, e)?);
    e.add(Op::Linear, &inputs, "linear")
}

/// A constant; only called where the pattern asked for one.
fn weight(graph: &OpGraph, at: Outlet) -> Result<WeightExpr> {
    graph
        .as_weight(at)
        .cloned()
        .ok_or_else(|| crate::diag::Diagnostic::new("internal/bug", "a pattern took a tensor for a constant").into())
}

/// A tensor with one long axis as `[n]`.
fn vector(e: &mut Edit<'_>, at: Outlet) -> Result<Outlet> {
    let count = e.graph().ty(at).numel();
    match e.graph().as_weight(at) {
        Some(expr) if expr.shape().len() == 1 => Ok(at),
        Some(expr) => {
            let flat = expr.reshape(&[expr.elements()])?;
            Ok(e.weight(flat))
        }
        None => heads::reshaped(e, at, &[count], "vector"),
    }
}

pub(super) fn over_frames(site: &Site<'_>) -> bool {
    let Op::Conv(c) = &site.graph.node(site.found.root.node).op else { return false };
    let [k, 1, 1] = c.kernel[..] else { return false };
    k % 2 == 1 && k > 1 && c.groups == 1 && c.strides == [1; 3] && c.pads == [(k / 2, k / 2), (0, 0), (0, 0)]
}

pub(super) fn temporal_conv(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let inputs = e.graph().inputs_of(at.found.root.node);
    e.add(Op::TemporalConv, &inputs, "temporal-conv")
}

// ---- norms

/// Is `i` the tensor `o` as `[n, groups, …]` with whole channels in a group?
pub(super) fn grouped(site: &Site<'_>) -> bool {
    let (o, i) = (site.ty("o"), site.ty("i"));
    o.rank() >= 2 && i.rank() >= 3 && o.shape[0] == i.shape[0] && groups(site).is_some_and(|g| g > 0 && o.shape[1].div_exact(g).is_some())
}

fn groups(site: &Site<'_>) -> Option<i64> {
    site.ty("i").shape.get(1)?.as_const()
}

fn axes<'a>(site: &'a Site<'_>, name: &str) -> Option<&'a [usize]> {
    match site.op(name)? {
        Op::ReduceMean { axes } => Some(axes),
        _ => None,
    }
}

pub(super) fn means_over_groups(site: &Site<'_>) -> bool {
    let all: Vec<usize> = (2..site.ty("i").rank()).collect();
    ["m", "v"].into_iter().all(|m| axes(site, m).is_none_or(|a| a == all))
}

pub(super) fn means_over_last(site: &Site<'_>) -> bool {
    let last = site.ty("x").rank().checked_sub(1);
    ["m", "v"].into_iter().all(|m| axes(site, m).is_none_or(|a| Some(a) == last.as_ref().map(std::slice::from_ref)))
}

pub(super) fn shape_restored(site: &Site<'_>) -> bool {
    site.ty("o") == site.root()
}

/// Is a tensor one value for each channel (axis 1) when it broadcasts with x?
fn by_channel(x: &TensorType, ty: &TensorType) -> bool {
    let Some(missing) = x.rank().checked_sub(ty.rank()) else { return false };
    let one = Dim::Const(1);
    let at = |axis: usize| axis.checked_sub(missing).map_or(&one, |i| &ty.shape[i]);
    (0..x.rank()).all(|axis| *at(axis) == if axis == 1 { x.shape[1].clone() } else { one.clone() })
}

pub(super) fn per_channel(site: &Site<'_>) -> bool {
    let known = channels(site).is_some();
    ["gamma", "beta"].into_iter().all(|name| site.found.find(name).map_or(known, |t| by_channel(site.ty("o"), site.graph.ty(t))))
}

/// Values of a short literal.
fn values(graph: &OpGraph, at: Outlet) -> Option<Vec<f64>> {
    let expr = graph.as_weight(at)?;
    Some(interp::literal::<f64>(expr).ok()?.into_iter().collect())
}

/// Scale and bias of the instance norm are 1 and 0, or can be multiplied into those of the channels.
pub(super) fn inner_affine(site: &Site<'_>) -> bool {
    let Some((s, b)) = site.found.find("s").zip(site.found.find("b")) else { return true };
    if uniform(site.graph, s) == Some(1.0) && uniform(site.graph, b) == Some(0.0) {
        return true;
    }
    let constant = |name: &str| site.found.find(name).is_none_or(|t| site.graph.as_weight(t).is_some());
    values(site.graph, s).is_some() && values(site.graph, b).is_some() && constant("gamma") && constant("beta") && channels(site).is_some()
}

fn channels(site: &Site<'_>) -> Option<u64> {
    site.ty("o").shape[1].as_const().and_then(|c| u64::try_from(c).ok())
}

/// Each of `groups` equal parts of a vector times its number.
fn times_by_group(vector: &WeightExpr, numbers: &[f64]) -> Result<WeightExpr> {
    let width = vector.elements() / numbers.len().max(1) as u64;
    let part = |(i, n): (usize, &f64)| vector.slice(0, i as u64 * width, (i as u64 + 1) * width)?.scale(*n);
    WeightExpr::concat(&numbers.iter().enumerate().map(part).collect::<Result<Vec<_>>>()?, 0)
}

pub(super) fn group_norm(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let (scale, bias) = group_affine(at, e)?;
    let site = at.site(e);
    let op = Op::GroupNorm(GroupNorm { groups: groups(&site).unwrap_or(1), eps: site.eps(), silu: false });
    // A reshape in front may have been merged into that to groups.
    let shape = site.ty("o").shape.clone();
    let x = heads::reshaped(e, at.found.get("x"), &shape, "images")?;
    e.add(op, &[x, scale, bias], "group-norm")
}

/// Scale and bias of the group norm, one a channel; those of the instance norm inside of it, one a group, are multiplied in.
fn group_affine(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<(Outlet, Outlet)> {
    let gamma = affine(at, e, "gamma", ("o", 1), 1.0)?;
    let beta = affine(at, e, "beta", ("o", 1), 0.0)?;
    let Some((s, b)) = inner_values(&at.site(e)) else { return Ok((gamma, beta)) };
    let (g, o) = (weight(e.graph(), gamma)?, weight(e.graph(), beta)?);
    let (scale, bias) = (times_by_group(&g, &s)?, times_by_group(&g, &b)?.add(&o)?);
    Ok((e.weight(scale), e.weight(bias)))
}

/// The scale and bias of the instance norm, unless they are 1 and 0.
fn inner_values(site: &Site<'_>) -> Option<(Vec<f64>, Vec<f64>)> {
    let (s, b) = site.found.find("s").zip(site.found.find("b"))?;
    let trivial = uniform(site.graph, s) == Some(1.0) && uniform(site.graph, b) == Some(0.0);
    (!trivial).then_some(())?;
    values(site.graph, s).zip(values(site.graph, b))
}

/// The tensor of a name as a vector, or this value for each element of an axis of another.
fn affine(at: &SiteInEdit<'_>, e: &mut Edit<'_>, name: &str, (of, axis): (&str, usize), otherwise: f64) -> Result<Outlet> {
    if let Some(t) = at.found.find(name) {
        return vector(e, t);
    }
    let x = e.graph().ty(at.found.get(of));
    let n = x.shape[axis].as_const().unwrap_or(0);
    let expr = interp::to_literal(&ndarray::ArrayD::from_elem(vec![n as usize], otherwise), x.dtype)?;
    Ok(e.weight(expr))
}

pub(super) fn per_element(site: &Site<'_>) -> bool {
    let last = site.ty("x").shape.last();
    let fits = |t: Outlet| {
        let ty = site.graph.ty(t);
        ty.shape.last() == last && Some(&ty.numel()) == last
    };
    let known = last.is_some_and(|d| d.as_const().is_some());
    ["gamma", "beta"].into_iter().all(|name| site.found.find(name).map_or(known, fits))
}

pub(super) fn layer_norm(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let (eps, last) = (at.site(e).eps(), at.site(e).ty("x").rank() - 1);
    let (scale, bias) = (affine(at, e, "gamma", ("x", last), 1.0)?, affine(at, e, "beta", ("x", last), 0.0)?);
    e.add(Op::LayerNorm { eps }, &[at.found.get("x"), scale, bias], "layer-norm")
}

pub(super) fn rms_norm(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let (eps, last) = (at.site(e).eps(), at.site(e).ty("x").rank() - 1);
    let scale = affine(at, e, "gamma", ("x", last), 1.0)?;
    e.add(Op::RmsNorm { eps }, &[at.found.get("x"), scale], "rms-norm")
}

pub(super) fn no_activation(site: &Site<'_>) -> bool {
    matches!(site.op("g"), Some(Op::GroupNorm(g)) if !g.silu)
}

pub(super) fn group_norm_silu(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let inputs = ["x", "s", "b"].map(|name| at.found.get(name));
    match at.site(e).op("g") {
        Some(Op::GroupNorm(g)) => {
            let op = Op::GroupNorm(GroupNorm { silu: true, ..*g });
            e.add(op, &inputs, "silu")
        }
        _ => e.add(Op::Silu, &[at.found.get("g")], "silu"),
    }
}

// ---- attention

pub(super) fn over_keys(site: &Site<'_>) -> bool {
    matches!(site.op("p"), Some(Op::Softmax { axis }) if axis + 1 == site.ty("p").rank())
}

pub(super) fn one_batch(site: &Site<'_>) -> bool {
    let lead = |name: &str| site.ty(name).shape.split_last_chunk::<2>().map(|(lead, _)| lead.to_vec());
    let q = lead("q");
    site.root().dtype.is_float() && q == lead("k") && q == lead("v") && site.ty("p").shape == site.ty("scores").shape && q == lead("p")
}

pub(super) fn attention(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    match heads::plan(&at.site(e)) {
        Some(plan) => heads::build(e, &plan),
        None => Ok(at.found.root),
    }
}

// ---- positions

/// Are the slices the second and the first half of the last axis of x, joined in this order?
pub(super) fn swapped_halves(site: &Site<'_>) -> bool {
    let x = site.ty("x");
    let Some(last) = x.rank().checked_sub(1) else { return false };
    let Some(half) = x.shape[last].div_exact(2) else { return false };
    site.op("turned") == Some(&Op::Concat { axis: last })
        && range(site, "high", last) == Some((&half, &x.shape[last]))
        && range(site, "low", last) == Some((&Dim::Const(0), &half))
}

/// The axis of x that counts positions, if the table has them and the last axis only.
fn positions(site: &Site<'_>, name: &str) -> Option<usize> {
    let (x, ty) = (site.ty("x"), site.ty(name));
    let missing = x.rank().checked_sub(ty.rank())?;
    let long: Vec<usize> = (0..ty.rank()).filter(|i| ty.shape[*i] != Dim::Const(1)).collect();
    let [position, last] = long[..] else { return None };
    let fits = |i: usize| ty.shape[i] == x.shape[i + missing];
    (last + 1 == ty.rank() && fits(position) && fits(last)).then_some(position + missing)
}

/// The half of a table that the other half repeats.
enum Half {
    Literal(WeightExpr),
    /// A function of this tensor.
    Of(Unary, Outlet),
}

fn half(site: &Site<'_>, name: &str) -> Option<Half> {
    let graph = site.graph;
    let table = site.found.get(name);
    if let Some(expr) = graph.as_weight(table) {
        let (all, width) = (values(graph, table)?, *expr.shape().last()? as usize);
        let equal = all.chunks(width.max(1)).all(|row| row[..width / 2] == row[width / 2..]);
        let rows = expr.elements() / width.max(1) as u64;
        return equal
            .then(|| expr.reshape(&[rows, width as u64]).and_then(|e| e.slice(1, 0, width as u64 / 2)).ok())
            .flatten()
            .map(Half::Literal);
    }
    let mut at = table;
    while matches!(graph.node(at.node).op, Op::Reshape { .. })
        && graph.ty(at).shape.last() == graph.ty(graph.inputs_of(at.node)[0]).shape.last()
    {
        at = graph.inputs_of(at.node)[0];
    }
    let Op::Unary(f @ (Unary::Cos | Unary::Sin)) = graph.node(at.node).op else { return None };
    let joined = graph.inputs_of(at.node)[0];
    match (&graph.node(joined.node).op, &graph.inputs_of(joined.node)[..]) {
        (Op::Concat { axis }, [a, b]) if a == b && axis + 1 == graph.ty(joined).rank() => Some(Half::Of(f, *a)),
        _ => None,
    }
}

pub(super) fn tables(site: &Site<'_>) -> bool {
    let at = positions(site, "cos");
    at.is_some() && at == positions(site, "sin") && half(site, "cos").is_some() && half(site, "sin").is_some()
}

/// The number of heads: x is `[b, heads, l, d]` or `[b, l, heads, d]`.
fn rotary_heads(site: &Site<'_>) -> Option<(usize, i64)> {
    let position = positions(site, "cos")?;
    match (site.ty("x").rank(), position) {
        (4, 2) => Some((2, site.ty("x").shape[1].as_const()?)),
        (4, 1) => Some((1, site.ty("x").shape[2].as_const()?)),
        (3, 1) => Some((1, 1)),
        _ => None,
    }
}

pub(super) fn heads_apart(site: &Site<'_>) -> bool {
    rotary_heads(site).is_some_and(|(position, n)| {
        n > 0 && (position == 1 || heads::tokens(site.graph, site.found.get("x"), position, &Dim::Const(n)).is_some())
    })
}

fn table(at: &SiteInEdit<'_>, e: &mut Edit<'_>, name: &str) -> Result<Outlet> {
    match half(&at.site(e), name) {
        Some(Half::Literal(expr)) => Ok(e.weight(expr)),
        Some(Half::Of(f, angles)) => {
            let shape = e.graph().ty(angles).shape.clone();
            let flat = [product(&shape[..shape.len() - 1]), shape[shape.len() - 1].clone()];
            let turned = e.add(Op::Unary(f), &[angles], name)?;
            heads::reshaped(e, turned, &flat, name)
        }
        None => Ok(at.found.get(name)),
    }
}

pub(super) fn rotary(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let site = at.site(e);
    let (position, n) = rotary_heads(&site).unwrap_or((1, 1));
    let (tensor, x) = (at.found.get("x"), site.ty("x").shape.clone());
    let apart = if position == 1 { None } else { heads::tokens(site.graph, tensor, position, &Dim::Const(n)) };
    let (tokens, size) = (x[position].clone(), x[x.len() - 1].clone());
    let flat = match &apart {
        Some(operand) => heads::make_tokens(e, operand)?,
        None => heads::reshaped(e, tensor, &[x[0].clone(), tokens.clone(), &size * &Dim::Const(n)], "tokens")?,
    };
    let (cos, sin) = (table(at, e, "cos")?, table(at, e, "sin")?);
    let out = e.add(Op::RotaryEmbedding { heads: n }, &[flat, cos, sin], "rotary")?;
    if apart.is_none() {
        return heads::reshaped(e, out, &x, "heads");
    }
    let by_head = e.add(Op::Reshape { shape: vec![x[0].clone(), tokens, n.into(), size] }, &[out], "heads")?;
    e.add(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[by_head], "heads")
}

/// Are the slices the second and the first part of a concatenation, in this order?
pub(super) fn swapped_parts(site: &Site<'_>) -> bool {
    let Some(Op::Concat { axis }) = site.op("y") else { return false };
    let Some(cut) = site.ty("first").shape.get(*axis) else { return false };
    site.op("c") == Some(&Op::Concat { axis: *axis })
        && range(site, "high", *axis) == Some((cut, &site.ty("y").shape[*axis]))
        && range(site, "low", *axis) == Some((&Dim::Const(0), cut))
}

pub(super) fn flip(at: &SiteInEdit<'_>, e: &mut Edit<'_>) -> Result<Outlet> {
    let op = e.graph().node(at.found.root.node).op.clone();
    e.add(op, &[at.found.get("second"), at.found.get("first")], "flip")
}

/// Does a binary operator square its input?
pub(super) fn squares(graph: &OpGraph, at: Outlet) -> bool {
    let inputs = graph.inputs_of(at.node);
    match (&graph.node(at.node).op, &inputs[..]) {
        (Op::Binary(Binary::Mul), [a, b]) => a == b,
        (Op::Binary(Binary::Pow), [_, n]) => uniform(graph, *n) == Some(2.0),
        _ => false,
    }
}
