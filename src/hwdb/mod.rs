//! Hardware profiles as data: read, list, nearest name, detect this machine; measures nothing.
//!
//! `hwdb/*.yaml` is embedded in the binary as text and parsed only when asked for, so that starting up costs nothing. A
//! user's own profiles, in the folder `vidc/hwdb` of the configuration folder, come first and may shadow an embedded one.
//! A profile as written is a [`Profile`]; what the cost model uses is the [`Machine`] resolved from it.

pub mod detect;
mod embedded;
mod kernel;
mod machine;
mod params;
mod priors;
mod probed;
mod profile;
mod read;
mod validate;

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

pub use detect::{Host, detect};
pub use kernel::{FEW_CHANNELS, Family};
pub use machine::{Machine, Peaks};
pub use params::{ParamOrigin, Params};
pub use probed::{PROBED, Probe, THIS_CPU, probed_words};
pub use profile::{Calibration, ChipFamily, Figure, FittedParams, Origin, Power, Profile, SCHEMA, Spec};
pub use read::parse;
pub use validate::PCIE_LANE_GB_S;

pub use crate::target::{DeviceKind, Precision};

use crate::diag::{Diagnostic, Diagnostics, Result, suggest};

/// Keys that mean the machine vidc runs on.
pub const THIS_MACHINE: [&str; 2] = ["cpu", "auto"];

/// Where profiles are looked for.
#[derive(Clone, Debug, Default)]
pub struct Database {
    user: Option<PathBuf>,
    /// The version of ONNX Runtime that runs use, where it is known.
    engine: Option<String>,
}

impl Database {
    /// The embedded profiles and those in `user`, a folder that need not exist.
    pub fn new(user: Option<PathBuf>) -> Self {
        Self { user, engine: None }
    }

    /// What was measured with another version of ONNX Runtime than this is not used.
    #[must_use]
    pub fn with_engine(self, version: impl Into<String>) -> Self {
        Self { engine: Some(version.into()), ..self }
    }

    /// The embedded profiles and those of the user's configuration folder.
    pub fn of_this_user() -> Self {
        Self::new(etcetera::choose_base_strategy().ok().map(|dirs| dirs.config_dir().join("vidc").join("hwdb")))
    }

    /// The folder of the user's own profiles.
    pub fn user_folder(&self) -> Option<&Path> {
        self.user.as_deref()
    }

