//! `vidc explain`: what each pass did to each model, what it declined, and why; the knobs; who is alive at the peak of memory.

mod memory;
mod picture;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::args::{ChooseArgs, DimArgs, GraphArgs, ProviderArgs, any_pass, pass};
use crate::common::render::{open_dims, peak_text};
use crate::common::table::table;
use crate::common::{Done, Failure, Out, say, target};
use memory::Memory;
use vidc::diag::Diagnostic;
use vidc::files::output::{Name, Outputs, check_extension, check_new_folder, put, unknown_writer};
use vidc::files::{open_regular, read_start, word};
use vidc::hwdb::Machine;
use vidc::import::onnx::read_model;
use vidc::ir::{OpGraph, Program, text};
use vidc::optimize::answers::{answers, knobs, left_out};
use vidc::optimize::inspect::{Peak, peak};
use vidc::optimize::model::{Level, live_part, optimize};
use vidc::passes::manager::{Debugging, is_bound};
use vidc::passes::{Checks, Knob, Leveled, PassCx, PassRecord, Planned, Property, Remark, Rewriter, Status, operators, order};
use vidc::tuner::space::{Space, Wanted};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// The device: a key of `vidc hw list`, or cpu for this machine.
    #[arg(long, value_name = "KEY")]
    hw: String,
    #[command(flatten)]
    provider: ProviderArgs,
    #[command(flatten)]
    dims: DimArgs,
    #[command(flatten)]
    choose: ChooseArgs,
    /// Every remark of this pass.
    #[arg(long, value_name = "ID", value_parser = any_pass)]
    pass: Option<String>,
    /// The widest moments of memory: who is alive and why, and which answers would need less.
    #[arg(long)]
    memory: bool,
    /// A picture of memory over the run, by cause (.svg); of a graph.
    #[arg(short, long, value_name = "FILE", requires = "memory")]
    output: Option<PathBuf>,
    /// Leave the passes after this one out.
    #[arg(long, value_name = "ID", value_parser = pass)]
    stop_after: Option<String>,
    /// Leave a pass out.
    #[arg(long, value_name = "ID", value_parser = any_pass)]
    disable: Vec<String>,
    /// Write the text of the pipeline and of each model before the passes and after each pass that changed it.
    #[arg(long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// The rules of every pass with how often they applied.
    #[arg(long)]
    verbose: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let machine = target::machine(&args.hw, &args.provider)?;
    if let Some(folder) = &args.dump_dir {
        check_new_folder(folder, folder)?;
    }
    let model = target::model(&args.graph.graph);
    if let Some(file) = &args.output {
        if model.is_some() {
            return Err(Failure::Usage("-o draws memory over the run of a graph; this is a model".into()));
        }
        check_extension(file, &["svg"])?;
        let mut outputs = Outputs::default();
        outputs.file(file, Name::Given, &unknown_writer)?;
        outputs.spare(target::named_files(&args.graph.graph, Some(&args.hw)))?;
    }
    target::check_kind(model.is_some(), &args.graph.set, &args.dims)?;
    let explained = match model {
        Some(path) => of_model(args, path, &machine)?,
        None => of_graph(args, &machine)?,
    };
    if let (Some(file), Some(memory)) = (&args.output, &explained.memory) {
        let svg = picture::svg(&format!("{} on {}", explained.name, machine.name), &memory.timeline)?;
        let kept = put(file, &unknown_writer, |w| w.write_all(svg.as_bytes()))?;
        kept.iter().for_each(|old| say(&format!("note: kept what was there as {}", old.display())));
    }
    let shown = Shown { args, machine: &machine, explained: &explained };
    out.result(|| shown.text(), || shown.json());
    Ok(())
}

/// What there is to say of a graph or a model.
struct Explained {
    /// `graph` or `model`.
    kind: &'static str,
    name: String,
    knobs: Vec<Knob>,
    records: Vec<PassRecord>,
    /// Of a model.
    peaks: Vec<Peak>,
    /// Of a graph.
    memory: Option<Memory>,
    /// Where each model is declared.
    places: BTreeMap<String, String>,
    /// Dims that are not bound.
    open: Vec<String>,
}

fn of_graph(args: &Args, machine: &Machine) -> Result<Explained, Failure> {
    let written = target::program(&args.graph)?;
    let planned = Planned::of(&written, machine, &debugging(args))?;
    let choices = planned.given(&args.choose.choices());
    let knobs = Space::of(&planned, Wanted { fixed: &choices, unmeasured: true })?.knobs;
    if let Some(folder) = &args.dump_dir {
        dump_pipeline(written, &planned.cx(&choices), folder)?;
        for (name, graph) in planned.arranged(&choices, Checks::Fast)?.sessions()? {
            dump(&name, graph, &planned.cx(&choices), folder)?;
        }
    }
    let lowered = planned.compile(&choices, Checks::Full)?;
    let records = lowered.trace().records;
    let memory = if args.memory { Some(memory::of(&planned, &lowered, &choices)?) } else { None };
    let places = planned.pipeline.models.iter().filter_map(|(name, m)| Some((name.clone(), m.span.as_ref()?.to_string()))).collect();
    let name = planned.pipeline.name.clone();
    Ok(Explained { kind: "graph", name, knobs, records, peaks: Vec::new(), memory, places, open: Vec::new() })
}

