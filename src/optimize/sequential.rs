//! When to stop measuring: few rounds first, more only where the interval of a ratio needs them.
//!
//! What keeps the ratios honest although their own course decides how many there are:
//!
//! * Whole rounds alone are looked at, and only behind a round and its reverse (`Effort::looks`): no candidate is stopped right after a
//!   run that happened to suit it, and each has run as often in front of its neighbours as behind them.
//! * No look before [`LEAST`] rounds, the fewest of which a median has an interval of 95 %.
//! * A candidate is settled by its interval against the control's ([`settled`]), never by its median, and a narrow interval around no
//!   difference settles it as well as a difference does: nobody goes on until a difference shows up.
//! * The first candidate and its control run to the end, so what was settled early is judged once more, by the band of all rounds.
//!
//! Several looks at an interval of 95 % leave a little less than 95 %; the band of the control, whose farther end counts, is on the other side.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::statistics::Median;

/// The fewest rounds of which a median has an interval of 95 %.
pub const LEAST: usize = 6;

/// More rounds than this say little more.
pub const ROUNDS: usize = 25;

/// No interval needs to be narrower than this, however quiet the machine.
pub const RESOLUTION: f64 = 0.01;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Rounds that count, at most.
    pub rounds: usize,
    /// Rounds before them that do not.
    pub warmup: usize,
    /// Is a second session of the first candidate to run along? Without it every round is run.
    pub control: bool,
    /// No further round begins that would end behind this, sessions included; one round is always run.
    pub within: Option<Duration>,
}

impl Effort {
    /// As many rounds as the intervals need, at most so many.
    pub fn upto(rounds: usize) -> Self {
        Self { rounds, warmup: 1, control: true, within: None }
    }

    /// Is it time to look, with so many rounds done? Behind a round and its reverse, from [`LEAST`] on.
    pub(super) fn looks(&self, done: usize) -> bool {
        self.control && done >= LEAST && done.is_multiple_of(2)
    }
}

/// Why a candidate has as many rounds as it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Its interval left the band of the control, or is as narrow as it need be.
    Settled,
    /// As many rounds as were asked for.
    #[default]
    Rounds,
    /// The time was over.
    Time,
}

/// Does a ratio's interval need no further rounds, where the control is as far from 1 as `noise`?
pub fn settled(ratio: Median, noise: f64) -> bool {
    let outside = ratio.high < 1.0 - noise || ratio.low > 1.0 + noise;
    outside || ratio.high - ratio.low <= noise.max(RESOLUTION)
}

/// Is there time for another round, if it takes as long as the longest did?
pub(super) fn fits(within: Option<Duration>, elapsed: Duration, longest: Duration) -> bool {
    within.is_none_or(|within| elapsed + longest <= within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimize::statistics::median;

    #[test]
    fn the_first_look_has_an_interval_of_95_percent() {
        let covered = |n: i32| 1.0 - 2.0 * 0.5f64.powi(n);
        assert!(covered(LEAST as i32) >= 0.95 && covered(LEAST as i32 - 1) < 0.95);
        let looks = |n| Effort::upto(100).looks(n);
        assert_eq!((0..12).filter(|n| looks(*n)).collect::<Vec<_>>(), [6, 8, 10]);
        assert!(!Effort { control: false, ..Effort::upto(100) }.looks(8));
    }

    #[test]
    fn settled_by_a_difference_or_by_a_narrow_interval() {
        let check = |low: f64, high: f64, noise: f64, expect: bool| {
            assert_eq!(settled(Median { median: f64::midpoint(low, high), low, high }, noise), expect, "{low} to {high}, noise {noise}");
        };
        check(0.80, 0.95, 0.04, true);
        check(0.80, 0.97, 0.04, false);
        check(1.06, 1.30, 0.05, true);
        check(0.99, 1.01, 0.03, true);
        check(0.97, 1.03, 0.03, false);
        check(0.996, 1.004, 0.001, true);
        check(0.99, 1.01, 0.001, false);
    }

    #[test]
    fn a_round_that_does_not_fit_is_not_begun() {
        let s = Duration::from_secs;
        assert!(fits(None, s(9), s(9)));
        assert!(fits(Some(s(10)), s(8), s(2)));
        assert!(!fits(Some(s(10)), s(9), s(2)));
    }

    /// Noise without pattern, the same on every machine.
    fn noise(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    /// The rule on 2,000 made-up measurements of a candidate `truth` times as slow: mean of the medians, share of differences found.
    fn simulated(truth: f64) -> (f64, f64) {
        let (mut state, mut sum, mut differ) = (1, 0.0, 0);
        for _ in 0..2000 {
            let (mut own, mut control) = (vec![], vec![]);
            loop {
                own.push(truth * (1.0 + 0.1 * noise(&mut state)));
                control.push(1.0 + 0.1 * noise(&mut state));
                let band = median(&control).map_or(0.0, |m| (m.high - 1.0).max(1.0 - m.low));
                let ratio = median(&own).unwrap();
                let done = Effort::upto(24).looks(own.len()) && settled(ratio, band);
                if done || own.len() == 24 {
                    sum += ratio.median;
                    differ += usize::from(ratio.high < 1.0 - band || ratio.low > 1.0 + band);
                    break;
                }
            }
        }
        (sum / 2000.0, differ as f64 / 2000.0)
    }

    #[test]
    fn stopping_early_neither_shifts_a_ratio_nor_invents_a_difference() {
        for truth in [0.9, 0.97, 1.0, 1.04] {
            let (mean, differ) = simulated(truth);
            assert!((mean / truth - 1.0).abs() < 0.005, "{truth}: {mean}");
            if truth == 1.0 {
                assert!(differ < 0.05, "{differ}");
            }
        }
        assert!(simulated(0.85).1 > 0.95);
    }
}
