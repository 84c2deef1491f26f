//! `vidc run`: runs a graph on this machine, or a plan.
//!
//! Everything that can be wrong is looked at before the first kernel, cheapest first: the output's format, the graph, pictures and
//! arrays, weights, the plan, room in memory and on disk. `--dry-run` ends there and says what was found.
//!
//! `--repeat` runs one prepared plan several times at seeds that count up: what the plan lets stay loaded is loaded once.

mod outputs;
mod prepare;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::common::args::{Budget, ChooseArgs, Pair, ProviderArgs, SearchArgs, WeightsArgs, budget, pair};
use crate::common::libraries::{self, FetchArgs};
use crate::common::progress::Progress;
use crate::common::render::kept_text;
use crate::common::{Done, Failure, Out, say};
use outputs::Round;
use prepare::Ready;
use vidc::diag::Diagnostic;
use vidc::runtime::provision::{self, LocatedLibrary};
use vidc::runtime::report::RunReport;
use vidc::runtime::request::{Event, RunOutcome};
use vidc::runtime::run::Run;
use vidc::runtime::session::{Runtime, SessionOptions};
use vidc::runtime::{Keep, PrepareOptions, Prepared};

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
    provider: ProviderArgs,
    /// The index of the device on this machine, of several; the first if not given.
    #[arg(long, value_name = "N")]
    device: Option<u32>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Most memory, such as 12GiB, or `auto`: what is free now. A run that would need more goes on with a smaller plan.
    #[arg(long, value_name = "SIZE", value_parser = budget)]
    memory: Option<Budget>,
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
    /// Draw noise with this seed instead of the graph's own; the plan is the same for every seed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Run so many times, at seeds that count up from `--seed`; outputs and dumps are named NAME.SEED.EXT.
    #[arg(long, value_name = "N", requires = "seed", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    repeat: Option<u64>,
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
    #[command(flatten)]
    fetch: FetchArgs,
    /// The video: .mp4, .gif, .png (one file a frame) or .npy.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    crate::give_back_at_once();
    if args.threads > 0 {
        // Fails only if the pool is there already, which it is not before anything ran.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global();
    }
    let mut ready = prepare::prepare(args)?;
    if args.dry_run {
        let status = provision::status(args.runtime.as_deref())?;
        out.result(|| ready.text(&status), || ready.json(&status));
        return Ok(());
    }
    let row = vidc::target::row(&ready.manifest.provider)?;
    let (runtime, located) = libraries::runtime(row, args.runtime.as_deref(), args.fetch)?;
    let stop = Arc::new(AtomicBool::new(false));
    on_interrupt(&stop);
    let mut prepared = open(args, &runtime, &ready)?;
    let mut done = Vec::new();
    let mut resume = ready.request.resume.take();
    for round in ready.rounds.clone() {
        if args.repeat.is_some() {
            say(&format!("run {} of {}: {}", done.len() + 1, ready.rounds.len(), round.output.display()));
        }
        (ready.request.seed, ready.request.save) = (round.seed, Some(round.progress_path()));
        ready.request.resume = resume.take();
        let mut saved = false;
        let outcome = loop {
            match execute(&prepared, &ready, &stop, &mut saved) {
                Ok(outcome) => break outcome,
                Err(d) if d.code == "runtime/out-of-memory" && ready.next() => {
                    say(&format!("note: {}: going on with a smaller plan", d.message));
                    // What the larger one holds goes first.
                    drop(prepared);
                    prepared = open(args, &runtime, &ready)?;
                    prepare::go_on(&mut ready, &round, saved)?;
                }
                Err(d) => return Err(explain(*d, &ready, &round, args)),
            }
        };
        done.push(Ran::of(args, &ready, &round, &outcome, &located, &runtime)?);
        prepared.reuse(outcome);
    }
    let single = args.repeat.is_none();
    out.result(
        || done.iter().map(|r| r.text(&ready)).collect(),
        || match done.first() {
            Some(only) if single => only.json(),
            _ => json!({ "runs": done.iter().map(Ran::json).collect::<Vec<_>>() }),
        },
    );
    Ok(())
}

fn open(args: &Args, runtime: &Runtime, ready: &Ready) -> vidc::diag::Result<Prepared> {
    let options = PrepareOptions { session: options(args), keep: Keep::AsPlanned, budget: ready.budget };
    Prepared::open(runtime, &ready.folder, ready.manifest.clone(), options)
}

/// A run that is over.
struct Ran {
    round: Round,
    report: RunReport,
    kept: Vec<PathBuf>,
}

impl Ran {
    /// Writes what the run made.
    fn of(
        args: &Args,
        ready: &Ready,
        round: &Round,
        outcome: &RunOutcome,
        located: &LocatedLibrary,
        runtime: &Runtime,
    ) -> Result<Self, Failure> {
        let (report, kept) = write::outputs(args, ready, round, outcome, located, runtime)?;
        Ok(Self { round: round.clone(), report, kept })
    }

    fn text(&self, ready: &Ready) -> String {
        write::text(&self.report, ready) + &kept_text(&self.kept)
    }

    fn json(&self) -> serde_json::Value {
        let report = &self.report;
        json!({
            "written": report.outputs,
            "report": self.round.report_path(),
            "kept": self.kept,
            "weights": { "source": report.weights.source, "random": report.weights.random },
            "parameters": report.made_of.parameters,
            "choices": report.made_of.choices,
            "effects": report.made_of.effects,
            "predicted": report.made_of.predicted,
            "measured": report.measured,
        })
    }
}

/// `saved` is set once the run has saved the state of a loop.
fn execute(prepared: &Prepared, ready: &Ready, stop: &AtomicBool, saved: &mut bool) -> vidc::diag::Result<RunOutcome> {
    let mut progress = Progress::new();
    let mut events = |event| {
        *saved |= matches!(event, Event::Step(..));
        progress.event(event);
    };
    let outcome = Run::new(prepared, &ready.request, stop, &mut events).and_then(Run::finish);
    progress.finish();
    outcome
}

/// What the plan does not say of its sessions.
fn options(args: &Args) -> SessionOptions {
    SessionOptions { threads: args.threads, ..SessionOptions::default() }
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

/// A provider that is missing gets the command that makes a plan without it; one of several runs the words that go on with it.
fn explain(d: Diagnostic, ready: &Ready, round: &Round, args: &Args) -> Failure {
    match (d.code, args.seed.and(round.seed)) {
        ("runtime/provider-missing", _) => d.help(prepare::other_plan(&ready.manifest)).into(),
        ("run/interrupted", Some(seed)) if args.repeat.is_some() && round.progress_path().exists() => {
            let help = format!("--seed {seed} --resume -o {} in place of --repeat goes on from there", round.output.display());
            Diagnostic::new("run/interrupted", d.message).help(help).into()
        }
        _ => d.into(),
    }
}
