//! Executes a plan: sessions, host steps, loops, branches (`flow`); values in and out by name; stops at step boundaries, goes on where
//! it stopped.
//!
//! A value made in a loop is fed and dumped as one array with a leading axis of steps. One that is made in an arm of a branch is not
//! made where the other arm runs: there its dump is NaN throughout (the whole array outside of loops, that step's part in one), so that
//! the steps keep their places and a dump can be fed again; what is fed there is not looked at.

mod flow;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ndarray::{Array3, ArrayD, ArrayViewD, Axis, IxDyn, Slice};

use super::external::weight_bytes;
use super::ffi::MappedFile;
use super::progress::SavedLoop;
use super::session::{Runtime, Session, SessionOptions, Weights};
use super::tensor::TensorView;
use crate::diag::{Diagnostic, Result, suggest};
use crate::interp::{Value, eval_prim};
use crate::ir::pipeline::ValueType;
use crate::plan::manifest::{Manifest, SessionEntry, Step};
use crate::plan::{WeightsEntry, hex};

/// What a run is told from outside.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// Pictures by input name, already fitted.
    pub inputs: BTreeMap<String, Array3<u8>>,
    /// Values by name that replace what would be computed; a value assigned in a loop has a leading axis of steps. What an arm of a
    /// branch makes is replaced where that arm runs.
    pub feeds: BTreeMap<String, ArrayD<f32>>,
    /// Names of values to hand back; what was not made, because the other arm of a branch ran, is NaN.
    pub dumps: Vec<String>,
    /// Saved state of a loop to go on from.
    pub resume: Option<SavedLoop>,
    /// Where to save the state of loops after every step.
    pub save: Option<PathBuf>,
}

/// What a run tells while it goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A session is being loaded.
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
    /// Seconds to load it.
    pub load_s: f64,
    /// Seconds inside of it, all runs together.
    pub run_s: f64,
    /// How often it ran.
    pub runs: usize,
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
    /// All of it, in seconds.
    pub total_s: f64,
}

/// A plan opened for running.
pub struct Executor<'a> {
    folder: PathBuf,
    manifest: Manifest,
    runtime: &'a Runtime,
    options: SessionOptions,
    stop: Arc<AtomicBool>,
}

impl<'a> Executor<'a> {
    /// Opens a plan and checks that every file it needs is there and unchanged.
    ///
    /// # Errors
    /// `plan/…` if it is no plan of this version, or files are missing or changed.
    pub fn open(folder: &Path, runtime: &'a Runtime, options: SessionOptions, stop: Arc<AtomicBool>) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        check_files(folder, &manifest)?;
        Ok(Self { folder: folder.into(), manifest, runtime, options, stop })
    }

    /// What the plan says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Runs the plan.
    ///
    /// # Errors
    /// `run/…` for wrong inputs and feeds, `run/interrupted`, and what sessions return.
    pub fn run(&self, request: &RunRequest, events: &mut dyn FnMut(Event)) -> Result<RunOutcome> {
        let start = Instant::now();
        let mut state = State {
            plan: self,
            request,
            feeds: by_index(&self.manifest, &request.feeds)?,
            dumps: dump_indices(&self.manifest, &request.dumps)?,
            values: vec![None; self.manifest.values.len()],
            loops: 0,
            sessions: self.manifest.sessions.iter().map(|_| None).collect(),
            weight_bytes: vec![0; self.manifest.sessions.len()],
            out: RunOutcome::default(),
            events,
        };
        state.take_inputs()?;
        state.steps(&self.manifest.steps, 0)?;
        let mut out = std::mem::take(&mut state.out);
        for output in &self.manifest.outputs {
            let frames = state.value(output.value)?.tensor()?.to_owned();
            out.outputs.push((output.name.clone(), frames));
        }
        out.total_s = start.elapsed().as_secs_f64();
        Ok(out)
    }
}