fn of_model(args: &Args, path: &Path, machine: &Machine) -> Result<Explained, Failure> {
    let model = read_model(path, &args.dims.bindings())?;
    let choices = answers(&model, path, machine, &args.choose.choices())?;
    let name = path.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    if let Some(folder) = &args.dump_dir {
        // What the file calls its graph may be no name of a folder.
        dump(&name, model.graph.clone(), &PassCx { machine, choices: &choices, debugging: &debugging(args) }, folder)?;
    }
    let bound = is_bound(&live_part(&model.graph));
    let knobs = knobs(&model, machine)?;
    let compiled = optimize(&model, machine, &choices, Level::Full, &debugging(args))?;
    let peaks = if args.memory && bound { vec![peak(&name, &live_part(&compiled.graph))?] } else { Vec::new() };
    let open = model.open_dims();
    let named = |m: Remark| Remark { unit: name.clone(), ..m };
    let record = |r: PassRecord| PassRecord { unit: name.clone(), remarks: r.remarks.into_iter().map(named).collect(), ..r };
    let records = compiled.trace.records.into_iter().map(record).collect();
    Ok(Explained { kind: "model", name, knobs, records, peaks, memory: None, places: BTreeMap::new(), open })
}

fn debugging(args: &Args) -> Debugging {
    Debugging { stop_after: args.stop_after.clone(), disable: args.disable.clone() }
}

struct Shown<'a> {
    args: &'a Args,
    machine: &'a Machine,
    explained: &'a Explained,
}

impl Shown<'_> {
    fn text(&self) -> String {
        if let Some(pass) = &self.args.pass {
            return self.remarks(pass);
        }
        if self.args.memory {
            return self.peaks();
        }
        let row = |r: &PassRecord| {
            let applied = r.remarks.iter().filter(|m| m.applied).count();
            let nodes = if r.nodes_before == r.nodes_after {
                r.nodes_after.to_string()
            } else {
                format!("{} -> {}", r.nodes_before, r.nodes_after)
            };
            vec![r.unit.clone(), r.id.into(), status(r.status).into(), nodes, applied.to_string(), (r.remarks.len() - applied).to_string()]
        };
        let mut out = format!("{} on {} ({})\n\n", self.explained.name, self.machine.name, self.machine.key);
        out += &table(
            &["model", "pass", "status", "nodes", "applied", "declined"],
            &self.explained.records.iter().map(row).collect::<Vec<_>>(),
        );
        if self.args.verbose {
            let _ = write!(out, "\n{}", self.rules());
        }
        out += &open_dims(&self.explained.open, &left_out(&self.explained.records));
        let knob = |k: &Knob| vec![k.id.to_string(), k.words().join(" | "), effect(k).into(), k.about.clone()];
        let knobs: Vec<Vec<String>> = self.explained.knobs.iter().map(knob).collect();
        if !knobs.is_empty() {
            let _ = write!(out, "\n{}", table(&["knob", "answers, the plain one first", "effect", "what it decides"], &knobs));
        }
        out
    }

    /// Who is alive when memory is at its peak.
    fn peaks(&self) -> String {
        if let Some(memory) = &self.explained.memory {
            return memory.text();
        }
        if self.explained.peaks.is_empty() {
            return format!("{}: unknown\n{}", self.explained.name, open_dims(&self.explained.open, &left_out(&self.explained.records)));
        }
        self.explained.peaks.iter().map(peak_text).collect()
    }

    /// Every remark of one pass.
    fn remarks(&self, pass: &str) -> String {
        let of_pass = self.explained.records.iter().filter(|r| r.id == pass);
        let rows: Vec<Vec<String>> = of_pass.flat_map(|r| &r.remarks).map(|m| self.remark_row(m)).collect();
        let info = order().iter().map(Leveled::info).find(|i| i.id == pass).map_or("", |i| i.summary);
        if rows.is_empty() {
            return format!("{pass}: {info}\nit found nothing to do here\n");
        }
        format!("{pass}: {info}\n\n{}", table(&["", "model", "site", "rule", "facts", "knob", "declared at"], &rows))
    }

    fn remark_row(&self, m: &Remark) -> Vec<String> {
        let facts: Vec<String> = m.why.facts.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let done = if m.applied { "applied" } else { "declined" };
        vec![
            done.into(),
            m.unit.clone(),
            m.site.clone(),
            m.why.rule.into(),
            facts.join(" "),
            m.knob.clone().unwrap_or_default(),
            self.place(&m.unit),
        ]
    }

    /// Where the model of an instance is declared.
    fn place(&self, unit: &str) -> String {
        let name = unit.split('.').next().unwrap_or(unit);
        self.explained.places.get(name).cloned().unwrap_or_default()
    }

    /// How often each rule applied and was declined.
    fn rules(&self) -> String {
        let mut counts: BTreeMap<(usize, &str, &str, bool), (usize, &str)> = BTreeMap::new();
        for (i, record) in self.explained.records.iter().enumerate() {
            for m in &record.remarks {
                let entry = counts.entry((i, record.id, m.why.rule, m.applied)).or_insert((0, m.site.as_str()));
                entry.0 += 1;
            }
        }
        let row = |((i, id, rule, applied), (n, site)): (&(usize, &str, &str, bool), &(usize, &str))| {
            let done = if *applied { "applied" } else { "declined" };
            vec![
                self.explained.records[*i].unit.clone(),
                (*id).to_owned(),
                (*rule).to_owned(),
                done.into(),
                n.to_string(),
                (*site).to_owned(),
            ]
        };
        table(&["model", "pass", "rule", "", "times", "first at"], &counts.iter().map(row).collect::<Vec<_>>())
    }

    fn json(&self) -> Value {
        let wanted = |r: &&PassRecord| self.args.pass.as_ref().is_none_or(|p| p == r.id);
        let e = self.explained;
        let mut document = json!({
            "hw": self.machine.key,
            "passes": e.records.iter().filter(wanted).collect::<Vec<_>>(),
            "knobs": e.knobs,
        });
        document["memory"] = e.memory.as_ref().map_or_else(|| json!(e.peaks), |m| json!(m));
        document[e.kind] = e.name.clone().into();
        if e.kind == "model" {
            document["open_dims"] = e.open.clone().into();
        }
        document
    }
}

