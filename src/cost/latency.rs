//! How long one operator takes on a device: an analytic formula on an abstract description, independent of any IR.
//!
//! ```text
//! t = t0 + (t_compute^4 + t_memory^4)^(1/4)         the larger of both, with a soft corner
//! t_compute: output tiles in waves over the device's units; the best of a few tile shapes and splits of k
//! t_memory:  unique bytes over the rate of the memory that holds them, cache or DRAM
//! ```
//! Units are seconds, bytes, FLOP, bytes/s and FLOP/s throughout. The parameters (share of peak, share of bandwidth, fixed
//! time, loss of small tiles, wave smoothing, start-up of k) come from [`Machine::params`]: fitted if the device was measured,
//! else priors of its architecture. `tests/data/latency` holds the public measurements that the formula is tested against.
//!
//! # What is monotone
//! - More of `b`, `m`, `n`, `k`, `lq`, `lk`, bytes never takes less time, as long as the *alignment class* is the same: tensor
//!   cores run at half rate on channel counts that are no multiple of 8 (fp16) or 16 (8 bits), so 321 channels can cost more than 328.
//! - More memory bandwidth, more peak rate or less fixed time is never slower.
//! - On a CPU the two-byte floats are emulated: never faster than fp32.
//!
//! # What is left out
//! Choice of algorithm (Winograd, FFT) and layout changes inside a convolution, thermal state beyond the sustained factor, and
//! contention. The interval of an estimate is for these.
//!
//! The arithmetic uses only +, -, *, / and square roots, which IEEE 754 fixes to the last bit, so that every platform gives the same figure.

use crate::hwdb::DeviceKind;
pub use crate::hwdb::{Family, Machine, Params, Precision};
use crate::units::{Bytes, Flop, Time};

/// What a memory-bound operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// Each element once with little arithmetic: add, mul, relu.
    Elementwise,
    /// Each element once with an exponential or the like: sigmoid, silu, gelu, tanh, erf.
    Activation,
    /// Group, layer, instance and RMS normalisation.
    Norm,
    /// Softmax on its own.
    Softmax,
    /// A permutation that moves the last axis. One that keeps it moves whole rows: a [`MemoryKind::Copy`].
    Transpose,
    /// Concat, slice, gather of rows, cast.
    Copy,
    /// Interpolation.
    Resize,
}

impl MemoryKind {
    fn family(self) -> Family {
        match self {
            Self::Elementwise => Family::Elementwise,
            Self::Activation => Family::Activation,
            Self::Norm => Family::Norm,
            Self::Softmax => Family::Softmax,
            Self::Transpose => Family::Transpose,
            Self::Copy => Family::Copy,
            Self::Resize => Family::Resize,
        }
    }
}

/// One operator, or one group that the provider fuses. `extra_bytes` is what a fused neighbour (bias, residual) reads or writes besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// `b` products of `[m, k]` and `[k, n]`. A product with shared weights has `b = 1` and all its rows in `m`.
    Gemm {
        /// Products with operands of their own.
        b: u64,
        /// Rows.
        m: u64,
        /// Columns.
        n: u64,
        /// Inner length.
        k: u64,
        /// See [`Work`].
        extra_bytes: u64,
    },
    /// A convolution over up to three axes; missing axes have kernel and size 1.
    Conv {
        /// Pictures.
        batch: u64,
        /// Input channels, of all groups.
        cin: u64,
        /// Output channels, of all groups.
        cout: u64,
        /// Groups.
        groups: u64,
        /// Kernel size of each axis.
        kernel: [u64; 3],
        /// Output size of each axis.
        out: [u64; 3],
        /// Elements of the input tensor.
        in_elems: u64,
        /// See [`Work`].
        extra_bytes: u64,
    },
    /// `softmax(q k^T) v` for `b * h` heads.
    Attention {
        /// Sequences.
        b: u64,
        /// Heads.
        h: u64,
        /// Query tokens.
        lq: u64,
        /// Key tokens.
        lk: u64,
        /// Size of one head.
        dh: u64,
        /// One kernel that never writes the scores; else two products and a softmax.
        fused: bool,
        /// Parts into which the queries are cut, run one after the other; at least 1.
        q_tiles: u64,
    },
    /// An operator that only moves bytes.
    Memory {
        /// What it does to them.
        kind: MemoryKind,
        /// Bytes read.
        read: u64,
        /// Bytes written.
        written: u64,
    },
    /// Reshape and other operators that only rename a buffer.
    Free,
}

