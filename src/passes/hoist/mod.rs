//! `hoist`: takes out of a loop what its steps need not repeat.
//!
//! A model called in a loop computes some things from inputs that do not change in the loop (the *conditioning*: added ids, a
//! context that attention folded into a few rows) and some from inputs of which every step's value is known before the first
//! (the *schedule*: the timestep, its embedding and that embedding's projection in every residual block). The model is cut into
//!
//! ```text
//! MODEL.once       conditioning only: called once before the loop
//! MODEL.schedule   schedule, with or without conditioning: called once before the loop, all steps as one batch
//! MODEL            the rest, which gets the results as further inputs; of a schedule its own step's
//! ```
//! Legal because operators have no effect but their outputs, and because an operator that moves to the schedule acts on each
//! step alone (`batch`; one that does not stays). What moves is the cheapest cut under sizes alone (`cut`), no device asked, so
//! that one pipeline has one plan of calls. Bytes held through the loop never exceed the weights that the rest gets rid of.
//!
//! No knob: time falls in every step, by the weights that are no longer read (6.7 % of the denoiser of Stable Video Diffusion),
//! and so does memory where a stage's weights are loaded for the stage alone, which is where memory is scarce; what it costs are
//! the held results (8 MB of 25 steps). Both halves of guidance share what moved whatever the guidance knob says.
//!
//! Left alone: a share of an input. The part of the denoiser's first convolution that sees the picture's latents could be
//! computed once, the part that sees the noisy ones for one half of guidance; that would save 9 of 12 GFLOP in a step of tens of
//! TFLOP and hold 330 MB (28 pictures of 320 channels at 72 x 128). A schedule that cannot be batched: calls of a small model step
//! by step would do in every step what they do now.

mod batch;
mod cut;
mod parts;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Choices, Pass, PassCx, PassRecord, Remark, Rewriter, Status, Why, eliminate, fold_cross_attention, sink_repeat};
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::pipeline::{Axis, Call, Model, PipeGraph, PipeId, PipeNode, PipeOp, Prim, ValueId, ValueType, verify};
use crate::ir::{NodeId, Op, OpGraph, Program};
use crate::units::Bytes;
use cut::{Sized, When};
use parts::Pack;

/// Stable name of the pass.
pub const ID: &str = "hoist";
/// One line.
pub const SUMMARY: &str = "take out of loops what their steps need not repeat";

/// Takes out of every loop what its steps need not repeat: models that were cut have up to two further ones, `MODEL.once` and
/// `MODEL.schedule`. Returns what was done to each model that a loop calls; before it, the passes that prepared a model that was cut.
/// `machine` is handed to those; none of them looks at it. Passes named in `disabled` are left out, all if the pass itself is among them.
///
/// # Errors
/// A bug of the pass: what it makes is verified.
pub(super) fn run(program: &mut Program, machine: &Machine, disabled: &[String]) -> Result<Vec<PassRecord>> {
    let mut records = Vec::new();
    if disabled.iter().any(|d| d == ID) {
        return Ok(records);
    }
    let sites = sites(&program.pipeline.graph);
    // Calls outside of the loop count as well; no cut changes how many there are.
    let outsiders: Vec<usize> = sites.iter().map(|s| outside(&program.pipeline.graph, &s.call.model)).collect();
    for (site, outsiders) in sites.iter().zip(outsiders) {
        let nodes = program.models[&site.call.model].len();
        let mut record = PassRecord {
            id: ID,
            unit: site.call.model.clone(),
            status: Status::Unchanged,
            nodes_before: nodes,
            nodes_after: nodes,
            remarks: Vec::new(),
            elapsed: Duration::ZERO,
        };
        let several = sites.iter().filter(|s| s.call.model == site.call.model).count() + outsiders;
        if several > 1 {
            record.remarks.push(remark(site, false, Why::new("several-calls").with("calls", several as i64)));
        } else if let Some(rule) = site.declined {
            record.remarks.push(remark(site, false, Why::new(rule)));
        } else {
            records.extend(at(program, site, machine, disabled, &mut record)?);
        }
        records.push(record);
    }
    verify(&program.pipeline)?;
    Ok(records)
}

/// A call in a loop.
struct Site {
    /// The loop, in the pipeline's graph.
    looped: PipeId,
    /// The call, in the loop's body.
    node: PipeId,
    call: Call,
    /// Why the call is left alone, by where it stands: in a loop of the loop, or in an arm of a branch, which may not run at all. Then
    /// `looped` and `node` say nothing.
    declined: Option<&'static str>,
}

