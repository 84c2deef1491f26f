//! `vidc cache`: the plans that `vidc run GRAPH` keeps.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::system::plans_folder;
use crate::common::table::table;
use crate::common::{Done, Failure, Out};
use vidc::diag::Diagnostic;
use vidc::plan::Manifest;
use vidc::units::Bytes;

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// The plans with their sizes.
    List,
    /// Remove every plan.
    Clear,
}

/// A folder in the cache.
struct Entry {
    path: PathBuf,
    bytes: u64,
    words: String,
}

/// Runs the command.
pub(crate) fn run(command: &Command, out: &Out) -> Done {
    let folder = plans_folder()?;
    let entries = entries(&folder);
    let total = Bytes(entries.iter().map(|e| e.bytes).sum());
    if matches!(command, Command::Clear) {
        entries.iter().try_for_each(|e| remove(&e.path))?;
    }
    let done = if matches!(command, Command::Clear) { "removed" } else { "there are" };
    let rows = || entries.iter().map(|e| vec![name(&e.path), Bytes(e.bytes).to_string(), e.words.clone()]).collect::<Vec<_>>();
    let plans = || {
        let plan = |e: &Entry| json!({ "path": e.path, "bytes": e.bytes, "what": e.words });
        entries.iter().map(plan).collect::<Vec<_>>()
    };
    out.result(
        || format!("{}{done} {} plans of {total} in {}\n", table(&["plan", "size", "what"], &rows()), entries.len(), folder.display()),
        || json!({ "folder": folder, "removed": matches!(command, Command::Clear), "plans": plans() }),
    );
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn entries(folder: &Path) -> Vec<Entry> {
    let Ok(read) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = read.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    paths.sort();
    paths.into_iter().map(entry).collect()
}

fn entry(path: PathBuf) -> Entry {
    let words = Manifest::read(&path)
        .map_or_else(|_| "not a plan of this version".into(), |m| format!("{} on {}, {}", m.graph, m.hardware, m.weights));
    Entry { bytes: size_of(&path), words, path }
}

fn size_of(folder: &Path) -> u64 {
    let Ok(read) = std::fs::read_dir(folder) else { return 0 };
    read.flatten().filter_map(|e| e.metadata().ok()).filter(std::fs::Metadata::is_file).map(|m| m.len()).sum()
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_dir_all(path)
        .map_err(|e| Diagnostic::new("io/unwritable", format!("`{}` cannot be removed: {e}", path.display())).into())
}
