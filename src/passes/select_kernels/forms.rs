//! The forms themselves: each builds the operators that stand for one raised operator.

use crate::diag::Result;
use crate::ir::dim::product;
use crate::ir::op::{Attention, Binary, Conv, GroupNorm, Unary};
use crate::ir::{DType, Dim, NodeId, Op, Outlet, TensorType};
use crate::passes::written_attention::{COLUMNS, Chain, ROWS, attend, heads_apart};
use crate::passes::{Edit, Rewriter, Why};
use crate::target::{Form, Target};
use crate::weights::WeightExpr;

/// `Linear` as a 2-D matrix product: the kernel adds the bias and takes the weight as stored.
pub(super) fn linear(e: &mut Edit<'_>, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let ty = e.graph().ty(inputs[0]).clone();
    if ty.rank() == 2 {
        return e.add(Op::Gemm { trans_b: true }, inputs, "");
    }
    let (rows, k) = ty.shape.split_at(ty.rank() - 1);
    let flat = e.add(Op::Reshape { shape: vec![product(rows), k[0].clone()] }, &inputs[..1], "rows")?;
    let args: Vec<Outlet> = std::iter::once(flat).chain(inputs[1..].iter().copied()).collect();
    let y = e.add(Op::Gemm { trans_b: true }, &args, "")?;
    e.add(Op::Reshape { shape: out.shape.clone() }, &[y], "")
}

/// `GeGlu(Linear(x))` as two products over the halves of the weight: the wide tensor is never written nor cut.
///
/// With a fused [`Form::BiasGelu`], the bias of the gated half is added by the kernel of the activation and the other half's by `Gemm`, both over
/// rows: 0.83 of the time of two `Gemm` (CPU provider, 28672 rows, 64 to 256 columns), whose bias is a sweep of its own.
pub(super) fn split_gate(rw: &mut Rewriter<'_>, id: NodeId, gate: NodeId, target: &Target) -> Result<()> {
    let knob = rw.graph().node(gate).knob.clone();
    let inputs = rw.graph().inputs_of(id);
    let out = rw.graph().node(gate).outs[0].clone();
    rw.apply(gate, knob.as_deref(), Why::new("gate-split-by-weight"), |e| {
        let fused = target.has(Form::BiasGelu, out.dtype);
        let product = if fused { gate_fused(e, &inputs, &out)? } else { gate_by_gemm(e, &inputs, &out)? };
        e.replace(Outlet { node: gate, slot: 0 }, product)?;
        e.remove(gate)?;
        e.remove(id)
    })
}

fn gate_by_gemm(e: &mut Edit<'_>, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let args = halved(e, inputs, 0)?;
    let value = linear(e, &args, out)?;
    let args = halved(e, inputs, 1)?;
    let gated = linear(e, &args, out)?;
    let curved = e.add(Op::Unary(Unary::GeluErf), &[gated], "gelu")?;
    e.add(Op::Binary(Binary::Mul), &[value, curved], "")
}

fn gate_fused(e: &mut Edit<'_>, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let (value, gated) = (halved(e, inputs, 0)?, halved(e, inputs, 1)?);
    let [_, weight, bias] = gated[..] else {
        let value = e.add(Op::FusedMatMul, &value, "value")?;
        let gated = e.add(Op::FusedMatMul, &gated, "gate")?;
        let curved = e.add(Op::Unary(Unary::GeluErf), &[gated], "gelu")?;
        return e.add(Op::Binary(Binary::Mul), &[value, curved], "");
    };
    let rows = rows(e, inputs[0])?;
    let value = e.add(Op::Gemm { trans_b: true }, &[rows, value[1], value[2]], "value")?;
    let gated = e.add(Op::FusedMatMul, &[rows, weight], "gate")?;
    let curved = e.add(Op::BiasGelu, &[gated, bias], "gelu")?;
    let product = e.add(Op::Binary(Binary::Mul), &[value, curved], "")?;
    if out.rank() == 2 { Ok(product) } else { e.add(Op::Reshape { shape: out.shape.clone() }, &[product], "") }
}

/// A tensor as a matrix of its last axis.
fn rows(e: &mut Edit<'_>, x: Outlet) -> Result<Outlet> {
    let ty = e.graph().ty(x).clone();
    let (rows, k) = ty.shape.split_at(ty.rank() - 1);
    if rows.len() == 1 { Ok(x) } else { e.add(Op::Reshape { shape: vec![product(rows), k[0].clone()] }, &[x], "rows") }
}

/// The inputs of a linear layer with the first or second half of its outputs.
fn halved(e: &mut Edit<'_>, inputs: &[Outlet], half: u64) -> Result<Vec<Outlet>> {
    let mut args = vec![inputs[0]];
    for w in &inputs[1..] {
        let Some(expr) = e.graph().as_weight(*w).cloned() else { continue };
        let rows = expr.shape()[0] / 2;
        args.push(e.weight(expr.slice(0, half * rows, (half + 1) * rows)?));
    }
    Ok(args)
}

