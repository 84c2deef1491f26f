//! The models of a folder: their configurations, whether their weights are there, and what their sizes mean for the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::Recipe;
use super::folder::{Folder, Json, shorten};
use crate::diag::{Diagnostic, Diagnostics, Result};
use crate::ir::{Op, OpGraph};
use crate::models::build;
use crate::spec::{ModelDecl, Spec};
use crate::units::Bytes;
use crate::weights::{ParamSource, Stored, WeightExpr, open_folder};

/// Tensors of one component that are reported one by one; of a wrong folder all are missing.
const MAX_TENSORS: usize = 8;
/// Keys of a `config.json` that say how a model was made or trained, not what it computes.
const INERT: [&str; 11] = [
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "attention_dropout",
    "dropout",
    "initializer_factor",
    "initializer_range",
    "gradient_checkpointing",
    "name_or_path",
];

/// The component of the weights of a declared model.
fn component<'a>(name: &'a str, decl: &'a ModelDecl) -> &'a str {
    decl.weights.as_ref().map_or(name, |w| &w.value)
}

/// The models that the template declares, as the folder configures them.
pub(super) struct Models {
    /// By component.
    configs: IndexMap<String, Json>,
    /// By component, in the order of the template.
    graphs: IndexMap<String, Vec<OpGraph>>,
}

impl Models {
    pub(super) fn read(folder: &Folder, recipe: &Recipe, template: &Spec, found: &mut Diagnostics) -> Self {
        let mut models = Self { configs: IndexMap::new(), graphs: IndexMap::new() };
        for (name, decl) in template.models.iter() {
            models.add(folder, recipe, component(&name.value, decl), decl, found);
        }
        models
    }

    fn add(&mut self, folder: &Folder, recipe: &Recipe, component: &str, decl: &ModelDecl, found: &mut Diagnostics) {
        if !self.graphs.contains_key(component) {
            self.graphs.insert(component.to_owned(), Vec::new());
            match folder.json(component, "config.json") {
                Ok(config) => {
                    check_class(recipe, component, &config, found);
                    self.configs.insert(component.to_owned(), config);
                }
                Err(d) => found.push(*d),
            }
        }
        let Some(config) = self.configs.get(component) else { return };
        let architecture = &decl.architecture.value;
        match build(architecture, &Value::Object(config.map().clone()), component, architecture) {
            Ok(graph) => self.graphs[component].push(graph),
            // Two models of one component read the same keys.
            Err(d) => once(d.note(format!("the config is {}", config.name())), found),
        }
    }

    /// A positive whole number in the config of a component, whose model has been built.
    pub(super) fn whole(&self, component: &str, key: &str) -> Option<i64> {
        self.graphs.get(component).filter(|g| !g.is_empty())?;
        self.configs.get(component)?.get(key)?.as_i64()
    }

    /// The config for a declared model: the keys that the template has, in its order, then the others that can matter.
    pub(super) fn config(&self, name: &str, decl: &ModelDecl) -> Option<Value> {
        let config = self.configs.get(component(name, decl))?.map();
        let template = decl.config.0.to_json();
        let first = template.as_object().into_iter().flat_map(Map::keys).filter(|k| config.contains_key(*k));
        let matters = |k: &&String| !k.starts_with('_') && !INERT.contains(&k.as_str()) && template.get(k).is_none();
        let keys = first.chain(config.keys().filter(matters)).filter(|k| !config[*k].is_null());
        Some(Value::Object(keys.map(|k| (k.clone(), config[k].clone())).collect()))
    }

    // ---- weights

    /// Opens the weights of each component, reading headers only, and looks for every parameter of its models.
    pub(super) fn check_weights(&self, folder: &Folder, variant: Option<&str>, notes: &mut Vec<String>, found: &mut Diagnostics) {
        for (component, graphs) in &self.graphs {
            match open(folder, component, variant) {
                Ok(stored) => check_tensors(component, graphs, stored, notes, found),
                Err(d) => once(*d, found),
            }
        }
    }

    // ---- sizes

