//! Candidates side by side: all sessions in one process, one run of each a round, in an order that rotates, compared by the ratios
//! within a round. What a shared machine does to one of them it does to its neighbours too, so ratios stand where times do not.
//!
//! A second session of the first candidate runs along: its ratio to the first is 1 but for noise, and what is closer to 1 than it is not
//! a difference. How many rounds there are follows from the intervals, see [`sequential`](super::sequential).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::apart::difference;
use super::candidate::Candidate;
use super::inputs::{TensorSpec, zeros};
use super::sequential::{Effort, Stop, fits, settled};
use super::statistics::{Median, median};
use crate::diag::Result;
use crate::runtime::session::{Runtime, Session};
use crate::runtime::tensor::{Tensor, TensorView, TensorViewMut};

/// A round that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its number from 1, rounds that do not count included.
    pub number: usize,
    /// The most that there can be.
    pub most: usize,
    /// How long the longest took so far.
    pub longest: Duration,
}

/// What was measured of one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateTimes {
    /// The candidate's name.
    pub name: String,
    /// Is it the second session of the first candidate?
    pub control: bool,
    /// Why there are as many rounds as there are.
    pub stopped: Stop,
    /// Seconds of each round, from the first on.
    pub times_s: Vec<f64>,
    /// Seconds.
    pub time_s: Median,
    /// The least of them, the one that others on the machine disturbed least.
    pub best_s: f64,
    /// Time over the first candidate's in the same round.
    pub ratio: Median,
    /// ‖out − first's‖ / ‖first's‖, the worst of all outputs.
    pub rel_l2: f64,
}

/// What a comparison with the first candidate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Less time, beyond noise.
    Faster,
    /// No difference that these rounds can show.
    Equal,
    /// More time, beyond noise.
    Slower,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The candidates in the order that they were given; the control is last.
    pub rows: Vec<CandidateTimes>,
    /// The outputs of the first candidate, for sessions that are to write to memory of the caller.
    pub outputs: Vec<TensorSpec>,
}

impl Paired {
    /// How far the control's ratio is from 1: its interval's farther end.
    pub fn noise(&self) -> f64 {
        self.rows.iter().find(|r| r.control).map_or(0.0, |r| from_one(r.ratio))
    }

    /// Is a candidate another one than the first in time? Its interval must leave out the band of the control.
    pub fn verdict(&self, row: usize) -> Verdict {
        let (ratio, noise) = (self.rows[row].ratio, self.noise());
        match () {
            () if ratio.high < 1.0 - noise => Verdict::Faster,
            () if ratio.low > 1.0 + noise => Verdict::Slower,
            () => Verdict::Equal,
        }
    }

    /// The candidate of least time.
    pub fn fastest(&self) -> usize {
        let rated = self.rows.iter().enumerate().filter(|(_, r)| !r.control);
        rated.min_by(|a, b| a.1.ratio.median.total_cmp(&b.1.ratio.median)).map_or(0, |(i, _)| i)
    }
}

/// The farther end of an interval from 1.
fn from_one(ratio: Median) -> f64 {
    (ratio.high - 1.0).max(1.0 - ratio.low).max(0.0)
}

/// A candidate in the course of a measurement.
struct Running {
    session: Session,
    outputs: Vec<(String, Tensor)>,
    times: Vec<f64>,
    /// Set when it needs no further rounds.
    stopped: Option<Stop>,
}

