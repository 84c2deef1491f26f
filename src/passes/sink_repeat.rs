//! `sink-repeat`: computes on one copy what would be computed on equal copies.
//!
//! `Expand`, alone or with a `Reshape` behind it, makes copies of rows. An operator that looks at each row alone (`Linear`) or at
//! each element alone (`Silu`, a cast, the sum of two tensors that were copied in the same way) gives copies of what it gives for
//! one, so it is computed before the copying. An elementwise operator that broadcasts by itself needs no `Expand` in front. This is
//! what becomes of a time embedding or a context that was repeated for every frame before its projections: they are computed on
//! batch rows, not on batch·frames rows. Legal by definition of the operators; it costs nothing, so there is no knob.

use super::{Edit, Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::Result;
use crate::ir::axes::{self, Counting, Dependence, counting};
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};

pub(super) struct SinkRepeat;

static INFO: PassInfo = PassInfo {
    id: "sink-repeat",
    summary: "compute on one copy what would be computed on equal copies",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 1, 3]) -> y: f32[8, 5] = %3
  %0 = Expand{shape=[2, 4, 3]}(%x) : f32[2, 4, 3]
  %1 = Reshape{shape=[8, 3]}(%0) : f32[8, 3]
  %2 = Silu(%1) : f32[8, 3]
  %3 = Linear(%2, {param m/w: f32[5, 3]}) : f32[8, 5]
after:
model m(x: f32[2, 1, 3]) -> y: f32[8, 5] = %3
  %0 = Silu(%x) : f32[2, 1, 3]
  %1 = Linear(%0, {param m/w: f32[5, 3]}) : f32[2, 1, 5]
  %2 = Expand{shape=[2, 4, 5]}(%1) : f32[2, 4, 5]
  %3 = Reshape{shape=[8, 5]}(%2) : f32[8, 5]
",
};

impl Pass for SinkRepeat {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        // In execution order, so that a chain of operators moves in one run.
        for id in rw.graph().nodes() {
            if rw.graph().contains(id) {
                visit(rw, id)?;
            }
        }
        Ok(())
    }
}

/// Copies: `source` broadcast to `wide`, and in another shape if `rows` says so.
#[derive(Clone, Debug)]
struct Copies {
    source: Outlet,
    /// Shape of the `Expand`.
    wide: Vec<Dim>,
    /// Shape of the `Reshape` behind it, if there is one.
    rows: Option<Vec<Dim>>,
    /// The nodes, the last first.
    nodes: Vec<NodeId>,
}

fn copies(graph: &OpGraph, value: Outlet) -> Option<Copies> {
    let node = graph.node(value.node);
    let shape = node.outs[0].shape.clone();
    let (expand, rows) = match &node.op {
        Op::Expand { .. } => (value, None),
        Op::Reshape { .. } => (*graph.inputs_of(value.node).first()?, Some(shape)),
        _ => return None,
    };
    let Op::Expand { shape: wide } = &graph.node(expand.node).op else { return None };
    let source = *graph.inputs_of(expand.node).first()?;
    let nodes = if rows.is_some() { vec![value.node, expand.node] } else { vec![value.node] };
    // As many elements as before are no copies.
    let more = graph.ty(source).numel() != graph.ty(expand).numel();
    more.then(|| Copies { source, wide: wide.clone(), rows, nodes })
}

impl Copies {
    /// Is each row of the source, whole and unchanged, a row of the copies?
    fn keeps_rows(&self, graph: &OpGraph) -> bool {
        let last = graph.ty(self.source).shape.last();
        last.is_some() && last == self.wide.last() && self.rows.as_ref().is_none_or(|rows| rows.last() == last)
    }

    /// Does nobody but the one reader want the copies?
    fn sole(&self, graph: &OpGraph) -> bool {
        self.nodes.iter().all(|n| {
            let out = Outlet { node: *n, slot: 0 };
            graph.user_count(out) == 1 && !graph.is_output(out)
        })
    }

    /// The copies of another tensor: of the source's shape, but for the last axis if that changed.
    fn again(&self, e: &mut Edit<'_>, value: Outlet) -> Result<Outlet> {
        let last = |e: &Edit<'_>| e.graph().ty(value).shape.last().cloned();
        let changed = last(e) != e.graph().ty(self.source).shape.last().cloned();
        let with_last = |shape: &[Dim], last: Option<Dim>| {
            let mut shape = shape.to_vec();
            if let (true, Some(end), Some(last)) = (changed, shape.last_mut(), last) {
                *end = last;
            }
            shape
        };
        let wide = with_last(&self.wide, last(e));
        let out = e.add(Op::Expand { shape: wide }, &[value], "copies")?;
        match &self.rows {
            Some(rows) => e.add(Op::Reshape { shape: with_last(rows, last(e)) }, &[out], "rows"),
            None => Ok(out),
        }
    }
}

