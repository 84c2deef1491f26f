//! `assign-precision`: one element type for a whole model, with fp32 islands where 16 bits would lose the sums.
//!
//! The interface stays fp32: a cast stands behind every input and before every output. Weights become cast expressions, which
//! cost nothing at run time. Norms whose kernel does not sum in fp32 by itself get a cast to fp32 before and one back behind
//! (an *island*); softmax gets its island where attention is written out (`tile-attention`) and has it inside the fused kernel. What
//! 16 bits cannot hold stays fp32 by rule (`wide`): arguments of Sin and Cos, floats that become whole numbers, constants out of range.
//! Effect: rounding. One knob per model: its type changes every tensor that crosses segments.

mod wide;

use std::collections::{BTreeMap, BTreeSet};

use wide::Wide;

use super::select_kernels::sums_in_f32;
use super::{Answer, Edit, Effect, Knob, Pass, PassCx, PassInfo, Property, QualityLoss, Rewriter, Scope, Why};
use crate::cost::quality::Noise;
use crate::diag::Result;
use crate::hwdb::{Machine, Precision};
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet};
use crate::target::{Narrow, Target};
use crate::units::Bytes;
use crate::weights::WeightOp;

pub(super) struct AssignPrecision;

static INFO: PassInfo = PassInfo {
    id: "assign-precision",
    summary: "one element type per model, with fp32 islands",
    effect: Effect::Rounding,
    asks: Some(Scope::Model),
    requires: &[Property::Bound],
    establishes: &[Property::Typed],
    example: "
choose: m.precision=f16
hw: rtx3090
before:
model m(x: f32[1, 4]) -> y: f32[1, 4] = %1
  %0 = Linear(%x, {param m/w: f32[4, 4]}) : f32[1, 4]
  %1 = Silu(%0) : f32[1, 4]
after:
model m(x: f32[1, 4]) -> y: f32[1, 4] = %3
  %0 = Cast{to=f16}(%x) : f16[1, 4]
  %1 = Linear(%0, {cast[f16](param m/w: f32[4, 4])}) : f16[1, 4]
  %2 = Silu(%1) : f16[1, 4]
  %3 = Cast{to=f32}(%2) : f32[1, 4]
",
};

/// The knob of a model.
fn knob_id(model: &str) -> String {
    format!("{model}.precision")
}

/// The precisions that a model can have, with their answers.
const ANSWERS: [(&str, Precision); 3] = [("tf32", Precision::Tf32), ("f16", Precision::F16), ("bf16", Precision::Bf16)];

/// The answer that stands for a precision.
fn word(precision: Precision) -> Option<&'static str> {
    ANSWERS.iter().find(|(_, p)| *p == precision).map(|(word, _)| *word)
}

/// The precision that an answer names.
fn precision(answer: Option<&str>) -> Precision {
    ANSWERS.iter().find(|(word, _)| answer == Some(*word)).map_or(Precision::F32, |(_, p)| *p)
}

fn element_type(p: Precision) -> DType {
    match p {
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
        _ => DType::F32,
    }
}

/// Has the provider kernels of a type for those operators of a model that become one node of the model's type, whatever form is chosen?
/// The others are cast to f32 where they need it, or have forms in every type.
fn has_kernels(graph: &OpGraph, ty: DType, target: &'static Target) -> bool {
    let one_node = |op: &Op| match op {
        Op::Conv(_) | Op::TemporalConv => Some("Conv"),
        Op::ConvTranspose(_) => Some("ConvTranspose"),
        Op::Upsample { .. } => Some("Resize"),
        _ => None,
    };
    let used: BTreeSet<&str> = graph.nodes().into_iter().filter_map(|id| one_node(&graph.node(id).op)).collect();
    used.into_iter().all(|op_type| target.taker("", op_type, ty).is_some())
}

