//! The tuning record: what was asked, chosen and proved, as one YAML file.
//!
//! A record is the same whenever it is made: no clock, no host, no path is in it (the caller may add a date). It names what it
//! was made for by fingerprints, so that using it for something else is an error and not a slow plan. A record that would
//! replace a different one keeps that beside it, with `.old` behind its name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certificate, FrontPoint, Objective, Outcome, Request};
use crate::cost::pipeline::Predicted;
use crate::diag::{Diagnostic, Result, SourceText, Span};
use crate::files::output::{Saved, folder_of, save};
use crate::files::{open_regular, read_start};
use crate::ir::text;
use crate::passes::{Choices, Planned};

/// Version of the format.
pub const VERSION: u32 = 1;
/// A record has a few thousand bytes; anything beyond this is none.
const MAX_BYTES: u64 = 1 << 20;

/// A tuning record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TuningRecord {
    /// Version of this format: 1.
    pub tuning: u32,
    /// The version of vidc that searched.
    pub vidc: String,
    /// Name of the graph.
    pub graph: String,
    /// Hash of everything that decides what the pipeline computes.
    pub fingerprint: String,
    /// Hash of each model's operator graph.
    pub models: BTreeMap<String, String>,
    /// The pipeline's parameters as `--set` writes them.
    pub parameters: BTreeMap<String, String>,
    /// Key of the hardware profile.
    pub hw: String,
    /// Key of the execution provider; absent in records of before there were several: the device's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Measured or prior, as the profile says.
    pub hw_provenance: String,
    /// What was to be best.
    pub objective: Objective,
    /// The memory that was allowed, bytes; held against `predicted.peak_bytes_hi`.
    pub memory_bytes: u64,
    /// The least quality that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_psnr: Option<f64>,
    /// Answers that were given.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub fixed: Choices,
    /// Every answer of the chosen plan.
    pub choices: Choices,
    /// Its figures.
    pub predicted: Predicted,
    /// What is proved about it.
    pub certificate: Certificate,
    /// At most twelve plans between the smallest and the fastest.
    pub front: Vec<FrontPoint>,
    /// The best plan if there were 1 GiB more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_gib_more: Option<FrontPoint>,
    /// When it was made, if somebody wanted to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

fn is_empty(choices: &Choices) -> bool {
    choices.0.is_empty()
}

impl TuningRecord {
    /// The record of a search.
    pub fn new(planned: &Planned, request: &Request, outcome: &Outcome, date: Option<String>) -> Self {
        let identity = Identity::of(planned);
        let machine = planned.machine();
        Self {
            tuning: VERSION,
            vidc: env!("CARGO_PKG_VERSION").into(),
            graph: planned.pipeline.name.clone(),
            fingerprint: identity.fingerprint,
            models: identity.models,
            parameters: identity.parameters,
            hw: machine.key.clone(),
            provider: Some(machine.target.key.into()),
            hw_provenance: machine.provenance(),
            objective: request.objective,
            memory_bytes: request.budget(machine).0,
            min_psnr: request.min_psnr,
            fixed: planned.given(&request.fixed),
            choices: outcome.choices.clone(),
            predicted: outcome.predicted.clone(),
            certificate: Certificate { elapsed_s: None, ..outcome.certificate },
            front: outcome.front.clone(),
            one_gib_more: outcome.one_gib_more.clone(),
            date,
        }
    }

