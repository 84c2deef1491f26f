//! Steering a run from outside.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::errors::run_error;
use super::{Runtime, provider};
use crate::diag::Result;
use crate::target::Provider;
use crate::units::Bytes;

/// Steers a run from outside: shared by the threads that run and the one that may stop them, and by all sessions of a plan.
pub struct RunControl {
    pub(super) options: ort::session::RunOptions,
    cancelled: AtomicBool,
    /// Bytes that one call may have in use at once; `u64::MAX` for no limit.
    limit: AtomicU64,
}

impl RunControl {
    /// A run that nothing stops. With `shrink` the arena of those providers gives memory back when a run ends.
    ///
    /// # Errors
    /// `runtime/run` if ONNX Runtime has no memory for it.
    pub fn new(_runtime: &Runtime, shrink: Option<&[Provider]>) -> Result<Self> {
        let make = || -> ort::Result<Self> {
            let mut options = ort::session::RunOptions::new()?;
            if let Some(providers) = shrink {
                options.set("memory.enable_memory_arena_shrinkage", provider::shrink_key(providers))?;
            }
            Ok(Self { options, cancelled: AtomicBool::new(false), limit: AtomicU64::new(u64::MAX) })
        };
        make().map_err(|e| Box::new(run_error(&e)))
    }

    /// Stops what runs, and all that is run with this control later, with `run/interrupted`. Takes effect between two nodes.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        if let Err(e) = self.options.terminate() {
            tracing::warn!("a run could not be stopped: {e}");
        }
    }

    /// Takes [`Self::cancel`] back.
    pub fn reset(&self) {
        self.cancelled.store(false, Ordering::SeqCst);
        self.go_on();
    }

    /// Lets each call take at most this much of the pool at once, or as much as it likes; one that goes beyond stops with
    /// `runtime/out-of-memory`.
    pub fn limit_memory(&self, limit: Option<Bytes>) {
        self.limit.store(limit.map_or(u64::MAX, |b| b.0), Ordering::SeqCst);
    }

    pub(super) fn limit(&self) -> Option<Bytes> {
        Some(self.limit.load(Ordering::SeqCst)).filter(|b| *b < u64::MAX).map(Bytes)
    }

    /// Takes back that a call was stopped for its memory; one that was cancelled stays so.
    pub(super) fn go_on(&self) {
        if self.cancelled.load(Ordering::SeqCst) {
            return;
        }
        if let Err(e) = self.options.unterminate() {
            tracing::warn!("a stopped run could not be allowed again: {e}");
        }
    }
}
