//! `vidc tune`: searches the best plan and writes a tuning record.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::args::{Budget, ChooseArgs, GraphArgs, ProviderArgs, SearchArgs, budget};
use crate::common::planning::{certificate_text, effects_text, first_start_text, predicted_text};
use crate::common::render::kept_text;
use crate::common::table::table;
use crate::common::{Done, Failure, Out, target};
use vidc::files::output::{Name, Outputs, check_extension, unknown_writer};
use vidc::files::word;
use vidc::hwdb::Machine;
use vidc::ir::Program;
use vidc::passes::{Answer, Knob, Planned};
use vidc::plan::manifest::EffectEntry;
use vidc::tuner::record::TuningRecord;
use vidc::tuner::{self, FrontPoint, Objective, Outcome, Request};
use vidc::units::{Bytes, Time};

/// What is best.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Goal {
    /// Least time within the memory.
    Latency,
    /// Least memory, then least time.
    Memory,
    /// Least time a clip.
    Throughput,
}

impl From<Goal> for Objective {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Latency => Self::Latency,
            Goal::Memory => Self::Memory,
            Goal::Throughput => Self::Throughput,
        }
    }
}

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// The device: a key of `vidc hw list`, or cpu for this machine.
    #[arg(long, value_name = "KEY")]
    hw: String,
    /// The execution provider: cpu, cuda, tensorrt (`vidc hw show KEY` lists those of a device), or all to compare them; the device's
    /// usual one if not given.
    #[arg(long, value_name = "NAME", value_parser = provider)]
    provider: Option<Wanted>,
    /// Most device memory, such as 12GiB, or `auto`: what is free on this machine now; the device's own if not given.
    #[arg(long, value_name = "SIZE", value_parser = budget)]
    memory: Option<Budget>,
    /// What is best.
    #[arg(long, value_enum, default_value = "latency")]
    objective: Goal,
    /// Least quality, decibels PSNR against the reference.
    #[arg(long, value_name = "DB")]
    min_psnr: Option<f64>,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    choose: ChooseArgs,
    /// Seconds that the search may take; what it found by then comes with the remaining gap.
    #[arg(long, value_name = "S")]
    time_limit: Option<f64>,
    /// The record; tuning/GRAPH/KEY.yaml if not given, KEY.PROVIDER.yaml where a provider is named. A different one that is there is kept
    /// as FILE.old.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The providers to search for.
#[derive(Clone, Debug)]
enum Wanted {
    /// One, by its key.
    One(String),
    /// Every one that fits the device.
    All,
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants of a reader of values")]
fn provider(text: &str) -> Result<Wanted, String> {
    Ok(if text == "all" { Wanted::All } else { Wanted::One(text.into()) })
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let machines = machines(args)?;
    if args.output.is_some() && matches!(args.provider, Some(Wanted::All)) {
        return Err(Failure::Usage("--provider all writes one record for each provider; leave -o out".into()));
    }
    let program = target::program(&args.graph)?;
    let request = request(args, &machines[0])?;
    // Where every record goes is looked at before the first search.
    let planned: Result<Vec<(Planned, PathBuf)>, Failure> = machines
        .iter()
        .map(|machine| {
            let planned = target::planned(&program, machine)?;
            let path = output(args, &planned, machine)?;
            Ok((planned, path))
        })
        .collect();
    let mut shown = Vec::new();
    for (planned, path) in planned? {
        target::note_memory(request.memory, planned.machine());
        target::note_doubts(planned.machine());
        let outcome = tuner::tune(&planned, &request)?;
        let kept = TuningRecord::new(&planned, &request, &outcome, None).write(&path)?;
        shown.push(Shown { outcome, machine: planned.machine().clone(), request: &request, path, kept });
    }
    match &shown[..] {
        [one] => out.result(|| one.text(&program.pipeline.name), || one.json()),
        several => out.result(
            || compared(several, &program.pipeline.name),
            || json!({ "providers": several.iter().map(Shown::json).collect::<Vec<_>>() }),
        ),
    }
    Ok(())
}

fn machines(args: &Args) -> Result<Vec<Machine>, Failure> {
    Ok(match &args.provider {
        Some(Wanted::All) => target::machines(&args.hw)?,
        Some(Wanted::One(key)) => vec![target::machine(&args.hw, &ProviderArgs { provider: Some(key.clone()) })?],
        None => vec![target::machine(&args.hw, &ProviderArgs::default())?],
    })
}

/// Where the record goes; it is sure that it can go there.
fn output(args: &Args, program: &Program, machine: &Machine) -> Result<PathBuf, Failure> {
    let named = args.provider.as_ref().map_or_else(String::new, |_| format!(".{}", machine.target.key));
    // What a graph is called in its file is no path.
    let default = || Path::new("tuning").join(word(&program.pipeline.name)).join(format!("{}{named}.yaml", word(&machine.key)));
    let path = args.output.clone().unwrap_or_else(default);
    check_extension(&path, &["yaml", "yml"])?;
    let mut outputs = Outputs::default();
    outputs.file_in_new_folder(&path, Name::Given, &unknown_writer)?;
    outputs.spare(target::named_files(&args.graph.graph, Some(&args.hw)))?;
    Ok(path)
}

fn request(args: &Args, machine: &Machine) -> Result<Request, Failure> {
    let limit = args.time_limit.map(Duration::try_from_secs_f64).transpose();
    Ok(Request {
        objective: args.objective.into(),
        memory: target::budget(args.memory, machine, 0)?,
        min_psnr: args.min_psnr,
        fixed: args.choose.choices(),
        allow_unmeasured: args.search.allow_unmeasured,
        tolerance: args.search.share(),
        time_limit: limit.map_err(|_| Failure::Usage("--time-limit is a number of seconds from 0".into()))?,
    })
}

/// A finished search.
struct Shown<'a> {
    outcome: Outcome,
    machine: Machine,
    request: &'a Request,
    path: PathBuf,
    kept: Option<PathBuf>,
}

