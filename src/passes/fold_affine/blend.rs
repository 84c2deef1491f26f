//! The blend of a residual branch, `s·x + (1 - s)·(x + h)`, is `x + (1 - s)·h`.
//!
//! ```text
//! x ─┬ Mul(s) ───────────────┐                 x ────────────────┐
//!    └ Add(h) ─ Mul(1 - s) ─ Add        ─►     h ─ Mul(1 - s) ─ Add
//! ```

use crate::diag::Result;
use crate::ir::op::Binary;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::passes::{Rewriter, Why};
use crate::weights::{Arithmetic, WeightExpr, WeightOp};

/// `scaled_x + scaled_sum` where `scaled_x = s·x` and `scaled_sum = r·(x + h)` with s + r = 1.
pub(super) struct Blend {
    scaled_x: Outlet,
    scaled_sum: Outlet,
    factor: Outlet,
    sum: Outlet,
    x: Outlet,
    h: Outlet,
}

/// The blend that a node is the sum of, if it is one.
pub(super) fn at(graph: &OpGraph, id: NodeId) -> Option<Blend> {
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
pub(super) fn complementary(a: &WeightExpr, b: &WeightExpr) -> bool {
    let rest = |whole: &WeightExpr, part: &WeightExpr| match whole.op() {
        WeightOp::Binary { function: Arithmetic::Sub, left, right } => left.splat() == Some(1.0) && right == part,
        _ => false,
    };
    // Half of the distance between 1 and its neighbour.
    let rounding = f64::from(f32::EPSILON) / 2.0;
    let numbers = a.splat().zip(b.splat()).is_some_and(|(a, b)| (a + b - 1.0).abs() <= rounding);
    rest(a, b) || rest(b, a) || numbers
}

impl Blend {
    /// Writes the blend, which `id` sums up, the shorter way.
    pub(super) fn simplify(&self, rw: &mut Rewriter<'_>, id: NodeId) -> Result<()> {
        rw.apply(id, None, Why::new("blend-of-a-residual"), |e| {
            e.rewire(self.scaled_sum.node, &[self.factor, self.h])?;
            e.rewire(id, &[self.x, self.scaled_sum])?;
            e.remove(self.sum.node)?;
            e.remove(self.scaled_x.node)
        })
    }
}