impl Pass for AssignPrecision {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, graph: &OpGraph, machine: &Machine) -> Vec<Knob> {
        let fits = |n: &&Narrow| !n.native || machine.peaks.supports(n.precision);
        let holds = |n: &&Narrow| !(graph.needs_f32 && n.precision == Precision::F16);
        let kernels = |n: &&Narrow| has_kernels(graph, element_type(n.precision), machine.target);
        let answer = |n: &Narrow| {
            let quality = QualityLoss::Literature { noise: Noise::of(n.precision) };
            Some(Answer { on_request: !n.searched, ..Answer::changing(word(n.precision)?, Effect::Rounding, quality) })
        };
        let more = machine.target.precisions.iter().filter(fits).filter(holds).filter(kernels).filter_map(answer);
        let answers = std::iter::once(Answer::exact("f32")).chain(more).collect();
        vec![Knob {
            id: knob_id(&graph.name).into(),
            scope: Scope::Model,
            answers,
            about: "element type of the model, fp32 islands kept".into(),
        }]
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        let knob = knob_id(&rw.graph().name);
        let precision = precision(cx.choices.get(&knob));
        let ty = element_type(precision);
        if ty == DType::F32 {
            return products(rw, &knob, precision);
        }
        let before = Before::of(rw.graph(), ty)?;
        narrow_constants(rw, &before, &knob, ty)?;
        narrow_inputs(rw, &before, &knob, ty)?;
        for id in rw.graph().nodes() {
            match before.wide_nodes.get(&id) {
                Some(rule) => keep_wide(rw, &before, &knob, id, rule, ty)?,
                None => visit(rw, cx, &before, &knob, id, ty)?,
            }
        }
        widen_outputs(rw, &before, &knob)
    }
}

/// How products of f32 tensors are computed, where the model stays f32.
fn products(rw: &mut Rewriter<'_>, knob: &str, precision: Precision) -> Result<()> {
    let Some(site) = rw.graph().nodes().into_iter().next() else { return Ok(()) };
    rw.apply(site, Some(knob), Why::new("products-in-tf32"), |e| {
        e.set_tf32(precision == Precision::Tf32);
        Ok(())
    })
}

/// What the graph was before the pass changed it, for the parts that must not change: nodes that stay fp32, types that unknown
/// operators read, types of outputs.
struct Before {
    /// The nodes that stay fp32: norms that stand between casts already (an island), casts to fp32 whose every reader is such a norm or
    /// which are outputs, and the nodes of `wide_nodes`.
    islands: BTreeSet<NodeId>,
    /// The nodes that stay fp32 because a smaller type would spoil their result, each with its rule.
    wide_nodes: Wide,
    /// The types that unknown operators read. They keep them, since nobody knows whether such an operator takes another type.
    foreign: BTreeMap<NodeId, Vec<DType>>,
    /// The positions of the outputs of the graph that are fp32.
    wide: Vec<usize>,
}

impl Before {
    fn of(graph: &OpGraph, ty: DType) -> Result<Self> {
        let wide_nodes = wide::wide(graph, ty)?;
        let mut islands: BTreeSet<NodeId> = graph.nodes().into_iter().filter(|id| is_island(graph, *id, ty)).collect();
        islands.extend(wide_nodes.keys());
        let inward = |id: &NodeId| {
            let out = Outlet { node: *id, slot: 0 };
            graph.node(*id).op == Op::Cast { to: DType::F32 } && graph.users(out).iter().all(|(user, _)| islands.contains(user))
        };
        let casts: Vec<NodeId> = graph.nodes().into_iter().filter(inward).collect();
        islands.extend(casts);
        let reads = |id: NodeId| graph.inputs_of(id).iter().map(|o| graph.ty(*o).dtype).collect();
        let foreign =
            graph.nodes().into_iter().filter(|id| matches!(graph.node(*id).op, Op::Foreign(_))).map(|id| (id, reads(id))).collect();
        let f32s = graph.outputs().iter().enumerate().filter(|(_, (_, o))| graph.ty(*o).dtype == DType::F32);
        Ok(Self { islands, wide_nodes, foreign, wide: f32s.map(|(i, _)| i).collect() })
    }

    /// The islands that read a tensor.
    fn readers(&self, graph: &OpGraph, outlet: Outlet) -> Vec<NodeId> {
        graph.users(outlet).into_iter().map(|(user, _)| user).filter(|user| self.islands.contains(user)).collect()
    }

    /// Does nobody but islands read the tensor?
    fn only_islands_read(&self, graph: &OpGraph, outlet: Outlet) -> bool {
        let users = graph.users(outlet);
        !graph.is_output(outlet) && !users.is_empty() && users.iter().all(|(user, _)| self.islands.contains(user))
    }
}

