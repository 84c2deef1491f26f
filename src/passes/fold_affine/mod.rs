//! `fold-affine`: constants that scale or shift channels go into the weights beside them.
//!
//! - A product or sum with a constant (one value, or one per channel) behind a matrix product, a convolution or the affine of a
//!   norm goes into its weight and bias; one in front of matrix products and convolutions, if all that read it are such, into
//!   theirs. An inference-time batch norm arrives as a product and a sum, so convolution and batch norm fall out of this.
//! - One on the queries or keys of attention, all alike and exact in the scale of attention, goes there: that stores nothing.
//! - `s·x + (1 - s)·(x + h)` is `x + (1 - s)·h`: the blend of a residual branch; the factor then goes behind `h`.
//! - The affine of a norm that the provider has to write out (group norm without a kernel of its own, RMS norm) goes into the
//!   matrix products that alone read it.
//!
//! Legal because all of these are linear in the channels; operators that only move elements are looked through while the
//! channels stay one axis. The tensor that changes has no other reader and is no output of the graph. Gain: a pass over an
//! activation each. Cost: a changed weight is stored with the plan instead of used where it lies, so a weight with other readers
//! is left, and so are weights of more than [`LARGE`] bytes for an operator that moves less than an eighth ([`NEGLIGIBLE`]) of them.
//! A product that a 16-bit weight holds less well than a normal number is left too. Always exact; no knob.

mod carrier;

use carrier::{Carrier, Change, Params, backward, carrier, forward};

use super::fold_constants::arithmetic;
use super::{Edit, Effect, Pass, PassCx, PassInfo, Rewriter, Why, select_kernels};
use crate::diag::Result;
use crate::ir::dim::product;
use crate::ir::op::{Attention, Binary, Unary};
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};
use crate::units::Bytes;
use crate::weights::{Arithmetic, WeightExpr, WeightOp, products_stay_normal};

pub(super) struct FoldAffine;

/// Weights beyond this are changed only for operators that are not negligible.
const LARGE: u64 = 64 << 20;
/// Weights up to this may have other readers: the affine of a norm is written once more.
const SMALL: u64 = 64 << 10;
/// An operator is negligible if the weights changed for it are more than this many times the bytes that it moves.
const NEGLIGIBLE: u64 = 8;
/// Operators between a constant and the weight that takes it up.
const FARTHEST: usize = 8;

static INFO: PassInfo = PassInfo {
    id: "fold-affine",
    summary: "scales and shifts per channel go into the weights beside them",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 3, 4]) -> y: f32[2, 3, 5] = %2
  %0 = Linear(%x, {param m/w: f32[5, 4]}) : f32[2, 3, 5]
  %1 = Mul(%0, {param m/scale: f32[5]}) : f32[2, 3, 5]
  %2 = Add(%1, {param m/shift: f32[5]}) : f32[2, 3, 5]
after:
model m(x: f32[2, 3, 4]) -> y: f32[2, 3, 5] = %0
  %0 = Linear(%x, {mul(param m/w: f32[5, 4], reshape[5, 1](param m/scale: f32[5]))}, {param m/shift: f32[5]}) : f32[2, 3, 5]
",
};

impl Pass for FoldAffine {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        // An edit may enable one at a site before it. Every edit removes an operator or empties a norm's affine, so this ends; what
        // is declined is told once, of the graph that stays.
        while sweep(rw, cx, false)? {}
        sweep(rw, cx, true).map(|_| ())
    }
}

/// Visits every node; was anything changed?
fn sweep(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, tell: bool) -> Result<bool> {
    let mut changed = false;
    for id in rw.graph().nodes() {
        if !rw.graph().contains(id) {
            continue;
        }
        match visit(rw, cx, id)? {
            Outcome::Done => changed = true,
            Outcome::Declined(why) if tell => rw.decline(id, None, why),
            Outcome::Declined(_) | Outcome::Nothing => {}
        }
    }
    Ok(changed)
}

/// What came of a site.
enum Outcome {
    /// It holds nothing that this pass looks for.
    Nothing,
    Done,
    Declined(Why),
}

