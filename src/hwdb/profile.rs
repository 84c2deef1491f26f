//! One hardware profile as written: a file of `hwdb/`, or one of the user's own.
//!
//! Every figure carries its unit, where it comes from (a key of `sources`) and whether it is in doubt. The unit of each
//! field is fixed and checked, so that a value is never read in a unit it was not written in. Nothing is resolved here:
//! [`super::Machine`] holds the plain numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_saphyr::{Location, Spanned};

use super::kernel::Family;
use crate::diag::{SourceText, Span};
use crate::target::{Device, DeviceKind, Figures, Precision, Target, fitting};

/// The schema version that this vidc reads and writes.
pub const SCHEMA: u32 = 1;

/// No honest profile is larger; a larger text is refused before it is parsed.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// The chip family, which decides the priors of a device that nobody has measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the vendors")]
pub enum ChipFamily {
    Cpu,
    Pascal,
    Volta,
    Turing,
    Ga100,
    Ga10x,
    Orin,
    Ada,
    Hopper,
    Gb100,
    Gb20x,
    Apple7,
    Apple8,
    Apple9,
    Cdna2,
    Cdna3,
    Rdna3,
    Rdna4,
    Alchemist,
}

impl ChipFamily {
    /// The name as a profile writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Pascal => "pascal",
            Self::Volta => "volta",
            Self::Turing => "turing",
            Self::Ga100 => "ga100",
            Self::Ga10x => "ga10x",
            Self::Orin => "orin",
            Self::Ada => "ada",
            Self::Hopper => "hopper",
            Self::Gb100 => "gb100",
            Self::Gb20x => "gb20x",
            Self::Apple7 => "apple7",
            Self::Apple8 => "apple8",
            Self::Apple9 => "apple9",
            Self::Cdna2 => "cdna2",
            Self::Cdna3 => "cdna3",
            Self::Rdna3 => "rdna3",
            Self::Rdna4 => "rdna4",
            Self::Alchemist => "alchemist",
        }
    }

    /// True for the families that run CUDA and so have a compute capability.
    pub fn has_cuda(self) -> bool {
        match self {
            Self::Pascal
            | Self::Volta
            | Self::Turing
            | Self::Ga100
            | Self::Ga10x
            | Self::Orin
            | Self::Ada
            | Self::Hopper
            | Self::Gb100
            | Self::Gb20x => true,
            Self::Cpu
            | Self::Apple7
            | Self::Apple8
            | Self::Apple9
            | Self::Cdna2
            | Self::Cdna3
            | Self::Rdna3
            | Self::Rdna4
            | Self::Alchemist => false,
        }
    }
}

/// One figure with its provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The number, in `unit`.
    pub value: Spanned<f64>,
    /// The unit, which must be the one that the field has; `1` for a count or a ratio.
    pub unit: String,
    /// A key of [`Profile::sources`].
    pub source: String,
    /// True if the source itself is in doubt or the figure was derived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
}

impl Figure {
    /// A figure that is in no file.
    pub fn new(value: f64, unit: &str, source: &str) -> Self {
        let nowhere = Location::UNKNOWN;
        Self { value: Spanned::new(value, nowhere, nowhere), unit: unit.into(), source: source.into(), uncertain: false }
    }
}

macro_rules! figures {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $unit:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* #[doc = concat!(" Unit: `", $unit, "`.")]
            #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<Figure>,)*
        }

        impl $name {
            /// Each figure that is there: field, the unit it must have, figure.
            pub fn figures(&self) -> impl Iterator<Item = (&'static str, &'static str, &Figure)> {
                [$((stringify!($field), $unit, self.$field.as_ref())),*].into_iter().filter_map(|(name, unit, f)| Some((name, unit, f?)))
            }
        }
    };
}

figures! {
    /// What the vendor or a measurement says the device can do. Absent means that the device lacks it or that nobody knows.
    Spec {
        /// Streaming multiprocessors; compute units of AMD, GPU cores of Apple.
        sm_count: "1",
        /// Physical cores.
        cores: "1",
        /// Clock that the vendor names boost.
        boost_clock: "MHz",
        /// Clock at which tensor cores run under their rated figures.
        tensor_clock: "MHz",
        /// Rate of fp32 multiply-adds, two operations each, without tensor cores.
        fp32: "TFLOPS",
        /// Dense tf32 tensor rate.
        tf32_tensor: "TFLOPS",
        /// Dense fp16 tensor rate when sums are kept in fp16.
        fp16_tensor_fp16_accumulate: "TFLOPS",
        /// Dense fp16 tensor rate when sums are kept in fp32.
        fp16_tensor_fp32_accumulate: "TFLOPS",
        /// Dense bf16 tensor rate.
        bf16_tensor_fp32_accumulate: "TFLOPS",
        /// Dense int8 rate.
        int8: "TOPS",
        /// Dense fp8 tensor rate when sums are kept in fp16.
        fp8_tensor_fp16_accumulate: "TFLOPS",
        /// Dense fp8 tensor rate when sums are kept in fp32.
        fp8_tensor_fp32_accumulate: "TFLOPS",
        /// Dense fp4 tensor rate.
        fp4_tensor: "TFLOPS",
        /// Memory as sold.
        memory: "GiB",
        /// Memory that a process can have.
        usable_memory: "B",
        /// Peak rate of device memory.
        memory_bandwidth: "GB/s",
        /// Last-level cache; AMD's Infinity Cache and Apple's system-level cache are such.
        l2: "MB",
        /// Rate of the last-level cache.
        l2_bandwidth: "GB/s",
        /// Shared memory of one multiprocessor.
        shared_memory_per_sm: "KiB",
        /// Most shared memory that one block may use.
        shared_memory_per_block: "KiB",
        /// 32-bit registers of one multiprocessor.
        registers_per_sm: "1",
        /// Most threads resident on one multiprocessor.
        threads_per_sm: "1",
        /// Most blocks resident on one multiprocessor.
        blocks_per_sm: "1",
        /// PCI Express generation.
        pcie_generation: "1",
        /// PCI Express lanes.
        pcie_lanes: "1",
        /// Theoretical rate of the link to the host, per direction.
        pcie_bandwidth: "GB/s",
        /// `NVLink` rate, both directions together.
        nvlink_bandwidth: "GB/s",
    }
}

