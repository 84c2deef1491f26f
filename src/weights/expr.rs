//! Weight expressions: how a tensor of a model is made from stored ones.
//!
//! Invariants, held by the constructors: shapes and types of operands fit; the number of bytes of every node can be counted;
//! nesting is bounded. Constructors simplify what costs nothing to see: a reshape, an identity or a leading slice of a stored
//! tensor is a stored tensor, two transpositions are one. So [`WeightExpr::bare`] finds what needs no copy.

use std::sync::Arc;

use super::convert::decode_one;
use super::stored::byte_count;
use super::{Arithmetic, DType, Function, RandomSpec, TensorRef};
use crate::diag::{Diagnostic, Result};

/// Nested operations; passes make about ten.
const MAX_DEPTH: u32 = 256;
/// Operations, counted as often as they are evaluated: an operand that occurs twice counts twice.
const MAX_SIZE: u32 = 1 << 16;
/// Elements computed and multiplications of matrix products, counted as often as they are evaluated: minutes on one core.
const MAX_WORK: u64 = 1 << 37;
/// Bytes of a result that may be larger than its operands.
const MAX_GROWN: u64 = 1 << 32;

/// An expression; cloning is cheap.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightExpr(Arc<Node>);

#[derive(Debug, PartialEq)]
struct Node {
    op: WeightOp,
    dtype: DType,
    shape: Vec<u64>,
    depth: u32,
    size: u32,
    work: u64,
}

/// What an expression is at its outermost.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightOp {
    /// A parameter of a model, not yet bound.
    Param {
        /// The model's folder in a pipeline: `unet`, `vae`, `image_encoder`.
        stage: String,
        /// The tensor's name in its file.
        name: String,
    },
    /// A tensor in a file.
    Stored(TensorRef),
    /// Seeded values; computed in f32, then rounded to the type.
    Random {
        /// `STAGE/NAME`.
        name: String,
        /// The law.
        spec: RandomSpec,
    },
    /// Values here: little-endian, row-major.
    Literal(Arc<[u8]>),
    /// Axis `i` of the result is axis `perm[i]` of the operand.
    Transpose {
        /// Operand.
        of: WeightExpr,
        /// The permutation.
        perm: Vec<usize>,
    },
    /// The same values in another shape.
    Reshape {
        /// Operand.
        of: WeightExpr,
    },
    /// The operands one after the other along an axis.
    Concat {
        /// Operands.
        parts: Vec<WeightExpr>,
        /// Axis.
        axis: usize,
    },
    /// `start..end` of an axis.
    Slice {
        /// Operand.
        of: WeightExpr,
        /// Axis.
        axis: usize,
        /// First.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// Times a number.
    Scale {
        /// Operand.
        of: WeightExpr,
        /// The number.
        factor: f64,
    },
    /// A function of each element.
    Map {
        /// The function.
        function: Function,
        /// Operand.
        of: WeightExpr,
    },
    /// A function of each pair of elements of two tensors that broadcast as in numpy.
    Binary {
        /// The function.
        function: Arithmetic,
        /// Left operand.
        left: WeightExpr,
        /// Right operand.
        right: WeightExpr,
    },
    /// Repeated along axes of extent 1, and along new axes in front.
    Expand {
        /// Operand.
        of: WeightExpr,
    },
    /// `[m, k] x [k, n]`; accumulated in f64 in the order of `k`.
    MatMul {
        /// Left operand.
        left: WeightExpr,
        /// Right operand.
        right: WeightExpr,
    },
    /// Another element type.
    Cast {
        /// Operand.
        of: WeightExpr,
    },
}

impl WeightExpr {
    /// What it is.
    pub fn op(&self) -> &WeightOp {
        &self.0.op
    }

    /// Element type, known without reading.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Shape, known without reading.
    pub fn shape(&self) -> &[u64] {
        &self.0.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape().iter().product()
    }

    /// Bytes of the result.
    pub fn byte_len(&self) -> u64 {
        self.elements() * self.dtype().size()
    }

