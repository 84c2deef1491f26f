//! Fits a provider that fuses operators: how much faster or slower than on ONNX Runtime's own kernels the operators of each family are, so that
//! whole cases come out right.
//!
//! Minimises `sum over cases of (sum over families of s_f * t_f / measured - 1)^2`, where `t_f` is what the machine's own figures say of a case's
//! operators of that family, over factors `s_f > 0`: non-negative least squares by coordinate descent, whose minimum is the global one.

use super::calibrate::significant;
use super::measure::WholeCase;
use crate::cost::fit::Point;
use crate::hwdb::{Family, FittedParams, Machine, Precision};

/// What whole cases give.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// By which factor the times of a family are longer than those that the fit started from.
    pub families: Vec<(Family, f64)>,
    /// Seconds of one node beside its kernel.
    pub dispatch: f64,
    /// Mean absolute relative error over the cases.
    pub error: f64,
    /// Seconds of making a session, a node.
    pub load: f64,
    /// One row a family and class.
    pub fits: Vec<FittedParams>,
}

/// A family never becomes faster than this share of what it started from: what vanishes in its neighbours still moves its bytes.
const LEAST: f64 = 0.02;
/// Weight of staying where the fit started, for families that hardly any case has.
const STAY: f64 = 0.02;
const SWEEPS: usize = 400;
/// The unit of the column of nodes, seconds.
const NODE_S: f64 = 1e-6;

/// Fits the factors. `machine` has the figures of the provider that tells its kernels apart.
pub fn calibrate_whole(machine: &Machine, measured: &[WholeCase]) -> Factors {
    let families: Vec<Family> = Family::broad_ones().collect();
    let row = |case: &WholeCase| -> Vec<f64> {
        let of = |family: &Family| case.parts.iter().filter(|p| p.class.broad() == *family).map(|p| p.predicted(machine)).sum::<f64>();
        families.iter().map(of).chain([case.nodes as f64 * NODE_S]).map(|t| t / case.run).collect()
    };
    let rows: Vec<Vec<f64>> = measured.iter().map(row).collect();
    let mut start = vec![1.0; families.len()];
    start.push(0.0);
    let factors = least_squares(&rows, &start);
    let total = |row: &Vec<f64>| row.iter().zip(&factors).map(|(a, s)| a * s).sum::<f64>();
    let error = rows.iter().map(|r| (total(r) - 1.0).abs()).sum::<f64>() / rows.len().max(1) as f64;
    let nodes: usize = measured.iter().map(|c| c.nodes).sum();
    let load = measured.iter().map(|c| c.load).sum::<f64>() / nodes.max(1) as f64;
    let families: Vec<(Family, f64)> = families.into_iter().zip(factors.iter().copied()).collect();
    let fits = fits(machine, measured, &families, error);
    Factors { dispatch: factors.last().copied().unwrap_or(0.0) * NODE_S, families, error, load, fits }
}

/// The non-negative factors of least squares of `rows * factors = 1`.
fn least_squares(rows: &[Vec<f64>], start: &[f64]) -> Vec<f64> {
    let mut s = start.to_vec();
    for _ in 0..SWEEPS {
        for f in 0..s.len() {
            let (mut above, mut below) = (STAY * start[f], STAY);
            for row in rows {
                let others: f64 = row.iter().zip(&s).enumerate().filter(|(i, _)| *i != f).map(|(_, (a, s))| a * s).sum();
                above += row[f] * (1.0 - others);
                below += row[f] * row[f];
            }
            s[f] = (above / below).max(LEAST * start[f]);
        }
    }
    s
}

/// The parameters that make every time of a class longer by its family's factor.
fn fits(machine: &Machine, measured: &[WholeCase], families: &[(Family, f64)], error: f64) -> Vec<FittedParams> {
    let points: Vec<&Point> = measured.iter().flat_map(|c| &c.parts).collect();
    let of = |class: Family| {
        let count = points.iter().filter(|p| p.class == class || p.class.broad() == class).count();
        let factor = families.iter().find(|(f, _)| *f == class.broad())?.1;
        let p = machine.params(class, Precision::F32);
        let [eta, eta_w, t0_us, gamma, rho, k0, error] =
            [p.eta / factor, p.eta_w / factor, p.t0 * 1e6 * factor, p.gamma, p.rho, p.k0, error].map(significant);
        (count > 0).then_some(FittedParams {
            family: class,
            precision: None,
            eta,
            eta_w,
            t0_us,
            gamma,
            rho,
            k0,
            points: count as u32,
            error,
        })
    };
    Family::ALL.into_iter().filter_map(of).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cost::latency::{MemoryKind, Work};
    use crate::hwdb::{Params, machine_of_case};

    fn case(rows: u64, bytes: u64, machine: &Machine, gemm: f64, elementwise: f64) -> WholeCase {
        let work = [
            Work::Gemm { b: 1, m: rows, n: 256, k: 256, extra_bytes: 0 },
            Work::Memory { kind: MemoryKind::Elementwise, read: bytes, written: bytes },
        ];
        let parts = work.map(|w| Point::new(w, Precision::F32, 0.0));
        let run = parts[0].predicted(machine) * gemm + parts[1].predicted(machine) * elementwise;
        WholeCase { case: "case".into(), parts: parts.to_vec(), nodes: 0, run, load: 0.0 }
    }

    #[test]
    fn factors_that_made_the_times_are_found_again() {
        let machine = machine_of_case("x86-cpu-2core");
        let sizes = [(64, 1 << 14), (4096, 1 << 12), (256, 1 << 22), (16, 1 << 24), (8192, 1 << 20), (1024, 1 << 23)];
        let measured: Vec<WholeCase> = sizes.into_iter().map(|(m, b)| case(m, b, &machine, 0.8, 0.4)).collect();
        let found = calibrate_whole(&machine, &measured);
        let of = |family| found.families.iter().find(|(f, _)| *f == family).unwrap().1;
        assert!((of(Family::Gemm) - 0.8).abs() < 0.02 && (of(Family::Elementwise) - 0.4).abs() < 0.02, "{:?}", found.families);
        assert!(found.error < 0.02 && found.dispatch < 1e-9, "{found:?}");
        // What no case has stays as it was.
        assert!((of(Family::Conv) - 1.0).abs() < 1e-9);
        assert!(found.fits.iter().all(|f| f.family != Family::Conv));
    }

    #[test]
    fn parameters_make_times_longer_by_the_factor() {
        let machine = machine_of_case("x86-cpu-2core");
        let measured = [case(512, 1 << 20, &machine, 2.0, 2.0)];
        let found = calibrate_whole(&machine, &measured);
        let mut scaled = machine.clone();
        for fit in &found.fits {
            scaled.set_params(fit.family, Params::of_fit(fit));
        }
        let total: f64 = measured[0].parts.iter().map(|p| p.predicted(&scaled)).sum();
        assert!((total / measured[0].run - 1.0).abs() < 0.05, "{total} {}", measured[0].run);
    }
}
