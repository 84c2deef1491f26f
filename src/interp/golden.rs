//! Every operator against the reference evaluator of the `onnx` package, whose results `tools/golden/operators.py` wrote to
//! `tests/data/operators`. The inputs are computed here as they are there.

use ndarray::ArrayD;

use super::arb::{distance, wave};
use super::eval_op;
use crate::ir::Op;
use crate::ir::op::{Attention, Conv, GroupNorm, Unary};

/// The operator on `wave` inputs of these shapes gives the stored array, in f64 and in f32.
fn check(name: &str, op: &Op, shapes: &[&[usize]]) {
    let path = format!("{}/tests/data/operators/{name}.npy", env!("CARGO_MANIFEST_DIR"));
    let expect: ArrayD<f64> = ndarray_npy::read_npy(&path).expect(&path);
    let inputs: Vec<ArrayD<f64>> = shapes.iter().enumerate().map(|(i, s)| wave(i, s)).collect();
    let singles: Vec<ArrayD<f32>> = inputs.iter().map(|x| x.mapv(|v| v as f32)).collect();
    let got = &eval_op(op, &inputs.iter().collect::<Vec<_>>()).expect(name)[0];
    let single = &eval_op(op, &singles.iter().collect::<Vec<_>>()).expect(name)[0];
    assert_eq!(got.shape(), expect.shape(), "{name}");
    let (far, far_single) = (distance(got, &expect), distance(&single.mapv(f64::from), &expect));
    assert!(far < 1e-12, "{name} in f64: {far:e}");
    assert!(far_single < 1e-6, "{name} in f32: {far_single:e}");
}

fn conv(kernel: &[i64], strides: &[i64], pads: &[(i64, i64)], groups: i64) -> Op {
    Op::Conv(Conv { kernel: kernel.to_vec(), strides: strides.to_vec(), pads: pads.to_vec(), groups })
}

fn norm(groups: i64, eps: f32, silu: bool) -> GroupNorm {
    GroupNorm { groups, eps, silu }
}

#[test]
fn convolutions() {
    check("conv_stride_pad_groups", &conv(&[3, 3], &[2, 1], &[(1, 2), (0, 1)], 2), &[&[2, 4, 7, 6], &[6, 2, 3, 3], &[6]]);
    check("conv_3x3", &Op::Conv(Conv::square(3, 1, 1)), &[&[1, 3, 5, 5], &[4, 3, 3, 3], &[4]]);
    check("conv_1x1_no_bias", &Op::Conv(Conv::square(1, 1, 0)), &[&[2, 3, 4, 5], &[4, 3, 1, 1]]);
    check("conv_1d_depthwise", &conv(&[4], &[3], &[(2, 1)], 4), &[&[1, 4, 9], &[4, 1, 4]]);
    check(
        "conv_transpose",
        &Op::ConvTranspose(Conv { kernel: vec![4, 3], strides: vec![2, 3], pads: vec![(1, 2), (0, 1)], groups: 1 }),
        &[&[2, 3, 4, 5], &[3, 2, 4, 3], &[2]],
    );
    check("conv_3d", &conv(&[3, 2, 3], &[1, 2, 2], &[(2, 0), (0, 1), (1, 1)], 1), &[&[1, 2, 4, 5, 6], &[3, 2, 3, 2, 3], &[3]]);
    check("temporal_conv", &Op::TemporalConv, &[&[2, 3, 5, 2, 3], &[4, 3, 3, 1, 1], &[4]]);
}

#[test]
fn norms() {
    check("group_norm_4d", &Op::GroupNorm(norm(3, 1e-3, false)), &[&[2, 6, 3, 4], &[6], &[6]]);
    check("group_norm_5d_silu", &Op::GroupNorm(norm(2, 1e-5, true)), &[&[1, 4, 3, 2, 5], &[4], &[4]]);
    check("group_norm_nhwc_silu", &Op::GroupNormNhwc(norm(2, 1e-3, true)), &[&[2, 3, 4, 6], &[6], &[6]]);
    check("instance_norm", &Op::InstanceNorm { eps: 1e-3 }, &[&[2, 3, 4, 5], &[3], &[3]]);
    check("layer_norm", &Op::LayerNorm { eps: 1e-3 }, &[&[2, 3, 8], &[8], &[8]]);
    check("rms_norm", &Op::RmsNorm { eps: 1e-3 }, &[&[2, 3, 8], &[8]]);
    check("softmax", &Op::Softmax { axis: 1 }, &[&[2, 3, 4]]);
    check("reduce_mean", &Op::ReduceMean { axes: vec![1, 3] }, &[&[2, 3, 4, 5]]);
}

#[test]
fn attention_and_its_embedding() {
    let a = Attention { heads: 2, scale: 0.625 };
    check("attention", &Op::Attention(a), &[&[2, 5, 6], &[2, 7, 6], &[2, 7, 4]]);
    check("attention", &Op::MultiHeadAttention(a), &[&[2, 5, 6], &[2, 7, 6], &[2, 7, 4]]);
    check("rotary", &Op::RotaryEmbedding { heads: 2 }, &[&[2, 5, 8], &[5, 2], &[5, 2]]);
}

#[test]
fn activations() {
    check("gelu_erf", &Op::Gelu { tanh: false }, &[&[2, 9]]);
    check("gelu_erf", &Op::Unary(Unary::GeluErf), &[&[2, 9]]);
    check("gelu_tanh", &Op::Gelu { tanh: true }, &[&[2, 9]]);
    check("ge_glu", &Op::GeGlu, &[&[2, 3, 8]]);
    check("silu", &Op::Silu, &[&[2, 9]]);
    check("silu", &Op::QuickGelu { alpha: 1.0 }, &[&[2, 9]]);
}

#[test]
fn products() {
    check("gemm", &Op::Gemm { trans_b: true }, &[&[3, 4], &[5, 4], &[5]]);
    check("gemm", &Op::Linear, &[&[3, 4], &[5, 4], &[5]]);
    check("matmul_broadcast", &Op::MatMul, &[&[2, 1, 3, 4], &[3, 4, 5]]);
}

#[test]
fn layout() {
    check("upsample", &Op::Upsample { factors: vec![1, 1, 2, 3] }, &[&[1, 2, 3, 2]]);
    check("pad", &Op::Pad { before: vec![0, 1, 2], after: vec![1, 0, 3] }, &[&[2, 3, 4]]);
    check("transpose", &Op::Transpose { perm: vec![2, 0, 3, 1] }, &[&[2, 3, 4, 5]]);
}
