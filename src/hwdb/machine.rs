//! The resolved device: plain numbers in SI units, one place for every default, and for each figure that was not measured
//! the prior of its family.
//!
//! The formulas that use these numbers are in `cost::latency`; this module only says what they are.

use super::kernel::Family;
use super::params::{ParamOrigin, Params};
use super::priors;
use super::profile::{Calibration, ChipFamily, Figure, Profile};
use crate::diag::Result;
use crate::target::{DeviceKind, Precision, Target, row_for};
use crate::units::Bytes;

/// Dense rates in FLOP/s; `None` where the hardware has no such unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peaks(pub [Option<f64>; 7]);

impl Peaks {
    /// True if there are units for `p`.
    pub fn supports(&self, p: Precision) -> bool {
        self.0[p as usize].is_some()
    }

    /// The rate at which work of precision `p` runs, FLOP/s. What has no units of its own runs as the next that has:
    /// fp8 and bf16 as fp16, fp16 and int8 as fp32.
    pub fn rate(&self, p: Precision) -> f64 {
        let next = match p {
            Precision::F32 => return self.0[0].unwrap_or(1e9),
            Precision::Fp8 | Precision::Bf16 | Precision::F16Acc16 => Precision::F16,
            Precision::Tf32 | Precision::F16 | Precision::Int8 => Precision::F32,
        };
        self.0[p as usize].unwrap_or_else(|| self.rate(next))
    }
}

/// A device with what runs its operators, as the cost model sees them. All plain SI: bytes, seconds, bytes/s, FLOP/s.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// The profile's key.
    pub key: String,
    /// The profile's name.
    pub name: String,
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// Chip family.
    pub architecture: ChipFamily,
    /// CUDA compute capability as (major, minor).
    pub compute_capability: Option<(u8, u8)>,
    /// Device memory that a process can have: the profile's `usable_memory`, which is what devices report where that is known.
    pub memory: Bytes,
    /// True if the device works in host memory.
    pub unified: bool,
    /// Rate of device memory.
    pub dram: f64,
    /// Size of the last-level cache.
    pub l2: f64,
    /// Rate of the last-level cache; never below `dram`.
    pub l2_rate: f64,
    /// Streaming multiprocessors or cores.
    pub units: f64,
    /// Peak rates.
    pub peaks: Peaks,
    /// Share of the peak that is held for minutes.
    pub sustained: f64,
    /// Rate of copies between host and device from pinned memory, per direction; `None` if there is nothing to copy.
    pub link: Option<f64>,
    /// The same from pageable memory.
    pub link_pageable: Option<f64>,
    /// Memory taken by the driver's context and the engine before any tensor.
    pub overhead: Bytes,
    /// What runs the operators.
    pub target: &'static Target,
    /// Cost of dispatching one node, seconds: as measured with this provider, else the figure of its row.
    pub dispatch: f64,
    params: Table,
}

/// Parameters by family and precision.
type Table = [[Params; 7]; Family::ALL.len()];

/// Pinned copies reach 0.78 to 0.82 of the theoretical rate of a link, pageable ones 0.3 to 0.5 of that.
const PINNED: f64 = 0.8;
const PAGEABLE: f64 = 0.4;
/// H100: 6.65 TB/s measured in L2 against 3.35 in DRAM.
const L2_OVER_DRAM: f64 = 2.0;

fn value(figure: Option<&Figure>) -> Option<f64> {
    figure.map(|f| f.value.value)
}

impl Machine {
    /// Resolves a validated profile, with the provider that such a device gets where none is named.
    pub fn new(profile: &Profile) -> Self {
        Self::on(profile, profile.targets()[0])
    }

    /// Resolves a validated profile with a provider by its key; without one as [`Machine::new`].
    ///
    /// # Errors
    /// `target/unknown-provider`, `target/misfit`.
    pub fn with_provider(profile: &Profile, provider: Option<&str>) -> Result<Self> {
        provider.map_or_else(|| Ok(Self::new(profile)), |key| Ok(Self::on(profile, row_for(key, &profile.device())?)))
    }

