//! Finds the ONNX Runtime shared library, or fetches it.
//!
//! Looked up in this order: `--runtime`, `VIDC_ORT`, `ORT_DYLIB_PATH`, vidc's cache, download. What the user names is taken
//! as it is (its version is read, its content is not judged) and a name that leads nowhere is an error, never a reason to look
//! further. What vidc fetches is the library inside the published Python wheel of one version, and it is used only if its
//! sha256 is the pinned one of [`RELEASES`].
//!
//! The cache folder is written by one process at a time (a lock file) and a library appears in it by one rename, so a reader
//! sees a whole library or none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::diag::{Diagnostic, Result};

/// The version that vidc fetches.
pub const VERSION: &str = "1.31.1";

/// The oldest minor version (of 1.x) that is taken: the interface that the bindings are compiled for.
pub const MINIMUM_MINOR: u32 = ort::MINOR_VERSION;

/// How long a download may take.
const TIMEOUT: Duration = Duration::from_mins(5);

/// A published build that vidc knows how to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// `std::env::consts::OS` of the machines that it is for.
    pub os: &'static str,
    /// `std::env::consts::ARCH` of the machines that it is for.
    pub arch: &'static str,
    /// The wheel's platform tag.
    pub platform: &'static str,
    /// The library's path inside the wheel.
    pub member: &'static str,
    /// sha256 of the library, in hexadecimal.
    pub sha256: &'static str,
    /// Size of the library in bytes.
    pub bytes: u64,
}

/// Every build that vidc fetches. Hashes and sizes are those of the libraries in the published cp312 wheels of [`VERSION`];
/// the library does not depend on the Python version of the wheel.
pub const RELEASES: [Release; 3] = [
    Release {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
        bytes: 29_352_200,
    },
    Release {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
        bytes: 25_265_040,
    },
    Release {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        member: "onnxruntime/capi/libonnxruntime.1.31.1.dylib",
        sha256: "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
        bytes: 33_037_336,
    },
];

impl Release {
    fn of_this_machine() -> Option<Self> {
        RELEASES.into_iter().find(|r| r.os == std::env::consts::OS && r.arch == std::env::consts::ARCH)
    }

    fn file_name(&self) -> &'static str {
        self.member.rsplit('/').next().unwrap_or(self.member)
    }

    /// `1.31.1-fc44112f`: another build of the same version gets another folder.
    fn folder(&self) -> String {
        format!("{VERSION}-{}", &self.sha256[..8])
    }
}

/// How a library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The argument `--runtime`.
    Argument,
    /// The environment variable `VIDC_ORT`.
    VidcOrt,
    /// The environment variable `ORT_DYLIB_PATH`.
    OrtDylibPath,
    /// An earlier download.
    Cache,
    /// Downloaded now.
    Download,
}

impl How {
    /// What the user typed, or where it lies.
    pub fn label(self) -> &'static str {
        match self {
            Self::Argument => "--runtime",
            Self::VidcOrt => "VIDC_ORT",
            Self::OrtDylibPath => "ORT_DYLIB_PATH",
            Self::Cache => "cache",
            Self::Download => "download",
        }
    }
}

/// A library that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocatedLibrary {
    /// Absolute path of the shared library.
    pub path: PathBuf,
    /// How it was found.
    pub how: How,
    /// Its version; `None` where a library of the user's does not say it in a form that can be read without loading it.
    pub version: Option<String>,
}

/// What became of one place that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// The argument or variable is not set.
    NotSet,
    /// There is no such file.
    Missing,
    /// A library of the user's own choice.
    Found {
        /// Its version, where it can be read.
        version: Option<String>,
    },
    /// The published build: its hash is the pinned one.
    Verified,
    /// A file with another hash.
    HashMismatch {
        /// sha256 of the file.
        found: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// The system's words.
        why: String,
    },
}

/// One place that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LookedAt {
    /// Which place.
    pub how: How,
    /// The file there, if the place is set.
    pub path: Option<PathBuf>,
    /// What is there.
    #[serde(flatten)]
    pub state: State,
}

