//! `eliminate`: removes nodes that nobody needs and lets equal nodes be computed once.
//!
//! Legal always: an operator has no effect but its outputs. A node is dead if no output of the graph depends on it, nor a shape on
//! an extent that it alone has (`ir::live`). Two nodes are
//! common if operator, inputs and types are equal; the later one's readers read the earlier one. A reshape to the same shape, a
//! cast to the same type, a transposition that moves nothing, a product with ones and a sum with zeros are common with their
//! input. A constant operand that holds one value many times is that one value. Gain: time and memory; it costs nothing, so there
//! is no knob.

use std::collections::HashMap;

use super::{Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::Result;
use crate::ir::live::live;
use crate::ir::op::Binary;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::weights::WeightExpr;

pub(super) struct Eliminate;

static INFO: PassInfo = PassInfo {
    id: "eliminate",
    summary: "remove dead nodes, compute equal nodes once",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 3]) -> y: f32[2, 3] = %4
  %0 = Exp(%x) : f32[2, 3]
  %1 = Exp(%x) : f32[2, 3]
  %2 = Sigmoid(%x) : f32[2, 3]
  %3 = Reshape{shape=[2, 3]}(%1) : f32[2, 3]
  %4 = Add(%0, %3) : f32[2, 3]
after:
model m(x: f32[2, 3]) -> y: f32[2, 3] = %1
  %0 = Exp(%x) : f32[2, 3]
  %1 = Add(%0, %0) : f32[2, 3]
",
};

impl Pass for Eliminate {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        narrow_operands(rw)?;
        merge_common(rw)?;
        remove_dead(rw)
    }
}

/// A constant that holds one value many times broadcasts by itself; as one value it can go into weights.
///
/// So does what was expanded to the shape of the other operand: it need not be written out.
fn narrow_operands(rw: &mut Rewriter<'_>) -> Result<()> {
    for id in rw.graph().nodes() {
        let graph = rw.graph();
        let [left, right] = graph.inputs_of(id)[..] else { continue };
        if !matches!(graph.node(id).op, Op::Binary(_)) {
            continue;
        }
        for (slot, operand, other) in [(0, left, right), (1, right, left)] {
            let graph = rw.graph();
            if left == right || graph.ty(other) != &graph.node(id).outs[0] || graph.as_weight(other).is_some() {
                continue;
            }
            if matches!(graph.node(operand.node).op, Op::Expand { .. }) {
                let narrow = graph.inputs_of(operand.node)[0];
                rw.apply(id, None, Why::new("broadcasts-by-itself"), |e| {
                    e.rewire_input(id, slot, narrow);
                    e.reinfer(id)
                })?;
                break; // one of the two keeps the shape
            }
            let Some(expr) = graph.as_weight(operand).filter(|e| e.elements() > 1) else { continue };
            let elements = expr.elements() as i64;
            let Some(value) = expr.uniform()? else { continue };
            rw.apply(id, None, Why::new("one-value").with("elements", elements), |e| {
                let value = e.weight(value);
                e.rewire_input(id, slot, value);
                e.reinfer(id)
            })?;
        }
    }
    Ok(())
}

/// What two equal nodes have in common: operator and what they read. Their attributes are compared where this is equal.
type Key = (&'static str, Vec<Outlet>);

fn merge_common(rw: &mut Rewriter<'_>) -> Result<()> {
    let mut seen: HashMap<Key, Vec<NodeId>> = HashMap::new();
    for id in rw.graph().nodes() {
        let graph = rw.graph();
        let inputs = graph.inputs_of(id);
        let out = Outlet { node: id, slot: 0 };
        if let Some(source) = same_as_input(graph, id, &inputs) {
            rw.apply(id, None, Why::new("moves-nothing"), |e| e.replace(out, source))?;
            continue;
        }
        let node = graph.node(id);
        let Some(name) = mergeable(&node.op) else { continue };
        let alike = seen.entry((name, inputs)).or_default();
        match alike.iter().find(|first| graph.node(**first).op == node.op) {
            // A node that a knob decided may repeat another on purpose, to save memory; it stays, unless it takes none.
            Some(first) if graph.node(*first).knob == node.knob && (node.knob.is_none() || node.op.is_view()) => {
                let first = Outlet { node: *first, slot: 0 };
                if graph.is_output(first) && graph.is_output(out) {
                    continue; // each output of the graph has a tensor of its own
                }
                rw.apply(id, None, Why::new("computed-before"), |e| e.replace(out, first))?;
            }
            Some(_) => {}
            None => alike.push(id),
        }
    }
    Ok(())
}

fn same_as_input(graph: &OpGraph, id: NodeId, inputs: &[Outlet]) -> Option<Outlet> {
    let node = graph.node(id);
    let input = *inputs.first()?;
    let still = match &node.op {
        Op::Reshape { .. } | Op::Cast { .. } | Op::Expand { .. } => graph.ty(input) == &node.outs[0],
        Op::Transpose { perm } => perm.iter().enumerate().all(|(i, p)| i == *p),
        Op::Concat { .. } => inputs.len() == 1,
        _ => false,
    };
    let neutral = neutral_operand(graph, &node.op, inputs).filter(|kept| graph.ty(*kept) == &node.outs[0]);
    let (still, input) = neutral.map_or((still, input), |kept| (true, kept));
    // An output of the graph that is an input, a constant or another output needs a node of its own.
    let bare = matches!(graph.node(input.node).op, Op::Input | Op::Weight(_)) || graph.is_output(input);
    (still && !(bare && graph.is_output(Outlet { node: id, slot: 0 }))).then_some(input)
}

/// The tensor that multiplying by ones, dividing by ones, adding or subtracting zeros leaves as it is.
fn neutral_operand(graph: &OpGraph, op: &Op, inputs: &[Outlet]) -> Option<Outlet> {
    let (Op::Binary(f), [left, right]) = (op, inputs) else { return None };
    let is = |side: Outlet, value: f64| graph.as_weight(side).and_then(WeightExpr::splat) == Some(value);
    let (value, commutes) = match f {
        Binary::Mul => (1.0, true),
        Binary::Add => (0.0, true),
        Binary::Div => (1.0, false),
        Binary::Sub => (0.0, false),
        Binary::Pow => return None,
    };
    match (is(*right, value), commutes && is(*left, value)) {
        (true, _) => Some(*left),
        (_, true) => Some(*right),
        _ => None,
    }
}

/// The name under which a node may be merged; bodies and unknown operators are left alone.
fn mergeable(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Unary(u) => u.name(),
        Op::Binary(b) => b.name(),
        Op::MatMul => "MatMul",
        Op::Linear => "Linear",
        Op::Gemm { .. } => "Gemm",
        Op::Reshape { .. } => "Reshape",
        Op::Transpose { .. } => "Transpose",
        Op::Cast { .. } => "Cast",
        Op::Expand { .. } => "Expand",
        Op::Slice { .. } => "Slice",
        Op::Silu => "Silu",
        Op::QuickGelu { .. } => "QuickGelu",
        _ => return None,
    })
}

fn remove_dead(rw: &mut Rewriter<'_>) -> Result<()> {
    let live = live(rw.graph());
    let dead: Vec<NodeId> =
        rw.graph().nodes().into_iter().filter(|id| !live.contains(id) && rw.graph().node(*id).op != Op::Input).collect();
    // Consumers first, and constants after all of them: they stand first in the order.
    for id in dead.into_iter().rev() {
        rw.apply(id, None, Why::new("dead"), |e| e.remove(id))?;
    }
    Ok(())
}
