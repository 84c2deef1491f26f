//! Plans: the lowered program as files. [`fn@write`] puts sessions and steps into a directory that runs without the YAML, the tuner or
//! Python; it takes no decision of its own.
//!
//! ```text
//! PLANDIR/manifest.json    what there is and what runs, in order
//! PLANDIR/unet.onnx …      one model per session, without weights
//! PLANDIR/derived.bin      weights that the passes changed; untouched ones stay in the user's files
//! ```

mod emit;
mod folder;
pub mod manifest;
mod providers;
mod steps;
mod store;
mod weights;

use std::path::Path;

pub use emit::{Placed, emit};
pub use folder::check_output;
pub use manifest::{Manifest, Step};
pub use store::{Store, WeightsEntry, hex};

use crate::diag::{Diagnostic, Result};
use crate::files::output::folder_of;
use crate::hwdb::Machine;
use crate::ir::verify;
use crate::onnx;
use crate::passes::Lowered;
use crate::weights::ParamSource;
use manifest::{EffectEntry, SessionEntry};
use sha2::{Digest, Sha256};

/// What a plan says about where it comes from.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The weights in words: `random:4242`, or the folder.
    pub weights: String,
    /// Answers that are not exact.
    pub effects: Vec<EffectEntry>,
    /// The prediction.
    pub predicted: Option<serde_json::Value>,
    /// The index of the device on its machine.
    pub device: u32,
}

/// Writes a plan: into a temporary folder beside `folder`, renamed when it is whole. A plan there is replaced, anything else is
/// refused.
///
/// # Errors
/// `plan/exists`, `io/unwritable`, and what weights and operators return.
pub fn write(
    lowered: &Lowered,
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
    let manifest = write_files(lowered, machine, source, provenance, bundle, &whole)?;
    folder::replace(whole, folder).map_err(unwritable)?;
    Ok(manifest)
}

fn write_files(
    lowered: &Lowered,
    machine: &Machine,
    source: &ParamSource,
    provenance: Provenance,
    bundle: bool,
    folder: &Path,
) -> Result<Manifest> {
    let mut store = Store::create(folder.join(store::DERIVED), store::DERIVED, source, bundle)?;
    let mut sessions = Vec::new();
    for (name, model) in &lowered.sessions {
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
        let weight_bytes = weights::weight_bytes(&proto);
        let bytes = onnx::encode(&proto)?;
        let file = format!("{}.onnx", crate::files::word(name));
        crate::files::write_atomic(&folder.join(&file), |w| w.write_all(&bytes))?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let (providers, elsewhere) =
            (providers::of(&model.graph, machine, provenance.device)?, providers::elsewhere(&model.graph, machine)?);
        sessions.push(SessionEntry { name: name.clone(), file, sha256, weights: used, weight_bytes, providers, elsewhere });
    }
    let names: Vec<&str> = lowered.sessions.keys().map(String::as_str).collect();
    let listing = steps::lower(&lowered.program, &names)?;
    let pipeline = &lowered.program.pipeline;
    let manifest = Manifest {
        version: manifest::VERSION,
        vidc: env!("CARGO_PKG_VERSION").into(),
        graph: pipeline.name.clone(),
        fingerprint: hex(&pipeline.fingerprint()),
        parameters: pipeline.params.iter().map(|(k, v)| (k.clone(), *v)).collect(),
        hardware: machine.key.clone(),
        provider: machine.target.key.into(),
        device: provenance.device,
        weights: provenance.weights,
        choices: lowered.choices.clone(),
        effects: provenance.effects,
        predicted: provenance.predicted,
        sessions,
        files: store.finish()?,
        values: listing.values,
        inputs: listing.inputs,
        steps: listing.steps,
        outputs: listing.outputs,
    };
    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|e| Diagnostic::new("internal/bug", format!("the manifest cannot be written: {e}")))?;
    crate::files::write_atomic(&folder.join(manifest::FILE), |w| w.write_all(text.as_bytes()))?;
    Ok(manifest)
}
