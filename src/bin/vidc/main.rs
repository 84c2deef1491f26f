//! The command line of vidc: parses arguments, calls the library, renders. One file a subcommand; what they share is in `common`.
//!
//! Exit status: 0 done, 1 bad input, 2 usage, 3 something outside is missing or nothing fits, 101 a bug of vidc, 130 stopped.

mod bench;
mod cache;
mod check;
mod common;
mod compile;
mod diff;
mod doctor;
mod estimate;
mod explain;
mod explain_code;
mod fit;
mod graph;
mod hw;
mod import;
mod inspect;
mod optimize;
mod run;
mod runtime;
mod tune;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use common::{Failure, Format, Out, render};

/// A search compiles hundreds of graphs of thousands of small nodes; a quarter of its time was the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// From now on what is freed goes back to the system at once, and not when something else is asked for. A run asks for little between its
/// calls, so that what the program had freed before would count as needed all along. A search is slower for it.
#[allow(unsafe_code, reason = "the allocator is a C library")]
pub(crate) fn give_back_at_once() {
    /// `mi_option_purge_delay` in milliseconds (mimalloc.h of versions 2 and 3), which the crate has no name for.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number that the allocator reads; may be called at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

/// Compiles video-diffusion pipelines for the machine you have: tunes, proves, predicts and runs them on ONNX Runtime.
#[derive(Parser)]
#[command(name = "vidc", version, max_term_width = 120)]
struct Cli {
    /// How results are written to stdout; progress and logs go to stderr.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Search the best plan of a graph for a device and say what it costs.
    Tune(tune::Args),
    /// Lower a graph to a plan directory.
    Compile(compile::Args),
    /// Run a graph on this machine, or a plan.
    Run(Box<run::Args>),
    /// What fits on a device, or which devices take a job.
    Fit(fit::Args),
    /// Cost of given choices, without a search.
    Estimate(estimate::Args),
    /// What each pass did, declined, and why; who is alive at the peak of memory.
    Explain(explain::Args),
    /// What a diagnostic code means.
    ExplainCode(explain_code::Args),
    /// Rewrite an ONNX model for a device: the operator level alone, for any model.
    Optimize(optimize::Args),
    /// Validate a graph or a plan and list its values.
    Check(check::Args),
    /// Draw a graph.
    Graph(graph::Args),
    /// Look inside an ONNX model, or the models of a graph or a plan.
    Inspect(inspect::Args),
    /// What differs between two ONNX models, or between the models of two graphs.
    Diff(diff::Args),
    /// Make a graph of a diffusers folder.
    Import(import::Args),
    /// Hardware profiles.
    Hw {
        #[command(subcommand)]
        command: hw::Command,
    },
    /// The ONNX Runtime library.
    Runtime {
        #[command(subcommand)]
        command: runtime::Command,
    },
    /// Measure models against each other, and this machine.
    Bench {
        #[command(subcommand)]
        command: bench::Command,
    },
    /// Plans that `vidc run GRAPH` keeps.
    Cache {
        #[command(subcommand)]
        command: cache::Command,
    },
    /// What a bug report should say: versions, machine, library, free disk and memory.
    Doctor,
}

fn main() -> ExitCode {
    let telemetry = vidc::runtime::ffi::disable_telemetry();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are such an error too; a closed pipe is no reason to fail.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let out = Out::new(cli.format);
    std::panic::set_hook(Box::new(render::panicked));
    common::log();
    let result = catch_unwind(AssertUnwindSafe(|| {
        telemetry?;
        dispatch(cli.command, &out)
    }));
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Failure::Usage(message))) => {
            let _ = Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message).print();
            ExitCode::from(2)
        }
        Ok(Err(Failure::Found(found))) => ExitCode::from(render::report(&found, cli.format)),
        Err(_) => ExitCode::from(render::bug(cli.format)),
    }
}

fn dispatch(command: Command, out: &Out) -> common::Done {
    match command {
        Command::Tune(args) => tune::run(&args, out),
        Command::Compile(args) => compile::run(&args, out),
        Command::Run(args) => run::run(&args, out),
        Command::Fit(args) => fit::run(&args, out),
        Command::Estimate(args) => estimate::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
        Command::ExplainCode(args) => explain_code::run(&args, out),
        Command::Optimize(args) => optimize::run(&args, out),
        Command::Check(args) => check::run(&args, out),
        Command::Graph(args) => graph::run(&args, out),
        Command::Inspect(args) => inspect::run(&args, out),
        Command::Diff(args) => diff::run(&args, out),
        Command::Import(args) => import::run(&args, out),
        Command::Hw { command } => hw::run(&command, out),
        Command::Runtime { command } => runtime::run(&command, out),
        Command::Bench { command } => bench::run(&command, out),
        Command::Cache { command } => cache::run(&command, out),
        Command::Doctor => doctor::run(out),
    }
}