impl RunRequest {
    /// Checks the request against a plan: every name is known, every input given, every fed array of the value's shape.
    ///
    /// # Errors
    /// `run/unknown-value`, `run/feed-shape`, `run/unknown-input`, `run/missing-input`.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        by_index(manifest, &self.feeds)?;
        dump_indices(manifest, &self.dumps)?;
        check_inputs(manifest, &self.inputs)
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

fn by_index(manifest: &Manifest, feeds: &BTreeMap<String, ArrayD<f32>>) -> Result<BTreeMap<usize, ArrayD<f32>>> {
    let mut out = BTreeMap::new();
    for (name, array) in feeds {
        let index = index(manifest, name)?;
        let entry = &manifest.values[index];
        let ValueType::Tensor { .. } = entry.ty else {
            return Err(Box::new(Diagnostic::new("run/feed-shape", format!("`{name}` is a picture; give it with --input"))));
        };
        let dims: Vec<usize> = entry.ty.dims().iter().map(|d| *d as usize).collect();
        // In a loop the array has a leading axis of steps.
        let fits = if entry.loops == 0 { array.shape() == dims } else { array.ndim() == dims.len() + 1 && array.shape()[1..] == dims };
        if !fits {
            let leading = if entry.loops == 0 { "" } else { " with a leading axis of steps" };
            return Err(Box::new(Diagnostic::new(
                "run/feed-shape",
                format!("`{name}` is {dims:?}{leading}, the file holds {:?}", array.shape()),
            )));
        }
        out.insert(index, array.clone());
    }
    Ok(out)
}

fn dump_indices(manifest: &Manifest, names: &[String]) -> Result<BTreeMap<usize, String>> {
    names.iter().map(|n| Ok((index(manifest, n)?, n.clone()))).collect()
}

/// Checks every file of weights that the plan needs: it is there, with the size and the header that the plan was made with.
///
/// # Errors
/// `plan/weights-changed`.
pub fn check_files(folder: &Path, manifest: &Manifest) -> Result<()> {
    for entry in &manifest.files {
        let path = Manifest::weights_path(folder, entry);
        let changed = |what: String| {
            let d = Diagnostic::new("plan/weights-changed", format!("the plan's weights `{}` {what}", path.display()));
            Box::new(d.help("put the file back, or compile the graph again"))
        };
        let len = std::fs::metadata(&path).map_err(|e| changed(format!("cannot be read: {e}")))?.len();
        if len != entry.bytes {
            return Err(changed(format!("have {len} bytes, not {}", entry.bytes)));
        }
        if !is_derived(entry) && header_of(&path, entry)? != entry.sha256 {
            return Err(changed("have another header".into()));
        }
    }
    Ok(())
}

/// The plan's own file is as large as gigabytes and nobody else writes to it: its size is checked, not its hash.
fn is_derived(entry: &WeightsEntry) -> bool {
    !entry.path.is_absolute()
}

fn header_of(path: &Path, entry: &WeightsEntry) -> Result<Option<String>> {
    if entry.sha256.is_none() {
        return Ok(None);
    }
    let stored = crate::weights::open_file(path)?;
    Ok(stored.files().first().and_then(|f| f.header_sha256()).map(|h| hex(&h)))
}

fn check_inputs(manifest: &Manifest, given: &BTreeMap<String, Array3<u8>>) -> Result<()> {
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

/// One run in progress.
struct State<'a, 'b> {
    plan: &'a Executor<'a>,
    request: &'a RunRequest,
    feeds: BTreeMap<usize, ArrayD<f32>>,
    dumps: BTreeMap<usize, String>,
    /// Shared where one is the other: what a loop carries, what a branch gives.
    values: Vec<Option<Arc<Value>>>,
    /// Loops around the current step.
    loops: usize,
    sessions: Vec<Option<Session>>,
    /// Of each session that was loaded.
    weight_bytes: Vec<u64>,
    out: RunOutcome,
    events: &'b mut dyn FnMut(Event),
}

impl State<'_, '_> {
    fn take_inputs(&mut self) -> Result<()> {
        let manifest = &self.plan.manifest;
        check_inputs(manifest, &self.request.inputs)?;
        for input in &manifest.inputs {
            let picture = &self.request.inputs[&input.name];
            self.values[input.value] = Some(Arc::new(Value::Picture(picture.clone())));
        }
        Ok(())
    }

    fn value(&self, index: usize) -> Result<&Value> {
        self.values[index].as_deref().ok_or_else(|| self.unmade(index))
    }

    fn unmade(&self, index: usize) -> Box<Diagnostic> {
        let name = &self.plan.manifest.values[index].name;
        Box::new(Diagnostic::new("internal/bug", format!("the plan reads `{name}` before it is made")))
    }

    /// What was fed for a value, in this step of the loop it is made in; an array may stop before the loop does.
    fn fed(&self, index: usize, step: usize) -> Option<ArrayD<f32>> {
        let fed = self.feeds.get(&index)?;
        match self.plan.manifest.values[index].loops {
            0 => Some(fed.clone()),
            _ => (step < fed.shape()[0]).then(|| fed.index_axis(Axis(0), step).to_owned()),
        }
    }

    /// Puts a value, or what was fed in its stead, and keeps what is to be dumped. `step` is the innermost loop's.
    fn set(&mut self, index: usize, value: Value, step: usize) -> Result<()> {
        self.share(index, Arc::new(value), step)
    }

    /// Like [`Self::set`], of a value that others may hold as well.
    fn share(&mut self, index: usize, value: Arc<Value>, step: usize) -> Result<()> {
        let in_loop = self.plan.manifest.values[index].loops > 0;
        let value = self.fed(index, step).map_or(value, |fed| Arc::new(Value::Tensor(fed)));
        if let Some(name) = self.dumps.get(&index) {
            let tensor = value.tensor()?;
            let tensor = if in_loop { tensor.insert_axis(Axis(0)) } else { tensor };
            append(&mut self.out.dumps, name, &tensor)?;
        }
        self.values[index] = Some(value);
        Ok(())
    }

    fn steps(&mut self, steps: &[Step], iteration: usize) -> Result<()> {
        let top = std::ptr::eq(steps.as_ptr(), self.plan.manifest.steps.as_ptr());
        for (i, step) in steps.iter().enumerate() {
            self.check_stop(top)?;
            self.step(step, iteration)?;
            if top {
                self.free_unread(&steps[i + 1..], step);
            }
        }
        Ok(())
    }

    fn check_stop(&self, top: bool) -> Result<()> {
        if top && self.plan.stop.load(Ordering::Relaxed) {
            return Err(interrupted("between stages", self.request.save.as_deref()));
        }
        Ok(())
    }

    /// Frees the values that no later step and no output reads.
    fn free_unread(&mut self, rest: &[Step], done: &Step) {
        let kept: std::collections::BTreeSet<usize> =
            rest.iter().flat_map(Step::values).chain(self.plan.manifest.outputs.iter().map(|o| o.value)).collect();
        for value in done.values().into_iter().filter(|v| !kept.contains(v)) {
            self.values[value] = None;
        }
    }

    fn step(&mut self, step: &Step, iteration: usize) -> Result<()> {
        match step {
            Step::Load { session } => self.load(*session),
            Step::Unload { session } => {
                self.sessions[*session] = None;
                Ok(())
            }
            Step::Host { prim, inputs, output } => {
                let args: Result<Vec<&Value>> = inputs.iter().map(|v| self.value(*v)).collect();
                let value = eval_prim(prim, &args?)?;
                self.set(*output, value, iteration)
            }
            Step::Run { session, inputs, outputs } => {
                let inputs: Vec<(String, usize, bool)> = inputs.iter().map(|(p, v)| (p.clone(), *v, false)).collect();
                self.call(*session, &[None], &inputs, outputs, iteration)
            }
            Step::ForChunks { session, ranges, inputs, outputs } => {
                let ranges: Vec<_> = ranges.iter().map(|r| Some(*r)).collect();
                self.call(*session, &ranges, inputs, outputs, iteration)
            }
            Step::Loop { name, steps, carry, each, body } => self.looped(name, *steps, carry, each, body),
            Step::Branch { value, below, then, otherwise, results, .. } => {
                self.branch((*value, *below), (then, otherwise), results, iteration)
            }
        }
    }

    fn load(&mut self, index: usize) -> Result<()> {
        let entry = &self.plan.manifest.sessions[index];
        (self.events)(Event::Loading(entry.name.clone()));
        let start = Instant::now();
        let (session, bytes) = self.plan.session(entry)?;
        self.sessions[index] = Some(session);
        self.weight_bytes[index] = bytes;
        self.out.measured.entry(entry.name.clone()).or_default().load_s += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Runs a session over the ranges and sets the outputs, joined along the first axis.
    fn call(
        &mut self,
        session: usize,
        ranges: &[Option<(usize, usize)>],
        inputs: &[(String, usize, bool)],
        outputs: &[(String, usize)],
        iteration: usize,
    ) -> Result<()> {
        // What is fed need not be computed.
        if !outputs.is_empty() && outputs.iter().all(|(_, v)| self.fed(*v, iteration).is_some()) {
            return outputs.iter().try_for_each(|(_, v)| self.set(*v, Value::Tensor(ArrayD::zeros(IxDyn(&[0]))), iteration));
        }
        let name = self.plan.manifest.sessions[session].name.clone();
        if outputs.iter().all(|(_, v)| self.plan.manifest.values[*v].loops == 0) {
            (self.events)(Event::Stage(name.clone()));
        }
        self.tell_call(&name);
        let start = Instant::now();
        let mut pieces: Vec<Vec<ArrayD<f32>>> = vec![Vec::new(); outputs.len()];
        for range in ranges {
            for (slot, piece) in self.run_piece(session, *range, inputs, outputs)?.into_iter().enumerate() {
                pieces[slot].push(piece);
            }
        }
        self.note_run(&name, start.elapsed(), ranges.len());
        for ((_, value), parts) in outputs.iter().zip(pieces) {
            self.set(*value, Value::Tensor(joined(parts)?), iteration)?;
        }
        Ok(())
    }

    fn tell_call(&mut self, name: &str) {
        let loaded = || self.sessions.iter().enumerate().filter(|(_, s)| s.is_some()).map(|(i, _)| i);
        let names = loaded().map(|i| self.plan.manifest.sessions[i].name.clone()).collect();
        let bytes = loaded().map(|i| self.weight_bytes[i]).sum();
        (self.events)(Event::Call(name.into(), names, bytes));
    }

    fn note_run(&mut self, name: &str, elapsed: Duration, runs: usize) {
        let m = self.out.measured.entry(name.into()).or_default();
        m.run_s += elapsed.as_secs_f64();
        m.runs += runs;
    }

    fn run_piece(
        &mut self,
        session: usize,
        range: Option<(usize, usize)>,
        inputs: &[(String, usize, bool)],
        outputs: &[(String, usize)],
    ) -> Result<Vec<ArrayD<f32>>> {
        let mut loaded =
            self.sessions[session].take().ok_or_else(|| Diagnostic::new("internal/bug", "a session runs that is not loaded"))?;
        let arrays: Result<Vec<ArrayD<f32>>> =
            inputs.iter().map(|(_, v, cut)| Ok(piece(&self.value(*v)?.tensor()?, range.filter(|_| *cut)))).collect();
        let arrays = arrays?;
        let views: Vec<(&str, TensorView<'_>)> = inputs
            .iter()
            .zip(&arrays)
            .map(|((port, _, _), a)| (port.as_str(), TensorView::of(a.shape(), a.as_slice().expect("pieces are contiguous"))))
            .collect();
        let names: Vec<&str> = outputs.iter().map(|(port, _)| port.as_str()).collect();
        let result = loaded.run(&views, &names);
        self.sessions[session] = Some(loaded);
        result?
            .iter()
            .map(|t| {
                let values =
                    t.as_slice::<f32>().ok_or_else(|| Diagnostic::new("internal/bug", "a session yields something else than f32"))?;
                Ok(ArrayD::from_shape_vec(IxDyn(t.shape()), values.to_vec()).expect("a tensor has as many elements as its shape says"))
            })
            .collect()
    }
}

impl Executor<'_> {
    /// Makes a session, with the bytes of its weights.
    fn session(&self, entry: &SessionEntry) -> Result<(Session, u64)> {
        let path = self.folder.join(&entry.file);
        let model = std::fs::read(&path).map_err(|e| Diagnostic::new("io/unreadable", format!("`{}`: {e}", path.display())))?;
        let mut weights = Weights::none();
        for location in &entry.weights {
            let file = self.manifest.files.iter().find(|f| &f.location == location);
            let file = file.ok_or_else(|| {
                Diagnostic::new("plan/broken", format!("`{}` reads `{location}`, which the plan does not name", entry.name))
            })?;
            weights = weights.with(location.clone(), Arc::new(MappedFile::open(&Manifest::weights_path(&self.folder, file))?));
        }
        let options = SessionOptions { tf32: entry.tf32, ..self.options.clone() };
        Ok((Session::load(self.runtime, &model, &weights, &options)?, weight_bytes(&model)?))
    }
}

fn interrupted(at: &str, saved: Option<&Path>) -> Box<Diagnostic> {
    let d = Diagnostic::new("run/interrupted", format!("stopped {at}"));
    Box::new(match saved.filter(|p| p.exists()) {
        Some(path) => d.help(format!("the finished steps are in `{}`; the same command with --resume goes on from there", path.display())),
        None => d.help("nothing was finished yet that could be kept"),
    })
}

fn piece(x: &ArrayViewD<'_, f32>, range: Option<(usize, usize)>) -> ArrayD<f32> {
    let cut = match range {
        Some((start, end)) => x.slice_axis(Axis(0), Slice::from(start..end)),
        None => x.view(),
    };
    cut.as_standard_layout().into_owned()
}

fn joined(mut parts: Vec<ArrayD<f32>>) -> Result<ArrayD<f32>> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let views: Vec<ArrayViewD<'_, f32>> = parts.iter().map(|p| p.view()).collect();
    ndarray::concatenate(Axis(0), &views).map_err(|e| Box::new(Diagnostic::new("internal/bug", format!("pieces do not join: {e}"))))
}

fn append(dumps: &mut BTreeMap<String, ArrayD<f32>>, name: &str, tensor: &ArrayViewD<'_, f32>) -> Result<()> {
    let whole = match dumps.remove(name) {
        Some(before) => joined(vec![before, tensor.to_owned()])?,
        None => tensor.to_owned(),
    };
    dumps.insert(name.into(), whole);
    Ok(())
}
