//! Making the bytes of one weight expression.
//!
//! Floats are computed in f64 from the leaves on and rounded once, at the end or where a cast says so; whole numbers are computed
//! in i64 and keep their low bits. Memory: the result, and the operands of the operation at hand, of which those that were
//! computed lie there in f64. Operands are dropped as soon as they are used. Results do not depend on the number of threads:
//! every element is computed by one thread in a fixed order.

use rayon::prelude::*;

use super::convert::{BLOCK, cast_block, from_f64, to_f64};
use super::{Arithmetic, DType, Function, RandomSpec, WeightExpr, WeightOp};
use crate::diag::{Diagnostic, Result};

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorBytes {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<u64>,
    /// Little-endian values in row-major order.
    pub bytes: Vec<u8>,
}

impl TensorBytes {
    /// The values as f32, rounded once where the type has more bits.
    pub fn to_f32(&self) -> Vec<f32> {
        let size = self.dtype.size() as usize;
        let mut out = vec![0; self.bytes.len() / size * 4];
        cast(self.dtype, &self.bytes, DType::F32, &mut out);
        out.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

/// Computes the tensor that an expression describes.
///
/// # Errors
/// `weights/unbound` for a parameter; `weights/expression` for a division of whole numbers by 0; those of
/// [`super::WeightsFile::read`].
pub fn evaluate(expr: &WeightExpr) -> Result<TensorBytes> {
    let bytes = compute(expr, Rounding::Typed)?.into_type(expr.dtype());
    Ok(TensorBytes { dtype: expr.dtype(), shape: expr.shape().to_vec(), bytes })
}

/// The values before any is rounded, casts between floats included: what exactness is judged by.
///
/// # Errors
/// Those of [`evaluate`].
pub fn evaluate_unrounded(expr: &WeightExpr) -> Result<Vec<f64>> {
    let bytes = compute(expr, Rounding::Never)?.into_type(DType::F64);
    Ok(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
}

/// Do casts between floats round?
#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    Typed,
    Never,
}

/// Values on their way: in the type of their expression, or in f64 if they were computed and are yet to be rounded.
struct Carried {
    dtype: DType,
    bytes: Vec<u8>,
}

impl Carried {
    fn into_type(self, dtype: DType) -> Vec<u8> {
        if self.dtype == dtype {
            return self.bytes;
        }
        let count = self.bytes.len() / self.dtype.size() as usize;
        let mut out = vec![0; count * dtype.size() as usize];
        cast(self.dtype, &self.bytes, dtype, &mut out);
        out
    }

    /// The bytes moved by `by`, which keeps elements whole: it is given their size.
    fn moved(self, by: impl FnOnce(&[u8], usize) -> Vec<u8>) -> Self {
        Self { dtype: self.dtype, bytes: by(&self.bytes, self.dtype.size() as usize) }
    }
}

fn compute(expr: &WeightExpr, rounding: Rounding) -> Result<Carried> {
    let typed = |bytes: Vec<u8>| Carried { dtype: expr.dtype(), bytes };
    Ok(match expr.op() {
        WeightOp::Param { stage, name } => {
            let message = format!("parameter {stage}/{name} was to be evaluated before it was bound");
            return Err(Diagnostic::new("weights/unbound", message).into());
        }
        WeightOp::Stored(tensor) => typed(tensor.file.read(tensor.offset, tensor.len)?),
        WeightOp::Random { spec, .. } => typed(random(expr, spec)),
        WeightOp::Literal(bytes) => typed(bytes.to_vec()),
        WeightOp::Transpose { of, perm } => compute(of, rounding)?.moved(|b, size| transpose(expr, of, perm, b, size)),
        WeightOp::Reshape { of } => compute(of, rounding)?,
        WeightOp::Concat { parts, axis } => concat(expr, parts, *axis, rounding)?,
        WeightOp::Slice { of, axis, start, .. } => compute(of, rounding)?.moved(|b, size| slice(expr, of, *axis, *start, b, size)),
        WeightOp::Expand { of } => compute(of, rounding)?.moved(|b, size| expand(expr, of, b, size)),
        WeightOp::Scale { of, factor } => mapped(compute(of, rounding)?, |x| x * factor),
        WeightOp::Map { function, of } => map(*function, of.dtype(), compute(of, rounding)?),
        WeightOp::Binary { function, left, right } => binary(expr, *function, [left, right], rounding)?,
        WeightOp::MatMul { left, right } => matmul(left, right, rounding)?,
        WeightOp::Cast { of } => {
            let floats = of.dtype().is_float() && expr.dtype().is_float();
            let values = compute(of, rounding)?;
            match rounding {
                Rounding::Never if floats => values,
                // To a whole number: what is cast is the rounded value.
                _ if !floats => typed(Carried { dtype: of.dtype(), bytes: values.into_type(of.dtype()) }.into_type(expr.dtype())),
                _ => typed(values.into_type(expr.dtype())),
            }
        }
    })
}

fn zeroed(expr: &WeightExpr) -> Vec<u8> {
    vec![0; expr.byte_len() as usize]
}

fn random(expr: &WeightExpr, spec: &RandomSpec) -> Vec<u8> {
    let (dtype, mut out) = (expr.dtype(), zeroed(expr));
    out.par_chunks_mut(BLOCK * dtype.size() as usize).enumerate().for_each(|(block, out)| {
        let mut values = [0.0; BLOCK];
        let values = &mut values[..out.len() / dtype.size() as usize];
        for (i, value) in values.iter_mut().enumerate() {
            *value = f64::from(spec.value((block * BLOCK + i) as u64));
        }
        from_f64(dtype, values, out);
    });
    out
}

fn cast(from: DType, bytes: &[u8], to: DType, out: &mut [u8]) {
    let blocks = out.par_chunks_mut(BLOCK * to.size() as usize);
    blocks.zip(bytes.par_chunks(BLOCK * from.size() as usize)).for_each(|(out, bytes)| cast_block(from, bytes, to, out));
}

/// A function of every element, in f64.
fn mapped(values: Carried, f: impl Fn(f64) -> f64 + Sync) -> Carried {
    let mut bytes = values.into_type(DType::F64);
    bytes.par_chunks_mut(BLOCK * 8).for_each(|block| {
        for element in block.as_chunks_mut::<8>().0 {
            *element = f(f64::from_le_bytes(*element)).to_le_bytes();
        }
    });
    Carried { dtype: DType::F64, bytes }
}

fn map(function: Function, dtype: DType, values: Carried) -> Carried {
    let (false, Some(f)) = (dtype.is_float(), function.of_whole()) else { return mapped(values, function.of_float()) };
    let mut bytes = values.into_type(DType::I64);
    for element in bytes.as_chunks_mut::<8>().0 {
        *element = f(i64::from_le_bytes(*element)).to_le_bytes();
    }
    Carried { dtype, bytes: Carried { dtype: DType::I64, bytes }.into_type(dtype) }
}

fn binary(expr: &WeightExpr, function: Arithmetic, [left, right]: [&WeightExpr; 2], rounding: Rounding) -> Result<Carried> {
    let dtype = expr.dtype();
    let wide = if dtype.is_float() { DType::F64 } else { DType::I64 };
    let a = compute(left, rounding)?.into_type(wide);
    let b = compute(right, rounding)?.into_type(wide);
    let shapes = [extents(expr), steps(left, expr.shape().len()), steps(right, expr.shape().len())];
    if dtype.is_float() {
        let f = function.of_float();
        let bytes = pairs(&shapes, &a, &b, |x, y| f(f64::from_le_bytes(x), f64::from_le_bytes(y)).to_le_bytes());
        return Ok(Carried { dtype: wide, bytes });
    }
    if !b.as_chunks().0.iter().all(|y| function.defined(i64::from_le_bytes(*y))) {
        let message = format!("a weight expression is not defined: `{}` of whole numbers with such a right operand", function.name());
        return Err(Diagnostic::new("weights/expression", message).into());
    }
    let f = function.of_whole();
    let bytes = pairs(&shapes, &a, &b, |x, y| f(i64::from_le_bytes(x), i64::from_le_bytes(y)).to_le_bytes());
    Ok(Carried { dtype, bytes: Carried { dtype: wide, bytes }.into_type(dtype) })
}

/// The step in elements along each of `rank` axes of a tensor that is broadcast to them: 0 where it is repeated.
fn steps(expr: &WeightExpr, rank: usize) -> Vec<usize> {
    let shape = extents(expr);
    let mut out = vec![0; rank];
    let mut step = 1;
    for (i, extent) in shape.iter().enumerate().rev() {
        out[rank - shape.len() + i] = if *extent == 1 { 0 } else { step };
        step *= extent;
    }
    out
}

/// `f` of the pairs of elements of two tensors of 8-byte elements, given the common extents and the steps of either.
fn pairs([shape, a_steps, b_steps]: &[Vec<usize>; 3], a: &[u8], b: &[u8], f: impl Fn([u8; 8], [u8; 8]) -> [u8; 8] + Sync) -> Vec<u8> {
    let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let mut out = vec![0; shape.iter().product::<usize>() * 8];
    let width = shape.last().copied().unwrap_or(1);
    if out.is_empty() {
        return out;
    }
    let last = |steps: &[usize]| steps.last().copied().unwrap_or(0);
    let (step_a, step_b) = (last(a_steps), last(b_steps));
    out.par_chunks_mut(width * 8).enumerate().for_each(|(row, out)| {
        let (x, y) = (start(shape, a_steps, row), start(shape, b_steps, row));
        for (i, element) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *element = f(a[x + i * step_a], b[y + i * step_b]);
        }
    });
    out
}

/// Where the row of this number (a run along the last axis of `shape`) begins in a tensor with these steps.
fn start(shape: &[usize], steps: &[usize], row: usize) -> usize {
    let (mut rest, mut from) = (row, 0);
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        from += rest % shape[axis] * steps[axis];
        rest /= shape[axis];
    }
    from
}

