//! Literal constants: to and from arrays, and one operator on them (constant folding).

use half::{bf16, f16};
use ndarray::ArrayD;

use super::check;
use super::float::Float;
use super::{eval_op, fail};
use crate::diag::{Diagnostic, Result};
use crate::ir::{DType, Op, TensorType, infer};
use crate::weights::{WeightExpr, WeightOp};

/// A folded constant is at most this many bytes: what is larger stays an expression that `plan` evaluates.
const LARGEST_RESULT: u64 = 1 << 20;
/// Operands are at most this many bytes together, which bounds the time of a product.
const LARGEST_OPERANDS: usize = 16 << 20;

/// Evaluates an operator with one output on literals, in f64, and rounds the result to its inferred type.
///
/// # Errors
/// `model/shape` if the inputs do not fit. `model/evaluate` if an operand is no literal or malformed, if operands exceed 16 MiB
/// or the result 1 MiB, if a whole number leaves the range of its type, or for operators that are never folded (convolution,
/// attention, chunks, foreign ones).
pub fn eval_literals(op: &Op, inputs: &[&WeightExpr]) -> Result<WeightExpr> {
    let never =
        matches!(op, Op::Conv(_) | Op::TemporalConv | Op::Attention(_) | Op::MultiHeadAttention(_) | Op::ForChunks(_) | Op::Foreign(_));
    if never {
        return Err(fail(op, "its result is never folded"));
    }
    if inputs.iter().map(|e| bytes_of(e).len()).sum::<usize>() > LARGEST_OPERANDS {
        return Err(fail(op, "its operands are too large to fold"));
    }
    let arrays: Vec<ArrayD<f64>> = inputs.iter().map(|e| literal(e)).collect::<Result<_>>()?;
    let shapes: Vec<&[usize]> = arrays.iter().map(ndarray::ArrayBase::shape).collect();
    let elements: usize = check::output_shape(op, &shapes)?.iter().product();
    let dtype = result_type(op, inputs)?;
    if (elements as u64).saturating_mul(dtype.size()) > LARGEST_RESULT {
        return Err(fail(op, "its result is too large to fold"));
    }
    let outs = eval_op(op, &arrays.iter().collect::<Vec<_>>())?;
    to_literal(&outs[0], dtype)
}

fn result_type(op: &Op, inputs: &[&WeightExpr]) -> Result<DType> {
    let types: Vec<TensorType> = inputs.iter().map(|e| TensorType::new(e.dtype(), e.shape().iter().copied())).collect();
    let outs = infer::infer(op, &types.iter().collect::<Vec<_>>())
        .map_err(|why| Diagnostic::new("model/shape", format!("{} does not take its constants: {why}", op.name())))?;
    Ok(outs[0].dtype)
}

fn bytes_of(expr: &WeightExpr) -> &[u8] {
    if let WeightOp::Literal(bytes) = expr.op() { bytes } else { &[] }
}

/// The values of a literal, integers and booleans as whole numbers.
///
/// # Errors
/// `model/evaluate` if the expression is no literal, or its bytes are not as many as its shape says.
pub fn literal<T: Float>(expr: &WeightExpr) -> Result<ArrayD<T>> {
    let WeightOp::Literal(bytes) = expr.op() else {
        return Err(Diagnostic::new("model/evaluate", format!("the constant `{expr}` is no literal")).into());
    };
    let dtype = expr.dtype();
    let shape: Vec<usize> = expr.shape().iter().map(|d| *d as usize).collect();
    let values = bytes.chunks_exact(dtype.size() as usize).map(|b| T::from_f64(decode(dtype, b))).collect();
    Ok(ArrayD::from_shape_vec(shape, values).expect("a literal has as many bytes as its shape says"))
}

/// The literal of this type with the values rounded to it.
///
/// # Errors
/// `model/evaluate` if the type is integer and a value is not in its range.
pub fn to_literal<T: Float>(x: &ArrayD<T>, dtype: DType) -> Result<WeightExpr> {
    let mut bytes = Vec::with_capacity(x.len() * dtype.size() as usize);
    for v in x {
        if !encode(dtype, v.to_f64(), &mut bytes) {
            return Err(Diagnostic::new("model/evaluate", format!("{v:?} is not in the range of {dtype}")).into());
        }
    }
    let shape: Vec<u64> = x.shape().iter().map(|d| *d as u64).collect();
    WeightExpr::literal(dtype, &shape, &bytes)
}

macro_rules! read {
    ($t:ty, $b:expr) => {
        <$t>::from_le_bytes($b.try_into().expect("chunks have the size of an element"))
    };
}

