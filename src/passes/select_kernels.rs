//! `select-kernels`: gives every raised operator a form that the provider runs.
//!
//! Which form is said by the row of the provider (`target`; facts in `docs/facts/ort.md` section 4): the CPU provider has fused
//! attention and QuickGelu but no GroupNorm, CUDA has a fused GroupNorm + SiLU on channels-last tensors of some channel counts,
//! TensorRT takes operators of the standard. What no row has a form for is written out in operators of the standard. Where a row
//! leaves open which kernel a temporal convolution runs best on, that is a knob per level.

mod forms;

use super::{Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::op::ForChunks;
use crate::ir::{NodeId, Op, OpGraph, Outlet, TensorType};
use crate::target::{Form, GroupNormKernel, Layout, Target, TemporalConv};

pub(super) struct SelectKernels;

static INFO: PassInfo = PassInfo {
    id: "select-kernels",
    summary: "give every raised operator a form that the provider runs",
    effect: Effect::Exact,
    asks: Some(Scope::Segment),
    requires: &[Property::Typed],
    establishes: &[Property::Lowered],
    example: "
before:
model m(x: f32[2, 3, 4]) -> y: f32[2, 3, 5] = %1
  %0 = Linear(%x, {param m/w: f32[5, 4]}, {param m/b: f32[5]}) : f32[2, 3, 5]
  %1 = Silu(%0) : f32[2, 3, 5]
after:
model m(x: f32[2, 3, 4]) -> y: f32[2, 3, 5] = %3
  %0 = Reshape{shape=[6, 4]}(%x) : f32[6, 4]
  %1 = Gemm{trans_b=true}(%0, {param m/w: f32[5, 4]}, {param m/b: f32[5]}) : f32[6, 5]
  %2 = Reshape{shape=[2, 3, 5]}(%1) : f32[2, 3, 5]
  %3 = QuickGelu{alpha=1}(%2) : f32[2, 3, 5]
",
};

impl Pass for SelectKernels {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, graph: &OpGraph, machine: &Machine) -> Vec<Knob> {
        if machine.target.forms.temporal_conv == TemporalConv::Flat {
            return Vec::new();
        }
        let sites = graph.nodes().into_iter().filter(|id| graph.node(*id).op == Op::TemporalConv && graph.node(*id).knob.is_none());
        let ids: std::collections::BTreeSet<String> = sites.map(|id| temporal_knob(graph, id)).collect();
        let about = "convolution over frames as a 3-D or a 2-D kernel";
        let knob = |id: String| Knob::exact(id, Scope::Segment, ["conv3d", "conv2d"], about);
        ids.into_iter().map(knob).collect()
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        lower(rw, cx, false)
    }
}

/// Lowers a graph, or the body of a region that a knob governs.
fn lower(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, is_body: bool) -> Result<()> {
    for id in rw.graph().nodes() {
        if rw.graph().contains(id) {
            visit(rw, cx, id, is_body)?;
        }
    }
    Ok(())
}

fn temporal_knob(graph: &OpGraph, id: NodeId) -> String {
    format!("{}.{}.temporal-conv", graph.name, graph.node(id).group)
}

fn visit(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, id: NodeId, is_body: bool) -> Result<()> {
    let node = rw.graph().node(id);
    // A foreign operator may have no output that anybody named.
    let Some(out) = node.outs.first().cloned() else { return Ok(()) };
    let (op, inputs) = (node.op.clone(), rw.graph().inputs_of(id));
    let governed = node.knob.clone();
    let knob = governed.as_deref();
    let gate = if op == Op::Linear { gate_reader(rw.graph(), id) } else { None };
    if let Some(gate) = gate {
        return forms::split_gate(rw, id, gate, cx.machine.target);
    }
    match &op {
        Op::TemporalConv => return temporal_conv(rw, cx, (id, is_body), &inputs, &out),
        Op::ForChunks(chunks) => return bodies(rw, cx, id, chunks),
        _ => {}
    }
    let target = cx.machine.target;
    let has = |form| target.has(form, out.dtype);
    let any_rank = inputs.iter().all(|i| target.has(Form::ProductOfAnyRank, rw.graph().ty(*i).dtype));
    let mut replace = |rule: &'static str, form: &dyn Fn(&mut super::Edit<'_>) -> Result<Outlet>| {
        rw.apply(id, knob, Why::new(rule).with("provider", target.key), |e| {
            let new = form(e)?;
            e.replace(Outlet { node: id, slot: 0 }, new)?;
            e.remove(id)
        })
    };
    match &op {
        Op::Linear if any_rank && inputs.len() == 2 && out.rank() > 2 => {
            replace("product-of-any-rank", &|e| e.add(Op::FusedMatMul, &inputs, ""))
        }
        Op::Linear => replace("gemm", &|e| forms::linear(e, &inputs, &out)),
        Op::Attention(a) if has(Form::FusedAttention) => replace("fused-attention", &|e| e.add(Op::MultiHeadAttention(*a), &inputs, "")),
        Op::Attention(a) => replace("attention-written-out", &|e| forms::attention(e, *a, &inputs, &out)),
        Op::GroupNorm(g) if fused_group_norm(&out, g.groups, target) => {
            replace("fused-group-norm", &|e| forms::group_norm_nhwc(e, *g, &inputs, &out))
        }
        Op::GroupNorm(g) if target.forms.layout == Layout::ChannelsLast && out.rank() > 2 => {
            replace("group-norm-by-channel", &|e| forms::group_norm_by_channel(e, *g, &inputs, &out, target))
        }
        Op::GroupNorm(g) => replace("group-norm-as-instance-norm", &|e| forms::group_norm(e, *g, &inputs, &out, target)),
        Op::RmsNorm { eps } => replace("rms-norm-written-out", &|e| forms::rms_norm(e, *eps, &inputs, &out)),
        Op::Silu => {
            let rule = if has(Form::QuickGelu) { "quick-gelu" } else { "silu-written-out" };
            replace(rule, &|e| forms::silu(e, inputs[0], "", target))
        }
        Op::Gelu { tanh } => replace("gelu", &|e| e.add(Op::Unary(forms::gelu(*tanh)), &inputs, "")),
        Op::GeGlu => replace("geglu-as-slices", &|e| forms::geglu(e, inputs[0], &out)),
        Op::RotaryEmbedding { heads } => replace("rotary-written-out", &|e| forms::rotary(e, *heads, &inputs, &out)),
        Op::Arange { .. } => Err(Box::new(Diagnostic::new("pass/not-lowered", "positions must have been folded to a constant"))),
        _ => Ok(()),
    }
}

