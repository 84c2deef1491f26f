//! What is measured: a model, how it is loaded, and the options of its session.
//!
//! The options that a model was made for travel with it as `metadata_props` (`vidc.session.*`), see [`options_of`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Result, suggest};
use crate::files;
use crate::onnx;
use crate::onnx::build;
use crate::onnx::proto::{ModelProto, StringStringEntryProto};
use crate::runtime::session::{Optimization, Runtime, Session, SessionOptions, Weights};
use crate::weights::WeightsFile;

/// A model and the way it is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// ONNX Runtime reads the file, as any program lets it.
    File(PathBuf),
    /// vidc reads the file and maps its external weights, which are used where they lie.
    Mapped {
        /// The model.
        path: PathBuf,
        /// External files: the name in the model, the path.
        weights: Vec<(String, PathBuf)>,
    },
    /// Protobuf bytes that hold all of their weights.
    Memory(Vec<u8>),
}

impl ModelSource {
    /// A file to be loaded with mapped weights.
    ///
    /// # Errors
    /// `io/unreadable` and `onnx/…` if it is no sound model.
    pub fn mapped(path: &Path) -> Result<Self> {
        let model = onnx::read(path)?;
        onnx::check_external_data(&model, folder(path))?;
        let weights = onnx::owner::locations(&model).into_iter().map(|name| {
            let file = folder(path).join(&name);
            (name, file)
        });
        let weights = weights.collect();
        Ok(Self::Mapped { path: path.into(), weights })
    }

    /// Makes a session.
    ///
    /// # Errors
    /// Those of [`Session::load`], `io/unreadable`.
    pub fn open(&self, runtime: &Runtime, options: &SessionOptions) -> Result<Session> {
        match self {
            Self::File(path) => Session::load_file(runtime, path, options),
            Self::Memory(bytes) => Session::load(runtime, bytes, &Weights::none(), options),
            Self::Mapped { path, weights } => {
                let mut files = Weights::none();
                for (name, file) in weights {
                    files = files.with(name, Arc::new(WeightsFile::open(file)?));
                }
                let (mut file, len) = files::open_regular(path)?;
                let bytes = files::read_start(path, &mut file, len.min(onnx::MAX_FILE))?;
                Session::load(runtime, &bytes, &files, options)
            }
        }
    }
}

/// The folder of a file.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A model with the options of its session, under a name for tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// For people.
    pub name: String,
    /// The model.
    pub model: ModelSource,
    /// How its session is made.
    pub options: SessionOptions,
}

impl Candidate {
    /// A candidate.
    pub fn new(name: impl Into<String>, model: ModelSource, options: SessionOptions) -> Self {
        Self { name: name.into(), model, options }
    }

    /// Makes its session.
    ///
    /// # Errors
    /// Those of [`ModelSource::open`].
    pub fn open(&self, runtime: &Runtime) -> Result<Session> {
        self.model.open(runtime, &self.options)
    }

    /// The same model with other options.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut out = self.clone();
        change(&mut out.options);
        out
    }
}

/// What a user of ONNX Runtime has who sets nothing but the number of threads: every rewrite, arena, memory pattern, packed weights.
/// Idle threads do not wait busily, here as in every candidate: several sessions share the cores while they are compared.
pub fn runtime_defaults(threads: usize) -> SessionOptions {
    SessionOptions {
        threads,
        optimization: Optimization::All,
        mem_pattern: true,
        buffer_reuse: true,
        pool: false,
        ..SessionOptions::default()
    }
}

/// Names of the levels in `vidc.session.optimization`.
pub const LEVELS: [(&str, Optimization); 4] =
    [("disable", Optimization::Disable), ("basic", Optimization::Basic), ("extended", Optimization::Extended), ("all", Optimization::All)];

const PREFIX: &str = "vidc.session.";
const OPTIMIZATION: &str = "optimization";
const DISABLED: &str = "disabled_optimizers";
const SWITCHES: [&str; 5] = ["mem_pattern", "buffer_reuse", "prepacking", "pool", "arena"];

