//! `vidc bench rates`: how fast this machine multiplies.

use std::path::PathBuf;

use serde_json::json;

use super::{command, load, machine};
use crate::common::table::table;
use crate::common::{Done, Out};
use vidc::optimize::candidate::runtime_defaults;
use vidc::optimize::rates::{self, Probe};
use vidc::optimize::site::Budget;
use vidc::runtime::session::{Optimization, SessionOptions};

/// Arguments of `rates`.
#[derive(clap::Args)]
pub(crate) struct RatesArgs {
    /// A product `[batch, m, k] x [k, n]`.
    #[arg(long = "gemm", value_name = "BATCH,M,K,N", value_delimiter = ',', num_args = 4)]
    gemm: Vec<u64>,
    /// A convolution, channels to channels.
    #[arg(long = "conv", value_name = "BATCH,CHANNELS,SIZE,KERNEL", value_delimiter = ',', num_args = 4)]
    conv: Vec<u64>,
    /// Threads of one operator.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
}

/// Shapes that matter in a denoiser and a decoder, and two that a machine is best at.
const PROBES: [Probe; 8] = [
    Probe::Gemm { batch: 1, m: 1024, k: 1024, n: 1024 },
    Probe::Gemm { batch: 1, m: 28_672, k: 64, n: 64 },
    Probe::Gemm { batch: 1, m: 28_672, k: 64, n: 512 },
    Probe::Gemm { batch: 1, m: 7168, k: 128, n: 1024 },
    Probe::Gemm { batch: 1, m: 1792, k: 256, n: 2048 },
    Probe::Conv { batch: 28, channels: 64, size: 32, kernel: 3 },
    Probe::Conv { batch: 28, channels: 128, size: 16, kernel: 3 },
    Probe::Conv { batch: 28, channels: 256, size: 8, kernel: 3 },
];

pub(super) fn run(args: &RatesArgs, out: &Out) -> Done {
    let mut probes: Vec<Probe> = Vec::new();
    probes.extend(args.gemm.as_chunks().0.iter().map(|&[batch, m, k, n]| Probe::Gemm { batch, m, k, n }));
    probes.extend(args.conv.as_chunks().0.iter().map(|&[batch, channels, size, kernel]| Probe::Conv { batch, channels, size, kernel }));
    if probes.is_empty() {
        probes.extend(PROBES);
    }
    let runtime = load(args.runtime.as_deref())?;
    let mut all = Vec::new();
    for level in [Optimization::Disable, Optimization::All] {
        let options = SessionOptions { optimization: level, ..runtime_defaults(args.threads) };
        all.push(rates::rates(&runtime, &probes, &options, Budget { seconds: 1.0, ..Budget::default() })?);
    }
    let row = |(plain, best): (&rates::Rate, &rates::Rate)| {
        vec![
            words(plain.probe),
            format!("{:.1}", plain.gflops),
            format!("{:.1}", best.gflops),
            format!("{:.3} ms", plain.timing.seconds.min(best.timing.seconds) * 1e3),
            format!("{:.1} %", plain.timing.spread.max(best.timing.spread) * 100.0),
        ]
    };
    let header = ["kernel", "GFLOP/s as planned", "GFLOP/s with layouts", "time", "spread"];
    out.result(
        || table(&header, &all[0].iter().zip(&all[1]).map(row).collect::<Vec<_>>()),
        || json!({ "machine": machine(), "command": command(), "threads": args.threads, "disable": all[0], "all": all[1] }),
    );
    Ok(())
}

fn words(probe: Probe) -> String {
    match probe {
        Probe::Gemm { batch, m, k, n } => format!("product {batch} x [{m}, {k}] x [{k}, {n}]"),
        Probe::Conv { batch, channels, size, kernel } => format!("conv {kernel}x{kernel} {batch} x {channels} x {size}²"),
    }
}
