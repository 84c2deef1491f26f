//! Loads ONNX Runtime, makes sessions of models, runs them.
//!
//! * One library and one environment a process.
//! * Weights are used where they lie: a session on the CPU reads them from mapped files without a copy (see [`Weights`]).
//! * Inputs are read from, and outputs written to, memory of the caller.
//! * A provider that was asked for and cannot be had is an error; nothing runs elsewhere in silence.

mod control;
mod errors;
mod library;
mod options;
mod port;
mod provider;
mod weights;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ort::value::Outlet;

pub use control::RunControl;
pub use library::Runtime;
pub use options::{OPTIMIZED_WEIGHTS, Optimization, SessionOptions};
pub use port::Port;
pub use weights::Weights;

use super::ffi::CallMemory;
use super::tensor::{Tensor, TensorView, TensorViewMut};
use super::{external, ffi};
use crate::diag::{Diagnostic, Result};
use crate::units::Bytes;
use crate::weights::DType;
use errors::{beyond_limit, commit_error, run_error, session_error};
use port::{bind_inputs, bind_output, copied, find, no_tensor};
use weights::Held;

/// A model that is ready to run.
pub struct Session {
    // Dropped in this order: the session reads what is held.
    inner: ort::session::Session,
    _held: Held,
    control: RunControl,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    runtime: Runtime,
    in_host_memory: bool,
    /// Has it not been run yet?
    fresh: bool,
    kept: Bytes,
    last: CallMemory,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("inputs", &self.inputs).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Session {
    /// Makes a session of an ONNX model (protobuf bytes). Its external weights are looked up in `weights` by location.
    ///
    /// # Errors
    /// `runtime/weights`, `runtime/provider-missing`, `runtime/session`, `runtime/out-of-memory`.
    pub fn load(runtime: &Runtime, model: &[u8], weights: &Weights, options: &SessionOptions) -> Result<Self> {
        let entries = external::entries(model)?;
        let mut builder = options.ready(runtime)?;
        // Kernels of 16-bit norms pack their weights and refuse to share them.
        if let Some(packed) = weights.packed.as_ref().filter(|_| entries.iter().all(|e| e.dtype == DType::F32)) {
            builder = builder.with_prepacked_weights(packed).map_err(|e| session_error(&e))?;
        }
        let mut held = Held::give(&mut builder, weights, &entries, &options.providers)?;
        let (inner, memory) = ffi::counted(|| builder.commit_from_memory(model));
        let inner = inner.map_err(|e| commit_error(&options.providers, &e))?;
        held.settle();
        ffi::trim_heap();
        Self::of(runtime, inner, held, memory, options)
    }

    /// Makes a session the way any program does: ONNX Runtime reads the file and its external weights itself. Weights are copied
    /// unless it can map them. The file must be one that `onnx::check_external_data` accepts.
    ///
    /// # Errors
    /// `runtime/provider-missing`, `runtime/session`, `runtime/out-of-memory`.
    pub fn load_file(runtime: &Runtime, model: &Path, options: &SessionOptions) -> Result<Self> {
        let mut builder = options.ready(runtime)?;
        let (inner, memory) = ffi::counted(|| builder.commit_from_file(model));
        Self::of(runtime, inner.map_err(|e| commit_error(&options.providers, &e))?, Held::default(), memory, options)
    }

    fn of(runtime: &Runtime, inner: ort::session::Session, held: Held, memory: CallMemory, options: &SessionOptions) -> Result<Self> {
        let ports = |outlets: &[Outlet]| outlets.iter().map(Port::of).collect();
        Ok(Self {
            inputs: ports(inner.inputs()),
            outputs: ports(inner.outputs()),
            inner,
            _held: held,
            control: RunControl::new(runtime, None)?,
            runtime: runtime.clone(),
            in_host_memory: provider::in_host_memory(&options.providers),
            fresh: true,
            kept: memory.kept,
            last: CallMemory::default(),
        })
    }

    /// The inputs of the model in its order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs of the model in its order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Do its kernels work in host memory, where the pool counts what they take?
    pub fn in_host_memory(&self) -> bool {
        self.in_host_memory
    }

    /// The runtime that it was made with.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Runs once; returns the named outputs in that order.
    ///
    /// # Errors
    /// `runtime/binding`, `runtime/run`, `runtime/out-of-memory`.
    pub fn run(&mut self, inputs: &[(&str, TensorView<'_>)], outputs: &[&str]) -> Result<Vec<Tensor>> {
        self.run_controlled(inputs, outputs, None)
    }

    /// As [`Self::run`], under `control`.
    ///
    /// # Errors
    /// As [`Self::run`], and `run/interrupted`.
    pub fn run_controlled(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        outputs: &[&str],
        control: Option<&RunControl>,
    ) -> Result<Vec<Tensor>> {
        let mut tensors = outputs.iter().map(|name| Ok(find(&self.outputs, name)?.allocate())).collect::<Result<Vec<_>>>()?;
        let bound = outputs.iter().zip(&mut tensors).map(|(name, t)| (*name, t.as_mut().map(Tensor::view_mut))).collect();
        let (fresh, _) = self.run_values(inputs, bound, control)?;
        tensors
            .into_iter()
            .zip(fresh)
            .zip(outputs)
            .map(|((known, fresh), name)| known.or(fresh).ok_or_else(|| no_tensor(name).into()))
            .collect()
    }

    /// Runs once into tensors of the caller's. Returns how long ONNX Runtime's own call took, without the checks around it.
    ///
    /// # Errors
    /// As [`Self::run_controlled`].
    pub fn run_into(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        outputs: Vec<(&str, TensorViewMut<'_>)>,
        control: Option<&RunControl>,
    ) -> Result<Duration> {
        let bound = outputs.into_iter().map(|(name, t)| (name, Some(t))).collect();
        self.run_values(inputs, bound, control).map(|(_, took)| took)
    }

    fn run_values(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        outputs: Vec<(&str, Option<TensorViewMut<'_>>)>,
        control: Option<&RunControl>,
    ) -> Result<(Vec<Option<Tensor>>, Duration)> {
        let inputs = bind_inputs(&self.inputs, inputs)?;
        let outputs = outputs.into_iter().map(|(name, t)| bind_output(&self.outputs, name, t)).collect::<Result<Vec<_>>>()?;
        let control = control.unwrap_or(&self.control);
        let start = Instant::now();
        let (fresh, memory) = ffi::run(&mut self.inner, &control.options, control.limit(), &inputs, &outputs);
        let took = start.elapsed();
        self.last = memory;
        if std::mem::take(&mut self.fresh) {
            // A first run lets go of much that making the session left.
            ffi::trim_heap();
        }
        if memory.overrun {
            control.go_on();
        }
        let fresh = fresh.map_err(|e| if memory.overrun { beyond_limit(&e) } else { run_error(&e) })?;
        let fresh = fresh.iter().map(|value| value.as_ref().map_or(Ok(None), copied)).collect::<Result<_>>()?;
        Ok((fresh, took))
    }

    /// Ends the profile and returns its file; see [`super::profile::profile_nodes`].
    ///
    /// # Errors
    /// `runtime/profile` if the session writes none.
    pub fn end_profile(&mut self) -> Result<PathBuf> {
        match self.inner.end_profiling() {
            Ok(file) if !file.is_empty() => Ok(file.into()),
            Ok(_) => Err(Diagnostic::new("runtime/profile", "the session was made without a profile").into()),
            Err(e) => Err(Diagnostic::new("runtime/profile", format!("the profile was not written: {e}")).into()),
        }
    }

    /// What making the session kept of the pool: weights in the layout of kernels.
    pub fn kept(&self) -> Bytes {
        self.kept
    }

    /// What the last run took of the pool.
    pub fn last_run(&self) -> CallMemory {
        self.last
    }
}

#[cfg(test)]
pub(crate) mod tests;