fn expand(expr: &WeightExpr, of: &WeightExpr, bytes: &[u8], size: usize) -> Vec<u8> {
    let (shape, steps) = (extents(expr), steps(of, expr.shape().len()));
    gather(&shape, &steps, bytes, size)
}

fn extents(expr: &WeightExpr) -> Vec<usize> {
    expr.shape().iter().map(|d| *d as usize).collect()
}

/// Bytes of one step along `axis` for elements of `size` bytes, and how many elements lie before it.
fn around(expr: &WeightExpr, axis: usize, size: usize) -> (usize, usize) {
    let shape = extents(expr);
    (shape[axis + 1..].iter().product::<usize>() * size, shape[..axis].iter().product())
}

fn concat(expr: &WeightExpr, parts: &[WeightExpr], axis: usize, rounding: Rounding) -> Result<Carried> {
    // Parts that were computed make the whole one that was: their values are yet to be rounded.
    let computed = parts.iter().any(|p| is_computed(p, rounding));
    let dtype = if computed { DType::F64 } else { expr.dtype() };
    let (row, outer) = around(expr, axis, dtype.size() as usize);
    let mut out = vec![0; expr.elements() as usize * dtype.size() as usize];
    let whole = row * extents(expr)[axis];
    let mut at = 0;
    for part in parts {
        let width = row * extents(part)[axis];
        let bytes = compute(part, rounding)?.into_type(dtype);
        for o in 0..outer {
            out[o * whole + at..][..width].copy_from_slice(&bytes[o * width..][..width]);
        }
        at += width;
    }
    Ok(Carried { dtype, bytes: out })
}

