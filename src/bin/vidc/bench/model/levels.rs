//! The original at its best: ONNX Runtime's levels, with open and with bound extents, each tried against the best before it.

use super::Bench;
use crate::common::Failure;
use crate::common::clock::Clock;
use vidc::onnx::proto::ModelProto;
use vidc::optimize::agenda::{Part, WAY_ROUNDS, way_seconds};
use vidc::optimize::candidate::{Candidate, ModelSource, set_option};
use vidc::optimize::paired::{CandidateTimes, paired};
use vidc::optimize::sequential::Effort;
use vidc::runtime::session::SessionOptions;
use vidc::units::Bytes;

/// The levels that are tried when none is named.
const LEVELS: [&str; 3] = ["all", "extended", "basic"];

/// A way to run the original, against the best before it.
#[derive(serde::Serialize)]
pub(super) struct Tried {
    name: String,
    against: String,
    /// Time over that of the other.
    ratio: f64,
    /// Peaks of processes of their own: the other's, its own. None where the times decide, or memory is not measured.
    peaks: Option<[Bytes; 2]>,
    taken: bool,
}

impl Tried {
    /// Two rounds say nothing about less than a tenth of a time; between those bounds memory decides.
    const BAND: std::ops::Range<f64> = 0.9..1.1;

    /// For people.
    pub(super) fn words(&self) -> String {
        let peaks = self.peaks.map_or_else(String::new, |[a, b]| format!(", {b} for {a}"));
        let taken = if self.taken { "better" } else { "not better" };
        format!("tried {}: x{:.3} of {}{peaks}: {taken}", self.name, self.ratio, self.against)
    }

    fn decide(ratio: f64, peaks: Option<[Bytes; 2]>) -> bool {
        let close = Self::BAND.contains(&ratio);
        ratio < Self::BAND.start || close && peaks.map_or(ratio < 1.0, |[best, next]| next < best)
    }
}

impl Bench<'_> {
    /// Every way to run the original, the one first that most programs take.
    pub(super) fn ways(&self, original: &ModelProto) -> Result<Vec<Candidate>, Failure> {
        let levels = self.args.level.as_ref().map_or_else(|| LEVELS.to_vec(), |named| vec![named.as_str()]);
        let mut extents = vec![("open", vec![]), ("bound", self.bound(original))];
        // Nothing to bind: one way is the other.
        extents.dedup_by(|a, b| a.1 == b.1);
        let ways = levels.iter().flat_map(|level| extents.iter().map(move |extent| (level, extent)));
        let way = |(level, (how, dims)): (&&str, &(&str, Vec<(String, i64)>))| {
            let mut options = SessionOptions { dims: dims.clone(), ..self.args.defaults() };
            set_option(&mut options, "optimization", level)?;
            Ok(Candidate::new(format!("original, {level}, {how}"), ModelSource::File(self.args.original.clone()), options))
        };
        ways.map(way).collect()
    }

    /// The best of the ways that there is time for. The names of the others are left out; `reserved` seconds are for what comes behind.
    pub(super) fn best(&mut self, mut ways: Vec<Candidate>, clock: &mut Clock, reserved: f64) -> Result<(Candidate, Vec<Tried>), Failure> {
        let mut best = ways.remove(0);
        let mut tried = Vec::new();
        for next in ways {
            if clock.left() < way_seconds(self.pace, self.wants_peaks()) + reserved {
                clock.leave_out(next.name);
                continue;
            }
            clock.show(&format!("trying {}", next.name));
            best = self.better(best, next, &mut tried)?;
        }
        Ok((best, tried))
    }

    fn better(&mut self, best: Candidate, next: Candidate, tried: &mut Vec<Tried>) -> Result<Candidate, Failure> {
        let pair = [best, next];
        let effort = Effort { rounds: WAY_ROUNDS, warmup: 0, control: false, within: None };
        let compared = paired(&self.runtime, &pair, &self.inputs, effort, &mut |_| {})?;
        let ratio = fastest_over(&compared.rows[1], &compared.rows[0]);
        let peaks = if self.wants_peaks() && Tried::BAND.contains(&ratio) {
            Some([self.peak(&pair[0], &compared.outputs)?.peak, self.peak(&pair[1], &compared.outputs)?.peak])
        } else {
            None
        };
        let taken = Tried::decide(ratio, peaks);
        let [best, next] = pair;
        tried.push(Tried { name: next.name.clone(), against: best.name.clone(), ratio, peaks, taken });
        Ok(if taken { next } else { best })
    }

    pub(super) fn wants_peaks(&self) -> bool {
        self.args.parts().contains(&Part::Peaks)
    }
}

/// The least time over the other's least: of two rounds what disturbed one of them is not to decide.
fn fastest_over(row: &CandidateTimes, other: &CandidateTimes) -> f64 {
    row.best_s / other.best_s.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_decides_where_it_can_and_memory_where_it_cannot() {
        let check = |ratio: f64, peaks: Option<[u64; 2]>, expect: bool| {
            assert_eq!(Tried::decide(ratio, peaks.map(|p| p.map(Bytes))), expect, "{ratio} {peaks:?}");
        };
        check(0.8, None, true);
        check(0.8, Some([1, 2]), true);
        check(0.95, Some([1, 2]), false);
        check(1.05, Some([2, 1]), true);
        check(1.05, Some([1, 1]), false);
        check(0.95, None, true);
        check(1.0, None, false);
        check(1.2, Some([2, 1]), false);
    }
}
