//! Plans: the lowered artifact. [`compile`] runs the passes over a program and cuts it into sessions and steps, taking no
//! decision of its own; [`fn@write`] puts it into a directory that runs without the YAML, the tuner or Python.
//!
//! ```text
//! PLANDIR/manifest.json    what there is and what runs, in order
//! PLANDIR/unet.onnx …      one model per session, without weights
//! PLANDIR/derived.bin      weights that the passes changed; untouched ones stay in the user's files
//! ```

mod emit;
mod folder;
pub mod manifest;
mod steps;
mod store;

use std::path::Path;

use indexmap::IndexMap;

pub use emit::{Placed, emit};
pub use folder::check_output;
pub use manifest::{Manifest, Step};
pub use store::{Store, WeightsEntry, hex};

use crate::diag::{Diagnostic, Result};
use crate::files::output::folder_of;
use crate::hwdb::Machine;
use crate::ir::{CallSite, OpGraph, Program, verify};
use crate::onnx;
use crate::passes::manager::Debugging;
use crate::passes::{self, Checks, Choices, Compiled, Guidance, Planned, Trace, residency};
use crate::weights::ParamSource;
use manifest::{EffectEntry, SessionEntry};
use sha2::{Digest, Sha256};

/// A program after the passes.
#[derive(Debug)]
pub struct CompiledProgram<'a> {
    /// The program.
    pub program: &'a Planned,
    /// The answers that were applied.
    pub choices: Choices,
    /// Every call with its session and its pieces, in the order of [`Program::calls`].
    calls: Vec<(CallSite, usize, i64)>,
    /// The model of each session.
    pub instances: IndexMap<String, Compiled>,
}

impl CompiledProgram<'_> {
    /// What the passes did, over all models.
    pub fn trace(&self) -> Trace {
        Trace { records: self.instances.values().flat_map(|c| c.trace.records.clone()).collect() }
    }
}

/// The bound graph of each session, in order of first call, with the pieces that `choices` ask for.
///
/// # Errors
/// `graph/model-size` if a model cannot take the extents.
pub fn instances(program: &Program, choices: &Choices) -> Result<IndexMap<String, OpGraph>> {
    let mut graphs = IndexMap::new();
    for site in program.calls() {
        if !graphs.contains_key(&site.instance) {
            let pieces = Guidance::pieces(&site.instance, site.batch, choices);
            graphs.insert(site.instance.clone(), program.instance(&site, pieces)?);
        }
    }
    Ok(graphs)
}

/// Runs the passes over every model of a program.
///
/// # Errors
/// What a pass or the binding of shapes returns.
pub fn compile<'a>(program: &'a Planned, machine: &Machine, choices: &Choices, debugging: &Debugging) -> Result<CompiledProgram<'a>> {
    let mut compiled = IndexMap::new();
    for (name, graph) in instances(program, choices)? {
        compiled.insert(name, passes::compile(&graph, machine, choices, Checks::Full, debugging)?);
    }
    let session = |site: &CallSite| compiled.get_index_of(&site.instance).unwrap_or_default();
    let calls = program.calls().into_iter().map(|site| {
        let pieces = Guidance::pieces(&site.instance, site.batch, choices);
        (session(&site), site, pieces)
    });
    let calls = calls.map(|(session, site, pieces)| (site, session, pieces)).collect();
    Ok(CompiledProgram { program, choices: choices.clone(), calls, instances: compiled })
}

/// What a plan says about where it comes from.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The weights in words: `random:4242`, or the folder.
    pub weights: String,
    /// Answers that are not exact.
    pub effects: Vec<EffectEntry>,
    /// The prediction.
    pub predicted: Option<serde_json::Value>,
}

/// Writes a plan: into a temporary folder beside `folder`, renamed when it is whole. A plan there is replaced, anything else is
/// refused.
///
/// # Errors
/// `plan/exists`, `io/unwritable`, and what weights and operators return.
pub fn write(
    compiled: &CompiledProgram<'_>,
    machine: &Machine,
    source: &ParamSource,
    provenance: Provenance,
    bundle: bool,
    folder: &Path,
) -> Result<Manifest> {
    check_output(folder)?;
    let parent = folder_of(folder);
    let unwritable = |e: std::io::Error| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", folder.display()));
    std::fs::create_dir_all(parent).map_err(unwritable)?;
    let temp = tempfile::Builder::new().prefix(".vidc-plan-").tempdir_in(parent).map_err(unwritable)?;
    let whole = temp.path().join("plan");
    std::fs::create_dir(&whole).map_err(unwritable)?;
    let manifest = write_files(compiled, machine, source, provenance, bundle, &whole)?;
    folder::replace(whole, folder).map_err(unwritable)?;
    Ok(manifest)
}

fn write_files(
    compiled: &CompiledProgram<'_>,
    machine: &Machine,
    source: &ParamSource,
    provenance: Provenance,
    bundle: bool,
    folder: &Path,
) -> Result<Manifest> {
    let mut store = Store::create(folder.join(store::DERIVED), store::DERIVED, source, bundle)?;
    let mut sessions = Vec::new();
    for (name, model) in &compiled.instances {
        let mut used = Vec::new();
        let proto = emit(verify(&model.graph)?, &onnx::Style::default(), &mut |expr| {
            let placed = store.place(expr)?;
            if let Placed::External { location, .. } = &placed
                && !used.contains(location)
            {
                used.push(location.clone());
            }
            Ok(placed)
        })?;
        let bytes = onnx::encode(&proto)?;
        let file = format!("{}.onnx", crate::files::word(name));
        crate::files::write_atomic(&folder.join(&file), |w| w.write_all(&bytes))?;
        sessions.push(SessionEntry { name: name.clone(), file, sha256: hex(&Sha256::digest(&bytes)), weights: used });
    }
    let lowered = steps::lower(compiled.program, &compiled.calls, residency(&compiled.choices));
    let pipeline = &compiled.program.pipeline;
    let manifest = Manifest {
        version: manifest::VERSION,
        vidc: env!("CARGO_PKG_VERSION").into(),
        graph: pipeline.name.clone(),
        fingerprint: hex(&pipeline.fingerprint()),
        parameters: pipeline.params.iter().map(|(k, v)| (k.clone(), *v)).collect(),
        hardware: machine.key.clone(),
        engine: machine.engine,
        weights: provenance.weights,
        choices: compiled.choices.clone(),
        effects: provenance.effects,
        predicted: provenance.predicted,
        sessions,
        files: store.finish()?,
        values: lowered.values,
        inputs: lowered.inputs,
        steps: lowered.steps,
        outputs: lowered.outputs,
    };
    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|e| Diagnostic::new("internal/bug", format!("the manifest cannot be written: {e}")))?;
    crate::files::write_atomic(&folder.join(manifest::FILE), |w| w.write_all(text.as_bytes()))?;
    Ok(manifest)
}
