//! Parameters of the latency formulas, with where they come from.
//!
//! The formulas are in `cost::latency`; this module only says what their parameters are.

use serde::Serialize;

use super::profile::{ChipFamily, FittedParams};

/// Where parameters come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamOrigin {
    /// Fitted to measurements on this device.
    Measured,
    /// The prior of the architecture.
    Prior(ChipFamily),
}

impl std::fmt::Display for ParamOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Measured => f.write_str("measured"),
            Self::Prior(architecture) => write!(f, "prior:{}", architecture.name()),
        }
    }
}

/// Parameters of the latency formulas for one family at one precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Share of the sustained peak rate reached by the largest tile. Memory-bound families: bytes processed per FLOP of the fp32 peak.
    pub eta: f64,
    /// Share of the memory rate reached.
    pub eta_w: f64,
    /// Fixed time of one operator, seconds.
    pub t0: f64,
    /// A tile of half the area costs 2^gamma times as much per result.
    pub gamma: f64,
    /// How much of a partly filled wave is paid, in [0, 1].
    pub rho: f64,
    /// Start-up of the inner loop, in elements of k.
    pub k0: f64,
    /// Relative standard deviation of the prediction.
    pub sigma: f64,
    /// Measured or prior.
    pub provenance: ParamOrigin,
    /// `2^gamma`, so that the formulas need no power function.
    pub(crate) halving: f64,
}

impl Params {
    /// Parameters with their derived term.
    #[expect(clippy::too_many_arguments, reason = "one argument a parameter of the published formula")]
    pub fn new(eta: f64, eta_w: f64, t0: f64, gamma: f64, rho: f64, k0: f64, sigma: f64, provenance: ParamOrigin) -> Self {
        Self { eta, eta_w, t0, gamma, rho, k0, sigma, provenance, halving: libm::exp2(gamma) }
    }

    /// The parameters that a fit gave.
    pub fn of_fit(fit: &FittedParams) -> Self {
        // For normal errors the standard deviation is 1.25 times the mean absolute one; five percent is the noise of any machine.
        let sigma = (fit.error * 1.25).max(0.05);
        Self::new(fit.eta, fit.eta_w, fit.t0_us * 1e-6, fit.gamma, fit.rho, fit.k0, sigma, ParamOrigin::Measured)
    }
}
