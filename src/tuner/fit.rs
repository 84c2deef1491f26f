//! What fits on a device: one search for every question (a program of some size, a device), many side by side.
//!
//! A question is answered by a [`Verdict`], also where nothing fits or the program is refused: who asks many wants the other
//! answers all the same.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Attempt, Miss, Request, attempt};
use crate::cost::pipeline::Predicted;
use crate::diag::{Class, Diagnostics};
use crate::hwdb::Machine;
use crate::ir::Program;
use crate::passes::manager::Debugging;
use crate::passes::{KnobId, Planned};
use crate::units::Bytes;

/// The answer to one question.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It fits.
    Fits(Box<Fit>),
    /// It does not fit.
    Misses(Miss),
    /// The graph, its models or the provider do not take it.
    Refused(Diagnostics),
}

/// The best plan that fits.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Its figures.
    pub predicted: Predicted,
    /// Its answers that are not the plain ones, in the order of the knobs.
    pub departures: Vec<(KnobId, String)>,
}

/// Verdicts in the order in which people look for them: what fits, the largest work first, then the fastest; then the misses, the
/// nearest first; then what is refused.
pub type Rank = (u8, Reverse<u128>, u64);

impl Verdict {
    /// The place among others, by the work of the question, then by time; of misses by what they lack beyond the memory that was
    /// allowed.
    pub fn rank(&self, work: u128, allowed: Bytes) -> Rank {
        match self {
            Self::Fits(fit) => (0, Reverse(work), fit.predicted.latency_ps),
            Self::Misses(miss) => (1, Reverse(0), (miss.needs - allowed).0),
            Self::Refused(_) => (2, Reverse(0), 0),
        }
    }
}

/// Searches the best plan of a program on a machine. What the library is not able to plan is a verdict; a bug of vidc is not.
///
/// # Errors
/// `internal/bug` and its like.
pub fn fit(program: &Program, machine: &Machine, request: &Request) -> Result<Verdict, Diagnostics> {
    let searched = Planned::of(program, machine, &Debugging::default()).and_then(|planned| attempt(&planned, request));
    match searched {
        Ok(Attempt::Fits(outcome)) => {
            let departures = outcome.choices.departures(&outcome.knobs);
            let departures = departures.into_iter().map(|(knob, answer)| (knob.id.clone(), answer.name.clone())).collect();
            Ok(Verdict::Fits(Box::new(Fit { predicted: outcome.predicted, departures })))
        }
        Ok(Attempt::Misses(miss)) => Ok(Verdict::Misses(miss)),
        Err(d) if d.class() == Class::Bug => Err(d.into()),
        Err(d) => Ok(Verdict::Refused(d.into())),
    }
}

/// Stack of a thread that searches, bytes: as much as a main thread usually has.
const STACK: usize = 8 << 20;

/// Answers questions, at most `workers` at a time; the answers stand in the order of the questions, whoever was first.
///
/// The threads are not rayon's: a thread of its pool that waits for a part of one search would begin the next one meanwhile, and
/// then more searches are in memory than was wanted. The parts of all searches share its pool.
pub fn side_by_side<Q: Sync, A: Send>(questions: &[Q], workers: usize, answer: impl Fn(&Q) -> A + Sync) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut answers = Vec::new();
        while let Some((at, question)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, questions.get(at)?))) {
            answers.push((at, answer(question)));
        }
        answers
    };
    let mut all = std::thread::scope(|scope| {
        let thread = |_| std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok();
        // A thread that the system refuses leaves its share to the others; the last of them is this one.
        let others: Vec<_> = (1..workers).filter_map(thread).collect();
        let mut all = work();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::units::Time;

    #[test]
    fn answers_stand_in_the_order_of_the_questions() {
        let questions: Vec<u64> = (0..50).collect();
        let wanted: Vec<u64> = questions.iter().map(|q| q * q).collect();
        for workers in [0, 1, 3, 80] {
            assert_eq!(side_by_side(&questions, workers, |q| q * q), wanted, "{workers} workers");
        }
    }

    #[test]
    fn a_small_budget_is_a_miss_and_the_nearest_comes_first() {
        let program = crate::models::load(&crate::spec::builtin("svd-tiny").unwrap(), &[]).unwrap();
        let machine = crate::hwdb::machine("rtx3060-12gb").unwrap();
        let of = |memory| fit(&program, &machine, &Request { memory: Some(Bytes(memory)), ..Request::default() }).unwrap();
        let (fits, misses) = (of(8 << 30), of(1 << 20));
        let Verdict::Misses(Miss { needs, .. }) = misses else { panic!("{misses:?}") };
        // The least that a budget may be is what the miss says.
        assert!(matches!(of(needs.0), Verdict::Fits(_)));
        assert!(matches!(of(needs.0 - 1), Verdict::Misses(miss) if miss.needs == needs));
        let far = Verdict::Misses(Miss { needs: needs + Bytes(1), latency: Time(0) });
        let allowed = Bytes(1 << 20);
        let refused = Verdict::Refused(Diagnostics::default());
        let ordered = [(&fits, 2), (&fits, 1), (&misses, 9), (&far, 9), (&refused, 9)];
        let ranks = ordered.map(|(verdict, work)| verdict.rank(work, allowed));
        assert!(ranks.is_sorted(), "{ranks:?}");
        // The same need is nearer where more is allowed.
        assert!(misses.rank(1, allowed) < misses.rank(1, Bytes(0)));
    }
}
