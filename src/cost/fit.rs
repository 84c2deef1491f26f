//! Fits the parameters of the latency formulas to measured points: what replaces a prior by a calibration.
//!
//! The error is that of the logarithm, so that a small operator counts as much as a large one; a soft-L1 loss keeps one
//! disturbed point from bending the rest; a ridge towards the prior (0.3 in log space) lets four points already help. The
//! minimum is found by the simplex method of Nelder and Mead with a fixed start and a fixed number of steps: deterministic.

use super::latency::{Family, Machine, Params, Precision, Work, latency_as};
use crate::hwdb::ParamOrigin;

/// One measured operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Which kernel ran it.
    pub class: Family,
    /// What ran.
    pub work: Work,
    /// In which precision.
    pub precision: Precision,
    /// How long it took.
    pub seconds: f64,
}

impl Point {
    /// A point of the broad family of its work.
    pub fn new(work: Work, precision: Precision, seconds: f64) -> Self {
        Self { class: work.family().unwrap_or(Family::Copy), work, precision, seconds }
    }

    /// What is predicted for it, seconds.
    pub fn predicted(&self, machine: &Machine) -> f64 {
        latency_as(self.class, &self.work, self.precision, machine).time.secs()
    }
}

/// The result of a fit.
#[derive(Clone, Copy, Debug)]
pub struct Fitted {
    /// The parameters; `sigma` follows from `error`.
    pub params: Params,
    /// Mean absolute relative error over the points.
    pub error: f64,
}

/// Number of fitted parameters: eta, `eta_w`, t0, gamma, rho, k0.
const N: usize = 6;
/// Largest values that make sense; caches can lift the share of bandwidth above one.
const LIMITS: [f64; N] = [1.2, 1.5, 1e-2, 1.5, 1.0, 2000.0];
/// Width of the soft-L1 corner, and of the ridge, in log space.
const CORNER: f64 = 0.1;
const RIDGE: f64 = 0.3;
/// How much one parameter at one ridge width from its prior weighs against one point at one corner width.
const RIDGE_WEIGHT: f64 = 0.05;
const STEPS: usize = 4000;

fn to_vector(p: &Params) -> [f64; N] {
    [p.eta, p.eta_w, p.t0, p.gamma, p.rho, p.k0]
}

fn to_params(v: &[f64; N], sigma: f64) -> Params {
    Params::new(v[0], v[1], v[2], v[3], v[4], v[5], sigma, ParamOrigin::Measured)
}

/// Mean absolute relative error of the predictions for `points` on `machine`; zero without points.
pub fn mean_error(points: &[Point], machine: &Machine) -> f64 {
    let error = |p: &Point| (p.predicted(machine) / p.seconds - 1.0).abs();
    points.iter().map(error).sum::<f64>() / points.len().max(1) as f64
}

/// Fits `family` to `points`, starting from and held towards `prior`. A parameter that is zero in the prior stays zero.
/// Points whose time is not positive and finite are ignored.
pub fn fit(machine: &Machine, family: Family, prior: &Params, points: &[Point]) -> Fitted {
    let points: Vec<Point> = points.iter().copied().filter(|p| p.seconds.is_finite() && p.seconds > 0.0).collect();
    let start = to_vector(prior);
    let free: Vec<usize> = (0..N).filter(|i| start[*i] > 0.0).collect();
    let mut machine = machine.clone();
    let at = |x: &[f64]| {
        let mut v = start;
        for (i, x) in free.iter().zip(x) {
            v[*i] = (start[*i] * libm::exp(*x)).min(LIMITS[*i]);
        }
        v
    };
    let mut loss = |x: &[f64]| {
        machine.set_params(family, to_params(&at(x), prior.sigma));
        let misses = points.iter().map(|p| soft(libm::log(p.predicted(&machine) / p.seconds) / CORNER));
        let held = x.iter().map(|x| (x / RIDGE) * (x / RIDGE)).sum::<f64>();
        misses.sum::<f64>() + RIDGE_WEIGHT * held
    };
    let best = nelder_mead(&mut loss, free.len());
    let vector = at(&best);
    machine.set_params(family, to_params(&vector, prior.sigma));
    let error = mean_error(&points, &machine);
    Fitted { params: to_params(&vector, (error * 1.25).max(0.05)), error }
}

/// Quadratic near zero, linear far away.
fn soft(r: f64) -> f64 {
    2.0 * ((1.0 + r * r).sqrt() - 1.0)
}

/// Minimises `f` over `n` variables from the origin, first steps of 0.2.
fn nelder_mead(f: &mut dyn FnMut(&[f64]) -> f64, n: usize) -> Vec<f64> {
    let corner = |i: usize| (0..n).map(|j| if i == j + 1 { 0.2 } else { 0.0 }).collect::<Vec<f64>>();
    let mut simplex: Vec<(f64, Vec<f64>)> = (0..=n).map(corner).map(|x| (f(&x), x)).collect();
    for _ in 0..STEPS {
        simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
        if simplex[n].0 - simplex[0].0 < 1e-9 {
            break;
        }
        let centre: Vec<f64> = (0..n).map(|j| simplex[..n].iter().map(|(_, x)| x[j]).sum::<f64>() / n as f64).collect();
        let mut towards = |t: f64, worst: &[f64]| {
            let x: Vec<f64> = centre.iter().zip(worst).map(|(c, w)| c + t * (c - w)).collect();
            (f(&x), x)
        };
        let worst = simplex[n].clone();
        let reflected = towards(1.0, &worst.1);
        let next = if reflected.0 < simplex[0].0 {
            let further = towards(2.0, &worst.1);
            if further.0 < reflected.0 { further } else { reflected }
        } else if reflected.0 < simplex[n - 1].0 {
            reflected
        } else {
            towards(if reflected.0 < worst.0 { 0.5 } else { -0.5 }, &worst.1)
        };
        if next.0 < worst.0 {
            simplex[n] = next;
        } else {
            shrink(&mut simplex, f);
        }
    }
    simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
    simplex.swap_remove(0).1
}

/// Halves the simplex towards its best corner.
fn shrink(simplex: &mut [(f64, Vec<f64>)], f: &mut dyn FnMut(&[f64]) -> f64) {
    let best = simplex[0].1.clone();
    for (value, x) in &mut simplex[1..] {
        for (x, b) in x.iter_mut().zip(&best) {
            *x = b + 0.5 * (*x - b);
        }
        *value = f(x);
    }
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