fn visit(rw: &mut Rewriter<'_>, id: NodeId) -> Result<()> {
    let graph = rw.graph();
    let inputs = graph.inputs_of(id);
    let Some(first) = inputs.first().and_then(|i| copies(graph, *i)) else { return dissolve(rw, id, &inputs) };
    let sole = first.sole(graph);
    let (read, mut dead) = match &graph.node(id).op {
        Op::Binary(_) => match both(graph, &first, &inputs).filter(|_| sole) {
            Some(second) => (vec![first.source, second.source], second.nodes),
            None => return dissolve(rw, id, &inputs),
        },
        // A product of fewer rows is worth it even if the copies stay for others.
        op if sole || *op == Op::Linear => match sight(graph, id) {
            Some(Sight::Element) => (vec![first.source], Vec::new()),
            Some(Sight::Row) if first.keeps_rows(graph) => (vec![first.source], Vec::new()),
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    if sole {
        dead.extend(&first.nodes);
    }
    let (op, count) = (graph.node(id).op.clone(), graph.ty(inputs[0]).numel());
    let why = Why::new("equal-copies").with("elements", count.as_const().unwrap_or(-1));
    rw.apply(id, None, why, |e| {
        let read: Vec<Outlet> = read.iter().chain(&inputs[read.len()..]).copied().collect();
        let out = e.add(op, &read, "once")?;
        let out = first.again(e, out)?;
        e.replace(Outlet { node: id, slot: 0 }, out)?;
        e.remove(id)?;
        dead.into_iter().try_for_each(|n| e.remove(n))
    })
}

/// What an operator looks at of its first input, whatever the axes in front.
enum Sight {
    /// Each element alone.
    Element,
    /// Each row alone; what else it reads is the same for all rows.
    Row,
}

fn sight(graph: &OpGraph, id: NodeId) -> Option<Sight> {
    let (node, axes) = (graph.node(id), axes::at(graph, id));
    let last = node.outs[0].rank().checked_sub(1)?;
    let others = 1..graph.inputs_of(id).len();
    let row = |a: usize| {
        let same = axes.along(0, a, 0) == Dependence::Independent { axis: a };
        same && others.clone().all(|i| axes.along(0, a, i) == Dependence::Broadcast)
    };
    if counting(&node.op) != Counting::Back || !(0..last).all(row) {
        return None;
    }
    Some(if others.is_empty() && row(last) { Sight::Element } else { Sight::Row })
}

/// The other operand, if it was copied in the same way as the first, for this reader alone.
fn both(graph: &OpGraph, first: &Copies, inputs: &[Outlet]) -> Option<Copies> {
    let second = copies(graph, *inputs.get(1)?)?;
    let same = second.wide == first.wide && second.rows == first.rows && graph.ty(second.source) == graph.ty(first.source);
    (same && second.sole(graph)).then_some(second)
}

/// `Expand` in front of an operator that broadcasts by itself.
fn dissolve(rw: &mut Rewriter<'_>, id: NodeId, inputs: &[Outlet]) -> Result<()> {
    let graph = rw.graph();
    let node = graph.node(id);
    let (Op::Binary(_), [a, b]) = (&node.op, inputs) else { return Ok(()) };
    let bare = |value: Outlet, other: Outlet| copies(graph, value).filter(|c| c.rows.is_none() && graph.ty(other) == &node.outs[0]);
    let (read, gone) = match (bare(*a, *b), bare(*b, *a)) {
        (Some(copies), _) => ([copies.source, *b], copies),
        (None, Some(copies)) => ([*a, copies.source], copies),
        (None, None) => return Ok(()),
    };
    let dead = if gone.sole(graph) { gone.nodes } else { Vec::new() };
    let op = node.op.clone();
    rw.apply(id, None, Why::new("broadcasts-by-itself"), |e| {
        let out = e.add(op, &read, "")?;
        e.replace(Outlet { node: id, slot: 0 }, out)?;
        e.remove(id)?;
        dead.into_iter().try_for_each(|n| e.remove(n))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hwdb;
    use crate::interp::arb_op::{KINDS, arb_seed};
    use crate::ir::{DType, TensorType, verify};
    use crate::passes::property_tests::{EXACT, close, outputs};
    use crate::passes::{Choices, Debugging};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn once_on_the_source_is_the_same_as_on_its_copies(kind in 0..KINDS, seed in arb_seed(), axis in 0..3_usize) {
            let (op, shapes) = seed.op(kind);
            let Some(wide) = shapes.first().filter(|s| s.len() > axis) else { return Ok(()) };
            let ty = |shape: &[usize]| TensorType::new(DType::F32, shape.iter().copied());
            let mut narrow = wide.clone();
            narrow[axis] = 1;
            let mut before = OpGraph::new("m");
            let x = before.input("x", ty(&narrow));
            let expand = Op::Expand { shape: wide.iter().map(|n| Dim::from(*n)).collect() };
            let mut args = vec![before.add(expand, &[x], "copies", &"g".into()).unwrap()];
            args.extend(shapes.iter().enumerate().skip(1).map(|(i, shape)| before.input(format!("p{i}"), ty(shape))));
            let y = before.add(op, &args, "y", &"g".into()).unwrap();
            before.output("y", y);

            let (mut after, machine) = (before.clone(), hwdb::machine("x86-cpu-2core").unwrap());
            let mut rw = Rewriter::new("m", &mut after);
            let cx = PassCx { machine: &machine, choices: &Choices::default(), debugging: &Debugging::default() };
            SinkRepeat.run(&mut rw, &cx).unwrap();
            rw.finish();
            verify(&after).map_err(|d| TestCaseError::fail(format!("{d:?}")))?;
            close(&outputs::<f64>(&after), &outputs::<f64>(&before), EXACT, "");
        }
    }
}
