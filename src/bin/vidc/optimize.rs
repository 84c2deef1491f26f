//! `vidc optimize`: the operator level alone, for any ONNX model.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::common::args::{ChooseArgs, DimArgs};
use crate::common::render::open_dims;
use crate::common::table::table;
use crate::common::{Done, Out, target};
use vidc::import::onnx::{Imported, read_model};
use vidc::optimize::candidate::metadata_of;
use vidc::optimize::model::{Level, live, optimize};
use vidc::optimize::write::{Written, write};
use vidc::passes::manager::Debugging;
use vidc::passes::{PassRecord, Trace};
use vidc::runtime::session::SessionOptions;
use vidc::units::Bytes;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model: an ONNX file.
    model: PathBuf,
    /// The file to write; weights that change go beside it.
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// The device: a key of `vidc hw list`, or cpu for this machine.
    #[arg(long, value_name = "KEY", default_value = "cpu")]
    hw: String,
    #[command(flatten)]
    dims: DimArgs,
    /// How much may change: none, basic (constants, common and dead nodes), full. Every level computes the same.
    #[arg(long, value_enum, default_value = "full")]
    level: LevelArg,
    #[command(flatten)]
    choose: ChooseArgs,
}

/// [`Level`] as a word.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LevelArg {
    None,
    Basic,
    Full,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::None => Self::None,
            LevelArg::Basic => Self::Basic,
            LevelArg::Full => Self::Full,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let start = Instant::now();
    let machine = target::machine(&args.hw)?;
    let model = read_model(&args.model, &args.dims.bindings())?;
    let read = start.elapsed();
    let compiled = optimize(&model, &machine, &args.choose.choices(), args.level.into(), &Debugging::default())?;
    let passes = start.elapsed() - read;
    let written = write(&compiled.graph, &model.style, metadata_of(&SessionOptions::default()), &args.output)?;
    let done = Optimized {
        before: live(&model.graph).len(),
        after: live(&compiled.graph).len(),
        model: &model,
        trace: &compiled.trace,
        written: &written,
        seconds: [read, passes, start.elapsed() - read - passes].map(|d| d.as_secs_f64()),
    };
    out.result(|| done.text(), || done.json());
    Ok(())
}

struct Optimized<'a> {
    before: usize,
    after: usize,
    model: &'a Imported,
    trace: &'a Trace,
    written: &'a Written,
    /// Reading, passes, writing.
    seconds: [f64; 3],
}

impl Optimized<'_> {
    fn text(&self) -> String {
        let row = |r: &PassRecord| {
            let applied = r.remarks.iter().filter(|m| m.applied).count();
            vec![
                r.id.into(),
                format!("{} -> {}", r.nodes_before, r.nodes_after),
                applied.to_string(),
                format!("{:.2}", r.elapsed.as_secs_f64()),
            ]
        };
        let rows: Vec<Vec<String>> = self.trace.records.iter().map(row).collect();
        let hint = open_dims(&self.model.open_dims());
        let [read, passes, write] = self.seconds;
        format!(
            "{}\n{hint}{} operators -> {}; read {read:.2} s, passes {passes:.2} s, written {write:.2} s\nwrote {} ({} with weights)\n",
            table(&["pass", "nodes", "applied", "s"], &rows),
            self.before,
            self.after,
            self.written.model.display(),
            Bytes(self.written.bytes),
        )
    }

    fn json(&self) -> Value {
        json!({
            "output": self.written.model,
            "data": self.written.data,
            "bytes": self.written.bytes,
            "operators": { "before": self.before, "after": self.after, "written": self.written.nodes },
            "dims": self.model.dims,
            "seconds": { "read": self.seconds[0], "passes": self.seconds[1], "write": self.seconds[2] },
            "passes": self.trace.records,
        })
    }
}
