//! The resolved device: plain numbers in SI units, one place for every default, and for each figure that was not measured
//! the prior of its family.
//!
//! The formulas that use these numbers are in `cost::latency`; this module only says what they are.

use serde::{Deserialize, Serialize};

use super::priors;
use super::profile::{ChipFamily, DeviceKind, Figure, FittedParams, Profile};
use crate::units::Bytes;

/// What a kernel multiplies and in what it sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// fp32 on the ordinary cores.
    F32,
    /// fp32 in memory, tf32 in the tensor cores: what ONNX Runtime does with fp32 on Ampere and later unless told not to.
    Tf32,
    /// fp16 with sums in fp32.
    F16,
    /// fp16 with sums in fp16; twice as fast on `GeForce` cards, and less exact.
    F16Acc16,
    /// bf16 with sums in fp32.
    Bf16,
    /// int8 with sums in int32.
    Int8,
    /// fp8 with sums in fp32.
    Fp8,
}

impl Precision {
    /// Every precision, in table order.
    pub const ALL: [Self; 7] = [Self::F32, Self::Tf32, Self::F16, Self::F16Acc16, Self::Bf16, Self::Int8, Self::Fp8];

    /// Bytes of one element in memory.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 | Self::Tf32 => 4.0,
            Self::F16 | Self::F16Acc16 | Self::Bf16 => 2.0,
            Self::Int8 | Self::Fp8 => 1.0,
        }
    }

    /// Bytes of one element of a result: 8-bit kernels write 16 bits.
    pub fn result_bytes(self) -> f64 {
        self.bytes().max(2.0)
    }

    /// Elements by which a channel count must divide for the tensor cores to be filled.
    pub fn alignment(self) -> u64 {
        match self {
            Self::F32 => 1,
            Self::Tf32 => 4,
            Self::F16 | Self::F16Acc16 | Self::Bf16 => 8,
            Self::Int8 | Self::Fp8 => 16,
        }
    }

    /// True for the two-byte floats.
    pub fn is_half(self) -> bool {
        matches!(self, Self::F16 | Self::F16Acc16 | Self::Bf16)
    }
}

/// Operators that share parameters of the latency formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Matrix products, batched or not.
    Gemm,
    /// Convolutions.
    Conv,
    /// Fused attention.
    Attention,
    /// Operators that read and write each element once, with a few additions or products.
    Elementwise,
    /// Operators that take an exponential or the like of each element.
    Activation,
    /// Normalisations.
    Norm,
    /// Softmax over the last axis.
    Softmax,
    /// Permutations of axes.
    Transpose,
    /// Concat, slice, cast, plain copies.
    Copy,
    /// Interpolation.
    Resize,
}

impl Family {
    /// Every family, in table order.
    pub const ALL: [Self; 10] = [
        Self::Gemm,
        Self::Conv,
        Self::Attention,
        Self::Elementwise,
        Self::Activation,
        Self::Norm,
        Self::Softmax,
        Self::Transpose,
        Self::Copy,
        Self::Resize,
    ];
}

/// Where parameters come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamOrigin {
    /// Fitted to measurements on this device.
    Measured,
    /// The prior of the architecture.
    Prior(ChipFamily),
}

impl std::fmt::Display for ParamOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Measured => f.write_str("measured"),
            Self::Prior(architecture) => write!(f, "prior:{}", architecture.name()),
        }
    }
}

/// Parameters of the latency formulas for one family at one precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Share of the sustained peak rate reached by the largest tile. Memory-bound families: bytes processed per FLOP of the fp32 peak.
    pub eta: f64,
    /// Share of the memory rate reached.
    pub eta_w: f64,
    /// Fixed time of one operator, seconds.
    pub t0: f64,
    /// A tile of half the area costs 2^gamma times as much per result.
    pub gamma: f64,
    /// How much of a partly filled wave is paid, in [0, 1].
    pub rho: f64,
    /// Start-up of the inner loop, in elements of k.
    pub k0: f64,
    /// Relative standard deviation of the prediction.
    pub sigma: f64,
    /// Measured or prior.
    pub provenance: ParamOrigin,
    /// `2^gamma`, so that the formulas need no power function.
    pub(crate) halving: f64,
}

impl Params {
    /// Parameters with their derived term.
    #[expect(clippy::too_many_arguments, reason = "one argument a parameter of the published formula")]
    pub fn new(eta: f64, eta_w: f64, t0: f64, gamma: f64, rho: f64, k0: f64, sigma: f64, provenance: ParamOrigin) -> Self {
        Self { eta, eta_w, t0, gamma, rho, k0, sigma, provenance, halving: libm::exp2(gamma) }
    }

