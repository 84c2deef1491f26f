//! Progress on stderr: bars with the time left on a terminal, else one plain line per stage and per few steps.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

use super::say;
use vidc::runtime::request::Event;

/// Most lines that the steps of one loop write where there is no terminal.
const LINES: usize = 50;

/// How often a line without steps is drawn.
const TICK: Duration = Duration::from_millis(120);

/// Shows the events of a run.
pub(crate) struct Progress {
    terminal: bool,
    bar: Option<ProgressBar>,
    start: Instant,
}

impl Progress {
    /// Progress of a run that begins now.
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), bar: None, start: Instant::now() }
    }

    /// Shows what happened.
    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::Loading(model) => self.line(format!("loading {model}")),
            Event::Call(..) => {}
            Event::Stage(model) => self.line(format!("running {model}")),
            Event::Step(name, done, of) => self.step(&name, done, of),
        }
    }

    fn line(&mut self, text: String) {
        if !self.terminal {
            return say(&text);
        }
        self.finish();
        let bar = ProgressBar::new_spinner().with_message(text);
        bar.enable_steady_tick(TICK);
        self.bar = Some(bar);
    }

    fn step(&mut self, name: &str, done: usize, of: usize) {
        if !self.terminal {
            if done == of || of <= LINES || (done * LINES) / of != ((done - 1) * LINES) / of {
                say(&format!("{name}: step {done} of {of}, {:.1} s", self.start.elapsed().as_secs_f64()));
            }
            return;
        }
        if self.bar.as_ref().is_none_or(|b| b.length() != Some(of as u64)) {
            self.finish();
            let bar = ProgressBar::new(of as u64).with_message(name.to_owned()).with_position(done as u64 - 1);
            bar.set_style(style());
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }

    /// Takes what is shown away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    let template = "{msg} [{bar:40}] {pos}/{len} {elapsed} elapsed, {eta} left";
    ProgressStyle::with_template(template).map_or_else(|_| ProgressStyle::default_bar(), |s| s.progress_chars("=> "))
}

/// One line that says what is running, on a terminal alone.
pub(crate) struct Doing {
    bar: Option<ProgressBar>,
}

impl Doing {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { bar: std::io::stderr().is_terminal().then(ProgressBar::new_spinner) }
    }

    /// Shows a text in place of the last.
    pub(crate) fn show(&mut self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.enable_steady_tick(TICK);
            bar.set_message(text.to_owned());
        }
    }

    /// Takes it away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
