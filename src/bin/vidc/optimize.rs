//! `vidc optimize`: the operator level alone, for any ONNX model.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::common::args::{ChooseArgs, DimArgs, ProviderArgs, seconds};
use crate::common::clock::Clock;
use crate::common::libraries::{self, FetchArgs};
use crate::common::render::{kept_text, open_dims};
use crate::common::table::table;
use crate::common::{Done, Failure, Out, target};
use vidc::diag::Diagnostic;
use vidc::files::output::folder_of;
use vidc::hwdb::{DeviceKind, Machine};
use vidc::import::onnx::{ImportedModel, read_model};
use vidc::onnx::Style;
use vidc::optimize::answers::{answers, left_out};
use vidc::optimize::candidate::{metadata_of, runtime_defaults};
use vidc::optimize::choose::{CONSTANT_FOLDING, ChosenForm, FORMS, Form, choose};
use vidc::optimize::model::{Level, live, optimize};
use vidc::optimize::paired::Round;
use vidc::optimize::providers::providers;
use vidc::optimize::sequential::{Effort, ROUNDS};
use vidc::optimize::write::{Written, outputs, write};
use vidc::passes::{Choices, PassRecord, Trace};
use vidc::runtime::session::{Optimization, SessionOptions};
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
    provider: ProviderArgs,
    #[command(flatten)]
    dims: DimArgs,
    /// Who changes the model: vidc (nothing of ONNX Runtime's rewrites), layouts (vidc, then all of them but constant folding), both,
    /// runtime. The usual one is layouts on a CPU, vidc on a GPU.
    #[arg(long, value_name = "FORM", value_parser = FORMS.map(|f| f.key), conflicts_with = "measure")]
    form: Option<String>,
    /// How much vidc changes, with nothing of the runtime's rewrites: none, basic (constants, common and dead nodes), full. Every level
    /// computes the same.
    #[arg(long, value_enum, conflicts_with_all = ["measure", "form"])]
    level: Option<LevelArg>,
    /// Measure the forms of the model on this machine and keep the fastest; never one slower than ONNX Runtime's default.
    #[arg(long)]
    measure: bool,
    /// Threads of one operator while measuring; 0 lets ONNX Runtime decide.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "measure")]
    threads: usize,
    /// Rounds that count while measuring, at most: they end when every interval is narrow enough, or away from 1.
    #[arg(long, value_name = "N", default_value_t = ROUNDS, requires = "measure")]
    rounds: usize,
    /// Time for measuring; one round is always run.
    #[arg(long, value_name = "SECONDS", default_value = "100", value_parser = seconds, requires = "measure")]
    time: f64,
    /// The ONNX Runtime library to measure with.
    #[arg(long, value_name = "PATH", requires = "measure")]
    runtime: Option<PathBuf>,
    #[command(flatten)]
    fetch: FetchArgs,
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
    let outputs = outputs(&args.output)?;
    outputs.spare([&args.model])?;
    outputs.spare(target::named_files("", Some(&args.hw)))?;
    let machine = target::machine(&args.hw, &args.provider)?;
    let model = read_model(&args.model, &args.dims.bindings())?;
    outputs.spare(&model.files)?;
    let choices = answers(&model, &args.model, &machine, &args.choose.choices())?;
    let read = start.elapsed();
    let chosen = if args.measure { Some(measure(args, &model, &machine, &choices)?) } else { None };
    let form = chosen.as_ref().map_or_else(|| form(args, &machine), |c| FORMS[c.form]);
    let begin = start.elapsed();
    let compiled = optimize(&model, &machine, &choices, form.level, &form.debugging())?;
    let options = SessionOptions { providers: providers(&compiled.graph, &machine), ..form.options(args.threads) };
    let passes = start.elapsed().saturating_sub(begin);
    let written = write(&compiled.graph, &style(&model, &machine, &options), metadata_of(&options), &args.output)?;
    let done = Optimized {
        before: live(&model.graph).len(),
        after: live(&compiled.graph).len(),
        model: &model,
        trace: &compiled.trace,
        options: metadata_of(&options).into_iter().map(|e| (e.key, e.value)).collect(),
        written: &written,
        seconds: [read, passes, start.elapsed().saturating_sub(begin + passes)].map(|d| d.as_secs_f64()),
        chosen: chosen.as_ref(),
    };
    out.result(|| done.text(), || done.json());
    Ok(())
}

/// The form that was asked for, or the usual one.
fn form(args: &Args, machine: &Machine) -> Form {
    match (args.level, args.form.as_deref().and_then(Form::of_key)) {
        (Some(level), _) => Form { level: level.into(), ..FORMS[0] },
        (None, Some(form)) => form,
        (None, None) => Form::usual(machine.target),
    }
}

