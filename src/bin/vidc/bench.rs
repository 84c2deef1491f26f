//! `vidc bench`: models measured side by side on this machine, how fast it multiplies, what running a plan adds, and test footage.

mod memory;
mod plan;
mod scenarios;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::args::{Pair, pair};
use crate::common::table::{grouped, table};
use crate::common::{Done, Failure, Out, say};
use vidc::diag::Diagnostic;
use vidc::hwdb::detect::Host;
use vidc::onnx;
use vidc::onnx::proto::ModelProto;
use vidc::optimize::candidate::{Candidate, ModelSource, options_of, runtime_defaults, set_option};
use vidc::optimize::inputs::{Dims, TensorSpec, check_dims, input_specs, random_inputs, symbols};
use vidc::optimize::measure::{self, Executed, ModelStatistics, PoolBytes};
use vidc::optimize::paired::{CandidateTimes, Effort, Paired, paired};
use vidc::optimize::peak::{self, Report};
use vidc::optimize::rates::{self, Probe};
use vidc::optimize::site::Budget;
use vidc::runtime::provision;
use vidc::runtime::session::{Optimization, Runtime, SessionOptions};
use vidc::runtime::tensor::Tensor;
use vidc::units::Bytes;

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Measure forms of one model against the first: time, memory, kernels, error.
    Model(ModelArgs),
    /// How fast this machine multiplies matrices and convolves.
    Rates(RatesArgs),
    /// What a run of a plan takes beside ONNX Runtime's own run calls.
    Plan(plan::PlanArgs),
    /// What plans predict of their memory, and what a process of its own needs for each.
    Memory(memory::MemoryArgs),
    /// Test footage: nine scenarios, or camera moves over pictures.
    Scenarios(scenarios::ScenariosArgs),
    /// The child of `model` that measures its memory.
    #[command(hide = true)]
    Peak,
}

/// Arguments of `model`.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// The model as it is, run with the best that ONNX Runtime has for it.
    original: PathBuf,
    /// Other forms of it. They run with the options that they say they were made for, else with ONNX Runtime's own.
    forms: Vec<PathBuf>,
    /// The extent of an input that the model leaves open.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = pair)]
    dims: Vec<Pair>,
    /// Threads of one operator.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Rounds that count.
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
    /// Rounds before them that do not.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,
    /// Seed of the inputs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Which of ONNX Runtime's levels the original runs at; all are tried, with open and with bound extents, if none is named.
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// An option of the sessions of the other forms: optimization, `disabled_optimizers`, `mem_pattern`, `buffer_reuse`, prepacking, pool, arena.
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<Pair>,
    /// Let idle threads wait busily.
    #[arg(long)]
    spinning: bool,
    /// Measure each other form with mapped weights too.
    #[arg(long)]
    mapped: bool,
    /// Leave out the processes that measure memory.
    #[arg(long)]
    no_peak: bool,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
}

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

/// Runs the command.
pub(crate) fn run(command: &Command, out: &Out) -> Done {
    match command {
        Command::Model(args) => model(args, out),
        Command::Rates(args) => multiply(args, out),
        Command::Plan(args) => plan::run(args, out),
        Command::Memory(args) => memory::run(args, out),
        Command::Scenarios(args) => scenarios::run(args, out),
        Command::Peak => Ok(peak::serve(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?),
    }
}

/// Loads ONNX Runtime.
pub(crate) fn load(path: Option<&Path>) -> Result<Runtime, Failure> {
    Ok(Runtime::load(&provision::locate(path, &mut say)?.path)?)
}

/// What all candidates share.
struct Bench<'a> {
    args: &'a ModelArgs,
    runtime: Runtime,
    dims: Dims,
    specs: Vec<TensorSpec>,
    inputs: Vec<(String, Tensor)>,
}

/// A way to run the original, against the best before it.
#[derive(serde::Serialize)]
struct Tried {
    name: String,
    against: String,
    /// Time over that of the other.
    ratio: f64,
    /// Peaks of processes of their own: the other's, its own.
    peaks: Option<[Bytes; 2]>,
    taken: bool,
}

impl Tried {
    fn words(&self) -> String {
        let peaks = self.peaks.map_or_else(String::new, |[a, b]| format!(", {b} for {a}"));
        format!("  x{:.3} of {}{peaks}: {}", self.ratio, self.against, if self.taken { "better" } else { "not better" })
    }
}