    /// The stored tensor that this is, if it is nothing more: its bytes are used where they lie.
    pub fn bare(&self) -> Option<&TensorRef> {
        match self.op() {
            WeightOp::Stored(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The operands.
    pub fn operands(&self) -> Vec<&Self> {
        operands(self.op())
    }

    /// Elements computed and multiplications of matrix products when it is evaluated.
    pub fn work(&self) -> u64 {
        self.0.work
    }

    /// The value that all elements have, if that can be seen without reading a file.
    pub fn splat(&self) -> Option<f64> {
        match self.op() {
            WeightOp::Literal(bytes) => {
                let mut each = bytes.chunks_exact(self.dtype().size() as usize);
                let first = each.next()?;
                each.all(|b| b == first).then(|| decode_one(self.dtype(), first))
            }
            WeightOp::Transpose { of, .. } | WeightOp::Reshape { of } | WeightOp::Slice { of, .. } | WeightOp::Expand { of } => of.splat(),
            // 0 and 1 are the same number in every type; others are rounded.
            WeightOp::Cast { of } => of.splat().filter(|v| matches!(v, 0.0 | 1.0)),
            _ => None,
        }
    }

    /// A parameter of a model.
    ///
    /// # Errors
    /// `weights/expression`, as all constructors: this one if the bytes cannot be counted.
    pub fn param(stage: &str, name: &str, dtype: DType, shape: &[u64]) -> Result<Self> {
        node(WeightOp::Param { stage: stage.into(), name: name.into() }, dtype, shape.to_vec())
    }

    /// A stored tensor.
    pub fn stored(tensor: TensorRef) -> Result<Self> {
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        if byte_count(dtype, &shape) != Some(tensor.len) {
            return Err(misfit(&format!("a stored tensor {dtype}{shape:?} of {} bytes", tensor.len)).into());
        }
        node(WeightOp::Stored(tensor), dtype, shape)
    }

    /// Seeded values.
    pub fn random(name: &str, spec: RandomSpec, dtype: DType, shape: &[u64]) -> Result<Self> {
        if !dtype.is_float() {
            return Err(misfit(&format!("random values of type {dtype}")).into());
        }
        node(WeightOp::Random { name: name.into(), spec }, dtype, shape.to_vec())
    }

    /// Values given here as little-endian bytes in row-major order.
    pub fn literal(dtype: DType, shape: &[u64], bytes: &[u8]) -> Result<Self> {
        if byte_count(dtype, shape) != Some(bytes.len() as u64) {
            return Err(misfit(&format!("{} bytes as {dtype}{shape:?}", bytes.len())).into());
        }
        node(WeightOp::Literal(bytes.into()), dtype, shape.to_vec())
    }

    /// f32 values given here.
    pub fn literal_f32(shape: &[u64], values: &[f32]) -> Result<Self> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::literal(DType::F32, shape, &bytes)
    }

    /// Axis `i` of the result is axis `perm[i]` of this.
    pub fn transpose(&self, perm: &[usize]) -> Result<Self> {
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if sorted.len() != self.shape().len() || sorted.iter().enumerate().any(|(i, axis)| i != *axis) {
            return Err(misfit(&format!("the permutation {perm:?} of {self}, which has shape {:?}", self.shape())).into());
        }
        if perm.is_sorted() {
            return Ok(self.clone());
        }
        if let WeightOp::Transpose { of, perm: inner } = self.op() {
            let both: Vec<usize> = perm.iter().map(|axis| inner[*axis]).collect();
            return of.transpose(&both);
        }
        let shape = perm.iter().map(|axis| self.shape()[*axis]).collect();
        node(WeightOp::Transpose { of: self.clone(), perm: perm.to_vec() }, self.dtype(), shape)
    }

    /// The same values in another shape of as many elements.
    pub fn reshape(&self, shape: &[u64]) -> Result<Self> {
        if byte_count(self.dtype(), shape) != Some(self.byte_len()) {
            return Err(misfit(&format!("the shape {shape:?} for {self}, which has shape {:?}", self.shape())).into());
        }
        if shape == self.shape() {
            return Ok(self.clone());
        }
        match self.op() {
            WeightOp::Reshape { of } => of.reshape(shape),
            WeightOp::Stored(tensor) => Self::stored(TensorRef { shape: shape.to_vec(), ..tensor.clone() }),
            WeightOp::Random { name, spec } => Self::random(name, *spec, self.dtype(), shape),
            WeightOp::Literal(bytes) => node(WeightOp::Literal(bytes.clone()), self.dtype(), shape.to_vec()),
            _ => node(WeightOp::Reshape { of: self.clone() }, self.dtype(), shape.to_vec()),
        }
    }

    /// The parts one after the other along `axis`; at least one, of one type, equal in all other extents.
    pub fn concat(parts: &[Self], axis: usize) -> Result<Self> {
        let first = parts.first().filter(|p| axis < p.shape().len()).ok_or_else(|| misfit("concat of nothing, or along no axis"))?;
        let mut shape = first.shape().to_vec();
        shape[axis] = 0;
        for part in parts {
            let others = |e: &Self| e.shape().iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| *d).collect::<Vec<_>>();
            if part.dtype() != first.dtype() || part.shape().len() != shape.len() || others(part) != others(first) {
                return Err(misfit(&format!("concat of {} and {} along axis {axis}", first.typed(), part.typed())).into());
            }
            shape[axis] = shape[axis].saturating_add(part.shape()[axis]);
        }
        if parts.len() == 1 {
            return Ok(first.clone());
        }
        node(WeightOp::Concat { parts: parts.to_vec(), axis }, first.dtype(), shape)
    }

    /// `start..end` of `axis`.
    pub fn slice(&self, axis: usize, start: u64, end: u64) -> Result<Self> {
        let extent = self.shape().get(axis).copied();
        if start > end || extent.is_none_or(|extent| end > extent) {
            return Err(misfit(&format!("{start}..{end} of axis {axis} of {}", self.typed())).into());
        }
        if (start, Some(end)) == (0, extent) {
            return Ok(self.clone());
        }
        let mut shape = self.shape().to_vec();
        shape[axis] = end - start;
        if let (WeightOp::Stored(tensor), true) = (self.op(), self.shape()[..axis].iter().all(|d| *d == 1)) {
            return Self::stored(sub_tensor(tensor, start, shape, axis));
        }
        node(WeightOp::Slice { of: self.clone(), axis, start, end }, self.dtype(), shape)
    }

    /// Times `factor`.
    pub fn scale(&self, factor: f64) -> Result<Self> {
        if !self.dtype().is_float() || !factor.is_finite() {
            return Err(misfit(&format!("{} times {factor}", self.typed())).into());
        }
        node(WeightOp::Scale { of: self.clone(), factor }, self.dtype(), self.shape().to_vec())
    }

    /// A function of each element. Whole numbers have the few functions that are defined for them.
    pub fn map(&self, function: Function) -> Result<Self> {
        if !self.dtype().is_float() && (self.dtype() == DType::Bool || function.of_whole().is_none()) {
            return Err(misfit(&format!("{} of {}", function.name(), self.typed())).into());
        }
        node(WeightOp::Map { function, of: self.clone() }, self.dtype(), self.shape().to_vec())
    }

    /// A function of each pair of elements of two tensors of one type that broadcast as in numpy.
    pub fn binary(&self, function: Arithmetic, right: &Self) -> Result<Self> {
        let shape = broadcast(self.shape(), right.shape()).filter(|_| self.dtype() == right.dtype() && self.dtype() != DType::Bool);
        let Some(shape) = shape else {
            return Err(misfit(&format!("{} of {} and {}", function.name(), self.typed(), right.typed())).into());
        };
        grown(node(WeightOp::Binary { function, left: self.clone(), right: right.clone() }, self.dtype(), shape)?)
    }

    /// The sum of two tensors of one type that broadcast.
    pub fn add(&self, right: &Self) -> Result<Self> {
        self.binary(Arithmetic::Add, right)
    }

    /// The product, element by element, of two tensors of one type that broadcast.
    pub fn mul(&self, right: &Self) -> Result<Self> {
        self.binary(Arithmetic::Mul, right)
    }

    /// Repeated to a shape that this broadcasts to.
    pub fn expand(&self, shape: &[u64]) -> Result<Self> {
        if broadcast(self.shape(), shape).as_deref() != Some(shape) {
            return Err(misfit(&format!("{} repeated to {shape:?}", self.typed())).into());
        }
        if shape == self.shape() {
            return Ok(self.clone());
        }
        grown(node(WeightOp::Expand { of: self.clone() }, self.dtype(), shape.to_vec())?)
    }

    /// The product of `[m, k]` and `[k, n]` of one type.
    pub fn matmul(&self, right: &Self) -> Result<Self> {
        let (&[m, k], &[k2, n]) = (self.shape(), right.shape()) else {
            return Err(misfit(&format!("the product of {} and {}", self.typed(), right.typed())).into());
        };
        if !self.dtype().is_float() || self.dtype() != right.dtype() || k != k2 {
            return Err(misfit(&format!("the product of {} and {}", self.typed(), right.typed())).into());
        }
        grown(node(WeightOp::MatMul { left: self.clone(), right: right.clone() }, self.dtype(), vec![m, n])?)
    }

    /// In another element type. Floats round to nearest even; see ONNX `Cast` for the rest.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        node(WeightOp::Cast { of: self.clone() }, dtype, self.shape().to_vec())
    }

