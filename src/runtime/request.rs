//! What a run is asked for, what it tells while it goes, and what it leaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayD};

use super::progress::SavedLoop;
use crate::diag::{Diagnostic, Result, suggest};
use crate::ir::pipeline::ValueType;
use crate::plan::Manifest;
use crate::units::Bytes;

/// What a run is told from outside.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// Pictures by input name, already fitted: u8 [height, width, 3].
    pub inputs: BTreeMap<String, Array3<u8>>,
    /// Values by name that replace what would be computed; a value assigned in a loop has a leading axis of steps. What an arm of a
    /// branch makes is replaced where that arm runs.
    pub feeds: BTreeMap<String, ArrayD<f32>>,
    /// Names of values to hand back; what was not made, because the other arm of a branch ran, is NaN.
    pub dumps: Vec<String>,
    /// The seed of the noise in place of the plan's own; the run is that of [`Manifest::seeded`].
    pub seed: Option<u64>,
    /// Saved state of a loop to go on from.
    pub resume: Option<SavedLoop>,
    /// Where to save the state of loops after every step.
    pub save: Option<PathBuf>,
}

impl RunRequest {
    /// Checks the request against a plan: every name is known, every input given, every fed array of the value's shape, and the
    /// plan draws noise if a seed is given.
    ///
    /// # Errors
    /// `run/unknown-value`, `run/feed-shape`, `run/unknown-input`, `run/missing-input`, `run/no-seed`.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        feeds_by_index(manifest, &self.feeds)?;
        dumps_by_index(manifest, &self.dumps)?;
        if let Some(seed) = self.seed {
            manifest.check_seed(seed)?;
        }
        check_inputs(manifest, &self.inputs)
    }
}

/// What a run tells while it goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A session is being loaded. One that is kept from before is not told.
    Loading(String),
    /// A model starts to run, outside of any loop.
    Stage(String),
    /// A session is called: its name, the sessions that are loaded meanwhile by name, and the bytes of their weights.
    Call(String, Vec<String>, u64),
    /// A loop has finished a step: its name, steps done, steps in all.
    Step(String, usize, usize),
}

/// Seconds and runs of one session.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Measured {
    /// Seconds to load it, 0 if it was loaded already.
    pub load_s: f64,
    /// Seconds inside of ONNX Runtime's own run call, all runs together.
    pub run_s: f64,
    /// How often it ran.
    pub runs: usize,
    /// The most that one run took of the memory of runs at once: activations and what kernels work in. Counted on the CPU.
    pub activation_bytes: Bytes,
    /// What the session keeps beside its weights: weights in the layout of kernels. Counted on the CPU.
    pub kept_bytes: Bytes,
}

/// What a run leaves.
#[derive(Debug, Default)]
pub struct RunOutcome {
    /// The frames of each output, f32 [batch, frames, 3, height, width].
    pub outputs: Vec<(String, ArrayD<f32>)>,
    /// The values asked for.
    pub dumps: BTreeMap<String, ArrayD<f32>>,
    /// By session name.
    pub measured: BTreeMap<String, Measured>,
    /// Seconds in the primitives between the models.
    pub host_s: f64,
    /// All of it, in seconds. Waiting for another run's turn is not part of it.
    pub total_s: f64,
}

impl RunOutcome {
    /// Seconds of loading, all sessions together.
    pub fn load_s(&self) -> f64 {
        self.measured.values().map(|m| m.load_s).sum()
    }

    /// Seconds inside of ONNX Runtime's own run calls, all sessions together.
    pub fn run_s(&self) -> f64 {
        self.measured.values().map(|m| m.run_s).sum()
    }

    /// What the run took beside loads, models and primitives, in seconds: the executor itself.
    pub fn overhead_s(&self) -> f64 {
        self.total_s - self.load_s() - self.run_s() - self.host_s
    }
}

/// The value that a name means: inside of a loop where there is one.
fn index(manifest: &Manifest, name: &str) -> Result<usize> {
    let named = manifest.values.iter().enumerate().filter(|(_, v)| v.name == name);
    named.max_by_key(|(_, v)| v.loops).map(|(i, _)| i).ok_or_else(|| {
        let d = Diagnostic::new("run/unknown-value", format!("the plan has no value `{name}`"));
        Box::new(d.help(suggest(name, manifest.values.iter().map(|v| v.name.as_str()))))
    })
}

/// What is fed, by the index of its value.
pub(super) fn feeds_by_index<'a>(
    manifest: &Manifest,
    feeds: &'a BTreeMap<String, ArrayD<f32>>,
) -> Result<BTreeMap<usize, &'a ArrayD<f32>>> {
    let mut out = BTreeMap::new();
    for (name, array) in feeds {
        let index = index(manifest, name)?;
        let entry = &manifest.values[index];
        let ValueType::Tensor { .. } = entry.ty else {
            return Err(Box::new(Diagnostic::new("run/feed-shape", format!("`{name}` is a picture; give it with --input"))));
        };
        let dims = entry.extents();
        // In a loop the array has a leading axis of steps.
        let fits = if entry.loops == 0 { array.shape() == dims } else { array.ndim() == dims.len() + 1 && array.shape()[1..] == dims };
        if !fits {
            let leading = if entry.loops == 0 { "" } else { " with a leading axis of steps" };
            return Err(Box::new(Diagnostic::new(
                "run/feed-shape",
                format!("`{name}` is {dims:?}{leading}, the file holds {:?}", array.shape()),
            )));
        }
        out.insert(index, array);
    }
    Ok(out)
}

/// The names of what is to be handed back, by the index of the value.
pub(super) fn dumps_by_index(manifest: &Manifest, names: &[String]) -> Result<BTreeMap<usize, String>> {
    names.iter().map(|n| Ok((index(manifest, n)?, n.clone()))).collect()
}

/// Every input is given, and nothing else.
pub(super) fn check_inputs(manifest: &Manifest, given: &BTreeMap<String, Array3<u8>>) -> Result<()> {
    if let Some(name) = given.keys().find(|n| manifest.inputs.iter().all(|i| &i.name != *n)) {
        let d = Diagnostic::new("run/unknown-input", format!("the plan has no input `{name}`"));
        return Err(Box::new(d.help(suggest(name, manifest.inputs.iter().map(|i| i.name.as_str())))));
    }
    match manifest.inputs.iter().find(|i| !given.contains_key(&i.name)) {
        Some(input) => {
            let d = Diagnostic::new("run/missing-input", format!("the input `{}` is missing", input.name));
            Err(Box::new(d.help(format!("add --input {}=PICTURE", input.name))))
        }
        None => Ok(()),
    }
}

/// The diagnostic that a run was stopped, and how to go on if something was saved.
pub(super) fn stopped(at: &str, saved: Option<&Path>) -> Box<Diagnostic> {
    let d = Diagnostic::new("run/interrupted", format!("stopped {at}"));
    Box::new(match saved.filter(|p| p.exists()) {
        Some(path) => d.help(format!("the finished steps are in `{}`; the same command with --resume goes on from there", path.display())),
        None => d.help("nothing was finished yet that could be kept"),
    })
}
