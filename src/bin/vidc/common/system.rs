//! What the machine has free at the moment, and the folders of this user.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etcetera::BaseStrategy;

use super::Failure;
use vidc::diag::Diagnostic;
use vidc::units::Bytes;

/// Memory that a new process can have without pushing others out; none where the system does not say.
pub(crate) fn free_memory() -> Option<Bytes> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok())?;
    let free = kib.saturating_mul(1024);
    Some(Bytes(group_limit().map_or(free, |group| group.min(free))))
}

/// Memory that is free on a device of NVIDIA, by its index; none where the driver's tool is not there or does not know it.
pub(crate) fn free_on_gpu(index: u32) -> Option<Bytes> {
    let asked = ["--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", &index.to_string()];
    let said = Command::new("nvidia-smi").args(asked).output().ok().filter(|o| o.status.success())?;
    let mib: u64 = String::from_utf8(said.stdout).ok()?.trim().parse().ok()?;
    Some(Bytes(mib.saturating_mul(1 << 20)))
}

/// What is left of the limit of this process's control group.
fn group_limit() -> Option<u64> {
    let number = |file: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// Free room in the file system of a folder, as `df` says; none where there is no `df`.
pub(crate) fn free_disk(folder: &Path) -> Option<Bytes> {
    // The standard library does not say it, and asking the system directly needs `unsafe`.
    let there = folder.ancestors().map(|a| if a.as_os_str().is_empty() { Path::new(".") } else { a }).find(|a| a.exists())?;
    let output = Command::new("df").arg("-Pk").arg(there).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    free_of(&String::from_utf8(output.stdout).ok()?)
}

/// The fourth column from the line of `df -Pk`.
fn free_of(text: &str) -> Option<Bytes> {
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

/// The folder that an output goes to.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses what does not fit on a disk, where that is known.
pub(crate) fn check_disk(folder: &Path, needs: Bytes, what: &str) -> Result<(), Failure> {
    match free_disk(folder) {
        Some(free) if free < needs => {
            let message = format!("{what} needs {needs} in `{}`, which has {free} free", folder.display());
            Err(Diagnostic::new("run/not-enough-disk", message).help("free some room, or name a folder on another disk").into())
        }
        _ => Ok(()),
    }
}

/// Where plans of graphs are kept.
pub(crate) fn plans_folder() -> Result<PathBuf, Failure> {
    Ok(cache_folder()?.join("plans"))
}

/// Where vidc keeps what it can make again.
pub(crate) fn cache_folder() -> Result<PathBuf, Failure> {
    let base = etcetera::choose_base_strategy().map_err(|e| {
        Diagnostic::new("io/unwritable", format!("there is no folder to keep plans in: {e}")).help("set HOME or XDG_CACHE_HOME")
    })?;
    Ok(base.cache_dir().join("vidc"))
}
