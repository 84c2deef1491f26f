//! This machine, from what the operating system says: nothing is measured and nothing is run.

use std::fmt::Write as _;
use std::path::Path;

use super::profile::{Figure, Origin, Profile};
use super::read::parse;
use crate::diag::{Diagnostics, Result};
use crate::target::DeviceKind;

/// What the operating system says about the processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Model name.
    pub model: String,
    /// Physical cores this process may use; logical ones where the system does not tell them apart.
    pub cores: usize,
    /// Total memory in bytes, if known.
    pub memory: Option<u64>,
    /// True if AVX2 and FMA are there.
    pub avx2: bool,
    /// True if AVX-512 F is there.
    pub avx512: bool,
}

impl Host {
    /// Asks the operating system.
    pub fn detect() -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let mut host = Self::from_proc(&read("/proc/cpuinfo"), &read("/proc/meminfo"), available);
        if let Ok(limit) = std::fs::read_to_string("/sys/fs/cgroup/memory.max").map_or(Err(()), |t| t.trim().parse::<u64>().map_err(drop)) {
            host.memory = Some(host.memory.map_or(limit, |m| m.min(limit)));
        }
        host
    }

    /// Reads the texts of `/proc/cpuinfo` and `/proc/meminfo`; empty texts (other systems) leave the defaults.
    pub fn from_proc(cpuinfo: &str, meminfo: &str, available: usize) -> Self {
        let field = |name: &str| cpuinfo.lines().find_map(|l| l.split_once(':').filter(|(k, _)| k.trim() == name).map(|(_, v)| v.trim()));
        let flags: Vec<&str> = field("flags").unwrap_or_default().split(' ').collect();
        let memory = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Self {
            model: field("model name").unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: physical_cores(cpuinfo).map_or(available, |n| n.min(available)).max(1),
            memory: memory.map(|kib| kib.saturating_mul(1024)),
            avx2: flags.contains(&"avx2") && flags.contains(&"fma"),
            avx512: flags.contains(&"avx512f"),
        }
    }

    /// The profile whose measurements stand for this processor.
    pub fn nearest(&self) -> &'static str {
        if self.avx512 { "cpu-avx512" } else { "cpu-avx2" }
    }

    /// One sentence for the user, with where times come from where nothing was measured here.
    pub fn words(&self) -> String {
        format!("{}; times from the measurements of `{}`, scaled to the cores", self.hardware(), self.nearest())
    }

    /// Processor and memory in words.
    pub fn hardware(&self) -> String {
        let mut words = format!("{}, {} core{}", self.model, self.cores, if self.cores == 1 { "" } else { "s" });
        let simd = match (self.avx512, self.avx2) {
            (true, _) => "AVX-512",
            (_, true) => "AVX2",
            _ => "neither AVX2 nor AVX-512 seen",
        };
        let _ = write!(words, ", {simd}");
        match self.memory {
            Some(m) => _ = write!(words, ", {}", crate::units::Bytes(m)),
            None => words.push_str(", memory not known (8 GiB assumed)"),
        }
        words
    }
}

/// Distinct (physical id, core id) pairs; none if the system does not say.
fn physical_cores(cpuinfo: &str) -> Option<usize> {
    let mut seen = std::collections::BTreeSet::new();
    let mut package = "";
    for line in cpuinfo.lines() {
        match line.split_once(':').map(|(k, v)| (k.trim(), v.trim())) {
            Some(("physical id", id)) => package = id,
            Some(("core id", id)) => _ = seen.insert((package, id)),
            _ => {}
        }
    }
    Some(seen.len()).filter(|n| *n > 0)
}

/// Share of total memory that a run may plan with: the system and other processes need the rest.
const USABLE: f64 = 0.85;
/// Memory assumed where the system does not say.
const ASSUMED_MEMORY: u64 = 8 << 30;
/// Memory controllers stop scaling with cores: a desktop has two channels, which eight cores saturate.
const MOST_BANDWIDTH: f64 = 4.0;

