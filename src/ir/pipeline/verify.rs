//! The invariants of a pipeline. `verify` checks them; whoever changes a [`Pipeline`] keeps them.
//!
//! 1. The graph has no cycle; so has no body and no arm.
//! 2. Each input slot `0..n` of a node is filled exactly once, by an output that exists.
//! 3. Each node has the number of inputs and outputs that its operator has.
//! 4. The type of a primitive's output is what [`Prim::infer`](super::Prim::infer) says of its inputs, names of axes apart.
//! 5. A call names a model of the pipeline and all of its ports in order; its output types follow from the signature.
//! 6. A loop has at least one step; its inputs are carry, each, captures; each array has an element for each step; the body's arguments
//!    have distinct indices within those inputs and the types that the loop gives them; the body's results have the types of the carried values.
//! 7. A branch's first input is one f32, its number is finite, it gives something; the arms' arguments have distinct indices within its
//!    inputs and their types; each arm has a result for each name, of the type of the output.
//! 8. `Argument` stands only in bodies and arms, `Input` only outside of them.
//! 9. Names of values are not empty and unique in each graph.
//! 10. Either no call has a session or all have; calls with one session call one model. Loads and unloads stand in graphs whose order is
//!     fixed and where calls have sessions; then each call finds its session loaded, a load finds it not loaded, an unload loaded, and a
//!     loop's body and a branch's arms leave loaded what they found.
//! 11. A fixed order holds every node once, each behind what it reads.
//! 12. `inputs` are exactly the input nodes; `outputs` and results of the graph are equally many, at least one, and each is a video.
//!
//! Not checked: that axis names agree (they change nothing), that a model is called at all, that a value is used.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Deref;

use super::call::call_types;
use super::resolve::{decides, is_video, one_step};
use super::{Branch, Call, Loop, PipeGraph, PipeId, PipeOp, Pipeline, ValueType};
use crate::diag::{Diagnostic, Result};

/// A pipeline that keeps the invariants of this module.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'p>(&'p Pipeline);

impl Deref for Verified<'_> {
    type Target = Pipeline;
    fn deref(&self) -> &Pipeline {
        self.0
    }
}

/// Checks the invariants.
///
/// # Errors
/// `internal/bug` with the first that does not hold: a pipeline is made by vidc, so a broken one is vidc's mistake.
pub fn verify(pipeline: &Pipeline) -> Result<Verified<'_>> {
    let graph = &pipeline.graph;
    verify_graph(pipeline, graph, None)?;
    verify_placement(pipeline)?;
    let declared: HashSet<PipeId> = pipeline.inputs.iter().copied().collect();
    let found: HashSet<PipeId> = graph.ids().filter(|id| matches!(graph.node(*id).op, PipeOp::Input { .. })).collect();
    ensure(declared == found && declared.len() == pipeline.inputs.len(), graph, None, "the inputs are not the input nodes")?;
    ensure(
        !pipeline.outputs.is_empty() && pipeline.outputs.len() == graph.results.len(),
        graph,
        None,
        "outputs and results differ in number",
    )?;
    for result in &graph.results {
        ensure(graph.value_type(*result).is_some_and(is_video), graph, Some(result.node), "an output is not a video")?;
    }
    Ok(Verified(pipeline))
}

/// `arguments`: in a body or an arm, the type of each argument.
fn verify_graph(p: &Pipeline, graph: &PipeGraph, arguments: Option<&[ValueType]>) -> Result<()> {
    ensure(graph.is_in_order(), graph, None, "the order leaves out a node, or there is a cycle")?;
    let mut names = HashSet::new();
    let mut indices = HashSet::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let slots = graph.input_slots(id);
        ensure(slots.iter().copied().eq(0..slots.len()), graph, Some(id), "an input slot is empty or filled twice")?;
        let inputs = input_types(graph, id)?;
        for slot in 0..node.outputs.len() {
            let name = node.value_name(slot);
            ensure(!name.is_empty() && names.insert(name), graph, Some(id), "the name of a value is empty or taken")?;
        }
        verify_node(p, graph, id, &inputs, arguments)?;
        if let PipeOp::Argument { index } = &node.op {
            ensure(indices.insert(*index), graph, Some(id), "two arguments have one index")?;
        }
    }
    Ok(())
}

