//! Everything before the first kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayD};
use serde_json::{Value, json};

use super::outputs::Round;
use super::{Args, FitArg, outputs};
use crate::common::args::Budget;
use crate::common::planning::{self, Where, cached_folder};
use crate::common::system::{check_disk, folder_of, free_memory, free_on_gpu};
use crate::common::target::{Named, budget, load, machine, note_memory, note_unmeasured, planned, target};
use crate::common::weights::weights;
use crate::common::{Failure, say};
use crate::runtime::status_text;
use vidc::diag::{Diagnostic, SourceText};
use vidc::host::fit::{Fit, fit};
use vidc::hwdb::DeviceKind;
use vidc::media::npy::read_npy;
use vidc::media::picture::read_picture;
use vidc::media::video::{OutputKind, check_size};
use vidc::plan::Manifest;
use vidc::plan::manifest::OutputEntry;
use vidc::runtime::prepared::check_files;
use vidc::runtime::progress::SavedLoop;
use vidc::runtime::provision::RuntimeStatus;
use vidc::runtime::request::RunRequest;
use vidc::target::Target;
use vidc::units::Bytes;

/// Runs that were found to be possible.
pub(super) struct Ready {
    /// The plan.
    pub(super) folder: PathBuf,
    /// What it says.
    pub(super) manifest: Manifest,
    /// Smaller plans in the same folder, the largest first.
    pub(super) smaller: Vec<Manifest>,
    /// The most device memory that runs may need, if there is a limit.
    pub(super) budget: Option<Bytes>,
    /// What is asked of it: that of the first run.
    pub(super) request: RunRequest,
    /// The format of the output.
    pub(super) kind: OutputKind,
    /// The runs, one behind the other.
    pub(super) rounds: Vec<Round>,
    /// Memory that was free, where that is known.
    free: Option<Bytes>,
}

/// Checks everything, and makes the plan of a graph if there is none yet.
pub(super) fn prepare(args: &Args) -> Result<Ready, Failure> {
    let kind = OutputKind::from_path(&args.output)?;
    check_repeat(args)?;
    let mut rounds = Round::all(args);
    outputs::check(&rounds, &outputs::named(args))?;
    let target = target(&args.target)?;
    let pictures = pictures(args)?;
    let feeds = feeds(args)?;
    let (folder, budget) = match target {
        Named::Graph(source) => of_graph(args, &source)?,
        Named::Plan(folder) => of_plan(args, folder)?,
    };
    let (manifest, smaller, free) = rung(&folder, budget)?;
    check_present(vidc::target::row(&manifest.provider)?, || other_plan(&manifest))?;
    let request = request(args, &manifest, &rounds, pictures, feeds)?;
    check_files(&folder, &manifest)?;
    for round in &mut rounds {
        round.videos = outputs::videos(&round.output, kind, &manifest);
    }
    outputs::check(&rounds, &outputs::of_plan(args, &folder, &manifest))?;
    manifest.outputs.iter().try_for_each(|o| check_output(kind, &manifest, o))?;
    check_room(&args.output, &manifest, rounds.len())?;
    Ok(Ready { folder, manifest, smaller, budget, request, kind, rounds, free })
}

/// Several runs are told apart by their seeds, which one saved progress or one parameter cannot be.
fn check_repeat(args: &Args) -> Result<(), Failure> {
    if args.repeat.is_some() && args.resume {
        let d = Diagnostic::new("run/repeat", "`--resume` goes on with one run, and `--repeat` asks for several");
        return Err(d.help("resume the one that was stopped: leave out --repeat and name its seed and its output").into());
    }
    if args.seed.is_some() && args.set.iter().any(|p| p.name == "seed") {
        return Err(Failure::Usage("the seed is given twice; leave out --seed or --set seed".into()));
    }
    Ok(())
}

fn pictures(args: &Args) -> Result<BTreeMap<String, Array3<u8>>, Failure> {
    args.inputs.iter().map(|p| Ok((p.name.clone(), read_picture(&p.path())?))).collect()
}

fn feeds(args: &Args) -> Result<BTreeMap<String, ArrayD<f32>>, Failure> {
    args.feeds.iter().map(|p| Ok((p.name.clone(), read_npy::<f32>(&p.path())?))).collect()
}