impl Work {
    /// The family whose parameters decide.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Gemm { .. } | Self::Attention { fused: false, .. } => Some(Family::Gemm),
            Self::Conv { .. } => Some(Family::Conv),
            Self::Attention { .. } => Some(Family::Attention),
            Self::Memory { kind, .. } => Some(kind.family()),
            Self::Free => None,
        }
    }

    /// Multiply-adds count as two; memory-bound operators count as none.
    pub fn flop(&self) -> Flop {
        let product = |factors: &[u64]| Flop(factors.iter().fold(1, |a: u64, b| a.saturating_mul(*b)));
        match *self {
            Self::Gemm { b, m, n, k, .. } => product(&[2, b, m, n, k]),
            Self::Conv { batch, cin, cout, groups, kernel: [a, b, c], out: [x, y, z], .. } => {
                product(&[2, batch, cin / groups.max(1), cout, a, b, c, x, y, z])
            }
            Self::Attention { b, h, lq, lk, dh, .. } => product(&[4, b, h, lq, lk, dh]),
            Self::Memory { .. } | Self::Free => Flop(0),
        }
    }
}

/// A predicted time with what it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The prediction.
    pub time: Time,
    /// Relative standard deviation of `time`.
    pub sigma_rel: f64,
    /// Operations.
    pub flop: Flop,
    /// Bytes to and from device memory if nothing were cached between operators.
    pub dram_bytes: Bytes,
    /// The compute side alone.
    pub compute_time: Time,
    /// The memory side alone.
    pub memory_time: Time,
}

/// Seconds and bytes of one kernel before the two sides are joined.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    fixed: f64,
    compute: f64,
    memory: f64,
    /// Both sides joined, without `fixed`.
    joined: f64,
    bytes: f64,
}

impl Terms {
    fn kernel(fixed: f64, compute: f64, memory: f64, bytes: f64) -> Self {
        let square = |x: f64| x * x;
        let joined = (square(square(compute)) + square(square(memory))).sqrt().sqrt();
        Self { fixed, compute, memory, joined, bytes }
    }

    /// This kernel, then the other.
    fn then(self, other: Self) -> Self {
        Self {
            fixed: self.fixed + other.fixed,
            compute: self.compute + other.compute,
            memory: self.memory + other.memory,
            joined: self.joined + other.joined,
            bytes: self.bytes + other.bytes,
        }
    }

    fn times(self, n: f64) -> Self {
        Self { fixed: self.fixed * n, compute: self.compute * n, memory: self.memory * n, joined: self.joined * n, bytes: self.bytes * n }
    }
}

/// An output tile: rows, columns, and how often the largest tile was halved to get its area.
type Tile = (f64, f64, u8);

/// Tiles of tensor-core kernels.
const TENSOR_TILES: [Tile; 8] = [
    (256.0, 128.0, 0),
    (128.0, 256.0, 0),
    (128.0, 128.0, 1),
    (128.0, 64.0, 2),
    (64.0, 128.0, 2),
    (64.0, 64.0, 3),
    (64.0, 32.0, 4),
    (32.0, 64.0, 4),
];
/// Tiles of fp32 kernels on ordinary cores.
const SIMT_TILES: [Tile; 7] =
    [(128.0, 128.0, 0), (128.0, 64.0, 1), (64.0, 128.0, 1), (64.0, 64.0, 2), (64.0, 32.0, 3), (32.0, 64.0, 3), (32.0, 32.0, 4)];
