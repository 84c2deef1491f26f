//! `vidc runtime`: the ONNX Runtime library.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::libraries::{FetchArgs, agree};
use crate::common::table::table;
use crate::common::{Done, Out, say};
use vidc::runtime::provision::{self, LookedAt, ProviderState, ProviderStatus, Provision, RuntimeStatus, State};

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Where the library is looked for, and what is there.
    Status {
        /// As `vidc run --runtime`.
        #[arg(long, value_name = "PATH")]
        runtime: Option<PathBuf>,
    },
    /// Put ONNX Runtime into vidc's cache, or the libraries of a provider. What is there is replaced.
    Install {
        /// A provider whose libraries are published: openvino, tensorrt-rtx, cuda.
        #[arg(long, value_name = "NAME")]
        provider: Option<String>,
        /// The same as --provider cuda.
        #[arg(long, conflicts_with = "provider")]
        gpu: bool,
        /// A wheel that was fetched elsewhere, or a folder of wheels; else pip fetches them.
        #[arg(long, value_name = "WHEEL")]
        from: Option<PathBuf>,
        #[command(flatten)]
        fetch: FetchArgs,
    },
}

/// Runs the command.
pub(crate) fn run(command: &Command, out: &Out) -> Done {
    match command {
        Command::Status { runtime } => {
            let status = provision::status(runtime.as_deref())?;
            out.result(|| status_text(&status), || json!({ "runtime": status }));
        }
        Command::Install { provider, gpu, from, fetch } if *gpu || provider.is_some() => {
            install(provider.as_deref().unwrap_or("cuda"), from.as_deref(), *fetch, out)?;
        }
        Command::Install { from, .. } => {
            let located = provision::install(from.as_deref(), &mut say)?;
            let version = located.version.clone().unwrap_or_default();
            out.result(|| format!("ONNX Runtime {version} is at {}\n", located.path.display()), || json!({ "runtime": located }));
        }
    }
    Ok(())
}

/// Fetches the libraries of a provider. Their size is said before anything is fetched.
fn install(key: &str, from: Option<&Path>, fetch: FetchArgs, out: &Out) -> Done {
    let row = vidc::target::row(key)?;
    let provision = Provision::here(None)?;
    provision.installable(row)?;
    if from.is_none() {
        agree(row, provision.provider(row).download, fetch)?;
    }
    let files = provision.install_provider(row, from, &mut say)?;
    let text = || format!("{} is at {}\n", row.name, files.library.display());
    out.result(text, || json!({ "provider": provision.provider(row), "library": files.library }));
    Ok(())
}

/// The providers and whether they can be used.
fn providers_text(providers: &[ProviderStatus]) -> String {
    let row = |p: &ProviderStatus| {
        let state = match &p.state {
            ProviderState::Builtin => "part of ONNX Runtime".into(),
            ProviderState::Ready => "ready".into(),
            ProviderState::NotInstalled => "not installed".into(),
            ProviderState::Damaged { why } => format!("damaged: {why}"),
            ProviderState::Unfit { why } => why.clone(),
            ProviderState::OwnBuild => "in an ONNX Runtime of your own".into(),
            ProviderState::NotYet => "vidc cannot start it yet".into(),
        };
        vec![p.provider.into(), state, p.way_out().unwrap_or_default()]
    };
    table(&["provider", "state", ""], &providers.iter().map(row).collect::<Vec<_>>())
}

/// The places and what is there, and which one is used; then the providers.
pub(crate) fn status_text(status: &RuntimeStatus) -> String {
    format!("{}\n{}", library_text(status), providers_text(&status.providers))
}

fn library_text(status: &RuntimeStatus) -> String {
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
