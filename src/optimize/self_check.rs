//! Does a provider compute what was asked for? A small graph of every form that a row of `target` may choose is run on it and compared with
//! [`interp`].
//!
//! A provider may take a lower precision than the graph says without a word (OpenVINO computes in bf16 on processors that have units for it). One rounding
//! to bf16 is off by up to 2^-9 (2e-3), one to tf32 or f16 by 2^-12 (2.4e-4), of operands whose sums are compared here; f32 stays below 1e-5. So each is checked once a machine before it is used.

use ndarray::ArrayD;
use serde::Serialize;

use super::candidate::{Candidate, ModelSource};
use super::inputs::{Dims, input_specs, random_inputs};
use crate::diag::{Diagnostic, Result};
use crate::hwdb::{Database, Machine};
use crate::interp;
use crate::ir::{OpGraph, parse, verify};
use crate::metrics::relative_l2;
use crate::onnx;
use crate::passes::{Checks, Choices, Debugging, compile_graph};
use crate::plan::{Placed, emit};
use crate::runtime::session::{Runtime, SessionOptions};
use crate::runtime::tensor::{Tensor, TensorView};
use crate::target::{Asked, Target};
use crate::units::Bytes;
use crate::weights::{DType, ParamSource, TensorBytes, WeightExpr, evaluate};

/// One graph a paragraph: a line `# name`, then its canonical text.
const GRAPHS: &str = include_str!("self_check.txt");

/// How far an output may be from the reference, relative to it: sums in f32 stay below 1e-5, the mildest of the lower precisions is above.
pub const LIMIT: f64 = 1e-4;

const SEED: u64 = 3;

/// One form of a provider beside the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckedForm {
    /// What it is, in words.
    pub form: &'static str,
    /// Relative L2 distance of the worst output.
    pub error: f64,
}

/// Runs every form on a provider.
///
/// # Errors
/// `runtime/self-check` if one is further off than [`LIMIT`], with all that are; those of making and running sessions.
pub fn self_check(runtime: &Runtime, target: &'static Target) -> Result<Vec<CheckedForm>> {
    let Some(machine) = machine_of(target) else { return Ok(Vec::new()) };
    let checked: Vec<CheckedForm> = graphs().map(|(form, text)| check(runtime, &machine, form, text)).collect::<Result<_>>()?;
    let off = |c: &&CheckedForm| c.error.is_nan() || c.error > LIMIT;
    let wrong: Vec<&CheckedForm> = checked.iter().filter(off).collect();
    if wrong.is_empty() {
        return Ok(checked);
    }
    let message = format!("{} computes other numbers than it was asked for: {} of {} forms", target.name, wrong.len(), checked.len());
    let d = Diagnostic::new("runtime/self-check", message).help("plan for another provider; `vidc doctor` shows which there are");
    Err(wrong.iter().fold(d, |d, c| d.note(format!("{}: off by {:.1e}, and {LIMIT:.0e} is allowed", c.form, c.error))).into())
}

/// Any device that the provider is for: forms follow from the row alone.
fn machine_of(target: &'static Target) -> Option<Machine> {
    let database = Database::new(None);
    let profiles = database.list().into_iter().flatten();
    profiles.filter(|p| target.fits.misfit(&p.device()).is_none()).map(|p| Machine::on(&p, target)).next()
}

fn graphs() -> impl Iterator<Item = (&'static str, &'static str)> {
    GRAPHS.split("\n\n").filter_map(|part| part.trim_start().strip_prefix("# ")?.split_once('\n'))
}

fn check(runtime: &Runtime, machine: &Machine, form: &'static str, text: &str) -> Result<CheckedForm> {
    let graph = parse::parse(text)?;
    let lowered = compile_graph(&graph, machine, &Choices::default(), Checks::Traced, &Debugging::default())?.graph;
    let mut weights = |expr: &WeightExpr| evaluate(&expr.bind(&ParamSource::Random { seed: SEED })?);
    let proto = emit(verify(&lowered)?, &onnx::Style::default(), &mut |expr| Ok(Placed::Embedded(weights(expr)?.bytes)))?;
    let inputs = random_inputs(&input_specs(&proto, &Dims::new())?, SEED)?;
    let dims: Vec<(String, Vec<i64>)> = inputs.iter().map(|(n, t)| (n.clone(), t.shape().iter().map(|d| *d as i64).collect())).collect();
    let asked = Asked { device: 0, types: &[DType::F32].into(), tf32: false, scratch: Bytes(32 << 20), inputs: &dims };
    let mut providers = machine.target.providers(&asked);
    // Nothing is kept of graphs this small.
    providers.iter_mut().for_each(|p| p.options.retain(|name, _| !machine.target.folders.contains(&name.as_str())));
    let options = SessionOptions { providers, forbid_cpu_nodes: !machine.target.is_builtin(), ..SessionOptions::default() };
    let mut session = Candidate::new(form, ModelSource::Memory(onnx::encode(&proto)?), options).open(runtime)?;
    let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
    let got = session.run(&views, &["y"])?;
    Ok(CheckedForm { form, error: distance(&got[0], &reference(&graph, &inputs, &mut weights)?) })
}

/// What the graph as written computes, in f64.
fn reference(
    graph: &OpGraph,
    inputs: &[(String, Tensor)],
    weights: &mut dyn FnMut(&WeightExpr) -> Result<TensorBytes>,
) -> Result<ArrayD<f64>> {
    let inputs: Vec<(&str, ArrayD<f64>)> = inputs.iter().map(|(name, t)| (name.as_str(), numbers(t))).collect();
    let mut of = |expr: &WeightExpr| {
        let values = weights(expr)?.to_f32().into_iter().map(f64::from).collect();
        let shape: Vec<usize> = expr.shape().iter().map(|d| *d as usize).collect();
        ArrayD::from_shape_vec(shape, values).map_err(|e| Diagnostic::new("model/evaluate", e.to_string()).into())
    };
    let mut outputs = interp::run::<f64>(graph, &inputs, &mut of)?;
    outputs.swap_remove("y").ok_or_else(|| Diagnostic::new("model/evaluate", "the graph has no output `y`").into())
}

fn numbers(t: &Tensor) -> ArrayD<f64> {
    let values = t.as_slice::<f32>().unwrap_or_default().iter().map(|v| f64::from(*v)).collect();
    ArrayD::from_shape_vec(t.shape().to_vec(), values).unwrap_or_default()
}

fn distance(got: &Tensor, want: &ArrayD<f64>) -> f64 {
    let got = numbers(got);
    if got.shape() == want.shape() { relative_l2(got.view(), want.view()) } else { f64::INFINITY }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::runtime::session::tests::test_runtime;
    use crate::target::row;

    #[test]
    fn the_providers_of_every_build_compute_what_was_asked_for() {
        let Some(runtime) = test_runtime() else { return };
        let checked = self_check(&runtime, row("cpu").unwrap()).unwrap();
        assert_eq!(checked.len(), graphs().count());
        assert!(checked.iter().all(|c| c.error < 1e-5 && c.error > 0.0), "{checked:?}");
    }

    #[test]
    fn a_distance_to_what_has_another_shape_is_infinite() {
        let t = Tensor::from_slice(&[2], &[1.0f32, 2.0]).unwrap();
        assert!(distance(&t, &ArrayD::zeros(vec![3])).is_infinite());
    }
}
