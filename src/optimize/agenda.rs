//! What of a comparison fits into a time, decided before it begins: how fast one session is loaded and run says what every part will take.
//!
//! The comparison itself comes first, with [`LEAST`] rounds; then the parts in the order of [`Part`], each whole or not at all (a figure
//! that one form has and the other has not compares nothing), but for the ways of the original, of which as many are tried as fit. What
//! is left over is for more rounds.

use serde::Serialize;

use super::sequential::LEAST;

/// Fewer rounds than [`LEAST`] are run rather than none of [`Part::Peaks`], but not fewer than this.
const FEWEST: usize = 4;
/// Starting a process of its own, loading the library and making inputs there, seconds.
const PROCESS_S: f64 = 0.5;
/// A way of the original and the best before it.
const WAY_SESSIONS: usize = 2;
/// Rounds of two ways beside each other: one and its reverse.
pub const WAY_ROUNDS: usize = 2;

/// How long one session takes, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Making it.
    pub load_s: f64,
    /// One run.
    pub run_s: f64,
}

impl Pace {
    fn session(self, runs: usize) -> f64 {
        self.load_s + self.run_s * runs as f64
    }
}

/// What is measured beside times, the most wanted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Memory of a process of its own for each form.
    Peaks,
    /// Bytes of activations, counted.
    Activations,
    /// Nodes that ONNX Runtime leaves.
    Rewrites,
    /// Time by kernel.
    Kernels,
}

impl Part {
    /// All of them; the ways of the original come before the last.
    pub const ALL: [Self; 4] = [Self::Peaks, Self::Activations, Self::Rewrites, Self::Kernels];

    /// For who reads what was left out.
    pub fn words(self) -> &'static str {
        match self {
            Self::Peaks => "memory of processes",
            Self::Activations => "activations",
            Self::Rewrites => "nodes after ONNX Runtime's rewrites",
            Self::Kernels => "time by kernel",
        }
    }

    /// Evaluations that it takes of each form.
    pub fn runs(self) -> usize {
        match self {
            Self::Peaks => super::peak::RUNS,
            Self::Activations | Self::Kernels => 2,
            Self::Rewrites => 0,
        }
    }

    /// Seconds for so many forms.
    pub fn seconds(self, pace: Pace, forms: usize) -> f64 {
        let each = pace.session(self.runs());
        match self {
            // One process more for a session of nothing.
            Self::Peaks => forms as f64 * (each + PROCESS_S) + PROCESS_S,
            // What was loaded is written too.
            Self::Rewrites => forms as f64 * 2.0 * each,
            Self::Activations | Self::Kernels => forms as f64 * each,
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Forms, the original included.
    pub forms: usize,
    /// Ways of the original beside the first.
    pub ways: usize,
    /// Rounds at most.
    pub rounds: usize,
    /// Rounds before them.
    pub warmup: usize,
    /// Parts.
    pub parts: Vec<Part>,
}

impl Wanted {
    /// Seconds of a comparison of so many rounds.
    fn comparison(&self, pace: Pace, rounds: usize) -> f64 {
        // The control, and a first run of each that allocates its outputs.
        (self.forms + 1) as f64 * pace.session(1 + rounds)
    }
}

/// Seconds of trying one way of the original against the best before it.
pub fn way_seconds(pace: Pace, peaks: bool) -> f64 {
    let sessions = WAY_SESSIONS as f64 * pace.session(1 + WAY_ROUNDS);
    // Where times cannot be told apart memory decides: usually one new process, the best has its figure.
    sessions + if peaks { pace.session(Part::Peaks.runs()) + PROCESS_S } else { 0.0 }
}

/// What fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Agenda {
    /// Ways of the original that are tried beside the first.
    pub ways: usize,
    /// Rounds that the comparison will have at least.
    pub rounds: usize,
    /// Rounds before them.
    pub warmup: usize,
    /// Parts, in the order of [`Part::ALL`].
    pub parts: Vec<Part>,
    /// Seconds of everything with those rounds.
    pub seconds: f64,
}

