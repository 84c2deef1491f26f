//! Candidates side by side: all sessions in one process, one run of each a round, in an order that rotates, compared by the ratios
//! within a round. What a shared machine does to one of them it does to its neighbours too, so ratios stand where times do not.
//!
//! A second session of the first candidate runs along: its ratio to the first is 1 but for noise, and what is closer to 1 than it is not
//! a difference.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use half::{bf16, f16};
use ndarray::ArrayView1;

use super::candidate::Candidate;
use super::inputs::{TensorSpec, zeros};
use super::statistics::{Median, median};
use crate::diag::{Diagnostic, Result};
use crate::metrics::relative_l2;
use crate::runtime::session::{Runtime, Session};
use crate::runtime::tensor::{Tensor, TensorView, TensorViewMut};
use crate::weights::DType;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds before them that do not.
    pub warmup: usize,
}

/// What was measured of one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateTimes {
    /// The candidate's name.
    pub name: String,
    /// Is it the second session of the first candidate?
    pub control: bool,
    /// Seconds of each round.
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
        let control = self.rows.iter().find(|r| r.control).map_or(Median { median: 1.0, low: 1.0, high: 1.0 }, |r| r.ratio);
        (control.high - 1.0).max(1.0 - control.low).max(0.0)
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

/// A candidate in the course of a measurement.
struct Running {
    session: Session,
    outputs: Vec<(String, Tensor)>,
    times: Vec<f64>,
}