/// The calls in loops of the pipeline; loops in arms of its branches included.
fn sites(graph: &PipeGraph) -> Vec<Site> {
    let mut out = Vec::new();
    for looped in graph.order() {
        match &graph.node(looped).op {
            PipeOp::Loop(l) => {
                for node in l.body.order() {
                    let op = &l.body.node(node).op;
                    if let PipeOp::Call(call) = op {
                        out.push(Site { looped, node, call: call.clone(), declined: None });
                    }
                    let rule = if matches!(op, PipeOp::Branch(_)) { IN_A_BRANCH } else { "nested-loop" };
                    for body in op.bodies() {
                        calls(body, rule, &mut |call, rule| {
                            out.push(Site { looped, node, call: call.clone(), declined: Some(rule) });
                        });
                    }
                }
            }
            PipeOp::Branch(b) => {
                for call in b.arms().into_iter().flat_map(looped_calls) {
                    out.push(Site { looped, node: looped, call, declined: Some(IN_A_BRANCH) });
                }
            }
            _ => {}
        }
    }
    out
}

/// The rule of calls that a branch may leave out.
const IN_A_BRANCH: &str = "in-a-branch";

/// The calls of a graph in a loop's body, each with the rule that leaves it alone: an arm around it says more than a loop does.
fn calls(graph: &PipeGraph, rule: &'static str, found: &mut dyn FnMut(&Call, &'static str)) {
    for id in graph.order() {
        let op = &graph.node(id).op;
        if let PipeOp::Call(call) = op {
            found(call, rule);
        }
        let rule = if matches!(op, PipeOp::Branch(_)) { IN_A_BRANCH } else { rule };
        op.bodies().into_iter().for_each(|body| calls(body, rule, found));
    }
}

/// The calls in loops of an arm outside of loops.
fn looped_calls(arm: &PipeGraph) -> Vec<Call> {
    let mut out = Vec::new();
    for id in arm.order() {
        match &arm.node(id).op {
            PipeOp::Loop(l) => calls(&l.body, IN_A_BRANCH, &mut |call, _| out.push(call.clone())),
            PipeOp::Branch(b) => out.extend(b.arms().into_iter().flat_map(looped_calls)),
            _ => {}
        }
    }
    out
}

/// Calls of a model outside of loops, those in arms included.
fn outside(graph: &PipeGraph, model: &str) -> usize {
    let count = |id: PipeId| match &graph.node(id).op {
        PipeOp::Call(call) => usize::from(call.model == model),
        PipeOp::Branch(b) => b.arms().into_iter().map(|arm| outside(arm, model)).sum(),
        _ => 0,
    };
    graph.ids().map(count).sum()
}

fn remark(site: &Site, applied: bool, why: Why) -> Remark {
    Remark { applied, unit: site.call.model.clone(), site: site.call.model.clone(), knob: None, why }
}

/// When each port of a call is known, and the input of the loop behind it: only what the loop hands in as it is counts, so that a
/// value made in the body can still be fed.
fn ports(program: &Program, site: &Site) -> (Vec<When>, Vec<Option<ValueId>>) {
    let graph = &program.pipeline.graph;
    let PipeOp::Loop(l) = &graph.node(site.looped).op else { return (Vec::new(), Vec::new()) };
    let given = graph.inputs(site.looped);
    let port = |value: &ValueId| match l.body.node(value.node).op {
        PipeOp::Argument { index } if index >= l.carry.len() + l.each.len() => (When::Once, Some(given[index])),
        PipeOp::Argument { index } if index >= l.carry.len() => (When::Step, Some(given[index])),
        _ => (When::State, None),
    };
    l.body.inputs(site.node).iter().map(port).unzip()
}

