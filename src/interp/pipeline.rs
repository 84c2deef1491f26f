//! A pipeline evaluated as its definition says, one node after the other: what the executor of plans is held to.

use std::collections::BTreeMap;

use ndarray::{Axis, Slice};

use crate::diag::{Diagnostic, Result};
use crate::ir::pipeline::{Branch, Call, Loop, PipeGraph, PipeOp, Pipeline, Value, ValueId, eval_prim};

/// Runs a model on the values of its ports, in the order of its signature; returns its outputs.
pub type Caller<'a> = &'a mut dyn FnMut(&Call, &[&Value]) -> Result<Vec<Value>>;

/// Evaluates `pipeline`: the frames of its outputs, and every value by name each time that it was made, in order. What a loop carries
/// counts where a step makes it; what an arm makes counts where the arm ran.
///
/// # Errors
/// `internal/bug` if an input is missing or types are not what was promised; what `call` returns.
pub fn run_pipeline(
    pipeline: &Pipeline,
    inputs: &BTreeMap<String, Value>,
    call: Caller<'_>,
) -> Result<(Vec<Value>, BTreeMap<String, Vec<Value>>)> {
    let mut run = Run { inputs, call, made: BTreeMap::new() };
    let outputs = run.graph(&pipeline.graph, &[])?;
    Ok((outputs, run.made))
}

struct Run<'a> {
    inputs: &'a BTreeMap<String, Value>,
    call: Caller<'a>,
    made: BTreeMap<String, Vec<Value>>,
}

impl Run<'_> {
    fn graph(&mut self, graph: &PipeGraph, arguments: &[Value]) -> Result<Vec<Value>> {
        let mut values: BTreeMap<ValueId, Value> = BTreeMap::new();
        for node in graph.order() {
            let inputs: Vec<Value> = graph.inputs(node).iter().map(|v| values[v].clone()).collect();
            let op = &graph.node(node).op;
            let outputs = self.node(&graph.node(node).name, op, &inputs, arguments)?;
            for (slot, value) in outputs.into_iter().enumerate() {
                let id = ValueId { node, slot };
                if !matches!(op, PipeOp::Argument { .. } | PipeOp::Loop(_)) {
                    self.made.entry(graph.value_name(id)).or_default().push(value.clone());
                }
                values.insert(id, value);
            }
        }
        Ok(graph.results.iter().map(|v| values[v].clone()).collect())
    }

    fn node(&mut self, name: &str, op: &PipeOp, inputs: &[Value], arguments: &[Value]) -> Result<Vec<Value>> {
        let given: Vec<&Value> = inputs.iter().collect();
        match op {
            PipeOp::Input { .. } => Ok(vec![self.inputs.get(name).cloned().ok_or_else(|| missing(name))?]),
            PipeOp::Argument { index } => Ok(vec![arguments.get(*index).cloned().ok_or_else(|| missing(name))?]),
            PipeOp::Prim(prim) => Ok(vec![eval_prim(prim, &given)?]),
            PipeOp::Call(call) => (self.call)(call, &given),
            PipeOp::Loop(l) => self.looped(l, inputs),
            // What is in a device's memory changes no value.
            PipeOp::Load(_) | PipeOp::Unload(_) => Ok(Vec::new()),
            PipeOp::Branch(b) => {
                let number = inputs[0].tensor()?.first().copied().ok_or_else(|| missing(name))?;
                self.graph(if Branch::takes_then(number, b.below) { &b.then } else { &b.otherwise }, inputs)
            }
        }
    }

    fn looped(&mut self, l: &Loop, inputs: &[Value]) -> Result<Vec<Value>> {
        let (mut state, rest) = (inputs[..l.carry.len()].to_vec(), &inputs[l.carry.len()..]);
        let (arrays, captures) = rest.split_at(l.each.len());
        for i in 0..l.steps as usize {
            let one = |array: &Value| Ok(Value::Tensor(array.tensor()?.slice_axis(Axis(0), Slice::from(i..=i)).to_owned()));
            let each: Vec<Value> = arrays.iter().map(one).collect::<Result<_>>()?;
            state = self.graph(&l.body, &[&state[..], &each, captures].concat())?;
        }
        Ok(state)
    }
}

fn missing(name: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::new("internal/bug", format!("interp::pipeline: nothing is given for `{name}`")))
}
