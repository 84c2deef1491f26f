//! `vidc inspect MODEL.onnx`.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::render::{open_dims, tensors};
use crate::common::table::{grouped, table};
use crate::common::{Done, Out};
use vidc::hwdb::Machine;
use vidc::import::onnx::{ImportedModel, read_model};
use vidc::ir::Bindings;
use vidc::optimize::inspect::{self, Made, ModelFigures, Operators, RuleCount};
use vidc::units::{Bytes, Flop};

/// How many of the widest tensors are listed.
const WIDEST: usize = 8;

/// Runs the command.
pub(super) fn run(path: &Path, dims: &Bindings, machine: &Machine, out: &Out) -> Done {
    let model = read_model(path, dims)?;
    let shown = Shown {
        figures: inspect::figures(&model.graph)?,
        widest: inspect::widest(&model.graph, WIDEST),
        sites: inspect::sites(&model.graph, machine)?,
        model: &model,
        path,
    };
    out.result(|| shown.text(), || shown.json());
    Ok(())
}

struct Shown<'a> {
    path: &'a Path,
    model: &'a ImportedModel,
    figures: ModelFigures,
    widest: Vec<Made>,
    sites: Vec<RuleCount>,
}

impl Shown<'_> {
    fn text(&self) -> String {
        let f = &self.figures;
        let peak = f.peak.as_ref().map(|p| Bytes(p.live_bytes));
        format!(
            "{} ({}), operator set {}\n{}\n{} operators, {} parameters in {}\n{} a run, {} moved, peak {}\n{}\n{}\n{}\n{}",
            self.path.display(),
            f.name,
            self.model.opset,
            interface(f),
            f.nodes,
            grouped(f.parameters),
            Bytes(f.weight_bytes),
            known(f.flop.map(Flop)),
            known(f.bytes_moved.map(Bytes)),
            peak.map_or_else(|| "unknown: bind dims".into(), |p| format!("{p} beside weights, inputs and outputs")),
            open_dims(&self.model.open_dims(), &[]),
            operators(&f.operators),
            widest(&self.widest),
            sites(&self.sites),
        )
    }

    fn json(&self) -> Value {
        json!({
            "file": self.path,
            "opset": self.model.opset,
            "dims": self.model.dims,
            "model": self.figures,
            "widest": self.widest,
            "sites": self.sites,
        })
    }
}

/// A figure, or that it is not known.
pub(crate) fn known(figure: Option<impl ToString>) -> String {
    figure.map_or_else(|| "unknown".into(), |f| f.to_string())
}

fn interface(f: &ModelFigures) -> String {
    let row = |side: &str, v: &inspect::Value| vec![side.to_owned(), v.name.clone(), v.ty.clone()];
    let rows = f.inputs.iter().map(|v| row("input", v)).chain(f.outputs.iter().map(|v| row("output", v)));
    table(&["", "name", "type"], &rows.collect::<Vec<_>>())
}

fn operators(all: &[Operators]) -> String {
    let row = |o: &Operators| vec![o.count.to_string(), o.name.clone(), work(o.flop), known(o.bytes.map(Bytes))];
    table(&["count", "operator", "work", "moved"], &all.iter().map(row).collect::<Vec<_>>())
}

/// Work, or a dash for none.
fn work(flop: Option<u64>) -> String {
    if flop == Some(0) { "-".into() } else { known(flop.map(Flop)) }
}

fn widest(made: &[Made]) -> String {
    if made.is_empty() { String::new() } else { format!("widest tensors\n{}", tensors(made)) }
}

fn sites(all: &[RuleCount]) -> String {
    let row = |s: &RuleCount| {
        let done = if s.applied { "raised" } else { "declined" };
        vec![done.into(), s.count.to_string(), s.rule.clone(), s.first.clone(), s.failed.clone().unwrap_or_default()]
    };
    if all.is_empty() {
        return "no pattern that vidc knows, and none that comes near\n".into();
    }
    table(&["", "times", "pattern", "first at", "what failed"], &all.iter().map(row).collect::<Vec<_>>())
}
