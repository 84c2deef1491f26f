//! The state of a loop on disk, so that a stopped run can go on: carried values and finished steps, one file, written whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::diag::{Diagnostic, Result};
use crate::plan::{Manifest, hex};

/// A loop between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedLoop {
    /// What [`plan_id`] says of the plan that wrote it.
    pub plan: String,
    /// The loop.
    pub name: String,
    /// Finished steps.
    pub done: usize,
    /// The carried values, in the order of the loop.
    pub state: Vec<ArrayD<f32>>,
}

/// The header: one line of JSON, then the elements.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    plan: String,
    name: String,
    done: usize,
    shapes: Vec<Vec<usize>>,
}

const VERSION: u32 = 1;
/// State is latents: megabytes. A larger file is not ours.
const MAX: u64 = 4 << 30;

/// What a plan computes: its graph with parameters, weights and effects. Choices that are exact do not change it.
pub fn plan_id(manifest: &Manifest) -> String {
    let mut h = Sha256::new();
    let effects = serde_json::to_string(&manifest.effects).unwrap_or_default();
    let parameters = serde_json::to_string(&manifest.parameters).unwrap_or_default();
    for part in [&manifest.fingerprint, &manifest.weights, &effects, &parameters] {
        h.update((part.len() as u64).to_le_bytes());
        h.update(part.as_bytes());
    }
    hex(&h.finalize())
}

/// Longest header of saved progress.
const MAX_HEADER: u64 = 1 << 20;

/// Did vidc write this file as saved progress, of whatever plan?
///
/// # Errors
/// Why it counts as somebody else's.
pub fn written_here(path: &Path) -> std::result::Result<(), String> {
    let header = crate::files::open_regular(path).ok().and_then(|(file, _)| {
        let mut line = Vec::new();
        BufReader::new(file.take(MAX_HEADER)).read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice::<Header>(&line).ok()
    });
    header.map(drop).ok_or_else(|| "it is no saved progress".into())
}

impl SavedLoop {
    /// Writes it to a temporary file and renames.
    ///
    /// # Errors
    /// `io/unwritable`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let header = Header {
            version: VERSION,
            plan: self.plan.clone(),
            name: self.name.clone(),
            done: self.done,
            shapes: self.state.iter().map(|a| a.shape().to_vec()).collect(),
        };
        let header =
            serde_json::to_string(&header).map_err(|e| Diagnostic::new("internal/bug", format!("progress cannot be written: {e}")))?;
        crate::files::write_atomic(path, |w: &mut dyn Write| {
            writeln!(w, "{header}")?;
            self.state.iter().flatten().try_for_each(|v| w.write_all(&v.to_le_bytes()))
        })
    }

    /// Reads it back and checks that it belongs to this plan.
    ///
    /// # Errors
    /// `run/no-progress` if there is none, `run/other-progress` if it belongs to something else or is damaged.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Self> {
        let none = |e: std::io::Error| Diagnostic::new("run/no-progress", format!("there is nothing to resume: `{}`: {e}", path.display()));
        let other = |why: &str| {
            Box::new(Diagnostic::new("run/other-progress", format!("`{}` {why}", path.display())).help("leave out --resume to start anew"))
        };
        if std::fs::metadata(path).map_err(none)?.len() > MAX {
            return Err(other("is too large to be saved progress"));
        }
        let bytes = std::fs::read(path).map_err(none)?;
        let newline = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| other("is no saved progress"))?;
        let header: Header = serde_json::from_slice(&bytes[..newline]).map_err(|_| other("is no saved progress"))?;
        if header.version != VERSION || header.plan != plan_id(manifest) {
            return Err(other("was saved by another plan, or with other parameters or weights"));
        }
        let mut rest = &bytes[newline + 1..];
        let mut state = Vec::new();
        for shape in &header.shapes {
            let len = shape
                .iter()
                .try_fold(4usize, |n, d| n.checked_mul(*d))
                .filter(|n| *n <= rest.len())
                .ok_or_else(|| other("is cut short"))?;
            let values = rest[..len].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            state.push(ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|_| other("is damaged"))?);
            rest = &rest[len..];
        }
        Ok(Self { plan: header.plan, name: header.name, done: header.done, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        let state = vec![ArrayD::from_shape_fn(IxDyn(&[2, 3]), |i| i[0] as f32 * 0.1 + i[1] as f32)];
        let saved = SavedLoop { plan: "x".into(), name: "denoise".into(), done: 2, state };
        saved.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), bytes.iter().position(|b| *b == b'\n').unwrap() + 1 + 24);
    }
}
