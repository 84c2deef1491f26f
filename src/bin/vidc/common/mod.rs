//! What the subcommands share: where results go, how errors are shown, how graphs, weights and machines are named.

pub(crate) mod args;
pub(crate) mod clock;
pub(crate) mod libraries;
pub(crate) mod planning;
pub(crate) mod progress;
pub(crate) mod render;
pub(crate) mod system;
pub(crate) mod table;
pub(crate) mod target;
pub(crate) mod weights;

use std::io::Write;

use serde_json::{Value, json};

use vidc::diag::{Diagnostic, Diagnostics};

/// The version of every JSON document on stdout.
pub(crate) const JSON_VERSION: u32 = 1;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one versioned document.
    Json,
}

/// Why a command did not do what it should.
pub(crate) enum Failure {
    /// Mistakes with codes.
    Found(Diagnostics),
    /// Arguments that exclude each other, which the argument parser cannot see.
    Usage(String),
}

/// What a subcommand returns.
pub(crate) type Done = Result<(), Failure>;

impl From<Diagnostics> for Failure {
    fn from(found: Diagnostics) -> Self {
        Self::Found(found)
    }
}

impl From<Box<Diagnostic>> for Failure {
    fn from(d: Box<Diagnostic>) -> Self {
        Self::Found(d.into())
    }
}

impl From<Diagnostic> for Failure {
    fn from(d: Diagnostic) -> Self {
        Self::Found(d.into())
    }
}

/// Where results go.
pub(crate) struct Out {
    format: Format,
}

impl Out {
    /// Results in this format.
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Is it for programs?
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes the result: a text that ends in a newline, or the fields of a JSON object, to which the version is added.
    pub(crate) fn result(&self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        let whole = match self.format {
            Format::Text => text(),
            Format::Json => versioned(json()),
        };
        to_stdout(&whole);
    }
}

/// One JSON document with its version, pretty-printed.
pub(crate) fn versioned(fields: Value) -> String {
    let mut document = json!({ "version": JSON_VERSION });
    if let (Some(to), Value::Object(from)) = (document.as_object_mut(), fields) {
        to.extend(from);
    }
    format!("{document:#}\n")
}

/// Writes to stdout; that nobody reads it any more is no error.
pub(crate) fn to_stdout(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes one line to stderr.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Logs to stderr what `VIDC_LOG` asks for; warnings if it is not set.
pub(crate) fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("VIDC_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
