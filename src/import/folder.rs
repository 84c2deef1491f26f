//! The folder and its JSON files: names confined, sizes bounded, keys with their places.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::not_a_folder;
use crate::diag::{Diagnostic, Result, SourceText, Span};
use crate::files::{self, Refusal};

/// The largest JSON file that is read. The configurations of published models have a few kilobytes.
const MAX_JSON: u64 = 16 << 20;
/// The longest line of a JSON file that a diagnostic shows.
const MAX_LINE: usize = 400;
/// Entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// The folder of a pipeline.
pub(super) struct Folder {
    /// Its real path.
    home: PathBuf,
    /// Its name as the user gave it.
    pub(super) shown: String,
}

impl Folder {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let Some(shown) = dir.to_str() else {
            let d = Diagnostic::new("import/folder-name", format!("the name of the folder {} is not UTF-8", dir.display()));
            return Err(d.help("rename it, or link to it under another name").into());
        };
        match dir.canonicalize() {
            Ok(home) if home.is_dir() => Ok(Self { home, shown: shown.to_owned() }),
            Ok(file) => Err(not_a_folder::file(dir, &file).into()),
            Err(e) => Err(not_a_folder::nothing(dir, shown, &e).into()),
        }
    }

    /// `model_index.json`.
    pub(super) fn index(&self) -> Result<Json> {
        if self.home.join("model_index.json").symlink_metadata().is_ok() {
            return self.json_in(&self.home, "model_index.json", "model_index.json");
        }
        let message = format!("{} holds no model_index.json, so it is not a pipeline in the layout of diffusers", self.shown);
        Err(Diagnostic::new("import/not-a-pipeline", message).help(self.what_it_seems_to_be()).into())
    }

    fn what_it_seems_to_be(&self) -> String {
        let names = listing(&self.home);
        let any = |ending: &str| names.iter().any(|n| n.ends_with(ending));
        let has = |name: &str| names.iter().any(|n| n == name);
        if has("snapshots") {
            return "this is a model in the hub's cache: name the folder of a revision below `snapshots`".into();
        }
        if has("config.json") {
            return "this seems to be the folder of one model: name the folder above it, which holds model_index.json".into();
        }
        if any(".onnx") {
            return "these are ONNX files; what can be imported is the folder that they were exported from".into();
        }
        if any(".safetensors") || any(".ckpt") {
            return "this seems to be one checkpoint file; what can be imported is the layout of diffusers, with a folder for each component".into();
        }
        "name the folder that holds model_index.json".into()
    }

    /// A JSON file of a component.
    pub(super) fn json(&self, component: &str, file: &str) -> Result<Json> {
        self.json_in(&self.component(component)?, file, &format!("{component}/{file}"))
    }

    /// A file of the folder as the user would name it.
    fn show(&self, name: &str) -> String {
        Path::new(&self.shown).join(name).display().to_string()
    }

    fn json_in(&self, dir: &Path, file: &str, name: &str) -> Result<Json> {
        let path = files::confined(dir, file).map_err(|why| self.refused(name, &why))?;
        let (mut open, len) = files::open_regular(&path)?;
        let bad = |why: String| {
            let message = format!("{} is not the JSON object that it should be: {why}", self.show(name));
            Diagnostic::new("import/bad-json", message).help("the file is damaged, or no file but a git-lfs pointer; fetch it again")
        };
        if len > MAX_JSON {
            return Err(bad(format!("it has {len} bytes; the limit is {MAX_JSON}")).into());
        }
        let text = String::from_utf8(files::read_start(&path, &mut open, len)?).map_err(|e| bad(e.to_string()))?;
        let map = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        Ok(Json { map, source: Arc::new(SourceText { name: self.show(name), text }) })
    }

    /// The real folder of a component, which lies in the pipeline's.
    pub(super) fn component(&self, name: &str) -> Result<PathBuf> {
        let path = self.home.join(name);
        let missing = || files::dangling(&path).map_or(Refusal::Missing, Refusal::Dangling);
        let real = path.canonicalize().map_err(|_| self.refused(name, &missing()))?;
        if !real.starts_with(&self.home) {
            return Err(self.refused(name, &Refusal::Outside(real)).into());
        }
        if real.is_dir() { Ok(real) } else { Err(self.refused(name, &Refusal::Missing).into()) }
    }

    /// Refuses weights of a component that are links out of it.
    pub(super) fn confine_weights(&self, component: &str, dir: &Path) -> Result<()> {
        for name in listing(dir).iter().filter(|n| n.contains(".safetensors")) {
            match files::confined(dir, name) {
                Ok(_) | Err(Refusal::Missing | Refusal::Dangling(_)) => {}
                Err(why) => return Err(self.refused(&format!("{component}/{name}"), &why).into()),
            }
        }
        Ok(())
    }

    fn refused(&self, name: &str, why: &Refusal) -> Diagnostic {
        let message = format!("{} cannot be read: {why}", self.show(name));
        match why {
            Refusal::Missing | Refusal::Dangling(_) => {
                Diagnostic::new("import/missing-file", message).help("the download is not complete; fetch the folder again")
            }
            _ => Diagnostic::new("import/path-escape", message).help("copy what the link leads to into the folder"),
        }
    }

    /// A name for the graph: that of the folder, or of the model in whose hub cache it lies.
    pub(super) fn graph_name(&self) -> String {
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let cached = self.home.ancestors().find(|a| name(a) == "snapshots").and_then(Path::parent).map(name);
        let cached = cached.and_then(|n| n.strip_prefix("models--").map(|n| n.rsplit("--").next().unwrap_or(n).to_owned()));
        let chosen = cached.unwrap_or_else(|| name(&self.home));
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let safe: String = chosen.chars().map(safe).take(64).collect();
        let trimmed = safe.trim_matches(['-', '.']);
        if trimmed.is_empty() { "imported".into() } else { trimmed.to_owned() }
    }
}