fn visit(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, id: NodeId) -> Result<Outcome> {
    let graph = rw.graph();
    match &graph.node(id).op {
        Op::Binary(_) | Op::Unary(Unary::Neg) => {}
        Op::GroupNorm(_) | Op::RmsNorm { .. } => return norm_affine(rw, cx, id),
        _ => return Ok(Outcome::Nothing),
    }
    if let Some(blend) = blend(graph, id) {
        return simplify_blend(rw, id, &blend);
    }
    let Some(site) = Site::at(graph, id)? else { return Ok(Outcome::Nothing) };
    let (change, axis) = match site.change(graph) {
        Ok(found) => found,
        Err(rule) => return Ok(Outcome::Declined(Why::new(rule))),
    };
    if scale_attention(rw, &site, &change)? {
        return Ok(Outcome::Done);
    }
    let behind = match behind(rw, &site, &change, axis)? {
        Ok(()) => return Ok(Outcome::Done),
        Err(why) => why,
    };
    let front = match in_front(rw, &site, &change, axis)? {
        Ok(()) => return Ok(Outcome::Done),
        Err(why) => why,
    };
    Ok(Outcome::Declined(Why::new("a-constant-stays").with("producer", behind).with("readers", front)))
}

/// An operator that scales or shifts a tensor by a constant.
struct Site {
    id: NodeId,
    /// The tensor.
    x: Outlet,
    how: Arithmetic,
    constant: WeightExpr,
}

impl Site {
    fn at(graph: &OpGraph, id: NodeId) -> Result<Option<Self>> {
        let inputs = graph.inputs_of(id);
        let node = graph.node(id);
        let found = match (&node.op, &inputs[..]) {
            (Op::Unary(Unary::Neg), [x]) if node.outs[0].dtype == crate::ir::DType::F32 => {
                Some((*x, Arithmetic::Mul, WeightExpr::literal_f32(&[1], &[-1.0])?))
            }
            (Op::Binary(f), [left, right]) => match (arithmetic(*f), graph.as_weight(*left), graph.as_weight(*right)) {
                (Some(how), None, Some(c)) if how != Arithmetic::Pow => Some((*left, how, c.clone())),
                (Some(how @ (Arithmetic::Add | Arithmetic::Mul)), Some(c), None) => Some((*right, how, c.clone())),
                _ => None,
            },
            _ => None,
        };
        let same = |(x, _, _): &(Outlet, Arithmetic, WeightExpr)| graph.ty(*x) == &node.outs[0] && node.outs[0].dtype.is_float();
        Ok(found.filter(same).map(|(x, how, constant)| Self { id, x, how, constant }))
    }

    fn out(&self) -> Outlet {
        Outlet { node: self.id, slot: 0 }
    }

    /// The change per channel, and the axis of the channels; no axis if all elements change alike.
    fn change(&self, graph: &OpGraph) -> std::result::Result<(Change, Option<usize>), &'static str> {
        let (shape, rank) = (self.constant.shape(), graph.ty(self.x).rank());
        let wide: Vec<usize> = (0..shape.len()).filter(|i| shape[*i] != 1).collect();
        let axis = match wide[..] {
            [] => None,
            [i] => Some(i + rank - shape.len()),
            _ => return Err("not-per-channel"),
        };
        let by = self.constant.reshape(&[self.constant.elements()]).map_err(|_| "not-per-channel")?;
        Ok((Change { how: self.how, by }, axis))
    }

    /// Lets what reads the site read the tensor instead.
    fn dissolve(&self, e: &mut Edit<'_>) -> Result<()> {
        e.replace(self.out(), self.x)?;
        e.remove(self.id)
    }
}

/// What an attempt that did not fail gives: nothing, or the condition that was not met.
type Attempt = Result<std::result::Result<(), &'static str>>;

