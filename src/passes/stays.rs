//! When a session is loaded where only the one that runs is in memory: from the first to the last of neighbouring calls of it.
//!
//! ```text
//! A  host  A  B  loop { A }          A A, then B, then the whole loop: three stays, one load each
//! loop { A  B  host  B }             within the loop A, then B B: two loads in every step
//! A  if { A } else { host }          A and the whole branch: one stay
//! if { A } else { B }                within each arm its own
//! ```

use std::collections::BTreeSet;

/// What happens to an item, or to several in a row, of a list of calls, loops and other things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stay {
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
pub(super) fn stays(uses: &[BTreeSet<usize>]) -> Vec<Stay> {
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