/// Are its values carried in another type than its own?
fn is_computed(expr: &WeightExpr, rounding: Rounding) -> bool {
    match expr.op() {
        WeightOp::Param { .. } | WeightOp::Stored(_) | WeightOp::Random { .. } | WeightOp::Literal(_) => false,
        WeightOp::Scale { .. } | WeightOp::Map { .. } | WeightOp::Binary { .. } | WeightOp::MatMul { .. } => expr.dtype().is_float(),
        WeightOp::Cast { .. } => rounding == Rounding::Never && expr.dtype().is_float(),
        _ => expr.operands().iter().any(|e| is_computed(e, rounding)),
    }
}

fn slice(expr: &WeightExpr, of: &WeightExpr, axis: usize, start: u64, bytes: &[u8], size: usize) -> Vec<u8> {
    let (row, outer) = around(of, axis, size);
    let (whole, width) = (row * extents(of)[axis], row * extents(expr)[axis]);
    let mut out = Vec::with_capacity(outer * width);
    for o in 0..outer {
        out.extend_from_slice(&bytes[o * whole + start as usize * row..][..width]);
    }
    out
}

fn transpose(expr: &WeightExpr, of: &WeightExpr, perm: &[usize], bytes: &[u8], size: usize) -> Vec<u8> {
    let mut strides = vec![1; perm.len()];
    let source = extents(of);
    for axis in (0..perm.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * source[axis + 1];
    }
    let strides: Vec<usize> = perm.iter().map(|axis| strides[*axis]).collect();
    gather(&extents(expr), &strides, bytes, size)
}

