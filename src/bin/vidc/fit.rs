//! `vidc fit`: what fits on a device, and which devices take a job. Every row is a search; nothing is written.

mod show;
mod vary;

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::common::args::{GraphArgs, ProviderArgs, settings, size};
use crate::common::system::free_memory;
use crate::common::{Done, Failure, Out, say, target};
use show::{Row, Sizes, on_devices};
use vary::{Axis, MOST, Vary, cells, count, usual, vary, work};
use vidc::diag::{Diagnostic, Diagnostics, SourceText, suggest};
use vidc::hwdb::{Database, Machine};
use vidc::models;
use vidc::spec::{self, Spec};
use vidc::tuner::fit::{Verdict, fit, side_by_side};
use vidc::tuner::{Request, TOLERANCE};
use vidc::units::Bytes;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// The device: a key of `vidc hw list`, or cpu for this machine. Several, as a,b,c, or all are compared at one size.
    #[arg(long, value_name = "KEY|KEY,KEY|all")]
    hw: String,
    #[command(flatten)]
    provider: ProviderArgs,
    /// Most device memory, such as 12GiB; the device's own if not given.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<Bytes>,
    /// Vary a parameter of the graph: a range with both of its ends, with a step or without, or a list. Without it: usual frames by
    /// usual sizes, as far as the graph has them and they are not set.
    #[arg(long = "vary", value_name = "NAME=a..b[:step]|a,b,c", value_parser = vary)]
    vary: Vec<Vary>,
}

/// Runs the command. That nothing fits is an answer too.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    check_once(args)?;
    let source = match target::target(&args.graph.graph)? {
        target::Named::Graph(source) => source,
        target::Named::Plan(_) => return target::program(&args.graph).map(drop),
    };
    let spec = parsed(&source)?;
    check_names(args, &spec)?;
    let request = Request { memory: args.memory, tolerance: TOLERANCE, ..Request::default() };
    if args.hw == "all" || args.hw.contains(',') {
        let rows = devices(args, &spec, &request)?;
        let name = &spec.name.value;
        out.result(|| on_devices(&rows, name), || show::devices_json(&rows, name));
        return Ok(());
    }
    let machine = target::machine(&args.hw, &args.provider)?;
    target::note_memory(args.memory, &machine);
    target::note_doubts(&machine);
    let rows = sizes(args, &spec, &machine, &request)?;
    let shown = Sizes { graph: &spec.name.value, machine: &machine, budget: request.budget(&machine), rows: &rows };
    out.result(|| shown.text(), || shown.json());
    Ok(())
}

fn parsed(source: &Arc<SourceText>) -> Result<Spec, Failure> {
    match spec::parse(source) {
        (Some(spec), found) if found.0.is_empty() => Ok(spec),
        (_, found) => Err(found.into()),
    }
}

/// A parameter has one source of values.
fn check_once(args: &Args) -> Result<(), Failure> {
    for (at, Vary { name, .. }) in args.vary.iter().enumerate() {
        if args.vary[..at].iter().any(|other| other.name == *name) {
            return Err(Failure::Usage(format!("`{name}` is varied twice; write one list: --vary {name}=a,b,c")));
        }
        if args.graph.set.iter().any(|set| set.name == *name) {
            return Err(Failure::Usage(format!("`{name}` is both set and varied; leave one of them out")));
        }
    }
    Ok(())
}

/// Parameters that the graph has not would be refused in every combination; that is said once.
fn check_names(args: &Args, spec: &Spec) -> Result<(), Failure> {
    let set = args.graph.set.iter().map(|pair| &pair.name);
    let unknown = set.chain(args.vary.iter().map(|v| &v.name)).filter(|name| spec.parameters.get(name).is_none());
    let told = |name: &String| {
        let d = Diagnostic::new("graph/unknown-parameter", format!("this graph has no parameter `{name}`"));
        d.help(suggest(name, spec.parameters.keys()))
    };
    Ok(Diagnostics(unknown.map(told).collect()).into_result(())?)
}

/// The memory that a search is granted on this machine: one of SVD at full size takes 150 MB at its most, longer clips take more.
const A_SEARCH: Bytes = Bytes(512 << 20);

/// How many searches run at a time: one for each core, as far as there is memory.
fn workers(searches: usize) -> usize {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let room = free_memory().map_or(cores, |free| usize::try_from(free.0 / A_SEARCH.0).unwrap_or(cores));
    let workers = cores.min(room).min(searches).max(1);
    if searches > 8 {
        say(&format!("{searches} searches, {workers} at a time"));
    }
    workers
}

