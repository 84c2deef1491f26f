//! What rounding costs in quality, as noise power.
//!
//! `exact` choices cost nothing. For `rounding` ones each model adds the noise power of its element type, `10^(-SQNR/10)`
//! relative to the signal; powers of independent errors add up, and decibels are `-10 · log10` of the sum. The signal-to-noise
//! ratios are engineering estimates (`docs/facts/tuning.md` E: fp16 about 66 dB, bf16 about 50 dB; tf32 has fp16's mantissa),
//! taken with a gain of one from a model's output to the frames, so every figure is labelled `estimated` until it was
//! measured on the model at hand. Powers are kept in whole units of 1e-15 so that sums do not depend on their order.

use serde::{Deserialize, Serialize};

use super::latency::Precision;

/// What is known of a plan's quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// The same function as the reference.
    Exact,
    /// The noise of all answers together, from figures of others or measured ones.
    Estimated(Noise),
    /// An answer was taken of which nobody knows what it costs.
    Unmeasured,
}

impl Quality {
    /// In decibels; `None` if there is no noise, or nobody knows.
    pub fn db(self) -> Option<f64> {
        match self {
            Self::Estimated(noise) => noise.db(),
            Self::Exact | Self::Unmeasured => None,
        }
    }
}

/// Noise power relative to the signal, in units of 1e-15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Noise(pub u64);

/// Units in a noise power of one.
const ONE: f64 = 1e15;

impl Noise {
    /// The noise of running a model at a precision; none for fp32.
    pub fn of(p: Precision) -> Self {
        match p {
            Precision::F32 => Self(0),
            // 10^-6.6
            Precision::F16 | Precision::Tf32 => Self(251_188_643),
            // 10^-5
            Precision::Bf16 => Self(10_000_000_000),
            // 35 dB, 30 dB, 30 dB: the lower ends of the estimates; none of them is in the default space.
            Precision::Int8 => Self(316_227_766_017),
            Precision::Fp8 | Precision::F16Acc16 => Self(1_000_000_000_000),
        }
    }

    /// The most noise that still gives this many decibels.
    pub fn at_least_db(db: f64) -> Self {
        Self((libm::pow(10.0, -db / 10.0) * ONE) as u64)
    }

    /// In decibels; `None` if there is no noise.
    pub fn db(self) -> Option<f64> {
        (self.0 > 0).then(|| -10.0 * libm::log10(self.0 as f64 / ONE))
    }
}

impl std::ops::Add for Noise {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl std::iter::Sum for Noise {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), std::ops::Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_has_its_own_figure_and_two_have_three_decibels_less() {
        let near = |noise: Noise, db: f64| assert!((noise.db().unwrap() - db).abs() < 1e-6, "{noise:?} {db}");
        near(Noise::of(Precision::F16), 66.0);
        near(Noise::of(Precision::Bf16), 50.0);
        near(Noise::of(Precision::F16) + Noise::of(Precision::F16), 66.0 - 10.0 * 2f64.log10());
        assert_eq!(Noise::of(Precision::F32).db(), None);
    }

    #[test]
    fn a_floor_admits_what_reaches_it() {
        assert!(Noise::of(Precision::F16) <= Noise::at_least_db(65.9));
        assert!(Noise::of(Precision::F16) > Noise::at_least_db(66.1));
        assert!(Noise::of(Precision::F32) <= Noise::at_least_db(400.0));
    }
}