figures! {
    /// Electrical power and what it does to the clock.
    Power {
        /// Power limit as sold.
        tdp: "W",
        /// Share of the rated tensor clock that the device holds for minutes, in (0, 1].
        sustained_factor: "1",
    }
}

/// Parameters of the latency formulas for one kernel family, fitted to measurements on this device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedParams {
    /// Which operators.
    pub family: Family,
    /// Which precision; absent means every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Share of the peak rate reached by the largest tile.
    pub eta: f64,
    /// Share of the memory rate reached.
    pub eta_w: f64,
    /// Fixed time of one operator, microseconds.
    pub t0_us: f64,
    /// Loss per halving of the tile: a tile of half the area reaches 2^-gamma of the rate.
    pub gamma: f64,
    /// How much of a partly filled wave is paid, in [0, 1].
    pub rho: f64,
    /// Start-up of the inner loop, in elements of k.
    pub k0: f64,
    /// Measured points behind the fit.
    pub points: u32,
    /// Mean absolute relative error of the fit over its points.
    pub error: f64,
}

/// What was measured on a device, and what the measurements gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The engine that ran the operators, such as `onnxruntime-cpu`.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// The machine in words.
    pub machine: String,
    /// Day of the measurement, ISO 8601.
    pub date: String,
    /// The command that measured.
    pub command: String,
    /// The file of raw points, relative to the repository or the profile.
    pub points: String,
    /// Cost of dispatching one node, microseconds.
    pub dispatch_us: f64,
    /// One row a family and precision.
    pub fits: Vec<FittedParams>,
}

/// Where a profile was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Embedded in the binary.
    #[default]
    Embedded,
    /// A file of the user.
    User(String),
    /// Made from what the operating system says about this machine; the words say what that was.
    Detected(String),
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What `--hw` takes.
    pub key: String,
    /// The name as sold.
    pub name: String,
    /// The maker.
    pub vendor: String,
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// Chip family.
    pub architecture: ChipFamily,
    /// CUDA compute capability, such as `8.6`; NVIDIA's devices have one and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// Kind of memory, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_type: Option<String>,
    /// True if device and host share one memory: no copies, nothing to offload to.
    #[serde(default)]
    pub unified_memory: bool,
    /// What the short source names of the figures stand for.
    pub sources: BTreeMap<String, String>,
    /// What is doubtful about the row, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubts: Option<String>,
    /// The figures.
    pub spec: Spec,
    /// Power.
    #[serde(default)]
    pub power: Power,
    /// Measurements; absent means that the family's priors are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Measurements with further providers, each of another engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Calibration>,
    /// Where it was read from.
    #[serde(skip_deserializing)]
    pub origin: Origin,
}

impl Profile {
    /// What of the device decides which providers it can use.
    pub fn device(&self) -> Device<'_> {
        let systems: &[&str] = match self.vendor.as_str() {
            "Apple" => &["macos"],
            _ if self.kind == DeviceKind::Cpu => &["linux", "macos", "windows"],
            _ => &["linux", "windows"],
        };
        Device { key: &self.key, kind: self.kind, vendor: &self.vendor, capability: self.capability(), systems }
    }

    /// The providers that it can use, the one first that it gets where none is named. There is one at least: held by a test over all
    /// rows, and by the check of profiles.
    pub fn targets(&self) -> Vec<&'static Target> {
        fitting(&self.device())
    }

    /// What was measured with the engine of a provider, or with the one that stands for it.
    pub fn calibration_for(&self, figures: &Figures) -> Option<&Calibration> {
        let of = |engine: &str| self.calibration.iter().chain(&self.others).find(|c| c.engine == engine);
        of(figures.engine).or_else(|| of(figures.stands_in?))
    }

    /// CUDA compute capability as (major, minor).
    pub fn capability(&self) -> Option<(u8, u8)> {
        let (major, minor) = self.compute_capability.as_deref()?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}

/// The span of a location that the YAML reader gave.
pub(super) fn span_at(source: &Arc<SourceText>, location: Location) -> Span {
    let span = location.span();
    let (start, len) = (span.byte_offset().unwrap_or(0) as usize, span.byte_len().unwrap_or(0) as usize);
    Span { source: source.clone(), start: start.min(source.text.len()), len: len.max(1) }
}