fn verify_node(p: &Pipeline, graph: &PipeGraph, id: PipeId, inputs: &[ValueType], arguments: Option<&[ValueType]>) -> Result<()> {
    let node = graph.node(id);
    let outputs = &node.outputs;
    match &node.op {
        PipeOp::Input { fit } => {
            let one = inputs.is_empty() && arguments.is_none() && fit.0 > 0 && fit.1 > 0;
            ensure(one && outputs[..] == [ValueType::Picture { size: None }], graph, Some(id), "an input is a picture, outside of bodies")
        }
        PipeOp::Argument { index } => {
            let given = arguments.and_then(|a| a.get(*index));
            let fits = inputs.is_empty() && outputs.len() == 1 && given.is_some_and(|g| g.same_shape(&outputs[0]));
            ensure(fits, graph, Some(id), "an argument is not what the loop or branch gives")
        }
        PipeOp::Prim(prim) => match prim.infer(inputs) {
            Ok(ty) => ensure(outputs.len() == 1 && outputs[0].same_shape(&ty), graph, Some(id), &format!("the inputs give {ty}")),
            Err(e) => ensure(false, graph, Some(id), &e.message),
        },
        PipeOp::Call(call) => verify_call(p, graph, id, call, inputs),
        PipeOp::Loop(l) => verify_loop(p, graph, id, l, inputs),
        PipeOp::Branch(b) => verify_branch(p, graph, id, b, inputs),
        PipeOp::Load(_) | PipeOp::Unload(_) => {
            ensure(inputs.is_empty() && outputs.is_empty(), graph, Some(id), "it has no values")?;
            ensure(graph.is_ordered(), graph, Some(id), "the order around it is not fixed")
        }
    }
}

fn verify_call(p: &Pipeline, graph: &PipeGraph, id: PipeId, call: &Call, inputs: &[ValueType]) -> Result<()> {
    let node = graph.node(id);
    let Some(model) = p.models.get(&call.model) else { return ensure(false, graph, Some(id), "the model is not declared") };
    let ports = model.signature.inputs.iter().map(|(n, _)| n);
    ensure(ports.eq(call.ports.iter()) && inputs.len() == call.ports.len(), graph, Some(id), "the ports are not the model's")?;
    let ports = model.signature.outputs.iter().map(|(n, _)| n);
    ensure(ports.eq(call.outputs.iter()), graph, Some(id), "the outputs are not the model's")?;
    let types = call_types(&model.signature, inputs).unwrap_or_default();
    let equal = types.len() == node.outputs.len() && types.iter().zip(&node.outputs).all(|(a, b)| a.same_shape(b));
    ensure(
        equal && types.iter().all(|t| t.dims().iter().all(|d| *d > 0)),
        graph,
        Some(id),
        "the output types do not follow from the signature",
    )
}

fn verify_loop(p: &Pipeline, graph: &PipeGraph, id: PipeId, l: &Loop, inputs: &[ValueType]) -> Result<()> {
    let node = graph.node(id);
    let at = Some(id);
    let (carry, each) = (l.carry.len(), l.each.len());
    ensure(l.steps >= 1, graph, at, "a loop has at least one step")?;
    ensure(inputs.len() == carry + each + l.captures.len(), graph, at, "the inputs are not carry, each, captures")?;
    let arrays = &inputs[carry..carry + each];
    let long = arrays.iter().all(|a| a.axes().first().is_some_and(|axis| axis.size >= l.steps));
    ensure(long, graph, at, "an array is shorter than the loop")?;
    let arguments: Vec<ValueType> =
        inputs.iter().enumerate().map(|(i, t)| if (carry..carry + each).contains(&i) { one_step(t) } else { t.clone() }).collect();
    verify_graph(p, &l.body, Some(&arguments))?;
    ensure(l.body.results.len() == carry && node.outputs.len() == carry, graph, at, "results and carried values differ in number")?;
    for ((result, output), init) in l.body.results.iter().zip(&node.outputs).zip(inputs) {
        let same = l.body.value_type(*result).is_some_and(|t| t.same_shape(output)) && output.same_shape(init);
        ensure(same, graph, at, "a carried value changes its type")?;
    }
    Ok(())
}

