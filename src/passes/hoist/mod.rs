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

use super::manager::{Checks, Compiled, Debugging, run_passes};
use super::program_edit::ProgramEdit;
use super::{Choices, Effect, Pass, PassCx, PassInfo, Rewriter, Why, eliminate, fold_cross_attention, sink_repeat};
use crate::diag::{Diagnostic, Result};
use crate::ir::pipeline::{Axis, Call, Model, PipeGraph, PipeId, PipeNode, PipeOp, Pipeline, Prim, ValueId, ValueType};
use crate::ir::{NodeId, Op, OpGraph, Program};
use crate::units::Bytes;
use cut::{Sized, When};
use parts::Pack;

pub(super) struct Hoist;

static INFO: PassInfo = PassInfo {
    id: "hoist",
    summary: "take out of loops what their steps need not repeat",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[],
    example: "\
graph: svd-tiny
before:
  %latents = loop denoise(latents=%latents_init; each sigma=%sigmas, sigma_next=%next_sigmas, timestep=%timesteps; …
    %unet_out = call unet(sample=%unet_sample, timestep=%timestep, encoder_hidden_states=%context, added_time_ids=%added_time_ids) : …
after:
  %unet_out.once.once_0, … = call unet.once(encoder_hidden_states=%context) : …
  %unet_out.schedule.schedule_0, … = call unet.schedule(timestep=%unet_out.schedule.timestep, added_time_ids=%added_time_ids) : …
  %latents = loop denoise(latents=%latents_init; … unet_out.schedule_0.step=%unet_out.schedule.schedule_0, …
    %unet_out = call unet(sample=%unet_sample, once_0=%unet_out.once.once_0, … schedule_0=%unet_out.schedule_0, …
",
};

impl Pass<Program> for Hoist {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_, Program>, cx: &PassCx<'_>) -> Result<()> {
        let graph = &rw.graph().pipeline.graph;
        let sites = sites(graph);
        // Calls outside of the loop count as well; no cut changes how many there are.
        let outsiders: Vec<usize> = sites.iter().map(|s| outside(graph, &s.call.model)).collect();
        for (site, outsiders) in sites.iter().zip(outsiders) {
            let several = sites.iter().filter(|s| s.call.model == site.call.model).count() + outsiders;
            if several > 1 {
                rw.decline(&site.name, None, Why::new("several-calls").with("calls", several as i64));
            } else if let Some(rule) = site.declined {
                rw.decline(&site.name, None, Why::new(rule));
            } else {
                at(rw, site, cx)?;
            }
        }
        Ok(())
    }
}

/// A call in a loop.
struct Site {
    /// The loop, in the pipeline's graph.
    looped: PipeId,
    /// The call, in the loop's body.
    node: PipeId,
    /// The call's name.
    name: String,
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
                        out.push(Site { looped, node, name: l.body.node(node).name.clone(), call: call.clone(), declined: None });
                    }
                    let rule = if matches!(op, PipeOp::Branch(_)) { IN_A_BRANCH } else { "nested-loop" };
                    for body in op.bodies() {
                        calls(body, rule, &mut |name, call, rule| {
                            out.push(Site { looped, node, name: name.into(), call: call.clone(), declined: Some(rule) });
                        });
                    }
                }
            }
            PipeOp::Branch(b) => {
                for (name, call) in b.arms().into_iter().flat_map(looped_calls) {
                    out.push(Site { looped, node: looped, name, call, declined: Some(IN_A_BRANCH) });
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
fn calls(graph: &PipeGraph, rule: &'static str, found: &mut dyn FnMut(&str, &Call, &'static str)) {
    for id in graph.order() {
        let op = &graph.node(id).op;
        if let PipeOp::Call(call) = op {
            found(&graph.node(id).name, call, rule);
        }
        let rule = if matches!(op, PipeOp::Branch(_)) { IN_A_BRANCH } else { rule };
        op.bodies().into_iter().for_each(|body| calls(body, rule, found));
    }
}

/// The calls in loops of an arm outside of loops.
fn looped_calls(arm: &PipeGraph) -> Vec<(String, Call)> {
    let mut out = Vec::new();
    for id in arm.order() {
        match &arm.node(id).op {
            PipeOp::Loop(l) => calls(&l.body, IN_A_BRANCH, &mut |name, call, _| out.push((name.into(), call.clone()))),
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

/// Cuts the model of a call, if that saves anything.
fn at(rw: &mut Rewriter<'_, Program>, site: &Site, cx: &PassCx<'_>) -> Result<()> {
    let program = rw.graph();
    let (when, sources) = ports(program, site);
    if when.iter().all(|w| *w == When::State) {
        return Ok(());
    }
    let PipeOp::Loop(l) = &program.pipeline.graph.node(site.looped).op else { return Ok(()) };
    let steps = l.steps;
    let extents: Vec<Vec<i64>> = l.body.inputs(site.node).iter().filter_map(|v| l.body.value_type(*v)).map(ValueType::dims).collect();
    let prepared = prepared(&program.models[&site.call.model], cx)?;
    let graph = prepared.graph;
    let signature = graph.signature();
    let given: Vec<_> = signature.inputs.iter().zip(extents).map(|((_, ty), dims)| (ty.dtype, dims)).collect();
    let bindings = signature
        .unify(&given)
        .map_err(|m| Diagnostic::new("graph/model-size", format!("`{}` cannot take {given:?}: {m:?}", site.call.model)))?;
    let Some((sized, moved)) = chosen(&graph, &bindings, when, steps, site, rw)? else { return Ok(()) };
    let Some(made) = parts(&sized, &moved, steps, site, rw)? else { return Ok(()) };
    let border = sized.border(&moved);
    let rest = parts::inside(&graph, &parts::packs(&graph, &sized, &border), &moved)?;
    rw.ran(prepared.trace.records);
    install(rw, site, &rest, made, &sources)
}

/// The parts that leave the loop, each with its reason; none if a name is taken.
fn parts(
    sized: &Sized<'_>,
    moved: &BTreeSet<NodeId>,
    steps: i64,
    site: &Site,
    rw: &mut Rewriter<'_, Program>,
) -> Result<Option<Vec<Made>>> {
    let border = sized.border(moved);
    let packs = parts::packs(sized.graph, sized, &border);
    let mut made = Vec::new();
    for (word, class, rule) in [("once", When::Once, "conditioning-only"), ("schedule", When::Step, "known-for-all-steps")] {
        let mine: Vec<&Pack> = packs.iter().filter(|p| p.when == class).collect();
        if mine.is_empty() {
            continue;
        }
        let name = format!("{}.{word}", site.call.model);
        let node = format!("{}.{word}", site.name);
        if rw.graph().models.contains_key(&name) || rw.graph().pipeline.locate(&node).is_some() {
            rw.decline(&site.name, None, Why::new("name-taken").with("name", name.as_str()));
            return Ok(None);
        }
        let of_class: BTreeSet<NodeId> = moved.iter().copied().filter(|id| sized.when[id] == class).collect();
        let held = sized.border_bytes(&border, class) * if class == When::Step { steps as u64 } else { 1 };
        let why = Why::new(rule)
            .with("nodes", of_class.len() as i64)
            .with("weights", Bytes(sized.weights(&of_class)))
            .with("held", Bytes(held))
            .with("tensors", border.iter().filter(|o| sized.when[&o.node] == class).count() as i64);
        let graph = parts::before(name, sized, &mine, steps)?;
        made.push(Made { node, class, graph, why });
    }
    Ok(Some(made))
}

/// The model after the exact passes that make dependence visible and tensors narrow; symbols stay.
fn prepared(graph: &OpGraph, cx: &PassCx<'_>) -> Result<Compiled> {
    // Folding constants is left to each part's own compile: it rounds, and a constant can be in several parts.
    let passes: [Box<dyn Pass>; 3] =
        [Box::new(fold_cross_attention::FoldCrossAttention), Box::new(sink_repeat::SinkRepeat), Box::new(eliminate::Eliminate)];
    let whole = Debugging { stop_after: None, ..cx.debugging.clone() };
    run_passes(&passes, graph, &PassCx { debugging: &whole, choices: &Choices::default(), ..*cx }, Checks::Traced)
}

/// The nodes that leave the loop, if any do; without the schedule if its results for all steps were larger than its weights.
fn chosen<'a>(
    graph: &'a OpGraph,
    bindings: &crate::ir::Bindings,
    mut when: Vec<When>,
    steps: i64,
    site: &Site,
    rw: &mut Rewriter<'_, Program>,
) -> Result<Option<(Sized<'a>, BTreeSet<NodeId>)>> {
    let mut sized = Sized::new(graph, bindings, &when, steps)?;
    let mut moved = sized.worthwhile();
    let scheduled: BTreeSet<NodeId> = moved.iter().copied().filter(|id| sized.when[id] == When::Step).collect();
    let held = sized.border_bytes(&sized.border(&moved), When::Step).saturating_mul(steps as u64);
    let weights = sized.weights(&scheduled);
    if held > weights {
        let why = Why::new("results-outweigh-weights").with("held", Bytes(held)).with("weights", Bytes(weights)).with("steps", steps);
        rw.decline(&site.name, None, why);
        when.iter_mut().filter(|w| **w == When::Step).for_each(|w| *w = When::State);
        sized = Sized::new(graph, bindings, &when, steps)?;
        moved = sized.worthwhile();
    }
    if moved.is_empty() {
        rw.decline(&site.name, None, Why::new("saves-less-than-it-moves"));
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
    why: Why,
}

/// Puts the parts into the program: the calls before the loop, their results into the loop, the rest of the model into the call.
/// An edit for each part, as each has its own reason; the last one also cuts the call.
fn install(rw: &mut Rewriter<'_, Program>, site: &Site, rest: &OpGraph, made: Vec<Made>, sources: &[Option<ValueId>]) -> Result<()> {
    let model = &site.call.model;
    let counts: Vec<u64> = made.iter().map(|m| heavy(&m.graph)).collect();
    let all = (heavy(rest) + counts.iter().sum::<u64>()).max(1);
    let whole = u64::from(rw.graph().pipeline.models[model].share);
    let last = made.len().saturating_sub(1);
    let mut values: Vec<(String, When, ValueId)> = Vec::new();
    for (i, (part, count)) in made.into_iter().zip(counts).enumerate() {
        rw.apply(&site.name, None, part.why.clone(), |e| {
            values.extend(call_before(e.pipeline(), site, &part, sources)?);
            add_part(e, model, part.graph, (whole * count / all) as u32);
            if i == last {
                values.sort_by_key(|(_, when, _)| std::cmp::Reverse(*when));
                hand_in(e.pipeline(), site, rest, &values);
                e.pipeline().models[model].signature = rest.signature();
                e.set_model(model, rest.clone());
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A part as a model of its own, which takes its share of the noise from the whole.
fn add_part(e: &mut ProgramEdit<'_>, model: &str, graph: OpGraph, share: u32) {
    let whole = &mut e.pipeline().models[model];
    whole.share -= share;
    let entry = Model { signature: graph.signature(), share, ..whole.clone() };
    let name = graph.name.clone();
    e.pipeline().models.insert(name.clone(), entry);
    e.set_model(name, graph);
}

/// Operators that round by summing: what the noise of a model is shared out by.
fn heavy(graph: &OpGraph) -> u64 {
    let sums = |op: &Op| matches!(op, Op::Linear | Op::MatMul | Op::Gemm { .. } | Op::Conv(_) | Op::TemporalConv | Op::Attention(_));
    graph.nodes().into_iter().filter(|id| sums(&graph.node(*id).op)).count() as u64
}

/// Calls a part before the loop; its results by port.
fn call_before(pipeline: &mut Pipeline, site: &Site, part: &Made, sources: &[Option<ValueId>]) -> Result<Vec<(String, When, ValueId)>> {
    let signature = part.graph.signature();
    let mut inputs = Vec::new();
    for (port, ty) in &signature.inputs {
        let at = site.call.ports.iter().position(|p| p == port);
        let source = at.and_then(|i| sources[i]).ok_or_else(|| bug(&format!("`{port}` of `{}` is not known before", part.graph.name)))?;
        inputs.push(shaped(&mut pipeline.graph, &format!("{}.{port}", part.node), source, &dims(ty)?)?);
    }
    let types: Result<Vec<ValueType>> =
        signature.outputs.iter().map(|(_, t)| Ok(ValueType::Tensor { dtype: t.dtype, axes: dims(t)? })).collect();
    let names = |ports: &[(String, crate::ir::TensorType)]| ports.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    let call =
        Call { model: part.graph.name.clone(), ports: names(&signature.inputs), outputs: names(&signature.outputs), placement: None };
    let span = pipeline.graph.node(site.looped).span.clone();
    let node = PipeNode { name: part.node.clone(), op: PipeOp::Call(call), outputs: types?, span };
    let node = pipeline.graph.add(node, &inputs);
    let value = |(slot, (port, _)): (usize, &(String, crate::ir::TensorType))| (port.clone(), part.class, ValueId { node, slot });
    Ok(signature.outputs.iter().enumerate().map(value).collect())
}

fn dims(ty: &crate::ir::TensorType) -> Result<Vec<Axis>> {
    let dims = ty.dims().ok_or_else(|| bug(&format!("the type {ty} still has symbols")))?;
    Ok(dims.into_iter().map(|size| Axis { name: None, size }).collect())
}

fn bug(what: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::new("internal/bug", format!("in the pass `hoist`: {what}")))
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
fn hand_in(pipeline: &mut Pipeline, site: &Site, rest: &OpGraph, values: &[(String, When, ValueId)]) {
    let graph = &mut pipeline.graph;
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