/// Fits what is wanted into the seconds that are left.
pub fn agenda(pace: Pace, wanted: &Wanted, left_s: f64) -> Agenda {
    let comparison = |rounds: usize| wanted.comparison(pace, rounds);
    let peaks = if wanted.parts.contains(&Part::Peaks) { Part::Peaks.seconds(pace, wanted.forms) } else { 0.0 };
    let least = LEAST.min(wanted.rounds);
    // Fewer rounds if that makes room for memory; if it does not, or none is wanted, as many as there is time for.
    let fitting = |beside: f64| (1..=least).rev().find(|rounds| comparison(*rounds) + beside <= left_s).unwrap_or(1);
    let rounds = Some(fitting(peaks)).filter(|r| *r >= FEWEST.min(least)).unwrap_or_else(|| fitting(0.0));
    let mut spent = comparison(rounds);
    let mut take = |seconds: f64| {
        let fits = spent + seconds <= left_s;
        spent += if fits { seconds } else { 0.0 };
        fits
    };
    let (mut parts, mut ways) = (vec![], 0);
    for part in Part::ALL {
        if part == Part::Kernels {
            ways = (0..wanted.ways).take_while(|_| take(way_seconds(pace, peaks > 0.0))).count();
        }
        if wanted.parts.contains(&part) && take(part.seconds(pace, wanted.forms)) {
            parts.push(part);
        }
    }
    let warm = (wanted.forms + 1) as f64 * pace.run_s;
    let warmup = (0..wanted.warmup).take_while(|_| take(warm)).count();
    Agenda { ways, rounds, warmup, parts, seconds: spent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(forms: usize) -> Wanted {
        Wanted { forms, ways: 5, rounds: 25, warmup: 1, parts: Part::ALL.to_vec() }
    }

    /// What a model of this many seconds a run gets in 100 seconds: rounds, ways, parts.
    fn check(run_s: f64, forms: usize, expect: (usize, usize, &[Part])) {
        let got = agenda(Pace { load_s: run_s / 4.0, run_s }, &wanted(forms), 100.0);
        assert_eq!((got.rounds, got.ways, got.parts.as_slice()), expect, "{run_s} s, {forms} forms");
        assert!(got.seconds <= 100.0 || got.rounds == 1, "{got:?}");
    }

    #[test]
    fn a_fast_model_gets_everything_and_a_slow_one_what_fits() {
        use Part::{Activations, Peaks, Rewrites};
        check(0.05, 2, (6, 5, &Part::ALL));
        check(1.0, 2, (6, 5, &Part::ALL));
        check(1.5, 2, (6, 3, &Part::ALL));
        check(3.0, 2, (6, 0, &[Peaks, Activations, Rewrites]));
        check(4.5, 2, (4, 0, &[Peaks, Rewrites]));
        check(5.0, 2, (5, 0, &[Rewrites]));
        check(7.0, 2, (3, 0, &[Rewrites]));
        check(3.0, 4, (5, 0, &[Rewrites]));
        check(60.0, 2, (1, 0, &[]));
    }

    #[test]
    fn nothing_is_planned_that_was_not_asked_for() {
        let pace = Pace { load_s: 0.0, run_s: 0.001 };
        let asked = Wanted { ways: 0, rounds: 3, parts: vec![Part::Kernels], warmup: 2, ..wanted(2) };
        let got = agenda(pace, &asked, 100.0);
        assert_eq!((got.ways, got.rounds, got.warmup, got.parts), (0, 3, 2, vec![Part::Kernels]));
        let without = Wanted { parts: vec![], ..wanted(2) };
        assert_eq!(agenda(pace, &without, 100.0).parts, []);
    }

    #[test]
    fn more_time_never_leaves_out_more() {
        let pace = Pace { load_s: 1.0, run_s: 2.0 };
        let at = |seconds: f64| agenda(pace, &wanted(2), seconds);
        let mut before = at(1.0);
        for seconds in (10..400).step_by(10) {
            let now = at(f64::from(seconds));
            assert!(now.seconds >= before.seconds - 1e-9, "{seconds}: {now:?} after {before:?}");
            before = now;
        }
        assert_eq!((before.ways, before.parts.len(), before.rounds), (5, 4, 6));
    }
}