    fn of_fit(fit: &FittedParams) -> Self {
        // For normal errors the standard deviation is 1.25 times the mean absolute one; five percent is the noise of any machine.
        let sigma = (fit.error * 1.25).max(0.05);
        Self::new(fit.eta, fit.eta_w, fit.t0_us * 1e-6, fit.gamma, fit.rho, fit.k0, sigma, ParamOrigin::Measured)
    }
}

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

/// What dispatches operators to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// The CPU provider of ONNX Runtime.
    #[serde(rename = "onnxruntime-cpu")]
    OnnxRuntimeCpu,
    /// The CUDA provider of ONNX Runtime.
    #[serde(rename = "onnxruntime-cuda")]
    OnnxRuntimeCuda,
    /// The `TensorRT` provider of ONNX Runtime.
    #[serde(rename = "tensorrt")]
    TensorRt,
}

/// A device as the cost model sees it. All plain SI: bytes, seconds, bytes/s, FLOP/s.
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
    /// The engine that the calibration or the default speaks of.
    pub engine: Engine,
    /// Cost of dispatching one node by `engine`, seconds.
    pub dispatch: f64,
    params: [[Params; 7]; 10],
}

/// Pinned copies reach 0.78 to 0.82 of the theoretical rate of a link, pageable ones 0.3 to 0.5 of that.
const PINNED: f64 = 0.8;
const PAGEABLE: f64 = 0.4;
/// CUDA context 0.30 to 0.55 GB and ONNX Runtime 0.1 GB; the middle of both.
const GPU_OVERHEAD: u64 = 450_000_000;
/// Code, sessions and allocator of ONNX Runtime on a CPU.
const CPU_OVERHEAD: u64 = 100_000_000;
/// H100: 6.65 TB/s measured in L2 against 3.35 in DRAM.
const L2_OVER_DRAM: f64 = 2.0;

fn value(figure: Option<&Figure>) -> Option<f64> {
    figure.map(|f| f.value.value)
}

impl Machine {
    /// Resolves a validated profile.
    pub fn new(profile: &Profile) -> Self {
        let s = &profile.spec;
        let dram = value(s.memory_bandwidth.as_ref()).unwrap_or(1.0) * 1e9;
        let gpu = profile.kind == DeviceKind::Gpu;
        let link = value(s.pcie_bandwidth.as_ref()).filter(|_| gpu && !profile.unified_memory).map(|x| x * 1e9 * PINNED);
        let engine = if gpu { Engine::OnnxRuntimeCuda } else { Engine::OnnxRuntimeCpu };
        Self {
            key: profile.key.clone(),
            name: profile.name.clone(),
            kind: profile.kind,
            architecture: profile.architecture,
            compute_capability: profile.compute_capability.as_deref().and_then(capability),
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
            overhead: Bytes(if gpu { GPU_OVERHEAD } else { CPU_OVERHEAD }),
            engine,
            dispatch: profile.calibration.as_ref().map_or_else(|| priors::dispatch(engine), |c| c.dispatch_us * 1e-6),
            params: params(profile),
        }
    }

    /// The parameters of `family` at precision `p`.
    pub fn params(&self, family: Family, p: Precision) -> &Params {
        &self.params[family as usize][p as usize]
    }

    /// Sets the parameters of one family at every precision: what a fit tries.
    pub fn set_params(&mut self, family: Family, params: Params) {
        self.params[family as usize] = [params; 7];
    }

    /// Cost of dispatching one node by `engine`, seconds: measured for the profile's own engine, else a prior.
    pub fn dispatch_by(&self, engine: Engine) -> f64 {
        if engine == self.engine { self.dispatch } else { priors::dispatch(engine) }
    }

    /// `measured` if every family was, `prior:<architecture>` if none was, else both.
    pub fn provenance(&self) -> String {
        let measured = self.params.iter().filter(|row| row[0].provenance == ParamOrigin::Measured).count();
        match measured {
            0 => ParamOrigin::Prior(self.architecture).to_string(),
            n if n == Family::ALL.len() => ParamOrigin::Measured.to_string(),
            n => format!("measured for {n} of {} families, else {}", Family::ALL.len(), ParamOrigin::Prior(self.architecture)),
        }
    }
}

fn capability(text: &str) -> Option<(u8, u8)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
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

fn params(profile: &Profile) -> [[Params; 7]; 10] {
    let fits = profile.calibration.as_ref().map_or(&[][..], |c| &c.fits);
    let of = |family: Family, p: Precision| {
        let exact = fits.iter().find(|f| f.family == family && f.precision == Some(p));
        let any = fits.iter().find(|f| f.family == family && f.precision.is_none());
        exact.or(any).map_or_else(|| priors::params(profile.architecture, family, p), Params::of_fit)
    };
    Family::ALL.map(|family| Precision::ALL.map(|p| of(family, p)))
}
