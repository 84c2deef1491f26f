//! Whether two tensors are as near as a test asks.

use half::{bf16, f16};
use vidc::runtime::tensor::{Element, Tensor};
use vidc::weights::DType;

/// Two units in the last place of bf16, which the tolerance is at least for that type.
const BF16: f64 = 1.0 / 64.0;

/// Same type and shape, and `|got - want| <= atol + rtol |want|` everywhere; NaN is near NaN, whole numbers are equal.
pub(super) fn close(got: &Tensor, want: &Tensor, rtol: f64, atol: f64) -> bool {
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        return false;
    }
    if got.bytes() == want.bytes() {
        return true;
    }
    match got.dtype() {
        DType::F32 => near::<f32>(got, want, |v| f64::from(*v), rtol, atol),
        DType::F64 => near::<f64>(got, want, |v| *v, rtol, atol),
        DType::F16 => near::<f16>(got, want, |v| v.to_f64(), rtol, atol),
        DType::BF16 => near::<bf16>(got, want, |v| v.to_f64(), rtol.max(BF16), atol),
        DType::I64 | DType::I32 | DType::U8 | DType::I8 | DType::Bool | DType::Opaque => false,
    }
}

fn near<T: Element>(got: &Tensor, want: &Tensor, number: fn(&T) -> f64, rtol: f64, atol: f64) -> bool {
    let (Some(got), Some(want)) = (got.as_slice::<T>(), want.as_slice::<T>()) else { return false };
    let pair = |(g, w): (f64, f64)| g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan()) || (g - w).abs() <= atol + rtol * w.abs();
    got.iter().map(number).zip(want.iter().map(number)).all(pair)
}
