//! `vidc runtime`: the ONNX Runtime library.

use std::path::PathBuf;

use serde_json::json;

use crate::common::table::table;
use crate::common::{Done, Out, say};
use vidc::runtime::provision::{self, LookedAt, RuntimeStatus, State};

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Where the library is looked for, and what is there.
    Status {
        /// As `vidc run --runtime`.
        #[arg(long, value_name = "PATH")]
        runtime: Option<PathBuf>,
    },
    /// Put the library into vidc's cache.
    Install {
        /// A wheel that was fetched elsewhere; else pip fetches it.
        #[arg(long, value_name = "WHEEL")]
        from: Option<PathBuf>,
    },
}

/// Runs the command.
pub(crate) fn run(command: &Command, out: &Out) -> Done {
    match command {
        Command::Status { runtime } => {
            let status = provision::status(runtime.as_deref())?;
            out.result(|| status_text(&status), || json!({ "runtime": status }));
        }
        Command::Install { from } => {
            let located = provision::install(from.as_deref(), &mut say)?;
            let version = located.version.clone().unwrap_or_default();
            out.result(|| format!("ONNX Runtime {version} is at {}\n", located.path.display()), || json!({ "runtime": located }));
        }
    }
    Ok(())
}

/// The places and what is there, and which one is used.
pub(crate) fn status_text(status: &RuntimeStatus) -> String {
    let rows: Vec<Vec<String>> = status.candidates.iter().map(row).collect();
    let used = status.candidates.iter().find(|c| !matches!(c.state, State::NotSet));
    let conclusion = match used {
        Some(LookedAt { how, state: State::Found { .. } | State::Verified, .. }) => format!("used: {}\n", how.label()),
        Some(LookedAt { how: provision::How::Cache, state: State::Missing, .. }) | None => {
            format!("not here yet: `vidc run` and `vidc runtime install` fetch ONNX Runtime {}\n", provision::VERSION)
        }
        Some(bad) => format!("cannot be used: {}\n", bad.how.label()),
    };
    table(&["place", "state", "path"], &rows) + &conclusion
}

fn row(c: &LookedAt) -> Vec<String> {
    let state = match &c.state {
        State::NotSet => "not set".into(),
        State::Missing => "missing".into(),
        State::Found { version } => version.clone().unwrap_or_else(|| "found, version not known".into()),
        State::Verified => format!("{} verified", provision::VERSION),
        State::HashMismatch { found } => format!("another file, sha256 {}", &found[..found.len().min(12)]),
        State::Unreadable { why } => format!("unreadable: {why}"),
    };
    vec![c.how.label().into(), state, c.path.as_ref().map_or_else(String::new, |p| p.display().to_string())]
}