/// What `vidc runtime status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeStatus {
    /// Every place in the order of the lookup; the first that is set or found is the one that is used.
    pub candidates: Vec<LookedAt>,
    /// The build that would be fetched here; `None` if vidc knows none for this platform.
    pub release: Option<Release>,
    /// The folder of vidc's own libraries.
    pub cache: PathBuf,
}

/// Everything that the lookup depends on, so that tests can replace it.
#[derive(Clone, Debug)]
pub struct Provision {
    /// The places that the user can name, in lookup order.
    pub named: Vec<(How, Option<PathBuf>)>,
    /// The folder of vidc's own libraries.
    pub cache: PathBuf,
    /// The build of this platform.
    pub release: Option<Release>,
    /// Names of the Python interpreter, tried in order.
    pub pythons: Vec<String>,
    /// How long a download may take.
    pub timeout: Duration,
}

/// Finds the library, fetching it if there is none. `explicit` is the argument of `--runtime`: a library, or the folder that it
/// lies in. `notice` is called with one line before something slow happens.
///
/// # Errors
/// `runtime/missing-library`, `runtime/wrong-version`, `runtime/hash-mismatch`, `runtime/no-python`, `runtime/pip-failed`.
pub fn locate(explicit: Option<&Path>, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
    Provision::here(explicit)?.locate(notice)
}

/// Puts the library into the cache, replacing what is there: from a wheel that the user has, else by download.
///
/// # Errors
/// As [`locate`], and `runtime/bad-wheel`.
pub fn install(from_wheel: Option<&Path>, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
    Provision::here(None)?.install(from_wheel, notice)
}

/// What there is in every place; fetches nothing.
///
/// # Errors
/// `runtime/missing-library` if this user has no cache folder.
pub fn status(explicit: Option<&Path>) -> Result<RuntimeStatus> {
    Ok(Provision::here(explicit)?.status())
}

