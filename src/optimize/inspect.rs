//! What is in a model: interface, operators, weights, work and memory, without running it.
//!
//! FLOP are those of matrix products, convolutions and attention, a multiply-add as two; everything else, and what vidc does not
//! know, counts as none. Bytes moved are those of the tensors that an operator reads and writes, each once, views as none: a lower
//! bound. The peak is that of [`schedule()`], beside weights, inputs and outputs. A figure that depends on a dim that is not bound
//! is `None`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::model::{Level, live_part, passes};
use crate::cost::operator::work;
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::op::Foreign;
use crate::ir::{NodeId, Op, OpGraph, Outlet, TensorType, schedule};
use crate::passes::manager::{Debugging, is_bound, run_passes};
use crate::passes::{Checks, Choices, PassCx, Remark};

/// The pass that recognises what plain operators spell.
const RAISE: &str = "raise";

/// A model in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFigures {
    /// Its name.
    pub name: String,
    /// Inputs in the order of declaration.
    pub inputs: Vec<Value>,
    /// Outputs in the order of declaration.
    pub outputs: Vec<Value>,
    /// Operators that the outputs depend on.
    pub nodes: usize,
    /// These by type, the most frequent first.
    pub operators: Vec<Operators>,
    /// Numbers in the constants that they read.
    pub parameters: u64,
    /// Bytes of these.
    pub weight_bytes: u64,
    /// Of one run.
    pub flop: Option<u64>,
    /// Of one run.
    pub bytes_moved: Option<u64>,
    /// The moment at which it needs most.
    pub peak: Option<Peak>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Element type and shape.
    #[serde(rename = "type")]
    pub ty: String,
}

/// All operators of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operators {
    /// The type; of another domain than the standard's with the domain before it.
    pub name: String,
    /// How many.
    pub count: usize,
    /// What they compute together.
    pub flop: Option<u64>,
    /// What they read and write together.
    pub bytes: Option<u64>,
}

/// A tensor that an operator makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Its size.
    pub bytes: u64,
    /// The node that makes it.
    pub made_by: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// The step at which it is made.
    pub first: usize,
    /// The step that reads it, or what lies in the same memory, last.
    pub last: usize,
}

/// The moment at which a model needs most memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peak {
    /// The model.
    pub model: String,
    /// The node that runs at this moment.
    pub step: String,
    /// Its number.
    pub at: usize,
    /// How many steps there are.
    pub steps: usize,
    /// Alive then, weights, inputs and outputs aside.
    pub live_bytes: u64,
    /// Of inputs and outputs.
    pub bound_bytes: u64,
    /// Of constants.
    pub weight_bytes: u64,
    /// What is alive, the largest first.
    pub buffers: Vec<Made>,
}

/// What a rule did at sites of a model, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleCount {
    /// The rule: a pattern of `raise`.
    pub rule: String,
    /// Was it applied?
    pub applied: bool,
    /// The condition that failed, if not.
    pub failed: Option<String>,
    /// How often.
    pub count: usize,
    /// The name of the first site.
    pub first: String,
}

/// The figures of a graph.
///
/// # Errors
/// `internal/bug` for an operator in the wrong place.
pub fn figures(graph: &OpGraph) -> Result<ModelFigures> {
    let part = live_part(graph);
    let ids = operators_of(&part);
    let loads: Vec<Load> = ids.iter().map(|id| load(&part, *id)).collect::<Result<_>>()?;
    let total = |of: fn(&Load) -> Option<u64>| loads.iter().try_fold(0u64, |sum, l| Some(sum.saturating_add(of(l)?)));
    let weights = weights(&part);
    Ok(ModelFigures {
        name: part.name.clone(),
        inputs: part.inputs().iter().map(|i| value(&part.node(*i).name, &part.node(*i).outs[0])).collect(),
        outputs: part.outputs().iter().map(|(name, o)| value(name, part.ty(*o))).collect(),
        nodes: ids.len(),
        operators: by_type(&part, &ids, &loads),
        parameters: weights.iter().filter_map(|t| t.numel().as_const()).map(|n| n.max(0) as u64).sum(),
        weight_bytes: weights.iter().filter_map(super::super::ir::types::TensorType::bytes).sum(),
        flop: total(|l| l.flop),
        bytes_moved: total(|l| l.bytes),
        peak: if is_bound(&part) { Some(peak(&part.name, &part)?) } else { None },
    })
}

fn operators_of(graph: &OpGraph) -> Vec<NodeId> {
    graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_))).collect()
}