/// A tensor of `shape` from elements of `size` bytes, taken with `strides` (in elements, one an axis of the result).
fn gather(shape: &[usize], strides: &[usize], bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![0; shape.iter().product::<usize>() * size];
    match size {
        1 => permute::<1>(shape, strides, bytes, &mut out),
        2 => permute::<2>(shape, strides, bytes, &mut out),
        4 => permute::<4>(shape, strides, bytes, &mut out),
        _ => permute::<8>(shape, strides, bytes, &mut out),
    }
    out
}

/// Fills `out` of `shape` with elements of N bytes.
fn permute<const N: usize>(shape: &[usize], strides: &[usize], bytes: &[u8], out: &mut [u8]) {
    if out.is_empty() {
        return;
    }
    let (source, _) = bytes.as_chunks::<N>();
    let (target, _) = out.as_chunks_mut::<N>();
    let (width, step) = (shape.last().copied().unwrap_or(1), strides.last().copied().unwrap_or(0));
    target.par_chunks_mut(width).enumerate().for_each(|(row, out)| {
        let from = start(shape, strides, row);
        for (i, element) in out.iter_mut().enumerate() {
            *element = source[from + i * step];
        }
    });
}

fn matmul(left: &WeightExpr, right: &WeightExpr, rounding: Rounding) -> Result<Carried> {
    let (m, k, n) = (left.shape()[0] as usize, left.shape()[1] as usize, right.shape()[1] as usize);
    let mut out = vec![0; m * n * 8];
    if k == 0 || out.is_empty() {
        return Ok(Carried { dtype: DType::F64, bytes: out });
    }
    let b = compute(right, rounding)?.into_type(DType::F64);
    let b: Vec<f64> = b.as_chunks().0.iter().map(|e| f64::from_le_bytes(*e)).collect();
    let a = compute(left, rounding)?;
    let size = a.dtype.size() as usize;
    out.par_chunks_mut(n * 8).zip(a.bytes.par_chunks(k * size)).for_each(|(out, bytes)| {
        let (mut row, mut sum) = (vec![0.0; k], vec![0.0; n]);
        to_f64(a.dtype, bytes, &mut row);
        for (a, b) in row.iter().zip(b.chunks(n)) {
            sum.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
        }
        from_f64(DType::F64, &sum, out);
    });
    Ok(Carried { dtype: DType::F64, bytes: out })
}