    /// What the sizes of the models mean for the graph.
    pub(super) fn geometry(&self, notes: &mut Vec<String>, found: &mut Diagnostics) -> Option<Geometry> {
        let (vae, unet) = (self.configs.get("vae")?, self.configs.get("unet")?);
        let factor = 1 << (levels(vae)? - 1);
        let unit = factor << (levels(unet)? - 1);
        let known = found.0.len();
        let frames = frames(unet, notes, found);
        let scaling = scaling(vae, notes, found);
        let small = small(unet, factor, found);
        if found.0.len() > known {
            return None;
        }
        let (height, width) = small.unwrap_or((576, 1024));
        let up = |side: i64| (side + unit - 1) / unit * unit;
        Some(Geometry {
            frames,
            scaling,
            factor,
            unit,
            height: up(height),
            width: up(width),
            latent_channels: self.whole("vae", "latent_channels")?,
        })
    }
}

/// Sizes of the graph.
#[derive(Debug)]
pub(super) struct Geometry {
    /// Frames of a video by default.
    pub(super) frames: i64,
    /// The denoiser works on latents of the auto-encoder times this factor.
    pub(super) scaling: f64,
    /// Pixels a latent, along each side.
    pub(super) factor: i64,
    /// Height and width are multiples of this.
    pub(super) unit: i64,
    /// Rows by default.
    pub(super) height: i64,
    /// Columns by default.
    pub(super) width: i64,
    /// Channels of a latent.
    pub(super) latent_channels: i64,
}

/// The number of resolutions; a config with none or many is reported where the model is built.
fn levels(config: &Json) -> Option<usize> {
    config.get("block_out_channels")?.as_array().map(Vec::len).filter(|n| (1..=8).contains(n))
}

fn frames(unet: &Json, notes: &mut Vec<String>, found: &mut Diagnostics) -> i64 {
    /// What the class takes where the key is missing.
    const DEFAULT: i64 = 25;
    let Some(value) = unet.get("num_frames") else {
        notes.push(format!("the unet does not say `num_frames`; {DEFAULT} is taken, as its class does"));
        return DEFAULT;
    };
    let frames = value.as_i64().filter(|n| (1..=4096).contains(n));
    if frames.is_none() {
        found.push(bad(unet, "num_frames", value, "a whole number from 1 to 4096"));
    }
    frames.unwrap_or(DEFAULT)
}

fn scaling(vae: &Json, notes: &mut Vec<String>, found: &mut Diagnostics) -> f64 {
    /// What the class takes where the key is missing.
    const DEFAULT: f64 = 0.18215;
    let Some(value) = vae.get("scaling_factor") else {
        notes.push(format!("the vae does not say `scaling_factor`; {DEFAULT} is taken, as its class does"));
        return DEFAULT;
    };
    let scaling = value.as_f64().filter(|x| *x > 1e-6 && *x < 1e6);
    if scaling.is_none() {
        found.push(bad(vae, "scaling_factor", value, "a number above 0"));
    }
    scaling.unwrap_or(DEFAULT)
}

/// Height and width in pixels that the denoiser was made for, if they are below those of the published models. Those say 96,
/// which is 768 by 768 pixels and not what they are used for, so larger ones say nothing.
fn small(unet: &Json, factor: i64, found: &mut Diagnostics) -> Option<(i64, i64)> {
    let value = unet.get("sample_size")?;
    let side = |v: &Value| v.as_i64().filter(|n| (1..=4096).contains(n));
    let sides = match value.as_array().map(Vec::as_slice) {
        Some([height, width]) => side(height).zip(side(width)),
        Some(_) => None,
        None => side(value).map(|s| (s, s)),
    };
    let Some((height, width)) = sides else {
        found.push(bad(unet, "sample_size", value, "a whole number from 1 to 4096, or two"));
        return None;
    };
    (height.min(width) * factor < 576).then_some((height * factor, width * factor))
}

fn bad(config: &Json, key: &str, value: &Value, wanted: impl Display) -> Diagnostic {
    let message = format!("`{key}` in {} is `{}`", config.name(), shorten(&value.to_string()));
    config.at(Diagnostic::new("import/config", message), key, "here").help(format!("what the graph can have is {wanted}"))
}