/// A norm or an unknown operator whose fp32 tensors all come from casts and constants and go to casts to `ty`.
fn is_island(graph: &OpGraph, id: NodeId, ty: DType) -> bool {
    let node = graph.node(id);
    let wide = |o: &Outlet| graph.ty(*o).dtype == DType::F32;
    let widened = |o: &Outlet| graph.as_weight(*o).is_some() || graph.node(o.node).op == Op::Cast { to: DType::F32 };
    let narrowed = |o: &Outlet| !graph.is_output(*o) && graph.users(*o).iter().all(|(user, _)| graph.node(*user).op == Op::Cast { to: ty });
    let outs = (0..node.outs.len() as u16).map(|slot| Outlet { node: id, slot });
    let kind = is_norm(&node.op) && node.outs[0].dtype == DType::F32 || matches!(node.op, Op::Foreign(_));
    kind && graph.inputs_of(id).iter().filter(|o| wide(o)).all(widened) && outs.filter(wide).all(|o| narrowed(&o))
}

fn narrow_constants(rw: &mut Rewriter<'_>, before: &Before, knob: &str, ty: DType) -> Result<()> {
    for id in rw.graph().nodes() {
        let at = Outlet { node: id, slot: 0 };
        let Some(expr) = rw.graph().as_weight(at).cloned().filter(|e| e.dtype() == DType::F32) else { continue };
        if before.only_islands_read(rw.graph(), at) {
            continue;
        }
        let islands = before.readers(rw.graph(), at);
        let bytes = rw.graph().ty(at).bytes().unwrap_or(0) / 2;
        rw.apply(id, Some(knob), Why::new("stored-narrow").with("bytes", Bytes(bytes)), |e| {
            let narrow = e.weight(expr.cast(ty)?);
            e.redirect(at, narrow, &islands);
            if islands.is_empty() { e.remove(id) } else { Ok(()) }
        })?;
    }
    Ok(())
}