/// Registers of a CPU kernel hold a few rows of a few vectors; work is spread finely, so there are no waves to speak of.
const CPU_TILES: [Tile; 1] = [(4.0, 16.0, 0)];
/// Query rows of fused attention kernels.
const QUERY_TILES: [Tile; 4] = [(128.0, 1.0, 0), (64.0, 1.0, 1), (32.0, 1.0, 2), (16.0, 1.0, 3)];
const CPU_QUERY_TILES: [Tile; 1] = [(4.0, 1.0, 0)];
/// Side of the tile that counts in fetches of operands larger than the cache.
const FETCH_TILE: f64 = 128.0;
/// Parts into which k may be split.
const SPLITS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// Share of the rate that tensor cores keep on channel counts they are not aligned to.
const MISALIGNED: f64 = 0.5;

/// A device seen by one family at one precision.
struct Device<'a> {
    machine: &'a Machine,
    precision: Precision,
    params: &'a Params,
}

impl<'a> Device<'a> {
    fn new(machine: &'a Machine, family: Family, precision: Precision) -> Self {
        Self { machine, precision, params: machine.params(family, precision) }
    }

    /// FLOP/s of one unit.
    fn unit_rate(&self) -> f64 {
        self.machine.sustained * self.params.eta * self.machine.peaks.rate(self.precision) / self.machine.units
    }

    /// Seconds to move `bytes` when the operator touches `working_set` bytes in all. Up to half the cache everything is
    /// cached, from a whole cache on nothing is, and between them a share that falls linearly.
    fn move_time(&self, bytes: f64, working_set: f64) -> f64 {
        let m = self.machine;
        let cached = if m.l2 > 0.0 { ((m.l2 - working_set) / (0.5 * m.l2)).clamp(0.0, 1.0) } else { 0.0 };
        bytes * (cached / m.l2_rate + (1.0 - cached) / m.dram) / self.params.eta_w
    }

    /// Waves of `blocks` over the units: at least one, partly filled ones smoothed by rho.
    fn waves(&self, blocks: f64) -> f64 {
        let w = blocks / self.machine.units;
        (w + self.params.rho * (w.ceil() - w)).max(1.0)
    }

    /// Cost factor of a tile that is `level` halvings smaller than the largest.
    fn derate(&self, level: u8) -> f64 {
        (0..level).fold(1.0, |product, _| product * self.params.halving)
    }

    fn tiles(&self) -> &'static [Tile] {
        match (self.machine.kind, self.precision) {
            (DeviceKind::Cpu, _) => &CPU_TILES,
            (DeviceKind::Gpu, Precision::F32) => &SIMT_TILES,
            (DeviceKind::Gpu, _) => &TENSOR_TILES,
        }
    }

    /// Share of the rate that is left when `a` and `b` are the channel counts.
    fn alignment(&self, a: u64, b: u64) -> f64 {
        let unit = self.precision.alignment();
        if self.machine.kind == DeviceKind::Cpu || (a.is_multiple_of(unit) && b.is_multiple_of(unit)) { 1.0 } else { MISALIGNED }
    }

    /// Compute time of `b` products, the best over tiles and splits of k. Only a single product is split.
    fn product_time(&self, b: f64, m: f64, n: f64, k: f64) -> f64 {
        let rate = self.unit_rate();
        let splits = if b > 1.0 { &SPLITS[..1] } else { &SPLITS[..] };
        let sums = b * m * n * 8.0 / self.machine.l2_rate;
        let mut best = f64::INFINITY;
        for &(rows, columns, level) in self.tiles() {
            let blocks = b * (m / rows).ceil() * (n / columns).ceil();
            let per_k = 2.0 * rows * columns * self.derate(level) / rate;
            for &z in splits {
                let time = self.waves(blocks * z) * per_k * (k / z + self.params.k0) + (z - 1.0) * sums;
                best = best.min(time);
            }
        }
        best
    }

    /// Bytes that `b` products move: each operand once while it fits the cache; beyond, the units work on a square of tiles
    /// at a time and fetch its rows and columns anew.
    fn product_bytes(&self, b: f64, m: f64, n: f64, k: f64) -> f64 {
        let (operands, result) = ((m * k + k * n) * self.precision.bytes(), m * n * self.precision.result_bytes());
        if operands <= self.machine.l2 || self.machine.kind == DeviceKind::Cpu {
            return b * (operands + result);
        }
        let waves = (m / FETCH_TILE).ceil() * (n / FETCH_TILE).ceil() / self.machine.units;
        let fetched = waves * self.machine.units.sqrt() * 2.0 * FETCH_TILE * k * self.precision.bytes();
        b * (operands.max(fetched) + result)
    }
}

