//! `fold-affine`: constants that scale or shift channels go into the weights beside them.
//!
//! ```text
//! Linear(x, W) ─ Mul(s) ─ Add(t)        Linear(x, s·W, t)             into the producer (`uptake::behind`)
//! Mul(x, s) ─┬ Linear(W)          ─►    x ─┬ Linear(W·s)              into all readers (`uptake::in_front`)
//!            └ Linear(V)                   └ Linear(V·s)
//! Mul(q, s) ─ Attention{scale=a}        Attention{scale=a·s}(q)       into the scale of attention (`attention`)
//! s·x + (1 - s)·(x + h)                 x + (1 - s)·h                 the blend of a residual branch (`blend`)
//! RmsNorm(x, s) ─ Linear(W)             RmsNorm(x, 1) ─ Linear(W·s)   the affine of a norm (`norm`)
//! ```
//! - A product or sum with a constant (one value, or one per channel) behind a matrix product, a convolution or the affine of a
//!   norm goes into its weight and bias; one in front of matrix products and convolutions, if all that read it are such, into
//!   theirs. An inference-time batch norm arrives as a product and a sum, so convolution and batch norm fall out of this.
//! - One on the queries or keys of attention, all alike and exact in the scale of attention, goes there: that stores nothing.
//! - `s·x + (1 - s)·(x + h)` is `x + (1 - s)·h`: the blend of a residual branch; the factor then goes behind `h`.
//! - The affine of a norm that the provider has to write out (group norm without a kernel of its own, RMS norm) goes into the
//!   matrix products that alone read it.
//!
//! Legal because all of these are linear in the channels; operators that only move elements are looked through while the
//! channels stay one axis (`way`). The tensor that changes has no other reader and is no output of the graph. Gain: a pass over an
//! activation each. Cost: a changed weight is stored with the plan instead of used where it lies, so a weight with other readers
//! is left, and so are weights of more than [`worth::LARGE`] bytes for an operator that moves less than an eighth
//! ([`worth::NEGLIGIBLE`]) of them. A product that a 16-bit weight holds less well than a normal number is left too. Always exact; no knob.

mod attention;
mod blend;
mod carrier;
mod norm;
mod site;
mod uptake;
mod way;
mod worth;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use super::{Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::{Diagnostic, Result};
use crate::ir::op::Unary;
use crate::ir::{NodeId, Op};
use site::Site;

pub(super) struct FoldAffine;

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

/// What is tried at a site gives this, or why not.
type Attempt<T> = std::result::Result<T, Miss>;

/// Why an attempt gave nothing.
enum Miss {
    /// A condition that is not met, by the word that is told.
    Unmet(&'static str),
    /// A mistake.
    Failed(Box<Diagnostic>),
}

impl From<Box<Diagnostic>> for Miss {
    fn from(d: Box<Diagnostic>) -> Self {
        Self::Failed(d)
    }
}

/// An attempt as its result or the condition that was not met.
///
/// # Errors
/// The mistake, if it failed by one.
fn settled<T>(attempt: Attempt<T>) -> Result<std::result::Result<T, &'static str>> {
    match attempt {
        Ok(made) => Ok(Ok(made)),
        Err(Miss::Unmet(rule)) => Ok(Err(rule)),
        Err(Miss::Failed(d)) => Err(d),
    }
}

fn visit(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, id: NodeId) -> Result<Outcome> {
    let graph = rw.graph();
    match &graph.node(id).op {
        Op::Binary(_) | Op::Unary(Unary::Neg) => {}
        Op::GroupNorm(_) | Op::RmsNorm { .. } => return norm::visit(rw, cx, id),
        _ => return Ok(Outcome::Nothing),
    }
    if let Some(blend) = blend::at(graph, id) {
        blend.simplify(rw, id)?;
        return Ok(Outcome::Done);
    }
    match Site::at(graph, id)? {
        Some(site) => constant(rw, &site),
        None => Ok(Outcome::Nothing),
    }
}

/// The constant of a site goes into the scale of attention, into what is behind it, or into what is in front of it: the first that takes it.
fn constant(rw: &mut Rewriter<'_>, site: &Site) -> Result<Outcome> {
    let (change, axis) = match site.change(rw.graph()) {
        Ok(found) => found,
        Err(rule) => return Ok(Outcome::Declined(Why::new(rule))),
    };
    if let Some(scale) = attention::at(rw.graph(), site, &change) {
        scale.take_up(rw, site)?;
        return Ok(Outcome::Done);
    }
    let producer = match settled(uptake::behind(rw.graph(), site, &change, axis))? {
        Ok(uptake) => return uptake.take_up(rw, site),
        Err(rule) => rule,
    };
    let readers = match settled(uptake::in_front(rw.graph(), site, &change, axis))? {
        Ok(uptake) => return uptake.take_up(rw, site),
        Err(rule) => rule,
    };
    Ok(Outcome::Declined(Why::new("a-constant-stays").with("producer", producer).with("readers", readers)))
}