/// The files of a pipeline's folder and of its components, whatever they are.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let within = |dir: &Path| listing(dir).into_iter().map(|name| dir.join(name)).collect::<Vec<_>>();
    let (folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) = within(dir).into_iter().partition(|p| p.is_dir());
    files.extend(folders.iter().flat_map(|folder| within(folder)));
    files
}

/// Names in a folder, sorted.
fn listing(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).take(MAX_ENTRIES).collect();
    names.sort_unstable();
    names
}

/// A text of somebody else's as a message shows it.
pub(super) fn shorten(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    short.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A JSON file whose root is an object.
pub(super) struct Json {
    map: Map<String, Value>,
    source: Arc<SourceText>,
}

impl Json {
    /// The file as the user would name it.
    pub(super) fn name(&self) -> &str {
        &self.source.name
    }

    /// The keys and values.
    pub(super) fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    /// The value of a key; `null` counts as missing, as it does for those who write these files.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// The text under a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// In a `model_index.json`: the class of a component that is there.
    pub(super) fn component_class(&self, name: &str) -> Option<&str> {
        self.get(name)?.get(1)?.as_str()
    }

    /// In a `model_index.json`: the components that are there.
    pub(super) fn components(&self) -> Vec<&str> {
        self.map.keys().map(String::as_str).filter(|name| self.component_class(name).is_some()).collect()
    }

    /// Labels `d` with the place of `key`, if it is there and its line can be shown; else names the file.
    pub(super) fn at(&self, d: Diagnostic, key: &str, text: &str) -> Diagnostic {
        match self.place(key) {
            Some(span) => d.at(&span, text),
            None => d.note(format!("the file is {}", self.name())),
        }
    }

    fn place(&self, key: &str) -> Option<Span> {
        let all = &self.source.text;
        let quoted = Value::from(key).to_string();
        let is_key = |start: &usize| all[start + quoted.len()..].trim_start().starts_with(':');
        let start = all.match_indices(&quoted).map(|(at, _)| at).find(is_key)?;
        let line_start = all[..start].rfind('\n').map_or(0, |n| n + 1);
        let line_end = all[start..].find('\n').map_or(all.len(), |n| start + n);
        (line_end - line_start <= MAX_LINE).then(|| Span { source: self.source.clone(), start, len: quoted.len() })
    }
}
