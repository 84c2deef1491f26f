//! `assign-precision`: one element type for a whole model, with fp32 islands where 16 bits would lose the sums.
//!
//! The interface stays fp32: a cast stands behind every input and before every output. Weights become cast expressions, which
//! cost nothing at run time. Norms whose kernel does not sum in fp32 by itself get a cast to fp32 before and one back behind
//! (an *island*); softmax gets its island where attention is written out (`tile-attention`) and has it inside the fused kernel.
//! Effect: rounding. One knob per model: its type changes every tensor that crosses segments.

use std::collections::BTreeMap;

use super::select_kernels::sums_in_f32;
use super::{Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::Result;
use crate::hwdb::{Engine, Machine, Precision};
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet};
use crate::units::Bytes;

pub(super) struct AssignPrecision;

static INFO: PassInfo = PassInfo {
    id: "assign-precision",
    summary: "one element type per model, with fp32 islands",
    effect: Effect::Rounding,
    requires: &[Property::Bound],
    establishes: &[Property::Typed],
    example: "
choose: m.precision=f16
before:
model m(x: f32[1, 4]) -> y: f32[1, 4] = %1
  %0 = Linear(%x, {param m/w}) : f32[1, 4]
  %1 = Silu(%0) : f32[1, 4]
after:
model m(x: f32[1, 4]) -> y: f32[1, 4] = %3
  %0 = Cast{to=f16}(%x) : f16[1, 4]
  %1 = Linear(%0, {cast[f16](param m/w)}) : f16[1, 4]
  %2 = Silu(%1) : f16[1, 4]
  %3 = Cast{to=f32}(%2) : f32[1, 4]
",
};

/// The knob of a model.
pub fn knob_id(model: &str) -> String {
    format!("{model}.precision")
}

/// What an answer means to the cost model.
pub fn precision(answer: Option<&str>) -> Precision {
    match answer {
        Some("tf32") => Precision::Tf32,
        Some("f16") => Precision::F16,
        Some("bf16") => Precision::Bf16,
        _ => Precision::F32,
    }
}

fn element_type(p: Precision) -> DType {
    match p {
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
        _ => DType::F32,
    }
}

impl Pass for AssignPrecision {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, graph: &OpGraph, machine: &Machine) -> Vec<Knob> {
        // 16-bit floats on the CPU provider are fp32 kernels between casts: never faster, so not on offer (docs/facts/ort.md 4).
        if machine.engine == Engine::OnnxRuntimeCpu {
            return Vec::new();
        }
        let offered = [("tf32", Precision::Tf32), ("f16", Precision::F16), ("bf16", Precision::Bf16)];
        let fits = |p: Precision| machine.peaks.supports(p) && !(graph.needs_f32 && p == Precision::F16);
        let domain = std::iter::once("f32".into()).chain(offered.iter().filter(|(_, p)| fits(*p)).map(|(w, _)| (*w).into())).collect();
        let id = knob_id(&graph.name);
        vec![Knob {
            id,
            scope: Scope::Global,
            domain,
            effect: Effect::Rounding,
            about: "element type of the model, fp32 islands kept".into(),
        }]
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        let knob = knob_id(&rw.graph().name);
        let ty = element_type(precision(cx.choices.get(&knob)));
        if ty == DType::F32 {
            return Ok(());
        }
        narrow_constants(rw, &knob, ty)?;
        narrow_inputs(rw, &knob, ty)?;
        for id in rw.graph().nodes() {
            visit(rw, cx, &knob, id, ty)?;
        }
        widen_outputs(rw, &knob)
    }
}

fn narrow_constants(rw: &mut Rewriter<'_>, knob: &str, ty: DType) -> Result<()> {
    for id in rw.graph().nodes() {
        let at = Outlet { node: id, slot: 0 };
        let Some(expr) = rw.graph().as_weight(at).cloned().filter(|e| e.dtype() == DType::F32) else { continue };
        let bytes = rw.graph().ty(at).bytes().unwrap_or(0) / 2;
        rw.apply(id, Some(knob), Why::new("stored-narrow").with("bytes", Bytes(bytes)), |e| {
            let narrow = e.weight(expr.cast(ty)?);
            e.redirect(at, narrow, &[]);
            e.remove(id)
        })?;
    }
    Ok(())
}

fn narrow_inputs(rw: &mut Rewriter<'_>, knob: &str, ty: DType) -> Result<()> {
    for id in rw.graph().inputs().to_vec() {
        let at = Outlet { node: id, slot: 0 };
        if rw.graph().ty(at).dtype == DType::F32 {
            rw.apply(id, Some(knob), Why::new("interface-stays-f32"), |e| {
                let narrow = e.add(Op::Cast { to: ty }, &[at], "narrow")?;
                e.redirect(at, narrow, &[narrow.node]);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Infers the node's type anew from its narrowed inputs, and puts an island around it where it needs one.
fn visit(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, knob: &str, id: NodeId, ty: DType) -> Result<()> {
    let node = rw.graph().node(id);
    if matches!(node.op, Op::Input | Op::Weight(_) | Op::Foreign(_)) || rw.graph().inputs_of(id).is_empty() {
        return Ok(());
    }
    if !is_norm(&node.op) || sums_in_f32(&node.op, &node.outs[0], cx.machine) {
        return rw.apply(id, Some(knob), Why::new("narrow").with("to", ty), |e| e.reinfer(id));
    }
    let op = node.op.clone();
    rw.apply(id, Some(knob), Why::new("sums-need-f32").with("operator", op.name()), |e| {
        let mut wide = Vec::new();
        for input in e.graph().inputs_of(id) {
            wide.push(match e.graph().as_weight(input).cloned() {
                Some(expr) => e.weight(expr.cast(DType::F32)?),
                None => e.add(Op::Cast { to: DType::F32 }, &[input], "island")?,
            });
        }
        let inner = e.add(op, &wide, "")?;
        let narrow = e.add(Op::Cast { to: ty }, &[inner], "island")?;
        e.redirect(Outlet { node: id, slot: 0 }, narrow, &[]);
        e.remove(id)
    })
}

fn is_norm(op: &Op) -> bool {
    matches!(op, Op::GroupNorm(_) | Op::InstanceNorm { .. } | Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::ReduceMean { .. })
}

fn widen_outputs(rw: &mut Rewriter<'_>, knob: &str) -> Result<()> {
    let narrow: BTreeMap<Outlet, ()> =
        rw.graph().outputs().iter().filter(|(_, o)| rw.graph().ty(*o).dtype != DType::F32).map(|(_, o)| (*o, ())).collect();
    for outlet in narrow.into_keys() {
        rw.apply(outlet.node, Some(knob), Why::new("interface-stays-f32"), |e| {
            let wide = e.add_behind(Op::Cast { to: DType::F32 }, &[outlet], "widen")?;
            let readers: Vec<NodeId> = e.graph().users(outlet).into_iter().map(|(n, _)| n).collect();
            e.redirect(outlet, wide, &readers);
            Ok(())
        })?;
    }
    Ok(())
}