/// A config may say its own class; it must be the one of `model_index.json`.
fn check_class(recipe: &Recipe, component: &str, config: &Json, found: &mut Diagnostics) {
    let classes = recipe.components.iter().find(|(name, _)| *name == component).map_or(&[][..], |(_, classes)| classes);
    let said = config.text("_class_name").or_else(|| config.get("architectures")?.get(0)?.as_str());
    if let Some(class) = said.filter(|c| !classes.contains(c)) {
        let key = if config.text("_class_name").is_some() { "_class_name" } else { "architectures" };
        let message = format!("the config of `{component}` is that of a `{}`", shorten(class));
        let d = config.at(Diagnostic::new("import/unknown-component", message), key, "here");
        found.push(d.help(format!("the graph calls {}", classes.join(" or "))));
    }
}

fn once(d: Diagnostic, found: &mut Diagnostics) {
    if !found.0.contains(&d) {
        found.push(d);
    }
}

fn open(folder: &Folder, component: &str, variant: Option<&str>) -> Result<Stored> {
    let dir = folder.component(component)?;
    folder.confine_weights(component, &dir)?;
    open_folder(&dir, variant)
}

fn check_tensors(component: &str, graphs: &[OpGraph], stored: Stored, notes: &mut Vec<String>, found: &mut Diagnostics) {
    notes.push(summary(component, &stored));
    if graphs.is_empty() {
        return;
    }
    let params = params(graphs);
    notes.extend(unused(component, &stored, &params));
    let bad: Vec<&WeightExpr> = params.iter().filter(|(name, p)| !fits(&stored, name, p)).map(|(_, p)| p).collect();
    let source = ParamSource::Files(BTreeMap::from([(component.to_owned(), stored)]));
    let mut said: Vec<Diagnostic> = bad.iter().take(MAX_TENSORS).filter_map(|p| p.bind(&source).err()).map(|d| *d).collect();
    if let Some(last) = said.last_mut().filter(|_| bad.len() > MAX_TENSORS) {
        last.notes.push(format!("{} more tensors of {component} are missing or do not fit", bad.len() - MAX_TENSORS));
    }
    found.0.extend(said);
}

/// Every parameter of the graphs of one component, by its name in the file.
pub(super) fn params(graphs: &[OpGraph]) -> BTreeMap<String, WeightExpr> {
    let mut all = BTreeMap::new();
    for (graph, id) in graphs.iter().flat_map(|g| g.nodes().into_iter().map(move |id| (g, id))) {
        if let Op::Weight(expr) = &graph.node(id).op {
            all.extend(expr.params().into_iter().map(|(_, name, param)| (name.to_owned(), param.clone())));
        }
    }
    all
}

/// Cheap where [`WeightExpr::bind`] is not: it finds the nearest names for its message.
fn fits(stored: &Stored, name: &str, param: &WeightExpr) -> bool {
    let Ok(Some(tensor)) = stored.get(name) else { return false };
    tensor.shape == param.shape() && tensor.dtype.is_float() == param.dtype().is_float()
}

fn summary(component: &str, stored: &Stored) -> String {
    let types: BTreeSet<&str> = stored.iter().map(|(_, t)| t.dtype.name()).collect();
    let files: Vec<String> = stored.files().iter().map(|f| f.name()).collect();
    let files = match &files[..] {
        [file] if Path::new(file).extension().is_some() => file.clone(),
        files => format!("{} files", files.len()),
    };
    let types = types.into_iter().collect::<Vec<_>>().join(" and ");
    format!("{component}: {} tensors of {types}, {} in {files}", stored.len(), Bytes(stored.total_bytes()))
}

/// Says that tensors are stored which no model reads.
fn unused(component: &str, stored: &Stored, params: &BTreeMap<String, WeightExpr>) -> Option<String> {
    let mut extra = stored.iter().map(|(name, _)| name).filter(|name| !params.contains_key(*name));
    let first = extra.next()?;
    Some(format!("{component}: {} stored tensors are not used, such as `{}`", 1 + extra.count(), shorten(first)))
}
