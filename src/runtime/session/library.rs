//! The library: loaded once a process, with its one environment and the memory of its runs.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::super::ffi::Pool;
use super::super::{ffi, provision};
use crate::diag::{Diagnostic, Result};

/// The loaded library with its one environment.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) env: Environment,
    path: Arc<Path>,
    pool: &'static Pool,
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
        let pool = Pool::register(&env).map_err(|e| load_failed(library, &e))?;
        Ok(loaded.insert(Self { env, path: library.into(), pool }).clone())
    }

    /// The library that is loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the library says about its build.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// The memory of runs on the CPU, shared by all sessions made with [`SessionOptions::pool`](super::SessionOptions::pool).
    pub fn pool(&self) -> &'static Pool {
        self.pool
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
