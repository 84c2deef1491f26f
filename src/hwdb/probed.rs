//! What `vidc hw probe` measured of this machine: the profile `cpu` in the user's folder, and whether it is of this host.

use super::detect::{Host, profile_of};
use super::profile::{Origin, Profile};
use super::{Database, read_file};
use crate::diag::Diagnostics;

/// The first line of a profile that a probe wrote.
pub const PROBED: &str = "# Measured by `vidc hw probe`, which replaces this file.";

/// The key of this machine, and so the name of its profile.
pub const THIS_CPU: &str = "cpu";

/// A host in the words by which a probe's profile is known to be of it.
pub fn probed_words(host: &Host) -> String {
    format!("{}, {} core{}", host.model, host.cores, if host.cores == 1 { "" } else { "s" })
}

/// What there is of a probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// None was made.
    Missing,
    /// One of this machine.
    Fits(Box<Profile>),
    /// One of another machine or another ONNX Runtime; why, as a sentence.
    Stale(String),
}

impl Database {
    /// The probe of a host.
    ///
    /// # Errors
    /// What is wrong with a file that a probe wrote and somebody changed.
    pub fn probe(&self, host: &Host) -> Result<Probe, Diagnostics> {
        let path = self.user.as_ref().map(|folder| folder.join(format!("{THIS_CPU}.yaml")));
        let Some(path) = path.filter(|p| p.exists()) else { return Ok(Probe::Missing) };
        let profile = read_file(&path)?;
        let Some(calibration) = &profile.calibration else { return Ok(Probe::Missing) };
        let (have, want) = (&calibration.machine, probed_words(host));
        let stale = |what: String| Ok(Probe::Stale(format!("`{}` is {what}", path.display())));
        if *have != want {
            return stale(format!("of another machine ({have}; this is {want})"));
        }
        match &self.engine {
            Some(engine) if *engine != calibration.engine_version => {
                stale(format!("of ONNX Runtime {}, and runs use {engine}", calibration.engine_version))
            }
            _ => Ok(Probe::Fits(Box::new(profile))),
        }
    }

    /// The profile of a host: what a probe measured, with the memory that it has now, else the nearest measurements that there are.
    ///
    /// # Errors
    /// As [`Database::probe`].
    pub(super) fn host(&self, host: &Host) -> Result<Profile, Diagnostics> {
        let detected = profile_of(host)?;
        let Probe::Fits(probed) = self.probe(host)? else { return Ok(detected) };
        let mut profile = *probed;
        profile.spec.memory = detected.spec.memory;
        profile.spec.usable_memory = detected.spec.usable_memory;
        profile.sources.extend(detected.sources);
        if let Origin::User(path) = &profile.origin {
            profile.origin = Origin::Detected(format!("{}; times measured by `vidc hw probe` ({path})", host.hardware()));
        }
        Ok(profile)
    }
}

#[cfg(test)]
#[path = "probed_tests.rs"]
mod tests;
