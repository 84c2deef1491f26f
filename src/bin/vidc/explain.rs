//! `vidc explain`: what each pass did to each model, what it declined, and why; the knobs; who is alive at the peak of memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::args::{ChooseArgs, GraphArgs, any_pass, pass};
use crate::common::table::table;
use crate::common::{Done, Failure, Out, target};
use vidc::diag::Diagnostic;
use vidc::hwdb::Machine;
use vidc::ir::{Op, OpGraph, Program, schedule, text};
use vidc::passes::hoist::{self, Hoisted};
use vidc::passes::manager::Debugging;
use vidc::passes::{Choices, Knob, PassCx, PassRecord, Remark, Rewriter, Status, pipeline};
use vidc::plan::{self, CompiledProgram};
use vidc::tuner::Stages;
use vidc::tuner::space::Space;
use vidc::units::Bytes;

/// Most buffers that are listed for a model.
const BUFFERS: usize = 24;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// The device: a key of `vidc hw list`, or cpu for this machine.
    #[arg(long, value_name = "KEY")]
    hw: String,
    #[command(flatten)]
    choose: ChooseArgs,
    /// Every remark of this pass.
    #[arg(long, value_name = "ID", value_parser = any_pass)]
    pass: Option<String>,
    /// The buffers that are alive when memory is at its peak.
    #[arg(long)]
    memory: bool,
    /// Leave the passes after this one out.
    #[arg(long, value_name = "ID", value_parser = pass)]
    stop_after: Option<String>,
    /// Leave a pass out.
    #[arg(long, value_name = "ID", value_parser = any_pass)]
    disable: Vec<String>,
    /// Write the text of each model before the passes and after each pass that changed it.
    #[arg(long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// The rules of every pass with how often they applied.
    #[arg(long)]
    verbose: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let machine = target::machine(&args.hw)?;
    let Hoisted { program, mut records } = planned(args, &machine)?;
    let choices = args.choose.choices();
    let knobs = Space::of(&Stages::of(&program), &machine, &choices)?.knobs();
    let debugging = Debugging { stop_after: args.stop_after.clone(), disable: args.disable.clone() };
    if let Some(folder) = &args.dump_dir {
        dump(&program, &machine, &choices, &debugging, folder)?;
    }
    let compiled = plan::compile(&program, &machine, &choices, &debugging)?;
    records.extend(compiled.trace().records);
    let peaks = if args.memory { peaks(&compiled)? } else { Vec::new() };
    let shown = Shown { args, program: &program, machine: &machine, knobs: &knobs, records: &records, peaks: &peaks };
    out.result(|| shown.text(), || shown.json());
    Ok(())
}

/// The program with or without hoisting.
fn planned(args: &Args, machine: &Machine) -> Result<Hoisted, Failure> {
    let program = target::program(&args.graph)?;
    Ok(hoist::hoist_without(&program, machine, &args.disable)?)
}

struct Shown<'a> {
    args: &'a Args,
    program: &'a Program,
    machine: &'a Machine,
    knobs: &'a [Knob],
    records: &'a [PassRecord],
    peaks: &'a [Peak],
}