fn weights(graph: &OpGraph) -> Vec<TensorType> {
    let nodes = graph.nodes().into_iter().map(|id| graph.node(id));
    nodes.filter(|n| matches!(n.op, Op::Weight(_))).map(|n| n.outs[0].clone()).collect()
}

fn value(name: &str, ty: &TensorType) -> Value {
    Value { name: name.into(), ty: ty.to_string() }
}

/// The type of an operator as people know it.
pub fn type_of(op: &Op) -> String {
    match op {
        Op::Foreign(f) if !f.domain.is_empty() => format!("{}.{}", f.domain, f.op_type),
        Op::Foreign(f) => f.op_type.clone(),
        _ => op.name().to_owned(),
    }
}

fn by_type(graph: &OpGraph, ids: &[NodeId], loads: &[Load]) -> Vec<Operators> {
    let mut of: BTreeMap<String, Operators> = BTreeMap::new();
    for (id, load) in ids.iter().zip(loads) {
        let name = type_of(&graph.node(*id).op);
        let row = of.entry(name.clone()).or_insert(Operators { name, count: 0, flop: Some(0), bytes: Some(0) });
        row.count += 1;
        let add = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        (row.flop, row.bytes) = (add(row.flop, load.flop), add(row.bytes, load.bytes));
    }
    let mut rows: Vec<Operators> = of.into_values().collect();
    rows.sort_by_key(|r| std::cmp::Reverse(r.count));
    rows
}

/// What one operator does.
struct Load {
    flop: Option<u64>,
    bytes: Option<u64>,
}

fn load(graph: &OpGraph, id: NodeId) -> Result<Load> {
    let node = graph.node(id);
    let wires = graph.inputs_of(id);
    let inputs: Vec<&TensorType> = wires.iter().map(|o| graph.ty(*o)).collect();
    let (read, written) = (bytes_of(&inputs), bytes_of(&node.outs.iter().collect::<Vec<_>>()));
    let bytes = match &node.op {
        op if op.is_view() => Some(0),
        // Of a sliced tensor only the range is read.
        Op::Slice { .. } => written.map(|w| w.saturating_mul(2)),
        _ => read.zip(written).map(|(r, w)| r.saturating_add(w)),
    };
    let bound = read.is_some() && written.is_some();
    Ok(Load { flop: if bound { Some(flop(graph, id, &inputs)?) } else { None }, bytes })
}

fn bytes_of(types: &[&TensorType]) -> Option<u64> {
    types.iter().try_fold(0u64, |sum, t| Some(sum.saturating_add(t.bytes()?)))
}

/// Of a bound operator, whether a provider runs it or it is still to be lowered.
fn flop(graph: &OpGraph, id: NodeId, inputs: &[&TensorType]) -> Result<u64> {
    let node = graph.node(id);
    let raised = |op: Op| work(&crate::ir::Node { op, ..node.clone() }, inputs).map(|w| w.flop().0);
    match &node.op {
        Op::Linear => raised(Op::MatMul),
        Op::Attention(a) => raised(Op::MultiHeadAttention(*a)),
        Op::TemporalConv => Ok(by_taps(inputs, &node.outs)),
        Op::Arange { .. }
        | Op::GroupNorm(_)
        | Op::RmsNorm { .. }
        | Op::Silu
        | Op::Gelu { .. }
        | Op::GeGlu
        | Op::RotaryEmbedding { .. }
        | Op::ForChunks(_) => Ok(0),
        Op::Foreign(f) => Ok(FOREIGN.iter().find(|(name, _)| *name == type_of(&node.op)).map_or(0, |(_, of)| of(f, inputs, &node.outs))),
        op => raised(op.clone()),
    }
}

/// FLOP of a bound operator by its inputs and outputs.
type OfForeign = fn(&Foreign, &[&TensorType], &[TensorType]) -> u64;

/// Foreign operators that multiply: kernels that ONNX Runtime's own optimizer writes into models.
const FOREIGN: [(&str, OfForeign); 4] = [
    ("com.microsoft.FusedConv", |_, inputs, outs| by_taps(inputs, outs)),
    ("com.microsoft.FusedGemm", |f, inputs, outs| product(f, "transA", inputs, outs)),
    ("com.microsoft.FusedMatMul", |f, inputs, outs| product(f, "transA", inputs, outs)),
    ("com.microsoft.MultiHeadAttention", |_, inputs, _| attention(inputs)),
];

