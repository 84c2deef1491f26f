//! `vidc hw check`: predicted beside measured, operator by operator.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::probe::class_name;
use crate::bench::load;
use crate::common::args::{DimArgs, ProviderArgs};
use crate::common::table::table;
use crate::common::{Done, Out, say, target};
use vidc::hwdb::Machine;
use vidc::optimize::probe::check::{Checked, Row, by_class, check, median_error};
use vidc::units::Time;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models as they were exported; they are compiled as `vidc optimize` does, with weights that are made up.
    #[arg(required = true, value_name = "MODEL.onnx")]
    models: Vec<PathBuf>,
    /// The device: cpu for this machine, or a profile of it.
    #[arg(long, value_name = "KEY", default_value = "cpu")]
    hw: String,
    #[command(flatten)]
    dims: DimArgs,
    /// Threads of one operator; as many as there are cores if not given.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// How long to run each model.
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    time: u64,
    /// Show each operator.
    #[arg(long)]
    all: bool,
    /// The ONNX Runtime library to measure.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let machine = target::machine(&args.hw, &ProviderArgs::default())?;
    target::note_doubts(&machine);
    let runtime = load(args.runtime.as_deref())?;
    let mut models = Vec::new();
    for path in &args.models {
        say(&format!("running {}", path.display()));
        let found = check(&runtime, &machine, path, &args.dims.bindings(), args.threads, args.time as f64)?;
        models.push((path, found));
    }
    let rows: Vec<Row> = models.iter().flat_map(|(_, c)| c.rows.clone()).collect();
    out.result(|| text(args, &machine, &models, &rows), || result_json(&machine, &models, &rows));
    Ok(())
}

fn seconds(s: f64) -> String {
    Time::from_secs(s).to_string()
}

fn percent(x: f64) -> String {
    format!("{:+.1} %", x * 100.0)
}

fn text(args: &Args, machine: &Machine, models: &[(&PathBuf, Checked)], rows: &[Row]) -> String {
    let mut out = format!("figures of {}: {}\n\n", machine.name, machine.provenance());
    if args.all {
        let row = |r: &Row| {
            vec![
                r.node.clone(),
                r.op.clone(),
                class_name(r.class),
                r.output.clone(),
                seconds(r.measured),
                seconds(r.predicted),
                percent(r.error()),
            ]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
        out += &table(&["node", "operator", "class", "output", "measured", "predicted", "off"], &rows);
        out.push('\n');
    }
    let row = |(class, (count, measured, predicted, error)): (vidc::hwdb::Family, (usize, f64, f64, f64))| {
        vec![
            class_name(class),
            count.to_string(),
            seconds(measured),
            seconds(predicted),
            percent(predicted / measured - 1.0),
            percent(error),
        ]
    };
    let classes: Vec<Vec<String>> = by_class(rows).into_iter().map(row).collect();
    out += &table(&["kernels", "operators", "measured", "predicted", "off", "median error"], &classes);
    out.push('\n');
    let row = |(path, c): &(&PathBuf, Checked)| {
        vec![
            path.display().to_string(),
            c.rows.len().to_string(),
            percent(median_error(&c.rows)),
            seconds(c.measured),
            seconds(c.predicted),
            percent(c.predicted / c.measured - 1.0),
        ]
    };
    let listed: Vec<Vec<String>> = models.iter().map(row).collect();
    out += &table(&["model", "operators", "median error", "a run", "predicted", "off"], &listed);
    let unknown: usize = models.iter().map(|(_, c)| c.unknown).sum();
    let left = if unknown == 0 {
        String::new()
    } else {
        format!("; {unknown} more are of no kind that is predicted, so that runs are not either")
    };
    out + &format!("\n{} operators, median error {}{left}\n", rows.len(), percent(median_error(rows)))
}

fn result_json(machine: &Machine, models: &[(&PathBuf, Checked)], rows: &[Row]) -> Value {
    let model = |(path, c): &(&PathBuf, Checked)| {
        json!({
            "model": path,
            "operators": c.rows,
            "unknown": c.unknown,
            "median_error": median_error(&c.rows),
            "measured_s": c.measured,
            "predicted_s": c.predicted,
            "load_s": c.load,
        })
    };
    json!({
        "hw": machine.key,
        "provenance": machine.provenance(),
        "models": models.iter().map(model).collect::<Vec<_>>(),
        "operators": rows.len(),
        "median_error": median_error(rows),
    })
}