/// Takes a change up in what produces the tensor.
fn behind(rw: &mut Rewriter<'_>, site: &Site, change: &Change, axis: Option<usize>) -> Attempt {
    let graph = rw.graph();
    let (id, axis) = match producer(graph, site.x, axis, change.scales()) {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let Some((c, params)) = carrier(graph, id) else { return Ok(Err("no-weight")) };
    if axis.is_some_and(|a| a != c.out_axis) {
        return Ok(Err("another-axis"));
    }
    let new = match c.changed_behind(&params, change)? {
        Ok(new) => new,
        Err(why) => return Ok(Err(why)),
    };
    if let Some(why) = refused(graph, &[(id, &params, &new)], site.out())? {
        return Ok(Err(why));
    }
    let why = Why::new("into-the-producer").with("operator", graph.node(id).op.name()).with("weights", stored(&[(&params, &new)]));
    rw.apply(site.id, None, why, |e| {
        set(e, id, &new)?;
        site.dissolve(e)
    })?;
    Ok(Ok(()))
}

/// Takes a change up in all that read the tensor.
fn in_front(rw: &mut Rewriter<'_>, site: &Site, change: &Change, axis: Option<usize>) -> Attempt {
    let graph = rw.graph();
    let found = match readers(graph, site.out(), axis, FARTHEST) {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let mut news = Vec::new();
    for (_, c, params) in &found {
        match c.changed_in_front(params, change)? {
            Ok(new) => news.push(new),
            Err(why) => return Ok(Err(why)),
        }
    }
    let each: Vec<_> = found.iter().zip(&news).map(|((id, _, old), new)| (*id, old, new)).collect();
    if let Some(why) = refused(graph, &each, site.out())? {
        return Ok(Err(why));
    }
    let pairs: Vec<_> = each.iter().map(|(_, old, new)| (*old, *new)).collect();
    let why = Why::new("into-the-readers").with("readers", found.len() as i64).with("weights", stored(&pairs));
    rw.apply(site.id, None, why, |e| {
        found.iter().zip(&news).try_for_each(|((id, ..), new)| set(e, *id, new))?;
        site.dissolve(e)
    })?;
    Ok(Ok(()))
}

/// What made a tensor that only it was made for, looking through what moves elements, and the axis of the channels there.
fn producer(
    graph: &OpGraph,
    mut x: Outlet,
    mut axis: Option<usize>,
    scales: bool,
) -> std::result::Result<(NodeId, Option<usize>), &'static str> {
    for _ in 0..FARTHEST {
        if graph.is_output(x) {
            return Err("an-output");
        }
        if graph.user_count(x) != 1 {
            return Err("other-readers");
        }
        if carrier(graph, x.node).is_some() {
            return Ok((x.node, axis));
        }
        (x, axis) = backward(graph, x.node, axis, scales).ok_or("no-weight")?;
    }
    Err("too-far")
}

/// Every reader of a tensor, looking through what moves elements, if each can take up a change of its input on the axis.
fn readers(
    graph: &OpGraph,
    x: Outlet,
    axis: Option<usize>,
    depth: usize,
) -> std::result::Result<Vec<(NodeId, Carrier, Params)>, &'static str> {
    if graph.is_output(x) {
        return Err("an-output");
    }
    let mut found = Vec::new();
    for (reader, slot) in graph.users(x) {
        match carrier(graph, reader) {
            Some((c, params)) if slot == 0 && c.in_axis().is_some() => {
                if axis.is_some() && axis != c.in_axis() {
                    return Err("another-axis");
                }
                found.push((reader, c, params));
            }
            _ => {
                let axis = forward(graph, reader, axis).filter(|_| depth > 0).ok_or("no-weight")?;
                found.extend(readers(graph, Outlet { node: reader, slot: 0 }, axis, depth - 1)?);
            }
        }
    }
    if found.is_empty() { Err("no-weight") } else { Ok(found) }
}

/// The position of an axis after a reshape: the axis of the same extent with as many elements before it; none if the
/// reshape splits or joins it.
fn same_axis(from: &[Dim], to: &[Dim], axis: usize) -> Option<usize> {
    let before = product(&from[..axis]);
    (0..to.len()).find(|i| to[*i] == from[axis] && product(&to[..*i]) == before)
}

/// Gives a carrier other parameters.
fn set(e: &mut Edit<'_>, id: NodeId, new: &Params) -> Result<()> {
    let old = e.graph().inputs_of(id);
    let mut inputs = vec![old[0]];
    for (slot, expr) in std::iter::once(&new.weight).chain(&new.bias).enumerate() {
        let kept = old.get(slot + 1).copied().filter(|o| e.graph().as_weight(*o) == Some(expr));
        inputs.push(kept.unwrap_or_else(|| e.weight(expr.clone())));
    }
    e.rewire(id, &inputs)
}

/// Bytes of weights that were used directly from their file and that a change makes the plan store anew.
fn stored(pairs: &[(&Params, &Params)]) -> Bytes {
    let untouched = |e: &WeightExpr| matches!(e.op(), WeightOp::Param { .. } | WeightOp::Stored(_) | WeightOp::Random { .. });
    let each = |(old, new): &(&Params, &Params)| if old.weight != new.weight && untouched(&old.weight) { new.weight.byte_len() } else { 0 };
    Bytes(pairs.iter().map(each).sum())
}