fn status(s: Status) -> &'static str {
    match s {
        Status::Changed => "changed",
        Status::Unchanged => "unchanged",
        Status::Disabled => "disabled",
        Status::Skipped => "skipped: sizes are not bound",
    }
}

fn effect(k: &Knob) -> &'static str {
    match k.effect() {
        vidc::passes::Effect::Exact => "exact",
        vidc::passes::Effect::Rounding => "rounding",
        vidc::passes::Effect::Approximate => "approximate",
    }
}

/// The first line of the texts in `--dump-dir`, by which they are known as vidc's.
const HEADER: &str = "# written by `vidc explain --dump-dir`";

/// Did `--dump-dir` write this file?
fn dumped(path: &Path) -> Result<(), String> {
    let start = open_regular(path).and_then(|(mut file, len)| read_start(path, &mut file, len.min(HEADER.len() as u64)));
    if start.is_ok_and(|s| s == HEADER.as_bytes()) { Ok(()) } else { Err("`--dump-dir` did not write it".into()) }
}

/// Writes `NAME/00-bound.txt` and `NAME/NN-PASS.txt` for each pass that changed the model.
fn dump(name: &str, mut graph: OpGraph, cx: &PassCx<'_>, folder: &Path) -> Result<(), Failure> {
    let home = new_home(folder, name)?;
    write_dump(&home, "00-bound.txt", &text::annotated(&graph))?;
    let bound = is_bound(&graph);
    for (i, pass) in operators().into_iter().enumerate() {
        let info = pass.info();
        if is_disabled(cx, info.id) || (!bound && info.requires.contains(&Property::Bound)) {
            continue;
        }
        let mut rw = Rewriter::new(name, &mut graph);
        pass.run(&mut rw, cx)?;
        if rw.finish().iter().any(|r| r.applied) {
            write_dump(&home, &format!("{:02}-{}.txt", i + 1, info.id), &text::annotated(&graph))?;
        }
        if cx.debugging.stop_after.as_deref() == Some(info.id) {
            break;
        }
    }
    Ok(())
}

/// Writes `pipeline/00-written.txt` and `pipeline/NN-PASS.txt` for each pass that changed the program.
fn dump_pipeline(mut program: Program, cx: &PassCx<'_>, folder: &Path) -> Result<(), Failure> {
    let home = new_home(folder, "pipeline")?;
    write_dump(&home, "00-written.txt", &program.pipeline.to_string())?;
    let name = program.pipeline.name.clone();
    for (i, pass) in order().into_iter().enumerate() {
        let Leveled::Pipeline(pass) = pass else { continue };
        if is_disabled(cx, pass.info().id) {
            continue;
        }
        let mut rw = Rewriter::new(&name, &mut program);
        pass.run(&mut rw, cx)?;
        if rw.finish().iter().any(|r| r.applied) {
            write_dump(&home, &format!("{:02}-{}.txt", i + 1, pass.info().id), &program.pipeline.to_string())?;
        }
    }
    Ok(())
}

fn is_disabled(cx: &PassCx<'_>, id: &str) -> bool {
    cx.debugging.disable.iter().any(|d| d == id)
}

fn new_home(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let home = folder.join(word(name));
    std::fs::create_dir_all(&home).map_err(|e| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", home.display())))?;
    Ok(home)
}

fn write_dump(home: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let kept = put(&home.join(name), &dumped, |w| write!(w, "{HEADER}\n{text}"))?;
    kept.iter().for_each(|old| say(&format!("note: kept what was there as {}", old.display())));
    Ok(())
}
