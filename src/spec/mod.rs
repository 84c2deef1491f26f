//! The YAML language, exactly as written: every scalar with its span, no name resolved, nothing computed.
//!
//! ```text
//! text ─ yaml (limits, places) ─► Node ─ decode (types, keys) ─► Spec ─ ir::pipeline::resolve ─► Pipeline
//! Spec ─ write ─► text
//! ```
//!
//! [`parse`] reports every mistake of a file at once and returns what could be read. [`write()`] is its inverse up to places:
//! `parse(write(s)) == s`. The language is described for editors by `schemas/graph.schema.json`, generated from these types.
//! Parameters, dims (axis names) and values are three namespaces.

mod builtin;
mod decode;
mod expr;
mod ops;
mod spanned;
#[cfg(test)]
mod tests;
mod write;
mod yaml;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

pub use builtin::{BUILTIN, builtin};
pub use decode::{AxisRef, ModelRef, Number, ValueRef};
pub use expr::{EvalError, Expr, Operator, Tree};
pub use ops::*;
pub use spanned::{Entries, Spanned};
pub use write::write;
pub use yaml::{Entry, Kind, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node};

use crate::diag::{Diagnostic, Diagnostics, SourceText, Span};
use crate::files::output::folder_of;
use decode::{Decode, choice, record, wrong_type};

/// The version of the language that this vidc reads and writes.
pub const VERSION: i64 = 1;

record!(
    /// A graph file.
    Spec {
        /// Version of the language: 1.
        vidc: Spanned<i64>,
        /// Name of the graph.
        name: Spanned<String>,
        /// What it does, in one line.
        #[serde(skip_serializing_if = "Option::is_none")]
        about: Option<Spanned<String>>,
        /// What `--set` can change.
        #[serde(skip_serializing_if = "Entries::is_empty")]
        #[schemars(default)]
        parameters: Entries<Parameter>,
        /// Where weights come from when the command line says nothing: `random:SEED`, a folder, or a folder and a variant.
        #[serde(skip_serializing_if = "Option::is_none")]
        weights: Option<Spanned<WeightsSource>>,
        /// Answers to knobs, by the knob's name, where the command line gives none; `vidc explain` lists what there is.
        #[serde(skip_serializing_if = "Entries::is_empty")]
        #[schemars(default)]
        choose: Entries<Spanned<String>>,
        /// The models that the pipeline calls.
        #[serde(skip_serializing_if = "Entries::is_empty")]
        #[schemars(default)]
        models: Entries<ModelDecl>,
        /// What `--input` gives.
        #[serde(skip_serializing_if = "Entries::is_empty")]
        #[schemars(default)]
        inputs: Entries<Spanned<InputDecl>>,
        /// The values, in order: each uses only what stands above it.
        pipeline: Entries<Spanned<Op>>,
        /// What comes out.
        outputs: Entries<OutputDecl>,
    }
);

record!(
    /// A number that the user can change with `--set`. It is whole if its default is.
    Parameter {
        /// Its value when nothing is set.
        default: Spanned<Number>,
        /// What it means, in one line.
        #[serde(skip_serializing_if = "Option::is_none")]
        about: Option<Spanned<String>>,
        /// Least value.
        #[serde(skip_serializing_if = "Option::is_none")]
        min: Option<Spanned<Number>>,
        /// Greatest value.
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<Spanned<Number>>,
        /// It must be a multiple of this.
        #[serde(skip_serializing_if = "Option::is_none")]
        multiple_of: Option<Spanned<i64>>,
    }
);

record!(
    /// A model: an architecture and its configuration.
    ModelDecl {
        /// Name of the architecture.
        architecture: Spanned<String>,
        /// Folder of its weights inside the weights folder; the model's own name if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        weights: Option<Spanned<String>>,
        /// The keys of the model's `config.json`.
        config: Config,
    }
);

/// The configuration of a model, in the keys of its architecture's `config.json`.
#[derive(Clone, Debug)]
pub struct Config(pub Node);

