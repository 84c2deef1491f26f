//! The run report: what was run, with what, and how it went; written beside every output as `OUT.report.json`.
//!
//! It is enough to say whether two runs computed the same thing, and to run one again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::execute::Measured;
use crate::diag::{Diagnostic, Result};
use crate::passes::Choices;
use crate::plan::manifest::EffectEntry;
use crate::plan::{Manifest, WeightsEntry, hex};
use crate::spec::Number;

/// Version of the format.
pub const VERSION: u32 = 1;

/// A file that went in or came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Its name in the graph: an input, an output or a value.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content in hex.
    pub sha256: String,
}

impl FileEntry {
    /// Reads a file through the hash.
    ///
    /// # Errors
    /// `io/unreadable`.
    pub fn of(name: &str, path: &Path) -> Result<Self> {
        let (bytes, sha256) =
            hashed(path).map_err(|e| Diagnostic::new("io/unreadable", format!("cannot read `{}`: {e}", path.display())))?;
        Ok(Self { name: name.into(), path: path.into(), bytes, sha256 })
    }
}

fn hashed(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// The weights of a run.
#[derive(Clone, Debug, Serialize)]
pub struct WeightsReport {
    /// `random:SEED`, or the folder.
    pub source: String,
    /// True if they are generated, so that the picture means nothing.
    pub random: bool,
    /// The files, with the hash of each header.
    pub files: Vec<WeightsEntry>,
}

/// What ran the models.
#[derive(Clone, Debug, Serialize)]
pub struct RuntimeReport {
    /// The library.
    pub library: PathBuf,
    /// Its version, where it can be read.
    pub version: Option<String>,
    /// What it says about its build.
    pub build: String,
}

/// Seconds and bytes, as measured.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredReport {
    /// From the first step of the plan to the last.
    pub latency_s: f64,
    /// Most resident memory of the process, if the system says.
    pub peak_bytes: Option<u64>,
    /// By session.
    pub stages: BTreeMap<String, Measured>,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// [`VERSION`].
    pub version: u32,
    /// Version of vidc.
    pub vidc: String,
    /// Name of the graph.
    pub graph: String,
    /// Fingerprint of the pipeline.
    pub fingerprint: String,
    /// Parameters, the seed among them.
    pub parameters: BTreeMap<String, Number>,
    /// The hardware profile that the plan was made for.
    pub hardware: String,
    /// The answers.
    pub choices: Choices,
    /// Answers that are not exact.
    pub effects: Vec<EffectEntry>,
    /// Weights.
    pub weights: WeightsReport,
    /// SHA-256 of each session's model.
    pub sessions: BTreeMap<String, String>,
    /// The library.
    pub runtime: RuntimeReport,
    /// Pictures and arrays that went in.
    pub inputs: Vec<FileEntry>,
    /// Files that came out.
    pub outputs: Vec<FileEntry>,
    /// Numbers of the frames that are not finite; anything but 0 means that the arithmetic broke down.
    pub non_finite: u64,
    /// Finished steps of the saved progress that the run went on from.
    pub resumed_at: Option<usize>,
    /// What the cost model said, seconds and bytes by stage.
    pub predicted: Option<Value>,
    /// What it took.
    pub measured: MeasuredReport,
}

impl RunReport {
    /// The parts that the plan says; files and figures are still to be filled in.
    pub fn of(manifest: &Manifest, runtime: RuntimeReport, measured: MeasuredReport) -> Self {
        let weights = WeightsReport { source: manifest.weights.clone(), random: manifest.is_random(), files: manifest.files.clone() };
        Self {
            version: VERSION,
            vidc: env!("CARGO_PKG_VERSION").into(),
            graph: manifest.graph.clone(),
            fingerprint: manifest.fingerprint.clone(),
            parameters: manifest.parameters.clone(),
            hardware: manifest.hardware.clone(),
            choices: manifest.choices.clone(),
            effects: manifest.effects.clone(),
            weights,
            sessions: manifest.sessions.iter().map(|s| (s.name.clone(), s.sha256.clone())).collect(),
            runtime,
            inputs: Vec::new(),
            outputs: Vec::new(),
            non_finite: 0,
            resumed_at: None,
            predicted: manifest.predicted.clone(),
            measured,
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// `io/unwritable`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Diagnostic::new("internal/bug", format!("the run report cannot be written: {e}")))?;
        crate::files::write_atomic(path, |w| writeln!(w, "{text}"))
    }
}

/// `OUT.report.json`, `OUT.progress`: a file beside an output, with a word behind the whole name.
pub fn beside(output: &Path, word: &str) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".");
    name.push(word);
    name.into()
}

/// Most resident memory of this process so far, bytes; none where the system does not say.
pub fn peak_resident() -> Option<u64> {
    resident_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_of(status: &str) -> Option<u64> {
    let kib: u64 = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_an_output_keep_its_extension() {
        assert_eq!(beside(Path::new("a/out.mp4"), "report.json"), Path::new("a/out.mp4.report.json"));
    }

    #[test]
    fn the_peak_is_read_from_the_status() {
        assert_eq!(resident_of("VmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n"), Some(2 << 20));
        assert_eq!(resident_of("VmHWM:\t many kB\n"), None);
    }

    #[test]
    fn files_are_named_by_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let entry = FileEntry::of("image", file.path()).unwrap();
        assert_eq!((entry.bytes, &entry.sha256[..8]), (3, "ba7816bf"));
    }
}