/// What was measured of a candidate beside its time.
struct Figures {
    candidate: Candidate,
    statistics: ModelStatistics,
    optimized: ModelStatistics,
    executed: Executed,
    memory: PoolBytes,
    peak: Option<Report>,
}

fn model(args: &ModelArgs, out: &Out) -> Done {
    let original = checked(&args.original)?;
    let forms = args.forms.iter().map(|p| Ok((p, checked(p)?))).collect::<Result<Vec<_>, Failure>>()?;
    let dims = dims(&args.dims)?;
    let known: Vec<String> = std::iter::once(&original).chain(forms.iter().map(|(_, m)| m)).flat_map(symbols).collect();
    check_dims(&dims, &known)?;
    let specs = input_specs(&original, &dims)?;
    let inputs = random_inputs(&specs, args.seed)?;
    let bench = Bench { args, runtime: load(args.runtime.as_deref())?, dims, specs, inputs };
    let (best, tried) = bench.best(&original)?;
    let mut candidates = vec![best];
    for (path, proto) in &forms {
        let options = bench.options(proto)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        candidates.push(Candidate::new(name.clone(), ModelSource::File(path.into()), options.clone()));
        if args.mapped {
            candidates.push(Candidate::new(format!("{name}, mapped"), ModelSource::mapped(path)?, options));
        }
    }
    say("comparing");
    let compared = paired(&bench.runtime, &candidates, &bench.inputs, Effort { rounds: args.rounds, warmup: args.warmup })?;
    let mut figures = Vec::new();
    for candidate in candidates {
        say(&format!("counting {}", candidate.name));
        figures.push(bench.figures(candidate, &compared)?);
    }
    let empty = if args.no_peak { None } else { Some(bench.empty()?) };
    out.result(|| text(&compared, &figures, empty), || bench.json(&compared, &figures, &tried, empty));
    Ok(())
}