/// Why these carriers are not given new parameters to save an operator that yields `out`, if so.
///
/// # Errors
/// Those of reading a constant of 16 bits.
fn refused(graph: &OpGraph, each: &[(NodeId, &Params, &Params)], out: Outlet) -> Result<Option<&'static str>> {
    for (id, old, new) in each {
        let weight = graph.inputs_of(*id)[1];
        if old.weight != new.weight && old.weight.byte_len() > SMALL && graph.user_count(weight) > 1 {
            return Ok(Some("weight-has-other-readers"));
        }
        if new.weight.byte_len() > old.weight.byte_len() {
            return Ok(Some("weight-would-grow"));
        }
        let axis = carrier(graph, *id).map_or(0, |(c, _)| c.weight_out);
        if old.weight != new.weight && !products_stay_normal(&new.weight, axis)? {
            return Ok(Some("products-leave-the-normal-range"));
        }
        if let Some(bias) = new.bias.as_ref().filter(|b| old.bias.as_ref() != Some(b))
            && !products_stay_normal(bias, usize::MAX)?
        {
            return Ok(Some("products-leave-the-normal-range"));
        }
    }
    let pairs: Vec<_> = each.iter().map(|(_, old, new)| (*old, *new)).collect();
    let (weights, moved) = (stored(&pairs).0, graph.ty(out).bytes().map(|b| b.saturating_mul(2)));
    Ok((weights > LARGE && moved.is_some_and(|m| m.saturating_mul(NEGLIGIBLE) < weights)).then_some("large-weight-for-little"))
}

/// A factor on all queries or all keys goes into the scale of attention where that holds the product exactly.
fn scale_attention(rw: &mut Rewriter<'_>, site: &Site, change: &Change) -> Result<bool> {
    let graph = rw.graph();
    let (false, [(reader, slot @ (0 | 1))]) = (graph.is_output(site.out()), &graph.users(site.out())[..]) else { return Ok(false) };
    let (Op::Attention(a), Some(factor), true) = (&graph.node(*reader).op, change.by.splat(), change.scales()) else {
        return Ok(false);
    };
    let scale = if change.how == Arithmetic::Mul { f64::from(a.scale) * factor } else { f64::from(a.scale) / factor };
    let fits = scale.is_finite() && f64::from(scale as f32).to_bits() == scale.to_bits();
    let (reader, op) = (*reader, Op::Attention(Attention { scale: scale as f32, ..*a }));
    if !fits {
        return Ok(false);
    }
    let side = if *slot == 0 { "queries" } else { "keys" };
    rw.apply(site.id, None, Why::new("into-the-scale-of-attention").with("of", side).with("factor", super::Fact::Ratio(factor)), |e| {
        e.set_op(reader, op)?;
        site.dissolve(e)
    })?;
    Ok(true)
}

/// `scaled_x + scaled_sum` where `scaled_x = s·x` and `scaled_sum = r·(x + h)` with s + r = 1.
struct Blend {
    scaled_x: Outlet,
    scaled_sum: Outlet,
    factor: Outlet,
    sum: Outlet,
    x: Outlet,
    h: Outlet,
}

fn blend(graph: &OpGraph, id: NodeId) -> Option<Blend> {
    let (Op::Binary(Binary::Add), [a, b]) = (&graph.node(id).op, &graph.inputs_of(id)[..]) else { return None };
    blend_of(graph, *a, *b).or_else(|| blend_of(graph, *b, *a))
}

fn blend_of(graph: &OpGraph, scaled_x: Outlet, scaled_sum: Outlet) -> Option<Blend> {
    let alone = |o: Outlet| graph.user_count(o) == 1 && !graph.is_output(o);
    let ((s, x), (factor, sum)) = (scaled(graph, scaled_x)?, scaled(graph, scaled_sum)?);
    let (Op::Binary(Binary::Add), [a, b]) = (&graph.node(sum.node).op, &graph.inputs_of(sum.node)[..]) else { return None };
    let h = if *a == x { *b } else { *a };
    let fits = [scaled_x, scaled_sum, sum].into_iter().all(alone) && (*a == x || *b == x) && graph.as_weight(h).is_none();
    let typed = graph.ty(h) == graph.ty(sum) && graph.ty(x) == graph.ty(sum) && graph.ty(scaled_x) == graph.ty(x);
    let ones = complementary(graph.as_weight(s)?, graph.as_weight(factor)?);
    (fits && typed && ones).then_some(Blend { scaled_x, scaled_sum, factor, sum, x, h })
}

