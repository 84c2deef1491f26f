//! What a plan needs to be run again and again: the manifest, sessions, maps of weights, memory of values.
//!
//! # What is kept between runs
//!
//! The plan says when a session is loaded and when it is freed, and its peak of memory was counted with that. So under
//! [`Keep::AsPlanned`] a session stays between runs only where that cannot raise the peak: where the plan loads it before anything
//! else and never unloads it. Such a session is in memory throughout every run anyway. A plan of `pipeline.residency=all` is made of
//! these alone: its second run loads nothing. A plan of `pipeline.residency=stage` unloads each session when its stay is over, because
//! memory demands it; it loads them in every run, and its runs take turns, as two at once would hold twice what the plan counts.
//! [`Keep::Everything`] is for callers who know that all sessions fit: each is loaded once and stays, whatever the plan says.
//!
//! Kept in either case: the maps of weights files (pages of the page cache, which the system takes back when it wants), and, where no
//! session is unloaded, the memory of values that sessions wrote, at most as much as one run needs.
//!
//! # Threads
//!
//! A `Prepared` is shared by reference or in an `Arc`. Runs of a plan that unloads nothing may overlap: each session has a lock, and
//! a call holds that of its session alone. Runs at once need memory for values and activations once each.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::request::{Event, RunOutcome, stopped};
use super::session::{RunControl, Runtime, Session, SessionOptions, Weights};
use crate::diag::{Diagnostic, Result};
use crate::plan::manifest::{Manifest, SessionEntry, Step};
use crate::plan::{WeightsEntry, hex};
use crate::target::{self, Provider};
use crate::units::Bytes;
use crate::weights::WeightsFile;

/// Which sessions stay loaded between runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Those that the plan holds from its first step to its last: memory stays within what the plan counts.
    #[default]
    AsPlanned,
    /// All of them, once they were loaded: memory is that of all sessions together, the plan's unloads are skipped.
    Everything,
}

/// How a plan is prepared.
#[derive(Clone, Debug, Default)]
pub struct PrepareOptions {
    /// How sessions are made; what the plan says of a session itself (its providers) is the plan's.
    pub session: SessionOptions,
    /// Which sessions stay.
    pub keep: Keep,
    /// The most device memory that a run may need, counted as the plan counts its own: what of it the prediction leaves over, each call
    /// may take beyond its own. Kept to where kernels work in host memory. A call that needs more stops the run.
    pub budget: Option<Bytes>,
}

/// A session that runs share.
#[derive(Default)]
struct Slot {
    session: Mutex<Option<Session>>,
    loaded: AtomicBool,
}

/// A plan that is ready to run, again and again and from several threads. See the module's doc for what it holds.
pub struct Prepared {
    runtime: Runtime,
    folder: PathBuf,
    manifest: Manifest,
    options: SessionOptions,
    /// What each call may take beyond what is predicted for it.
    spare: Option<Bytes>,
    /// What a run may take, if it may not take all.
    budget: Option<Bytes>,
    weights: Weights,
    /// By session: does it stay?
    kept: Vec<bool>,
    /// By session; those that do not stay are the run's own.
    slots: Vec<Slot>,
    /// By step: the values that nothing reads any more after it.
    last_read: Vec<Vec<usize>>,
    buffers: Mutex<Buffers>,
    turn: Turn,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("folder", &self.folder).field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Opens a plan: checks that every file it needs is there and unchanged, and maps nothing and loads nothing yet.
    ///
    /// # Errors
    /// `plan/weights-changed`, `plan/broken` if a session reads weights that the plan does not name, `io/unreadable`, `run/over-budget`.
    pub fn open(runtime: &Runtime, folder: &Path, manifest: Manifest, options: PrepareOptions) -> Result<Self> {
        check_files(folder, &manifest)?;
        let mut weights = Weights::none();
        for file in &manifest.files {
            weights = weights.with(file.location.clone(), Arc::new(WeightsFile::open(&Manifest::weights_path(folder, file))?));
        }
        for session in &manifest.sessions {
            if let Some(missing) = session.weights.iter().find(|w| manifest.files.iter().all(|f| &f.location != *w)) {
                let message = format!("`{}` reads `{missing}`, which the plan does not name", session.name);
                return Err(Diagnostic::new("plan/broken", message).into());
            }
        }
        let kept = kept(&manifest, options.keep);
        let buffers = Buffers::for_sizes(written(&manifest.steps).into_iter().map(|v| manifest.values[v].extents().iter().product()));
        Ok(Self {
            runtime: runtime.clone(),
            folder: folder.into(),
            options: options.session,
            spare: spare(&manifest, options.budget)?,
            budget: options.budget,
            weights,
            slots: kept.iter().map(|_| Slot::default()).collect(),
            kept,
            last_read: last_read(&manifest),
            buffers: Mutex::new(buffers),
            turn: Turn::default(),
            manifest,
        })
    }