/// A model that may be given to ONNX Runtime.
fn checked(path: &Path) -> Result<ModelProto, Failure> {
    let proto = onnx::read(path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    onnx::check_external_data(&proto, folder)?;
    Ok(proto)
}

fn dims(pairs: &[Pair]) -> Result<Dims, Failure> {
    let number = |p: &Pair| {
        let n: u64 = p.value.parse().map_err(|_| Failure::Usage(format!("--dim {}={}: a number is wanted", p.name, p.value)))?;
        Ok((p.name.clone(), n))
    };
    pairs.iter().map(number).collect()
}

impl Bench<'_> {
    /// The extents of a model as overrides.
    fn bound(&self, proto: &ModelProto) -> Vec<(String, i64)> {
        let symbols = symbols(proto);
        self.dims
            .iter()
            .filter(|(name, _)| symbols.contains(name))
            .filter_map(|(name, n)| Some((name.clone(), i64::try_from(*n).ok()?)))
            .collect()
    }

    fn defaults(&self) -> SessionOptions {
        SessionOptions { spinning: self.args.spinning, ..runtime_defaults(self.args.threads) }
    }

    /// The options of another form.
    fn options(&self, proto: &ModelProto) -> Result<SessionOptions, Failure> {
        let mut options = options_of(proto, &self.defaults())?;
        for p in &self.args.options {
            set_option(&mut options, &p.name, &p.value)?;
        }
        options.dims = self.bound(proto);
        Ok(options)
    }

    /// The original at the level that is fastest, with open or bound extents: each is tried against the best so far, and where
    /// their times cannot be told apart the one that needs less memory is the better one.
    fn best(&self, original: &ModelProto) -> Result<(Candidate, Vec<Tried>), Failure> {
        let mut levels = vec!["all", "extended", "basic"];
        if let Some(named) = &self.args.level {
            set_option(&mut self.defaults(), "optimization", named)?;
            levels = vec![named.as_str()];
        }
        let mut ways = vec![("open", vec![]), ("bound", self.bound(original))];
        // Nothing to bind: one way is the other.
        ways.dedup_by(|a, b| a.1 == b.1);
        let mut best: Option<Candidate> = None;
        let mut tried = Vec::new();
        for (level, (how, dims)) in levels.iter().flat_map(|l| ways.iter().map(move |w| (l, w))) {
            let mut options = SessionOptions { dims: dims.clone(), ..self.defaults() };
            set_option(&mut options, "optimization", level)?;
            let next = Candidate::new(format!("original, {level}, {how}"), ModelSource::File(self.args.original.clone()), options);
            say(&format!("trying {}", next.name));
            best = Some(match best {
                None => next,
                Some(best) => self.better(best, next, &mut tried)?,
            });
        }
        let best = best.ok_or_else(|| Diagnostic::new("internal/bug", "no level was tried"))?;
        Ok((best, tried))
    }

    fn better(&self, best: Candidate, next: Candidate, tried: &mut Vec<Tried>) -> Result<Candidate, Failure> {
        let pair = [best, next];
        let compared = paired(&self.runtime, &pair, &self.inputs, Effort { rounds: 3, warmup: 1 })?;
        let peaks = if self.args.no_peak {
            None
        } else {
            Some([self.peak(&pair[0], &compared.outputs)?.peak, self.peak(&pair[1], &compared.outputs)?.peak])
        };
        // Three rounds say nothing about less than a tenth of a time.
        let ratio = compared.rows[1].ratio.median;
        let smaller = peaks.is_some_and(|[best, next]| next < best);
        let take = ratio < 0.9 || (ratio < 1.1 && (smaller || (peaks.is_none() && ratio < 1.0)));
        let [best, next] = pair;
        let row = Tried { name: next.name.clone(), against: best.name.clone(), ratio, peaks, taken: take };
        say(&row.words());
        tried.push(row);
        Ok(if take { next } else { best })
    }

    fn figures(&self, candidate: Candidate, compared: &Paired) -> Result<Figures, Failure> {
        let path = match &candidate.model {
            ModelSource::File(path) | ModelSource::Mapped { path, .. } => path,
            ModelSource::Memory(_) => return Err(Diagnostic::new("internal/bug", "a candidate of `bench` is no file").into()),
        };
        Ok(Figures {
            statistics: ModelStatistics::of(&onnx::read(path)?),
            optimized: measure::optimized(&self.runtime, &candidate)?,
            executed: measure::executed(&self.runtime, &candidate, &self.inputs)?,
            memory: measure::pool_bytes(&self.runtime, &candidate, &self.inputs, &compared.outputs)?,
            peak: if self.args.no_peak { None } else { Some(self.peak(&candidate, &compared.outputs)?) },
            candidate,
        })
    }

    fn peak(&self, candidate: &Candidate, outputs: &[TensorSpec]) -> Result<Report, Failure> {
        let request = peak::PeakRequest {
            library: self.runtime.path().into(),
            candidate: candidate.clone(),
            inputs: self.specs.clone(),
            outputs: outputs.to_vec(),
            seed: self.args.seed,
            runs: peak::RUNS,
        };
        Ok(peak::peak(&host()?, &request)?)
    }

    fn empty(&self) -> Result<Report, Failure> {
        Ok(peak::peak(&host()?, &peak::empty(self.runtime.path(), &self.defaults())?)?)
    }

    fn json(&self, compared: &Paired, figures: &[Figures], tried: &[Tried], empty: Option<Report>) -> Value {
        let rows: Vec<Value> = figures.iter().zip(&compared.rows).enumerate().map(|(i, (f, r))| row_json(f, r, compared, i)).collect();
        json!({
            "machine": machine(),
            "onnxruntime": { "version": provision::VERSION, "build": self.runtime.build_info() },
            "command": command(),
            "threads": self.args.threads,
            "dims": self.dims,
            "inputs": self.specs,
            "empty_process_bytes": empty.map(|e| e.peak),
            "tried": tried,
            "control": compared.rows.last(),
            "noise": compared.noise(),
            "models": rows,
        })
    }
}

/// This program as the process that measures memory.
fn host() -> Result<peak::ChildCommand, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Diagnostic::new("measure/child", "this program does not know where it lies").note(e.to_string()))?;
    Ok(peak::ChildCommand { program, args: vec!["bench".into(), "peak".into()] })
}

fn machine() -> Value {
    let host = Host::detect();
    json!({ "model": host.model, "cores": host.cores, "memory_bytes": host.memory, "avx2": host.avx2, "avx512": host.avx512 })
}

