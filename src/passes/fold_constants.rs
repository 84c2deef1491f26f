//! `fold-constants`: computes at compile time what depends on constants only.
//!
//! What a weight expression can hold (rearrangements, elementwise functions, broadcasting, matrix products) becomes one, which costs
//! nothing until a plan is written; weights need not be bound for it. All operators over small literals (positions, frequency
//! tables) are evaluated by `interp` in f64 and rounded once, whole numbers exactly. What is left of constants is declined with
//! a reason: a result larger than [`LARGEST_GROWN`] and than twice its operands (it would have to be stored where an operator
//! makes it from little), work beyond [`MOST_WORK`], operators that no expression holds, outputs of the graph. Always exact; no knob.

use super::{Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::Result;
use crate::interp;
use crate::ir::op::{Binary, Unary};
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet, TensorType};
use crate::units::Bytes;
use crate::weights::{Arithmetic, Function, WeightExpr, WeightOp, evaluate};

pub(super) struct FoldConstants;

/// Larger results stay expressions; larger operands are not evaluated by `interp`.
const LARGEST_LITERAL: u64 = 1 << 20;
/// Results up to this size are stored however small their operands are.
const LARGEST_GROWN: u64 = 1 << 20;
/// Multiplications that one expression may take: seconds on one core while a plan is written.
const MOST_WORK: u64 = 1 << 33;

static INFO: PassInfo = PassInfo {
    id: "fold-constants",
    summary: "compute at compile time what depends on constants only",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[1, 2, 3]) -> y: f32[1, 2, 3] = %1
  %0 = Reshape{shape=[1, 2, 1]}({param m/scale: f32[2]}) : f32[1, 2, 1]
  %1 = Mul(%x, %0) : f32[1, 2, 3]
after:
model m(x: f32[1, 2, 3]) -> y: f32[1, 2, 3] = %0
  %0 = Mul(%x, {reshape[1, 2, 1](param m/scale: f32[2])}) : f32[1, 2, 3]
",
};

impl Pass for FoldConstants {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        for id in rw.graph().nodes() {
            let node = rw.graph().node(id);
            if matches!(node.op, Op::Input | Op::Weight(_)) || node.outs.len() != 1 {
                continue;
            }
            let inputs: Option<Vec<WeightExpr>> = rw.graph().inputs_of(id).iter().map(|i| rw.graph().as_weight(*i).cloned()).collect();
            let Some(inputs) = inputs else { continue };
            let (name, bytes) = (node.op.name().to_owned(), node.outs[0].bytes().unwrap_or(0));
            match folded(rw.graph(), id, &inputs) {
                Ok(expr) => rw.apply(id, None, Why::new("constant").with("bytes", Bytes(bytes)), |e| {
                    let constant = e.weight(expr);
                    e.replace(Outlet { node: id, slot: 0 }, constant)?;
                    e.remove(id)
                })?,
                Err(rule) => rw.decline(id, None, Why::new(rule).with("operator", &*name).with("bytes", Bytes(bytes))),
            }
        }
        Ok(())
    }
}

/// The constant that an operator over constants yields, or why it stays an operator.
fn folded(graph: &OpGraph, id: NodeId, inputs: &[WeightExpr]) -> std::result::Result<WeightExpr, &'static str> {
    let node = graph.node(id);
    let out = &node.outs[0];
    if graph.is_output(Outlet { node: id, slot: 0 }) {
        return Err("an-output-is-computed");
    }
    if is_never_folded(&node.op) {
        return Err("never-folded");
    }
    let bytes = out.bytes().ok_or("size-unknown")?;
    let given: u64 = inputs.iter().map(WeightExpr::byte_len).sum();
    // Literals first: a rearranged literal must stay one, for what reads it to fold as well.
    if bytes <= LARGEST_LITERAL && given <= LARGEST_LITERAL && inputs.iter().all(|i| matches!(i.op(), WeightOp::Literal(_))) {
        return literal(&node.op, inputs, out);
    }
    let expr = expression(&node.op, inputs, out).map_err(|_| "beyond-an-expression")?.ok_or("no-expression-holds-it")?;
    if bytes > LARGEST_GROWN.max(given.saturating_mul(2)) {
        return Err("larger-than-its-operands");
    }
    if expr.work() > MOST_WORK {
        return Err("too-much-work");
    }
    Ok(expr)
}

fn is_never_folded(op: &Op) -> bool {
    matches!(
        op,
        Op::Foreign(_)
            | Op::ForChunks(_)
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::FusedConv(_)
            | Op::Split { .. }
            | Op::TemporalConv
            | Op::Attention(_)
            | Op::MultiHeadAttention(_)
    )
}

/// The value of an operator over literals. The evaluator counts in f64, so whole numbers are computed as an expression.
fn literal(op: &Op, inputs: &[WeightExpr], out: &TensorType) -> std::result::Result<WeightExpr, &'static str> {
    let floats = out.dtype.is_float() && inputs.iter().all(|i| i.dtype().is_float());
    if !floats && let Some(expr) = expression(op, inputs, out).map_err(|_| "beyond-an-expression")? {
        let values = evaluate(&expr).map_err(|_| "not-defined")?;
        return WeightExpr::literal(values.dtype, &values.shape, &values.bytes).map_err(|_| "not-defined");
    }
    interp::eval_literals(op, &inputs.iter().collect::<Vec<_>>()).map_err(|_| "not-evaluated")
}