/// Cuts the model of a call; what the passes did that prepared it, if it was cut.
fn at(program: &mut Program, site: &Site, machine: &Machine, disabled: &[String], record: &mut PassRecord) -> Result<Vec<PassRecord>> {
    let (when, sources) = ports(program, site);
    if when.iter().all(|w| *w == When::State) {
        return Ok(Vec::new());
    }
    let PipeOp::Loop(l) = &program.pipeline.graph.node(site.looped).op else { return Ok(Vec::new()) };
    let steps = l.steps;
    let extents: Vec<Vec<i64>> = l.body.inputs(site.node).iter().filter_map(|v| l.body.value_type(*v)).map(ValueType::dims).collect();
    let (graph, records) = prepared(&program.models[&site.call.model], machine, disabled)?;
    let signature = graph.signature();
    let given: Vec<_> = signature.inputs.iter().zip(extents).map(|((_, ty), dims)| (ty.dtype, dims)).collect();
    let bindings = signature
        .unify(&given)
        .map_err(|m| Diagnostic::new("graph/model-size", format!("`{}` cannot take {given:?}: {m:?}", site.call.model)))?;
    let Some((sized, moved)) = chosen(&graph, &bindings, when, steps, site, record)? else { return Ok(Vec::new()) };
    let border = sized.border(&moved);
    let packs = parts::packs(&graph, &sized, &border);
    let mut made = Vec::new();
    for (word, class, rule) in [("once", When::Once, "conditioning-only"), ("schedule", When::Step, "known-for-all-steps")] {
        let mine: Vec<&Pack> = packs.iter().filter(|p| p.when == class).collect();
        if mine.is_empty() {
            continue;
        }
        let name = format!("{}.{word}", site.call.model);
        let node = format!("{}.{word}", l.body.node(site.node).name);
        if program.models.contains_key(&name) || program.pipeline.locate(&node).is_some() {
            record.remarks.push(remark(site, false, Why::new("name-taken").with("name", name.as_str())));
            return Ok(Vec::new());
        }
        let of_class: BTreeSet<NodeId> = moved.iter().copied().filter(|id| sized.when[id] == class).collect();
        let held = sized.border_bytes(&border, class) * if class == When::Step { steps as u64 } else { 1 };
        let why = Why::new(rule)
            .with("nodes", of_class.len() as i64)
            .with("weights", Bytes(sized.weights(&of_class)))
            .with("held", Bytes(held))
            .with("tensors", border.iter().filter(|o| sized.when[&o.node] == class).count() as i64);
        record.remarks.push(remark(site, true, why));
        let graph = parts::before(name, &sized, &mine, steps)?;
        made.push(Made { node, class, graph });
    }
    let rest = parts::inside(&graph, &packs, &moved)?;
    record.status = Status::Changed;
    record.nodes_after = rest.len();
    install(program, site, rest, made, &sources)?;
    Ok(records)
}

/// The model after the exact passes that make dependence visible and tensors narrow; symbols stay.
fn prepared(graph: &OpGraph, machine: &Machine, disabled: &[String]) -> Result<(OpGraph, Vec<PassRecord>)> {
    let choices = Choices::default();
    let cx = PassCx { machine, choices: &choices };
    let mut graph = graph.clone();
    let unit = graph.name.clone();
    let mut records = Vec::new();
    // Folding constants is left to each part's own compile: it rounds, and a constant can be in several parts.
    let passes: [&dyn Pass; 3] = [&fold_cross_attention::FoldCrossAttention, &sink_repeat::SinkRepeat, &eliminate::Eliminate];
    for pass in passes.into_iter().filter(|p| !disabled.iter().any(|d| d == p.info().id)) {
        let nodes_before = graph.len();
        let mut rw = Rewriter::new(&unit, &mut graph);
        pass.run(&mut rw, &cx)?;
        let remarks = rw.finish();
        let status = if remarks.iter().any(|r| r.applied) { Status::Changed } else { Status::Unchanged };
        let (id, unit, nodes_after) = (pass.info().id, unit.clone(), graph.len());
        records.push(PassRecord { id, unit, status, nodes_before, nodes_after, remarks, elapsed: Duration::ZERO });
    }
    Ok((graph, records))
}

/// The nodes that leave the loop, if any do; without the schedule if its results for all steps were larger than its weights.
fn chosen<'a>(
    graph: &'a OpGraph,
    bindings: &crate::ir::Bindings,
    mut when: Vec<When>,
    steps: i64,
    site: &Site,
    record: &mut PassRecord,
) -> Result<Option<(Sized<'a>, BTreeSet<NodeId>)>> {
    let mut sized = Sized::new(graph, bindings, &when, steps)?;
    let mut moved = sized.worthwhile();
    let scheduled: BTreeSet<NodeId> = moved.iter().copied().filter(|id| sized.when[id] == When::Step).collect();
    let held = sized.border_bytes(&sized.border(&moved), When::Step).saturating_mul(steps as u64);
    let weights = sized.weights(&scheduled);
    if held > weights {
        let why = Why::new("results-outweigh-weights").with("held", Bytes(held)).with("weights", Bytes(weights)).with("steps", steps);
        record.remarks.push(remark(site, false, why));
        when.iter_mut().filter(|w| **w == When::Step).for_each(|w| *w = When::State);
        sized = Sized::new(graph, bindings, &when, steps)?;
        moved = sized.worthwhile();
    }
    if moved.is_empty() {
        record.remarks.push(remark(site, false, Why::new("saves-less-than-it-moves")));
        return Ok(None);
    }
    Ok(Some((sized, moved)))
}