/// The plan of a graph in the cache, made first if it is not there.
fn of_graph(args: &Args, source: &std::sync::Arc<SourceText>) -> Result<(PathBuf, Option<Bytes>), Failure> {
    let machine = machine(args.hw.as_deref().unwrap_or("cpu"), &args.provider)?;
    let budget = budget(args.memory, &machine, args.device.unwrap_or(0))?;
    let program = load(source, &args.set)?;
    check_names(args, &program)?;
    let program = planned(&program, &machine)?;
    check_present(machine.target, || format!("leave out --hw {}, or name a CPU", machine.key))?;
    let weights = weights(&args.weights, &program)?;
    let memory = budget.map_or_else(|| "all".into(), |m| m.0.to_string());
    let given = serde_json::to_string(&program.given(&args.choose.choices())).unwrap_or_default();
    let asked =
        [memory, args.search.share().to_string(), given, args.search.allow_unmeasured.to_string(), args.device.unwrap_or(0).to_string()];
    let folder = cached_folder(&program, &machine, &weights, &asked)?;
    if Manifest::read(&folder).and_then(|m| check_files(&folder, &m)).is_ok() {
        return Ok((folder, budget));
    }
    note_memory(budget, &machine);
    note_unmeasured(&machine);
    say(&format!("tuning and compiling {} for {} (once; kept in {})", program.pipeline.name, machine.key, folder.display()));
    planning::check_room(&folder, &program, &weights, false)?;
    let chosen = planning::search(&program, budget, &args.search, &args.choose.choices())?;
    if folder.exists() {
        // A plan of this cache that is broken; what is kept here is nobody's but vidc's.
        std::fs::remove_dir_all(&folder)
            .map_err(|e| Diagnostic::new("io/unwritable", format!("`{}` cannot be replaced: {e}", folder.display())))?;
    }
    let rungs = planning::rungs(&program, &chosen, planning::LADDER)?;
    planning::write(&machine, (&chosen, &rungs), &weights, Where { bundle: false, device: args.device.unwrap_or(0) }, &folder)?;
    Ok((folder, budget))
}

/// Names that the plan would not know are refused before minutes go into making it.
fn check_names(args: &Args, program: &vidc::ir::Program) -> Result<(), Failure> {
    let p = &program.pipeline;
    if args.seed.is_some() && !p.params.contains_key("seed") {
        let d = Diagnostic::new("run/no-seed", format!("the graph `{}` has no parameter `seed`", p.name));
        return Err(d.help("leave out --seed and --repeat").into());
    }
    let inputs: Vec<&str> = p.inputs.iter().map(|id| p.graph.node(*id).name.as_str()).collect();
    if let Some(pair) = args.inputs.iter().find(|i| !inputs.contains(&i.name.as_str())) {
        let d = Diagnostic::new("run/unknown-input", format!("the graph has no input `{}`", pair.name));
        return Err(d.help(vidc::diag::suggest(&pair.name, inputs)).into());
    }
    if let Some(name) = inputs.iter().find(|n| args.inputs.iter().all(|i| i.name != **n)) {
        let d = Diagnostic::new("run/missing-input", format!("the input `{name}` is missing"));
        return Err(d.help(format!("add --input {name}=PICTURE")).into());
    }
    match args.feeds.iter().chain(&args.dumps).find(|v| p.locate(&v.name).is_none()) {
        Some(value) => {
            let values = p.values();
            let d = Diagnostic::new("run/unknown-value", format!("the graph has no value `{}`", value.name));
            Err(d.help(vidc::diag::suggest(&value.name, values.iter().map(|(n, _)| n.as_str()))).into())
        }
        None => Ok(()),
    }
}

/// A plan is run as it is, or one of the smaller ones behind it.
fn of_plan(args: &Args, folder: PathBuf) -> Result<(PathBuf, Option<Bytes>), Failure> {
    let given = [
        ("--set", !args.set.is_empty()),
        ("--hw", args.hw.is_some()),
        ("--provider", args.provider.provider.is_some()),
        ("--device", args.device.is_some()),
        ("--weights", args.weights.weights.is_some()),
        ("--tolerance", args.search.tolerance.is_some()),
        ("--choose", !args.choose.choose.is_empty()),
        ("--allow-unmeasured", args.search.allow_unmeasured),
    ];
    if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Failure::Usage(format!("a plan is run as it is; {name} belongs to `vidc compile` or to a graph")));
    }
    let budget = match args.memory {
        Some(Budget::Free) => free_for(&Manifest::read(&folder)?).1,
        Some(Budget::Size(size)) => Some(size),
        None => None,
    };
    Ok((folder, budget))
}

/// Memory that is free now: of the host, and of the device that a plan is for.
fn free_for(manifest: &Manifest) -> (Option<Bytes>, Option<Bytes>) {
    let host = free_memory();
    let on_host = vidc::target::row(&manifest.provider).is_ok_and(|row| row.fits.kind == DeviceKind::Cpu);
    (host, if on_host { host } else { free_on_gpu(manifest.device) })
}

