//! Attention: which tensors hold the queries, keys and values, and how many heads there are.
//!
//! The pattern gives the operands of the two products. Each is followed to what it is a rearrangement of ([`View`]); a source
//! that holds `[batch, tokens, heads · size]` in this order is taken as it is. The number of heads is the one that leaves the
//! fewest transpositions, and one head with the batch and heads as batch is always among the choices.

use super::Site;
use super::view::View;
use crate::diag::Result;
use crate::ir::dim::product;
use crate::ir::op::Attention;
use crate::ir::{Dim, Op, OpGraph, Outlet};
use crate::passes::Edit;

/// An operand as it will be made.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    source: Outlet,
    scale: f64,
    /// Axis, start and end of the part of the source.
    part: Option<(usize, Dim, Dim)>,
    perm: Option<Vec<usize>>,
    shape: Vec<Dim>,
    transposes: usize,
}

/// How a site becomes attention.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    attention: Attention,
    operands: [Operand; 3],
    mask: Option<(Outlet, [Dim; 4])>,
    /// The tensor that is replaced.
    pub(super) replaced: Outlet,
    /// Axes of the product that is replaced, where no rearrangement of it is: batch and heads, then `[lq, d]`.
    spread: Option<[Dim; 4]>,
}

/// Axes of the operand that are tokens and size of a head; all before them are batch and heads.
struct Roles {
    tokens: usize,
    size: usize,
}

/// The operand with so many heads, as cheaply as it can be had.
fn operand(graph: &OpGraph, tensor: Outlet, roles: &Roles, heads: &Dim) -> Option<Operand> {
    let shape = graph.ty(tensor).shape.clone();
    let lead = shape.len() - 2;
    let batch = product(&shape[..lead]).quotient(heads)?;
    let flat = vec![batch, shape[roles.tokens].clone(), &shape[roles.size] * heads];
    let free = |view: &View| {
        let leading = view.atoms_of(0..lead);
        let split = (0..=leading.len()).find(|p| view.extent(&leading[*p..]) == *heads)?;
        let wanted = [&leading[..split], &view.atoms_of([roles.tokens]), &leading[split..], &view.atoms_of([roles.size])].concat();
        let part = view.in_order(&wanted)?.pop();
        Some(Operand { source: view.source, scale: view.scale, part, perm: None, shape: flat.clone(), transposes: view.transposes_before })
    };
    let views = View::all(graph, tensor);
    views.iter().find_map(free).or_else(|| permuted(views.last()?, &shape, roles, heads, flat.clone()))
}

/// The operand itself, its axes permuted.
fn permuted(view: &View, shape: &[Dim], roles: &Roles, heads: &Dim, flat: Vec<Dim>) -> Option<Operand> {
    let lead = shape.len() - 2;
    let split = (0..=lead).find(|p| product(&shape[*p..lead]) == *heads)?;
    let perm = (0..split).chain([roles.tokens]).chain(split..lead).chain([roles.size]).collect();
    Some(Operand {
        source: view.source,
        scale: view.scale,
        part: None,
        perm: Some(perm),
        shape: flat,
        transposes: view.transposes_before + 1,
    })
}

/// The tensor after the product that is `[batch, lq, heads · d]`, if one is, and the transpositions that are left either way.
fn rearranged(site: &Site<'_>, root: Outlet, heads: &Dim) -> Option<(Outlet, bool, usize)> {
    let graph = site.graph;
    let shape = graph.ty(root).shape.clone();
    let lead = shape.len() - 2;
    let batch = product(&shape[..lead]).quotient(heads)?;
    let apart = [batch, heads.clone(), shape[lead].clone(), shape[lead + 1].clone()];
    let mut view = View::whole(root, &apart);
    view.reshape(&shape)?;
    let plain = |v: &View| {
        let wanted = [0, 2, 1, 3].map(|axis| v.atoms_from(axis)).concat();
        v.atoms_of(0..v.rank()) == wanted
    };
    let mut best = plain(&view).then_some((root, 0));
    let mut at = root;
    while let Some(next) = sole_reader(site, at)
        && let Some(later) = view.then(graph, next)
    {
        (view, at) = (later, next);
        if plain(&view) {
            best = Some((at, view.transposes_before));
        }
    }
    let all = view.transposes_before;
    Some(best.map_or((root, true, all + 1), |(tensor, passed)| (tensor, false, all - passed)))
}

