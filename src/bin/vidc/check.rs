//! `vidc check`: validates a graph or a plan and lists what `--set`, `--input`, `--feed` and `--dump` can name.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::args::Pair;
use crate::common::args::pair;
use crate::common::table::{grouped, table};
use crate::common::target::{Named, load, target};
use crate::common::{Done, Failure, Out};
use vidc::diag::{Diagnostic, Diagnostics};
use vidc::ir::{Program, verify};
use vidc::models::parameter_count;
use vidc::plan::{self, Manifest, hex};
use vidc::runtime::prepared::check_files;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A graph file, the name of a graph inside vidc, or a plan directory.
    target: String,
    /// Set a parameter of the graph.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<Pair>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    match target(&args.target)? {
        Named::Graph(source) => {
            let program = load(&source, &args.set)?;
            check_graphs(&program)?;
            out.result(|| program_text(&program), || program_json(&program));
        }
        Named::Plan(_) if !args.set.is_empty() => {
            return Err(Failure::Usage("a plan has its parameters already; --set is for graphs".into()));
        }
        Named::Plan(folder) => {
            let manifest = Manifest::read(&folder)?;
            check_plan(&folder, &manifest)?;
            out.result(|| plan_text(&folder, &manifest), || plan_json(&manifest));
        }
    }
    Ok(())
}

/// Binds every model to the sizes that it is called with.
fn check_graphs(program: &Program) -> Result<(), Failure> {
    for site in program.sessions() {
        verify(&program.bound(&site)?)?;
    }
    Ok(())
}

fn program_text(program: &Program) -> String {
    let p = &program.pipeline;
    let mut out = p.text_with_places();
    let params: Vec<Vec<String>> = p.params.iter().map(|(k, v)| vec![k.clone(), v.to_string()]).collect();
    let _ = write!(out, "\n{}\n", table(&["parameter", "value"], &params));
    let model = |(name, graph): (&String, &std::sync::Arc<vidc::ir::OpGraph>)| {
        vec![name.clone(), p.models[name].decl.architecture.value.clone(), grouped(parameter_count(graph))]
    };
    out += &table(&["model", "architecture", "weights (numbers)"], &program.models.iter().map(model).collect::<Vec<_>>());
    let _ = writeln!(out, "\n{} is a valid graph", p.name);
    out
}

fn program_json(program: &Program) -> Value {
    let p = &program.pipeline;
    let type_of = |at: &vidc::ir::pipeline::Located| p.graph_of(at)?.value_type(at.value).map(ToString::to_string);
    let value = |(name, at): &(String, vidc::ir::pipeline::Located)| json!({ "name": name, "type": type_of(at), "loops": at.loops(), "arms": at.arms() });
    let values: Vec<Value> = p.values().iter().map(value).collect();
    let model = |(name, graph): (&String, &std::sync::Arc<vidc::ir::OpGraph>)| json!({ "name": name, "architecture": p.models[name].decl.architecture.value, "parameters": parameter_count(graph) });
    json!({
        "graph": p.name,
        "fingerprint": hex(&p.fingerprint()),
        "parameters": p.params.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<serde_json::Map<_, _>>(),
        "values": values,
        "models": program.models.iter().map(model).collect::<Vec<_>>(),
    })
}

/// Everything that can be checked without running: weights, models, and the plan's own file, each against its hash.
fn check_plan(folder: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let mut found = Diagnostics::default();
    if let Err(d) = check_files(folder, manifest) {
        found.push(*d);
    }
    for session in &manifest.sessions {
        let path: PathBuf = folder.join(&session.file);
        let what = match std::fs::read(&path) {
            Ok(bytes) if hex(&Sha256::digest(&bytes)) == session.sha256 => continue,
            Ok(_) => "is not the one that the plan was written with".into(),
            Err(e) => format!("cannot be read: {e}"),
        };
        found.push(Diagnostic::new("plan/broken", format!("the model `{}` {what}", path.display())).help("compile the graph again"));
    }
    Ok(found.into_result(())?)
}

fn plan_text(folder: &Path, m: &Manifest) -> String {
    let value = |v: &plan::manifest::ValueEntry| {
        let steps = match (v.loops, v.arms) {
            (0, 0) => "",
            (0, _) => "in an arm of a branch: NaN where the other ran",
            (_, 0) => "in a loop: a leading axis of steps",
            _ => "in a loop: a leading axis of steps; in an arm: NaN in steps where the other ran",
        };
        vec![v.name.clone(), v.ty.to_string(), steps.into()]
    };
    let params: Vec<Vec<String>> = m.parameters.iter().map(|(k, v)| vec![k.clone(), v.to_string()]).collect();
    let inputs: Vec<&str> = m.inputs.iter().map(|i| i.name.as_str()).collect();
    format!(
        "{}\n{}\ninputs: {}\nhardware: {}; weights: {}\n\n{} is a valid plan of {}\n",
        table(&["value", "type", ""], &m.values.iter().map(value).collect::<Vec<_>>()),
        table(&["parameter", "value"], &params),
        inputs.join(", "),
        m.hardware,
        m.weights,
        folder.display(),
        m.graph
    )
}

fn plan_json(m: &Manifest) -> Value {
    let value = |v: &plan::manifest::ValueEntry| json!({ "name": v.name, "type": v.ty.to_string(), "loops": v.loops, "arms": v.arms });
    json!({
        "graph": m.graph,
        "fingerprint": m.fingerprint,
        "hardware": m.hardware,
        "weights": { "source": m.weights, "random": m.is_random() },
        "parameters": m.parameters,
        "values": m.values.iter().map(value).collect::<Vec<_>>(),
        "inputs": m.inputs.iter().map(|i| &i.name).collect::<Vec<_>>(),
        "choices": m.choices,
        "effects": m.effects,
        "predicted": m.predicted,
    })
}
