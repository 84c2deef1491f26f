//! A lowered pipeline as the steps of a plan, one for one: values get indices, loops and branches keep their bodies and arms, captures
//! become the values they capture.

use std::collections::BTreeMap;

use super::manifest::{Carry, Given, InputEntry, OutputEntry, Step, ValueEntry};
use crate::diag::{Diagnostic, Result};
use crate::ir::op::ForChunks;
use crate::ir::pipeline::{Branch, Call, Loop, PipeGraph, PipeId, PipeOp, ValueId};
use crate::ir::{Program, program};

/// The steps and what they name.
#[derive(Debug, Default)]
pub(super) struct StepList {
    pub(super) values: Vec<ValueEntry>,
    pub(super) inputs: Vec<InputEntry>,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<OutputEntry>,
}

/// The steps of a lowered pipeline; `sessions` names those of the plan, by index.
pub(super) fn lower(program: &Program, sessions: &[&str]) -> Result<StepList> {
    let mut l = Lowerer { program, sessions, out: StepList::default() };
    let (steps, map) = l.graph(&program.pipeline.graph, &BTreeMap::new(), Depth::default())?;
    let mut out = l.out;
    out.outputs = program
        .pipeline
        .outputs
        .iter()
        .zip(&program.pipeline.graph.results)
        .map(|(o, v)| OutputEntry { name: o.name.clone(), value: map[v], fps: o.fps })
        .collect();
    out.steps = steps;
    Ok(out)
}

struct Lowerer<'a> {
    program: &'a Program,
    sessions: &'a [&'a str],
    out: StepList,
}

type ValueMap = BTreeMap<ValueId, usize>;

/// How many loops and how many arms are around a step.
#[derive(Clone, Copy, Default)]
struct Depth {
    loops: usize,
    arms: usize,
}

