//! What an operator's inputs and attributes must satisfy so that its arithmetic cannot fail: shape inference, and before it
//! what shape inference takes for granted.

use super::fail;
use crate::diag::{Diagnostic, Result};
use crate::ir::op::Conv;
use crate::ir::{DType, Dim, Op, TensorType, infer};

/// No attribute is larger, so that the product of two sizes fits an i64.
const LARGEST: i64 = 1 << 31;

/// The output's shape.
///
/// # Errors
/// `model/evaluate` for attributes without a value or out of range, `model/shape` for inputs that do not fit.
pub(super) fn output_shape(op: &Op, inputs: &[&[usize]]) -> Result<Vec<usize>> {
    attributes(op, inputs).map_err(|why| fail(op, why))?;
    let types: Vec<TensorType> = inputs.iter().map(|s| TensorType::new(DType::F32, s.iter().copied())).collect();
    let outs = infer::infer(op, &types.iter().collect::<Vec<_>>()).map_err(|why| {
        let given: Vec<String> = inputs.iter().map(|s| format!("{s:?}")).collect();
        Diagnostic::new("model/shape", format!("{} does not take {}: {why}", op.name(), given.join(", ")))
    })?;
    let dims = outs.first().map(|t| t.shape.as_slice()).unwrap_or_default();
    let sizes: std::result::Result<Vec<usize>, String> = dims.iter().map(size).collect();
    match sizes {
        Ok(sizes) if elements(&sizes).is_some() => Ok(sizes),
        Ok(_) => Err(fail(op, "its output is too large")),
        Err(why) => Err(fail(op, why)),
    }
}

/// The number of elements, if an array can have this shape: an extent of 0 does not excuse the others.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    let others = shape.iter().filter(|d| **d > 0).try_fold(1_usize, |n, d| n.checked_mul(*d))?;
    isize::try_from(others).is_ok_and(|n| n <= isize::MAX / 8).then_some(if shape.contains(&0) { 0 } else { others })
}

fn size(dim: &Dim) -> std::result::Result<usize, String> {
    match dim.as_const() {
        None => Err(format!("the size `{dim}` has no value")),
        Some(d) if (0..=LARGEST).contains(&d) => Ok(d as usize),
        Some(d) => Err(format!("{d} is no size")),
    }
}

/// Attributes in themselves and against the inputs, as far as shape inference does not look.
pub(super) fn attributes(op: &Op, inputs: &[&[usize]]) -> std::result::Result<(), String> {
    let x = inputs.first().copied().unwrap_or_default();
    match op {
        Op::Arange { len } => size(len).map(|_| ()),
        Op::Reshape { shape } | Op::Expand { shape } => {
            let sizes: Vec<usize> = shape.iter().map(size).collect::<std::result::Result<_, _>>()?;
            elements(&sizes).map(|_| ()).ok_or_else(|| "its output is too large".into())
        }
        Op::Slice { start, end, .. } => size(start).and(size(end)).map(|_| ()),
        Op::Upsample { factors } => in_range(factors, 1),
        Op::Pad { before, after } => in_range(before, 0).and_then(|()| in_range(after, 0)),
        Op::ReduceMean { axes } => match axes.iter().find(|a| **a >= x.len()) {
            Some(axis) => Err(format!("there is no axis {axis}")),
            None => Ok(()),
        },
        Op::Conv(c) | Op::ConvTranspose(c) | Op::FusedConv(c) => convolution(c, inputs),
        Op::Attention(a) | Op::MultiHeadAttention(a) => {
            let channels = inputs.get(2).and_then(|v| v.last()).copied().unwrap_or(0);
            ensure(a.heads > 0 && channels as i64 % a.heads == 0, || format!("{channels} channels of v make no {} heads", a.heads))
        }
        Op::GroupNormNhwc(_) => ensure(x.len() >= 2, || "it needs [n, …, c]".into()),
        Op::RotaryEmbedding { heads } => rotary(*heads, inputs),
        Op::Foreign(f) => Err(format!("it is of the domain `{}`, which vidc does not know", f.domain)),
        _ => Ok(()),
    }
}

fn ensure(ok: bool, why: impl FnOnce() -> String) -> std::result::Result<(), String> {
    if ok { Ok(()) } else { Err(why()) }
}

fn in_range(values: &[i64], least: i64) -> std::result::Result<(), String> {
    ensure(values.iter().all(|v| (least..=LARGEST).contains(v)), || format!("{values:?} is out of range"))
}

fn convolution(c: &Conv, inputs: &[&[usize]]) -> std::result::Result<(), String> {
    let spatial = c.kernel.len();
    ensure((1..=3).contains(&spatial), || format!("it has {spatial} spatial axes"))?;
    ensure(c.strides.len() == spatial && c.pads.len() == spatial, || {
        format!("{spatial} kernel extents, {} strides and {} pads", c.strides.len(), c.pads.len())
    })?;
    in_range(&c.kernel, 1)?;
    in_range(&c.strides, 1)?;
    c.pads.iter().try_for_each(|(a, b)| in_range(&[*a, *b], 0))?;
    let out = inputs.get(1).and_then(|w| w.first()).copied().unwrap_or(0) as i64;
    ensure((1..=LARGEST).contains(&c.groups) && out % c.groups == 0, || format!("{out} channels make no {} groups", c.groups))
}

fn rotary(heads: i64, inputs: &[&[usize]]) -> std::result::Result<(), String> {
    let [[_, l, channels], cos, sin] = inputs else { return Err("it needs x [b, l, heads * d], cos and sin".into()) };
    ensure((1..=LARGEST).contains(&heads), || format!("{heads} heads"))?;
    let table = [*l, channels / (2 * heads as usize)];
    ensure(*cos == table && *sin == table, || format!("cos {cos:?} and sin {sin:?} are not {table:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: &[usize], expect: Option<usize>) {
        assert_eq!(elements(shape), expect, "{shape:?}");
    }

    #[test]
    fn sizes_are_counted_without_overflow() {
        check(&[], Some(1));
        check(&[2, 0, 3], Some(0));
        check(&[1 << 31, 1 << 31], None);
        check(&[0, 1 << 31, 1 << 31], None);
    }

    #[test]
    fn attributes_out_of_range_are_refused() {
        let refuse = |op: &Op, x: &[usize]| assert!(output_shape(op, &[x, &[1], &[1]]).is_err(), "{}", op.name());
        refuse(&Op::Pad { before: vec![-1], after: vec![0] }, &[2]);
        refuse(&Op::Upsample { factors: vec![i64::MAX] }, &[2]);
        refuse(&Op::Slice { axis: 0, start: Dim::Const(-1), end: Dim::Const(1) }, &[2]);
        refuse(&Op::Conv(Conv { strides: vec![0, 0], ..Conv::square(1, 1, 0) }), &[1, 1, 1, 1]);
        refuse(&Op::GroupNormNhwc(crate::ir::op::GroupNorm { groups: 1, eps: 0.0, silu: false }), &[1]);
        refuse(&Op::RotaryEmbedding { heads: 0 }, &[1, 1, 2]);
    }
}