/// The first plan of a folder that fits into the budget and into what is free, those that are smaller, and what of the host is free.
fn rung(folder: &Path, budget: Option<Bytes>) -> Result<(Manifest, Vec<Manifest>, Option<Bytes>), Failure> {
    let first = Manifest::read(folder)?;
    let mut plans = vec![first.clone()];
    for rung in &first.ladder {
        plans.push(Manifest::read_rung(folder, rung)?);
    }
    let (host, device) = free_for(&first);
    let rooms = [("host_bytes", host), ("peak_bytes", device), ("peak_bytes", budget)];
    let needs = |m: &Manifest, name: &str, end: &str| m.predicted_bytes(&format!("{name}{end}"));
    let short = |m: &Manifest, end: &str| {
        let over = |(name, room): &(&str, Option<Bytes>)| Some((needs(m, name, end)?, (*room)?)).filter(|(needed, room)| needed > room);
        rooms.iter().find_map(over)
    };
    let fitting = plans.iter().position(|m| short(m, "_hi").is_none());
    let at = fitting.unwrap_or(plans.len() - 1);
    let smaller = plans.split_off(at + 1);
    let chosen = plans.swap_remove(at);
    if at > 0 {
        let (needed, room) = short(&first, "_hi").unwrap_or_default();
        say(&format!("note: the plan may need {needed} of memory, and there are {room}: taking a smaller one"));
    }
    if let (None, Some(budget), Some(needed)) = (fitting, budget, needs(&chosen, "peak_bytes", "_hi"))
        && needed > budget
    {
        let d = Diagnostic::new("run/over-budget", format!("the smallest plan needs up to {needed} of memory, and {budget} are allowed"));
        return Err(d.help("allow more, or compile for less with `--memory`, fewer frames or a smaller picture").into());
    }
    if let Some((needed, room)) = short(&chosen, "_lo") {
        let d = Diagnostic::new("run/not-enough-memory", format!("the plan needs at least {needed} of memory, and {room} are free"));
        return Err(d.help("close other programs, or give less with `--memory`, fewer frames or a smaller picture").into());
    }
    if let Some((needed, room)) = short(&chosen, "_hi") {
        say(&format!("note: the plan may need up to {needed} of memory, and {room} are free"));
    }
    Ok((chosen, smaller, host))
}

fn request(
    args: &Args,
    manifest: &Manifest,
    rounds: &[Round],
    mut pictures: BTreeMap<String, Array3<u8>>,
    feeds: BTreeMap<String, ArrayD<f32>>,
) -> Result<RunRequest, Failure> {
    let how = match args.fit {
        FitArg::Stretch => Fit::Stretch,
        FitArg::Crop => Fit::Crop,
        FitArg::Pad => Fit::Pad,
    };
    for input in &manifest.inputs {
        if let Some(picture) = pictures.get_mut(&input.name) {
            *picture = fit(picture.view(), input.fit.0 as usize, input.fit.1 as usize, how)?;
        }
    }
    for seed in rounds.iter().filter_map(|r| r.seed) {
        manifest.check_seed(seed)?;
    }
    let save = rounds.first().map(Round::progress_path);
    let resume = match &save {
        Some(saved) if args.resume => Some(SavedLoop::read(saved, &at_seed(manifest, args.seed)?)?),
        _ => None,
    };
    let dumps = args.dumps.iter().map(|p| p.name.clone()).collect();
    let request = RunRequest { inputs: pictures, feeds, dumps, seed: args.seed, resume, save };
    request.check(manifest)?;
    Ok(request)
}

/// Lets a run that was stopped go on, with the plan that there is now, from the last step that it finished: `saved` if
/// there is one.
pub(super) fn go_on(ready: &mut Ready, round: &Round, saved: bool) -> Result<(), Failure> {
    ready.request.check(&ready.manifest)?;
    if saved {
        ready.request.resume = Some(SavedLoop::read(&round.progress_path(), &at_seed(&ready.manifest, round.seed)?)?);
    }
    Ok(())
}

/// What a run at this seed is a run of.
pub(super) fn at_seed(manifest: &Manifest, seed: Option<u64>) -> Result<Manifest, Failure> {
    Ok(seed.map_or_else(|| Ok(manifest.clone()), |seed| manifest.seeded(seed))?)
}