impl Config {
    /// The configuration that `json` is, as if it were written at `span`.
    pub fn from_json(json: &serde_json::Value, span: &Span) -> Self {
        Self(Node::from_json(json, span))
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_json() == other.0.to_json()
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.to_json().serialize(s)
    }
}

impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        "Config".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object", "description": "The keys of the model's config.json" })
    }
}

impl Decode for Config {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        match node.kind {
            Kind::Map(_) => Some(Self(node.clone())),
            _ => wrong_type(node, "a map with the keys of the model's config.json", out),
        }
    }
}

record!(
    /// A folder of weights, with a folder a model inside.
    WeightsFolder {
        /// The folder, absolute or relative to the folder that the graph lies in.
        folder: String,
        /// Which of several sets of files, as their names say it: `fp16` means `model.fp16.safetensors`.
        #[serde(skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
    }
);

/// Where weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightsSource {
    /// `random:SEED`: generated, the same everywhere.
    Random(u64),
    /// `DIR`, or `{ folder: DIR, variant: fp16 }`.
    Folder(WeightsFolder),
}

impl WeightsSource {
    /// Reads `random:SEED` or a folder, as the command line gives it.
    ///
    /// # Errors
    /// What is wrong with the seed.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("random:") {
            Some(seed) => seed.parse().map(Self::Random).map_err(|_| format!("`{seed}` is not a seed: a whole number from 0 to 2^64 - 1")),
            None => Self::folder(WeightsFolder { folder: text.to_owned(), variant: None }),
        }
    }

    /// As the graph at `graph` means it: a relative folder begins where the graph lies.
    #[must_use]
    pub fn beside(&self, graph: &str) -> Self {
        match self {
            Self::Random(seed) => Self::Random(*seed),
            Self::Folder(from) => {
                let folder = folder_of(Path::new(graph)).join(&from.folder).display().to_string();
                Self::Folder(WeightsFolder { folder, variant: from.variant.clone() })
            }
        }
    }

    fn folder(from: WeightsFolder) -> Result<Self, String> {
        if from.folder.is_empty() {
            return Err("a folder or `random:SEED` is wanted, not nothing".into());
        }
        match &from.variant {
            Some(variant) if !is_variant(variant) => {
                Err(format!("`{}` is not a variant: letters, digits, `-` and `_`", variant.escape_debug()))
            }
            _ => Ok(Self::Folder(from)),
        }
    }
}

/// Can it be a part of a file name that says which variant the file is?
fn is_variant(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

impl std::fmt::Display for WeightsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Random(seed) => write!(f, "random:{seed}"),
            Self::Folder(WeightsFolder { folder, variant: None }) => f.write_str(folder),
            Self::Folder(WeightsFolder { folder, variant: Some(variant) }) => write!(f, "{folder} ({variant})"),
        }
    }
}

impl Serialize for WeightsSource {
    /// A folder is a plain text where that cannot be read as anything else.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Folder(from) if from.variant.is_some() || from.folder.starts_with("random:") => from.serialize(s),
            _ => s.collect_str(self),
        }
    }
}

impl JsonSchema for WeightsSource {
    fn schema_name() -> Cow<'static, str> {
        "Weights".into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "anyOf": [
            { "type": "string", "description": "A folder, or `random:SEED`" },
            g.subschema_for::<WeightsFolder>(),
        ] })
    }
}

impl Decode for WeightsSource {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        let read = match &node.kind {
            Kind::Map(_) => Self::folder(WeightsFolder::decode(node, out)?),
            Kind::Seq(_) => return wrong_type(node, "a folder, `random:SEED`, or a map with `folder` and `variant`", out),
            Kind::Scalar { .. } => Self::parse(&String::decode(node, out)?),
        };
        match read {
            Ok(weights) => Some(weights),
            Err(message) => {
                let d = Diagnostic::new("spec/weights", message).at(&node.span, "here");
                out.push(
                    d.help("write for example `random:4242`, or the folder that holds the weights, or `{ folder: DIR, variant: fp16 }`"),
                );
                None
            }
        }
    }
}