impl Provision {
    /// The lookup of this process: its environment, its user's cache folder, its platform.
    ///
    /// # Errors
    /// `runtime/missing-library` if this user has no home folder.
    pub fn here(explicit: Option<&Path>) -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let base = etcetera::choose_base_strategy().map_err(|e| {
            Diagnostic::new("runtime/missing-library", format!("there is no folder to keep ONNX Runtime in: {e}"))
                .help("set HOME or XDG_CACHE_HOME")
        })?;
        Ok(Self {
            named: vec![
                (How::Argument, explicit.map(Path::to_path_buf)),
                (How::VidcOrt, variable("VIDC_ORT")),
                (How::OrtDylibPath, variable("ORT_DYLIB_PATH")),
            ],
            cache: base.cache_dir().join("vidc").join("ort"),
            release: Release::of_this_machine(),
            pythons: vec!["python3".into(), "python".into()],
            timeout: TIMEOUT,
        })
    }

    /// See [`locate`].
    ///
    /// # Errors
    /// As [`locate`].
    pub fn locate(&self, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
        if let Some((how, path)) = self.named.iter().find_map(|(how, path)| Some((*how, path.as_ref()?))) {
            return named(how, path);
        }
        let release = self.release()?;
        match self.cached(release)? {
            Some(located) => Ok(located),
            None => self.fetch(release, None, false, notice),
        }
    }

    /// See [`install`].
    ///
    /// # Errors
    /// As [`install`].
    pub fn install(&self, from_wheel: Option<&Path>, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
        self.fetch(self.release()?, from_wheel, true, notice)
    }

    /// See [`status`].
    pub fn status(&self) -> RuntimeStatus {
        let mut candidates: Vec<LookedAt> = self.named.iter().map(|(how, path)| named_candidate(*how, path.as_deref())).collect();
        if let Some(release) = &self.release {
            let path = self.library(release);
            candidates.push(LookedAt { how: How::Cache, state: cache_state(&path, release), path: Some(path) });
        }
        RuntimeStatus { candidates, release: self.release, cache: self.cache.clone() }
    }

    fn release(&self) -> Result<&Release> {
        self.release.as_ref().ok_or_else(|| {
            let message = format!(
                "there is no ONNX Runtime library, and vidc knows no build of it for {} on {}",
                std::env::consts::OS,
                std::env::consts::ARCH
            );
            Diagnostic::new("runtime/missing-library", message)
                .help("name a library of version 1.31 or newer with `--runtime PATH` or VIDC_ORT")
                .into()
        })
    }

    fn library(&self, release: &Release) -> PathBuf {
        self.cache.join(release.folder()).join(release.file_name())
    }

    /// The verified library of the cache; `None` if there is none yet.
    fn cached(&self, release: &Release) -> Result<Option<LocatedLibrary>> {
        let path = self.library(release);
        match cache_state(&path, release) {
            State::Verified => Ok(Some(LocatedLibrary { path, how: How::Cache, version: Some(VERSION.into()) })),
            State::HashMismatch { found } => {
                Err(Diagnostic::new("runtime/hash-mismatch", format!("`{}` is not the published ONNX Runtime {VERSION}", path.display()))
                    .note(format!("expected sha256 {}", release.sha256))
                    .note(format!("found    sha256 {found}"))
                    .help("`vidc runtime install` replaces it; find out first who changed it")
                    .into())
            }
            State::Unreadable { why } => Err(missing(How::Cache, &path, &why).into()),
            State::Missing | State::NotSet | State::Found { .. } => Ok(None),
        }
    }

    /// Fetches under the lock; with `replace` even if the cache is filled.
    fn fetch(&self, release: &Release, wheel: Option<&Path>, replace: bool, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
        fs::create_dir_all(&self.cache).map_err(|e| unwritable(&self.cache, &e))?;
        let _lock = lock(&self.cache, notice)?;
        // Whoever held the lock may have done the work.
        if !replace && let Some(located) = self.cached(release)? {
            return Ok(located);
        }
        let temp = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&self.cache).map_err(|e| unwritable(&self.cache, &e))?;
        let wheel = match wheel {
            Some(wheel) => wheel.to_path_buf(),
            None => self.download(release, temp.path(), notice)?,
        };
        let staged = temp.path().join("library");
        fs::create_dir(&staged).map_err(|e| unwritable(&staged, &e))?;
        unpack(&wheel, release, &staged.join(release.file_name()))?;
        let home = self.cache.join(release.folder());
        publish(&staged, &home, &temp.path().join("replaced")).map_err(|e| unwritable(&home, &e))?;
        Ok(LocatedLibrary { path: self.library(release), how: How::Download, version: Some(VERSION.into()) })
    }

    /// Lets pip fetch the wheel into `folder`; returns its path.
    fn download(&self, release: &Release, folder: &Path, notice: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        notice(&format!(
            "fetching ONNX Runtime {VERSION} (about 24 MB, once) with `{} -m pip download`",
            self.pythons.first().map_or("python3", String::as_str)
        ));
        let log = folder.join("pip.log");
        for python in &self.pythons {
            let stderr = File::create(&log).map_err(|e| unwritable(&log, &e))?;
            match run_for(pip(python, release, folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr), self.timeout) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(pip_failed(release, &format!("could not be started: {e}"), &log).into()),
                Ok(None) => return Err(pip_failed(release, &format!("did not end within {} s", self.timeout.as_secs()), &log).into()),
                Ok(Some(status)) if !status.success() => return Err(pip_failed(release, &format!("failed ({status})"), &log).into()),
                Ok(Some(_)) => return wheel_in(folder).ok_or_else(|| pip_failed(release, "left no wheel", &log).into()),
            }
        }
        Err(by_hand(
            Diagnostic::new(
                "runtime/no-python",
                format!("ONNX Runtime has to be fetched and there is no `{}` to do it", self.pythons.join("` or `")),
            ),
            release,
        )
        .into())
    }
}

