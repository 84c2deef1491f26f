//! The library: loaded once a process, with its one environment and the memory of its runs.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::super::ffi::Pool;
use super::super::provision::Provision;
use super::super::{ffi, provision};
use crate::diag::{Diagnostic, Result};
use crate::target::{Library, Target};

/// The loaded library with its one environment.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) env: Environment,
    path: Arc<Path>,
    pool: &'static Pool,
}

/// Providers whose libraries are in this process, by the keys of their rows. A plug-in is registered once and stays: it must outlive its sessions.
static PROVIDERS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

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

    /// Brings the libraries of a provider into this process, if vidc provides them: what they are linked to, then the plug-in itself.
    ///
    /// # Errors
    /// `runtime/provider-missing`, `runtime/hash-mismatch`.
    pub(super) fn provide(&self, row: &'static Target) -> Result<()> {
        let Some(software) = row.software else { return Ok(()) };
        let mut there = PROVIDERS.lock().unwrap_or_else(PoisonError::into_inner);
        if there.contains(&row.key) {
            return Ok(());
        }
        let files = match (Provision::here(None)?.provider_files(row), software.library) {
            (Ok(files), _) => files,
            // A build of the user's finds what it is linked to by itself.
            (Err(d), Library::Runtime(_)) if d.code == "runtime/provider-missing" => return Ok(()),
            (Err(d), _) => return Err(d),
        };
        for library in &files.load_first {
            ffi::load_for_others(library).map_err(|why| not_loaded(row, &why))?;
        }
        if let Library::Plugin(_) = software.library {
            self.env.register_ep_library(row.key, &files.library).map_err(|e| not_loaded(row, e.message()))?;
        }
        there.push(row.key);
        Ok(())
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

/// The libraries are there and the system cannot load them: most often what the device's driver brings is missing.
fn not_loaded(row: &Target, why: &str) -> Diagnostic {
    let d = Diagnostic::new("runtime/provider-missing", format!("the libraries of {} cannot be loaded", row.name)).note(why.trim());
    let driver = ["libcuda.so", "libnvidia-ml.so"].into_iter().find(|name| why.contains(name));
    d.help(match driver {
        Some(name) => format!("`{name}` comes with the driver of the GPU: install that, or plan for another provider"),
        None => "`vidc doctor` shows what is here".into(),
    })
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