fn gemm(machine: &Machine, class: Family, p: Precision, [b, m, n, k]: [u64; 4], extra: u64) -> Terms {
    let d = Device::new(machine, class, p);
    let share = d.alignment(n, k);
    let [b, m, n, k] = [b, m, n, k].map(|x| x as f64);
    let bytes = d.product_bytes(b, m, n, k) + extra as f64;
    Terms::kernel(d.params.t0, d.product_time(b, m, n, k) / share, d.move_time(bytes, bytes), bytes)
}

fn conv(machine: &Machine, class: Family, p: Precision, work: &Work) -> Terms {
    let Work::Conv { batch, cin, cout, groups, kernel, out, in_elems, extra_bytes } = *work else { return Terms::default() };
    let d = Device::new(machine, class, p);
    let groups = groups.max(1);
    let (cin, cout) = (cin / groups, cout / groups);
    let pad = if machine.kind == DeviceKind::Gpu { p.alignment() } else { 1 };
    let taps: f64 = kernel.iter().map(|x| *x as f64).product();
    let pixels = batch as f64 * out.iter().map(|x| *x as f64).product::<f64>();
    let k = cin.next_multiple_of(pad) as f64 * taps;
    let compute = d.product_time(groups as f64, pixels, cout.next_multiple_of(pad) as f64, k) / d.alignment(cin, cout);
    let (g, cin, cout) = (groups as f64, cin as f64, cout as f64);
    let bytes = (in_elems as f64 + g * cin * cout * taps) * p.bytes() + pixels * g * cout * p.bytes() + extra_bytes as f64;
    Terms::kernel(d.params.t0, compute, d.move_time(bytes, bytes), bytes)
}

/// One kernel a part of the queries, which re-reads keys and values.
fn fused_attention(machine: &Machine, p: Precision, [heads, lq, lk, dh]: [f64; 4], parts: f64) -> Terms {
    let d = Device::new(machine, Family::Attention, p);
    let (tiles, width) = match machine.kind {
        DeviceKind::Cpu => (&CPU_QUERY_TILES[..], dh),
        // Kernels exist for head sizes in steps of 32.
        DeviceKind::Gpu => (&QUERY_TILES[..], (dh / 32.0).ceil() * 32.0),
    };
    let rows = (lq / parts).ceil();
    let rate = d.unit_rate();
    let time = |&(tile, _, level): &Tile| {
        let block = 4.0 * tile * width * (lk + d.params.k0) * d.derate(level) / rate;
        d.waves(heads * (rows / tile).ceil()) * block
    };
    let compute = tiles.iter().map(time).fold(f64::INFINITY, f64::min);
    let (mine, shared) = (2.0 * heads * rows * dh * p.bytes(), 2.0 * heads * lk * dh * p.bytes());
    let bytes = mine + shared;
    Terms::kernel(d.params.t0, compute, d.move_time(bytes, bytes), bytes).times(parts)
}

/// Two products with a softmax between them, for each part of the queries.
fn plain_attention(machine: &Machine, p: Precision, [b, h, lq, lk, dh]: [u64; 5], parts: u64) -> Terms {
    let (heads, rows) = (b.saturating_mul(h), lq.div_ceil(parts));
    let scores = heads as f64 * rows as f64 * lk as f64 * p.bytes();
    let first = gemm(machine, Family::GemmPairs, p, [heads, rows, lk, dh], 0);
    let second = gemm(machine, Family::GemmPairs, p, [heads, rows, dh, lk], 0);
    first.then(memory(machine, Family::Softmax, p, 2.0 * scores)).then(second).times(parts as f64)
}

