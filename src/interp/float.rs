//! The two number types of the evaluator, and rounding to the others.

use ndarray::{ArrayD, LinalgScalar};

use crate::ir::DType;

/// Are results rounded to the element type of their tensor?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// No: every value keeps the precision of the evaluator. What exactness is judged by.
    None,
    /// Yes: a node typed f16 yields f16 values. Sums inside the operator still accumulate in the evaluator's type.
    AsTyped,
}

/// A number type that graphs can be evaluated in: f32 or f64.
#[expect(missing_docs, reason = "the functions are those of `std`")]
pub trait Float: LinalgScalar + PartialOrd + std::ops::Neg<Output = Self> + Send + Sync + std::fmt::Debug + Default {
    /// What [`run`](super::run()) does: f32 rounds as typed, f64 never.
    const ROUNDING: Rounding;

    /// The nearest value.
    fn from_f64(x: f64) -> Self;
    /// The same value.
    fn to_f64(self) -> f64;
    #[must_use]
    fn exp(self) -> Self;
    #[must_use]
    fn sqrt(self) -> Self;
    #[must_use]
    fn tanh(self) -> Self;
    #[must_use]
    fn sin(self) -> Self;
    #[must_use]
    fn cos(self) -> Self;
    #[must_use]
    fn powf(self, y: Self) -> Self;
    /// The error function.
    #[must_use]
    fn erf(self) -> Self;
}

macro_rules! float {
    ($t:ty, $rounding:expr, $erf:path) => {
        impl Float for $t {
            const ROUNDING: Rounding = $rounding;
            #[inline]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline]
            fn tanh(self) -> Self {
                <$t>::tanh(self)
            }
            #[inline]
            fn sin(self) -> Self {
                <$t>::sin(self)
            }
            #[inline]
            fn cos(self) -> Self {
                <$t>::cos(self)
            }
            #[inline]
            fn powf(self, y: Self) -> Self {
                <$t>::powf(self, y)
            }
            #[inline]
            fn erf(self) -> Self {
                $erf(self)
            }
        }
    };
}
float!(f32, Rounding::AsTyped, libm::erff);
float!(f64, Rounding::None, libm::erf);

/// The values as a tensor of this type holds them. Integers are truncated and booleans are 0 or 1 under either rounding.
pub(super) fn settle<T: Float>(x: ArrayD<T>, dtype: DType, rounding: Rounding) -> ArrayD<T> {
    let f: fn(f64) -> f64 = match (dtype, rounding) {
        (DType::Bool, _) => |x| f64::from(u8::from(x != 0.0)),
        (d, _) if !d.is_float() => f64::trunc,
        (DType::F16, Rounding::AsTyped) => |x| DType::F16.rounded(x),
        (DType::BF16, Rounding::AsTyped) => |x| DType::BF16.rounded(x),
        (DType::F32, Rounding::AsTyped) if size_of::<T>() == 8 => |x| f64::from(x as f32),
        _ => return x,
    };
    x.mapv_into(|v| T::from_f64(f(v.to_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(x: f64, dtype: DType, expect: f64) {
        let got = settle(ArrayD::from_elem(vec![1], x), dtype, Rounding::AsTyped)[0];
        assert_eq!(got.to_bits(), expect.to_bits(), "{x} as {dtype}");
    }

    #[test]
    fn values_take_the_nearest_of_their_type() {
        check(2049.0, DType::F16, 2048.0); // ties to even at a step of 2
        check(65520.0, DType::F16, f64::INFINITY);
        check(1.0 + 1.0 / 128.0 + 1e-9, DType::BF16, 1.0 + 1.0 / 128.0);
        check(0.1, DType::F32, f64::from(0.1_f32));
        check(0.1, DType::F64, 0.1);
        check(-2.7, DType::I32, -2.0);
    }
}
