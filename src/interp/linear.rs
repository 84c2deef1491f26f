//! Matrix products.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Dimension, Ix2};

use super::float::Float;

/// `x · wᵀ + bias` over the last axis of x; w is `[n, k]`.
pub(super) fn product<T: Float>(
    x: &ArrayViewD<'_, T>,
    w: &ArrayViewD<'_, T>,
    bias: Option<&ArrayViewD<'_, T>>,
    shape: &[usize],
) -> ArrayD<T> {
    let (rows, k) = (shape[..shape.len() - 1].iter().product(), x.shape()[x.ndim() - 1]);
    let x = x.view().into_shape_with_order((rows, k)).expect("the same elements in standard layout");
    let mut out = x.dot(&matrix(w.view()).t());
    if let Some(bias) = bias {
        out.rows_mut().into_iter().for_each(|mut row| row.zip_mut_with(bias, |o, b| *o = *o + *b));
    }
    standard(out).into_shape_with_order(shape).expect("the same elements")
}

/// `[…, m, k] × […, k, n]` with batch axes broadcast.
pub(super) fn matmul<T: Float>(a: &ArrayViewD<'_, T>, b: &ArrayViewD<'_, T>, shape: &[usize]) -> ArrayD<T> {
    if b.ndim() == 2 {
        return product(a, &b.t(), None, shape);
    }
    let batch = &shape[..shape.len() - 2];
    let (a, b) = (spread(a, batch), spread(b, batch));
    let mut out = ArrayD::zeros(shape);
    for index in ndarray::indices(batch) {
        let target = index.slice().iter().fold(out.view_mut(), |v, i| v.index_axis_move(Axis(0), *i));
        let mut target = target.into_dimensionality::<Ix2>().expect("two axes are left");
        general_mat_mul(T::one(), &at(a.view(), index.slice()), &at(b.view(), index.slice()), T::zero(), &mut target);
    }
    out
}

/// The matrix at a batch index.
fn at<'a, T: Float>(x: ArrayViewD<'a, T>, index: &[usize]) -> ArrayView2<'a, T> {
    matrix(index.iter().fold(x, |x, i| x.index_axis_move(Axis(0), *i)))
}

/// The matrices of `x` repeated over the batch axes.
fn spread<'a, T: Float>(x: &'a ArrayViewD<'_, T>, batch: &[usize]) -> ArrayViewD<'a, T> {
    let shape: Vec<usize> = batch.iter().chain(&x.shape()[x.ndim() - 2..]).copied().collect();
    x.broadcast(shape).expect("shape inference found the common shape")
}

/// A view with two axes as a matrix.
pub(super) fn matrix<T: Float>(x: ArrayViewD<'_, T>) -> ArrayView2<'_, T> {
    x.into_dimensionality().expect("it has two axes")
}

/// In row-major order.
pub(super) fn standard<T: Float>(x: Array2<T>) -> Array2<T> {
    if x.is_standard_layout() { x } else { x.as_standard_layout().into_owned() }
}
