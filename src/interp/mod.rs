//! f64 and f32 evaluator of every operator: the oracle of exactness and the evaluator of constant folding.
//!
//! - [`eval_op`] evaluates one operator, [`run()`] a whole graph, [`eval_literals`] one operator on literal constants.
//! - All values of a graph are arrays of one type `T` ([`Float`]: f32 or f64), whatever their element type says. Integers and
//!   booleans are whole numbers in `T` (exact up to 2^24 in f32, 2^53 in f64). Half precision is simulated: products and sums
//!   accumulate in `T`, and under [`Rounding::AsTyped`] each result is rounded to the element type of its tensor.
//! - Sums of norms, means and softmax accumulate in f64 in both modes, so that f32 shows the rounding of values, not of an
//!   arbitrary summation order.
//! - Sizes are checked before anything is allocated; what does not fit is the diagnostic `model/evaluate` or `model/shape`.
//! - [`run_pipeline`] evaluates a pipeline around models that its caller runs; what stands between models is f32.
//! - Not here: operators that vidc does not know ([`Op::Foreign`]); speed beyond what tests and folding need.

mod attention;
mod check;
mod conv;
mod elementwise;
mod float;
mod fold;
mod layout;
mod linear;
mod norm;
mod pipeline;
mod run;

#[cfg(test)]
pub(crate) mod arb;
#[cfg(test)]
pub(crate) mod arb_op;
#[cfg(test)]
mod axes_tests;
#[cfg(test)]
mod golden;

use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};

pub use float::{Float, Rounding};
pub use fold::{eval_literals, literal, to_literal};
pub use pipeline::{Caller, run_pipeline};
pub use run::{run, run_with};

use crate::diag::{Diagnostic, Result};
use crate::ir::Op;
use crate::ir::op::Binary;

/// Evaluates one operator. The result of a `Cast` is rounded to its type as [`Float::ROUNDING`] says; a `ForChunks` may hold
/// literal constants only (see [`run()`] for others).
///
/// # Errors
/// `model/shape` if the inputs do not fit the operator, `model/evaluate` if it cannot be evaluated.
pub fn eval_op<T: Float>(op: &Op, inputs: &[&ArrayD<T>]) -> Result<Vec<ArrayD<T>>> {
    match op {
        Op::ForChunks(chunks) => run::for_chunks(chunks, inputs, &mut literal, T::ROUNDING),
        Op::Cast { to } => Ok(vec![float::settle(evaluate(op, inputs)?, *to, T::ROUNDING)]),
        Op::Split { axis, .. } => split(op, *axis, inputs),
        _ => Ok(vec![evaluate(op, inputs)?]),
    }
}

/// The pieces of a `Split`, one after the other.
fn split<T: Float>(op: &Op, axis: usize, inputs: &[&ArrayD<T>]) -> Result<Vec<ArrayD<T>>> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|x| x.shape()).collect();
    check::output_shape(op, &shapes)?;
    let Op::Split { sizes, .. } = op else { return Err(fail(op, "it is no split")) };
    let mut at = 0;
    let piece = |size: &i64| {
        let range = ndarray::Slice::from(at..at + *size as isize);
        at += *size as isize;
        inputs[0].slice_axis(ndarray::Axis(axis), range).as_standard_layout().into_owned()
    };
    Ok(sizes.iter().map(piece).collect())
}

/// Evaluates an operator with one output, in `T` throughout.
fn evaluate<T: Float>(op: &Op, inputs: &[&ArrayD<T>]) -> Result<ArrayD<T>> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|x| x.shape()).collect();
    let shape = check::output_shape(op, &shapes)?;
    let standard: Vec<CowArray<'_, T, IxDyn>> = inputs.iter().map(|x| x.as_standard_layout()).collect();
    let views: Vec<ArrayViewD<'_, T>> = standard.iter().map(|x| x.view()).collect();
    let out = kernel(op, &views, &shape)?;
    debug_assert_eq!(out.shape(), shape, "{} yields another shape than inferred", op.name());
    Ok(if out.is_standard_layout() { out } else { out.as_standard_layout().into_owned() })
}

