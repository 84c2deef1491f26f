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

use super::request::{Measured, RunOutcome};
use crate::diag::{Diagnostic, Result};
use crate::plan::manifest::MadeOf;
use crate::plan::{Manifest, WeightsEntry, hex};

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
    /// From the first step of the plan to the last, loads included.
    pub latency_s: f64,
    /// Of that, loading sessions; 0 where they were kept from an earlier run.
    pub load_s: f64,
    /// Of that, inside of ONNX Runtime's run calls.
    pub run_s: f64,
    /// Of that, primitives between the models.
    pub host_s: f64,
    /// Most resident memory of the process, if the system says.
    pub peak_bytes: Option<u64>,
    /// By session.
    pub stages: BTreeMap<String, Measured>,
}

impl MeasuredReport {
    /// The figures of a run; `peak_bytes` is the process's own.
    pub fn of(outcome: &RunOutcome, peak_bytes: Option<u64>) -> Self {
        Self {
            latency_s: outcome.total_s,
            load_s: outcome.load_s(),
            run_s: outcome.run_s(),
            host_s: outcome.host_s,
            peak_bytes,
            stages: outcome.measured.clone(),
        }
    }
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// [`VERSION`].
    pub version: u32,
    /// Version of vidc.
    pub vidc: String,
    /// What the plan was made of.
    #[serde(flatten)]
    pub made_of: MadeOf,
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
            made_of: manifest.made_of(),
            weights,
            sessions: manifest.sessions.iter().map(|s| (s.name.clone(), s.sha256.clone())).collect(),
            runtime,
            inputs: Vec::new(),
            outputs: Vec::new(),
            non_finite: 0,
            resumed_at: None,
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

/// A run report has some kilobytes; what is larger is none.
const LARGEST: u64 = 16 << 20;

/// Did vidc write this run report?
///
/// # Errors
/// Why it counts as somebody else's.
pub fn written_here(path: &Path) -> std::result::Result<(), String> {
    read(path).map(drop).ok_or_else(|| "it is no run report".into())
}

/// Did vidc write this file? The run report beside the output of that run says so if it names the file with the hash that it has now.
///
/// # Errors
/// Why it counts as somebody else's.
pub fn output_written_here(report: &Path, path: &Path) -> std::result::Result<(), String> {
    let entries = read(report).and_then(|r| r.get("outputs").and_then(Value::as_array).cloned()).unwrap_or_default();
    let named = |entry: &&Value| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        text("path").is_some_and(|p| Path::new(p).file_name() == path.file_name())
    };
    let hashes: Vec<&str> = entries.iter().filter(named).filter_map(|e| e.get("sha256")?.as_str()).collect();
    let same = !hashes.is_empty() && hashed(path).is_ok_and(|(_, sha256)| hashes.contains(&sha256.as_str()));
    if same { Ok(()) } else { Err("no run report beside it says that vidc wrote it".into()) }
}

fn read(path: &Path) -> Option<serde_json::Map<String, Value>> {
    let (mut file, len) = crate::files::open_regular(path).ok()?;
    let bytes = crate::files::read_start(path, &mut file, (len <= LARGEST).then_some(len)?).ok()?;
    let Ok(Value::Object(raw)) = serde_json::from_slice(&bytes) else { return None };
    ["version", "vidc", "graph", "outputs", "measured"].iter().all(|key| raw.contains_key(*key)).then_some(raw)
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
    fn an_output_is_vidcs_while_its_report_knows_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let (out, report) = (dir.path().join("o.gif"), dir.path().join("o.gif.report.json"));
        std::fs::write(&out, "frames").unwrap();
        assert!(output_written_here(&report, &out).is_err() && written_here(&report).is_err());
        let entry = FileEntry::of("video", &out).unwrap();
        let text = serde_json::json!({ "version": 1, "vidc": "0", "graph": "g", "measured": {}, "outputs": [entry] }).to_string();
        std::fs::write(&report, text).unwrap();
        assert_eq!((written_here(&report), output_written_here(&report, &out)), (Ok(()), Ok(())));
        std::fs::write(&out, "frames, edited").unwrap();
        assert!(output_written_here(&report, &out).is_err());
        std::fs::write(&report, "{\"outputs\": []}").unwrap();
        assert!(written_here(&report).is_err());
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