fn verify_branch(p: &Pipeline, graph: &PipeGraph, id: PipeId, b: &Branch, inputs: &[ValueType]) -> Result<()> {
    let outputs = &graph.node(id).outputs;
    let at = Some(id);
    ensure(inputs.first().is_some_and(decides), graph, at, "a branch is decided by one number")?;
    ensure(b.below.is_finite(), graph, at, "a branch compares with a number")?;
    ensure(!outputs.is_empty() && outputs.len() == b.gives.len(), graph, at, "a branch gives what it has names for, at least one value")?;
    for arm in b.arms() {
        verify_graph(p, arm, Some(inputs))?;
        let types = arm.results.iter().map(|v| arm.value_type(*v));
        let fits = types.len() == outputs.len() && types.zip(outputs).all(|(t, output)| t.is_some_and(|t| t.same_shape(output)));
        ensure(fits, graph, at, "an arm does not give what the branch gives")?;
    }
    Ok(())
}

/// Calls and their sessions, loads and unloads (10).
fn verify_placement(p: &Pipeline) -> Result<()> {
    let mut found = Placements::default();
    found.look(&p.graph)?;
    let placed = found.models.len();
    ensure(found.unplaced == 0 || (placed == 0 && !found.moves), &p.graph, None, "some calls have a session, some have none")?;
    if found.moves { loaded_where_called(&p.graph, &mut BTreeSet::new()) } else { Ok(()) }
}

#[derive(Default)]
struct Placements<'p> {
    /// The model of each session.
    models: BTreeMap<&'p str, &'p str>,
    unplaced: usize,
    /// Are there loads and unloads?
    moves: bool,
}

impl<'p> Placements<'p> {
    fn look(&mut self, graph: &'p PipeGraph) -> Result<()> {
        for id in graph.ids() {
            match &graph.node(id).op {
                PipeOp::Call(Call { placement: None, .. }) => self.unplaced += 1,
                PipeOp::Call(Call { placement: Some(at), model, .. }) => {
                    let known = *self.models.entry(&at.session).or_insert(model);
                    ensure(known == model, graph, Some(id), "its session has another model")?;
                    ensure(at.pieces >= 1, graph, Some(id), "a call is made in at least one piece")?;
                }
                PipeOp::Load(_) | PipeOp::Unload(_) => self.moves = true,
                op => op.bodies().into_iter().try_for_each(|body| self.look(body))?,
            }
        }
        Ok(())
    }
}

fn loaded_where_called<'p>(graph: &'p PipeGraph, loaded: &mut BTreeSet<&'p str>) -> Result<()> {
    for id in graph.order() {
        match &graph.node(id).op {
            PipeOp::Load(session) => ensure(loaded.insert(session), graph, Some(id), "the session is loaded already")?,
            PipeOp::Unload(session) => ensure(loaded.remove(session.as_str()), graph, Some(id), "the session is not loaded")?,
            PipeOp::Call(call) => {
                let there = call.placement.as_ref().is_some_and(|p| loaded.contains(p.session.as_str()));
                ensure(there, graph, Some(id), "its session is not loaded")?;
            }
            op => {
                for body in op.bodies() {
                    let before = loaded.clone();
                    loaded_where_called(body, loaded)?;
                    ensure(before == *loaded, graph, Some(id), "its body leaves other sessions loaded than it found")?;
                }
            }
        }
    }
    Ok(())
}

fn input_types(graph: &PipeGraph, id: PipeId) -> Result<Vec<ValueType>> {
    let types: Option<Vec<ValueType>> = graph.inputs(id).into_iter().map(|v| graph.value_type(v).cloned()).collect();
    match types {
        Some(types) => Ok(types),
        None => ensure(false, graph, Some(id), "an input reads an output that does not exist").map(|()| Vec::new()),
    }
}

fn ensure(holds: bool, graph: &PipeGraph, at: Option<PipeId>, what: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    let node = at.and_then(|id| graph.get(id));
    let who = node.map_or_else(|| "the pipeline".into(), |n| format!("the node `{}` ({})", n.name, n.op.word()));
    let d = Diagnostic::new("internal/bug", format!("ir::pipeline::verify: {who}: {what}"));
    Err(Box::new(d.maybe_at(node.and_then(|n| n.span.as_ref()), "this node")))
}