/// The arithmetic of an operator whose inputs were checked. Inputs are in standard layout; `shape` is the output's.
fn kernel<T: Float>(op: &Op, x: &[ArrayViewD<'_, T>], shape: &[usize]) -> Result<ArrayD<T>> {
    Ok(match op {
        Op::Arange { .. } => layout::arange(shape[0]),
        Op::Unary(f) => elementwise::unary(*f, &x[0]),
        Op::Silu => elementwise::quick_gelu(1.0, &x[0]),
        Op::QuickGelu { alpha } => elementwise::quick_gelu(*alpha, &x[0]),
        Op::Gelu { tanh } => elementwise::gelu(*tanh, &x[0]),
        Op::GeGlu => elementwise::ge_glu(&x[0], shape),
        Op::Binary(f) => elementwise::binary(*f, &x[0], &x[1], shape),
        Op::FusedMatMul => linear::product(&x[0], &x[1], None, shape),
        Op::BiasGelu => elementwise::gelu(false, &elementwise::binary(Binary::Add, &x[0], &x[1], shape).view()),
        Op::FusedConv(c) => elementwise::binary(Binary::Add, &conv::conv(c, &x[0], &x[1], x.get(2), shape).view(), &x[3], shape),
        Op::ChannelAffine => norm::channel_affine(&x[0], &x[1], &x[2]),
        Op::MatMul => linear::matmul(&x[0], &x[1], shape),
        Op::Gemm { trans_b: false } => linear::product(&x[0], &x[1].t(), x.get(2), shape),
        Op::Gemm { trans_b: true } | Op::Linear => linear::product(&x[0], &x[1], x.get(2), shape),
        Op::ConvTranspose(c) => conv::conv_transpose(c, &x[0], &x[1], x.get(2), shape),
        Op::Conv(c) => conv::conv(c, &x[0], &x[1], x.get(2), shape),
        Op::TemporalConv => conv::conv(&conv::temporal(&x[1]), &x[0], &x[1], x.get(2), shape),
        Op::Attention(a) | Op::MultiHeadAttention(a) => attention::attention(*a, x, shape),
        Op::RotaryEmbedding { heads } => attention::rotary(*heads as usize, x),
        Op::Softmax { axis } => norm::softmax(&x[0], *axis),
        Op::InstanceNorm { eps } => norm::group_norm(&x[0], &x[1], &x[2], &norm::per_channel(&x[0], *eps)),
        Op::GroupNorm(g) => norm::group_norm(&x[0], &x[1], &x[2], g),
        Op::GroupNormNhwc(g) => norm::group_norm_nhwc(&x[0], &x[1], &x[2], g),
        Op::LayerNorm { eps } => norm::layer_norm(&x[0], &x[1], &x[2], *eps),
        Op::RmsNorm { eps } => norm::rms_norm(&x[0], &x[1], *eps),
        Op::ReduceMean { axes } => norm::reduce_mean(&x[0], axes),
        Op::Reshape { .. } | Op::Expand { .. } | Op::Transpose { .. } | Op::Slice { .. } => layout::moved(op, &x[0], shape),
        Op::Cast { .. } => x[0].to_owned(),
        Op::Concat { axis } => layout::concat(*axis, x),
        Op::Upsample { factors } => layout::upsample(&x[0], factors),
        Op::Pad { before, .. } => layout::pad(&x[0], before, shape),
        Op::Input | Op::Weight(_) | Op::ForChunks(_) | Op::Split { .. } | Op::Foreign(_) => {
            return Err(fail(op, "it is no operator of its own"));
        }
    })
}

/// The diagnostic that an operator cannot be evaluated.
#[expect(clippy::unnecessary_box_returns, reason = "`Result` carries diagnostics in a box")]
fn fail(op: &Op, why: impl std::fmt::Display) -> Box<Diagnostic> {
    Box::new(Diagnostic::new("model/evaluate", format!("{} cannot be evaluated: {why}", op.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::op::{Attention, Conv, Foreign, GroupNorm, Unary};
    use crate::ir::{DType, Dim};

    fn array(shape: &[usize], values: &[f64]) -> ArrayD<f64> {
        ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).expect("the test counts right")
    }

    fn check(op: &Op, inputs: &[ArrayD<f64>], expect: &ArrayD<f64>) {
        let got = &eval_op(op, &inputs.iter().collect::<Vec<_>>()).expect("it evaluates")[0];
        assert_eq!(got.shape(), expect.shape(), "{}", op.name());
        let worst = got.iter().zip(expect).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-12, "{} gives {got}, not {expect}", op.name());
    }

    fn refuse(op: &Op, shapes: &[&[usize]], expect: &str) {
        let inputs: Vec<ArrayD<f64>> = shapes.iter().map(|s| ArrayD::zeros(*s)).collect();
        let d = eval_op(op, &inputs.iter().collect::<Vec<_>>()).expect_err(op.name());
        assert_eq!(d.message, expect);
    }

    #[test]
    fn elementwise_by_hand() {
        check(&Op::Unary(Unary::Sigmoid), &[array(&[2], &[0.0, f64::INFINITY])], &array(&[2], &[0.5, 1.0]));
        check(&Op::Binary(Binary::Pow), &[array(&[2, 1], &[2.0, 3.0]), array(&[2], &[1.0, 2.0])], &array(&[2, 2], &[2.0, 4.0, 3.0, 9.0]));
        check(&Op::Arange { len: Dim::Const(3) }, &[], &array(&[3], &[0.0, 1.0, 2.0]));
        check(&Op::GeGlu, &[array(&[1, 4], &[5.0, 7.0, 0.0, 100.0])], &array(&[1, 2], &[0.0, 700.0]));
    }

    #[test]
    fn products_by_hand() {
        let (a, b) = (array(&[1, 2], &[1.0, 2.0]), array(&[2, 2], &[1.0, 10.0, 100.0, 1000.0]));
        check(&Op::MatMul, &[a.clone(), b.clone()], &array(&[1, 2], &[201.0, 2010.0]));
        check(&Op::Linear, &[a, b, array(&[2], &[0.5, 0.0])], &array(&[1, 2], &[21.5, 2100.0]));
        let (x, w) = (array(&[1, 1, 1, 3], &[1.0, 2.0, 3.0]), array(&[1, 1, 1, 2], &[10.0, 1.0]));
        let conv = Conv { kernel: vec![1, 2], strides: vec![1, 2], pads: vec![(0, 0), (1, 0)], groups: 1 };
        check(&Op::Conv(conv), &[x, w], &array(&[1, 1, 1, 2], &[1.0, 23.0]));
    }

    #[test]
    fn kernels_that_do_two_things_by_hand() {
        let x = array(&[1, 2, 1], &[1.0, 2.0]);
        let two = |a, b| array(&[2], &[a, b]);
        check(&Op::ChannelAffine, &[x.clone(), two(10.0, 100.0), two(0.5, -1.0)], &array(&[1, 2, 1], &[10.5, 199.0]));
        check(&Op::BiasGelu, &[array(&[1, 2], &[60.0, -1.0]), two(40.0, 1.0)], &array(&[1, 2], &[100.0, 0.0]));
        check(&Op::FusedMatMul, &[array(&[1, 1, 2], &[1.0, 2.0]), array(&[1, 2], &[3.0, 4.0])], &array(&[1, 1, 1], &[11.0]));
        let conv = Conv { kernel: vec![1], strides: vec![1], pads: vec![(0, 0)], groups: 1 };
        let onto = [x, array(&[1, 2, 1], &[3.0, 4.0]), array(&[1], &[0.5]), array(&[1, 1, 1], &[100.0])];
        check(&Op::FusedConv(conv), &onto, &array(&[1, 1, 1], &[111.5]));
    }

    #[test]
    fn one_key_attention_returns_its_value() {
        let q = array(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let kv = [array(&[1, 1, 2], &[9.0, 9.0]), array(&[1, 1, 2], &[5.0, 6.0])];
        let op = Op::Attention(Attention { heads: 2, scale: 1.0 });
        check(&op, &[q, kv[0].clone(), kv[1].clone()], &array(&[1, 2, 2], &[5.0, 6.0, 5.0, 6.0]));
    }

    #[test]
    fn a_mask_moves_scores_before_the_softmax() {
        let half = array(&[1, 1, 2], &[0.0, 0.0]);
        let v = array(&[1, 2, 2], &[1.0, 10.0, 3.0, 30.0]);
        let k = array(&[1, 2, 2], &[0.0; 4]);
        // Equal scores; the mask of head 0 takes the first key away, that of head 1 leaves both.
        let mask = array(&[1, 2, 1, 2], &[f64::NEG_INFINITY, 0.0, 0.0, 0.0]);
        let op = Op::Attention(Attention { heads: 2, scale: 1.0 });
        check(&op, &[half, k, v, mask], &array(&[1, 1, 2], &[3.0, 20.0]));
    }

    #[test]
    fn layout_by_hand() {
        let x = array(&[1, 2], &[1.0, 2.0]);
        check(&Op::Upsample { factors: vec![2, 2] }, std::slice::from_ref(&x), &array(&[2, 4], &[1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]));
        check(
            &Op::Pad { before: vec![0, 1], after: vec![1, 0] },
            std::slice::from_ref(&x),
            &array(&[2, 3], &[0.0, 1.0, 2.0, 0.0, 0.0, 0.0]),
        );
        check(&Op::Slice { axis: 1, start: 1.into(), end: 2.into() }, std::slice::from_ref(&x), &array(&[1, 1], &[2.0]));
        check(&Op::ReduceMean { axes: vec![0, 1] }, std::slice::from_ref(&x), &array(&[1, 1], &[1.5]));
        check(&Op::Concat { axis: 0 }, &[x.clone(), x.clone()], &array(&[2, 2], &[1.0, 2.0, 1.0, 2.0]));
        let pieces = eval_op(&Op::Split { axis: 1, sizes: vec![1, 0, 1] }, &[&x]).expect("it evaluates");
        assert_eq!(pieces, [array(&[1, 1], &[1.0]), array(&[1, 0], &[]), array(&[1, 1], &[2.0])]);
        check(&Op::Cast { to: DType::I64 }, &[array(&[2], &[-1.5, 2.9])], &array(&[2], &[-1.0, 2.0]));
        check(&Op::Cast { to: DType::Bool }, &[array(&[2], &[-1.5, 0.0])], &array(&[2], &[1.0, 0.0]));
    }

    #[test]
    fn a_cast_rounds_in_f32_and_not_in_f64() {
        let third = 1.0 / 3.0;
        let in_f32 = eval_op(&Op::Cast { to: DType::F16 }, &[&ArrayD::from_elem(IxDyn(&[1]), third as f32)]).expect("cast");
        assert_eq!(in_f32[0][0].to_bits(), 0.333_251_95_f32.to_bits()); // 0x3555
        check(&Op::Cast { to: DType::F16 }, &[array(&[1], &[third])], &array(&[1], &[third]));
    }

    #[test]
    fn what_cannot_be_evaluated_says_why() {
        refuse(&Op::Reshape { shape: vec![Dim::symbol("n")] }, &[&[2]], "Reshape cannot be evaluated: the size `n` has no value");
        refuse(&Op::Reshape { shape: vec![Dim::Const(-2), Dim::Const(-3)] }, &[&[6]], "Reshape cannot be evaluated: -2 is no size");
        refuse(&Op::ReduceMean { axes: vec![2] }, &[&[6]], "ReduceMean cannot be evaluated: there is no axis 2");
        refuse(&Op::MatMul, &[&[2, 3], &[4, 5]], "MatMul does not take [2, 3], [4, 5]: inner extents 3 and 4 differ");
        let heads = Op::Attention(Attention { heads: 2, scale: 1.0 });
        refuse(&heads, &[&[1, 1, 4], &[1, 1, 4], &[1, 1, 3]], "Attention cannot be evaluated: 3 channels of v make no 2 heads");
        let half = Conv { kernel: vec![3, 3], strides: vec![1], pads: vec![(1, 1)], groups: 1 };
        refuse(&Op::Conv(half), &[&[1, 1, 4, 4], &[1, 1, 3, 3]], "Conv cannot be evaluated: 2 kernel extents, 1 strides and 1 pads");
        let norm = GroupNorm { groups: 2, eps: 1e-5, silu: false };
        refuse(&Op::GroupNorm(norm), &[&[1, 3], &[3], &[3]], "GroupNorm does not take [1, 3], [3], [3]: axis 1 (3) is no multiple of 2");
        let foreign = Foreign { domain: "x".into(), op_type: "Magic".into(), ..Foreign::default() };
        refuse(&Op::Foreign(Box::new(foreign)), &[], "Magic cannot be evaluated: it is of the domain `x`, which vidc does not know");
    }
}