/// A part that runs before the loop.
struct Made {
    /// The call's name.
    node: String,
    class: When,
    graph: OpGraph,
}

/// Puts the parts into the program: the calls before the loop, their results into the loop, the rest of the model into the call.
fn install(program: &mut Program, site: &Site, rest: OpGraph, made: Vec<Made>, sources: &[Option<ValueId>]) -> Result<()> {
    let model = site.call.model.clone();
    let counts: Vec<u64> = made.iter().map(|m| heavy(&m.graph)).collect();
    let all = (heavy(&rest) + counts.iter().sum::<u64>()).max(1);
    let mut values: Vec<(String, When, ValueId)> = Vec::new();
    for (part, count) in made.into_iter().zip(counts) {
        let share = (u64::from(program.pipeline.models[&model].share) * count / all) as u32;
        values.extend(call_before(program, site, &part, sources)?);
        let whole = &mut program.pipeline.models[&model];
        whole.share -= share;
        let entry = Model { signature: part.graph.signature(), share, ..whole.clone() };
        program.pipeline.models.insert(part.graph.name.clone(), entry);
        program.models.insert(part.graph.name.clone(), part.graph);
    }
    values.sort_by_key(|(_, when, _)| std::cmp::Reverse(*when));
    hand_in(program, site, &rest, &values);
    program.pipeline.models[&model].signature = rest.signature();
    program.models[&model] = rest;
    Ok(())
}

/// Operators that round by summing: what the noise of a model is shared out by.
fn heavy(graph: &OpGraph) -> u64 {
    let sums = |op: &Op| matches!(op, Op::Linear | Op::MatMul | Op::Gemm { .. } | Op::Conv(_) | Op::TemporalConv | Op::Attention(_));
    graph.nodes().into_iter().filter(|id| sums(&graph.node(*id).op)).count() as u64
}

/// Calls a part before the loop; its results by port.
fn call_before(program: &mut Program, site: &Site, part: &Made, sources: &[Option<ValueId>]) -> Result<Vec<(String, When, ValueId)>> {
    let signature = part.graph.signature();
    let mut inputs = Vec::new();
    for (port, ty) in &signature.inputs {
        let at = site.call.ports.iter().position(|p| p == port);
        let source = at.and_then(|i| sources[i]).ok_or_else(|| bug(&format!("`{port}` of `{}` is not known before", part.graph.name)))?;
        inputs.push(shaped(&mut program.pipeline.graph, &format!("{}.{port}", part.node), source, &dims(ty)?)?);
    }
    let types: Result<Vec<ValueType>> =
        signature.outputs.iter().map(|(_, t)| Ok(ValueType::Tensor { dtype: t.dtype, axes: dims(t)? })).collect();
    let names = |ports: &[(String, crate::ir::TensorType)]| ports.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    let call = Call { model: part.graph.name.clone(), ports: names(&signature.inputs), outputs: names(&signature.outputs) };
    let span = program.pipeline.graph.node(site.looped).span.clone();
    let node = PipeNode { name: part.node.clone(), op: PipeOp::Call(call), outputs: types?, span };
    let node = program.pipeline.graph.add(node, &inputs);
    let value = |(slot, (port, _)): (usize, &(String, crate::ir::TensorType))| (port.clone(), part.class, ValueId { node, slot });
    Ok(signature.outputs.iter().enumerate().map(value).collect())
}

fn dims(ty: &crate::ir::TensorType) -> Result<Vec<Axis>> {
    let dims = ty.dims().ok_or_else(|| bug(&format!("the type {ty} still has symbols")))?;
    Ok(dims.into_iter().map(|size| Axis { name: None, size }).collect())
}

fn bug(what: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::new("internal/bug", format!("in the pass `{ID}`: {what}")))
}

