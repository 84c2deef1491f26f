//! The folder of a plan: what may be replaced by a new one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{manifest, store};
use crate::diag::{Diagnostic, Result};
use crate::files::output::{check_new_folder, folder_of};

/// Refuses, before any work, a folder that a plan cannot be written to: it takes no files, or holds something that is not part of a plan.
///
/// # Errors
/// `io/unwritable`, `plan/exists`.
pub fn check_output(folder: &Path) -> Result<()> {
    check_new_folder(folder_of(folder), folder)?;
    let Ok(there) = std::fs::metadata(folder) else {
        return match folder.symlink_metadata() {
            Ok(_) => Err(exists(folder, "a link that leads to nothing").into()),
            Err(_) => Ok(()),
        };
    };
    if !there.is_dir() {
        return Err(exists(folder, "no folder").into());
    }
    let strange = foreign(folder)?;
    match (folder.join(manifest::FILE).is_file(), strange.first()) {
        (_, None) => Ok(()),
        (false, _) => Err(exists(folder, "no plan").into()),
        (true, Some(name)) => {
            let message = format!("`{}` is there, and `{name}` in it is no part of a plan", folder.display());
            Err(Diagnostic::new("plan/exists", message).help("move it away, or name another folder with -o").into())
        }
    }
}

fn exists(folder: &Path, what: &str) -> Diagnostic {
    let d = Diagnostic::new("plan/exists", format!("`{}` is there and is {what}", folder.display()));
    d.help("name another folder with -o, or empty it")
}

/// Names in a folder that its manifest, of whatever version, does not name; all of them if there is no manifest.
fn foreign(folder: &Path) -> Result<Vec<String>> {
    let unreadable = |e| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", folder.display()));
    let own = own(folder);
    let mut strange = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().map_err(unreadable)?.is_dir();
        if is_folder || !own.contains(&name) {
            strange.push(name);
        }
    }
    strange.sort_unstable();
    Ok(strange)
}

/// The files that a manifest names as lying in its folder, itself among them.
fn own(folder: &Path) -> BTreeSet<String> {
    let mut own = of_manifest(folder, manifest::FILE);
    let rungs: Vec<String> = own.iter().filter(|name| name.starts_with("smaller-")).cloned().collect();
    rungs.iter().for_each(|rung| own.extend(of_manifest(folder, rung)));
    own
}

/// The files that one manifest names.
fn of_manifest(folder: &Path, name: &str) -> BTreeSet<String> {
    let text = std::fs::read(folder.join(name)).unwrap_or_default();
    let Ok(Value::Object(raw)) = serde_json::from_slice(&text) else { return BTreeSet::new() };
    let is_plan = ["version", "vidc", "graph", "sessions", "steps"].iter().all(|key| raw.contains_key(*key));
    if !is_plan {
        return BTreeSet::new();
    }
    let texts = |list: &str, key: &str| -> Vec<String> {
        let entries = raw.get(list).and_then(Value::as_array).into_iter().flatten();
        entries.filter_map(|e| e.get(key)?.as_str().map(str::to_owned)).collect()
    };
    let named = texts("sessions", "file").into_iter().chain(texts("files", "path")).chain(texts("ladder", "manifest"));
    named.chain([manifest::FILE.into(), store::DERIVED.into()]).collect()
}

/// Gives a whole plan in `new` the name `folder`. A plan that has it goes first, and comes back should that fail.
pub(super) fn replace(new: PathBuf, folder: &Path) -> std::io::Result<()> {
    // What a link names is replaced, not the link.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    if folder.symlink_metadata().is_err() {
        return std::fs::rename(new, folder);
    }
    let old = tempfile::Builder::new().prefix(".vidc-old-").tempdir_in(folder_of(&folder))?;
    let aside = old.path().join("plan");
    std::fs::rename(&folder, &aside)?;
    let renamed = std::fs::rename(new, &folder);
    if renamed.is_err() && std::fs::rename(&aside, &folder).is_err() {
        // If not even that can be done, the plan stays where it is now.
        tracing::warn!("the plan that was in `{}` is now in `{}`", folder.display(), old.keep().display());
    }
    renamed
}
