//! Making the bytes of one weight expression.
//!
//! Memory: the result, the operands of the operation at hand, and (for a matrix product) the right operand once more in f64.
//! Operands are dropped as soon as they are used. Results do not depend on the number of threads: every element is computed by
//! one thread in a fixed order.

use rayon::prelude::*;

use super::convert::{BLOCK, cast_block, from_f64, to_f64};
use super::{DType, RandomSpec, WeightExpr, WeightOp};
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
/// `weights/unbound` for a parameter; those of [`super::WeightsFile::read`].
pub fn evaluate(expr: &WeightExpr) -> Result<TensorBytes> {
    Ok(TensorBytes { dtype: expr.dtype(), shape: expr.shape().to_vec(), bytes: compute(expr)? })
}

fn compute(expr: &WeightExpr) -> Result<Vec<u8>> {
    Ok(match expr.op() {
        WeightOp::Param { stage, name } => {
            let message = format!("parameter {stage}/{name} was to be evaluated before it was bound");
            return Err(Diagnostic::new("weights/unbound", message).into());
        }
        WeightOp::Stored(tensor) => tensor.file.read(tensor.offset, tensor.len)?,
        WeightOp::Random { spec, .. } => random(expr, spec),
        WeightOp::Literal(bytes) => bytes.to_vec(),
        WeightOp::Transpose { of, perm } => transpose(expr, of, perm, &compute(of)?),
        WeightOp::Reshape { of } => compute(of)?,
        WeightOp::Concat { parts, axis } => concat(expr, parts, *axis)?,
        WeightOp::Slice { of, axis, start, .. } => slice(expr, of, *axis, *start, &compute(of)?),
        WeightOp::Scale { of, factor } => scale(of.dtype(), compute(of)?, *factor),
        WeightOp::Add { left, right } => add(left.dtype(), compute(left)?, &compute(right)?),
        WeightOp::MatMul { left, right } => matmul(expr, left, right)?,
        WeightOp::Cast { of } => {
            let mut out = zeroed(expr);
            cast(of.dtype(), &compute(of)?, expr.dtype(), &mut out);
            out
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

fn scale(dtype: DType, mut bytes: Vec<u8>, factor: f64) -> Vec<u8> {
    bytes.par_chunks_mut(BLOCK * dtype.size() as usize).for_each(|block| {
        let mut values = [0.0; BLOCK];
        let values = &mut values[..block.len() / dtype.size() as usize];
        to_f64(dtype, block, values);
        for value in values.iter_mut() {
            *value *= factor;
        }
        from_f64(dtype, values, block);
    });
    bytes
}

fn add(dtype: DType, mut left: Vec<u8>, right: &[u8]) -> Vec<u8> {
    let size = BLOCK * dtype.size() as usize;
    left.par_chunks_mut(size).zip(right.par_chunks(size)).for_each(|(left, right)| {
        let (mut a, mut b) = ([0.0; BLOCK], [0.0; BLOCK]);
        let n = right.len() / dtype.size() as usize;
        to_f64(dtype, left, &mut a[..n]);
        to_f64(dtype, right, &mut b[..n]);
        a.iter_mut().zip(&b).for_each(|(a, b)| *a += b);
        from_f64(dtype, &a[..n], left);
    });
    left
}

fn extents(expr: &WeightExpr) -> Vec<usize> {
    expr.shape().iter().map(|d| *d as usize).collect()
}

/// Bytes of one step along `axis`, and how many elements lie before it.
fn around(expr: &WeightExpr, axis: usize) -> (usize, usize) {
    let shape = extents(expr);
    (shape[axis + 1..].iter().product::<usize>() * expr.dtype().size() as usize, shape[..axis].iter().product())
}

fn concat(expr: &WeightExpr, parts: &[WeightExpr], axis: usize) -> Result<Vec<u8>> {
    let (row, outer) = around(expr, axis);
    let mut out = zeroed(expr);
    let whole = row * extents(expr)[axis];
    let mut at = 0;
    for part in parts {
        let width = row * extents(part)[axis];
        let bytes = compute(part)?;
        for o in 0..outer {
            out[o * whole + at..][..width].copy_from_slice(&bytes[o * width..][..width]);
        }
        at += width;
    }
    Ok(out)
}

fn slice(expr: &WeightExpr, of: &WeightExpr, axis: usize, start: u64, bytes: &[u8]) -> Vec<u8> {
    let (row, outer) = around(of, axis);
    let (whole, width) = (row * extents(of)[axis], row * extents(expr)[axis]);
    let mut out = Vec::with_capacity(expr.byte_len() as usize);
    for o in 0..outer {
        out.extend_from_slice(&bytes[o * whole + start as usize * row..][..width]);
    }
    out
}

fn transpose(expr: &WeightExpr, of: &WeightExpr, perm: &[usize], bytes: &[u8]) -> Vec<u8> {
    let mut strides = vec![1; perm.len()];
    let source = extents(of);
    for axis in (0..perm.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * source[axis + 1];
    }
    let strides: Vec<usize> = perm.iter().map(|axis| strides[*axis]).collect();
    let (shape, mut out) = (extents(expr), zeroed(expr));
    match expr.dtype().size() {
        1 => permute::<1>(&shape, &strides, bytes, &mut out),
        2 => permute::<2>(&shape, &strides, bytes, &mut out),
        4 => permute::<4>(&shape, &strides, bytes, &mut out),
        _ => permute::<8>(&shape, &strides, bytes, &mut out),
    }
    out
}

/// Fills `out` of `shape` with elements of N bytes, taken with `strides` (in elements, one an axis of `out`).
fn permute<const N: usize>(shape: &[usize], strides: &[usize], bytes: &[u8], out: &mut [u8]) {
    let (Some(width), Some(step)) = (shape.last(), strides.last()) else { return };
    if out.is_empty() {
        return;
    }
    let (source, _) = bytes.as_chunks::<N>();
    let (target, _) = out.as_chunks_mut::<N>();
    target.par_chunks_mut(*width).enumerate().for_each(|(row, out)| {
        let mut rest = row;
        let mut from = 0;
        for axis in (0..shape.len() - 1).rev() {
            from += rest % shape[axis] * strides[axis];
            rest /= shape[axis];
        }
        for (i, element) in out.iter_mut().enumerate() {
            *element = source[from + i * step];
        }
    });
}

fn matmul(expr: &WeightExpr, left: &WeightExpr, right: &WeightExpr) -> Result<Vec<u8>> {
    let dtype = expr.dtype();
    let size = dtype.size() as usize;
    let (k, n) = (left.shape()[1] as usize, right.shape()[1] as usize);
    let mut b = vec![0.0; k * n];
    to_f64(dtype, &compute(right)?, &mut b);
    let mut out = zeroed(expr);
    if k == 0 || n == 0 {
        return Ok(out);
    }
    let a = compute(left)?;
    out.par_chunks_mut(n * size).zip(a.par_chunks(k * size)).for_each(|(out, a)| {
        let (mut row, mut sum) = (vec![0.0; k], vec![0.0; n]);
        to_f64(dtype, a, &mut row);
        for (a, b) in row.iter().zip(b.chunks(n)) {
            sum.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
        }
        from_f64(dtype, &sum, out);
    });
    Ok(out)
}