/// A verdict for every combination, in the order in which they are shown.
fn sizes(args: &Args, spec: &Spec, machine: &Machine, request: &Request) -> Result<Vec<Row>, Failure> {
    let has = |name: &str| spec.parameters.get(name).is_some() && args.graph.set.iter().all(|set| set.name != name);
    let axes: Vec<Axis> = if args.vary.is_empty() { usual(&has) } else { args.vary.iter().map(Axis::from).collect() };
    if count(&axes) > MOST {
        return Err(Failure::Usage(format!(
            "these are {} combinations, and at most {MOST} are searched; vary less at a time",
            count(&axes)
        )));
    }
    let cells = cells(&axes);
    let set = settings(&args.graph.set);
    let verdicts = side_by_side(&cells, workers(cells.len()), |cell| {
        let set: Vec<(String, String)> = set.iter().chain(cell).cloned().collect();
        match models::program(spec, &set) {
            Ok(program) => fit(&program, machine, request),
            Err(found) => Ok(Verdict::Refused(found)),
        }
    });
    let row = |(cell, verdict): (_, Result<_, Diagnostics>)| Ok(Row { work: work(&cell), cell, verdict: verdict?, machine: None });
    let mut rows: Vec<Row> = cells.into_iter().zip(verdicts).map(row).collect::<Result<_, Diagnostics>>()?;
    check_taken(&rows, |row| row.cell.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))?;
    rows.sort_by_key(|row| row.verdict.rank(row.work, request.budget(machine)));
    Ok(rows)
}

/// A verdict for every device, in the order in which they are shown.
fn devices(args: &Args, spec: &Spec, request: &Request) -> Result<Vec<Row>, Failure> {
    if let Some(several) = args.vary.iter().find(|v| v.values.len() > 1) {
        let name = &several.name;
        return Err(Failure::Usage(format!(
            "several devices are compared at one size, and `{name}` takes several values; name one device"
        )));
    }
    let cell: Vec<(String, String)> = args.vary.iter().map(|v| (v.name.clone(), v.values[0].clone())).collect();
    let keys = keys(&args.hw)?;
    let set: Vec<(String, String)> = settings(&args.graph.set).into_iter().chain(cell).collect();
    let program = models::program(spec, &set)?;
    let database = Database::of_this_user();
    let machine = |key: &String| {
        let profile = database.load(key)?;
        Ok(Machine::with_provider(&profile, args.provider.provider.as_deref())?)
    };
    let machines: Vec<Result<Machine, Diagnostics>> = keys.iter().map(machine).collect();
    // Who names devices wants each of them; of all of them some may not be for the provider.
    let wrong = |d: &&Diagnostic| args.hw != "all" || d.code == "target/unknown-provider";
    if let Some(d) = machines.iter().filter_map(|m| m.as_ref().err()).flat_map(|found| &found.0).find(wrong) {
        return Err(d.clone().into());
    }
    let verdicts = side_by_side(&machines, workers(machines.len()), |machine| match machine {
        Ok(machine) => fit(&program, machine, request),
        Err(found) => Ok(Verdict::Refused(found.clone())),
    });
    let row = |((key, machine), verdict): ((String, Result<Machine, _>), Result<_, Diagnostics>)| {
        let machine = machine.ok().map(|m| (request.budget(&m), m));
        Ok(Row { work: 1, cell: vec![("hw".into(), key)], verdict: verdict?, machine })
    };
    let mut rows: Vec<Row> = keys.into_iter().zip(machines).zip(verdicts).map(row).collect::<Result<_, Diagnostics>>()?;
    check_taken(&rows, |row| row.cell[0].1.clone())?;
    rows.sort_by_key(|row| row.verdict.rank(row.work, row.machine.as_ref().map_or(Bytes(0), |(budget, _)| *budget)));
    Ok(rows)
}

/// The devices of `--hw`.
fn keys(text: &str) -> Result<Vec<String>, Failure> {
    if text == "all" {
        return Ok(Database::of_this_user().keys());
    }
    let keys: Vec<String> = text.split(',').map(|key| key.trim().to_owned()).collect();
    if keys.iter().any(String::is_empty) {
        return Err(Failure::Usage("--hw takes one key, several with commas between, or all".into()));
    }
    match keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key)) {
        Some((_, twice)) => Err(Failure::Usage(format!("--hw names `{twice}` twice"))),
        None => Ok(keys),
    }
}

/// A table of nothing but refusals is a mistake of the input: the first one is told, at its place.
fn check_taken(rows: &[Row], name: impl Fn(&Row) -> String) -> Result<(), Failure> {
    let refused = |row: &Row| if let Verdict::Refused(found) = &row.verdict { Some(found.clone()) } else { None };
    let all: Option<Vec<Diagnostics>> = rows.iter().map(refused).collect();
    match all.as_deref() {
        None | Some([]) => Ok(()),
        Some([only]) => Err(only.clone().into()),
        Some([first, ..]) => {
            let Some(why) = first.0.first() else { return Ok(()) };
            let message = format!("all {} are refused; the first, {}: {}", rows.len(), name(&rows[0]), why.message);
            let mut d = Diagnostic::new("tune/nothing-to-fit", message);
            d.labels.clone_from(&why.labels);
            d.help.clone_from(&why.help);
            Err(d.into())
        }
    }
}