impl Lowerer<'_> {
    fn value(&mut self, graph: &PipeGraph, id: ValueId, depth: Depth) -> usize {
        let ty = graph.node(id.node).outputs[id.slot].clone();
        self.out.values.push(ValueEntry { name: graph.value_name(id), ty, loops: depth.loops, arms: depth.arms });
        self.out.values.len() - 1
    }

    /// The steps of a graph; `arguments` says which value each argument node stands for.
    fn graph(&mut self, graph: &PipeGraph, arguments: &BTreeMap<PipeId, usize>, depth: Depth) -> Result<(Vec<Step>, ValueMap)> {
        let mut map = ValueMap::new();
        let mut steps = Vec::new();
        for id in graph.order() {
            let node = graph.node(id);
            if let Some(value) = arguments.get(&id) {
                map.insert(id.into(), *value);
                continue;
            }
            let inputs: Vec<usize> = graph.inputs(id).iter().map(|v| map[v]).collect();
            let outputs: Vec<usize> = (0..node.outputs.len())
                .map(|slot| {
                    let id = ValueId { node: id, slot };
                    let value = self.value(graph, id, depth);
                    map.insert(id, value);
                    value
                })
                .collect();
            match &node.op {
                PipeOp::Input { fit } => self.out.inputs.push(InputEntry { name: node.name.clone(), value: outputs[0], fit: *fit }),
                PipeOp::Argument { .. } => {}
                PipeOp::Prim(prim) => steps.push(Step::Host { prim: prim.clone(), inputs, output: outputs[0] }),
                PipeOp::Call(call) => steps.push(self.call(call, &inputs, &outputs)?),
                PipeOp::Loop(l) => steps.push(self.looped(&node.name, l, &inputs, &outputs, depth)?),
                PipeOp::Branch(b) => steps.push(self.branch(&node.name, b, &inputs, &outputs, depth)?),
                PipeOp::Load(session) => steps.push(Step::Load { session: self.session(session)? }),
                PipeOp::Unload(session) => steps.push(Step::Unload { session: self.session(session)? }),
            }
        }
        Ok((steps, map))
    }

    fn session(&self, name: &str) -> Result<usize> {
        let found = self.sessions.iter().position(|s| *s == name);
        found.ok_or_else(|| Box::new(Diagnostic::new("internal/bug", format!("the plan has no session `{name}`"))))
    }

    fn call(&mut self, call: &Call, inputs: &[usize], outputs: &[usize]) -> Result<Step> {
        let Some(placement) = &call.placement else {
            return Err(Box::new(Diagnostic::new("internal/bug", format!("nothing runs a call of `{}`", call.model))));
        };
        let session = self.session(&placement.session)?;
        let named = |ports: &[String], values: &[usize]| ports.iter().cloned().zip(values.iter().copied()).collect::<Vec<_>>();
        let outputs = named(&call.outputs, outputs);
        if placement.pieces == 1 {
            return Ok(Step::Run { session, inputs: named(&call.ports, inputs), outputs });
        }
        let signature = self.program.models[&call.model].signature();
        let cuts: Vec<bool> = signature.inputs.iter().map(|(_, ty)| program::cut(ty)).collect();
        let batch = cuts.iter().zip(inputs).find(|(cut, _)| **cut).and_then(|(_, v)| self.out.values[*v].ty.dims().first().copied());
        let inputs = named(&call.ports, inputs).into_iter().zip(cuts).map(|((port, value), cut)| (port, value, cut)).collect();
        let ranges = ForChunks::even_ranges(batch.unwrap_or(1), placement.pieces).into_iter().map(|(s, e)| (s as usize, e as usize));
        Ok(Step::ForChunks { session, ranges: ranges.collect(), inputs, outputs })
    }

    fn looped(&mut self, name: &str, l: &Loop, inputs: &[usize], outputs: &[usize], depth: Depth) -> Result<Step> {
        let depth = Depth { loops: depth.loops + 1, ..depth };
        let mut arguments = BTreeMap::new();
        for id in l.body.ids().collect::<Vec<_>>() {
            if let PipeOp::Argument { index } = l.body.node(id).op {
                // A capture is the value itself; state and per-step values get a value of their own.
                let state = index < l.carry.len() + l.each.len();
                arguments.insert(id, if state { self.value(&l.body, id.into(), depth) } else { inputs[index] });
            }
        }
        let seen: BTreeMap<usize, usize> = arguments
            .iter()
            .filter_map(|(id, value)| match l.body.node(*id).op {
                PipeOp::Argument { index } => Some((index, *value)),
                _ => None,
            })
            .collect();
        let (body, map) = self.graph(&l.body, &arguments, depth)?;
        let carry = (0..l.carry.len())
            .map(|i| Carry {
                init: inputs[i],
                before: seen.get(&i).copied().unwrap_or(inputs[i]),
                after: map[&l.body.results[i]],
                result: outputs[i],
            })
            .collect();
        let each = (l.carry.len()..l.carry.len() + l.each.len()).filter_map(|i| Some((inputs[i], *seen.get(&i)?))).collect();
        Ok(Step::Loop { name: name.into(), steps: l.steps as usize, carry, each, body })
    }

    fn branch(&mut self, name: &str, b: &Branch, inputs: &[usize], outputs: &[usize], depth: Depth) -> Result<Step> {
        let depth = Depth { arms: depth.arms + 1, ..depth };
        let (then, first) = self.arm(&b.then, inputs, depth)?;
        let (otherwise, second) = self.arm(&b.otherwise, inputs, depth)?;
        let results = first.into_iter().zip(second).zip(outputs);
        let results = results.map(|((then, otherwise), result)| Given { then, otherwise, result: *result }).collect();
        Ok(Step::Branch { name: name.into(), value: inputs[0], below: b.below, then, otherwise, results })
    }

    /// The steps of an arm, and the value of each of its results: what it reads of the outside is the value itself.
    fn arm(&mut self, arm: &PipeGraph, inputs: &[usize], depth: Depth) -> Result<(Vec<Step>, Vec<usize>)> {
        let argument = |id: PipeId| match arm.node(id).op {
            PipeOp::Argument { index } => Some((id, inputs[index])),
            _ => None,
        };
        let (steps, map) = self.graph(arm, &arm.ids().filter_map(argument).collect(), depth)?;
        let results = arm.results.iter().map(|v| map[v]).collect();
        Ok((steps, results))
    }
}