/// A convolution over frames. What a knob governs already (it may be cut into tiles) has the plain form: its figures must not follow
/// another answer.
fn temporal_conv(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, (id, is_body): (NodeId, bool), inputs: &[Outlet], out: &TensorType) -> Result<()> {
    let mut knob = rw.graph().node(id).knob.as_deref().map(str::to_owned);
    let mut flat = cx.machine.target.forms.temporal_conv == TemporalConv::Flat;
    if !flat && knob.is_none() && !is_body {
        let own = temporal_knob(rw.graph(), id);
        flat = cx.choices.get(&own) == Some("conv2d");
        rw.tag(&[id], &own);
        knob = Some(own);
    }
    rw.apply(id, knob.as_deref(), Why::new(if flat { "temporal-conv-as-2d" } else { "temporal-conv-as-3d" }), |e| {
        let new = if flat { forms::temporal_2d(e, inputs, out)? } else { forms::temporal_3d(e, inputs)? };
        e.replace(Outlet { node: id, slot: 0 }, new)?;
        e.remove(id)
    })
}

/// Lowers the bodies of a chunked region.
fn bodies(rw: &mut Rewriter<'_>, cx: &PassCx<'_>, id: NodeId, chunks: &ForChunks) -> Result<()> {
    let mut lowered = chunks.clone();
    for (_, body) in &mut lowered.bodies {
        let unit = rw.unit().to_owned();
        let mut inner = rw.of_body(&unit, body);
        lower(&mut inner, cx, true)?;
        rw.extend(inner.finish());
    }
    let knob = rw.graph().node(id).knob.clone();
    rw.apply(id, knob.as_deref(), Why::new("bodies-lowered"), |e| e.set_op(id, Op::ForChunks(Box::new(lowered))))
}

/// The GeGlu that alone reads a linear layer, if it is so.
fn gate_reader(graph: &OpGraph, id: NodeId) -> Option<NodeId> {
    let out = Outlet { node: id, slot: 0 };
    match graph.users(out)[..] {
        [(reader, 0)] if !graph.is_output(out) && graph.node(reader).op == Op::GeGlu => {
            graph.inputs_of(id)[1..].iter().all(|w| graph.as_weight(*w).is_some()).then_some(reader)
        }
        _ => None,
    }
}

/// Is there a fused GroupNorm kernel for this tensor?
pub(super) fn fused_group_norm(ty: &TensorType, groups: i64, target: &Target) -> bool {
    let channels = ty.shape.get(1).and_then(crate::ir::Dim::as_const).unwrap_or(0);
    let fits = |k: &GroupNormKernel| k.groups == groups && k.channels.contains(&channels) && k.types.contains(&ty.dtype);
    ty.rank() > 2 && target.forms.group_norm.as_ref().is_some_and(fits)
}

/// Does the kernel that this norm will get for tensors of type `ty` sum in fp32?
pub(super) fn sums_in_f32(op: &Op, ty: &TensorType, target: &Target) -> bool {
    match op {
        // ONNX: stash_type defaults to float.
        Op::LayerNorm { .. } => true,
        Op::GroupNorm(g) => fused_group_norm(ty, g.groups, target),
        _ => false,
    }
}