pub(super) fn gelu(tanh: bool) -> Unary {
    if tanh { Unary::GeluTanh } else { Unary::GeluErf }
}

/// Group norm as instance norm over `[n, groups, rest]`, then scale, bias and activation.
///
/// With [`Form::ChannelAffine`], scale and bias are one kernel: 0.69 to 0.87 of the time of the whole norm (CPU provider).
pub(super) fn group_norm(e: &mut Edit<'_>, g: GroupNorm, inputs: &[Outlet], out: &TensorType, target: &Target) -> Result<Outlet> {
    let n = out.shape[0].clone();
    let rest = product(&out.shape[1..]).div_floor(g.groups);
    let grouped = e.add(Op::Reshape { shape: vec![n, g.groups.into(), rest] }, &inputs[..1], "groups")?;
    let ones = constant(e, out.dtype, g.groups as usize, 1.0)?;
    let zeros = constant(e, out.dtype, g.groups as usize, 0.0)?;
    let norm = e.add(Op::InstanceNorm { eps: g.eps }, &[grouped, ones, zeros], "norm")?;
    let back = e.add(Op::Reshape { shape: out.shape.clone() }, &[norm], "groups")?;
    let y = if target.has(Form::ChannelAffine, out.dtype) {
        e.add(Op::ChannelAffine, &[back, inputs[1], inputs[2]], "affine")?
    } else {
        affine(e, back, inputs, out)?
    };
    if g.silu { silu(e, y, "silu", target) } else { Ok(y) }
}

/// Group norm by the statistics of each channel, which says nothing about the order of elements in memory: for providers whose convolutions
/// keep tensors channels-last, where a reshape of channels would turn the whole tensor round and back.
///
/// `var = mean_c(mean(x²) − mean(x)² + (mean(x) − m)²)` with `m = mean_c(mean(x))` over the channels `c` of a group: differences of large numbers
/// are taken within a channel alone. 0.44 of the time of an instance norm between two convolutions (OpenVINO, `[14, 64, 128, 128]`).
pub(super) fn group_norm_by_channel(
    e: &mut Edit<'_>,
    g: GroupNorm,
    inputs: &[Outlet],
    out: &TensorType,
    target: &Target,
) -> Result<Outlet> {
    let (n, c, shape) = (out.shape[0].clone(), out.shape[1].clone(), clip(&out.shape));
    let x = if shape.len() == out.rank() { inputs[0] } else { e.add(Op::Reshape { shape: shape.clone() }, &inputs[..1], "pixels")? };
    let space = Op::ReduceMean { axes: (2..shape.len()).collect() };
    let grouped = vec![n.clone(), g.groups.into(), c.div_floor(g.groups)];
    let binary = |e: &mut Edit<'_>, op, a, b, name| e.add(Op::Binary(op), &[a, b], name);
    let channel = e.add(space.clone(), &[x], "channel-mean")?;
    let square = binary(e, Binary::Mul, x, x, "square")?;
    let square = e.add(space, &[square], "channel-square")?;
    let squared = binary(e, Binary::Mul, channel, channel, "squared-mean")?;
    let within = binary(e, Binary::Sub, square, squared, "within")?;
    let channel = e.add(Op::Reshape { shape: grouped.clone() }, &[channel], "groups")?;
    let within = e.add(Op::Reshape { shape: grouped.clone() }, &[within], "groups")?;
    let mean = e.add(Op::ReduceMean { axes: vec![2] }, &[channel], "mean")?;
    let apart = binary(e, Binary::Sub, channel, mean, "apart")?;
    let apart = binary(e, Binary::Mul, apart, apart, "apart")?;
    let both = binary(e, Binary::Add, within, apart, "variance")?;
    let variance = e.add(Op::ReduceMean { axes: vec![2] }, &[both], "variance")?;
    let eps = constant(e, out.dtype, 1, g.eps)?;
    let safe = binary(e, Binary::Add, variance, eps, "eps")?;
    let root = e.add(Op::Unary(Unary::Sqrt), &[safe], "root")?;
    let table = vec![Dim::Const(1), g.groups.into(), c.div_floor(g.groups)];
    let scale = e.add(Op::Reshape { shape: table.clone() }, &inputs[1..2], "scale")?;
    let bias = e.add(Op::Reshape { shape: table }, &inputs[2..3], "bias")?;
    let scale = binary(e, Binary::Div, scale, root, "scale")?;
    let shift = binary(e, Binary::Mul, mean, scale, "shift")?;
    let shift = binary(e, Binary::Sub, bias, shift, "shift")?;
    let mut per_channel = vec![Dim::Const(1); shape.len()];
    (per_channel[0], per_channel[1]) = (n, c);
    let scale = e.add(Op::Reshape { shape: per_channel.clone() }, &[scale], "scale")?;
    let shift = e.add(Op::Reshape { shape: per_channel }, &[shift], "shift")?;
    let scaled = binary(e, Binary::Mul, x, scale, "scale")?;
    let y = binary(e, Binary::Add, scaled, shift, "bias")?;
    let y = if g.silu { silu(e, y, "silu", target)? } else { y };
    if shape.len() == out.rank() { Ok(y) } else { e.add(Op::Reshape { shape: out.shape.clone() }, &[y], "pixels") }
}