/// This machine as a profile with the key `cpu`.
///
/// # Errors
/// None for the embedded profiles; those of a broken build.
pub fn detect() -> Result<Profile> {
    profile_of(&Host::detect())
}

/// The profile of a given host: the measurements of the nearest CPU profile, rates scaled by the number of cores.
///
/// # Errors
/// As [`detect`].
pub fn profile_of(host: &Host) -> Result<Profile> {
    let text = super::embedded::text(host.nearest()).expect("both CPU profiles are embedded, held by a test");
    let mut profile = parse(host.nearest(), text).map_err(|Diagnostics(mut found)| Box::new(found.remove(0)))?;
    let spec = &mut profile.spec;
    let scale = host.cores as f64 / spec.cores.as_ref().map_or(1.0, |f| f.value.value);
    let times = |figure: &mut Option<Figure>, by: f64| {
        if let Some(f) = figure {
            f.value.value *= by;
            f.uncertain |= (by - 1.0).abs() > 1e-9;
        }
    };
    for figure in [&mut spec.fp32, &mut spec.int8, &mut spec.cores] {
        times(figure, scale);
    }
    for figure in [&mut spec.memory_bandwidth, &mut spec.l2_bandwidth] {
        times(figure, scale.min(MOST_BANDWIDTH));
    }
    let memory = host.memory.unwrap_or(ASSUMED_MEMORY) as f64;
    if let (Some(total), Some(usable)) = (&mut spec.memory, &mut spec.usable_memory) {
        total.value.value = memory / f64::from(1 << 30);
        usable.value.value = (memory * USABLE).floor();
        usable.uncertain = host.memory.is_none();
        (total.source, usable.source) = ("detected".into(), "detected".into());
    }
    profile.sources.insert("detected".into(), "the operating system of this machine; 0.85 of its memory is planned with".into());
    profile.name = format!("this machine: {}", host.model);
    profile.key = "cpu".into();
    profile.kind = DeviceKind::Cpu;
    profile.origin = Origin::Detected(host.words());
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwdb::Machine;
    use crate::units::Bytes;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu fma avx2 avx512f\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                           processor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor\t: 2\nphysical id\t: 0\ncore id\t\t: 1\n";

    #[test]
    fn siblings_count_once_and_flags_choose_the_measurements() {
        let host = Host::from_proc(CPUINFO, "MemTotal:       16777216 kB\nMemFree: 1 kB\n", 4);
        assert_eq!((host.cores, host.memory, host.nearest()), (2, Some(16 << 30), "cpu-avx512"));
        assert_eq!(host.words(), "Some CPU, 2 cores, AVX-512, 16.00 GiB; times from the measurements of `cpu-avx512`, scaled to the cores");
    }

    #[test]
    fn a_system_that_says_nothing_still_gives_a_machine() {
        let host = Host::from_proc("", "", 3);
        let machine = Machine::new(&profile_of(&host).unwrap());
        assert_eq!((host.cores, machine.units, machine.memory), (3, 3.0, Bytes(((8u64 << 30) as f64 * 0.85) as u64)));
    }

    #[test]
    fn rates_scale_with_cores_and_bandwidth_stops_scaling() {
        let machine = |cores| Machine::new(&profile_of(&Host { cores, avx2: true, ..Host::default() }).unwrap());
        let (two, sixteen) = (machine(2), machine(16));
        let ratio = |f: fn(&Machine) -> f64| f(&sixteen) / f(&two);
        assert!((ratio(|m| m.peaks.rate(super::super::Precision::F32)) - 8.0).abs() < 1e-9);
        assert!((ratio(|m| m.dram) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn this_machine_is_detected() {
        let profile = detect().unwrap();
        assert_eq!(profile.key, "cpu");
        assert!(matches!(profile.origin, Origin::Detected(_)));
        assert!(Machine::new(&profile).memory.0 > 1 << 28);
    }
}