/// The constant and the tensor of a product of one of each.
fn scaled(graph: &OpGraph, x: Outlet) -> Option<(Outlet, Outlet)> {
    let (Op::Binary(Binary::Mul), [a, b]) = (&graph.node(x.node).op, &graph.inputs_of(x.node)[..]) else { return None };
    match (graph.as_weight(*a), graph.as_weight(*b)) {
        (Some(_), None) => Some((*a, *b)),
        (None, Some(_)) => Some((*b, *a)),
        _ => None,
    }
}

/// Do two constants sum to 1? Either one is written as `1 - other`, or both are single numbers whose sum is 1 up to
/// the rounding of one of them.
fn complementary(a: &WeightExpr, b: &WeightExpr) -> bool {
    let rest = |whole: &WeightExpr, part: &WeightExpr| match whole.op() {
        WeightOp::Binary { function: Arithmetic::Sub, left, right } => left.splat() == Some(1.0) && right == part,
        _ => false,
    };
    // Half of the distance between 1 and its neighbour.
    let rounding = f64::from(f32::EPSILON) / 2.0;
    let numbers = a.splat().zip(b.splat()).is_some_and(|(a, b)| (a + b - 1.0).abs() <= rounding);
    rest(a, b) || rest(b, a) || numbers
}

fn simplify_blend(rw: &mut Rewriter<'_>, id: NodeId, b: &Blend) -> Result<Outcome> {
    rw.apply(id, None, Why::new("blend-of-a-residual"), |e| {
        e.rewire(b.scaled_sum.node, &[b.factor, b.h])?;
        e.rewire(id, &[b.x, b.scaled_sum])?;
        e.remove(b.sum.node)?;
        e.remove(b.scaled_x.node)
    })?;
    Ok(Outcome::Done)
}

/// The affine of a norm that would be written out goes into the matrix products that alone read it.
fn norm_affine(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, id: NodeId) -> Result<Outcome> {
    let graph = rw.graph();
    let out = Outlet { node: id, slot: 0 };
    let written_out = match &graph.node(id).op {
        Op::GroupNorm(g) => !g.silu && !select_kernels::fused_group_norm(graph.ty(out), g.groups, cx.machine),
        _ => true,
    };
    let Some((c, params)) = carrier(graph, id).filter(|_| written_out) else { return Ok(Outcome::Nothing) };
    let idle = params.weight.splat() == Some(1.0) && params.bias.as_ref().is_none_or(|b| b.splat() == Some(0.0));
    if idle || params.weight.dtype() != crate::ir::DType::F32 {
        return Ok(Outcome::Nothing);
    }
    let declined = |why: &'static str| Ok(Outcome::Declined(Why::new("an-affine-stays").with("readers", why)));
    let found = match readers(graph, out, Some(c.out_axis), FARTHEST) {
        Ok(found) => found,
        Err(why) => return declined(why),
    };
    let scale = Change { how: Arithmetic::Mul, by: params.weight.clone() };
    let shift = params.bias.clone().map(|by| Change { how: Arithmetic::Add, by });
    let mut news = Vec::new();
    for (_, c, p) in &found {
        // x̂·scale + shift: the shift stands nearer to the reader.
        let shifted = match &shift {
            Some(shift) => c.changed_in_front(p, shift)?,
            None => Ok(p.clone()),
        };
        match shifted.map(|p| c.changed_in_front(&p, &scale)) {
            Ok(new) => match new? {
                Ok(new) => news.push(new),
                Err(why) => return declined(why),
            },
            Err(why) => return declined(why),
        }
    }
    let each: Vec<_> = found.iter().zip(&news).map(|((id, _, old), new)| (*id, old, new)).collect();
    if let Some(why) = refused(graph, &each, out)? {
        return declined(why);
    }
    let idle = |value: f32| WeightExpr::literal_f32(params.weight.shape(), &vec![value; params.weight.elements() as usize]);
    let empty = Params { weight: idle(1.0)?, bias: params.bias.as_ref().map(|_| idle(0.0)).transpose()? };
    let pairs: Vec<_> = each.iter().map(|(_, old, new)| (*old, *new)).collect();
    let why = Why::new("norm-affine-into-the-readers").with("readers", found.len() as i64).with("weights", stored(&pairs));
    rw.apply(id, None, why, |e| {
        found.iter().zip(&news).try_for_each(|((id, ..), new)| set(e, *id, new))?;
        set(e, id, &empty)
    })?;
    Ok(Outcome::Done)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
