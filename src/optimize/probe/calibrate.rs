//! Fits the figures of a profile to what was measured: peak rate, cache and memory from the best that ran, then for each class of kernels
//! the parameters of its formula.

use super::measure::Measurements;
use crate::cost::fit::{Fitted, Point, fit, mean_error};
use crate::cost::latency::Work;
use crate::hwdb::{Family, FittedParams, Machine, Params, Precision};

/// The least points behind a fit.
const LEAST: usize = 3;
/// A working set beyond which nothing is in a cache any more, bytes: three tensors of 16 MiB and more.
const BEYOND_CACHES: f64 = 48e6;
/// Sizes of the last-level cache that are tried, bytes: those of processors that are sold.
const CACHES: [f64; 10] = [1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 48e6, 64e6, 96e6, 128e6];

/// What the measurements give.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated {
    /// FLOP/s of fp32.
    pub peak: f64,
    /// Bytes/s of memory.
    pub memory: f64,
    /// Bytes of the last-level cache.
    pub cache: f64,
    /// Bytes/s of the cache.
    pub cache_rate: f64,
    /// Seconds of one node beside its kernel.
    pub dispatch: f64,
    /// One row a family and class.
    pub fits: Vec<FittedParams>,
}

/// Fits everything. `prior` is the machine before anything was measured, whose parameters the fits start from.
pub fn calibrate(prior: &Machine, measured: &Measurements) -> Calibrated {
    let points: Vec<Point> = measured.kernels.iter().map(|m| m.point).collect();
    let mut machine = prior.clone();
    let peak = best(&points, |p| p.work.flop().0 as f64).unwrap_or_else(|| prior.peaks.rate(Precision::F32));
    machine.peaks.0[Precision::F32 as usize] = Some(peak);
    machine.sustained = 1.0;
    set_memory(&mut machine, &points);
    let fits = fits(&mut machine, &points);
    Calibrated { peak, memory: machine.dram, cache: machine.l2, cache_rate: machine.l2_rate, dispatch: measured.dispatch, fits }
}

/// The best of a rate, leaving out what was too short to be told from the noise of a clock.
fn best(points: &[Point], amount: impl Fn(&Point) -> f64) -> Option<f64> {
    const SHORT: f64 = 20e-6;
    let rates = points.iter().filter(|p| p.seconds > SHORT).map(|p| amount(p) / p.seconds);
    rates.filter(|r| *r > 0.0).max_by(f64::total_cmp)
}

fn moved(point: &Point) -> f64 {
    match point.work {
        Work::Memory { read, written, .. } => read as f64 + written as f64,
        _ => 0.0,
    }
}

/// Memory and cache: the size of cache with which the operators that only move are fitted best.
fn set_memory(machine: &mut Machine, points: &[Point]) {
    const PLAIN: [Family; 3] = [Family::Elementwise, Family::Copy, Family::Rows];
    let plain: Vec<Point> = points.iter().copied().filter(|p| PLAIN.contains(&p.class)).collect();
    let (large, small): (Vec<Point>, Vec<Point>) = plain.iter().partition(|p| moved(p) > BEYOND_CACHES);
    if let Some(rate) = best(&large, moved) {
        machine.dram = rate;
    }
    machine.l2_rate = best(&small, moved).unwrap_or(machine.l2_rate).max(machine.dram);
    let error = |cache: &f64| {
        let mut tried = machine.clone();
        tried.l2 = *cache;
        let error = |class: &Family| {
            let own = of_class(&plain, *class);
            fit(&tried, *class, tried.params(*class, Precision::F32), &own).error * own.len() as f64
        };
        PLAIN.iter().map(error).sum::<f64>()
    };
    let sizes = CACHES.map(|cache| (error(&cache), cache));
    if let Some((_, cache)) = sizes.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)) {
        machine.l2 = cache;
    }
}

/// The points of a class; of a broad family none of whose points are its own, those of all of its classes.
fn of_class(points: &[Point], class: Family) -> Vec<Point> {
    let own: Vec<Point> = points.iter().copied().filter(|p| p.class == class).collect();
    if own.is_empty() { points.iter().copied().filter(|p| p.class.broad() == class).collect() } else { own }
}

/// Fits class by class: broad families first, so that a class starts from what its family has.
fn fits(machine: &mut Machine, points: &[Point]) -> Vec<FittedParams> {
    let classes = Family::broad_ones().chain(Family::ALL.into_iter().filter(|f| f.broad() != *f));
    let mut out = Vec::new();
    for class in classes {
        let own = if class == Family::Activation { relabelled(points) } else { of_class(points, class) };
        if own.len() < LEAST {
            continue;
        }
        let found = fitted(machine, class, &own);
        machine.set_params(class, found.params);
        out.push(row(class, &found, own.len()));
    }
    out
}

/// What takes an exponential has classes of its own; together they are the broad family of such functions.
fn relabelled(points: &[Point]) -> Vec<Point> {
    let takes = |p: &&Point| matches!(p.class, Family::Silu | Family::Gelu);
    points.iter().filter(takes).map(|p| Point { class: Family::Activation, ..*p }).collect()
}

/// The best of several fits: the simplex finds the nearest minimum, and the kernels of a processor can be far from any prior.
fn fitted(machine: &Machine, class: Family, points: &[Point]) -> Fitted {
    const STARTS: [f64; 3] = [1.0, 0.4, 0.1];
    const ROUNDS: usize = 3;
    let prior = *machine.params(class, Precision::F32);
    let from = |factor: f64| {
        let p = Params::new(
            prior.eta * factor,
            prior.eta_w * factor.sqrt(),
            prior.t0,
            prior.gamma,
            prior.rho,
            prior.k0,
            prior.sigma,
            prior.provenance,
        );
        let first = fit(machine, class, &p, points);
        (1..ROUNDS).fold(first, |last, _| fit(machine, class, &last.params, points))
    };
    let found = STARTS.map(|factor| {
        let found = from(factor);
        (log_error(machine, class, &found, points), found)
    });
    let best = found.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(|| fit(machine, class, &prior, points), |(_, found)| found)
}

/// The mean of the absolute logarithms of predicted over measured: twice too long is as wrong as twice too short.
fn log_error(machine: &Machine, class: Family, found: &Fitted, points: &[Point]) -> f64 {
    let mut machine = machine.clone();
    machine.set_params(class, found.params);
    let error = |p: &Point| libm::log(p.predicted(&machine) / p.seconds).abs();
    points.iter().map(error).sum::<f64>() / points.len().max(1) as f64
}

fn row(class: Family, found: &Fitted, points: usize) -> FittedParams {
    let q = found.params;
    let [eta, eta_w, t0_us, gamma, rho, k0, error] = [q.eta, q.eta_w, q.t0 * 1e6, q.gamma, q.rho, q.k0, found.error].map(significant);
    FittedParams { family: class, precision: None, eta, eta_w, t0_us, gamma, rho, k0, points: points as u32, error }
}

/// Four significant digits.
pub(super) fn significant(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

/// The mean error of a calibrated machine over the points of each class, for a table.
pub fn errors(machine: &Machine, measured: &Measurements) -> Vec<(Family, usize, f64)> {
    let points: Vec<Point> = measured.kernels.iter().map(|m| m.point).collect();
    let of = |class: Family| {
        let own: Vec<Point> = points.iter().copied().filter(|p| p.class == class).collect();
        (!own.is_empty()).then(|| (class, own.len(), mean_error(&own, machine)))
    };
    Family::ALL.into_iter().filter_map(of).collect()
}
