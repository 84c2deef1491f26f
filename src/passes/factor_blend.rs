//! `factor-blend`: the blend of a tensor with itself plus something is the tensor plus a part of that something.
//!
//! Legal because `s·x + (1 - s)·(x + h) = x + (1 - s)·h`. The blocks over frames of a video model end so: `x` is the block over
//! pixels, `h` what the block over frames adds. Two products and a sum over the whole tensor become one product, whose factor the
//! operator that makes `h` can often take into its weights. It costs nothing, so there is no knob.

use super::{Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::Result;
use crate::ir::op::Binary;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::weights::{WeightExpr, WeightOp};

pub(super) struct FactorBlend;

static INFO: PassInfo = PassInfo {
    id: "factor-blend",
    summary: "a blend of x and x + h is x plus a part of h",
    effect: Effect::Exact,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 3], h: f32[2, 3], f: f32[1]) -> y: f32[2, 3] = %5
  %0 = Sigmoid(%f) : f32[1]
  %1 = Sub({literal f32[1] = 1}, %0) : f32[1]
  %2 = Add(%x, %h) : f32[2, 3]
  %3 = Mul(%0, %x) : f32[2, 3]
  %4 = Mul(%1, %2) : f32[2, 3]
  %5 = Add(%3, %4) : f32[2, 3]
after:
model m(x: f32[2, 3], h: f32[2, 3], f: f32[1]) -> y: f32[2, 3] = %3
  %0 = Sigmoid(%f) : f32[1]
  %1 = Sub({literal f32[1] = 1}, %0) : f32[1]
  %2 = Mul(%1, %h) : f32[2, 3]
  %3 = Add(%x, %2) : f32[2, 3]
",
};

impl Pass for FactorBlend {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        for id in rw.graph().nodes() {
            let Some(site) = site(rw.graph(), id) else { continue };
            rw.apply(id, None, Why::new("shares-a-term"), |e| {
                let part = e.add(Op::Binary(Binary::Mul), &[site.factor, site.rest], "part")?;
                let sum = e.add(Op::Binary(Binary::Add), &[site.shared, part], "")?;
                e.replace(Outlet { node: id, slot: 0 }, sum)?;
                e.remove(id)?;
                site.dead.iter().try_for_each(|n| e.remove(*n))
            })?;
        }
        Ok(())
    }
}

/// `shared + factor · rest`, and what nobody reads afterwards, consumers first.
struct Site {
    shared: Outlet,
    factor: Outlet,
    rest: Outlet,
    dead: Vec<NodeId>,
}

/// One product of a blend: a number times a tensor.
struct Term {
    node: NodeId,
    factor: Outlet,
    tensor: Outlet,
}

fn site(graph: &OpGraph, id: NodeId) -> Option<Site> {
    let [a, b] = binary(graph, id, Binary::Add)?;
    let (a, b) = (term(graph, a)?, term(graph, b)?);
    if !(complements(graph, a.factor, b.factor) || complements(graph, b.factor, a.factor)) {
        return None;
    }
    halves(graph, &a, &b).or_else(|| halves(graph, &b, &a))
}

/// The site if the second term's tensor is the first's plus something.
fn halves(graph: &OpGraph, x: &Term, y: &Term) -> Option<Site> {
    let [p, q] = binary(graph, y.tensor.node, Binary::Add)?;
    let rest = match (p == x.tensor, q == x.tensor) {
        (true, _) => q,
        (_, true) => p,
        _ => return None,
    };
    let whole = graph.ty(x.tensor) == graph.ty(y.tensor) && graph.ty(rest) == graph.ty(y.tensor);
    let mut dead = vec![x.node, y.node];
    if sole(graph, y.tensor) {
        dead.push(y.tensor.node);
    }
    whole.then_some(Site { shared: x.tensor, factor: y.factor, rest, dead })
}

fn binary(graph: &OpGraph, id: NodeId, op: Binary) -> Option<[Outlet; 2]> {
    if graph.node(id).op != Op::Binary(op) {
        return None;
    }
    graph.inputs_of(id).try_into().ok()
}

fn sole(graph: &OpGraph, o: Outlet) -> bool {
    graph.user_count(o) == 1 && !graph.is_output(o)
}

fn term(graph: &OpGraph, o: Outlet) -> Option<Term> {
    let [a, b] = binary(graph, o.node, Binary::Mul)?;
    let one = |o: Outlet| graph.ty(o).numel() == crate::ir::Dim::Const(1);
    let (factor, tensor) = if one(a) { (a, b) } else { (b, a) };
    (one(factor) && !one(tensor) && sole(graph, o) && graph.ty(tensor) == graph.ty(o)).then_some(Term { node: o.node, factor, tensor })
}

/// Is `b` one minus `a`?
fn complements(graph: &OpGraph, a: Outlet, b: Outlet) -> bool {
    binary(graph, b.node, Binary::Sub).is_some_and(|[one, s]| s == a && graph.as_weight(one).is_some_and(is_one))
}

fn is_one(expr: &WeightExpr) -> bool {
    matches!(expr.op(), WeightOp::Literal(bytes) if bytes[..] == 1.0_f32.to_le_bytes())
}