fn pip(python: &str, release: &Release, folder: &Path) -> Command {
    let mut command = Command::new(python);
    // Always the same Python tag: the library in the wheel does not depend on the version of Python.
    command
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar", "off"])
        .args(["--disable-pip-version-check", "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"])
        .args(["--platform", release.platform, "-d"])
        .arg(folder)
        .arg(format!("onnxruntime=={VERSION}"));
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

/// Copies the library out of the wheel and checks it against the pinned size and hash.
fn unpack(wheel: &Path, release: &Release, to: &Path) -> Result<()> {
    let bad = |why: String| {
        by_hand(
            Diagnostic::new("runtime/bad-wheel", format!("`{}` is not the wheel of ONNX Runtime {VERSION}: {why}", wheel.display())),
            release,
        )
    };
    let file = File::open(wheel).map_err(|e| bad(e.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| bad(e.to_string()))?;
    let member = archive.by_name(release.member).map_err(|e| bad(format!("{e} ({})", release.member)))?;
    // One byte more than expected is enough to know that it is another file, however large it claims to be.
    let mut bytes = Vec::new();
    member.take(release.bytes + 1).read_to_end(&mut bytes).map_err(|e| bad(e.to_string()))?;
    let found = hex(&Sha256::digest(&bytes));
    if found != release.sha256 {
        return Err(by_hand(
            Diagnostic::new(
                "runtime/hash-mismatch",
                format!("the library inside `{}` is not the published ONNX Runtime {VERSION}", wheel.display()),
            ),
            release,
        )
        .note(format!("expected sha256 {}", release.sha256))
        .note(format!("found    sha256 {found}"))
        .into());
    }
    let write = || -> io::Result<()> {
        let mut out = File::create(to)?;
        out.write_all(&bytes)?;
        out.sync_all()
    };
    write().map_err(|e| unwritable(to, &e).into())
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
        notice("another vidc is fetching ONNX Runtime; waiting for it");
        file.lock().map_err(|e| unwritable(&path, &e))?;
    }
    Ok(file)
}

/// A library that the user named: must exist and be new enough.
fn named(how: How, path: &Path) -> Result<LocatedLibrary> {
    let file = library_at(path).map_err(|e| missing(how, path, &e.to_string()))?;
    let version = version_of(&file).map_err(|e| missing(how, &file, &e.to_string()))?;
    if version.as_deref().and_then(minor).is_some_and(|minor| minor < MINIMUM_MINOR) {
        return Err(wrong_version(&file, version.as_deref().unwrap_or("?"), how.label()).into());
    }
    Ok(LocatedLibrary { path: file, how, version })
}

/// The diagnostic of a library that is too old.
pub(super) fn wrong_version(path: &Path, version: &str, from: &str) -> Diagnostic {
    Diagnostic::new(
        "runtime/wrong-version",
        format!("`{}` ({from}) is ONNX Runtime {version}; vidc needs 1.{MINIMUM_MINOR} or newer", path.display()),
    )
    .help(format!("name a newer library, or drop {from} and let vidc fetch {VERSION}"))
}

/// The library at `path`, absolute: the file itself, or the one in the folder.
fn library_at(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    if !path.metadata()?.is_dir() {
        return Ok(path);
    }
    let mut names: Vec<PathBuf> = fs::read_dir(&path)?.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_library(p)).collect();
    names.sort();
    names.pop().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no libonnxruntime in this folder"))
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Not the helper libraries of the GPU providers (libonnxruntime_providers_*).
    ["libonnxruntime.so", "libonnxruntime.1", "libonnxruntime.dylib", "onnxruntime.dll"].iter().any(|start| name.starts_with(start))
}

fn named_candidate(how: How, path: Option<&Path>) -> LookedAt {
    let Some(path) = path else {
        return LookedAt { how, path: None, state: State::NotSet };
    };
    match library_at(path).and_then(|file| Ok((version_of(&file)?, file))) {
        Ok((version, file)) => LookedAt { how, path: Some(file), state: State::Found { version } },
        Err(e) if e.kind() == io::ErrorKind::NotFound => LookedAt { how, path: Some(path.into()), state: State::Missing },
        Err(e) => LookedAt { how, path: Some(path.into()), state: State::Unreadable { why: e.to_string() } },
    }
}

