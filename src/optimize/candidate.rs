//! What is measured: a model, how it is loaded, and the options of its session.
//!
//! The options that a model was made for travel with it as `metadata_props` (`vidc.session.*`), see [`options_of`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Result, suggest};
use crate::files;
use crate::onnx;
use crate::onnx::build;
use crate::onnx::proto::{ModelProto, StringStringEntryProto};
use crate::runtime::session::{Optimization, Runtime, Session, SessionOptions, Weights};
use crate::target::{self, Provider};
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
const PROVIDER: &str = "provider";
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
/// `disabled_optimizers` (ONNX Runtime's names, `;` between them), `mem_pattern`, `buffer_reuse`, `prepacking`, `pool`, `arena` (`true` or `false`),
/// `provider` (keys of rows of [`target`], `;` between them: the first takes what it has kernels for, and so on) and `provider.KEY.NAME`, an
/// option of one of those, in ONNX Runtime's name.
///
/// # Errors
/// `measure/bad-option`, `target/unknown-provider`.
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
    if name == PROVIDER {
        options.providers = value.split(';').map(provider).collect::<Result<_>>()?;
        return Ok(());
    }
    if let Some((key, option)) = name.strip_prefix(PROVIDER).and_then(|n| n.strip_prefix('.')?.split_once('.')) {
        let wrong = set_provider_option(&mut options.providers, key, option, value)?;
        return wrong.map_or(Ok(()), |why| Err(bad(why).into()));
    }
    let known = SWITCHES.into_iter().chain([OPTIMIZATION, DISABLED, PROVIDER]);
    let on = switch(options, name).ok_or_else(|| bad(suggest(name, known)))?;
    *on = value.parse().map_err(|_| bad("write true or false".into()))?;
    Ok(())
}

fn provider(key: &str) -> Result<Provider> {
    Ok(Provider { provider: target::row(key)?.key.into(), options: BTreeMap::new() })
}

/// Sets an option of the provider `key`, or says what is wrong with it: a model may ask for what vidc itself sets and nothing else.
fn set_provider_option(providers: &mut [Provider], key: &str, name: &str, value: &str) -> Result<Option<String>> {
    let row = target::row(key)?;
    let asked = BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let Some(provider) = providers.iter_mut().find(|p| p.provider == key) else {
        return Ok(Some(format!("name the provider first: {PROVIDER}={key}")));
    };
    let wrong = row.wrong_option(&asked);
    if wrong.is_none() {
        provider.options.extend(asked);
    }
    Ok(wrong)
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
    if !options.providers.is_empty() {
        let keys: Vec<&str> = options.providers.iter().map(|p| p.provider.as_str()).collect();
        entries.push(build::entry(&format!("{PREFIX}{PROVIDER}"), &keys.join(";")));
    }
    for provider in &options.providers {
        let name = |option: &str| format!("{PREFIX}{PROVIDER}.{}.{option}", provider.provider);
        entries.extend(provider.options.iter().map(|(option, value)| build::entry(&name(option), value)));
    }
    entries
}

/// The options that a model says it was made for, on top of `base`; `base` itself for a model that says nothing.
///
/// # Errors
/// As [`set_option`].
pub fn options_of(model: &ModelProto, base: &SessionOptions) -> Result<SessionOptions> {
    let mut options = base.clone();
    let said = |e: &'_ StringStringEntryProto| Some((e.key.strip_prefix(PREFIX)?.to_owned(), e.value.clone()));
    // Entries have no order; a provider comes before its options.
    let (of_providers, others): (Vec<_>, Vec<_>) =
        model.metadata_props.iter().filter_map(said).partition(|(name, _)| name.starts_with("provider."));
    for (name, value) in others.iter().chain(&of_providers) {
        set_option(&mut options, name, value)?;
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
            SessionOptions { providers: vec![provider("cpu").unwrap()], ..SessionOptions::default() },
            SessionOptions { providers: on_two(), ..SessionOptions::default() },
        ] {
            let mut model = ModelProto { metadata_props: metadata_of(&options), ..ModelProto::default() };
            assert_eq!(options_of(&model, &SessionOptions::default()).unwrap(), options);
            model.metadata_props.reverse();
            assert_eq!(options_of(&model, &SessionOptions::default()).unwrap(), options, "entries have no order");
        }
    }

    #[test]
    fn a_model_that_says_nothing_has_the_options_of_the_base() {
        assert_eq!(options_of(&ModelProto::default(), &runtime_defaults(2)).unwrap(), runtime_defaults(2));
    }

    fn on_two() -> Vec<Provider> {
        let options = BTreeMap::from([("device_id".to_owned(), "1".to_owned())]);
        vec![Provider { options, ..provider("tensorrt").unwrap() }, provider("cuda").unwrap()]
    }

    #[test]
    fn a_model_asks_for_providers_and_their_options_and_nothing_else() {
        let refused = |name: &str, value: &str| {
            let mut options = SessionOptions { providers: on_two(), ..SessionOptions::default() };
            let refused = set_option(&mut options, name, value).unwrap_err();
            assert_eq!(options.providers, on_two());
            refused.code
        };
        assert_eq!(refused("provider", "cudo"), "target/unknown-provider");
        assert_eq!(refused("provider", ""), "target/unknown-provider");
        assert_eq!(refused("provider.cudo.device_id", "1"), "target/unknown-provider");
        assert_eq!(refused("provider.cpu.device_id", "1"), "measure/bad-option");
        assert_eq!(refused("provider.cuda.user_compute_stream", "1"), "measure/bad-option");
        assert_eq!(refused("provider.tensorrt.trt_engine_cache_path", "/etc"), "measure/bad-option");
        assert_eq!(refused("provider.tensorrt.trt_extra_plugin_lib_paths", "x.so"), "measure/bad-option");
    }

    #[test]
    fn options_that_are_none_are_refused() {
        let check = |name: &str, value: &str| {
            let refused = set_option(&mut SessionOptions::default(), name, value).unwrap_err();
            assert_eq!(refused.code, "measure/bad-option", "{name}={value}");
        };
        check("providers", "cpu");
        check("provider.", "cpu");
        check("optimization", "most");
        check("arena", "1");
        check("threads", "2");
    }
}