/// The command that makes a plan that runs here.
pub(super) fn other_plan(manifest: &Manifest) -> String {
    format!("this plan is for {}; `vidc compile {} --hw cpu -o PLANDIR` makes one for this machine", manifest.hardware, manifest.graph)
}

/// The provider must be one that vidc can start, and its devices be on this machine.
fn check_present(target: &Target, help: impl FnOnce() -> String) -> Result<(), Failure> {
    if let Some(what) = target.missing() {
        return Err(Diagnostic::new("target/cannot-run", what).help(help()).into());
    }
    match target.fits.absence(std::env::consts::OS, |file| Path::new(file).exists()) {
        None => Ok(()),
        Some(why) => Err(Diagnostic::new("runtime/provider-missing", format!("the plan needs {}: {why}", target.name)).help(help()).into()),
    }
}

/// [frames, height, width, channels] of an output.
pub(super) fn output_dim(manifest: &Manifest, output: &OutputEntry) -> (usize, usize, usize, usize) {
    let dims: Vec<usize> = manifest.values[output.value].ty.dims().iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
    match dims[..] {
        [_, frames, channels, height, width] => (frames, height, width, channels),
        _ => (0, 0, 0, 0),
    }
}

/// Frames a second as formats write them.
pub(super) fn rate(fps: f64) -> u32 {
    fps.round().max(0.0) as u32
}

fn check_output(kind: OutputKind, manifest: &Manifest, output: &OutputEntry) -> Result<(), Failure> {
    Ok(check_size(kind, output_dim(manifest, output), rate(output.fps))?)
}

/// There is room for the raw frames and the saved progress.
fn check_room(output: &Path, manifest: &Manifest, runs: usize) -> Result<(), Failure> {
    let folder = folder_of(output);
    let frames = |o: &OutputEntry| {
        let (f, h, w, c) = output_dim(manifest, o);
        [f, h, w, c].iter().fold(1u64, |n, d| n.saturating_mul(*d as u64))
    };
    let state = manifest.values.iter().filter(|v| v.loops > 0).filter_map(|v| v.ty.bytes()).max().unwrap_or(0);
    let videos = manifest.outputs.iter().map(frames).sum::<u64>().saturating_mul(runs as u64);
    let needs = videos.saturating_add(state.saturating_mul(2));
    check_disk(folder, Bytes(needs), "the output")
}

impl Ready {
    /// The next smaller plan takes the place of this one; are there any left?
    pub(super) fn next(&mut self) -> bool {
        if self.smaller.is_empty() {
            return false;
        }
        self.manifest = self.smaller.remove(0);
        true
    }

    fn predicted(&self, name: &str) -> Option<u64> {
        self.manifest.predicted.as_ref()?.get(name)?.as_u64()
    }

    /// What the check found, for people.
    pub(super) fn text(&self, runtime: &RuntimeStatus) -> String {
        let m = &self.manifest;
        let bytes = |b: Option<Bytes>| b.map_or_else(|| "not known".into(), |b| b.to_string());
        let seconds = m.predicted.as_ref().and_then(|p| p.get("latency_s")).and_then(Value::as_f64);
        let random = if m.is_random() { " (random weights: the picture means nothing)" } else { "" };
        format!(
            "{} of {} {} possible\nplan: {} for {}\nweights: {}{random}\noutput: {}\npredicted: {}, {} of memory ({} free)\n\n{}",
            if self.rounds.len() > 1 { format!("{} runs", self.rounds.len()) } else { "the run".into() },
            m.graph,
            if self.rounds.len() > 1 { "are" } else { "is" },
            self.folder.display(),
            m.hardware,
            m.weights,
            self.rounds.first().map_or_else(String::new, |r| r.output.display().to_string()),
            seconds.map_or_else(|| "not known".into(), |s| vidc::units::Time::from_secs(s).to_string()),
            bytes(self.predicted("host_bytes").map(Bytes)),
            bytes(self.free),
            status_text(runtime)
        )
    }

    /// What the check found, for programs.
    pub(super) fn json(&self, runtime: &RuntimeStatus) -> Value {
        let m = &self.manifest;
        json!({
            "possible": true,
            "graph": m.graph,
            "plan": self.folder,
            "hw": m.hardware,
            "weights": { "source": m.weights, "random": m.is_random() },
            "output": self.rounds.first().map(|r| &r.output),
            "outputs": self.rounds.iter().map(|r| &r.output).collect::<Vec<_>>(),
            "choices": m.choices,
            "effects": m.effects,
            "predicted": m.predicted,
            "free_memory_bytes": self.free,
            "runtime": runtime,
        })
    }
}
