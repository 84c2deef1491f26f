//! `vidc diff`: what differs between two models, or between the models of two graphs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::common::args::{DimArgs, GraphArgs};
use crate::common::table::{grouped, table};
use crate::common::{Done, Failure, Out, target};
use crate::inspect::known;
use vidc::import::onnx::read_model;
use vidc::ir::OpGraph;
use vidc::optimize::diff::{Difference, OperatorStep, Parting, diff};
use vidc::optimize::inspect::ModelFigures;
use vidc::units::{Bytes, Flop};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX model, a graph file, or the name of a graph inside vidc.
    a: String,
    /// The same kind of thing.
    b: String,
    #[command(flatten)]
    dims: DimArgs,
}

/// Models by name.
type Models = Vec<(String, OpGraph)>;

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let is_model = target::model(&args.a).is_some();
    if is_model != target::model(&args.b).is_some() {
        return Err(Failure::Usage("two ONNX models are compared, or two graphs, not one with the other".into()));
    }
    target::check_kind(is_model, &[], &args.dims)?;
    let (a, b) = (models(&args.a, &args.dims)?, models(&args.b, &args.dims)?);
    let lacking = |x: &Models, y: &Models| x.iter().map(|m| &m.0).filter(|n| y.iter().all(|m| m.0 != **n)).cloned().collect();
    let mut shown = Shown { args, pairs: Vec::new(), only_a: lacking(&a, &b), only_b: lacking(&b, &a) };
    for (name, graph) in &a {
        if let Some((_, other)) = b.iter().find(|m| m.0 == *name) {
            shown.pairs.push((name.clone(), diff(graph, other)?));
        }
    }
    out.result(|| shown.text(), || shown.json());
    Ok(())
}

/// The model of a file, or those of a graph at the sizes at which it calls them.
fn models(name: &str, dims: &DimArgs) -> Result<Models, Failure> {
    if let Some(path) = target::model(name) {
        return Ok(vec![("model".into(), read_model(path, &dims.bindings())?.graph)]);
    }
    let program = target::program(&GraphArgs { graph: name.into(), set: Vec::new() })?;
    program.sessions().into_iter().map(|site| Ok((site.session.clone(), program.bound(&site)?))).collect()
}

struct Shown<'a> {
    args: &'a Args,
    pairs: Vec<(String, Difference)>,
    only_a: Vec<String>,
    only_b: Vec<String>,
}

impl Shown<'_> {
    fn text(&self) -> String {
        let mut out = format!("A: {}\nB: {}\n", self.args.a, self.args.b);
        for (side, names) in [("A", &self.only_a), ("B", &self.only_b)].into_iter().filter(|(_, names)| !names.is_empty()) {
            let _ = writeln!(out, "only in {side}: {}", names.join(", "));
        }
        for (name, d) in &self.pairs {
            let _ = write!(out, "\n{name}: {}", difference(d));
        }
        out
    }

    fn json(&self) -> Value {
        let pair = |(name, d): &(String, Difference)| json!({ "name": name, "same": d.is_empty(), "difference": d });
        json!({
            "a": self.args.a,
            "b": self.args.b,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "models": self.pairs.iter().map(pair).collect::<Vec<_>>(),
        })
    }
}

fn difference(d: &Difference) -> String {
    if d.is_empty() {
        return "the same, names and the values of weights aside\n".into();
    }
    let mut out = format!("\n{}", figures(&d.a, &d.b));
    if !d.interface.is_empty() {
        let side = |ty: &Option<String>| ty.clone().unwrap_or_else(|| "-".into());
        let rows: Vec<Vec<String>> = d.interface.iter().map(|c| vec![c.side.into(), c.name.clone(), side(&c.a), side(&c.b)]).collect();
        let _ = write!(out, "\n{}", table(&["interface", "name", "A", "B"], &rows));
    }
    if !d.operators.is_empty() {
        let change = |a: usize, b: usize| format!("{:+}", b as i64 - a as i64);
        let row = |c: &vidc::optimize::diff::Counts| vec![c.name.clone(), c.a.to_string(), c.b.to_string(), change(c.a, c.b)];
        let _ = write!(out, "\n{}", table(&["operator", "A", "B", ""], &d.operators.iter().map(row).collect::<Vec<_>>()));
    }
    out + &d.parting.as_ref().map_or_else(String::new, parting)
}

fn figures(a: &ModelFigures, b: &ModelFigures) -> String {
    let row = |what: &str, of: fn(&ModelFigures) -> String| vec![what.to_owned(), of(a), of(b)];
    let rows = [
        row("operators", |f| f.nodes.to_string()),
        row("parameters", |f| grouped(f.parameters)),
        row("weights", |f| Bytes(f.weight_bytes).to_string()),
        row("work", |f| known(f.flop.map(Flop))),
        row("moved", |f| known(f.bytes_moved.map(Bytes))),
        row("peak", |f| known(f.peak.as_ref().map(|p| Bytes(p.live_bytes)))),
    ];
    table(&["", "A", "B"], &rows)
}

fn parting(p: &Parting) -> String {
    let row = |side: &str, s: &OperatorStep| vec![side.to_owned(), s.operator.clone(), s.types.join(", "), s.name.clone()];
    let rows: Vec<Vec<String>> = p.a.iter().map(|s| row("A", s)).chain(p.b.iter().map(|s| row("B", s))).collect();
    format!("\nthe first {} operators are the same; then\n{}", p.same, table(&["", "operator", "type", "name"], &rows))
}