/// The output of the only operator that reads a tensor.
fn sole_reader(site: &Site<'_>, at: Outlet) -> Option<Outlet> {
    let readers: Vec<_> = site.graph.users(at).into_iter().filter(|(reader, _)| !site.dead.contains(reader)).collect();
    match readers[..] {
        [(node, _)] if !site.graph.is_output(at) => Some(Outlet { node, slot: 0 }),
        _ => None,
    }
}

/// The mask as `[batch, heads, lq, lk]`, each extent its own or 1, the last two in full.
fn mask(graph: &OpGraph, mask: Outlet, scores: &[Dim], heads: &Dim) -> Option<[Dim; 4]> {
    let lead = scores.len() - 2;
    let shape = &graph.ty(mask).shape;
    let missing = scores.len().checked_sub(shape.len())?;
    let own: Vec<Dim> = vec![Dim::Const(1); missing].into_iter().chain(shape.iter().cloned()).collect();
    let batch = product(&scores[..lead]).quotient(heads)?;
    let split = (0..=lead).find(|p| product(&scores[*p..lead]) == *heads);
    let (b, h) = match split {
        Some(split) => (product(&own[..split]), product(&own[split..lead])),
        None if product(&own[..lead]) == product(&scores[..lead]) => (batch.clone(), heads.clone()),
        None => (Dim::Const(1), product(&own[..lead])),
    };
    let one = Dim::Const(1);
    ((b == one || b == batch) && (h == one || h == *heads)).then(|| [b, h, own[lead].clone(), own[lead + 1].clone()])
}

/// How many heads are worth a try: one, and every way to cut the leading axes of an operand.
fn head_counts(graph: &OpGraph, operands: &[Outlet; 3]) -> Vec<Dim> {
    let mut counts = vec![Dim::Const(1)];
    for tensor in operands {
        for view in View::all(graph, *tensor) {
            let leading = view.atoms_of(0..view.rank() - 2);
            counts.extend((0..leading.len()).map(|p| view.extent(&leading[p..])));
        }
    }
    counts.sort();
    counts.dedup();
    counts.retain(|c| c.as_const().is_some_and(|n| n > 0));
    counts
}

/// How the site becomes attention: with the head count that leaves the fewest transpositions.
pub(super) fn plan(site: &Site<'_>) -> Option<Plan> {
    let (graph, found) = (site.graph, site.found);
    let operands = ["q", "k", "v"].map(|name| found.get(name));
    let rank = graph.ty(operands[0]).rank();
    let plans = head_counts(graph, &operands).into_iter().filter_map(|heads| with_heads(site, &operands, rank, &heads));
    // Of equals, the count that is an axis of its own, then any but one: batch entries are no heads.
    let shape = &graph.ty(operands[0]).shape;
    let own = if rank > 3 { shape[rank - 3].as_const() } else { None };
    let key = |heads: i64| (Some(heads) != own, heads == 1, heads);
    plans.min_by_key(|(cost, plan)| (*cost, key(plan.attention.heads))).map(|(_, plan)| plan)
}