    /// The canonical text.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("a record holds only words, numbers, lists and maps by name")
    }

    /// Reads the text of a record.
    ///
    /// # Errors
    /// `tune/bad-record` with the place.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let options = serde_saphyr::options! { with_snippet: false };
        let record: Self = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
            let span = e.location().map(|l| place(name, text, l));
            let why = e.to_string();
            bad(name, why.lines().next().unwrap_or_default()).maybe_at(span.as_ref(), "here")
        })?;
        if record.tuning != VERSION {
            return Err(Box::new(bad(name, &format!("it has format {}, this vidc reads {VERSION}", record.tuning))));
        }
        Ok(record)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `io/unreadable`, `tune/bad-record`.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut file, len) = open_regular(path)?;
        let name = path.display().to_string();
        if len > MAX_BYTES {
            return Err(Box::new(bad(&name, &format!("it has {len} bytes; {MAX_BYTES} is the limit"))));
        }
        let bytes = read_start(path, &mut file, len)?;
        let text = String::from_utf8(bytes).map_err(|_| bad(&name, "it is not text"))?;
        Self::parse(&name, &text)
    }

    /// Writes the record whole or not at all, into a folder that is made if it is missing. A different file that is there keeps its content under the returned name.
    ///
    /// # Errors
    /// `io/unwritable`.
    pub fn write(&self, path: &Path) -> Result<Option<PathBuf>> {
        let folder = folder_of(path);
        std::fs::create_dir_all(folder)
            .map_err(|e| Diagnostic::new("io/unwritable", format!("the folder `{}` cannot be made: {e}", folder.display())))?;
        Ok(match save(path, &self.to_yaml())? {
            Saved::New | Saved::Unchanged => None,
            Saved::Replaced(old) => Some(old),
        })
    }

    /// Is this record about this pipeline on this machine?
    ///
    /// # Errors
    /// `tune/stale-record` with the first thing that differs.
    pub fn check(&self, planned: &Planned) -> Result<()> {
        let now = Identity::of(planned);
        let machine = planned.machine();
        let differs = |what: &str, was: &str, is: &str| {
            let d = Diagnostic::new("tune/stale-record", format!("the tuning record is for {what} {was}, not {is}"));
            Box::new(d.help("run `vidc tune` with this graph and machine"))
        };
        if self.hw != machine.key {
            return Err(differs("the machine", &self.hw, &machine.key));
        }
        if let Some(was) = self.provider.as_deref().filter(|p| *p != machine.target.key) {
            return Err(differs("the execution provider", was, machine.target.key));
        }
        for (name, value) in &now.parameters {
            let was = self.parameters.get(name).map_or("nothing", String::as_str);
            if was != value {
                return Err(differs(&format!("`{name}` ="), was, value));
            }
        }
        if self.fingerprint != now.fingerprint || self.models != now.models {
            return Err(differs("the graph", &self.fingerprint[..12.min(self.fingerprint.len())], &now.fingerprint[..12]));
        }
        Ok(())
    }
}

/// What a record is about.
struct Identity {
    fingerprint: String,
    models: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
}

impl Identity {
    fn of(planned: &Planned) -> Self {
        let pipeline = &planned.pipeline;
        let mut fingerprint = String::new();
        for byte in pipeline.fingerprint() {
            write!(fingerprint, "{byte:02x}").expect("a string takes everything");
        }
        Self {
            fingerprint,
            models: planned.models.iter().map(|(name, graph)| (name.clone(), text::fingerprint(graph))).collect(),
            parameters: pipeline.params.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
        }
    }
}

fn bad(name: &str, why: &str) -> Diagnostic {
    let why = why.split(" at line ").next().unwrap_or(why).trim_start_matches("error: ");
    Diagnostic::new("tune/bad-record", format!("{name} is no tuning record: {why}")).help("`vidc tune` makes a new one")
}

fn place(name: &str, text: &str, location: serde_saphyr::Location) -> Span {
    let span = location.span();
    let (start, len) = (span.byte_offset().unwrap_or(0) as usize, span.byte_len().unwrap_or(0) as usize);
    Span { source: Arc::new(SourceText { name: name.into(), text: text.into() }), start: start.min(text.len()), len: len.max(1) }
}

/// The JSON Schema of a record, pretty-printed, as `schemas/tuning.schema.json` holds it.
pub fn json_schema() -> String {
    serde_json::to_string_pretty(&schemars::schema_for!(TuningRecord)).expect("a schema is plain JSON") + "\n"
}
