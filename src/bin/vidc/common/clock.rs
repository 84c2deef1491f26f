//! The time of a command that measures: what is left of it, what is running, what there was no time for.

use std::time::{Duration, Instant};

use super::progress::Doing;

/// The time of the whole command.
pub(crate) struct Clock {
    start: Instant,
    budget_s: f64,
    /// When everything will be done, seconds after the start.
    due_s: f64,
    doing: Doing,
    left_out: Vec<String>,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start(budget_s: f64) -> Self {
        Self { start: Instant::now(), budget_s, due_s: budget_s, doing: Doing::new(), left_out: vec![] }
    }

    /// Seconds since the start.
    pub(crate) fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Seconds of the budget that are left.
    pub(crate) fn left(&self) -> f64 {
        (self.budget_s - self.elapsed()).max(0.0)
    }

    /// What is left behind `reserved` seconds for later.
    pub(crate) fn within(&self, reserved: f64) -> Duration {
        Duration::from_secs_f64((self.left() - reserved).max(0.0))
    }

    /// Says that everything will take so many seconds more.
    pub(crate) fn expect(&mut self, seconds: f64) {
        self.due_s = self.elapsed() + seconds;
    }

    /// Shows what is running, on a terminal.
    pub(crate) fn show(&mut self, what: &str) {
        let left = (self.due_s - self.elapsed()).max(0.0);
        self.doing.show(&format!("{what}; about {left:.0} s left"));
    }

    /// Notes what there is no time for.
    pub(crate) fn leave_out(&mut self, what: impl Into<String>) {
        self.left_out.push(what.into());
    }

    /// Takes what is shown away; what was left out.
    pub(crate) fn finish(mut self) -> Took {
        self.doing.finish();
        Took { seconds: self.elapsed(), budget_s: self.budget_s, left_out: self.left_out }
    }
}

/// How long the command took, and what it left out for that.
#[derive(serde::Serialize)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    pub(crate) budget_s: f64,
    pub(crate) left_out: Vec<String>,
}

impl Took {
    /// One line, or none.
    pub(crate) fn words(&self) -> String {
        if self.left_out.is_empty() {
            return String::new();
        }
        format!("left out: {} (--time {} allows no more)\n", self.left_out.join("; "), self.budget_s)
    }
}
