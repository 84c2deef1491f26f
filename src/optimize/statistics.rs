//! Medians and what can be said about them from few samples.

use serde::{Deserialize, Serialize};

/// The middle of some samples and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Median {
    /// The median.
    pub median: f64,
    /// Lower end of the interval that holds the true median with a confidence of at least 95 %; the least sample if there are
    /// too few (less than six) for that.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The `q`-quantile of sorted samples, between neighbours by their distance.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * part
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Half the distance between the quartiles, over the median: 0 for equal samples, 0 for none.
pub fn spread(samples: &[f64]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let sorted = sorted(samples);
    (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)) / 2.0 / quantile(&sorted, 0.5).max(f64::MIN_POSITIVE)
}

/// The median of some samples; none of none.
///
/// The interval is the one between two order statistics: the number of samples below the true median is binomial (n, 1/2), whatever
/// the samples' distribution.
pub fn median(samples: &[f64]) -> Option<Median> {
    if samples.is_empty() {
        return None;
    }
    let sorted = sorted(samples);
    let cut = outside(sorted.len());
    Some(Median { median: quantile(&sorted, 0.5), low: sorted[cut], high: sorted[sorted.len() - 1 - cut] })
}

/// How many samples at each end lie outside of the interval: the most for which P(binomial (n, 1/2) <= that) stays within 2.5 %.
/// Beyond a thousand samples it is that of a thousand, a wider interval than need be.
fn outside(n: usize) -> usize {
    let n = n.min(1000);
    let mut probability = 0.5f64.powi(n as i32);
    let (mut sum, mut cut) = (probability, 0);
    while cut + 1 < n.div_ceil(2) {
        probability *= (n - cut) as f64 / (cut + 1) as f64;
        sum += probability;
        if sum > 0.025 {
            break;
        }
        cut += 1;
    }
    cut
}

/// The mean of the least two fifths of some samples, of one at least: what a machine takes that does nothing else meanwhile. Where others
/// work at the same time they can only add, so that the median says more of them than of what is measured. 0 for none.
pub fn undisturbed(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    let least = &sorted[..(sorted.len() * 2 / 5).max(1).min(sorted.len())];
    least.iter().sum::<f64>() / least.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranks are those of the published tables of distribution-free intervals for the median (95 %).
    #[test]
    fn the_interval_lies_between_order_statistics() {
        let check = |n: usize, low: f64, high: f64| {
            let samples: Vec<f64> = (1..=n).rev().map(|i| i as f64).collect();
            let found = median(&samples).unwrap();
            assert_eq!((found.low, found.high), (low, high), "{n} samples");
            assert!((found.median - f64::midpoint(n as f64, 1.0)).abs() < 1e-12);
        };
        check(1, 1.0, 1.0);
        check(5, 1.0, 5.0);
        check(6, 1.0, 6.0);
        check(8, 1.0, 8.0);
        check(9, 2.0, 8.0);
        check(12, 3.0, 10.0);
        check(20, 6.0, 15.0);
        check(30, 10.0, 21.0);
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(median(&[]), None);
        assert!(spread(&[]).abs() < 1e-12);
    }

    #[test]
    fn the_spread_is_relative() {
        assert!(spread(&[2.0, 2.0, 2.0]).abs() < 1e-12);
        assert!((spread(&[1.0, 2.0, 3.0, 4.0, 5.0]) - 1.0 / 3.0).abs() < 1e-12);
    }
}