impl Running {
    /// The first run allocates the outputs, all later ones write to them.
    fn start(runtime: &Runtime, candidate: &Candidate, inputs: &[(&str, TensorView<'_>)]) -> Result<Self> {
        let mut session = candidate.open(runtime).map_err(|d| d.note(format!("the candidate is `{}`", candidate.name)))?;
        let names: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
        let made = session.run(inputs, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self { session, outputs: names.into_iter().zip(made).collect(), times: Vec::new() })
    }

    fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<f64> {
        let outputs: Vec<(&str, TensorViewMut<'_>)> = self.outputs.iter_mut().map(|(n, t)| (n.as_str(), t.view_mut())).collect();
        let start = Instant::now();
        self.session.run_into(inputs, outputs, None)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Measures candidates against the first.
///
/// # Errors
/// Those of making and running sessions; `measure/outputs-differ` if two candidates cannot be forms of one model.
pub fn paired(runtime: &Runtime, candidates: &[Candidate], inputs: &[(String, Tensor)], effort: Effort) -> Result<Paired> {
    let inputs: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
    let Some(first) = candidates.first() else { return Ok(Paired { rows: vec![], outputs: vec![] }) };
    let control = Candidate { name: format!("{} again", first.name), ..first.clone() };
    let all: Vec<&Candidate> = candidates.iter().chain([&control]).collect();
    let mut running = all.iter().map(|c| Running::start(runtime, c, &inputs)).collect::<Result<Vec<_>>>()?;
    let errors = running.iter().map(|r| difference(&running[0].outputs, &r.outputs)).collect::<Result<Vec<_>>>()?;
    for round in 0..effort.warmup + effort.rounds.max(1) {
        for index in rotated(running.len(), round) {
            let time = running[index].run(&inputs)?;
            if round >= effort.warmup {
                running[index].times.push(time);
            }
        }
    }
    let outputs = running[0].outputs.iter().map(|(name, t)| spec(name, t)).collect();
    let rows = all.iter().zip(&running).zip(errors).enumerate().map(|(i, ((candidate, run), rel_l2))| CandidateTimes {
        name: candidate.name.clone(),
        control: i == candidates.len(),
        ..row(&run.times, &running[0].times, rel_l2)
    });
    Ok(Paired { rows: rows.collect(), outputs })
}

fn row(times: &[f64], first: &[f64], rel_l2: f64) -> CandidateTimes {
    let ratios: Vec<f64> = times.iter().zip(first).map(|(t, f)| t / f.max(f64::MIN_POSITIVE)).collect();
    CandidateTimes {
        name: String::new(),
        control: false,
        times_s: times.to_vec(),
        time_s: median(times).expect("there is at least one round"),
        best_s: times.iter().copied().fold(f64::INFINITY, f64::min),
        ratio: median(&ratios).expect("there is at least one round"),
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

/// The worst relative error of the outputs.
fn difference(want: &[(String, Tensor)], got: &[(String, Tensor)]) -> Result<f64> {
    let differ = |what: String| Diagnostic::new("measure/outputs-differ", what).help("measure two forms of one model");
    let mut worst = 0.0f64;
    for (name, tensor) in want {
        let (_, other) = got.iter().find(|(n, _)| n == name).ok_or_else(|| differ(format!("one model has no output `{name}`")))?;
        if (other.shape(), other.dtype()) != (tensor.shape(), tensor.dtype()) {
            let types = format!("{:?}{:?} and {:?}{:?}", tensor.dtype(), tensor.shape(), other.dtype(), other.shape());
            return Err(differ(format!("output `{name}` is {types}")).into());
        }
        worst = worst.max(apart(tensor, other));
    }
    Ok(worst)
}

/// How far one tensor is from the wanted one, relative to that, over all elements; 0 where both are zero everywhere, infinite where
/// one has a value that is no number and the other has not.
fn apart(want: &Tensor, got: &Tensor) -> f64 {
    // What is no finite number in both, and the same, is as good as equal numbers.
    let same = |w: f64, g: f64| w.is_nan() && g.is_nan() || w.to_bits() == g.to_bits();
    let compared = |(w, g): (f64, f64)| if same(w, g) && !w.is_finite() { (0.0, 0.0) } else { (w, g) };
    let (want, got): (Vec<f64>, Vec<f64>) = numbers(want).into_iter().zip(numbers(got)).map(compared).unzip();
    let ratio = relative_l2(ArrayView1::from(&got), ArrayView1::from(&want));
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

fn numbers(t: &Tensor) -> Vec<f64> {
    fn all<T: crate::runtime::tensor::Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
        t.as_slice::<T>().unwrap_or_default().iter().map(|v| f(*v)).collect()
    }
    match t.dtype() {
        DType::F32 => all(t, |v: f32| v.into()),
        DType::F64 => all(t, |v: f64| v),
        DType::F16 => all(t, |v: f16| v.into()),
        DType::BF16 => all(t, |v: bf16| v.into()),
        DType::I64 => all(t, |v: i64| v as f64),
        DType::I32 => all(t, |v: i32| v.into()),
        DType::I8 => all(t, |v: i8| v.into()),
        DType::U8 => all(t, |v: u8| v.into()),
        DType::Bool | DType::Opaque => t.bytes().iter().map(|v| f64::from(*v)).collect(),
    }
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
    fn relative_error_of_outputs() {
        let check = |want: &[f32], got: &[f32], expect: f64| {
            let tensor = |v: &[f32]| Tensor::from_slice(&[v.len()], v).unwrap();
            let found = apart(&tensor(want), &tensor(got));
            assert!((found - expect).abs() < 1e-9 || found.to_bits() == expect.to_bits(), "{want:?} {got:?}: {found}");
        };
        check(&[3.0, 4.0], &[3.0, 4.0], 0.0);
        check(&[3.0, 4.0], &[3.0, 4.5], 0.1);
        check(&[0.0], &[0.0], 0.0);
        check(&[0.0], &[1.0], f64::INFINITY);
        check(&[f32::NAN, 1.0], &[f32::NAN, 1.0], 0.0);
        check(&[f32::NAN, 1.0], &[0.0, 1.0], f64::INFINITY);
        check(&[f32::INFINITY], &[f32::INFINITY], 0.0);
    }

    #[test]
    fn a_difference_must_leave_the_band_of_the_control() {
        let ratio = |low: f64, high: f64| Median { median: f64::midpoint(low, high), low, high };
        let made = |control: Median, other: Median| {
            let with = |ratio, control| CandidateTimes { control, ratio, ..row(&[1.0], &[1.0], 0.0) };
            Paired { rows: vec![with(ratio(1.0, 1.0), false), with(other, false), with(control, true)], outputs: vec![] }.verdict(1)
        };
        assert_eq!(made(ratio(0.98, 1.02), ratio(0.90, 0.95)), Verdict::Faster);
        assert_eq!(made(ratio(0.98, 1.08), ratio(0.90, 0.95)), Verdict::Equal);
        assert_eq!(made(ratio(0.99, 1.01), ratio(1.02, 1.10)), Verdict::Slower);
        assert_eq!(made(ratio(0.99, 1.01), ratio(0.97, 1.10)), Verdict::Equal);
    }
}
