//! Predicted beside measured, operator by operator, of a model as it is run.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::cost::operator::{cost, point};
use crate::diag::Result;
use crate::hwdb::{Family, Machine};
use crate::import::onnx::read_model;
use crate::ir::{Bindings, Op};
use crate::onnx;
use crate::optimize::candidate::options_of;
use crate::optimize::kernels::graph_times;
use crate::optimize::model::{Level, optimize};
use crate::optimize::statistics::median;
use crate::passes::Choices;
use crate::passes::manager::Debugging;
use crate::runtime::session::{Runtime, SessionOptions};

/// One operator of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its node.
    pub node: String,
    /// What it is.
    pub op: String,
    /// The class of its kernel.
    pub class: Family,
    /// The type of its first output.
    pub output: String,
    /// Seconds of its kernel, as predicted.
    pub predicted: f64,
    /// Seconds of its kernel, as measured.
    pub measured: f64,
}

impl Row {
    /// Predicted over measured, less 1.
    pub fn error(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// Its operators, views aside.
    pub rows: Vec<Row>,
    /// Operators that vidc knows by their interface alone, so that they count as moves: those of a model that was compiled before. A run of a model
    /// that has some is not predicted.
    pub unknown: usize,
    /// Seconds of a run as predicted: kernels and dispatch.
    pub predicted: f64,
    /// Seconds of a run as measured, without a profile.
    pub measured: f64,
    /// Seconds to make its session.
    pub load: f64,
}

/// The median of the absolute relative errors of some rows; 0 of none.
pub fn median_error<'a>(rows: impl IntoIterator<Item = &'a Row>) -> f64 {
    let errors: Vec<f64> = rows.into_iter().map(|r| r.error().abs()).collect();
    median(&errors).map_or(0.0, |m| m.median)
}

/// By class: how many, their time as measured, their time as predicted, their median error.
pub fn by_class(rows: &[Row]) -> BTreeMap<Family, (usize, f64, f64, f64)> {
    let classes: std::collections::BTreeSet<Family> = rows.iter().map(|r| r.class).collect();
    let of = |class: Family| {
        let own: Vec<&Row> = rows.iter().filter(|r| r.class == class).collect();
        let sum = |f: fn(&Row) -> f64| own.iter().map(|r| f(r)).sum::<f64>();
        (class, (own.len(), sum(|r| r.measured), sum(|r| r.predicted), median_error(own.iter().copied())))
    };
    classes.into_iter().map(of).collect()
}

/// Compiles a model as it was exported, with weights that are made up, runs it for about `seconds` and holds the predictions for a machine against it.
///
/// # Errors
/// Those of reading and running a model; `model/unbound` if an extent is open.
pub fn check(runtime: &Runtime, machine: &Machine, model: &Path, dims: &Bindings, threads: usize, seconds: f64) -> Result<Checked> {
    let imported = read_model(model, dims)?;
    let options = options_of(&onnx::read(model)?, &SessionOptions { threads, ..SessionOptions::default() })?;
    let graph = optimize(&imported, machine, &Choices::default(), Level::Full, &Debugging::default())?.graph;
    let (kernels, times) = graph_times(runtime, &graph, &options, seconds)?;
    let predicted = graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_)));
    let predicted = predicted.map(|id| Ok(cost(&graph, id, machine)?.time.secs())).sum::<Result<f64>>()?;
    let (mut rows, mut unknown) = (Vec::new(), 0);
    for (id, measured) in kernels {
        let node = graph.node(id);
        if matches!(node.op, Op::Foreign(_)) {
            unknown += 1;
            continue;
        }
        if let Some(point) = point(&graph, id, measured)? {
            let output = node.outs.first().map_or_else(String::new, ToString::to_string);
            let (name, op) = (node.name.clone(), node.op.name().to_owned());
            rows.push(Row { node: name, op, class: point.class, output, predicted: point.predicted(machine), measured });
        }
    }
    Ok(Checked { rows, unknown, predicted, measured: times.run, load: times.load })
}