fn cache_state(path: &Path, release: &Release) -> State {
    match sha256_of(path) {
        Ok(found) if found == release.sha256 => State::Verified,
        Ok(found) => State::HashMismatch { found },
        Err(e) if e.kind() == io::ErrorKind::NotFound => State::Missing,
        Err(e) => State::Unreadable { why: e.to_string() },
    }
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
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

/// The version that a library says without being loaded: the version node of its exported symbol (`VERS_1.31.1`, ELF builds), else
/// the digits of its file name.
fn version_of(library: &Path) -> io::Result<Option<String>> {
    const MARK: &[u8] = b"VERS_";
    let bytes = fs::read(library)?;
    let marks =
        bytes.iter().enumerate().filter(|(i, b)| **b == b'V' && bytes[*i..].starts_with(MARK)).map(|(i, _)| &bytes[i + MARK.len()..]);
    let name = library.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let digits = name.find(|c: char| c.is_ascii_digit()).map(|i| &name.as_bytes()[i..]);
    Ok(marks.chain(digits).find_map(leading_version))
}

/// `1.31.1` at the start of `text`; `None` if there is no such thing.
fn leading_version(text: &[u8]) -> Option<String> {
    let end = text.iter().take(16).position(|b| !b.is_ascii_digit() && *b != b'.').unwrap_or(text.len().min(16));
    let version = std::str::from_utf8(&text[..end]).ok()?.trim_end_matches('.');
    minor(version).map(|_| version.to_owned())
}

/// The 31 of `1.31.1`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

fn missing(how: How, path: &Path, why: &str) -> Diagnostic {
    Diagnostic::new("runtime/missing-library", format!("there is no ONNX Runtime library at `{}` ({}): {why}", path.display(), how.label()))
        .help("name a library of version 1.31 or newer, or unset it and let vidc fetch one")
}

fn unwritable(path: &Path, e: &io::Error) -> Diagnostic {
    Diagnostic::new("io/unwritable", format!("cannot write `{}`: {e}", path.display()))
        .help("set XDG_CACHE_HOME to a folder that can be written, or name a library with `--runtime PATH`")
}

fn pip_failed(release: &Release, what: &str, log: &Path) -> Diagnostic {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let diagnostic = by_hand(Diagnostic::new("runtime/pip-failed", format!("fetching ONNX Runtime {VERSION}: pip {what}")), release);
    lines[lines.len().saturating_sub(12)..].iter().fold(diagnostic, |d, line| d.note(*line))
}

fn by_hand(diagnostic: Diagnostic, release: &Release) -> Diagnostic {
    diagnostic.help(format!(
        "by hand: get the wheel onnxruntime {VERSION} for {} from the Python package index and run `vidc runtime install --from WHEEL`; or name a library with `--runtime PATH` or VIDC_ORT",
        release.platform
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &[u8] = b"not really a library";
    const FAKE: Release = Release {
        os: "any",
        arch: "any",
        platform: "manylinux_2_28_x86_64",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        // printf 'not really a library' | sha256sum
        sha256: "8c94411e7c8b87bd238af6ff286f5e356e89b0b393364163b58e2ca433a40fe5",
        bytes: CONTENT.len() as u64,
    };

    fn provision(cache: &Path) -> Provision {
        Provision {
            named: vec![],
            cache: cache.into(),
            release: Some(FAKE),
            pythons: vec!["vidc-no-such-python".into()],
            timeout: Duration::from_secs(5),
        }
    }

    fn wheel(folder: &Path, member: &str, content: &[u8]) -> PathBuf {
        let path = folder.join("fake.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        zip.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
        path
    }

    fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
        result.unwrap_err().code
    }

    #[test]
    fn a_wheel_is_installed_once_and_found_in_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let p = provision(&dir.path().join("cache"));
        let installed = p.install(Some(&wheel(dir.path(), FAKE.member, CONTENT)), &mut |_| {}).unwrap();
        let found = p.locate(&mut |line| panic!("nothing to say, but: {line}")).unwrap();
        assert_eq!((found.how, found.version.as_deref(), &found.path), (How::Cache, Some(VERSION), &installed.path));
        assert_eq!(fs::read(found.path).unwrap(), CONTENT);
        assert_eq!(p.status().candidates[0].state, State::Verified);
        let left: Vec<_> =
            fs::read_dir(p.cache).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|n| n.starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn another_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let p = provision(&dir.path().join("cache"));
        assert_eq!(code(p.install(Some(&wheel(dir.path(), FAKE.member, b"evil")), &mut |_| {})), "runtime/hash-mismatch");
        assert_eq!(code(p.install(Some(&wheel(dir.path(), "other", CONTENT)), &mut |_| {})), "runtime/bad-wheel");
        let located = p.install(Some(&wheel(dir.path(), FAKE.member, CONTENT)), &mut |_| {}).unwrap();
        fs::write(&located.path, b"changed later").unwrap();
        assert_eq!(code(p.locate(&mut |_| {})), "runtime/hash-mismatch");
        p.install(Some(&wheel(dir.path(), FAKE.member, CONTENT)), &mut |_| {}).unwrap();
        assert_eq!(p.locate(&mut |_| {}).unwrap().how, How::Cache);
    }

    #[test]
    fn without_python_the_way_by_hand_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut said = Vec::new();
        let d = provision(dir.path()).locate(&mut |line| said.push(line.to_owned())).unwrap_err();
        assert_eq!((d.code, said.len()), ("runtime/no-python", 1));
        assert!(d.help.unwrap().contains("vidc runtime install --from"));
    }

    #[cfg(unix)]
    #[test]
    fn what_pip_says_is_passed_on() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("python");
        let check = |body: &str, message: &str| {
            fs::write(&script, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            let p = Provision {
                pythons: vec![script.to_str().unwrap().into()],
                timeout: Duration::from_millis(500),
                ..provision(&dir.path().join("cache"))
            };
            let d = p.locate(&mut |_| {}).unwrap_err();
            assert_eq!(d.code, "runtime/pip-failed");
            assert!(d.message.contains(message), "{}", d.message);
            d.notes
        };
        assert_eq!(check("echo no route to index >&2; exit 3", "failed"), ["no route to index"]);
        check("exit 0", "left no wheel");
        check("exec sleep 60", "did not end");
    }

    #[test]
    fn a_named_library_is_taken_or_refused_but_never_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let check = |file: &str, content: &[u8]| {
            let path = dir.path().join(file);
            fs::write(&path, content).unwrap();
            let p = Provision { named: vec![(How::Argument, None), (How::VidcOrt, Some(path))], ..provision(dir.path()) };
            p.locate(&mut |_| {}).map(|l| (l.how, l.version)).map_err(|d| d.code)
        };
        assert_eq!(check("lib.so", b"..VERS_x..VERS_1.32.0\0.."), Ok((How::VidcOrt, Some("1.32.0".into()))));
        assert_eq!(check("lib.so", b"..VERS_1.30.0\0.."), Err("runtime/wrong-version"));
        assert_eq!(check("libonnxruntime.1.31.4.dylib", b""), Ok((How::VidcOrt, Some("1.31.4".into()))));
        assert_eq!(check("lib.so", b""), Ok((How::VidcOrt, None)));
        let nowhere = Provision { named: vec![(How::Argument, Some(dir.path().join("nowhere")))], ..provision(dir.path()) };
        assert_eq!(code(nowhere.locate(&mut |_| {})), "runtime/missing-library");
        assert_eq!(nowhere.status().candidates[0].state, State::Missing);
    }

    #[test]
    fn a_folder_stands_for_the_library_in_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("libonnxruntime_providers_shared.so"), b"").unwrap();
        fs::write(dir.path().join("libonnxruntime.so.1.31.1"), b"").unwrap();
        let p = Provision { named: vec![(How::Argument, Some(dir.path().into()))], ..provision(dir.path()) };
        assert_eq!(p.locate(&mut |_| {}).unwrap().path, dir.path().join("libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn a_platform_without_a_build_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let p = Provision { release: None, ..provision(dir.path()) };
        assert_eq!(code(p.locate(&mut |_| {})), "runtime/missing-library");
    }

    #[test]
    fn two_processes_at_once_do_the_work_once() {
        let dir = tempfile::tempdir().unwrap();
        let (p, wheel) = (provision(&dir.path().join("cache")), wheel(dir.path(), FAKE.member, CONTENT));
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| p.install(Some(&wheel), &mut |_| {}).unwrap());
            }
        });
        assert_eq!(p.locate(&mut |_| {}).unwrap().how, How::Cache);
    }
}
