//! Plans: the lowered program as files. [`fn@write`] puts sessions and steps into a directory that runs without the YAML, the tuner or
//! Python; it takes no decision of its own.
//!
//! ```text
//! PLANDIR/manifest.json    what there is and what runs, in order
//! PLANDIR/unet.onnx …      one model per session, without weights
//! PLANDIR/smaller-1.json … plans of the same results that need less memory, with models of their own where these differ
//! PLANDIR/derived.bin      weights that the passes changed; untouched ones stay in the user's files
//! ```

mod emit;
mod folder;
pub mod manifest;
pub mod order;
mod providers;
mod steps;
mod store;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

pub use emit::{Placed, emit};
pub use folder::check_output;
pub use manifest::{Manifest, Step};
pub use store::{Store, WeightsEntry, hex};

use crate::cost::graph::GraphCost;
use crate::diag::{Diagnostic, Result};
use crate::files::output::folder_of;
use crate::hwdb::Machine;
use crate::ir::verify;
use crate::onnx;
use crate::passes::Lowered;
use crate::weights::ParamSource;
use manifest::{EffectEntry, RungEntry, SessionEntry};
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

/// A plan to be written.
pub struct Rung<'a> {
    /// What it runs.
    pub lowered: &'a Lowered,
    /// Where it comes from.
    pub provenance: Provenance,
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
    write_ladder(&[Rung { lowered, provenance }], machine, source, bundle, folder)
}

/// Writes a plan and, behind it, others of the same results that need less memory. What they have in common is there once: weights, and
/// models that came out the same.
///
/// # Errors
/// As [`write()`].
///
/// # Panics
/// Without any plan.
pub fn write_ladder(rungs: &[Rung<'_>], machine: &Machine, source: &ParamSource, bundle: bool, folder: &Path) -> Result<Manifest> {
    check_output(folder)?;
    let parent = folder_of(folder);
    let unwritable = |e: std::io::Error| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", folder.display()));
    std::fs::create_dir_all(parent).map_err(unwritable)?;
    let temp = tempfile::Builder::new().prefix(".vidc-plan-").tempdir_in(parent).map_err(unwritable)?;
    let whole = temp.path().join("plan");
    std::fs::create_dir(&whole).map_err(unwritable)?;
    let manifest = write_files(rungs, machine, source, bundle, &whole)?;
    folder::replace(whole, folder).map_err(unwritable)?;
    Ok(manifest)
}

fn write_files(rungs: &[Rung<'_>], machine: &Machine, source: &ParamSource, bundle: bool, folder: &Path) -> Result<Manifest> {
    let mut models =
        Models { folder, store: Store::create(folder.join(store::DERIVED), store::DERIVED, source, bundle)?, written: BTreeMap::new() };
    let sessions: Vec<Vec<SessionEntry>> =
        rungs.iter().enumerate().map(|(i, rung)| models.sessions(rung, i, machine)).collect::<Result<_>>()?;
    let files = models.store.finish()?;
    let mut manifests = Vec::new();
    for (rung, sessions) in rungs.iter().zip(sessions) {
        manifests.push(manifest_of(rung, machine, sessions, files.clone())?);
    }
    let name = |i: usize| if i == 0 { manifest::FILE.to_owned() } else { format!("smaller-{i}.json") };
    let entry = |(i, m): (usize, &Manifest)| RungEntry {
        manifest: name(i),
        peak_bytes: m.predicted_bytes("peak_bytes").unwrap_or_default().0,
        latency_s: m.predicted.as_ref().and_then(|p| p.get("latency_s")?.as_f64()).unwrap_or(0.0),
    };
    let ladder = manifests.iter().enumerate().skip(1).map(entry).collect();
    manifests[0].ladder = ladder;
    for (i, manifest) in manifests.iter().enumerate() {
        let text = serde_json::to_string_pretty(manifest)
            .map_err(|e| Diagnostic::new("internal/bug", format!("the manifest cannot be written: {e}")))?;
        crate::files::write_atomic(&folder.join(name(i)), |w| w.write_all(text.as_bytes()))?;
    }
    Ok(manifests.swap_remove(0))
}

/// The models of a plan's folder.
struct Models<'a> {
    folder: &'a Path,
    store: Store<'a>,
    /// Files by the hash of what is in them.
    written: BTreeMap<String, String>,
}

impl Models<'_> {
    /// Writes the sessions of a rung.
    fn sessions(&mut self, rung: &Rung<'_>, index: usize, machine: &Machine) -> Result<Vec<SessionEntry>> {
        let mut sessions = Vec::new();
        for (name, model) in &rung.lowered.sessions {
            let mut used = Vec::new();
            let mut proto = emit(verify(&model.graph)?, &onnx::Style::default(), &mut |expr| {
                let placed = self.store.place(expr)?;
                if let Placed::External { location, .. } = &placed
                    && !used.contains(location)
                {
                    used.push(location.clone());
                }
                Ok(placed)
            })?;
            if let Some(written) = proto.graph.as_mut() {
                order::keep(&model.graph, machine, written)?;
            }
            let weight_bytes = weights::weight_bytes(&proto);
            let transient_bytes = GraphCost::of(&model.graph, machine)?.total.transient.0;
            let (file, sha256) = self.write(name, index, &onnx::encode(&proto)?)?;
            let (providers, elsewhere) =
                (providers::of(&model.graph, machine, rung.provenance.device)?, providers::elsewhere(&model.graph, machine)?);
            sessions.push(SessionEntry {
                name: name.clone(),
                file,
                sha256,
                weights: used,
                weight_bytes,
                transient_bytes,
                providers,
                elsewhere,
            });
        }
        Ok(sessions)
    }

    /// Writes a model, unless it is there; its file and its hash.
    fn write(&mut self, session: &str, rung: usize, bytes: &[u8]) -> Result<(String, String)> {
        let sha256 = hex(&Sha256::digest(bytes));
        if let Some(file) = self.written.get(&sha256) {
            return Ok((file.clone(), sha256));
        }
        let word = crate::files::word(session);
        let file = if rung == 0 { format!("{word}.onnx") } else { format!("{word}.smaller-{rung}.onnx") };
        crate::files::write_atomic(&self.folder.join(&file), |w| w.write_all(bytes))?;
        self.written.insert(sha256.clone(), file.clone());
        Ok((file, sha256))
    }
}

fn manifest_of(rung: &Rung<'_>, machine: &Machine, sessions: Vec<SessionEntry>, files: Vec<WeightsEntry>) -> Result<Manifest> {
    let lowered = rung.lowered;
    let names: Vec<&str> = lowered.sessions.keys().map(String::as_str).collect();
    let listing = steps::lower(&lowered.program, &names)?;
    let pipeline = &lowered.program.pipeline;
    let provenance = rung.provenance.clone();
    Ok(Manifest {
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
        files,
        values: listing.values,
        inputs: listing.inputs,
        steps: listing.steps,
        outputs: listing.outputs,
        ladder: Vec::new(),
    })
}
