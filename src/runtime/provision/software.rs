//! The libraries of execution providers: which are here, what is missing, and how to get them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::store::Stored;
use super::{How, LocatedLibrary, Provision};
use crate::diag::{Diagnostic, Result};
use crate::runtime::ffi::c_library_version;
use crate::target::{Library, ROWS, Software, Target};
use crate::units::Bytes;

/// A provider's libraries, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The plug-in, or the build of ONNX Runtime that has the provider.
    pub library: PathBuf,
    /// Libraries to load before it, in this order.
    pub load_first: Vec<PathBuf>,
}

/// Whether a provider can be used on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ProviderState {
    /// It is part of every ONNX Runtime.
    Builtin,
    /// Its libraries are here.
    Ready,
    /// They can be fetched.
    NotInstalled,
    /// They are not as they were published.
    Damaged {
        /// What is wrong.
        why: String,
    },
    /// This machine cannot run it.
    Unfit {
        /// What it lacks.
        why: String,
    },
    /// vidc has no package for it: it comes with an ONNX Runtime of the user's.
    OwnBuild,
    /// vidc cannot start it yet.
    NotYet,
}

/// A provider on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderStatus {
    /// The key of its row.
    pub provider: &'static str,
    /// Whether it can be used.
    #[serde(flatten)]
    pub state: ProviderState,
    /// What has to be fetched, bytes.
    pub download: Option<u64>,
}

impl ProviderStatus {
    /// The way out of what is missing, if there is one.
    pub fn way_out(&self) -> Option<String> {
        let install = format!("`vidc runtime install --provider {}`", self.provider);
        match &self.state {
            ProviderState::NotInstalled => Some(format!("{install} fetches {}", Bytes(self.download.unwrap_or(0)))),
            ProviderState::Damaged { .. } => Some(format!("{install} fetches it again; find out first who changed it")),
            ProviderState::OwnBuild => Some("`--runtime PATH` takes an ONNX Runtime that was built with it".into()),
            ProviderState::Builtin | ProviderState::Ready | ProviderState::Unfit { .. } | ProviderState::NotYet => None,
        }
    }
}

impl Provision {
    /// Every row of `target` on this machine.
    pub(super) fn providers(&self) -> Vec<ProviderStatus> {
        ROWS.into_iter().map(|row| self.provider(row)).collect()
    }

    /// A row on this machine.
    pub fn provider(&self, row: &Target) -> ProviderStatus {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let download = row.software.and_then(|s| s.download(os, arch));
        ProviderStatus { provider: row.key, state: self.state_of(row), download }
    }

    fn state_of(&self, row: &Target) -> ProviderState {
        if row.missing().is_some() {
            return ProviderState::NotYet;
        }
        if let Some(why) = row.fits.absence(std::env::consts::OS, |file| Path::new(file).exists()) {
            return ProviderState::Unfit { why };
        }
        let Some(software) = row.software else {
            return if row.is_builtin() { ProviderState::Builtin } else { ProviderState::OwnBuild };
        };
        if let Some(why) = unfit(software) {
            return ProviderState::Unfit { why };
        }
        let states = software.packages.iter().filter_map(|p| Some(self.store.state(p, p.build_here()?)));
        let mut worst = ProviderState::Ready;
        for state in states {
            match state {
                Stored::Verified => {}
                Stored::Missing => worst = ProviderState::NotInstalled,
                Stored::HashMismatch { file, .. } => {
                    return ProviderState::Damaged { why: format!("`{}` is not the published file", file.display()) };
                }
                Stored::Unreadable { file, why } => return ProviderState::Damaged { why: format!("`{}`: {why}", file.display()) },
            }
        }
        worst
    }

    /// Did the user name an ONNX Runtime that may be a build with this provider?
    pub fn names_a_build_with(&self, row: &Target) -> bool {
        row.software.is_some_and(|s| matches!(s.library, Library::Runtime(_))) && self.named.iter().any(|(_, path)| path.is_some())
    }

    /// The ONNX Runtime that sessions with this provider need: what the user named, else the build that has the provider, else the usual one.
    ///
    /// # Errors
    /// Those of [`Self::locate`] and [`Self::provider_files`].
    pub fn locate_for(&self, row: &Target, notice: &mut dyn FnMut(&str)) -> Result<LocatedLibrary> {
        let build_of_its_own = row.software.is_some_and(|s| matches!(s.library, Library::Runtime(_)));
        if !build_of_its_own || self.names_a_build_with(row) {
            return self.locate(notice);
        }
        let version = row.software.and_then(|s| s.packages.first()).map(|p| p.version.to_owned());
        Ok(LocatedLibrary { path: self.provider_files(row)?.library, how: How::Cache, version })
    }