fn memory(machine: &Machine, class: Family, p: Precision, bytes: f64) -> Terms {
    let d = Device::new(machine, class, p);
    // One byte per FLOP of the ordinary cores times eta: what the arithmetic of the operator lets through.
    let compute = bytes / (machine.sustained * d.params.eta * machine.peaks.rate(Precision::F32));
    Terms::kernel(d.params.t0, compute, d.move_time(bytes, bytes), bytes)
}

fn terms(class: Family, work: &Work, p: Precision, machine: &Machine) -> Terms {
    match *work {
        Work::Gemm { b, m, n, k, extra_bytes } => gemm(machine, class, p, [b, m, n, k], extra_bytes),
        Work::Conv { .. } => conv(machine, class, p, work),
        Work::Attention { b, h, lq, lk, dh, fused: true, q_tiles } => {
            let heads = b as f64 * h as f64;
            fused_attention(machine, p, [heads, lq as f64, lk as f64, dh as f64], q_tiles.max(1) as f64)
        }
        Work::Attention { b, h, lq, lk, dh, fused: false, q_tiles } => plain_attention(machine, p, [b, h, lq, lk, dh], q_tiles.max(1)),
        Work::Memory { read, written, .. } => memory(machine, class, p, read as f64 + written as f64),
        Work::Free => Terms::default(),
    }
}

/// fp16 and bf16 on a CPU: the fp32 operator, with casts of what goes in and out. Operators that only move elements need no
/// cast, and moving is bound by the number of elements.
fn emulated(class: Family, work: &Work, p: Precision, machine: &Machine) -> Terms {
    let widened = match *work {
        Work::Memory { kind, read, written } => Work::Memory { kind, read: read.saturating_mul(2), written: written.saturating_mul(2) },
        other => other,
    };
    let wide = terms(class, &widened, Precision::F32, machine);
    if matches!(work, Work::Free | Work::Memory { kind: MemoryKind::Transpose | MemoryKind::Copy, .. }) {
        return wide;
    }
    // For each fp32 number (4 bytes) a cast moves 4 bytes and the 2 of the 16-bit number: 6 for 4.
    let casts = memory(machine, Family::Copy, p, 1.5 * wide.bytes);
    Terms { bytes: wide.bytes / 2.0, ..wide.then(casts) }
}

/// Predicts one operator with the parameters of its broad family. Deterministic and pure.
pub fn latency(work: &Work, p: Precision, machine: &Machine) -> Estimate {
    latency_as(work.family().unwrap_or(Family::Copy), work, p, machine)
}

/// Predicts one operator of a class, which is one of the family of `work`. Deterministic and pure.
pub fn latency_as(class: Family, work: &Work, p: Precision, machine: &Machine) -> Estimate {
    let emulate = machine.kind == DeviceKind::Cpu && p.is_half();
    let t = if emulate { emulated(class, work, p, machine) } else { terms(class, work, p, machine) };
    Estimate {
        time: Time::from_secs(t.fixed + t.joined),
        sigma_rel: work.family().map_or(0.0, |_| machine.params(class, p).sigma),
        flop: work.flop(),
        dram_bytes: Bytes(t.bytes as u64),
        compute_time: Time::from_secs(t.compute),
        memory_time: Time::from_secs(t.memory),
    }
}

/// Time of a run of `nodes` kernels that take `kernels` together: on a GPU the host dispatches ahead of the device, so the slower
/// of both decides; on a CPU they take turns.
pub fn stage_time(kernels: Time, nodes: u64, machine: &Machine) -> Time {
    let dispatch = Time::from_secs(machine.dispatch) * nodes;
    match machine.kind {
        DeviceKind::Gpu => kernels.max(dispatch),
        DeviceKind::Cpu => kernels + dispatch,
    }
}

/// Time to copy `bytes` between host and device in one direction; zero where both share one memory.
pub fn transfer_time(bytes: Bytes, pinned: bool, machine: &Machine) -> Time {
    /// A copy has to be queued and completed whatever its size.
    const COPY_START: f64 = 10e-6;
    let rate = if pinned { machine.link } else { machine.link_pageable };
    rate.map_or(Time(0), |rate| Time::from_secs(COPY_START + bytes.0 as f64 / rate))
}

#[cfg(test)]
#[path = "latency_tests.rs"]
mod tests;