fn numbers(t: &TensorType) -> u64 {
    t.numel().as_const().map_or(0, |n| n.max(0) as u64)
}

/// Extent of an axis, counted from the last.
fn from_last(t: &TensorType, axis: usize) -> u64 {
    t.dims().and_then(|d| d.iter().rev().nth(axis).copied()).map_or(0, |d| d.max(0) as u64)
}

/// Every output element is a product over the taps and input channels of a weight `[cout, cin, taps…]`.
fn by_taps(inputs: &[&TensorType], outs: &[TensorType]) -> u64 {
    let (Some(w), Some(out)) = (inputs.get(1), outs.first()) else { return 0 };
    let cout = w.dims().and_then(|d| d.first().copied()).map_or(1, |d| d.max(1) as u64);
    numbers(out).saturating_mul(2).saturating_mul(numbers(w) / cout)
}

/// Every output element is a product over the last axis of the first input, or the one before if that is transposed.
fn product(f: &Foreign, transposed: &str, inputs: &[&TensorType], outs: &[TensorType]) -> u64 {
    let (Some(x), Some(out)) = (inputs.first(), outs.first()) else { return 0 };
    let turned = f.attributes.iter().any(|a| a.name == transposed && a.i.is_some_and(|on| on != 0));
    numbers(out).saturating_mul(2).saturating_mul(from_last(x, usize::from(turned)))
}

/// Query and key `[batch, length, width]`: scores and their product with the values. Packed inputs count as none.
fn attention(inputs: &[&TensorType]) -> u64 {
    match inputs {
        [q, k, _, ..] if q.shape.len() == 3 && k.shape.len() == 3 => numbers(q).saturating_mul(4).saturating_mul(from_last(k, 1)),
        _ => 0,
    }
}

/// The moment at which a bound graph needs most.
///
/// # Errors
/// `model/unbound` if a symbol is left.
pub fn peak(name: &str, graph: &OpGraph) -> Result<Peak> {
    let schedule = schedule(graph)?;
    let live = schedule.live();
    let at = live.iter().enumerate().max_by_key(|(i, bytes)| (**bytes, std::cmp::Reverse(*i))).map_or(0, |(i, _)| i);
    let alive = schedule.buffers.iter().filter(|b| !b.bound && b.first <= at && at <= b.last);
    let made = |b: &crate::ir::schedule::Buffer| Made { first: b.first, last: b.last, ..tensor(graph, b.tensors[0], b.bytes) };
    let mut buffers: Vec<Made> = alive.map(made).collect();
    buffers.sort_by_key(|b| std::cmp::Reverse(b.bytes));
    Ok(Peak {
        model: name.into(),
        step: schedule.steps.get(at).map_or_else(String::new, |id| graph.node(*id).name.clone()),
        at,
        steps: schedule.steps.len(),
        live_bytes: live.get(at).copied().unwrap_or_default(),
        bound_bytes: schedule.bound_bytes(),
        weight_bytes: weights(graph).iter().filter_map(TensorType::bytes).sum(),
        buffers,
    })
}

fn tensor(graph: &OpGraph, outlet: Outlet, bytes: u64) -> Made {
    Made { bytes, made_by: graph.node(outlet.node).name.clone(), ty: graph.ty(outlet).to_string(), first: 0, last: 0 }
}

/// The widest tensors that operators make, widest first, views aside; none of those whose size is open.
pub fn widest(graph: &OpGraph, most: usize) -> Vec<Made> {
    let part = live_part(graph);
    let mut out = Vec::new();
    for (step, id) in operators_of(&part).into_iter().enumerate().filter(|(_, id)| !part.node(*id).op.is_view()) {
        let slots = 0..part.node(id).outs.len() as u16;
        let sized = slots.map(|slot| Outlet { node: id, slot }).filter_map(|o| part.ty(o).bytes().map(|b| tensor(&part, o, b)));
        out.extend(sized.map(|made| Made { first: step, last: step, ..made }));
    }
    out.sort_by_key(|t: &Made| std::cmp::Reverse(t.bytes));
    out.truncate(most);
    out
}

/// What `raise` finds in a graph, and what it misses.
///
/// # Errors
/// What a pass returns.
pub fn sites(graph: &OpGraph, machine: &Machine) -> Result<Vec<RuleCount>> {
    let debugging = Debugging { stop_after: Some(RAISE.into()), ..Debugging::default() };
    let cx = PassCx { machine, choices: &Choices::default(), debugging: &debugging };
    let done = run_passes(&passes(Level::Full), graph, &cx, Checks::Traced)?;
    Ok(grouped(done.trace.records.iter().filter(|r| r.id == RAISE).flat_map(|r| &r.remarks)))
}