impl Running {
    /// The first run allocates the outputs, all later ones write to them.
    fn start(runtime: &Runtime, candidate: &Candidate, inputs: &[(&str, TensorView<'_>)]) -> Result<Self> {
        let mut session = candidate.open(runtime).map_err(|d| d.note(format!("the candidate is `{}`", candidate.name)))?;
        let names: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
        let made = session.run(inputs, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self { session, outputs: names.into_iter().zip(made).collect(), times: Vec::new(), stopped: None })
    }

    fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<f64> {
        let outputs: Vec<(&str, TensorViewMut<'_>)> = self.outputs.iter_mut().map(|(n, t)| (n.as_str(), t.view_mut())).collect();
        let start = Instant::now();
        self.session.run_into(inputs, outputs, None)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Measures candidates against the first. `watch` hears of every round before it begins.
///
/// # Errors
/// Those of making and running sessions; `measure/outputs-differ` if two candidates cannot be forms of one model.
pub fn paired(
    runtime: &Runtime,
    candidates: &[Candidate],
    inputs: &[(String, Tensor)],
    effort: Effort,
    watch: &mut dyn FnMut(Round),
) -> Result<Paired> {
    let start = Instant::now();
    let inputs: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
    let Some(first) = candidates.first() else { return Ok(Paired { rows: vec![], outputs: vec![] }) };
    let control = effort.control.then(|| Candidate { name: format!("{} again", first.name), ..first.clone() });
    let all: Vec<&Candidate> = candidates.iter().chain(&control).collect();
    let mut running = all.iter().map(|c| Running::start(runtime, c, &inputs)).collect::<Result<Vec<_>>>()?;
    let errors = running.iter().map(|r| difference(&running[0].outputs, &r.outputs)).collect::<Result<Vec<_>>>()?;
    let why = rounds(&mut running, &inputs, effort, start, watch)?;
    stop(&mut running, why);
    let outputs = running[0].outputs.iter().map(|(name, t)| spec(name, t)).collect();
    let rows = all.iter().zip(&running).zip(errors).enumerate().map(|(i, ((candidate, run), rel_l2))| CandidateTimes {
        name: candidate.name.clone(),
        control: i == candidates.len(),
        ..row(run, &running[0].times, rel_l2)
    });
    Ok(Paired { rows: rows.collect(), outputs })
}

/// The rounds, and why there are no more. The control is the last of `running` if there is one.
fn rounds(
    running: &mut [Running],
    inputs: &[(&str, TensorView<'_>)],
    effort: Effort,
    start: Instant,
    watch: &mut dyn FnMut(Round),
) -> Result<Stop> {
    let (most, mut longest) = (effort.warmup + effort.rounds.max(1), Duration::ZERO);
    for round in 0..most {
        // The first of the rounds that count is run in any case, those before it only if there is time.
        let fits = fits(effort.within, start.elapsed(), longest);
        if !fits && round < effort.warmup {
            continue;
        }
        if !fits && round > effort.warmup {
            return Ok(Stop::Time);
        }
        watch(Round { number: round + 1, most, longest });
        let begin = Instant::now();
        for index in rotated(running.len(), round) {
            if running[index].stopped.is_some() {
                continue;
            }
            let time = running[index].run(inputs)?;
            if round >= effort.warmup {
                running[index].times.push(time);
            }
        }
        longest = longest.max(begin.elapsed());
        if effort.looks((round + 1).saturating_sub(effort.warmup)) && look(running) {
            return Ok(Stop::Settled);
        }
    }
    Ok(Stop::Rounds)
}

/// Stops those that are settled. True if all are: then the first and its control need not go on either.
fn look(running: &mut [Running]) -> bool {
    let (first, last) = (running[0].times.clone(), running.len() - 1);
    let noise = ratios(&running[last].times, &first).map_or(0.0, from_one);
    for candidate in &mut running[1..last] {
        if candidate.stopped.is_none() && ratios(&candidate.times, &first).is_some_and(|r| settled(r, noise)) {
            candidate.stopped = Some(Stop::Settled);
        }
    }
    running[1..last].iter().all(|c| c.stopped.is_some())
}

fn stop(running: &mut [Running], why: Stop) {
    running.iter_mut().for_each(|r| r.stopped = r.stopped.or(Some(why)));
}

/// The ratio to the first candidate's times of the same rounds; none without a round.
fn ratios(times: &[f64], first: &[f64]) -> Option<Median> {
    let ratios: Vec<f64> = times.iter().zip(first).map(|(t, f)| t / f.max(f64::MIN_POSITIVE)).collect();
    median(&ratios)
}

fn row(run: &Running, first: &[f64], rel_l2: f64) -> CandidateTimes {
    let times = &run.times;
    CandidateTimes {
        name: String::new(),
        control: false,
        stopped: run.stopped.unwrap_or_default(),
        times_s: times.clone(),
        time_s: median(times).expect("there is at least one round"),
        best_s: times.iter().copied().fold(f64::INFINITY, f64::min),
        ratio: ratios(times, first).expect("there is at least one round"),
        rel_l2,
    }
}

/// The order of a round: it starts with another candidate each round and turns round every other time, so that nobody always runs
/// behind the same neighbour.
pub(super) fn rotated(n: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).map(|i| (i + round / 2) % n).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn spec(name: &str, tensor: &Tensor) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype: tensor.dtype(), shape: tensor.shape().to_vec(), range: (0.0, 0.0) }
}

/// Memory for outputs.
///
/// # Errors
/// `measure/input-size`.
pub(super) fn output_memory(specs: &[TensorSpec]) -> Result<Vec<(String, Tensor)>> {
    specs.iter().map(|s| Ok((s.name.clone(), zeros(s)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_runs_once_a_round_and_first_in_its_turn() {
        assert_eq!(rotated(3, 0), [0, 1, 2]);
        assert_eq!(rotated(3, 1), [2, 1, 0]);
        assert_eq!(rotated(3, 2), [1, 2, 0]);
        assert_eq!(rotated(3, 5), [1, 0, 2]);
        assert_eq!(rotated(1, 4), [0]);
    }

    #[test]
    fn a_difference_must_leave_the_band_of_the_control() {
        let ratio = |low: f64, high: f64| Median { median: f64::midpoint(low, high), low, high };
        let made = |control: Median, other: Median| {
            let with = |ratio, control| CandidateTimes {
                name: String::new(),
                control,
                stopped: Stop::Rounds,
                times_s: vec![],
                time_s: ratio,
                best_s: 1.0,
                ratio,
                rel_l2: 0.0,
            };
            Paired { rows: vec![with(ratio(1.0, 1.0), false), with(other, false), with(control, true)], outputs: vec![] }.verdict(1)
        };
        assert_eq!(made(ratio(0.98, 1.02), ratio(0.90, 0.95)), Verdict::Faster);
        assert_eq!(made(ratio(0.98, 1.08), ratio(0.90, 0.95)), Verdict::Equal);
        assert_eq!(made(ratio(0.99, 1.01), ratio(1.02, 1.10)), Verdict::Slower);
        assert_eq!(made(ratio(0.99, 1.01), ratio(0.97, 1.10)), Verdict::Equal);
    }
}
