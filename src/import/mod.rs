//! A folder in the layout of diffusers → a graph that runs.
//!
//! ```text
//! model_index.json ─ class ─► Recipe ─ its built-in graph ────────────────────────┐
//! config.json of each model, scheduler_config.json, preprocessor_config.json ─ fill ┴─► Spec ─► text
//!                                                     weights: headers only, compared with the models
//! ```
//! The structure of a pipeline stands once, in the built-in graph that its recipe names; importing changes numbers in it and
//! nothing else. What the graph cannot express is refused, not approximated. Every mistake of a folder is reported at once, and
//! the folder is somebody else's: names are confined to it, sizes are bounded, nothing in it is run.

mod fill;
mod folder;
mod models;
mod not_a_folder;
pub mod onnx;
mod pictures;
mod sampler;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tiny_folder;

use std::path::Path;
use std::sync::Arc;

use crate::diag::{self, Diagnostic, Diagnostics, SourceText};
use crate::ir::{self, pipeline};
use crate::models::build;
use crate::spec::{self, ModelDecl, Spec, WeightsFolder};
pub use folder::files;
use folder::{Folder, Json};
use models::Models;
use pictures::Pictures;
use sampler::Sampler;

/// What a folder became.
#[derive(Clone, Debug)]
pub struct ImportedFolder {
    /// The graph, as read from `text`.
    pub spec: Spec,
    /// The graph as a file holds it.
    pub text: String,
    /// What the user should know: what was found, what was taken by default, what is not used.
    pub notes: Vec<String>,
}

/// How pipelines of one class are imported.
struct Recipe {
    /// The class in `model_index.json`.
    class: &'static str,
    /// The built-in graph that has their structure.
    template: &'static str,
    /// Each component and the classes that it may have.
    components: &'static [(&'static str, &'static [&'static str])],
}

/// The models' components are those that the models of the template name; the others have these names.
const SCHEDULER: &str = "scheduler";
const FEATURE_EXTRACTOR: &str = "feature_extractor";

const RECIPES: &[Recipe] = &[Recipe {
    class: "StableVideoDiffusionPipeline",
    template: "svd",
    components: &[
        ("image_encoder", &["CLIPVisionModelWithProjection"]),
        ("vae", &["AutoencoderKLTemporalDecoder"]),
        ("unet", &["UNetSpatioTemporalConditionModel"]),
        (SCHEDULER, &["EulerDiscreteScheduler"]),
        // These classes differ in how they are implemented, not in the numbers that they give.
        (FEATURE_EXTRACTOR, &["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor"]),
    ],
}];

/// Imports the diffusers folder `dir`; `variant` is the part of the weights' file names that diffusers calls so (`fp16`).
///
/// Reads the JSON files and the headers of the weights. The graph names the folder as `dir` does, so a relative one is meant
/// from where vidc is started.
///
/// # Errors
/// Every mistake of the folder: `import/…`, `model/…` for configurations that no architecture has, `weights/…` for weights that
/// are missing or belong to another configuration, `graph/…` for models that do not fit together.
pub fn diffusers(dir: &Path, variant: Option<&str>) -> Result<ImportedFolder, Diagnostics> {
    let folder = Folder::open(dir)?;
    let index = folder.index()?;
    let recipe = recipe(&index)?;
    let mut notes = Vec::new();
    let mut found = Diagnostics::default();
    components(recipe, &index, &mut notes, &mut found);
    let mut spec = template(recipe.template);
    let models = Models::read(&folder, recipe, &spec, &mut found);
    models.check_weights(&folder, variant, &mut notes, &mut found);
    let sampler = Sampler::read(&folder, &mut found);
    let pictures = Pictures::read(&folder, &models, &mut found);
    let geometry = models.geometry(&mut notes, &mut found);
    if let (Some(sampler), Some(pictures), Some(geometry), true) = (sampler, pictures, geometry, found.0.is_empty()) {
        fill::models(&mut spec, &models);
        fill::sampler(&mut spec, &sampler);
        fill::pictures(&mut spec, &pictures);
        fill::geometry(&mut spec, &geometry);
        let weights = WeightsFolder { folder: absolute(&folder.shown), variant: variant.map(str::to_owned) };
        fill::names(&mut spec, &folder.graph_name(), &format!("Stable Video Diffusion, a picture to {} frames", geometry.frames), weights);
        return finish(&folder, recipe, &spec, notes);
    }
    Err(found)
}