/// The weight expression of an operator, if one holds it.
fn expression(op: &Op, inputs: &[WeightExpr], out: &TensorType) -> Result<Option<WeightExpr>> {
    let (Some(first), Some(dims)) = (inputs.first(), extents(&out.shape)) else { return Ok(None) };
    let made = match (op, inputs) {
        (Op::Reshape { .. }, _) => first.reshape(&dims)?,
        (Op::Expand { .. }, _) => first.expand(&dims)?,
        (Op::Transpose { perm }, _) => first.transpose(perm)?,
        (Op::Cast { to }, _) => first.cast(*to)?,
        (Op::Concat { axis }, _) => WeightExpr::concat(inputs, *axis)?,
        (Op::Slice { axis, start, end }, _) => match (start.as_const(), end.as_const()) {
            (Some(s), Some(e)) => first.slice(*axis, s as u64, e as u64)?,
            _ => return Ok(None),
        },
        (Op::QuickGelu { alpha }, _) => first.mul(&first.scale(f64::from(*alpha))?.map(Function::Sigmoid)?)?,
        (Op::Binary(f), [left, right]) => match arithmetic(*f) {
            Some(f) => left.binary(f, right)?,
            None => return Ok(None),
        },
        (Op::Linear | Op::Gemm { trans_b: true }, [x, w, bias @ ..]) => product(x, &w.transpose(&[1, 0])?, bias, &dims)?,
        (Op::Gemm { .. } | Op::MatMul, [x, w, bias @ ..]) if w.shape().len() == 2 => product(x, w, bias, &dims)?,
        (op, [x]) => match function(op) {
            Some(f) => x.map(f)?,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(made))
}

fn extents(shape: &[Dim]) -> Option<Vec<u64>> {
    shape.iter().map(|d| d.as_const().and_then(|n| u64::try_from(n).ok())).collect()
}

/// `x · w + bias` over the last axis of `x`.
fn product(x: &WeightExpr, w: &WeightExpr, bias: &[WeightExpr], dims: &[u64]) -> Result<WeightExpr> {
    let inner = w.shape()[0];
    let rows = x.shape().iter().take(x.shape().len().saturating_sub(1)).product();
    let y = x.reshape(&[rows, inner])?.matmul(w)?.reshape(dims)?;
    bias.first().map_or(Ok(y.clone()), |b| y.add(b))
}

/// The function of a weight expression that an operator of one tensor computes.
fn function(op: &Op) -> Option<Function> {
    Some(match op {
        Op::Unary(Unary::GeluTanh) | Op::Gelu { tanh: true } => Function::GeluTanh,
        Op::Unary(Unary::GeluErf) | Op::Gelu { tanh: false } => Function::Gelu,
        Op::Silu => Function::Silu,
        Op::Unary(f) => return Function::from_name(&f.name().to_ascii_lowercase()),
        _ => return None,
    })
}

/// The function of a weight expression that an operator of two tensors computes.
pub(super) fn arithmetic(f: Binary) -> Option<Arithmetic> {
    Arithmetic::from_name(&f.name().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::evaluate_unrounded;

    /// What an expression computes is what `interp` computes.
    fn check(op: &Op, inputs: &[WeightExpr]) {
        let types: Vec<TensorType> = inputs.iter().map(|e| TensorType::new(e.dtype(), e.shape().iter().copied())).collect();
        let out = crate::ir::infer::infer(op, &types.iter().collect::<Vec<_>>()).expect("the inputs fit").remove(0);
        let expr = expression(op, inputs, &out).expect("in bounds").expect("an expression holds it");
        let arrays: Vec<_> = inputs.iter().map(|e| interp::literal::<f64>(e).expect("literal")).collect();
        let expect = interp::eval_op(op, &arrays.iter().collect::<Vec<_>>()).expect("evaluates").remove(0);
        for (got, expect) in evaluate_unrounded(&expr).expect("evaluates").iter().zip(&expect) {
            assert!((got - expect).abs() <= 1e-13 * expect.abs().max(1.0), "{}: {got} {expect}", op.name());
        }
    }

    fn values(shape: &[u64]) -> WeightExpr {
        let count = shape.iter().product::<u64>();
        let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 101) as f32 + 1.0) / 40.0).collect();
        WeightExpr::literal_f32(shape, &values).expect("as many as the shape")
    }

    #[test]
    fn expressions_compute_what_the_evaluator_computes() {
        use Unary::{Cos, Erf, Exp, GeluErf, GeluTanh, Neg, Sigmoid, Sin, Sqrt, Tanh};
        for f in [Sigmoid, Tanh, Erf, Exp, Sqrt, Sin, Cos, Neg, GeluErf, GeluTanh] {
            check(&Op::Unary(f), &[values(&[3, 5])]);
        }
        for op in [Op::Silu, Op::Gelu { tanh: true }, Op::Gelu { tanh: false }, Op::QuickGelu { alpha: 1.5 }] {
            check(&op, &[values(&[7])]);
        }
        for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Pow] {
            check(&Op::Binary(f), &[values(&[2, 1, 5]), values(&[4, 1])]);
        }
        check(&Op::Linear, &[values(&[2, 3, 4]), values(&[5, 4]), values(&[5])]);
        check(&Op::Gemm { trans_b: false }, &[values(&[3, 4]), values(&[4, 5]), values(&[5])]);
        check(&Op::MatMul, &[values(&[2, 3, 4]), values(&[4, 5])]);
        check(&Op::Expand { shape: vec![3.into(), 2.into(), 4.into()] }, &[values(&[2, 1])]);
    }
}