fn grouped<'a>(remarks: impl Iterator<Item = &'a Remark>) -> Vec<RuleCount> {
    let mut out: BTreeMap<(bool, &str, Option<String>), RuleCount> = BTreeMap::new();
    for m in remarks {
        let failed = m.why.facts.get("failed").filter(|_| !m.applied).map(ToString::to_string);
        let first = || RuleCount { rule: m.why.rule.into(), applied: m.applied, failed: failed.clone(), count: 0, first: m.site.clone() };
        out.entry((!m.applied, m.why.rule, failed.clone())).or_insert_with(first).count += 1;
    }
    out.into_values().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::hwdb;
    use crate::ir::op::{Binary, Unary};
    use crate::ir::{DType, Dim};
    use crate::weights::WeightExpr;

    /// x [n, 8] → product with [8, 4] → y · sigmoid(y), and a dead exp.
    fn silu_of_product(rows: impl Into<Dim>) -> OpGraph {
        let mut g = OpGraph::new("g");
        let group = "".into();
        let x = g.input("x", TensorType { dtype: DType::F32, shape: vec![rows.into(), Dim::Const(8)] });
        let w = g.weight(WeightExpr::param("m", "w", DType::F32, &[8, 4]).unwrap());
        let y = g.add(Op::MatMul, &[x, w], "y", &group).unwrap();
        g.add(Op::Unary(Unary::Exp), &[y], "dead", &group).unwrap();
        let s = g.add(Op::Unary(Unary::Sigmoid), &[y], "s", &group).unwrap();
        let z = g.add(Op::Binary(Binary::Mul), &[y, s], "z", &group).unwrap();
        g.output("z", z);
        g
    }

    #[test]
    fn figures_are_those_of_what_runs() {
        let f = figures(&silu_of_product(2)).unwrap();
        let counts: Vec<(&str, usize)> = f.operators.iter().map(|o| (o.name.as_str(), o.count)).collect();
        assert_eq!(counts, [("MatMul", 1), ("Mul", 1), ("Sigmoid", 1)]);
        assert_eq!((f.nodes, f.parameters, f.weight_bytes), (3, 32, 128));
        assert_eq!(f.flop, Some(2 * 2 * 8 * 4));
        // The product reads 64 + 128 and writes 32; sigmoid 32 + 32; the other 64 + 32.
        assert_eq!(f.bytes_moved, Some(224 + 64 + 96));
        // The product and its sigmoid, which may not write over it.
        let peak = f.peak.unwrap();
        assert_eq!((peak.live_bytes, peak.bound_bytes, peak.step.as_str()), (64, 64 + 32, "s"));
        assert_eq!(f.inputs, [Value { name: "x".into(), ty: "f32[2, 8]".into() }]);
    }

    #[test]
    fn what_depends_on_an_open_dim_is_unknown() {
        let f = figures(&silu_of_product(Dim::symbol("n"))).unwrap();
        assert_eq!((f.flop, f.bytes_moved, f.peak), (None, None, None));
        assert_eq!((f.nodes, f.parameters), (3, 32));
        assert_eq!(widest(&silu_of_product(Dim::symbol("n")), 8), []);
    }

    #[test]
    fn the_widest_come_first() {
        let names: Vec<String> = widest(&silu_of_product(2), 2).into_iter().map(|t| t.made_by).collect();
        assert_eq!(names, ["y", "s"]);
    }

    #[test]
    fn sites_are_counted_by_rule() {
        let found = sites(&silu_of_product(2), &hwdb::machine("rtx3090").unwrap()).unwrap();
        assert!(found.iter().any(|s| s.applied && s.rule == "silu" && s.count == 1), "{found:?}");
    }

    #[test]
    fn raised_operators_have_work() {
        let mut g = OpGraph::new("g");
        let x = g.input("x", TensorType::new(DType::F32, [2, 16, 12]));
        let a = g.add(Op::Attention(crate::ir::op::Attention { heads: 3, scale: 0.5 }), &[x, x, x], "a", &"".into()).unwrap();
        let y = g.add(Op::Silu, &[a], "y", &"".into()).unwrap();
        g.output("y", y);
        assert_eq!(figures(&g).unwrap().flop, Some(4 * 2 * 3 * 16 * 16 * 4));
    }
}
