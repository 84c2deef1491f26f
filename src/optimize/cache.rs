//! Times of sites, kept by machine: one JSON file in the user's cache folder for each.
//!
//! The key of a time is the SHA-256 of everything that decides it: the site's signature, the runtime's build, the machine, the options
//! of the session (threads among them). A file that cannot be read is measured anew, with a warning; it is never an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::site::{Budget, TimedGraph, Timing, measure_graphs, signature};
use crate::diag::{Diagnostic, Result};
use crate::files;
use crate::hwdb::detect::Host;
use crate::plan::hex;
use crate::runtime::session::{Runtime, SessionOptions};

/// The version of the file and of what keys are made of.
const VERSION: u32 = 1;
/// Longer files were not written by vidc: this is a hundred thousand sites.
const LARGEST: u64 = 64 << 20;

/// A measured time and the operators that were timed, in words for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The operators of the site.
    pub what: String,
    /// Its time.
    #[serde(flatten)]
    pub timing: Timing,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    machine: String,
    entries: BTreeMap<String, Entry>,
}

/// The times that are known of one machine.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
    machine: String,
    entries: BTreeMap<String, Entry>,
    /// What this cache has measured and not written.
    fresh: BTreeMap<String, Entry>,
}

/// What a time depends on in a machine: processor, cores, instruction sets, operating system.
pub fn machine_id(host: &Host) -> String {
    let simd = match (host.avx512, host.avx2) {
        (true, _) => "avx512",
        (_, true) => "avx2",
        _ => "plain",
    };
    format!("{} / {} cores / {simd} / {} {}", host.model, host.cores, std::env::consts::OS, std::env::consts::ARCH)
}

/// Where the caches of this user are.
///
/// # Errors
/// `io/unwritable` if this user has no home folder.
pub fn folder() -> Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(|e| {
        Diagnostic::new("io/unwritable", format!("there is no folder to keep measured times in: {e}")).help("set HOME or XDG_CACHE_HOME")
    })?;
    Ok(base.cache_dir().join("vidc").join("measured"))
}

/// SHA-256 over the fields, each behind its length, in hex.
pub fn key(fields: &[&str]) -> String {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field.as_bytes());
    }
    hex(&hash.finalize())
}

impl Cache {
    /// The cache of a machine in a folder; empty if there is none, or none that can be read.
    pub fn open(folder: &Path, host: &Host) -> Self {
        let machine = machine_id(host);
        let path = folder.join(format!("{}.json", &key(&[&machine])[..16]));
        let entries = load(&path, &machine);
        Self { path, machine, entries, fresh: BTreeMap::new() }
    }

    /// The key of a site here.
    ///
    /// # Errors
    /// As [`signature`].
    pub fn key(&self, runtime: &Runtime, site: &TimedGraph<'_>) -> Result<String> {
        let options = serde_json::to_string(site.options)
            .map_err(|e| Diagnostic::new("internal/bug", format!("the options of a session cannot be written: {e}")))?;
        Ok(key(&["vidc site", &VERSION.to_string(), &signature(site.graph)?, runtime.build_info(), &self.machine, &options]))
    }

    /// A known time.
    pub fn get(&self, key: &str) -> Option<Timing> {
        self.fresh.get(key).or_else(|| self.entries.get(key)).map(|e| e.timing)
    }

    /// Remembers a time; [`Self::save`] writes it.
    pub fn put(&mut self, key: String, entry: Entry) {
        self.fresh.insert(key, entry);
    }

    /// How many times are known.
    pub fn len(&self) -> usize {
        self.entries.len() + self.fresh.keys().filter(|k| !self.entries.contains_key(*k)).count()
    }

    /// Is none known?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The times of forms that are to be compared. If one of them is not known all are measured, side by side: times of different
    /// hours are not compared with each other.
    ///
    /// # Errors
    /// Those of [`measure_graphs`].
    pub fn timings(&mut self, runtime: &Runtime, sites: &[TimedGraph<'_>], budget: Budget) -> Result<Vec<Timing>> {
        let keys = sites.iter().map(|s| self.key(runtime, s)).collect::<Result<Vec<_>>>()?;
        if let Some(known) = keys.iter().map(|k| self.get(k)).collect::<Option<Vec<_>>>() {
            return Ok(known);
        }
        let measured = measure_graphs(runtime, sites, budget)?;
        for ((key, site), timing) in keys.into_iter().zip(sites).zip(&measured) {
            self.put(key, Entry { what: words(site), timing: *timing });
        }
        Ok(measured)
    }

    /// Writes what is new, together with what others have written since. The file appears whole or not at all.
    ///
    /// # Errors
    /// `io/unwritable`.
    pub fn save(&mut self) -> Result<()> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| {
            Diagnostic::new("io/unwritable", format!("cannot make `{}`: {e}", folder.display()))
                .help("set XDG_CACHE_HOME to a folder of yours")
        })?;
        self.entries = load(&self.path, &self.machine);
        self.entries.append(&mut self.fresh);
        let file = File { version: VERSION, machine: self.machine.clone(), entries: self.entries.clone() };
        files::write_atomic(&self.path, |w| serde_json::to_writer_pretty(w, &file).map_err(Into::into))
    }
}

/// Operators in order with the type of the first output.
fn words(site: &TimedGraph<'_>) -> String {
    use crate::ir::Op;
    let ops: Vec<&str> = site
        .graph
        .nodes()
        .into_iter()
        .map(|id| &site.graph.node(id).op)
        .filter_map(|op| match op {
            Op::Input | Op::Weight(_) => None,
            op => Some(op.name()),
        })
        .collect();
    let output = site.graph.outputs().first().map_or_else(String::new, |(_, o)| format!(" : {}", site.graph.ty(*o)));
    let SessionOptions { threads, .. } = site.options;
    format!("{}{output}, {threads} threads", ops.join(" "))
}

fn load(path: &Path, machine: &str) -> BTreeMap<String, Entry> {
    match read(path) {
        Ok(file) if file.version == VERSION && file.machine == machine => file.entries,
        Ok(_) => {
            tracing::warn!("`{}` is of another machine or version; sites are measured again", path.display());
            BTreeMap::new()
        }
        Err(None) => BTreeMap::new(),
        Err(Some(why)) => {
            tracing::warn!("`{}` cannot be read ({why}); sites are measured again", path.display());
            BTreeMap::new()
        }
    }
}

/// The file; an error without words if there is none.
fn read(path: &Path) -> std::result::Result<File, Option<String>> {
    if !path.exists() {
        return Err(None);
    }
    let (mut file, len) = files::open_regular(path).map_err(|d| Some(d.to_string()))?;
    if len > LARGEST {
        return Err(Some(format!("it has {len} bytes")));
    }
    let bytes = files::read_start(path, &mut file, len).map_err(|d| Some(d.to_string()))?;
    let file: File = serde_json::from_slice(&bytes).map_err(|e| Some(e.to_string()))?;
    let sound = |e: &Entry| e.timing.seconds.is_finite() && e.timing.seconds > 0.0;
    if file.entries.values().all(sound) { Ok(file) } else { Err(Some("a time in it cannot be".into())) }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