/// The command as it was typed.
fn command() -> String {
    let args = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    format!("vidc {args}")
}

fn row_json(f: &Figures, row: &CandidateTimes, compared: &Paired, index: usize) -> Value {
    json!({
        "name": row.name,
        "options": f.candidate.options,
        "time_s": row.time_s,
        "best_s": row.best_s,
        "times_s": row.times_s,
        "ratio": row.ratio,
        "verdict": compared.verdict(index),
        "rel_l2": row.rel_l2,
        "peak_bytes": f.peak.map(|p| p.peak),
        "loaded_bytes": f.peak.map(|p| p.loaded),
        "memory": f.memory,
        "nodes": f.statistics.nodes,
        "nodes_computing": f.statistics.computing,
        "nodes_optimized": f.optimized.nodes,
        "kernels": f.executed.count(),
        "kernels_by_operator": f.executed.by_operator(),
        "work": rates::multiplied(&f.executed),
    })
}

fn text(compared: &Paired, figures: &[Figures], empty: Option<Report>) -> String {
    let mut rows: Vec<Vec<String>> = figures.iter().zip(&compared.rows).map(|(f, r)| row_text(f, r, &figures[0])).collect();
    rows.extend(compared.rows.last().map(|c| vec![c.name.clone(), seconds(c), ratio(c)]));
    let header = ["model", "time", "ratio (95 %)", "peak", "ratio", "activations", "nodes", "optimised", "kernels", "error"];
    let mut out = table(&header, &rows);
    let _ = writeln!(out, "\nnoise of equal sessions: {:.1} %", compared.noise() * 100.0);
    if let Some(empty) = empty {
        let _ = writeln!(out, "an empty session needs {} of each peak", empty.peak);
    }
    for f in figures {
        let _ = writeln!(out, "\n{}", f.candidate.name);
        out += &work_text(&f.executed);
    }
    out
}

fn seconds(row: &CandidateTimes) -> String {
    format!("{:.4} s", row.time_s.median)
}

fn ratio(row: &CandidateTimes) -> String {
    format!("{:.3} ({:.3} to {:.3})", row.ratio.median, row.ratio.low, row.ratio.high)
}

fn row_text(f: &Figures, row: &CandidateTimes, first: &Figures) -> Vec<String> {
    let peak = f.peak.zip(first.peak).map(|(own, first)| (own.peak, own.peak.0 as f64 / first.peak.0.max(1) as f64));
    let words = |b: Option<Bytes>| b.map_or_else(|| "-".into(), |b| b.to_string());
    vec![
        row.name.clone(),
        seconds(row),
        ratio(row),
        words(peak.map(|p| p.0)),
        peak.map_or_else(|| "-".into(), |p| format!("{:.3}", p.1)),
        words(f.memory.activations),
        grouped(f.statistics.computing as u64),
        grouped(f.optimized.nodes as u64),
        grouped(f.executed.count() as u64),
        format!("{:.1e}", row.rel_l2),
    ]
}

/// Time by kind of kernel, and the operators that take most of it.
fn work_text(executed: &Executed) -> String {
    const MOST: usize = 12;
    let whole = executed.nodes.iter().map(|n| n.dur_us).sum::<u64>().max(1) as f64;
    let line = |name: String, count: usize, us: u64, rate: String| {
        vec![name, count.to_string(), format!("{:.1} ms", us as f64 / 1e3), format!("{:.1} %", us as f64 / whole * 100.0), rate]
    };
    let rate = |m: &rates::Multiplied| if m.flop == 0 { String::new() } else { format!("{:.1} GFLOP/s", m.gflops()) };
    let mut rows: Vec<Vec<String>> =
        rates::multiplied(executed).iter().map(|(kind, m)| line((*kind).into(), m.count, m.time_us, rate(m))).collect();
    let mut operators: Vec<_> = executed.by_operator().into_iter().collect();
    operators.sort_by_key(|(_, k)| std::cmp::Reverse(k.time_us));
    rows.extend(operators.into_iter().take(MOST).map(|(op, k)| line(op, k.count, k.time_us, String::new())));
    table(&["kernels", "count", "time", "share", "rate"], &rows)
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

fn multiply(args: &RatesArgs, out: &Out) -> Done {
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
