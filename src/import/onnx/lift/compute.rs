//! Operators that compute.

use super::{Lifted, one};
use crate::import::onnx::reader::{Reader, UpgradedNode};
use crate::ir::op::{Binary, Conv, GroupNorm, Unary};
use crate::ir::{DType, Dim, Op, Outlet};
use crate::weights::{WeightExpr, products_stay_normal};

const UNARY: [Unary; 8] = [Unary::Sigmoid, Unary::Tanh, Unary::Erf, Unary::Exp, Unary::Sqrt, Unary::Sin, Unary::Cos, Unary::Neg];
const BINARY: [Binary; 5] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Pow];

pub(super) fn unary(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    let function = UNARY.into_iter().find(|u| u.name() == node.op_type)?;
    one(r.add(node, Op::Unary(function), &[x])?)
}

pub(super) fn binary(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let (x, y) = (node.input(0)?, node.input(1)?);
    let function = BINARY.into_iter().find(|b| b.name() == node.op_type)?;
    if !r.is_float(x) || r.dtype(x) != r.dtype(y) {
        return None;
    }
    one(r.add(node, Op::Binary(function), &[x, y])?)
}

pub(super) fn gelu(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    let tanh = match node.text("approximate") {
        None | Some("none") => false,
        Some("tanh") => true,
        Some(_) => return None,
    };
    one(r.add(node, Op::Gelu { tanh }, &[x])?)
}

/// `x · sigmoid(alpha · x)`
pub(super) fn swish(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    let alpha = node.float("alpha", 1.0);
    let op = if alpha == 1.0 { Op::Silu } else { Op::QuickGelu { alpha } };
    one(r.add(node, op, &[x])?)
}

pub(super) fn quick_gelu(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    let alpha = node.float("alpha", 1.702);
    let op = if alpha == 1.0 { Op::Silu } else { Op::QuickGelu { alpha } };
    one(r.add(node, op, &[x])?)
}

pub(super) fn matmul(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let (x, y) = (node.input(0)?, node.input(1)?);
    if !r.is_float(x) || r.dtype(x) != r.dtype(y) {
        return None;
    }
    one(r.add(node, Op::MatMul, &[x, y])?)
}

/// `alpha · x · w + beta · b`: factors go into constants, a transposed or broadcast operand needs one too. A `beta` of 0 means no bias,
/// whatever is in it. Factors that 16-bit constants cannot take up stay with the node.
pub(super) fn gemm(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let (x, mut w, bias) = (node.input(0)?, node.input(1)?, node.input(2));
    if !r.is_float(x) || node.int("transA", 0) != 0 {
        return None;
    }
    let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
    if alpha != 1.0 {
        let scaled = scaled(r.graph.as_weight(w)?, alpha)?;
        w = r.constant(scaled);
    }
    let trans_b = node.int("transB", 0) != 0;
    let mut inputs = vec![x, w];
    if let Some(bias) = bias.filter(|_| beta != 0.0) {
        let n = r.graph.ty(w).shape.get(usize::from(!trans_b))?.clone();
        inputs.push(row_bias(r, bias, &n, beta)?);
    }
    one(r.add(node, Op::Gemm { trans_b }, &inputs)?)
}

/// A constant times a factor, unless it is of 16 bits and the products leave the normal numbers of its type.
fn scaled(expr: &WeightExpr, factor: f32) -> Option<WeightExpr> {
    let scaled = expr.scale(f64::from(factor)).ok()?;
    products_stay_normal(&scaled, 0).ok()?.then_some(scaled)
}

/// A bias as a vector of `n`.
fn row_bias(r: &mut Reader<'_, '_>, bias: Outlet, n: &Dim, beta: f32) -> Option<Outlet> {
    if beta == 1.0 && r.graph.ty(bias).shape == [n.clone()] {
        return Some(bias);
    }
    let n = u64::try_from(n.as_const()?).ok()?;
    let expr = r.graph.as_weight(bias).filter(|e| e.elements() == n)?.reshape(&[n]).ok()?;
    let expr = if beta == 1.0 { expr } else { scaled(&expr, beta)? };
    Some(r.constant(expr))
}

