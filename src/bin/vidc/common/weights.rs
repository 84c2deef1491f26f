//! The weights argument: a folder, a seed, or what the graph says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Failure;
use super::args::WeightsArgs;
use vidc::diag::{Diagnostic, Diagnostics};
use vidc::ir::Program;
use vidc::plan::hex;
use vidc::spec::WeightsSource;
use vidc::weights::{ParamSource, Stored, open_folder};

/// Weights that were found.
pub(crate) struct Weights {
    /// Where each parameter comes from.
    pub(crate) source: ParamSource,
    /// `random:SEED`, or the folder.
    pub(crate) words: String,
    /// Fields that change when the weights do.
    pub(crate) identity: Vec<String>,
}

impl Weights {
    /// The files that hold them.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match &self.source {
            ParamSource::Random { .. } => Vec::new(),
            ParamSource::Files(stages) => stages.values().flat_map(Stored::files).map(|f| f.path()).collect(),
        }
    }
}

/// The weights of a program: of the argument, else of the graph.
pub(crate) fn weights(args: &WeightsArgs, program: &Program) -> Result<Weights, Failure> {
    let source = match &args.weights {
        Some(text) => WeightsSource::parse(text)
            .map_err(|why| Diagnostic::new("spec/weights", why).help("for example `--weights random:4242`, or `--weights DIR`"))?,
        None => program.pipeline.weights.clone().ok_or_else(|| none(program))?,
    };
    match source {
        WeightsSource::Random(seed) => {
            Ok(Weights { source: ParamSource::Random { seed }, words: format!("random:{seed}"), identity: vec![format!("random:{seed}")] })
        }
        WeightsSource::Folder(from) => {
            let variant = args.variant.as_deref().or(from.variant.as_deref());
            folder_weights(Path::new(&from.folder), variant, program)
        }
    }
}

fn none(program: &Program) -> Diagnostic {
    let message = format!("the graph `{}` does not say where its weights are, and --weights was not given", program.pipeline.name);
    let help = "give the folder of the model with `--weights DIR`, or random ones with `--weights random:0` to see speed and memory";
    Diagnostic::new("weights/not-found", message).help(help)
}

fn folder_weights(folder: &Path, variant: Option<&str>, program: &Program) -> Result<Weights, Failure> {
    if !folder.is_dir() {
        let d = Diagnostic::new("weights/not-found", format!("there is no folder of weights `{}`", folder.display()));
        return Err(d.help("give the folder of the model, which holds one folder a component, with `--weights DIR`").into());
    }
    let components: BTreeSet<&str> = program.pipeline.models.values().map(|m| m.component.as_str()).collect();
    let mut stages: BTreeMap<String, Stored> = BTreeMap::new();
    let mut found = Diagnostics::default();
    for component in components {
        match open_folder(&folder.join(component), variant) {
            Ok(stored) => _ = stages.insert(component.into(), stored),
            Err(d) => found.push(*d),
        }
    }
    let stages = found.into_result(stages)?;
    let whole = folder.canonicalize().unwrap_or_else(|_| PathBuf::from(folder));
    let words = variant.map_or_else(|| whole.display().to_string(), |v| format!("{} ({v})", whole.display()));
    let mut identity = vec![words.clone()];
    for (stage, stored) in &stages {
        identity.push(stage.clone());
        for file in stored.files() {
            identity.push(file.path().display().to_string());
            identity.push(file.len().to_string());
            identity.push(file.header_sha256().map_or_else(String::new, |h| hex(&h)));
        }
    }
    Ok(Weights { source: ParamSource::Files(stages), words, identity })
}