    /// What the plan says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Loads every session that stays, ahead of the first run; else each is loaded when the first run comes to it. Returns seconds.
    ///
    /// # Errors
    /// What sessions return.
    pub fn load(&self, events: &mut dyn FnMut(Event)) -> Result<f64> {
        let kept = (0..self.kept.len()).filter(|i| self.kept[*i]);
        kept.map(|i| Ok(self.load_shared(i, events)?.unwrap_or_default().as_secs_f64())).sum()
    }

    /// Does the session of this index stay between runs?
    pub fn keeps(&self, session: usize) -> bool {
        self.kept[session]
    }

    /// Is every session kept, so that a second run loads nothing?
    pub fn keeps_all(&self) -> bool {
        self.kept.iter().all(|k| *k)
    }

    /// Takes the memory of frames back that the caller is done with, for the next run.
    pub fn reuse(&self, outcome: RunOutcome) {
        if self.keeps_all() {
            let mut buffers = locked(&self.buffers);
            outcome.outputs.into_iter().for_each(|(_, frames)| buffers.give(frames));
        }
    }

    /// A session that stays, once its lock is free.
    pub(super) fn shared(&self, session: usize) -> MutexGuard<'_, Option<Session>> {
        locked(&self.slots[session].session)
    }

    pub(super) fn is_loaded(&self, session: usize) -> bool {
        self.slots[session].loaded.load(Ordering::Acquire)
    }

    /// Makes sure that a session that stays is loaded; how long that took, if it was not.
    pub(super) fn load_shared(&self, index: usize, events: &mut dyn FnMut(Event)) -> Result<Option<Duration>> {
        let mut slot = self.shared(index);
        if slot.is_some() {
            return Ok(None);
        }
        let (session, took) = self.load_own(index, events)?;
        *slot = Some(session);
        self.slots[index].loaded.store(true, Ordering::Release);
        Ok(Some(took))
    }

    /// Makes a session; how long that took.
    pub(super) fn load_own(&self, index: usize, events: &mut dyn FnMut(Event)) -> Result<(Session, Duration)> {
        let entry = &self.manifest.sessions[index];
        events(Event::Loading(entry.name.clone()));
        let start = Instant::now();
        let session = self.session(entry, self.on_device(index))?;
        Ok((session, start.elapsed()))
    }

    fn session(&self, entry: &SessionEntry, on_device: Option<Bytes>) -> Result<Session> {
        let path = self.folder.join(&entry.file);
        let model = std::fs::read(&path).map_err(|e| Diagnostic::new("io/unreadable", format!("`{}`: {e}", path.display())))?;
        let options = SessionOptions {
            providers: entry.providers.iter().map(|p| at_hand(p, &self.folder, on_device)).collect::<Result<_>>()?,
            // A node that the plan does not expect there must not end up on the CPU in silence.
            forbid_cpu_nodes: entry.elsewhere.values().all(|key| key != "cpu"),
            ..self.options.clone()
        };
        // Pieces of a region read the same weights: each is packed once. The session keeps what is packed, and takes it along when it goes.
        Session::load(&self.runtime, &model, &self.weights.clone().sharing_packed(&self.runtime), &options)
    }

    /// What a session may take of a device's memory: the budget without what the driver holds and the weights of the others that stay.
    fn on_device(&self, index: usize) -> Option<Bytes> {
        let others = self.manifest.sessions.iter().zip(&self.kept).enumerate().filter(|(i, (_, kept))| *i != index && **kept);
        let held: u64 = others.map(|(_, (entry, _))| entry.weight_bytes).sum();
        let overhead = target::row(&self.manifest.provider).map_or(0, |row| row.figures.overhead.0);
        self.budget.map(|budget| Bytes(budget.0.saturating_sub(overhead).saturating_sub(held)))
    }

    /// The most that a call of a session may take of the pool at once.
    pub(super) fn limit(&self, session: usize) -> Option<Bytes> {
        self.spare.map(|spare| spare + Bytes(self.manifest.sessions[session].transient_bytes))
    }

    /// What runs are stopped and limited by.
    pub(super) fn control(&self) -> Result<RunControl> {
        RunControl::new(&self.runtime, None)
    }

    /// Gives memory back that runs of models left.
    pub(super) fn shrink(&self) {
        self.runtime.pool().shrink();
    }

    pub(super) fn last_read(&self, step: usize) -> &[usize] {
        &self.last_read[step]
    }

    /// The memory that earlier runs left.
    pub(super) fn lend_buffers(&self) -> Buffers {
        locked(&self.buffers).split()
    }

    pub(super) fn return_buffers(&self, buffers: Buffers) {
        if self.keeps_all() {
            locked(&self.buffers).absorb(buffers);
        }
    }

    /// The right to run: at once where everything stays, else when no other run goes on.
    pub(super) fn turn(&self, stop: &AtomicBool) -> Result<TurnGuard<'_>> {
        if self.keeps_all() { Ok(TurnGuard(None)) } else { self.turn.take(stop) }
    }
}