pub(super) fn conv(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let (x, w) = (node.input(0)?, node.input(1)?);
    let spatial = r.rank(x).checked_sub(2).filter(|s| (1..=3).contains(s) && r.is_float(x))?;
    let kernel: Vec<i64> = r.graph.ty(w).shape.get(2..)?.iter().map(Dim::as_const).collect::<Option<_>>()?;
    if node.ints("dilations").is_some_and(|d| d.iter().any(|n| *n != 1)) || kernel.len() != spatial {
        return None;
    }
    let strides = node.ints("strides").map_or_else(|| vec![1; spatial], <[i64]>::to_vec);
    let pads = match node.text("auto_pad") {
        None | Some("NOTSET") => node.ints("pads").map_or_else(|| vec![0; 2 * spatial], <[i64]>::to_vec),
        Some("VALID") => vec![0; 2 * spatial],
        Some(mode) => same_pads(r, x, &kernel, &strides, mode == "SAME_LOWER")?,
    };
    if strides.len() != spatial || pads.len() != 2 * spatial || pads.iter().any(|p| *p < 0) {
        return None;
    }
    let pads = (0..spatial).map(|i| (pads[i], pads[i + spatial])).collect();
    let inputs: Vec<Outlet> = [Some(x), Some(w), node.input(2)].into_iter().flatten().collect();
    one(r.add(node, Op::Conv(Conv { kernel, strides, pads, groups: node.int("group", 1) }), &inputs)?)
}

/// Zeros so that there is one output a stride; the odd one goes behind, or in front.
fn same_pads(r: &Reader<'_, '_>, x: Outlet, kernel: &[i64], strides: &[i64], lower: bool) -> Option<Vec<i64>> {
    let extents: Vec<i64> = r.graph.ty(x).shape[2..].iter().map(Dim::as_const).collect::<Option<_>>()?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for ((n, k), s) in extents.iter().zip(kernel).zip(strides) {
        let outputs = n.checked_add(s.checked_sub(1)?)?.checked_div(*s)?;
        let total = outputs.checked_sub(1)?.checked_mul(*s)?.checked_add(*k)?.checked_sub(*n)?.max(0);
        let (small, large) = (total / 2, total - total / 2);
        before.push(if lower { large } else { small });
        after.push(if lower { small } else { large });
    }
    before.extend(after);
    Some(before)
}

/// Before opset 13 the axes from the given one on are one axis.
pub(super) fn softmax(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    let rank = r.rank(x);
    let axis = UpgradedNode::axis(node.int("axis", if node.version < 13 { 1 } else { -1 }), rank)?;
    if node.version < 13 && axis + 1 < rank {
        let shape = r.graph.ty(x).shape.clone();
        let rows = crate::ir::dim::product(&shape[..axis]);
        let flat = vec![rows, crate::ir::dim::product(&shape[axis..])];
        let flat = r.add(node, Op::Reshape { shape: flat }, &[x])?;
        let y = r.add(node, Op::Softmax { axis: 1 }, &[flat])?;
        return one(r.add(node, Op::Reshape { shape }, &[y])?);
    }
    one(r.add(node, Op::Softmax { axis }, &[x])?)
}

pub(super) fn instance_norm(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let inputs = [node.input(0).filter(|x| r.is_float(*x))?, node.input(1)?, node.input(2)?];
    one(r.add(node, Op::InstanceNorm { eps: node.float("epsilon", 1e-5) }, &inputs)?)
}

pub(super) fn layer_norm(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let (x, scale) = (node.input(0).filter(|x| r.is_float(*x))?, node.input(1)?);
    let axis = UpgradedNode::axis(node.int("axis", -1), r.rank(x))?;
    if axis + 1 != r.rank(x) || !node.one_output() || r.dtype(scale) != r.dtype(x) || node.int("stash_type", 1) != 1 {
        return None;
    }
    let bias = match node.input(2) {
        Some(bias) => bias,
        None => filled(r, scale, 0.0)?,
    };
    one(r.add(node, Op::LayerNorm { eps: node.float("epsilon", 1e-5) }, &[x, scale, bias])?)
}

