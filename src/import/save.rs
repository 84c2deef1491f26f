//! Writing a graph file beside what was there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::diag::{Diagnostic, Result};
use crate::files;

/// What became of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// There was none; it is written.
    New,
    /// It had this very text.
    Unchanged,
    /// It had another text, which is kept at this path.
    Replaced(PathBuf),
}

/// Writes `text` to `path`, whole or not at all. A file there with another text is kept as `PATH.old`; what was called so before
/// is overwritten.
///
/// # Errors
/// `io/unwritable`; what was at `path` is then unchanged.
pub fn save(path: &Path, text: &str) -> Result<Saved> {
    let Ok(there) = fs::symlink_metadata(path) else {
        write(path, text)?;
        return Ok(Saved::New);
    };
    let unwritable = |why: &str| Diagnostic::new("io/unwritable", format!("cannot write {}: {why}", path.display()));
    if !fs::metadata(path).is_ok_and(|m| m.is_file()) {
        return Err(unwritable("what is there is not a regular file").help("choose another name").into());
    }
    if there.is_file() && same(path, text).map_err(|e| unwritable(&e.to_string()))? {
        return Ok(Saved::Unchanged);
    }
    let old = old_name(path);
    // A copy, not a new name: at no moment is there no file.
    let mut from = File::open(path).map_err(|e| unwritable(&e.to_string()))?;
    files::write_atomic(&old, |w| io::copy(&mut from, w).map(drop))?;
    write(path, text)?;
    Ok(Saved::Replaced(old))
}

fn write(path: &Path, text: &str) -> Result<()> {
    files::write_atomic(path, |w| w.write_all(text.as_bytes()))
}

/// Is `text` what the file holds? Reads no more than it must.
fn same(path: &Path, text: &str) -> io::Result<bool> {
    let mut held = Vec::new();
    File::open(path)?.take(text.len() as u64 + 1).read_to_end(&mut held)?;
    Ok(held == text.as_bytes())
}

/// `graph.yaml` → `graph.yaml.old`.
fn old_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".old");
    name.into()
}
