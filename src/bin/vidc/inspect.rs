//! `vidc inspect`: what is inside an ONNX model, the models of a graph, or a plan.

mod model;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::common::args::{DimArgs, Pair, ProviderArgs, pair};
use crate::common::table::{grouped, table};
use crate::common::target::{Named, check_kind, load, machine, model as model_path, target};
use crate::common::{Done, Failure, Out};
use vidc::cost::graph::GraphCost;
use vidc::ir::{Op, OpGraph, Program};
use vidc::models::parameter_count;
use vidc::passes::manager::Debugging;
use vidc::passes::{Checks, Choices, Planned};
use vidc::plan::Manifest;
use vidc::units::Flop;

pub(crate) use model::known;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX model, a graph file, the name of a graph inside vidc, or a plan directory.
    target: String,
    /// The device that `raise` looks for patterns for: a key of `vidc hw list`, or cpu for this machine.
    #[arg(long, value_name = "KEY", default_value = "cpu")]
    hw: String,
    #[command(flatten)]
    dims: DimArgs,
    /// Set a parameter of the graph.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<Pair>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let path = model_path(&args.target);
    check_kind(path.is_some(), &args.set, &args.dims)?;
    if let Some(path) = path {
        return model::run(path, &args.dims.bindings(), &machine(&args.hw, &ProviderArgs::default())?, out);
    }
    match target(&args.target)? {
        Named::Graph(source) => {
            let program = load(&source, &args.set)?;
            let models = models(&program)?;
            out.result(|| models_text(&program, &models), || models_json(&program, &models));
        }
        Named::Plan(folder) => {
            let manifest = Manifest::read(&folder)?;
            out.result(|| plan_text(&manifest), || json!({ "plan": manifest }));
        }
    }
    Ok(())
}

/// A model in figures.
struct Figures {
    name: String,
    parameters: u64,
    nodes: usize,
    operators: BTreeMap<String, usize>,
    /// One run, and how many runs there are.
    work: Vec<(String, Flop, u64)>,
}

fn models(program: &Program) -> Result<Vec<Figures>, Failure> {
    // The work does not depend on the device. Models are shown as they are declared.
    let machine = machine("cpu-avx2", &ProviderArgs::default())?;
    let whole = Debugging { disable: vec!["hoist".into()], ..Debugging::default() };
    let lowered = Planned::of(program, &machine, &whole)?.compile(&Choices::default(), Checks::Fast)?;
    let walk = lowered.program.pipeline.walk();
    let mut out = Vec::new();
    for (name, graph) in &program.models {
        let mut work = Vec::new();
        for m in walk.moments.iter().filter(|m| &m.call.model == name) {
            let cost = GraphCost::of(&lowered.sessions[&m.placement.session].graph, &machine)?;
            work.push((m.node.to_owned(), cost.flop, m.times));
        }
        let operators = operators(graph);
        out.push(Figures { name: name.clone(), parameters: parameter_count(graph), nodes: operators.values().sum(), operators, work });
    }
    Ok(out)
}

fn operators(graph: &OpGraph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in graph.nodes() {
        let op = &graph.node(id).op;
        if !matches!(op, Op::Input | Op::Weight(_)) {
            *counts.entry(op.name().to_owned()).or_default() += 1;
        }
    }
    counts
}

fn models_text(program: &Program, models: &[Figures]) -> String {
    let row = |m: &Figures| {
        let architecture = program.pipeline.models[&m.name].decl.architecture.value.clone();
        let work: Vec<String> = m.work.iter().map(|(_, flop, n)| format!("{n} x {flop}")).collect();
        vec![m.name.clone(), architecture, grouped(m.parameters), m.nodes.to_string(), work.join(" + ")]
    };
    let mut out = table(&["model", "architecture", "weights (numbers)", "nodes", "work"], &models.iter().map(row).collect::<Vec<_>>());
    for m in models {
        let _ = writeln!(out, "\n{}: operators by count", m.name);
        let mut counts: Vec<(&String, &usize)> = m.operators.iter().collect();
        counts.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), *name));
        let rows: Vec<Vec<String>> = counts.into_iter().map(|(name, n)| vec![n.to_string(), name.clone()]).collect();
        out += &table(&["count", "operator"], &rows);
    }
    out
}

fn models_json(program: &Program, models: &[Figures]) -> Value {
    let work = |(node, flop, n): &(String, Flop, u64)| json!({ "node": node, "flop": flop, "executions": n });
    let model = |m: &Figures| {
        json!({
            "name": m.name,
            "architecture": program.pipeline.models[&m.name].decl.architecture.value,
            "parameters": m.parameters,
            "nodes": m.nodes,
            "operators": m.operators,
            "work": m.work.iter().map(work).collect::<Vec<_>>(),
        })
    };
    json!({ "graph": program.pipeline.name, "models": models.iter().map(model).collect::<Vec<_>>() })
}

fn plan_text(m: &Manifest) -> String {
    let session = |s: &vidc::plan::manifest::SessionEntry| {
        vec![s.name.clone(), s.file.clone(), s.weights.join(" "), s.sha256[..12.min(s.sha256.len())].to_owned()]
    };
    let file =
        |f: &vidc::plan::WeightsEntry| vec![f.location.clone(), vidc::units::Bytes(f.bytes).to_string(), f.path.display().to_string()];
    let choices: Vec<Vec<String>> = m.choices.0.iter().map(|(k, v)| vec![k.to_string(), v.clone()]).collect();
    format!(
        "plan of {} for {}, made by vidc {}; weights: {}\n\n{}\n{}\n{}",
        m.graph,
        m.hardware,
        m.vidc,
        m.weights,
        table(&["session", "model", "weights", "sha256"], &m.sessions.iter().map(session).collect::<Vec<_>>()),
        table(&["weights", "size", "file"], &m.files.iter().map(file).collect::<Vec<_>>()),
        table(&["knob", "answer"], &choices)
    )
}
