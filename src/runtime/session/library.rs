//! The library: loaded once a process, with its one environment, and a cap on the memory of its sessions.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::super::{ffi, provision};
use super::errors::session_error;
use crate::diag::{Diagnostic, Result};
use crate::units::Bytes;

/// The loaded library with its one environment.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) env: Environment,
    path: Arc<Path>,
}

/// What is loaded: the library cannot be taken out of a process again, and it allows one environment.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library; a second call with the same path gives the same runtime.
    ///
    /// # Errors
    /// `runtime/telemetry` if [`ffi::disable_telemetry`] was not called, `runtime/wrong-version`, `runtime/load-failed`.
    pub fn load(library: &Path) -> Result<Self> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return if *runtime.path == *library { Ok(runtime.clone()) } else { Err(second_library(&runtime.path, library).into()) };
        }
        if !ffi::telemetry_is_off() {
            return Err(Diagnostic::new("runtime/telemetry", "ONNX Runtime was to be loaded with its telemetry on")
                .help("set ORT_DISABLE_TELEMETRY=1")
                .into());
        }
        let env = ort::init_from(library).map_err(|e| load_error(library, &e))?;
        let env = env.with_name("vidc").with_telemetry(false).build().map_err(|e| load_failed(library, &e))?;
        env.set_log_level(LogLevel::Warning);
        Ok(loaded.insert(Self { env, path: library.into() }).clone())
    }

    /// The library that is loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the library says about its build.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// Limits the arena of every session made with [`SessionOptions::capped`](super::SessionOptions::capped) while the returned guard lives: they share `limit` bytes,
    /// beyond which a run fails with `runtime/out-of-memory`. One cap at a time. Weights and the tensors of the caller do not count.
    ///
    /// # Errors
    /// `runtime/session` if there is a cap already.
    pub fn cap_memory(&self, limit: Bytes) -> Result<MemoryCap> {
        let limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
        ffi::register_capped_arena(&self.env, limit).map_err(|e| session_error(&e))?;
        Ok(MemoryCap { env: self.env.clone() })
    }
}

fn second_library(loaded: &Path, asked: &Path) -> Diagnostic {
    Diagnostic::new(
        "runtime/load-failed",
        format!("`{}` cannot be loaded: this process has `{}` already", asked.display(), loaded.display()),
    )
}

fn load_error(library: &Path, e: &ort::LoadDynamicError) -> Diagnostic {
    match e {
        ort::LoadDynamicError::BadVersion { version_str, .. } => provision::wrong_version(library, version_str, "loaded"),
        _ => load_failed(library, e),
    }
}

fn load_failed(library: &Path, e: &dyn Display) -> Diagnostic {
    Diagnostic::new("runtime/load-failed", format!("`{}` cannot be loaded: {e}", library.display()))
        .help("`vidc runtime status` shows which library is used and why")
}

/// The cap of [`Runtime::cap_memory`]; dropping it takes the cap away.
#[derive(Debug)]
pub struct MemoryCap {
    env: Environment,
}

impl Drop for MemoryCap {
    fn drop(&mut self) {
        if let Err(e) = ffi::unregister_capped_arena(&self.env) {
            tracing::warn!("the memory cap stays: {e}");
        }
    }
}
