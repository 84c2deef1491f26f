//! Elementwise functions of one and two tensors, and gated activations.

use ndarray::{ArrayD, ArrayViewD, Axis, Zip};

use super::float::Float;
use crate::ir::op::{Binary, Unary};

/// Applies `f` to every element.
pub(super) fn unary<T: Float>(f: Unary, x: &ArrayViewD<'_, T>) -> ArrayD<T> {
    match f {
        Unary::Sigmoid => x.mapv(sigmoid),
        Unary::Tanh => x.mapv(T::tanh),
        Unary::Erf => x.mapv(T::erf),
        Unary::Exp => x.mapv(T::exp),
        Unary::Sqrt => x.mapv(T::sqrt),
        Unary::Sin => x.mapv(T::sin),
        Unary::Cos => x.mapv(T::cos),
        Unary::Neg => x.mapv(|v| -v),
        Unary::GeluErf => gelu(false, x),
        Unary::GeluTanh => gelu(true, x),
    }
}

/// `f` of two tensors broadcast to `shape`.
pub(super) fn binary<T: Float>(f: Binary, a: &ArrayViewD<'_, T>, b: &ArrayViewD<'_, T>, shape: &[usize]) -> ArrayD<T> {
    let wide = "shape inference found the common shape";
    let (a, b) = (a.broadcast(shape).expect(wide), b.broadcast(shape).expect(wide));
    let pairs = Zip::from(&a).and(&b);
    match f {
        Binary::Add => pairs.map_collect(|x, y| *x + *y),
        Binary::Sub => pairs.map_collect(|x, y| *x - *y),
        Binary::Mul => pairs.map_collect(|x, y| *x * *y),
        Binary::Div => pairs.map_collect(|x, y| *x / *y),
        Binary::Pow => pairs.map_collect(|x, y| x.powf(*y)),
    }
}

/// `1 / (1 + e^-x)`.
pub(super) fn sigmoid<T: Float>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

/// `x · sigmoid(alpha · x)`; `alpha` 1 is silu.
pub(super) fn quick_gelu<T: Float>(alpha: f32, x: &ArrayViewD<'_, T>) -> ArrayD<T> {
    let alpha = T::from_f64(f64::from(alpha));
    x.mapv(|v| v * sigmoid(alpha * v))
}

/// `x · Φ(x)` (Hendrycks and Gimpel, arXiv 1606.08415, section 2), or its tanh approximation there.
pub(super) fn gelu<T: Float>(tanh: bool, x: &ArrayViewD<'_, T>) -> ArrayD<T> {
    if tanh { x.mapv(gelu_tanh) } else { x.mapv(gelu_erf) }
}

fn gelu_erf<T: Float>(x: T) -> T {
    let half = T::from_f64(0.5);
    half * x * (T::one() + (x * T::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

fn gelu_tanh<T: Float>(x: T) -> T {
    let (half, root) = (T::from_f64(0.5), T::from_f64((2.0 / std::f64::consts::PI).sqrt()));
    half * x * (T::one() + (root * (x + T::from_f64(0.044_715) * x * x * x)).tanh())
}

/// The first half of the last axis times gelu (with erf) of the second (Shazeer, arXiv 2002.05202).
pub(super) fn ge_glu<T: Float>(x: &ArrayViewD<'_, T>, shape: &[usize]) -> ArrayD<T> {
    let last = Axis(shape.len() - 1);
    let (a, g) = x.view().split_at(last, shape[last.0]);
    Zip::from(&a).and(&g).map_collect(|a, g| *a * gelu_erf(*g))
}