/// Frames and pixels as two axes, which is what convolutions over frames work on.
fn clip(shape: &[Dim]) -> Vec<Dim> {
    if shape.len() < 5 { shape.to_vec() } else { vec![shape[0].clone(), shape[1].clone(), shape[2].clone(), product(&shape[3..])] }
}

/// Scale and bias for each channel as a product and a sum.
fn affine(e: &mut Edit<'_>, x: Outlet, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let mut per_channel = vec![Dim::Const(1); out.rank() - 1];
    per_channel[0] = out.shape[1].clone();
    let scale = e.add(Op::Reshape { shape: per_channel.clone() }, &inputs[1..2], "scale")?;
    let bias = e.add(Op::Reshape { shape: per_channel }, &inputs[2..3], "bias")?;
    let scaled = e.add(Op::Binary(Binary::Mul), &[x, scale], "scale")?;
    e.add(Op::Binary(Binary::Add), &[scaled, bias], "bias")
}

/// Group norm by the fused channels-last kernel; its scale and bias are f32.
pub(super) fn group_norm_nhwc(e: &mut Edit<'_>, g: GroupNorm, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let s = &out.shape;
    let four = vec![s[0].clone(), s[1].clone(), product(&s[2..s.len() - 1]), s[s.len() - 1].clone()];
    let x = e.add(Op::Reshape { shape: four.clone() }, &inputs[..1], "images")?;
    let last = e.add(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x], "channels-last")?;
    let mut args = vec![last];
    for w in &inputs[1..] {
        args.push(match e.graph().as_weight(*w).cloned() {
            Some(expr) => e.weight(expr.cast(DType::F32)?),
            None => e.add(Op::Cast { to: DType::F32 }, &[*w], "affine")?,
        });
    }
    let y = e.add(Op::GroupNormNhwc(g), &args, "")?;
    let first = e.add(Op::Transpose { perm: vec![0, 3, 1, 2] }, &[y], "channels-first")?;
    e.add(Op::Reshape { shape: s.clone() }, &[first], "images")
}

pub(super) fn rms_norm(e: &mut Edit<'_>, eps: f32, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let x = inputs[0];
    let square = e.add(Op::Binary(Binary::Mul), &[x, x], "square")?;
    let mean = e.add(Op::ReduceMean { axes: vec![out.rank() - 1] }, &[square], "mean")?;
    let eps = constant(e, out.dtype, 1, eps)?;
    let safe = e.add(Op::Binary(Binary::Add), &[mean, eps], "eps")?;
    let root = e.add(Op::Unary(Unary::Sqrt), &[safe], "root")?;
    let norm = e.add(Op::Binary(Binary::Div), &[x, root], "norm")?;
    e.add(Op::Binary(Binary::Mul), &[norm, inputs[1]], "scale")
}

/// `softmax(scale · q · kᵀ + mask) · v` for each head.
pub(super) fn attention(e: &mut Edit<'_>, a: Attention, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let types: Vec<TensorType> = inputs[..3].iter().map(|i| e.graph().ty(*i).clone()).collect();
    let mut heads = |i: usize, perm| {
        let add = &mut |op, inputs: &[Outlet], name: &str| e.add(op, inputs, name);
        heads_apart(add, (inputs[i], &types[i]), a.heads, perm, "heads")
    };
    let (q, k, v) = (heads(0, ROWS)?, heads(1, COLUMNS)?, heads(2, ROWS)?);
    let scale = constant(e, out.dtype, 1, a.scale)?;
    let q = e.add(Op::Binary(Binary::Mul), &[q, scale], "scale")?;
    let chain = Chain { mask: inputs.get(3).copied(), island: None, joined: out.shape.clone(), names: ["weights", "values"] };
    attend(&mut |op, inputs: &[Outlet], name: &str| e.add(op, inputs, name), [q, k, v], chain)
}

/// `x · sigmoid(x)`: one kernel, or the operators of the standard.
pub(super) fn silu(e: &mut Edit<'_>, x: Outlet, name: &str, target: &Target) -> Result<Outlet> {
    if target.has(Form::QuickGelu, e.graph().ty(x).dtype) {
        return e.add(Op::QuickGelu { alpha: 1.0 }, &[x], name);
    }
    let gate = e.add(Op::Unary(Unary::Sigmoid), &[x], "sigmoid")?;
    e.add(Op::Binary(Binary::Mul), &[x, gate], name)
}

