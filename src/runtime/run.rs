//! One run of a plan: sessions, host steps, loops, branches (`flow`); values in and out by name; stops at step boundaries, goes on
//! where it stopped.
//!
//! A value made in a loop is fed and dumped as one array with a leading axis of steps. One that is made in an arm of a branch is not
//! made where the other arm runs: there its dump is NaN throughout (the whole array outside of loops, that step's part in one), so that
//! the steps keep their places and a dump can be fed again; what is fed there is not looked at.

mod call;
mod dumps;
mod flow;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ndarray::{ArrayD, Axis};

use super::buffers::Buffers;
use super::prepared::{Prepared, TurnGuard};
use super::progress::plan_id;
use super::request;
use super::request::{Event, Measured, RunOutcome, RunRequest, stopped};
use super::session::{RunControl, Session};
use crate::diag::{Diagnostic, Result};
use crate::ir::pipeline::{Prim, Value, eval_prim};
use crate::plan::manifest::{Manifest, Step};
use call::{Call, timed};
use dumps::Dumps;

/// A run of a plan that was prepared. It has values, what is fed and dumped, and its own flag to stop it; the rest is the plan's.
pub struct Run<'a> {
    prepared: &'a Prepared,
    request: &'a RunRequest,
    stop: &'a AtomicBool,
    events: &'a mut dyn FnMut(Event),
    feeds: BTreeMap<usize, &'a ArrayD<f32>>,
    dumps: Dumps,
    /// Shared where one is the other: what a loop carries, what a branch gives.
    values: Vec<Option<Arc<Value>>>,
    /// Loops around the current step.
    loops: usize,
    /// The sessions that do not stay.
    own: Vec<Option<Session>>,
    buffers: Buffers,
    control: RunControl,
    /// By session.
    measured: BTreeMap<usize, Measured>,
    host_s: f64,
    /// What the saved state of loops belongs to.
    identity: String,
}

impl<'a> Run<'a> {
    /// A run that is still to begin. It stops at the next step once `stop` is set; `events` hears of what it does.
    ///
    /// # Errors
    /// Those of [`RunRequest::check`].
    pub fn new(prepared: &'a Prepared, request: &'a RunRequest, stop: &'a AtomicBool, events: &'a mut dyn FnMut(Event)) -> Result<Self> {
        let manifest = prepared.manifest();
        request.check(manifest)?;
        let identity = match request.seed {
            _ if request.save.is_none() => String::new(),
            Some(seed) => plan_id(&manifest.seeded(seed)?),
            None => plan_id(manifest),
        };
        Ok(Self {
            prepared,
            request,
            stop,
            events,
            feeds: request::feeds_by_index(manifest, &request.feeds)?,
            dumps: Dumps::new(manifest, request::dumps_by_index(manifest, &request.dumps)?),
            values: vec![None; manifest.values.len()],
            loops: 0,
            own: manifest.sessions.iter().map(|_| None).collect(),
            buffers: Buffers::default(),
            control: prepared.control()?,
            measured: BTreeMap::new(),
            host_s: 0.0,
            identity,
        })
    }

    /// Runs the plan, when it is this run's turn.
    ///
    /// # Errors
    /// `run/interrupted`, and what sessions return.
    pub fn finish(mut self) -> Result<RunOutcome> {
        let turn: TurnGuard<'_> = self.prepared.turn(self.stop)?;
        let start = Instant::now();
        self.buffers = self.prepared.lend_buffers();
        self.take_inputs();
        let done = self.steps(&self.manifest().steps, 0).and_then(|()| self.outputs());
        (0..self.values.len()).for_each(|v| self.free(v));
        self.prepared.return_buffers(std::mem::take(&mut self.buffers));
        // Sessions of this run's own go before the next run may begin.
        self.own.clear();
        drop(turn);
        let outputs = done?;
        let sessions = &self.prepared.manifest().sessions;
        Ok(RunOutcome {
            outputs,
            dumps: self.dumps.finish()?,
            measured: self.measured.into_iter().map(|(s, m)| (sessions[s].name.clone(), m)).collect(),
            host_s: self.host_s,
            total_s: start.elapsed().as_secs_f64(),
        })
    }