fn narrow_inputs(rw: &mut Rewriter<'_>, before: &Before, knob: &str, ty: DType) -> Result<()> {
    for id in rw.graph().inputs().to_vec() {
        let at = Outlet { node: id, slot: 0 };
        let narrowed = |user: &(NodeId, u16)| rw.graph().node(user.0).op == Op::Cast { to: ty } || before.islands.contains(&user.0);
        let done = rw.graph().users(at).iter().all(narrowed);
        if rw.graph().ty(at).dtype == DType::F32 && !done {
            let mut keep = before.readers(rw.graph(), at);
            rw.apply(id, Some(knob), Why::new("interface-stays-f32"), |e| {
                let narrow = e.add(Op::Cast { to: ty }, &[at], "narrow")?;
                keep.push(narrow.node);
                e.redirect(at, narrow, &keep);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Infers the node's type anew from its narrowed inputs, and puts an island around it where it needs one.
fn visit(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, before: &Before, knob: &str, id: NodeId, ty: DType) -> Result<()> {
    let node = rw.graph().node(id);
    if matches!(node.op, Op::Input | Op::Weight(_)) || rw.graph().inputs_of(id).is_empty() || before.islands.contains(&id) {
        return Ok(());
    }
    if let Some(types) = before.foreign.get(&id) {
        return keep_foreign(rw, knob, id, types, ty);
    }
    let op = node.op.clone();
    if !is_norm(&op) || sums_in_f32(&op, &node.outs[0].with_dtype(ty), cx.machine.target) {
        let op = if op == (Op::Cast { to: DType::F32 }) { Op::Cast { to: ty } } else { op };
        return rw.apply(id, Some(knob), Why::new("narrow").with("to", ty), |e| e.set_op(id, op));
    }
    rw.apply(id, Some(knob), Why::new("sums-need-f32").with("operator", op.name()), |e| {
        let mut wide = Vec::new();
        for input in e.graph().inputs_of(id) {
            wide.push(widened(e, input)?);
        }
        let inner = e.add(op, &wide, "")?;
        let narrow = e.add(Op::Cast { to: ty }, &[inner], "island")?;
        e.redirect(Outlet { node: id, slot: 0 }, narrow, &[]);
        e.remove(id)
    })
}

/// Lets a node compute in fp32: inputs that were narrowed already are cast back, and readers that are
/// to be narrow read its outputs through a cast.
fn keep_wide(rw: &mut Rewriter<'_>, before: &Before, knob: &str, id: NodeId, rule: &'static str, ty: DType) -> Result<()> {
    rw.decline(id, Some(knob), Why::new(rule).with("operator", rw.graph().node(id).op.name()));
    let narrowed: Vec<(u16, Outlet)> = (0..).zip(rw.graph().inputs_of(id)).filter(|(_, input)| rw.graph().ty(*input).dtype == ty).collect();
    let reads_wide = !matches!(rw.graph().node(id).op, Op::Cast { .. });
    rw.apply(id, Some(knob), Why::new(rule), |e| {
        let replaced = reads_wide && !narrowed.is_empty();
        let node = if replaced { with_wide_inputs(e, id, &narrowed)? } else { id };
        for slot in 0..e.graph().node(id).outs.len() as u16 {
            let (old, out) = (Outlet { node: id, slot }, Outlet { node, slot });
            let reads = |(user, _): &(NodeId, u16)| !before.islands.contains(user) && e.graph().node(*user).op != Op::Cast { to: ty };
            let others: Vec<(NodeId, u16)> = e.graph().users(old).into_iter().filter(reads).collect();
            if replaced {
                e.redirect(old, out, &[]);
            }
            if e.graph().ty(out).dtype == DType::F32 && !others.is_empty() {
                let cast = Op::Cast { to: ty };
                let narrow = if replaced { e.add(cast, &[out], "narrow")? } else { e.add_behind(cast, &[out], "narrow")? };
                others.into_iter().for_each(|(user, slot)| e.rewire_input(user, slot, narrow));
            }
        }
        if replaced { e.remove(id) } else { Ok(()) }
    })
}

/// The node once more, with these inputs in fp32.
fn with_wide_inputs(e: &mut Edit<'_>, id: NodeId, narrowed: &[(u16, Outlet)]) -> Result<NodeId> {
    let mut inputs = e.graph().inputs_of(id);
    for (slot, input) in narrowed {
        inputs[usize::from(*slot)] = widened(e, *input)?;
    }
    let op = e.graph().node(id).op.clone();
    Ok(e.add(op, &inputs, "")?.node)
}

/// The tensor in fp32; a constant as it was stored, not rounded and widened again.
fn widened(e: &mut Edit<'_>, input: Outlet) -> Result<Outlet> {
    let Some(expr) = e.graph().as_weight(input).cloned() else { return e.add(Op::Cast { to: DType::F32 }, &[input], "island") };
    let original = match expr.op() {
        WeightOp::Cast { of } if of.dtype() == DType::F32 => of.clone(),
        _ => expr.cast(DType::F32)?,
    };
    Ok(e.weight(original))
}

/// An unknown operator reads and writes the types that its file states.
fn keep_foreign(rw: &mut Rewriter<'_>, knob: &str, id: NodeId, types: &[DType], ty: DType) -> Result<()> {
    let (inputs, op) = (rw.graph().inputs_of(id), rw.graph().node(id).op.clone());
    rw.apply(id, Some(knob), Why::new("types-of-unknown-operator-stay"), |e| {
        let mut args = Vec::new();
        for (input, was) in inputs.into_iter().zip(types) {
            let narrowed = e.graph().ty(input).dtype != *was;
            args.push(if narrowed { widened(e, input)? } else { input });
        }
        let new = e.add(op, &args, "")?.node;
        for slot in 0..e.graph().node(id).outs.len() as u16 {
            let (old, out) = (Outlet { node: id, slot }, Outlet { node: new, slot });
            let float = e.graph().ty(out).dtype == DType::F32;
            let out = if float { e.add(Op::Cast { to: ty }, &[out], "narrow")? } else { out };
            e.redirect(old, out, &[]);
        }
        e.remove(id)
    })
}

fn is_norm(op: &Op) -> bool {
    matches!(op, Op::GroupNorm(_) | Op::InstanceNorm { .. } | Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::ReduceMean { .. })
}

fn widen_outputs(rw: &mut Rewriter<'_>, before: &Before, knob: &str) -> Result<()> {
    let outputs = rw.graph().outputs();
    let narrow: BTreeSet<Outlet> = before.wide.iter().map(|i| outputs[*i].1).filter(|o| rw.graph().ty(*o).dtype != DType::F32).collect();
    for outlet in narrow {
        rw.apply(outlet.node, Some(knob), Why::new("interface-stays-f32"), |e| {
            let wide = e.add_behind(Op::Cast { to: DType::F32 }, &[outlet], "widen")?;
            let readers: Vec<NodeId> = e.graph().users(outlet).into_iter().map(|(n, _)| n).collect();
            e.redirect(outlet, wide, &readers);
            Ok(())
        })?;
    }
    Ok(())
}