fn recipe(index: &Json) -> diag::Result<&'static Recipe> {
    let class = index.text("_class_name").unwrap_or_default();
    if let Some(recipe) = RECIPES.iter().find(|r| r.class == class) {
        return Ok(recipe);
    }
    let message = match class {
        "" => format!("{} does not say which pipeline it is", index.name()),
        class => format!("vidc has no graph for pipelines of the class `{}`", folder::shorten(class)),
    };
    let known: Vec<&str> = RECIPES.iter().map(|r| r.class).collect();
    let d = index.at(Diagnostic::new("import/unknown-pipeline", message), "_class_name", "the class");
    Err(d.help(format!("what can be imported: {}", known.join(", "))).into())
}

/// Are the components there, each of a class that the graph calls?
fn components(recipe: &Recipe, index: &Json, notes: &mut Vec<String>, found: &mut Diagnostics) {
    for (name, classes) in recipe.components {
        let class = index.component_class(name);
        if class.is_some_and(|c| classes.contains(&c)) {
            continue;
        }
        let code = if *name == SCHEDULER && class.is_some() { "import/unsupported-scheduler" } else { "import/unknown-component" };
        let message = match class {
            Some(class) => format!("the component `{name}` is a `{}`, which the graph does not call", folder::shorten(class)),
            None => format!("the pipeline has no component `{name}`"),
        };
        let help = format!("the graph of {} calls {}", recipe.class, classes.join(" or "));
        found.push(index.at(Diagnostic::new(code, message), name, "here").help(help));
    }
    let known = |name: &&str| recipe.components.iter().any(|(n, _)| n == name);
    for extra in index.components().into_iter().filter(|c| !known(c)) {
        notes.push(format!("the component `{}` is not used", folder::shorten(extra)));
    }
}

/// A built-in graph as a spec.
fn template(name: &str) -> Spec {
    let source = spec::builtin(name).expect("a recipe names a built-in graph; a test imports each");
    spec::parse(&source).0.expect("built-in graphs read without mistakes; a test reads each")
}

/// The folder as a graph names it, wherever that is written.
fn absolute(folder: &str) -> String {
    std::path::absolute(folder).map_or_else(|_| folder.to_owned(), |p| p.display().to_string())
}

/// Writes the graph, reads it again, and resolves it at its defaults, so that what is handed out is known to run.
fn finish(folder: &Folder, recipe: &Recipe, spec: &Spec, notes: Vec<String>) -> Result<ImportedFolder, Diagnostics> {
    let header = format!("# A {} in {}, written by `vidc import`.\n", recipe.class, folder.shown.escape_debug());
    let text = header + &spec::write(spec);
    let source = Arc::new(SourceText { name: format!("{}.yaml (not yet written)", spec.name.value), text: text.clone() });
    let (read, found) = spec::parse(&source);
    let Some(spec) = read.filter(|_| found.0.is_empty()) else { return Err(found) };
    pipeline::resolve(&spec, &[], &signature)?;
    Ok(ImportedFolder { spec, text, notes })
}

/// The ports of a declared model, from the model itself.
fn signature(decl: &ModelDecl) -> diag::Result<ir::Signature> {
    // The component only says where weights lie, which the ports do not depend on.
    let graph = build(&decl.architecture.value, &decl.config.0.to_json(), "weights", &decl.architecture.value)?;
    Ok(graph.signature())
}