/// A value in the shape that a part takes: an array may be longer than the loop, and its steps become an axis of their own.
fn shaped(graph: &mut PipeGraph, name: &str, source: ValueId, want: &[Axis]) -> Result<ValueId> {
    let ty = graph.value_type(source).ok_or_else(|| bug("a loop reads nothing"))?.clone();
    let extents: Vec<i64> = want.iter().map(|a| a.size).collect();
    if ty.dims() == extents {
        return Ok(source);
    }
    let mut add = |name: String, prim: Prim, input: ValueId, ty: &ValueType| -> Result<(ValueId, ValueType)> {
        let out = prim.infer(std::slice::from_ref(ty)).map_err(|e| bug(&e.message))?;
        let node = PipeNode { name, op: PipeOp::Prim(prim), outputs: vec![out.clone()], span: None };
        Ok((graph.add(node, &[input]).into(), out))
    };
    let steps = extents.first().copied().unwrap_or(1);
    let (mut value, mut ty) = (source, ty);
    if ty.dims().first().is_some_and(|n| *n > steps) {
        (value, ty) = add(format!("{name}.steps"), Prim::Slice { axis: 0, start: 0, end: steps }, value, &ty)?;
    }
    Ok(add(name.to_owned(), Prim::Reshape { shape: want.to_vec() }, value, &ty)?.0)
}

/// Makes the results of the parts inputs of the loop and of the call in it.
fn hand_in(program: &mut Program, site: &Site, rest: &OpGraph, values: &[(String, When, ValueId)]) {
    let graph = &mut program.pipeline.graph;
    let mut given = graph.inputs(site.looped);
    let types: Vec<ValueType> = values.iter().filter_map(|(_, _, v)| graph.value_type(*v).cloned()).collect();
    let names: Vec<String> = values.iter().map(|(_, _, v)| graph.value_name(*v)).collect();
    let PipeOp::Loop(l) = &mut graph.node_mut(site.looped).op else { return };
    let arrays = values.iter().filter(|(_, when, _)| *when == When::Step).count();
    // Arrays stand before captures, whose arguments move up.
    let first_capture = l.carry.len() + l.each.len();
    for id in l.body.ids().collect::<Vec<_>>() {
        if let PipeOp::Argument { index } = &mut l.body.node_mut(id).op
            && *index >= first_capture
        {
            *index += arrays;
        }
    }
    let call = l.body.node(site.node).name.clone();
    let mut inside = Vec::new();
    let mut at = first_capture;
    for (i, (port, when, value)) in values.iter().enumerate() {
        let span = l.body.node(site.node).span.clone();
        if *when == When::Step {
            let name = format!("{call}.{port}.step");
            let one = one_step(&types[i]);
            let argument =
                PipeNode { name: name.clone(), op: PipeOp::Argument { index: at }, outputs: vec![one.clone()], span: span.clone() };
            let argument = l.body.add(argument, &[]);
            let squeeze = Prim::Squeeze { axis: 0 };
            let ty = ValueType::Tensor { dtype: one.dtype(), axes: one.axes()[1..].to_vec() };
            let now = PipeNode { name: format!("{call}.{port}"), op: PipeOp::Prim(squeeze), outputs: vec![ty], span };
            inside.push((port.as_str(), ValueId::from(l.body.add(now, &[argument.into()]))));
            l.each.push(name);
            given.insert(at, *value);
            at += 1;
        } else {
            // All arrays are in by now: they come first in `values`.
            let argument = PipeOp::Argument { index: given.len() };
            let node = PipeNode { name: names[i].clone(), op: argument, outputs: vec![types[i].clone()], span };
            inside.push((port.as_str(), ValueId::from(l.body.add(node, &[]))));
            l.captures.push(names[i].clone());
            given.push(*value);
        }
    }
    rewire(l, site, rest, &inside);
    graph.set_inputs(site.looped, &given);
}

/// Lets the call fill the ports of the rest, from what it had and from the results of the parts.
fn rewire(l: &mut crate::ir::pipeline::Loop, site: &Site, rest: &OpGraph, inside: &[(&str, ValueId)]) {
    let old = l.body.inputs(site.node);
    let ports: Vec<String> = rest.signature().inputs.into_iter().map(|(n, _)| n).collect();
    let value = |port: &String| {
        let new = inside.iter().find(|(p, _)| p == port).map(|(_, v)| *v);
        new.or_else(|| site.call.ports.iter().position(|p| p == port).map(|i| old[i]))
    };
    let inputs: Vec<ValueId> = ports.iter().filter_map(value).collect();
    if let PipeOp::Call(call) = &mut l.body.node_mut(site.node).op {
        call.ports = ports;
    }
    l.body.set_inputs(site.node, &inputs);
}

fn one_step(array: &ValueType) -> ValueType {
    let mut axes = array.axes().to_vec();
    if let Some(first) = axes.first_mut() {
        first.size = 1;
    }
    ValueType::Tensor { dtype: array.dtype(), axes }
}