fn with_heads(site: &Site<'_>, operands: &[Outlet; 3], rank: usize, heads: &Dim) -> Option<(usize, Plan)> {
    let (graph, found) = (site.graph, site.found);
    let rows = || Roles { tokens: rank - 2, size: rank - 1 };
    let q = operand(graph, operands[0], &rows(), heads)?;
    let k = operand(graph, operands[1], &Roles { tokens: rank - 1, size: rank - 2 }, heads)?;
    let v = operand(graph, operands[2], &rows(), heads)?;
    let (replaced, spread, left) = rearranged(site, found.root, heads)?;
    let masked = match found.find("mask") {
        Some(tensor) => Some((tensor, mask(graph, tensor, &graph.ty(found.get("scores")).shape, heads)?)),
        None => None,
    };
    let scale = found.number("scale").unwrap_or(1.0) * q.scale * k.scale;
    // Factors on the values cannot be moved into the operator.
    (v.scale.to_bits() == 1.0f64.to_bits()).then_some(())?;
    let cost = q.transposes + k.transposes + v.transposes + left;
    let shape = &graph.ty(found.root).shape;
    let apart = spread.then(|| [q.shape[0].clone(), heads.clone(), shape[rank - 2].clone(), shape[rank - 1].clone()]);
    let attention = Attention { heads: heads.as_const()?, scale: scale as f32 };
    Some((cost, Plan { attention, operands: [q, k, v], mask: masked, replaced, spread: apart }))
}

/// Makes an operand.
fn make(e: &mut Edit<'_>, operand: &Operand, suffix: &str) -> Result<Outlet> {
    let mut at = operand.source;
    if let Some((axis, start, end)) = &operand.part {
        at = e.add(Op::Slice { axis: *axis, start: start.clone(), end: end.clone() }, &[at], suffix)?;
    }
    if let Some(perm) = operand.perm.as_ref().filter(|p| !p.is_sorted()) {
        at = e.add(Op::Transpose { perm: perm.clone() }, &[at], suffix)?;
    }
    reshaped(e, at, &operand.shape, suffix)
}

/// The tensor in a shape; itself if it has it.
pub(super) fn reshaped(e: &mut Edit<'_>, at: Outlet, shape: &[Dim], suffix: &str) -> Result<Outlet> {
    if e.graph().ty(at).shape == shape { Ok(at) } else { e.add(Op::Reshape { shape: shape.to_vec() }, &[at], suffix) }
}

/// Builds the operator and what makes its output the tensor that is replaced.
pub(super) fn build(e: &mut Edit<'_>, plan: &Plan) -> Result<Outlet> {
    let mut inputs = Vec::new();
    for (operand, name) in plan.operands.iter().zip(["q", "k", "v"]) {
        inputs.push(make(e, operand, name)?);
    }
    if let Some((tensor, shape)) = &plan.mask {
        let mask = reshaped(e, *tensor, shape, "mask")?;
        let [lq, lk] = [0, 1].map(|i| e.graph().ty(inputs[i]).shape[1].clone());
        let full = vec![shape[0].clone(), shape[1].clone(), lq, lk];
        inputs.push(if full == shape[..] { mask } else { e.add(Op::Expand { shape: full }, &[mask], "mask")? });
    }
    let mut out = e.add(Op::Attention(plan.attention), &inputs, "attention")?;
    if let Some([b, h, l, d]) = plan.spread.clone().filter(|_| plan.attention.heads > 1) {
        out = e.add(Op::Reshape { shape: vec![b, l, h, d] }, &[out], "heads")?;
        out = e.add(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[out], "heads")?;
    }
    let shape = e.graph().ty(plan.replaced).shape.clone();
    reshaped(e, out, &shape, "rows")
}

/// The tensor `[.., l, d]` with so many heads as `[b, l, heads · d]`: for rotary embeddings.
pub(super) fn tokens(graph: &OpGraph, tensor: Outlet, tokens: usize, heads: &Dim) -> Option<Operand> {
    let rank = graph.ty(tensor).rank();
    operand(graph, tensor, &Roles { tokens, size: rank - 1 }, heads).filter(|o| o.scale.to_bits() == 1.0f64.to_bits())
}

/// Makes what [`tokens`] found.
pub(super) fn make_tokens(e: &mut Edit<'_>, operand: &Operand) -> Result<Outlet> {
    make(e, operand, "tokens")
}
