//! Operators that move elements.

use ndarray::{ArrayD, ArrayViewD, Axis, Slice};

use super::float::Float;
use crate::ir::Op;

/// `0, 1, …, len - 1`.
pub(super) fn arange<T: Float>(len: usize) -> ArrayD<T> {
    (0..len).map(|i| T::from_f64(i as f64)).collect::<ndarray::Array1<T>>().into_dyn()
}

/// Reshape, expand, transpose and slice.
pub(super) fn moved<T: Float>(op: &Op, x: &ArrayViewD<'_, T>, shape: &[usize]) -> ArrayD<T> {
    match op {
        Op::Expand { .. } => x.broadcast(shape).expect("shape inference checked it").to_owned(),
        Op::Transpose { perm } => x.view().permuted_axes(perm.clone()).as_standard_layout().into_owned(),
        Op::Slice { axis, start, .. } => {
            let start = start.as_const().unwrap_or(0) as isize;
            x.slice_axis(Axis(*axis), Slice::from(start..start + shape[*axis] as isize)).to_owned()
        }
        _ => x.to_shape(shape).expect("shape inference counted the elements").into_owned(),
    }
}

/// Joins tensors along one axis.
pub(super) fn concat<T: Float>(axis: usize, x: &[ArrayViewD<'_, T>]) -> ArrayD<T> {
    ndarray::concatenate(Axis(axis), x).expect("shape inference compared the shapes")
}

/// Nearest-neighbour enlargement by whole factors.
pub(super) fn upsample<T: Float>(x: &ArrayViewD<'_, T>, factors: &[i64]) -> ArrayD<T> {
    let enlarged = factors.iter().enumerate().filter(|(_, f)| **f > 1);
    enlarged.fold(x.to_owned(), |x, (axis, f)| repeat(&x, axis, *f as usize))
}

fn repeat<T: Float>(x: &ArrayD<T>, axis: usize, factor: usize) -> ArrayD<T> {
    let mut shape = x.shape().to_vec();
    let mut wide = shape.clone();
    wide.insert(axis + 1, factor);
    shape[axis] *= factor;
    let x = x.view().insert_axis(Axis(axis + 1));
    let x = x.broadcast(wide).expect("only the new axis grows");
    x.as_standard_layout().into_owned().into_shape_with_order(shape).expect("the same elements")
}

/// Zeros around the edges.
pub(super) fn pad<T: Float>(x: &ArrayViewD<'_, T>, before: &[i64], shape: &[usize]) -> ArrayD<T> {
    let mut out = ArrayD::zeros(shape);
    out.slice_each_axis_mut(|a| {
        let start = before[a.axis.0] as isize;
        Slice::from(start..start + x.shape()[a.axis.0] as isize)
    })
    .assign(x);
    out
}