fn decode(dtype: DType, b: &[u8]) -> f64 {
    match dtype {
        DType::F32 => f64::from(read!(f32, b)),
        DType::F16 => read!(f16, b).to_f64(),
        DType::BF16 => read!(bf16, b).to_f64(),
        DType::F64 => read!(f64, b),
        DType::I64 => read!(i64, b) as f64,
        DType::I32 => f64::from(read!(i32, b)),
        DType::U8 => f64::from(b[0]),
        DType::I8 => f64::from(read!(i8, b)),
        DType::Bool => f64::from(u8::from(b[0] != 0)),
        DType::Opaque => unreachable!("no constant is opaque"),
    }
}

/// Appends an element; false if an integer type cannot hold it.
fn encode(dtype: DType, x: f64, out: &mut Vec<u8>) -> bool {
    // f64 counts whole numbers one by one up to 2^53 only.
    let (low, high) = match dtype {
        DType::I64 => (-9_007_199_254_740_992.0, 9_007_199_254_740_992.0),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::U8 => (0.0, 255.0),
        DType::I8 => (-128.0, 127.0),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    match dtype {
        DType::F32 => out.extend((x as f32).to_le_bytes()),
        // Exact: the number is one that the type holds.
        DType::F16 => out.extend(f16::from_f64(dtype.rounded(x)).to_le_bytes()),
        DType::BF16 => out.extend(bf16::from_f64(dtype.rounded(x)).to_le_bytes()),
        DType::F64 => out.extend(x.to_le_bytes()),
        DType::I64 => out.extend((x as i64).to_le_bytes()),
        DType::I32 => out.extend((x as i32).to_le_bytes()),
        DType::U8 => out.push(x as u8),
        DType::I8 => out.extend((x as i8).to_le_bytes()),
        DType::Bool => out.push(u8::from(x != 0.0)),
        DType::Opaque => return false,
    }
    dtype.is_float() || dtype == DType::Bool || (low..=high).contains(&x.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Dim;
    use crate::ir::op::{Binary, Conv};

    fn constant(dtype: DType, shape: &[usize], values: &[f64]) -> WeightExpr {
        to_literal(&ArrayD::from_shape_vec(shape, values.to_vec()).expect("the test counts right"), dtype).expect("in range")
    }

    fn check(op: &Op, inputs: &[WeightExpr], expect: &WeightExpr) {
        assert_eq!(&eval_literals(op, &inputs.iter().collect::<Vec<_>>()).expect("it folds"), expect, "{}", op.name());
    }

    fn refuse(op: &Op, inputs: &[WeightExpr], expect: &str) {
        assert_eq!(eval_literals(op, &inputs.iter().collect::<Vec<_>>()).expect_err(op.name()).message, expect);
    }

    #[test]
    fn literals_go_there_and_back_in_every_type() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I64, DType::I32, DType::U8, DType::I8, DType::Bool] {
            let values = ArrayD::from_shape_vec(vec![2], vec![0.0, 1.0]).expect("two");
            assert_eq!(literal::<f64>(&to_literal(&values, dtype).expect("in range")).expect("literal"), values, "{dtype}");
        }
    }

    #[test]
    fn constants_fold_in_their_own_type() {
        let ints = [constant(DType::I64, &[2], &[7.0, -7.0]), constant(DType::I64, &[1], &[2.0])];
        check(&Op::Binary(Binary::Div), &ints, &constant(DType::I64, &[2], &[3.0, -3.0]));
        check(&Op::Cast { to: DType::F16 }, &[constant(DType::F32, &[1], &[0.1])], &constant(DType::F16, &[1], &[0.1]));
        check(&Op::Arange { len: Dim::Const(2) }, &[], &constant(DType::F32, &[2], &[0.0, 1.0]));
    }

    #[test]
    fn folding_is_bounded() {
        let one = constant(DType::F32, &[1], &[1.0]);
        let huge = |n: i64| Op::Expand { shape: vec![Dim::Const(n), Dim::Const(n)] };
        refuse(&huge(1 << 10), std::slice::from_ref(&one), "Expand cannot be evaluated: its result is too large to fold");
        refuse(&huge(1 << 31), std::slice::from_ref(&one), "Expand cannot be evaluated: its output is too large");
        refuse(&Op::Conv(Conv::square(1, 1, 0)), std::slice::from_ref(&one), "Conv cannot be evaluated: its result is never folded");
        refuse(&Op::Cast { to: DType::I8 }, &[constant(DType::F32, &[1], &[300.0])], "300.0 is not in the range of i8");
        let stored = WeightExpr::param("unet", "w", DType::F32, &[1]).unwrap();
        refuse(&Op::Silu, &[stored], "the constant `param unet/w` is no literal");
    }
}
