//! `vidc run`: runs a graph on this machine, or a plan.
//!
//! Everything that can be wrong is looked at before the first kernel, cheapest first: the output's format, the graph, pictures and
//! arrays, weights, the plan, room in memory and on disk. `--dry-run` ends there and says what was found.

mod outputs;
mod prepare;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::common::args::{ChooseArgs, Pair, SearchArgs, WeightsArgs, pair, size};
use crate::common::progress::Progress;
use crate::common::render::kept_text;
use crate::common::{Done, Failure, Out, say};
use prepare::Ready;
use vidc::hwdb::Engine;
use vidc::runtime::execute::Executor;
use vidc::runtime::provision;
use vidc::runtime::session::{Provider, Runtime, SessionOptions};
use vidc::units::Bytes;

/// How a picture of another shape is made to fit.
#[derive(Clone, Copy, clap::ValueEnum)]
enum FitArg {
    /// Stretch it.
    Stretch,
    /// Cut off what is too wide or too tall.
    Crop,
    /// Add black.
    Pad,
}

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A graph file, the name of a graph inside vidc, or a plan directory.
    target: String,
    /// The device to tune the graph for: a key of `vidc hw list`; this machine if not given.
    #[arg(long, value_name = "KEY")]
    hw: Option<String>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Most memory, such as 12GiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<Bytes>,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    choose: ChooseArgs,
    /// A picture for an input of the graph.
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = pair)]
    inputs: Vec<Pair>,
    /// What to do with a picture whose sides are not those of the video.
    #[arg(long, value_enum, default_value = "stretch")]
    fit: FitArg,
    /// Set a parameter of the graph.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<Pair>,
    /// Give a value instead of computing it; a value of a loop has a leading axis of steps.
    #[arg(long = "feed", value_name = "VALUE=FILE.npy", value_parser = pair)]
    feeds: Vec<Pair>,
    /// Write a value.
    #[arg(long = "dump", value_name = "VALUE=FILE.npy", value_parser = pair)]
    dumps: Vec<Pair>,
    /// Go on from the progress that a stopped run saved beside the output.
    #[arg(long)]
    resume: bool,
    /// Check everything, run nothing.
    #[arg(long)]
    dry_run: bool,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    /// The video: .mp4, .gif, .png (one file a frame) or .npy.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    if args.threads > 0 {
        // Fails only if the pool is there already, which it is not before anything ran.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global();
    }
    let ready = prepare::prepare(args)?;
    if args.dry_run {
        let status = provision::status(args.runtime.as_deref())?;
        out.result(|| ready.text(&status), || ready.json(&status));
        return Ok(());
    }
    let located = provision::locate(args.runtime.as_deref(), &mut say)?;
    let runtime = Runtime::load(&located.path)?;
    let stop = Arc::new(AtomicBool::new(false));
    on_interrupt(&stop);
    let executor = Executor::open(&ready.folder, &runtime, options(args, &ready), stop)?;
    let mut progress = Progress::new();
    let outcome = executor.run(&ready.request, &mut |event| progress.event(event));
    progress.finish();
    let outcome = outcome.map_err(|d| explain(*d, &ready))?;
    let (report, kept) = write::outputs(args, &ready, &outcome, &located, &runtime)?;
    out.result(
        || write::text(&report, &ready) + &kept_text(&kept),
        || {
            json!({
                "written": report.outputs,
                "report": ready.report_path(),
                "kept": kept,
                "weights": { "source": report.weights.source, "random": report.weights.random },
                "choices": report.made_of.choices,
                "effects": report.made_of.effects,
                "predicted": report.made_of.predicted,
                "measured": report.measured,
            })
        },
    );
    Ok(())
}

fn options(args: &Args, ready: &Ready) -> SessionOptions {
    let provider = match ready.manifest.engine {
        Engine::OnnxRuntimeCpu => Provider::Cpu,
        Engine::OnnxRuntimeCuda => Provider::Cuda { device: 0 },
        Engine::TensorRt => Provider::TensorRt { device: 0, fp16: true, engine_cache: None },
    };
    SessionOptions { threads: args.threads, provider, ..SessionOptions::default() }
}

/// The first Ctrl-C stops at the next step, the second at once.
fn on_interrupt(stop: &Arc<AtomicBool>) {
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            #[expect(clippy::exit, reason = "the user asked twice; what was saved is on disk whole")]
            std::process::exit(130);
        }
        say("stopping at the next step; Ctrl-C again stops at once");
    };
    if let Err(e) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will stop at once, without saving: {e}");
    }
}

/// A provider that is missing gets the command that makes a plan without it.
fn explain(d: vidc::diag::Diagnostic, ready: &Ready) -> Failure {
    if d.code == "runtime/provider-missing" { d.help(prepare::other_plan(&ready.manifest)).into() } else { d.into() }
}