/// How the model is written for its session: a runtime that does not fold constants needs to know no shapes, and then holds fewer
/// buffers.
fn style(model: &ImportedModel, machine: &Machine, options: &SessionOptions) -> Style {
    let folds = options.optimization != Optimization::Disable && !options.disabled_optimizers.iter().any(|n| n == CONSTANT_FOLDING);
    let hides_shapes = machine.target.is_builtin() && !folds;
    Style { hides_shapes, ..model.style.clone() }
}

/// Writes every form into a folder of its own and measures them beside the original.
fn measure(args: &Args, model: &ImportedModel, machine: &Machine, choices: &Choices) -> Result<ChosenForm, Failure> {
    let mut clock = Clock::start(args.time);
    clock.show("writing the forms");
    let folder = folder_of(&args.output);
    let unwritable = |e| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", folder.display()));
    let temporary = tempfile::Builder::new().prefix(".vidc-").tempdir_in(folder).map_err(unwritable)?;
    let mut files = Vec::new();
    for (i, form) in FORMS.iter().enumerate() {
        let file = temporary.path().join(format!("{i}.onnx"));
        let compiled = optimize(model, machine, choices, form.level, &form.debugging())?;
        let options = SessionOptions { providers: providers(&compiled.graph, machine), ..form.options(args.threads) };
        write(&compiled.graph, &style(model, machine, &options), metadata_of(&options), &file)?;
        files.push((file, options));
    }
    let dims = args.dims.dims.iter().map(|(name, n)| (name.clone(), *n as u64)).collect();
    let runtime = libraries::runtime(machine.target, args.runtime.as_deref(), args.fetch)?.0;
    // What people have who do nothing: on a CPU that is ONNX Runtime's own provider.
    let usual = if machine.kind == DeviceKind::Cpu { vec![] } else { providers(&model.graph, machine) };
    let original = SessionOptions { providers: usual, ..runtime_defaults(args.threads) };
    let effort = Effort { within: Some(clock.within(0.0)), ..Effort::upto(args.rounds) };
    let watch = &mut |round: Round| clock.show(&format!("comparing, round {} of {} at most", round.number, round.most));
    Ok(choose(&runtime, (&args.model, original), &files, &dims, effort, watch)?)
}

struct Optimized<'a> {
    before: usize,
    after: usize,
    model: &'a ImportedModel,
    trace: &'a Trace,
    /// Session options that the model was made for, as they stand in its metadata.
    options: Vec<(String, String)>,
    written: &'a Written,
    /// Reading, passes, writing.
    seconds: [f64; 3],
    chosen: Option<&'a ChosenForm>,
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
        let hint = open_dims(&self.model.open_dims(), &left_out(&self.trace.records));
        let [read, passes, write] = self.seconds;
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let measured = self.chosen.map_or_else(String::new, measured_text);
        format!(
            "{}\n{measured}{hint}{} operators -> {}; read {read:.2} s, passes {passes:.2} s, written {write:.2} s\nsession options: {}\nwrote {} ({} with weights)\n{}",
            table(&["pass", "nodes", "applied", "s"], &rows),
            self.before,
            self.after,
            options.join(" "),
            self.written.model.display(),
            Bytes(self.written.bytes),
            kept_text(self.written.kept.as_slice()),
        )
    }

    fn json(&self) -> Value {
        json!({
            "output": self.written.model,
            "data": self.written.data,
            "kept": self.written.kept,
            "bytes": self.written.bytes,
            "operators": { "before": self.before, "after": self.after, "written": self.written.nodes },
            "dims": self.model.dims,
            "left_out": left_out(&self.trace.records),
            "options": self.options.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "seconds": { "read": self.seconds[0], "passes": self.seconds[1], "write": self.seconds[2] },
            "passes": self.trace.records,
            "measured": self.chosen,
        })
    }
}

fn measured_text(chosen: &ChosenForm) -> String {
    let row = |(i, r): (usize, &vidc::optimize::paired::CandidateTimes)| {
        let kept = if i == chosen.form + 1 { "kept" } else { "" };
        let ratio = format!("{:.3} ({:.3} to {:.3})", r.ratio.median, r.ratio.low, r.ratio.high);
        vec![r.name.clone(), format!("{:.4}", r.time_s.median), ratio, format!("{:.1e}", r.rel_l2), kept.into()]
    };
    let rows: Vec<Vec<String>> = chosen.measured.rows.iter().enumerate().map(row).collect();
    format!("{}\n", table(&["form", "s", "of the original's time", "error", ""], &rows))
}
