//! `vidc bench memory`: what a plan predicts of its memory, and what a process of its own needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{command, load, machine};
use crate::common::table::table;
use crate::common::{Done, Failure, Out};
use vidc::cost::pipeline::Predicted;
use vidc::diag::Diagnostic;
use vidc::optimize::plan_memory::{PlanMemory, measure};
use vidc::plan::Manifest;
use vidc::units::Bytes;

/// Arguments of `memory`.
#[derive(clap::Args)]
pub(crate) struct MemoryArgs {
    /// The plans, for a CPU.
    #[arg(required = true)]
    plans: Vec<PathBuf>,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    /// Measure the one plan in this process, and say so in JSON.
    #[arg(long, hide = true)]
    here: bool,
}

/// Runs the command.
pub(crate) fn run(args: &MemoryArgs, out: &Out) -> Done {
    crate::give_back_at_once();
    let library = load(args.runtime.as_deref())?.path().to_owned();
    if args.here {
        let memory = measure(&library, &args.plans[0])?;
        serde_json::to_writer(std::io::stdout().lock(), &memory).map_err(|e| failed(&args.plans[0], &e.to_string()))?;
        return Ok(());
    }
    let measured = args.plans.iter().map(|plan| Ok((plan, Manifest::read(plan)?, child(&library, plan)?)));
    let measured = measured.collect::<Result<Vec<_>, Failure>>()?;
    let text = || measured.iter().map(|(plan, manifest, memory)| report(plan, manifest, memory)).collect::<Vec<_>>().join("\n");
    let plans = || measured.iter().map(|(plan, manifest, m)| json!({ "plan": plan, "predicted": manifest.predicted, "measured": m }));
    out.result(text, || json!({ "machine": machine(), "command": command(), "plans": plans().collect::<Vec<_>>() }));
    Ok(())
}

fn failed(plan: &Path, why: &str) -> Diagnostic {
    Diagnostic::new("measure/child", format!("the memory of `{}` could not be measured", plan.display())).note(why)
}

fn child(library: &Path, plan: &Path) -> Result<PlanMemory, Failure> {
    let fail = |why: String| Failure::from(Box::new(failed(plan, &why)));
    let program = std::env::current_exe().map_err(|e| fail(e.to_string()))?;
    let mut command = Command::new(program);
    command.args(["bench", "memory", "--here", "--runtime"]).arg(library).arg(plan).env("ORT_DISABLE_TELEMETRY", "1");
    let output = command.output().map_err(|e| fail(e.to_string()))?;
    if !output.status.success() {
        return Err(fail(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| fail(format!("the answer cannot be read: {e}")))
}

fn report(plan: &Path, manifest: &Manifest, memory: &PlanMemory) -> String {
    let foretold: Option<Predicted> = manifest.predicted.clone().and_then(|p| serde_json::from_value(p).ok());
    let predicted = foretold.as_ref().map_or(Bytes(0), Predicted::peak);
    let ratio = memory.needed.0 as f64 / predicted.0.max(1) as f64;
    let head = format!(
        "{}: predicted {predicted}, needed {} (x{ratio:.3}), of which {} were resident at once, {} without a plan\n",
        plan.display(),
        memory.needed,
        memory.resident,
        memory.empty
    );
    let stages = foretold.map(|p| p.stages).unwrap_or_default();
    let transient = |name: &str| stages.iter().filter(|s| s.model == name).map(|s| s.transient_bytes).max().map(Bytes);
    let rows = memory.sessions.iter().map(|(name, s)| {
        let words = [Some(s.weights), Some(s.kept), transient(name), Some(s.activations)];
        std::iter::once(name.clone()).chain(words.map(|b| b.map_or_else(|| "-".into(), |b| b.to_string()))).collect()
    });
    let sessions = table(&["session", "weights", "kept", "predicted transient", "activations"], &rows.collect::<Vec<_>>());
    let parts: Vec<Vec<String>> =
        memory.parts.iter().map(|p| vec![p.name.clone(), p.most.to_string(), p.after.to_string(), p.of_files.to_string()]).collect();
    let pool = format!("pool: {} in use at most, {} of memory\n", memory.pool.most, memory.pool.backed);
    head + &sessions + &pool + &table(&["part", "resident at most", "after it", "of files"], &parts)
}