    /// What would be fetched for a provider.
    ///
    /// # Errors
    /// `runtime/provider-missing` if there is nothing to fetch, or this machine cannot load it.
    pub fn installable(&self, row: &Target) -> Result<&'static Software> {
        let software = software_of(row)?;
        match unfit(software) {
            None => Ok(software),
            Some(why) => Err(Diagnostic::new("runtime/provider-missing", format!("{} cannot be used here: {why}", row.name)).into()),
        }
    }

    /// Fetches everything that a provider needs, or takes it from a wheel or a folder of wheels.
    ///
    /// # Errors
    /// `runtime/provider-missing` if there is nothing to fetch, or this machine cannot use it; those of [`Store::fetch`](super::Store::fetch).
    pub fn install_provider(&self, row: &Target, from: Option<&Path>, notice: &mut dyn FnMut(&str)) -> Result<Files> {
        let software = self.installable(row)?;
        for package in software.packages {
            if let Some(build) = package.build_here() {
                self.store.fetch(package, build, from, true, notice)?;
            }
        }
        self.provider_files(row)
    }

    /// The libraries of a provider, checked.
    ///
    /// # Errors
    /// `runtime/provider-missing` if they are not here, `runtime/hash-mismatch`.
    pub fn provider_files(&self, row: &Target) -> Result<Files> {
        let software = software_of(row)?;
        let mut folders = Vec::new();
        for package in software.packages {
            let build = package.build_here().ok_or_else(|| not_here(row, &self.provider(row)))?;
            folders.push(self.store.ready(package, build)?.ok_or_else(|| not_here(row, &self.provider(row)))?);
        }
        let find = |name: &str| {
            let path = folders.iter().map(|f| f.join(name)).find(|p| p.exists());
            path.ok_or_else(|| not_here(row, &self.provider(row)))
        };
        let load_first = software.load_first.iter().map(|name| find(name)).collect::<std::result::Result<_, Diagnostic>>()?;
        Ok(Files { library: find(software.library.file_name())?, load_first })
    }
}

fn software_of(row: &Target) -> Result<&'static Software> {
    row.software.ok_or_else(|| {
        let d = Diagnostic::new("runtime/provider-missing", format!("vidc fetches nothing for {}", row.name));
        let builtin = "it is part of every ONNX Runtime";
        Box::new(d.help(if row.is_builtin() { builtin } else { "`--runtime PATH` takes an ONNX Runtime that was built with it" }))
    })
}

fn not_here(row: &Target, status: &ProviderStatus) -> Diagnostic {
    let why = if let ProviderState::Unfit { why } = &status.state { why.as_str() } else { "its libraries are not here" };
    let d = Diagnostic::new("runtime/provider-missing", format!("{} cannot be used: {why}", row.name));
    match status.way_out() {
        Some(way) => d.help(way),
        None => d,
    }
}

/// Why the libraries cannot run on this machine: another architecture, or an older C library than they were built for.
fn unfit(software: &Software) -> Option<String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    software.packages.iter().find_map(|package| match package.build(os, arch) {
        None => {
            let known: Vec<String> = package.builds.iter().map(|b| format!("{} on {}", b.os, b.arch)).collect();
            Some(format!("{} is published for {}, and this machine runs {os} on {arch}", package.name, known.join(", ")))
        }
        Some(build) => {
            let (need, has) = (glibc(build.platform)?, c_library_version()?);
            (has < need).then(|| format!("{} needs glibc {}.{}, and this machine has {}.{}", package.name, need.0, need.1, has.0, has.1))
        }
    })
}

/// The oldest glibc of a platform tag: (2, 28) of `manylinux_2_28_x86_64`, (2, 17) of `manylinux2014_x86_64`.
fn glibc(platform: &str) -> Option<(u32, u32)> {
    if platform.starts_with("manylinux2014") {
        return Some((2, 17));
    }
    let mut numbers = platform.strip_prefix("manylinux_")?.split('_');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_tags_say_the_oldest_c_library() {
        assert_eq!(glibc("manylinux_2_28_x86_64"), Some((2, 28)));
        assert_eq!(glibc("manylinux2014_x86_64"), Some((2, 17)));
        assert_eq!(glibc("macosx_14_0_arm64"), None);
    }
}