/// What a budget leaves over.
fn spare(manifest: &Manifest, budget: Option<Bytes>) -> Result<Option<Bytes>> {
    let Some(budget) = budget else { return Ok(None) };
    let unknown = || Diagnostic::new("plan/no-prediction", "the plan does not say how much memory it needs").help("compile it again");
    let peak = manifest.predicted_bytes("peak_bytes").ok_or_else(unknown)?;
    if peak > budget {
        let d = Diagnostic::new("run/over-budget", format!("the plan needs {peak} of memory, and {budget} are allowed"));
        return Err(d.help("allow more, or compile for less with `--memory`").into());
    }
    Ok(Some(budget - peak))
}

/// The lock, also where a thread died with it: what it guards is whole between any two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one after the other; a run that waits can be stopped.
#[derive(Default)]
struct Turn {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// How often a run that waits looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);

impl Turn {
    fn take(&self, stop: &AtomicBool) -> Result<TurnGuard<'_>> {
        let mut taken = locked(&self.taken);
        while *taken {
            if stop.load(Ordering::Relaxed) {
                return Err(stopped("before it began", None));
            }
            taken = self.freed.wait_timeout(taken, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Ok(TurnGuard(Some(self)))
    }
}

/// A turn; dropping it lets the next run begin.
pub(super) struct TurnGuard<'a>(Option<&'a Turn>);

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.0 {
            *locked(&turn.taken) = false;
            turn.freed.notify_one();
        }
    }
}

/// By session: does it stay between runs? See the module's doc.
fn kept(manifest: &Manifest, keep: Keep) -> Vec<bool> {
    if keep == Keep::Everything {
        return vec![true; manifest.sessions.len()];
    }
    let mut kept = vec![false; manifest.sessions.len()];
    for step in manifest.steps.iter().take_while(|s| matches!(s, Step::Load { .. })) {
        step.sessions().into_iter().for_each(|s| kept[s] = true);
    }
    unloaded(&manifest.steps, &mut |s| kept[s] = false);
    kept
}

fn unloaded(steps: &[Step], found: &mut dyn FnMut(usize)) {
    for step in steps {
        match step {
            Step::Unload { session } => found(*session),
            Step::Loop { body, .. } => unloaded(body, found),
            Step::Branch { then, otherwise, .. } => [then, otherwise].into_iter().for_each(|arm| unloaded(arm, found)),
            _ => {}
        }
    }
}

/// The values that sessions write.
fn written(steps: &[Step]) -> Vec<usize> {
    let of = |step: &Step| match step {
        Step::Run { .. } | Step::ForChunks { .. } => step.makes(),
        Step::Loop { body, .. } => written(body),
        Step::Branch { then, otherwise, .. } => [written(then), written(otherwise)].concat(),
        _ => Vec::new(),
    };
    steps.iter().flat_map(of).collect()
}

/// By step of the plan: the values that it names and that neither a later step nor an output reads.
fn last_read(manifest: &Manifest) -> Vec<Vec<usize>> {
    let mut read = vec![false; manifest.values.len()];
    manifest.outputs.iter().for_each(|o| read[o.value] = true);
    let mut out: Vec<Vec<usize>> = manifest.steps.iter().rev().map(|step| fresh(step.values(), &mut read)).collect();
    out.reverse();
    out
}

/// Those that were not read yet; they are now.
fn fresh(values: Vec<usize>, read: &mut [bool]) -> Vec<usize> {
    values.into_iter().filter(|v| !std::mem::replace(&mut read[*v], true)).collect()
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

/// A provider with the folders among its options inside the plan's, and with the cap on what it may take of the device.
fn at_hand(provider: &Provider, folder: &Path, on_device: Option<Bytes>) -> Result<Provider> {
    let row = target::row(&provider.provider)?;
    let absolute = |(name, value): (&String, &String)| {
        let inside = row.folders.contains(&name.as_str());
        (name.clone(), if inside { folder.join(value).display().to_string() } else { value.clone() })
    };
    let cap = row.memory_limit.zip(on_device).map(|(name, bytes)| (name.to_owned(), bytes.0.to_string()));
    Ok(Provider { provider: provider.provider.clone(), options: provider.options.iter().map(absolute).chain(cap).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_caps_the_arena_of_cuda_and_folders_are_the_plans() {
        let provider = |key: &str, option: (&str, &str)| Provider {
            provider: key.into(),
            options: [(option.0.to_owned(), option.1.to_owned())].into_iter().collect(),
        };
        let at = |p: &Provider, cap| at_hand(p, Path::new("plan"), cap).unwrap().options.into_iter().collect::<Vec<_>>();
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let cuda = provider("cuda", ("device_id", "1"));
        assert_eq!(at(&cuda, Some(Bytes(4096))), [option("device_id", "1"), option("gpu_mem_limit", "4096")]);
        assert_eq!(at(&cuda, None), [option("device_id", "1")]);
        let engines = provider("tensorrt", ("trt_engine_cache_path", "engines"));
        let inside = Path::new("plan").join("engines").display().to_string();
        assert_eq!(at(&engines, Some(Bytes(4096))), [option("trt_engine_cache_path", &inside)]);
    }
}