    /// Resolves a validated profile with a provider that fits it.
    pub fn on(profile: &Profile, target: &'static Target) -> Self {
        let s = &profile.spec;
        let dram = value(s.memory_bandwidth.as_ref()).unwrap_or(1.0) * 1e9;
        let gpu = profile.kind == DeviceKind::Gpu;
        let link = value(s.pcie_bandwidth.as_ref()).filter(|_| gpu && !profile.unified_memory).map(|x| x * 1e9 * PINNED);
        let calibration = profile.calibration_for(&target.figures);
        Self {
            key: profile.key.clone(),
            name: profile.name.clone(),
            kind: profile.kind,
            architecture: profile.architecture,
            compute_capability: profile.capability(),
            memory: Bytes(value(s.usable_memory.as_ref()).unwrap_or(0.0) as u64),
            unified: profile.unified_memory || !gpu,
            dram,
            l2: value(s.l2.as_ref()).unwrap_or(0.0) * 1e6,
            l2_rate: value(s.l2_bandwidth.as_ref()).map_or(dram * L2_OVER_DRAM, |x| x * 1e9).max(dram),
            units: value(s.sm_count.as_ref().or(s.cores.as_ref())).unwrap_or(1.0).max(1.0),
            peaks: peaks(profile),
            sustained: value(profile.power.sustained_factor.as_ref()).unwrap_or(1.0),
            link,
            link_pageable: link.map(|x| x * PAGEABLE),
            overhead: target.figures.overhead,
            target,
            dispatch: calibration.map_or(target.figures.dispatch_s, |c| c.dispatch_us * 1e-6),
            params: params(profile.architecture, calibration),
        }
    }

    /// The parameters of `family` at precision `p`.
    pub fn params(&self, family: Family, p: Precision) -> &Params {
        &self.params[family as usize][p as usize]
    }

    /// Sets the parameters of a family, with all of its classes, or of one class, at every precision: what a fit tries.
    pub fn set_params(&mut self, family: Family, params: Params) {
        for class in Family::ALL.into_iter().filter(|class| *class == family || class.broad() == family) {
            self.params[class as usize] = [params; 7];
        }
    }

    /// `measured` if every family was, `prior:<architecture>` if none was, else both.
    pub fn provenance(&self) -> String {
        let measured = |family: &Family| self.params[*family as usize][0].provenance == ParamOrigin::Measured;
        let all = Family::broad_ones().count();
        match Family::broad_ones().filter(measured).count() {
            0 => ParamOrigin::Prior(self.architecture).to_string(),
            n if n == all => ParamOrigin::Measured.to_string(),
            n => format!("measured for {n} of {all} families, else {}", ParamOrigin::Prior(self.architecture)),
        }
    }
}

fn peaks(profile: &Profile) -> Peaks {
    let s = &profile.spec;
    let tera = |f: &Option<Figure>| value(f.as_ref()).map(|x| x * 1e12);
    Peaks([
        tera(&s.fp32),
        tera(&s.tf32_tensor),
        tera(&s.fp16_tensor_fp32_accumulate),
        tera(&s.fp16_tensor_fp16_accumulate),
        tera(&s.bf16_tensor_fp32_accumulate),
        tera(&s.int8),
        tera(&s.fp8_tensor_fp32_accumulate),
    ])
}

fn params(architecture: ChipFamily, calibration: Option<&Calibration>) -> Table {
    let fits = calibration.map_or(&[][..], |c| &c.fits);
    let fitted = |family: Family, p: Precision| {
        let exact = fits.iter().find(|f| f.family == family && f.precision == Some(p));
        exact.or_else(|| fits.iter().find(|f| f.family == family && f.precision.is_none()))
    };
    let of = |family: Family, p: Precision| {
        let fit = fitted(family, p).or_else(|| fitted(family.broad(), p));
        fit.map_or_else(|| priors::params(architecture, family.broad(), p), Params::of_fit)
    };
    Family::ALL.map(|family| Precision::ALL.map(|p| of(family, p)))
}