impl Shown<'_> {
    fn text(&self) -> String {
        if let Some(pass) = &self.args.pass {
            return self.remarks(pass);
        }
        if self.args.memory {
            return self.peaks.iter().map(Peak::text).collect();
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
        let mut out = format!("{} on {} ({})\n\n", self.program.pipeline.name, self.machine.name, self.machine.key);
        out += &table(&["model", "pass", "status", "nodes", "applied", "declined"], &self.records.iter().map(row).collect::<Vec<_>>());
        if self.args.verbose {
            let _ = write!(out, "\n{}", self.rules());
        }
        let knob = |k: &Knob| vec![k.id.clone(), k.domain.join(" | "), effect(k).into(), k.about.clone()];
        let _ = write!(
            out,
            "\n{}",
            table(&["knob", "answers, the plain one first", "effect", "what it decides"], &self.knobs.iter().map(knob).collect::<Vec<_>>())
        );
        out
    }

    /// Every remark of one pass.
    fn remarks(&self, pass: &str) -> String {
        let of_pass = self.records.iter().filter(|r| r.id == pass);
        let rows: Vec<Vec<String>> = of_pass.flat_map(|r| &r.remarks).map(|m| self.remark_row(m)).collect();
        let info = pipeline().into_iter().map(|p| p.info()).find(|i| i.id == pass).map_or(hoist::SUMMARY, |i| i.summary);
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
        let span = self.program.pipeline.models.get(name).and_then(|m| m.span.as_ref());
        span.map_or_else(String::new, ToString::to_string)
    }

    /// How often each rule applied and was declined.
    fn rules(&self) -> String {
        let mut counts: BTreeMap<(usize, &str, &str, bool), (usize, &str)> = BTreeMap::new();
        for (i, record) in self.records.iter().enumerate() {
            for m in &record.remarks {
                let entry = counts.entry((i, record.id, m.why.rule, m.applied)).or_insert((0, m.site.as_str()));
                entry.0 += 1;
            }
        }
        let row = |((i, id, rule, applied), (n, site)): (&(usize, &str, &str, bool), &(usize, &str))| {
            let done = if *applied { "applied" } else { "declined" };
            vec![self.records[*i].unit.clone(), (*id).to_owned(), (*rule).to_owned(), done.into(), n.to_string(), (*site).to_owned()]
        };
        table(&["model", "pass", "rule", "", "times", "first at"], &counts.iter().map(row).collect::<Vec<_>>())
    }

    fn json(&self) -> Value {
        let wanted = |r: &&PassRecord| self.args.pass.as_ref().is_none_or(|p| p == r.id);
        json!({
            "graph": self.program.pipeline.name,
            "hw": self.machine.key,
            "passes": self.records.iter().filter(wanted).collect::<Vec<_>>(),
            "knobs": self.knobs,
            "memory": self.peaks.iter().map(Peak::json).collect::<Vec<_>>(),
        })
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
    match k.effect {
        vidc::passes::Effect::Exact => "exact",
        vidc::passes::Effect::Rounding => "rounding",
        vidc::passes::Effect::Approximate => "approximate",
    }
}

/// The moment at which a model needs most.
struct Peak {
    model: String,
    step: String,
    at: usize,
    of: usize,
    live: u64,
    bound: u64,
    weights: u64,
    /// Bytes, the node that made it, the type, first and last step.
    buffers: Vec<(u64, String, String, usize, usize)>,
}

fn peaks(compiled: &CompiledProgram<'_>) -> Result<Vec<Peak>, Failure> {
    compiled.instances.iter().map(|(name, c)| peak(name, &c.graph)).collect()
}

fn peak(name: &str, graph: &OpGraph) -> Result<Peak, Failure> {
    let schedule = schedule(graph)?;
    let live = schedule.live();
    let at = live.iter().enumerate().max_by_key(|(i, bytes)| (**bytes, std::cmp::Reverse(*i))).map_or(0, |(i, _)| i);
    let alive = schedule.buffers.iter().filter(|b| !b.bound && b.first <= at && at <= b.last);
    let mut buffers: Vec<_> = alive
        .map(|b| {
            let tensor = b.tensors[0];
            (b.bytes, graph.node(tensor.node).name.clone(), graph.ty(tensor).to_string(), b.first, b.last)
        })
        .collect();
    buffers.sort_by_key(|b| std::cmp::Reverse(b.0));
    let weight = |id| Some(graph.node(id)).filter(|n| matches!(n.op, Op::Weight(_))).and_then(|n| n.outs[0].bytes());
    Ok(Peak {
        model: name.into(),
        step: schedule.steps.get(at).map_or_else(String::new, |id| graph.node(*id).name.clone()),
        at,
        of: schedule.steps.len(),
        live: live.get(at).copied().unwrap_or_default(),
        bound: schedule.bound_bytes(),
        weights: graph.nodes().into_iter().filter_map(weight).sum(),
        buffers,
    })
}

impl Peak {
    fn text(&self) -> String {
        let row = |(bytes, name, ty, first, last): &(u64, String, String, usize, usize)| {
            vec![Bytes(*bytes).to_string(), name.clone(), ty.clone(), format!("{first}..{last}")]
        };
        let rows: Vec<Vec<String>> = self.buffers.iter().take(BUFFERS).map(row).collect();
        let more = self.buffers.len().saturating_sub(BUFFERS);
        let rest = if more > 0 { format!("and {more} smaller ones\n") } else { String::new() };
        format!(
            "{}: {} alive at step {} of {} ({}), beside {} of weights and {} of inputs and outputs\n{}{rest}\n",
            self.model,
            Bytes(self.live),
            self.at,
            self.of,
            self.step,
            Bytes(self.weights),
            Bytes(self.bound),
            table(&["bytes", "made by", "type", "steps"], &rows)
        )
    }

    fn json(&self) -> Value {
        let buffer = |(bytes, name, ty, first, last): &(u64, String, String, usize, usize)| json!({ "bytes": bytes, "made_by": name, "type": ty, "first": first, "last": last });
        json!({
            "model": self.model,
            "step": self.step,
            "at": self.at,
            "steps": self.of,
            "live_bytes": self.live,
            "bound_bytes": self.bound,
            "weight_bytes": self.weights,
            "buffers": self.buffers.iter().map(buffer).collect::<Vec<_>>(),
        })
    }
}

/// Writes `MODEL/00-bound.txt` and `MODEL/NN-PASS.txt` for each pass that changed the model.
fn dump(program: &Program, machine: &Machine, choices: &Choices, debugging: &Debugging, folder: &Path) -> Result<(), Failure> {
    let cx = PassCx { machine, choices };
    for (name, mut graph) in plan::instances(program, choices)? {
        let home = folder.join(&name);
        let unwritable = |e: std::io::Error| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", home.display()));
        std::fs::create_dir_all(&home).map_err(unwritable)?;
        std::fs::write(home.join("00-bound.txt"), text::annotated(&graph)).map_err(unwritable)?;
        for (i, pass) in pipeline().into_iter().enumerate() {
            let id = pass.info().id;
            if debugging.disable.iter().any(|d| d == id) {
                continue;
            }
            let mut rw = Rewriter::new(&name, &mut graph);
            pass.run(&mut rw, &cx)?;
            if rw.finish().iter().any(|r| r.applied) {
                std::fs::write(home.join(format!("{:02}-{id}.txt", i + 1)), text::annotated(&graph)).map_err(unwritable)?;
            }
            if debugging.stop_after.as_deref() == Some(id) {
                break;
            }
        }
    }
    Ok(())
}