    fn typed(&self) -> String {
        format!("{self}: {}{:?}", self.dtype(), self.shape())
    }
}

/// Part of a stored tensor that is one run of bytes.
fn sub_tensor(tensor: &TensorRef, start: u64, shape: Vec<u64>, axis: usize) -> TensorRef {
    let row = tensor.shape[axis + 1..].iter().product::<u64>() * tensor.dtype.size();
    let len = shape[axis] * row;
    TensorRef { offset: tensor.offset + start * row, len, shape, ..tensor.clone() }
}

fn operands(op: &WeightOp) -> Vec<&WeightExpr> {
    match op {
        WeightOp::Param { .. } | WeightOp::Stored(_) | WeightOp::Random { .. } | WeightOp::Literal(_) => Vec::new(),
        WeightOp::Transpose { of, .. }
        | WeightOp::Reshape { of }
        | WeightOp::Slice { of, .. }
        | WeightOp::Scale { of, .. }
        | WeightOp::Map { of, .. }
        | WeightOp::Expand { of }
        | WeightOp::Cast { of } => vec![of],
        WeightOp::Binary { left, right, .. } | WeightOp::MatMul { left, right } => vec![left, right],
        WeightOp::Concat { parts, .. } => parts.iter().collect(),
    }
}

/// The common shape of two tensors, as numpy has it.
fn broadcast(a: &[u64], b: &[u64]) -> Option<Vec<u64>> {
    let rank = a.len().max(b.len());
    let at = |s: &[u64], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}