    /// Every key, sorted, without `cpu` and `auto`.
    pub fn keys(&self) -> Vec<String> {
        let embedded = embedded::PROFILES.iter().map(|(key, _)| (*key).to_owned());
        let own = self.user_keys().into_iter().filter(|key| !THIS_MACHINE.contains(&key.as_str()));
        let mut keys: Vec<String> = embedded.chain(own).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn user_keys(&self) -> Vec<String> {
        let files = self.user.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let stem =
            |path: PathBuf| path.extension().is_some_and(|e| e == "yaml").then(|| path.file_stem()?.to_str().map(str::to_owned)).flatten();
        files.filter_map(|file| stem(file.path())).filter(|key| validate::is_key(key)).collect()
    }

    /// Every profile, by key. One that cannot be read is an error of its own, beside those that can.
    pub fn list(&self) -> Vec<std::result::Result<Profile, Diagnostics>> {
        self.keys().iter().map(|key| self.read(key).unwrap_or_else(|| Err(self.unknown(key).into()))).collect()
    }

    /// The profile of `key`: `cpu` and `auto` mean this machine, a name that ends in `.yaml` is a file, anything else a key.
    ///
    /// # Errors
    /// `hwdb/unknown-device` with the nearest key; what is wrong with the profile; a file that cannot be read.
    pub fn load(&self, key: &str) -> std::result::Result<Profile, Diagnostics> {
        if THIS_MACHINE.contains(&key) {
            return self.host(&Host::detect());
        }
        if Path::new(key).extension().is_some_and(|e| e == "yaml") {
            return read_file(Path::new(key));
        }
        self.read(key).unwrap_or_else(|| Err(self.unknown(key).into()))
    }

    fn read(&self, key: &str) -> Option<std::result::Result<Profile, Diagnostics>> {
        let own =
            self.user.as_ref().filter(|_| validate::is_key(key)).map(|folder| folder.join(format!("{key}.yaml"))).filter(|p| p.exists());
        if let Some(path) = own {
            return Some(read_file(&path));
        }
        embedded::text(key).map(|text| parse(&format!("hwdb/{key}.yaml"), text))
    }

    fn unknown(&self, key: &str) -> Diagnostic {
        let keys = self.keys();
        let known = keys.iter().map(String::as_str).chain(THIS_MACHINE);
        let help = match alike(key, &keys)[..] {
            [] => suggest(&key.to_lowercase().replace([' ', '_'], "-"), known),
            [only] => format!("did you mean `{only}`?"),
            ref several => format!("did you mean one of these? {}", several.join(", ")),
        };
        Diagnostic::new("hwdb/unknown-device", format!("there is no hardware profile `{key}`"))
            .help(help)
            .note("`vidc hw list` prints every key; `cpu` means this machine")
    }
}

/// The keys that a wrong one begins or is a part of, or that stand in it (`NVIDIA GeForce RTX 4090`); the best kind of these only.
/// Letters and digits count, nothing else; `m4` does not stand in `Tesla M40`.
fn alike<'k>(wrong: &str, keys: &'k [String]) -> Vec<&'k str> {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let wrong = plain(wrong);
    if wrong.len() < 2 {
        return Vec::new();
    }
    let of = |fits: &dyn Fn(&str) -> bool| keys.iter().map(String::as_str).filter(|k| fits(&plain(k))).collect::<Vec<_>>();
    let begins = of(&|key| key.starts_with(&wrong));
    let within = if begins.is_empty() { of(&|key| key.contains(&wrong)) } else { begins };
    if !within.is_empty() {
        return within;
    }
    // `rtx3090` stands in `rtx3090ti` too; the longest is meant.
    let digit = |c: char| c.is_ascii_digit();
    let cut = |key: &str, at: usize| key.ends_with(digit) && wrong[at + key.len()..].starts_with(digit);
    let inside = of(&|key| wrong.match_indices(key).any(|(at, _)| !cut(key, at)));
    let longest = inside.iter().map(|k| plain(k).len()).max().unwrap_or(0);
    inside.into_iter().filter(|k| plain(k).len() == longest).collect()
}

fn read_file(path: &Path) -> std::result::Result<Profile, Diagnostics> {
    let name = path.display().to_string();
    let refuse = |why: String| {
        Diagnostic::new("io/unreadable", format!("cannot read the hardware profile {name}: {why}")).help("name a file that exists")
    };
    let size = std::fs::metadata(path).map_err(|e| refuse(e.to_string()))?;
    if !size.is_file() || size.len() > profile::MAX_BYTES as u64 {
        return Err(refuse("it is no plain file of at most 1 MiB".into()).into());
    }
    let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
    let mut profile = parse(&name, &text)?;
    profile.origin = Origin::User(name);
    Ok(profile)
}

/// The profile of `key` among the embedded ones and those of this user; see [`Database::load`].
///
/// # Errors
/// As [`Database::load`], the first mistake.
pub fn load(key: &str) -> Result<Profile> {
    Database::of_this_user().load(key).map_err(|Diagnostics(mut found)| Box::new(found.remove(0)))
}

/// The resolved machine of `key`.
///
/// # Errors
/// As [`load`].
pub fn machine(key: &str) -> Result<Machine> {
    load(key).map(|profile| Machine::new(&profile))
}

/// The machine of `KEY` or `KEY/PROVIDER`, as examples and cases name it.
#[cfg(test)]
pub(crate) fn machine_of_case(name: &str) -> Machine {
    let (key, provider) = name.split_once('/').map_or((name, None), |(key, provider)| (key, Some(provider)));
    let profile = load(key).unwrap_or_else(|d| panic!("{name}: {d}"));
    Machine::with_provider(&profile, provider).unwrap_or_else(|d| panic!("{name}: {d}"))
}

#[cfg(test)]
mod tests;