/// `value · gelu(gate)` over the halves of the last axis.
pub(super) fn geglu(e: &mut Edit<'_>, x: Outlet, out: &TensorType) -> Result<Outlet> {
    let axis = out.rank() - 1;
    let half = out.shape[axis].clone();
    let value = e.add(Op::Slice { axis, start: Dim::Const(0), end: half.clone() }, &[x], "value")?;
    let gate = e.add(Op::Slice { axis, start: half.clone(), end: half * 2 }, &[x], "gate")?;
    let curved = e.add(Op::Unary(Unary::GeluErf), &[gate], "gelu")?;
    e.add(Op::Binary(Binary::Mul), &[value, curved], "")
}

/// `[x₁, x₂] → [x₁·cos − x₂·sin, x₂·cos + x₁·sin]` over the halves of each head.
pub(super) fn rotary(e: &mut Edit<'_>, heads: i64, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let (b, l) = (out.shape[0].clone(), out.shape[1].clone());
    let d = out.shape[2].div_floor(heads);
    let half = d.div_floor(2);
    let x = e.add(Op::Reshape { shape: vec![b, l.clone(), heads.into(), d.clone()] }, &inputs[..1], "heads")?;
    let table =
        |e: &mut Edit<'_>, i: usize| e.add(Op::Reshape { shape: vec![l.clone(), Dim::Const(1), half.clone()] }, &inputs[i..=i], "table");
    let (cos, sin) = (table(e, 1)?, table(e, 2)?);
    let first = e.add(Op::Slice { axis: 3, start: Dim::Const(0), end: half.clone() }, &[x], "first")?;
    let second = e.add(Op::Slice { axis: 3, start: half.clone(), end: d }, &[x], "second")?;
    let mul = |e: &mut Edit<'_>, a, b| e.add(Op::Binary(Binary::Mul), &[a, b], "turn");
    let (fc, ss, sc, fs) = (mul(e, first, cos)?, mul(e, second, sin)?, mul(e, second, cos)?, mul(e, first, sin)?);
    let a = e.add(Op::Binary(Binary::Sub), &[fc, ss], "turn")?;
    let b = e.add(Op::Binary(Binary::Add), &[sc, fs], "turn")?;
    let joined = e.add(Op::Concat { axis: 3 }, &[a, b], "join")?;
    e.add(Op::Reshape { shape: out.shape.clone() }, &[joined], "join")
}

fn temporal_kernel(e: &Edit<'_>, inputs: &[Outlet]) -> i64 {
    e.graph().ty(inputs[1]).shape[2].as_const().unwrap_or(1)
}

/// Convolution over frames by the 3-D kernel.
pub(super) fn temporal_3d(e: &mut Edit<'_>, inputs: &[Outlet]) -> Result<Outlet> {
    let k = temporal_kernel(e, inputs);
    let conv = Conv { kernel: vec![k, 1, 1], strides: vec![1; 3], pads: vec![(k / 2, k / 2), (0, 0), (0, 0)], groups: 1 };
    e.add(Op::Conv(conv), inputs, "")
}

/// Convolution over frames by the 2-D kernel on `[b, c, f, h·w]`: the reshapes are free, the weight keeps its bytes.
pub(super) fn temporal_2d(e: &mut Edit<'_>, inputs: &[Outlet], out: &TensorType) -> Result<Outlet> {
    let k = temporal_kernel(e, inputs);
    let flat = |t: &TensorType| vec![t.shape[0].clone(), t.shape[1].clone(), t.shape[2].clone(), product(&t.shape[3..])];
    let (x, w) = (e.graph().ty(inputs[0]).clone(), e.graph().ty(inputs[1]).clone());
    let mut args = vec![e.add(Op::Reshape { shape: flat(&x) }, &inputs[..1], "pixels")?];
    args.push(e.add(Op::Reshape { shape: flat(&w) }, &inputs[1..2], "weight")?);
    args.extend(&inputs[2..]);
    let conv = Conv { kernel: vec![k, 1], strides: vec![1; 2], pads: vec![(k / 2, k / 2), (0, 0)], groups: 1 };
    let y = e.add(Op::Conv(conv), &args, "")?;
    e.add(Op::Reshape { shape: out.shape.clone() }, &[y], "pixels")
}

fn constant(e: &mut Edit<'_>, dtype: DType, len: usize, value: f32) -> Result<Outlet> {
    let literal = WeightExpr::literal_f32(&[len as u64], &vec![value; len])?;
    let expr = if dtype == DType::F32 { literal } else { literal.cast(dtype)? };
    Ok(e.weight(expr))
}