/// A constant vector as long as another.
fn filled(r: &mut Reader<'_, '_>, like: Outlet, value: f32) -> Option<Outlet> {
    let ty = r.graph.ty(like).clone();
    let shape: Vec<u64> = ty.dims()?.into_iter().map(|d| u64::try_from(d).ok()).collect::<Option<_>>()?;
    let count = shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d)).filter(|n| *n <= 1 << 20)? as usize;
    let expr = WeightExpr::literal_f32(&shape, &vec![value; count]).and_then(|e| e.cast(ty.dtype)).ok()?;
    Some(r.constant(expr))
}

pub(super) fn rms_norm(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let (x, scale) = (node.input(0).filter(|x| r.is_float(*x))?, node.input(1)?);
    let axis = UpgradedNode::axis(node.int("axis", -1), r.rank(x))?;
    if axis + 1 != r.rank(x) || r.dtype(scale) != r.dtype(x) || node.int("stash_type", 1) != 1 {
        return None;
    }
    one(r.add(node, Op::RmsNorm { eps: node.float("epsilon", 1e-5) }, &[x, scale])?)
}

/// Scale and bias of a channel each; before opset 21 they were of a group.
pub(super) fn group_norm(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    if node.version < 21 || node.int("stash_type", 1) != 1 {
        return None;
    }
    let norm = GroupNorm { groups: node.int("num_groups", 0), eps: node.float("epsilon", 1e-5), silu: false };
    one(r.add(node, Op::GroupNorm(norm), &[x, node.input(1)?, node.input(2)?])?)
}

/// `x · s + (b - m · s)` with `s = scale / sqrt(var + eps)`: a product and a sum that fold into what stands before.
pub(super) fn batch_norm(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.dtype(*x) == DType::F32 && r.rank(*x) >= 2)?;
    if node.int("training_mode", 0) != 0 || !node.one_output() {
        return None;
    }
    let parts: Vec<Outlet> = (1..5).map(|i| node.input(i).filter(|p| r.graph.as_weight(*p).is_some())).collect::<Option<_>>()?;
    let channels = r.graph.ty(x).shape[1].clone();
    if parts.iter().any(|p| r.graph.ty(*p).shape != [channels.clone()]) {
        return None;
    }
    let mut shape = vec![channels];
    shape.extend(std::iter::repeat_n(Dim::Const(1), r.rank(x) - 2));
    let eps = r.constant(WeightExpr::literal_f32(&[], &[node.float("epsilon", 1e-5)]).ok()?);
    let binary = |r: &mut Reader<'_, '_>, op, a, b| r.add(node, Op::Binary(op), &[a, b]);
    let variance = binary(r, Binary::Add, parts[3], eps)?;
    let deviation = r.add(node, Op::Unary(Unary::Sqrt), &[variance])?;
    let scale = binary(r, Binary::Div, parts[0], deviation)?;
    let shift = binary(r, Binary::Mul, parts[2], scale)?;
    let shift = binary(r, Binary::Sub, parts[1], shift)?;
    let scale = r.add(node, Op::Reshape { shape: shape.clone() }, &[scale])?;
    let shift = r.add(node, Op::Reshape { shape }, &[shift])?;
    let scaled = binary(r, Binary::Mul, x, scale)?;
    one(binary(r, Binary::Add, scaled, shift)?)
}

pub(super) fn reduce_mean(r: &mut Reader<'_, '_>, node: &UpgradedNode<'_>) -> Lifted {
    let x = node.input(0).filter(|x| r.is_float(*x))?;
    let rank = r.rank(x);
    let given = match node.input(1) {
        Some(axes) => r.known_integers(axes)?,
        None => Vec::new(),
    };
    if given.is_empty() && node.int("noop_with_empty_axes", 0) != 0 {
        return one(x);
    }
    let mut axes: Vec<usize> = given.iter().map(|a| UpgradedNode::axis(*a, rank)).collect::<Option<_>>()?;
    if axes.is_empty() {
        axes = (0..rank).collect();
    }
    axes.sort_unstable();
    axes.dedup();
    let mean = r.add(node, Op::ReduceMean { axes }, &[x])?;
    if node.int("keepdims", 1) != 0 {
        return one(mean);
    }
    let shape = node.extents(r, 0, mean)?;
    one(r.add(node, Op::Reshape { shape }, &[mean])?)
}
