//! Wheels by Python's own installer, which knows the user's index, proxy and certificates.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::words::{by_hand, unwritable};
use crate::diag::{Diagnostic, Result};
use crate::target::{Build, Package};

/// Lets pip fetch the wheel of a build into `folder`; returns its path. `pythons` are names of the interpreter, tried in order.
///
/// # Errors
/// `runtime/no-python`, `runtime/pip-failed`, `io/unwritable`.
pub(super) fn download(pythons: &[String], timeout: Duration, package: &Package, build: &Build, folder: &Path) -> Result<PathBuf> {
    let log = folder.join("pip.log");
    let failed = |what: &str| Err(pip_failed(package, build, what, &log).into());
    for python in pythons {
        let stderr = File::create(&log).map_err(|e| unwritable(&log, &e))?;
        let mut command = pip(python, package, build, folder);
        match run_for(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr), timeout) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return failed(&format!("could not be started: {e}")),
            Ok(None) => return failed(&format!("did not end within {} s", timeout.as_secs())),
            Ok(Some(status)) if !status.success() => return failed(&format!("failed ({status})")),
            Ok(Some(_)) => return wheel_in(folder).ok_or_else(|| pip_failed(package, build, "left no wheel", &log).into()),
        }
    }
    let message = format!("{} has to be fetched and there is no `{}` to do it", package.name, pythons.join("` or `"));
    Err(by_hand(Diagnostic::new("runtime/no-python", message), package, build).into())
}

fn pip(python: &str, package: &Package, build: &Build, folder: &Path) -> Command {
    let mut command = Command::new(python);
    // Always the same Python tag: the libraries in the wheels do not depend on the version of Python.
    command
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar", "off"])
        .args(["--disable-pip-version-check", "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"])
        .args(["--platform", build.platform, "-d"])
        .arg(folder)
        .arg(format!("{}=={}", package.name, package.version));
    command
}

/// Runs to the end or to the timeout; `None` is the timeout.
fn run_for(command: &mut Command, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let end = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path())).find(|p| p.extension().is_some_and(|e| e == "whl"))
}

fn pip_failed(package: &Package, build: &Build, what: &str, log: &Path) -> Diagnostic {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let message = format!("fetching {} {}: pip {what}", package.name, package.version);
    let diagnostic = by_hand(Diagnostic::new("runtime/pip-failed", message), package, build);
    lines[lines.len().saturating_sub(12)..].iter().fold(diagnostic, |d, line| d.note(*line))
}
