//! `vidc bench`: models measured side by side on this machine, how fast it multiplies, what running a plan adds, and test footage.

mod memory;
mod model;
mod plan;
mod rates;
mod scenarios;

use std::path::Path;

use serde_json::{Value, json};

use crate::common::{Done, Failure, Out, say};
use vidc::diag::Diagnostic;
use vidc::hwdb::detect::Host;
use vidc::optimize::peak;
use vidc::runtime::provision;
use vidc::runtime::session::Runtime;

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Measure forms of one model against the first: time, memory, kernels, error.
    Model(model::ModelArgs),
    /// How fast this machine multiplies matrices and convolves.
    Rates(rates::RatesArgs),
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

/// Runs the command.
pub(crate) fn run(command: &Command, out: &Out) -> Done {
    match command {
        Command::Model(args) => model::run(args, out),
        Command::Rates(args) => rates::run(args, out),
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

/// This machine, for JSON.
pub(crate) fn machine() -> Value {
    let host = Host::detect();
    json!({ "model": host.model, "cores": host.cores, "memory_bytes": host.memory, "avx2": host.avx2, "avx512": host.avx512 })
}

/// The command as it was typed.
pub(crate) fn command() -> String {
    let args = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    format!("vidc {args}")
}

/// This program as the process that measures memory.
fn peak_process() -> Result<peak::ChildCommand, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Diagnostic::new("measure/child", "this program does not know where it lies").note(e.to_string()))?;
    Ok(peak::ChildCommand { program, args: vec!["bench".into(), "peak".into()] })
}
