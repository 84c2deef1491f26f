//! `vidc compile`: lowers a graph to a plan directory.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::args::{Budget, ChooseArgs, GraphArgs, ProviderArgs, SearchArgs, WeightsArgs, budget};
use crate::common::planning::{self, Chosen, LADDER, Where, effects_text};
use crate::common::weights::weights;
use crate::common::{Done, Failure, Out, target};
use vidc::files::output::spare_folder;
use vidc::hwdb::Machine;
use vidc::passes::Planned;
use vidc::plan::manifest::RungEntry;
use vidc::plan::{Manifest, check_output};
use vidc::tuner::record::TuningRecord;
use vidc::units::{Bytes, Time};

/// Arguments.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("how").required(true).args(["tuning", "hw"])))]
pub(crate) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// A tuning record that `vidc tune` wrote.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["memory", "choose", "tolerance"])]
    tuning: Option<PathBuf>,
    /// The device to tune for first: a key of `vidc hw list`, or cpu for this machine.
    #[arg(long, value_name = "KEY")]
    hw: Option<String>,
    #[command(flatten)]
    provider: ProviderArgs,
    /// The index of the device on the machine that runs the plan, of several.
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: u32,
    /// Most device memory, such as 12GiB, or `auto`: what is free on this machine now.
    #[arg(long, value_name = "SIZE", value_parser = budget)]
    memory: Option<Budget>,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    choose: ChooseArgs,
    #[command(flatten)]
    weights: WeightsArgs,
    /// How many plans to write: beside the best, smaller ones of the same results, which a run takes when memory is short.
    #[arg(long, value_name = "N", default_value_t = LADDER, value_parser = clap::value_parser!(u8).range(1..=12))]
    ladder: u8,
    /// Copy all weights into the plan, so that it can be carried elsewhere.
    #[arg(long)]
    bundle: bool,
    /// The folder of the plan; a plan that is there is replaced.
    #[arg(short, long, value_name = "PLANDIR")]
    output: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    check_output(&args.output)?;
    let mut reads = target::named_files(&args.graph.graph, args.hw.as_deref());
    reads.extend(args.tuning.clone());
    spare_folder(&args.output, &reads)?;
    let record = args.tuning.as_deref().map(TuningRecord::read).transpose()?;
    let key = args.hw.as_deref().or(record.as_ref().map(|r| r.hw.as_str())).unwrap_or("cpu");
    let provider = args.provider.provider.clone().or(record.as_ref().and_then(|r| r.provider.clone()));
    let machine = target::machine(key, &ProviderArgs { provider })?;
    target::note_doubts(&machine);
    let memory = target::budget(args.memory, &machine, args.device)?;
    target::note_memory(memory, &machine);
    let program = target::planned(&target::program(&args.graph)?, &machine)?;
    let weights = weights(&args.weights, &program)?;
    spare_folder(&args.output, weights.files())?;
    planning::check_room(&args.output, &program, &weights, args.bundle)?;
    let chosen = match &record {
        Some(record) => recorded(&program, record)?,
        None => planning::search(&program, memory, &args.search, &args.choose.choices())?,
    };
    let rungs = planning::rungs(&program, &chosen, args.ladder)?;
    let to = Where { bundle: args.bundle, device: args.device };
    let manifest = planning::write(&machine, (&chosen, &rungs), &weights, to, &args.output)?;
    out.result(|| text(args, &manifest, &chosen, &machine), || result_json(args, &manifest, &chosen, &machine));
    Ok(())
}

fn recorded(program: &Planned, record: &TuningRecord) -> Result<Chosen, Failure> {
    record.check(program)?;
    Ok(Chosen { front: record.front.clone(), ..planning::given(program, &record.choices)? })
}

fn text(args: &Args, manifest: &Manifest, chosen: &Chosen, machine: &Machine) -> String {
    let random = if manifest.is_random() { " (random weights: the picture means nothing)" } else { "" };
    let rung = |r: &RungEntry| format!("smaller: {}, {} of device memory\n", Time::from_secs(r.latency_s), Bytes(r.peak_bytes));
    format!(
        "wrote {}: {} sessions for {} with {}\nweights: {}{random}\npredicted: {}, {} of device memory\n{}{}",
        args.output.display(),
        manifest.sessions.len(),
        manifest.hardware,
        machine.target.name,
        manifest.weights,
        chosen.predicted.latency(),
        chosen.predicted.peak(),
        manifest.ladder.iter().map(rung).collect::<String>(),
        effects_text(&chosen.effects)
    )
}

fn result_json(args: &Args, manifest: &Manifest, chosen: &Chosen, machine: &Machine) -> Value {
    let mut fields = planning::chosen_json(chosen, machine);
    fields["plan"] = json!(args.output);
    fields["ladder"] = json!(manifest.ladder);
    fields["weights"] = json!({ "source": manifest.weights, "random": manifest.is_random() });
    fields["sessions"] = json!(manifest.sessions.iter().map(|s| &s.name).collect::<Vec<_>>());
    fields
}