    fn manifest(&self) -> &'a Manifest {
        self.prepared.manifest()
    }

    fn take_inputs(&mut self) {
        for input in &self.manifest().inputs {
            let picture = &self.request.inputs[&input.name];
            self.values[input.value] = Some(Arc::new(Value::Picture(picture.clone())));
        }
    }

    /// The frames; they are handed over, not copied, unless the plan holds them twice.
    fn outputs(&mut self) -> Result<Vec<(String, ArrayD<f32>)>> {
        let manifest = self.manifest();
        let mut outputs = Vec::new();
        for (i, output) in manifest.outputs.iter().enumerate() {
            self.value(output.value)?;
            let again = manifest.outputs[i + 1..].iter().any(|o| o.value == output.value);
            let held = if again { self.values[output.value].clone() } else { self.values[output.value].take() };
            let frames = match held.map(Arc::try_unwrap) {
                Some(Ok(Value::Tensor(frames))) => frames,
                Some(Ok(picture)) => picture.tensor()?.to_owned(),
                Some(Err(shared)) => shared.tensor()?.to_owned(),
                None => return Err(self.unmade(output.value)),
            };
            outputs.push((output.name.clone(), frames));
        }
        Ok(outputs)
    }

    fn value(&self, index: usize) -> Result<&Value> {
        self.values[index].as_deref().ok_or_else(|| self.unmade(index))
    }

    fn unmade(&self, index: usize) -> Box<Diagnostic> {
        bug(&format!("the plan reads `{}` before it is made", self.manifest().values[index].name))
    }

    /// Is a value fed in this step of the loop that it is made in? An array may stop before the loop does.
    fn is_fed(&self, index: usize, step: usize) -> bool {
        self.feeds.get(&index).is_some_and(|fed| self.manifest().values[index].loops == 0 || step < fed.shape()[0])
    }

    /// What was fed for a value, in this step of the loop that it is made in.
    fn fed(&self, index: usize, step: usize) -> Option<ArrayD<f32>> {
        let fed = self.feeds.get(&index).filter(|_| self.is_fed(index, step))?;
        let in_loop = self.manifest().values[index].loops > 0;
        Some(if in_loop { fed.index_axis(Axis(0), step).to_owned() } else { (*fed).clone() })
    }

    /// Puts a value, or what was fed in its stead, and keeps what is to be dumped. `step` is the innermost loop's.
    fn set(&mut self, index: usize, value: Value, step: usize) -> Result<()> {
        self.share(index, Arc::new(value), step)
    }

    /// Like [`Self::set`], of a value that others may hold as well.
    fn share(&mut self, index: usize, value: Arc<Value>, step: usize) -> Result<()> {
        let value = self.fed(index, step).map_or(value, |fed| Arc::new(Value::Tensor(fed)));
        if self.dumps.wants(index) {
            self.dumps.keep(index, &value.tensor()?);
        }
        self.free(index);
        self.values[index] = Some(value);
        Ok(())
    }

    fn steps(&mut self, steps: &[Step], iteration: usize) -> Result<()> {
        let top = std::ptr::eq(steps.as_ptr(), self.manifest().steps.as_ptr());
        for (i, step) in steps.iter().enumerate() {
            if top && self.stop.load(Ordering::Relaxed) {
                return Err(stopped("between stages", self.request.save.as_deref()));
            }
            self.step(step, iteration)?;
            if top {
                self.free_unread(i);
            }
        }
        Ok(())
    }

    /// Frees the values that no later step and no output reads.
    fn free_unread(&mut self, step: usize) {
        for value in self.prepared.last_read(step) {
            self.free(*value);
        }
        if !self.prepared.keeps_all() {
            // Memory is what this plan was short of: nothing is held for later steps.
            self.buffers.clear();
        }
    }

    fn step(&mut self, step: &Step, iteration: usize) -> Result<()> {
        match step {
            Step::Load { session } => self.load(*session),
            Step::Unload { session } => {
                // A session that stays is not the run's to free.
                self.own[*session] = None;
                Ok(())
            }
            Step::Host { prim, inputs, output } => self.host(prim, inputs, *output, iteration),
            Step::Run { session, inputs, outputs } => {
                let inputs = inputs.iter().map(|(p, v)| (p.as_str(), *v, false)).collect();
                self.call(&Call { session: *session, ranges: &[], inputs, outputs }, iteration)
            }
            Step::ForChunks { session, ranges, inputs, outputs } => {
                let inputs = inputs.iter().map(|(p, v, cut)| (p.as_str(), *v, *cut)).collect();
                self.call(&Call { session: *session, ranges, inputs, outputs }, iteration)
            }
            Step::Loop { name, steps, carry, each, body } => self.looped(name, *steps, carry, each, body),
            Step::Branch { value, below, then, otherwise, results, .. } => {
                self.branch((*value, *below), (then, otherwise), results, iteration)
            }
        }
    }

    fn host(&mut self, prim: &Prim, inputs: &[usize], output: usize, iteration: usize) -> Result<()> {
        let seeded = self.seeded(prim);
        let args = inputs.iter().map(|v| self.value(*v)).collect::<Result<Vec<_>>>()?;
        let (value, took) = timed(|| eval_prim(seeded.as_ref().unwrap_or(prim), &args));
        self.host_s += took;
        self.set(output, value?, iteration)
    }

    /// A primitive that draws with the plan's seed, with the run's own.
    fn seeded(&self, prim: &Prim) -> Option<Prim> {
        let to = self.request.seed?;
        match prim {
            Prim::Randn { stream, seed, shape } if Some(*seed) == self.manifest().seed() => {
                Some(Prim::Randn { stream: stream.clone(), seed: to, shape: shape.clone() })
            }
            _ => None,
        }
    }

    fn load(&mut self, session: usize) -> Result<()> {
        let took = if self.prepared.keeps(session) {
            self.prepared.load_shared(session, self.events)?
        } else {
            // What the last calls worked in is the memory that this session is loaded into.
            self.prepared.shrink();
            let (own, took) = self.prepared.load_own(session, self.events)?;
            self.own[session] = Some(own);
            Some(took)
        };
        let kept = self.own[session].as_ref().map(Session::kept).or_else(|| self.prepared.shared(session).as_ref().map(Session::kept));
        let measured = self.measured.entry(session).or_default();
        measured.load_s += took.unwrap_or_default().as_secs_f64();
        measured.kept_bytes = kept.unwrap_or_default();
        Ok(())
    }

    fn is_loaded(&self, session: usize) -> bool {
        self.own[session].is_some() || self.prepared.is_loaded(session)
    }
}

fn bug(what: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::new("internal/bug", what))
}
