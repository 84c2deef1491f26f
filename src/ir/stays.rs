//! When a session is loaded where only the one that runs is in memory: from the first to the last of neighbouring calls of it.
//!
//! ```text
//! A  host  A  B  loop { A }          A A, then B, then the whole loop: three stays, one load each
//! loop { A  B  host  B }             within the loop A, then B B: two loads in every step
//! A  if { A } else { host }          A and the whole branch: one stay
//! if { A } else { B }                within each arm its own
//! ```
//! One rule for the cost (how often weights are loaded) and for the plan (where the loads stand).

use std::collections::BTreeSet;

use super::pipeline::{PipeGraph, PipeOp};
use super::program::Program;

/// What happens to an item, or to several in a row, of a list of calls, loops and other things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// The session is loaded before the item `first` and unloaded behind the item `last`.
    Session {
        /// The session.
        session: usize,
        /// The first item that runs it.
        first: usize,
        /// The last one.
        last: usize,
    },
    /// The item is a loop or a branch that runs several sessions: they come and go inside of the body or of each arm.
    Inside(usize),
}

/// The stays of a list, in order; `uses` says for each item which sessions it runs: a call one, a loop those of its body, a branch
/// those of both arms, others none.
pub fn stays(uses: &[BTreeSet<usize>]) -> Vec<Stay> {
    let mut out: Vec<Stay> = Vec::new();
    for (item, sessions) in uses.iter().enumerate() {
        match (sessions.len(), sessions.first(), out.last_mut()) {
            (0, ..) => {}
            (1, Some(only), Some(Stay::Session { session, last, .. })) if session == only => *last = item,
            (1, Some(only), _) => out.push(Stay::Session { session: *only, first: item, last: item }),
            _ => out.push(Stay::Inside(item)),
        }
    }
    out
}

impl Program {
    /// How often the weights of each call are loaded at most (an arm that is not taken loads nothing) where only the session that runs is in memory, in the order of [`Program::calls`];
    /// a call that finds them loaded by the one before has none.
    pub fn loads(&self) -> Vec<u64> {
        let instances: Vec<String> = self.calls().into_iter().map(|site| site.instance).collect();
        // A session is known by its first call.
        let sessions: Vec<usize> = instances.iter().filter_map(|name| instances.iter().position(|other| other == name)).collect();
        let mut loads = vec![0; sessions.len()];
        walk(&self.pipeline.graph, 1, 0, &sessions, &mut loads);
        loads
    }
}

/// Counts the loads of a graph that runs `times` times and whose first call is number `at`.
fn walk(graph: &PipeGraph, times: u64, at: usize, sessions: &[usize], loads: &mut [u64]) {
    let order = graph.order();
    let mut next = at;
    let calls: Vec<std::ops::Range<usize>> = order
        .iter()
        .map(|id| {
            let first = next;
            next += calls_of(&graph.node(*id).op);
            first..next
        })
        .collect();
    let uses: Vec<BTreeSet<usize>> = calls.iter().map(|range| sessions[range.clone()].iter().copied().collect()).collect();
    for stay in stays(&uses) {
        match stay {
            Stay::Session { first, .. } => loads[calls[first].start] = times,
            Stay::Inside(item) => {
                let op = &graph.node(order[item]).op;
                let times = if let PipeOp::Loop(l) = op { times * l.steps.max(0) as u64 } else { times };
                let mut at = calls[item].start;
                for body in op.bodies() {
                    walk(body, times, at, sessions, loads);
                    at += calls_in(body);
                }
            }
        }
    }
}

/// How many calls are written in it.
fn calls_of(op: &PipeOp) -> usize {
    match op {
        PipeOp::Call(_) => 1,
        op => op.bodies().into_iter().map(calls_in).sum(),
    }
}

fn calls_in(graph: &PipeGraph) -> usize {
    graph.ids().map(|id| calls_of(&graph.node(id).op)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uses: &[&[usize]], want: &[Stay]) {
        let uses: Vec<BTreeSet<usize>> = uses.iter().map(|u| u.iter().copied().collect()).collect();
        assert_eq!(stays(&uses), want, "{uses:?}");
    }

    fn session(session: usize, first: usize, last: usize) -> Stay {
        Stay::Session { session, first, last }
    }

    #[test]
    fn a_session_stays_for_neighbouring_calls() {
        check(&[], &[]);
        check(&[&[], &[0], &[], &[0], &[1], &[]], &[session(0, 1, 3), session(1, 4, 4)]);
        check(&[&[0], &[1], &[0]], &[session(0, 0, 0), session(1, 1, 1), session(0, 2, 2)]);
        check(&[&[0], &[0, 1], &[0]], &[session(0, 0, 0), Stay::Inside(1), session(0, 2, 2)]);
    }
}