record!(
    /// A picture from a file. The size is what `--fit` fits it to before the pipeline sees it; it says nothing about the file.
    Picture {
        /// Rows.
        height: Expr,
        /// Columns.
        width: Expr,
    }
);

choice!(
    /// What an input is: a map with one key.
    InputDecl, "kind of input", "spec/unknown-input-kind" {
        /// A picture.
        "picture" => Picture,
    }
);

record!(
    /// A video: frames of f32 [batch, frames, 3, height, width] in [-1, 1], and how fast they play.
    OutputDecl {
        /// The value that holds the frames.
        frames: ValueRef,
        /// Frames a second.
        fps: Expr,
    }
);

/// Reads a graph file.
///
/// # Errors
/// Every mistake of the file; what could be read is returned beside them only if the whole is complete.
pub fn parse(source: &Arc<SourceText>) -> (Option<Spec>, Diagnostics) {
    let (root, mut found) = yaml::read(source);
    let spec = root.and_then(|root| {
        version(&root, &mut found)?;
        Spec::decode(&root, &mut found)
    });
    if let Some(spec) = &spec {
        check_names(spec, &mut found);
    }
    (spec, found)
}

/// A file of another version is refused before its keys are looked at, which may be other keys.
fn version(root: &Node, found: &mut Diagnostics) -> Option<()> {
    let Some(node) = root.get("vidc") else { return Some(()) };
    let version = i64::decode(node, found)?;
    if version == VERSION {
        return Some(());
    }
    let d = Diagnostic::new("spec/version", format!("this graph is written in version {version} of the language"));
    found.push(d.at(&node.span, format!("this vidc reads version {VERSION}")).help("use the vidc that the graph was written for"));
    None
}

/// Names of parameters, models, inputs and values are words, so that expressions and `value.output` can be told apart.
fn check_names(spec: &Spec, found: &mut Diagnostics) {
    let mut names: Vec<&Spanned<String>> = Vec::new();
    names.extend(spec.parameters.iter().map(|(k, _)| k));
    names.extend(spec.models.iter().map(|(k, _)| k));
    names.extend(spec.inputs.iter().map(|(k, _)| k));
    names.extend(spec.outputs.iter().map(|(k, _)| k));
    collect_names(&spec.pipeline, &mut names);
    for name in names.into_iter().filter(|n| !is_word(&n.value)) {
        let d = Diagnostic::new("spec/name", format!("`{}` cannot be a name", name.value)).at(&name.span, "not a name");
        found.push(d.help("a name is letters, digits and `_`, at most 64 of them, and does not start with a digit"));
    }
    for folder in spec.models.iter().filter_map(|(_, m)| m.weights.as_ref()) {
        if !folder.value.split('/').all(crate::files::is_bare) {
            let d = Diagnostic::new("spec/weights", format!("`{}` is no folder inside the weights folder", folder.value.escape_debug()));
            found.push(
                d.at(&folder.span, "leads elsewhere")
                    .help("name a folder below the one that --weights or `weights:` names, such as `unet`"),
            );
        }
    }
}

fn collect_names<'a>(ops: &'a Entries<Spanned<Op>>, names: &mut Vec<&'a Spanned<String>>) {
    for (name, op) in ops.iter() {
        names.push(name);
        names.extend(op.value.given().unwrap_or_default());
        if let Op::Loop(l) = &op.value {
            names.extend(l.each.iter().map(|(k, _)| k));
        }
        for ops in op.value.inside() {
            collect_names(ops, names);
        }
    }
}

fn is_word(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The JSON Schema of the language, pretty-printed, as `schemas/graph.schema.json` holds it.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Spec);
    serde_json::to_string_pretty(&schema).expect("a schema is plain JSON") + "\n"
}
