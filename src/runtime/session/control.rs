//! Steering a run from outside.

use super::errors::run_error;
use super::{Runtime, provider};
use crate::diag::Result;
use crate::target::Provider;

/// Steers a run from outside: shared by the threads that run and the one that may stop them, and by all sessions of a plan.
pub struct RunControl {
    pub(super) options: ort::session::RunOptions,
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
            Ok(Self { options })
        };
        make().map_err(|e| Box::new(run_error(&e)))
    }

    /// Stops what runs, and all that is run with this control later, with `run/interrupted`. Takes effect between two nodes.
    pub fn cancel(&self) {
        if let Err(e) = self.options.terminate() {
            tracing::warn!("a run could not be stopped: {e}");
        }
    }

    /// Takes [`Self::cancel`] back.
    pub fn reset(&self) {
        if let Err(e) = self.options.unterminate() {
            tracing::warn!("a stopped run could not be allowed again: {e}");
        }
    }
}