/// A result that may be larger than its operands, if it is not too large to be made.
fn grown(expr: WeightExpr) -> Result<WeightExpr> {
    if expr.byte_len() > MAX_GROWN {
        return Err(misfit(&format!("{} bytes would have to be computed", expr.byte_len())).into());
    }
    Ok(expr)
}

fn node(op: WeightOp, dtype: DType, shape: Vec<u64>) -> Result<WeightExpr> {
    if dtype == DType::Opaque {
        return Err(misfit("an opaque constant").into());
    }
    if byte_count(dtype, &shape).is_none() {
        return Err(misfit(&format!("a tensor {dtype}{shape:?} has more bytes than can be counted")).into());
    }
    let of = operands(&op);
    let depth = of.iter().map(|e| e.0.depth + 1).max().unwrap_or(0);
    let size = of.iter().fold(1_u32, |n, e| n.saturating_add(e.0.size));
    let elements: u64 = shape.iter().product();
    let own = match &op {
        WeightOp::MatMul { left, .. } => elements.saturating_mul(left.shape()[1].max(1)),
        _ => elements,
    };
    let work = of.iter().fold(own, |n, e| n.saturating_add(e.0.work));
    let computed = !of.is_empty();
    if depth > MAX_DEPTH || size > MAX_SIZE {
        return Err(misfit("expressions nested too deep").into());
    }
    if computed && work > MAX_WORK {
        return Err(misfit("expressions that take too long to evaluate").into());
    }
    Ok(WeightExpr(Arc::new(Node { op, dtype, shape, depth, size, work })))
}

fn misfit(what: &str) -> Diagnostic {
    Diagnostic::new("weights/expression", format!("a weight expression does not fit: {what}"))
}
