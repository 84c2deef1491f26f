//! `vidc bench plan`: what a run of a prepared plan takes beside ONNX Runtime's own run calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use ndarray::Array3;
use serde::Serialize;
use serde_json::json;

use super::{command, machine};
use crate::common::libraries::{self, FetchArgs};
use crate::common::table::table;
use crate::common::{Done, Failure, Out};
use vidc::plan::Manifest;
use vidc::runtime::request::{RunOutcome, RunRequest};
use vidc::runtime::session::SessionOptions;
use vidc::runtime::{Keep, PrepareOptions, Prepared, Run};
use vidc::target;

/// Arguments of `plan`.
#[derive(clap::Args)]
pub(crate) struct PlanArgs {
    /// The plan, for a CPU.
    plan: PathBuf,
    /// Runs behind the first, which loads.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: u64,
    /// Keep every session loaded, also those that the plan unloads.
    #[arg(long)]
    keep: bool,
    /// Threads of one operator.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    #[command(flatten)]
    fetch: FetchArgs,
}

/// Where the time of one run went, in seconds.
#[derive(Clone, Copy, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit of each figure, as in run reports")]
struct Split {
    /// From the first step to the last.
    total_s: f64,
    /// Loading sessions.
    load_s: f64,
    /// Inside of ONNX Runtime's run calls.
    run_s: f64,
    /// Primitives between the models.
    host_s: f64,
    /// The rest: the executor.
    overhead_s: f64,
}

impl Split {
    fn of(outcome: &RunOutcome) -> Self {
        Self {
            total_s: outcome.total_s,
            load_s: outcome.load_s(),
            run_s: outcome.run_s(),
            host_s: outcome.host_s,
            overhead_s: outcome.overhead_s(),
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let ms = |s: f64| format!("{:.3} ms", s * 1e3);
        let share = format!("{:.2} %", self.overhead_s / self.run_s * 100.0);
        vec![name.into(), ms(self.total_s), ms(self.load_s), ms(self.run_s), ms(self.host_s), ms(self.overhead_s), share]
    }
}

/// Runs the command.
pub(crate) fn run(args: &PlanArgs, out: &Out) -> Done {
    let manifest = Manifest::read(&args.plan)?;
    let grey = manifest.inputs.iter().map(|i| (i.name.clone(), Array3::from_elem((i.fit.0 as usize, i.fit.1 as usize, 3), 128)));
    let request = RunRequest { inputs: grey.collect::<BTreeMap<_, _>>(), ..RunRequest::default() };
    let keep = if args.keep { Keep::Everything } else { Keep::AsPlanned };
    let options = PrepareOptions { session: SessionOptions { threads: args.threads, ..SessionOptions::default() }, keep, budget: None };
    let (runtime, _) = libraries::runtime(target::row(&manifest.provider)?, args.runtime.as_deref(), args.fetch)?;
    let prepared = Prepared::open(&runtime, &args.plan, manifest, options)?;
    let stop = AtomicBool::new(false);
    let one = || -> Result<Split, Failure> {
        let outcome = Run::new(&prepared, &request, &stop, &mut |_| {})?.finish()?;
        let split = Split::of(&outcome);
        prepared.reuse(outcome);
        Ok(split)
    };
    let first = one()?;
    let mut later = (0..args.rounds).map(|_| one()).collect::<Result<Vec<_>, _>>()?;
    later.sort_by(|a, b| a.overhead_s.total_cmp(&b.overhead_s));
    let (least, median, most) = (later[0], later[later.len() / 2], later[later.len() - 1]);
    let header = ["run", "in all", "loads", "models", "primitives", "executor", "executor / models"];
    let rows = || {
        let rows = [("first", first), ("later, least executor", least), ("later, median", median), ("later, most", most)];
        table(&header, &rows.map(|(name, split)| split.row(name)))
    };
    out.result(rows, || {
        json!({ "machine": machine(), "command": command(), "rounds": args.rounds, "first": first, "median": median, "least": least, "most": most })
    });
    Ok(())
}
