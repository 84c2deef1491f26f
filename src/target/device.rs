//! Which devices a provider is for.

use serde::{Deserialize, Serialize};

/// What executes the operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Host cores; operators and host memory share one memory.
    Cpu,
    /// An accelerator; its units are streaming multiprocessors, compute units or GPU cores, as its maker calls them.
    Gpu,
}

/// What of a device decides who can use it.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// The key of its profile.
    pub key: &'a str,
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// The maker.
    pub vendor: &'a str,
    /// CUDA compute capability as (major, minor).
    pub capability: Option<(u8, u8)>,
    /// Operating systems that it is found in, in Rust's names (`linux`, `macos`, `windows`).
    pub systems: &'a [&'a str],
}

/// The devices of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fits {
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// Makers; none means any.
    pub vendors: &'static [&'static str],
    /// Makers whose devices have a provider of their own.
    pub not_vendors: &'static [&'static str],
    /// CUDA compute capabilities.
    pub capability: Option<Capabilities>,
    /// Operating systems, in Rust's names.
    pub systems: &'static [&'static str],
    /// Of these files one is there where the driver of such a device is; none means that it needs no driver.
    pub driver_files: &'static [&'static str],
}

/// CUDA compute capabilities as (major, minor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// These.
    pub exactly: &'static [(u8, u8)],
    /// This and all later ones.
    pub from: (u8, u8),
}

impl Capabilities {
    /// One and all later ones.
    pub(super) const fn from(least: (u8, u8)) -> Self {
        Self { exactly: &[], from: least }
    }

    fn takes(&self, capability: (u8, u8)) -> bool {
        capability >= self.from || self.exactly.contains(&capability)
    }
}

impl std::fmt::Display for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.exactly.iter().try_for_each(|(a, b)| write!(f, "{a}.{b}, "))?;
        write!(f, "{}.{} or later", self.from.0, self.from.1)
    }
}

/// Operating systems that vidc runs on.
pub(super) const ANY_SYSTEM: &[&str] = &["linux", "macos", "windows"];

impl Fits {
    /// Why the provider is not for a device, if it is not.
    pub fn misfit(&self, device: &Device<'_>) -> Option<String> {
        let kind = |kind| if kind == DeviceKind::Cpu { "CPUs" } else { "GPUs" };
        if self.kind != device.kind {
            return Some(format!("it runs on {}", kind(self.kind)));
        }
        if !self.vendors.is_empty() && !self.vendors.contains(&device.vendor) {
            return Some(format!("it needs a device of {}, and this one is of {}", self.vendors.join(" or "), device.vendor));
        }
        if self.not_vendors.contains(&device.vendor) {
            return Some(format!("devices of {} have a provider of their own", device.vendor));
        }
        if let Some(takes) = self.capability
            && !device.capability.is_some_and(|has| takes.takes(has))
        {
            let has = device.capability.map_or_else(|| "none".into(), |(a, b)| format!("{a}.{b}"));
            return Some(format!("it needs CUDA compute capability {takes}, and this device has {has}"));
        }
        if !self.systems.iter().any(|s| device.systems.contains(s)) {
            return Some(format!("it is for {}, and this device is found in {}", self.systems.join(", "), device.systems.join(", ")));
        }
        None
    }

    /// What this machine lacks to run it, if something: the operating system, or every file that its driver brings.
    pub fn absence(&self, system: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
        if !self.systems.contains(&system) {
            return Some(format!("it is for {}, and this machine runs {system}", self.systems.join(", ")));
        }
        let found = self.driver_files.is_empty() || self.driver_files.iter().any(|f| exists(f));
        (!found).then(|| format!("this machine shows no device of {}", self.vendors.join(" or ")))
    }
}