impl Shown<'_> {
    fn effects(&self) -> Vec<EffectEntry> {
        EffectEntry::of(&self.outcome.knobs, &self.outcome.choices)
    }

    fn text(&self, graph: &str) -> String {
        let o = &self.outcome;
        let mut out = format!(
            "{graph} on {} ({}) with {}, {} allowed; figures from {}\n\n",
            self.machine.name,
            self.machine.key,
            self.machine.target.name,
            self.request.budget(&self.machine),
            self.machine.provenance()
        );
        out += &self.choices_table();
        out += "\n";
        out += &predicted_text(&o.predicted);
        out += &first_start_text(&o.lowered, &self.machine);
        out += "\n";
        out += &certificate_text(&o.certificate);
        out += &effects_text(&self.effects());
        out += "\n";
        out += &front_table(&o.front);
        out += &self.more_line();
        out += &format!("\nwrote {}\n", self.path.display());
        if let Some(kept) = &self.kept {
            out += &kept_text(std::slice::from_ref(kept));
        }
        out
    }

    /// The answers that are not the plain ones; the rest is in the record.
    fn choices_table(&self) -> String {
        let row = |(k, a): (&Knob, &Answer)| vec![k.id.to_string(), a.name.clone(), k.plain().into(), k.about.clone()];
        let rows: Vec<Vec<String>> = self.outcome.choices.departures(&self.outcome.knobs).into_iter().map(row).collect();
        if rows.is_empty() {
            return format!("plan: every one of {} knobs keeps its plain answer\n", self.outcome.knobs.len());
        }
        table(&["knob", "answer", "plain", "what it decides"], &rows)
    }

    /// What more memory would buy on this device.
    fn more_line(&self) -> String {
        let budget = self.request.budget(&self.machine);
        let more = (self.machine.memory - budget).min(Bytes(1 << 30));
        match &self.outcome.one_gib_more {
            _ if more == Bytes(0) => "more memory than this the device does not have\n".into(),
            Some(p) => {
                let now = &self.outcome.predicted;
                let [saved, then] = [now.latency_s - p.latency_s, p.latency_s].map(Time::from_secs);
                format!("{more} more would buy {saved}: {then} instead of {}\n", now.latency())
            }
            None => format!("{more} more would buy nothing\n"),
        }
    }

    fn json(&self) -> Value {
        let o = &self.outcome;
        json!({
            "hw": self.machine.key,
            "provider": self.machine.target.key,
            "provenance": self.machine.provenance(),
            "memory_bytes": self.request.budget(&self.machine).0,
            "objective": self.request.objective,
            "choices": o.choices,
            "predicted": o.predicted,
            "certificate": o.certificate,
            "effects": self.effects(),
            "front": o.front,
            "one_gib_more": o.one_gib_more,
            "record": self.path,
            "kept": self.kept,
        })
    }
}

/// The plans of several providers side by side, the fastest first, and what each chose.
fn compared(shown: &[Shown<'_>], graph: &str) -> String {
    let device = &shown[0].machine;
    let mut order: Vec<&Shown<'_>> = shown.iter().collect();
    order.sort_by_key(|s| s.outcome.predicted.latency());
    let row = |s: &&Shown<'_>| {
        let p = &s.outcome.predicted;
        let quality = p.quality_db.map_or_else(|| "exact".into(), |db| format!("{db:.1} dB estimated"));
        let path = s.path.display().to_string();
        vec![s.machine.target.key.into(), p.latency().to_string(), p.peak().to_string(), Bytes(p.peak_bytes_hi).to_string(), quality, path]
    };
    let rows: Vec<Vec<String>> = order.iter().map(row).collect();
    let mut out = format!("{graph} on {} ({}), by execution provider\n\n", device.name, device.key);
    out += &table(&["provider", "latency", "memory", "at most", "quality", "record"], &rows);
    for s in order {
        out += &format!("\n{}\n{}", s.machine.target.name, s.choices_table());
        out += &first_start_text(&s.outcome.lowered, &s.machine);
        out += &kept_text(s.kept.as_slice());
    }
    out
}

fn front_table(front: &[FrontPoint]) -> String {
    let row = |p: &FrontPoint| {
        let quality = p.quality_db.map_or_else(|| "exact".into(), |db| format!("{db:.1} dB estimated"));
        vec![Time::from_secs(p.latency_s).to_string(), Bytes(p.peak_bytes).to_string(), Bytes(p.peak_bytes_hi).to_string(), quality]
    };
    table(&["front: latency", "memory", "at most", "quality"], &front.iter().map(row).collect::<Vec<_>>())
}