fn switch<'a>(options: &'a mut SessionOptions, name: &str) -> Option<&'a mut bool> {
    match name {
        "mem_pattern" => Some(&mut options.mem_pattern),
        "buffer_reuse" => Some(&mut options.buffer_reuse),
        "pool" => Some(&mut options.pool),
        "prepacking" => Some(&mut options.prepacking),
        "arena" => Some(&mut options.arena),
        _ => None,
    }
}

/// Sets one option by the name that it has in `metadata_props` behind `vidc.session.`: `optimization` (a row of [`LEVELS`]),
/// `disabled_optimizers` (ONNX Runtime's names, `;` between them), `mem_pattern`, `buffer_reuse`, `prepacking`, `pool`, `arena` (`true` or `false`).
///
/// # Errors
/// `measure/bad-option`.
pub fn set_option(options: &mut SessionOptions, name: &str, value: &str) -> Result<()> {
    let bad = |help: String| Diagnostic::new("measure/bad-option", format!("`{name}={value}` is no option of a session")).help(help);
    if name == OPTIMIZATION {
        let level = LEVELS.iter().find(|(word, _)| *word == value);
        options.optimization = level.ok_or_else(|| bad(suggest(value, LEVELS.map(|(word, _)| word))))?.1;
        return Ok(());
    }
    if name == DISABLED {
        options.disabled_optimizers = value.split(';').filter(|n| !n.is_empty()).map(str::to_owned).collect();
        return Ok(());
    }
    let on = switch(options, name).ok_or_else(|| bad(suggest(name, SWITCHES.into_iter().chain([OPTIMIZATION, DISABLED]))))?;
    *on = value.parse().map_err(|_| bad("write true or false".into()))?;
    Ok(())
}

/// The options as entries for `metadata_props`, which [`options_of`] reads back.
pub fn metadata_of(options: &SessionOptions) -> Vec<StringStringEntryProto> {
    let level = LEVELS.iter().find(|(_, level)| *level == options.optimization).expect("every level has a row").0;
    let mut copy = options.clone();
    let mut entries = vec![build::entry(&format!("{PREFIX}{OPTIMIZATION}"), level)];
    for name in SWITCHES {
        let on = *switch(&mut copy, name).expect("every switch is one of the list");
        entries.push(build::entry(&format!("{PREFIX}{name}"), if on { "true" } else { "false" }));
    }
    if !options.disabled_optimizers.is_empty() {
        entries.push(build::entry(&format!("{PREFIX}{DISABLED}"), &options.disabled_optimizers.join(";")));
    }
    entries
}

/// The options that a model says it was made for, on top of `base`; `base` itself for a model that says nothing.
///
/// # Errors
/// `measure/bad-option`.
pub fn options_of(model: &ModelProto, base: &SessionOptions) -> Result<SessionOptions> {
    let mut options = base.clone();
    for entry in &model.metadata_props {
        if let Some(name) = entry.key.strip_prefix(PREFIX) {
            set_option(&mut options, name, &entry.value)?;
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_travel_as_metadata() {
        for options in [
            SessionOptions { optimization: Optimization::Extended, arena: false, ..SessionOptions::default() },
            runtime_defaults(0),
            SessionOptions { disabled_optimizers: vec!["A".into(), "B".into()], ..runtime_defaults(0) },
            SessionOptions { prepacking: false, ..SessionOptions::default() },
        ] {
            let model = ModelProto { metadata_props: metadata_of(&options), ..ModelProto::default() };
            assert_eq!(options_of(&model, &SessionOptions::default()).unwrap(), options);
        }
    }

    #[test]
    fn a_model_that_says_nothing_has_the_options_of_the_base() {
        assert_eq!(options_of(&ModelProto::default(), &runtime_defaults(2)).unwrap(), runtime_defaults(2));
    }

    #[test]
    fn options_that_are_none_are_refused() {
        let check = |name: &str, value: &str| {
            let refused = set_option(&mut SessionOptions::default(), name, value).unwrap_err();
            assert_eq!(refused.code, "measure/bad-option", "{name}={value}");
        };
        check("optimization", "most");
        check("arena", "1");
        check("threads", "2");
    }
}
