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
use std::fmt;

use super::call::call_types;
use super::resolve::{decides, is_video, one_step};
use super::{Branch, Call, Loop, PipeGraph, PipeId, PipeOp, Pipeline, ValueType, Within};
use crate::diag::{Diagnostic, Result, Span};

/// An invariant that a pipeline breaks, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokenPipeline {
    /// The loops and arms around it, from the outside in.
    pub within: Vec<Within>,
    /// The node in the body of the last of them; `None` for the graph or body itself.
    pub node: Option<PipeId>,
    /// Which invariant, with both sides of a mismatch.
    pub invariant: PipeInvariant,
}

/// An invariant with what breaks it; the numbers are those of the list above.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the two sides of the sentence that `Display` makes of them")]
pub enum PipeInvariant {
    /// 1.
    Cycle,
    /// 2: each slot is filled once; these are, one entry for each edge.
    Slots { filled: Vec<usize> },
    /// 2: what is read exists.
    Reads,
    /// 3, 4: a primitive takes its inputs.
    Takes { why: String },
    /// 4: the output has the type that the inputs give.
    Types { stated: Vec<ValueType>, inferred: ValueType },
    /// 5: the model is declared.
    Model { name: String },
    /// 5: input ports are those of the signature.
    Ports { given: Vec<String>, signature: Vec<String> },
    /// 5: output ports are those of the signature.
    OutputPorts { given: Vec<String>, signature: Vec<String> },
    /// 5: output types follow from the signature.
    CallTypes { stated: Vec<ValueType>, signature: Vec<ValueType> },
    /// 6: at least one step.
    Steps { steps: i64 },
    /// 6: inputs are carry, each, captures.
    LoopInputs { given: usize, groups: [usize; 3] },
    /// 6: an array has an element for each step.
    Array { ty: ValueType, steps: i64 },
    /// 6: an argument has an index of its own.
    ArgumentOnce { index: usize },
    /// 6, 7: an argument is what the loop gives; none outside of bodies.
    Argument { stated: Vec<ValueType>, given: Option<ValueType> },
    /// 6: as many results and outputs as carried values.
    Carried { carry: usize, results: usize, outputs: usize },
    /// 6: a carried value has one type.
    CarriedType { init: ValueType, result: Option<ValueType>, output: ValueType },
    /// 7: one number decides.
    Decides { ty: Option<ValueType> },
    /// 7: it is compared with a finite number.
    Below { below: f64 },
    /// 7: as many outputs as names, at least one.
    Gives { names: usize, outputs: usize },
    /// 7: an arm gives what the branch gives.
    Arm { gives: Vec<ValueType>, outputs: Vec<ValueType> },
    /// 8: an input is a picture, outside of bodies.
    Input,
    /// 9: a name is not empty and not taken.
    Name { name: String },
    /// 10: all calls have a session, or none.
    Placed { placed: usize, unplaced: usize },
    /// 10: a session has one model.
    Session { session: String, models: [String; 2] },
    /// 10: a call is made in at least one piece.
    Pieces { pieces: i64 },
    /// 10: loads and unloads read and make nothing.
    NoValues,
    /// 10: loads and unloads stand where the order is fixed.
    Unordered,
    /// 10: a session is loaded where it is called or unloaded, and not where it is loaded.
    Loaded { session: String, is_loaded: bool },
    /// 10: a body leaves loaded what it found.
    LeftLoaded { before: Vec<String>, after: Vec<String> },
    /// 12: `inputs` are the input nodes.
    Inputs,
    /// 12: as many outputs as results.
    Outputs { outputs: usize, results: usize },
    /// 12: an output is a video.
    Video { ty: Option<ValueType> },
}

impl fmt::Display for PipeInvariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle => write!(f, "there is a cycle, or the fixed order leaves out a node"),
            Self::Slots { filled } => write!(f, "an input slot is empty or filled twice: {filled:?} are filled"),
            Self::Reads => write!(f, "an input reads an output that does not exist"),
            Self::Takes { why } => write!(f, "{why}"),
            Self::Types { stated, inferred } => write!(f, "the inputs give {inferred}, it is typed {}", types(stated)),
            Self::Model { name } => write!(f, "the model is not declared: `{name}`"),
            Self::Ports { given, signature } => write!(f, "the ports are not the model's: {given:?}, not {signature:?}"),
            Self::OutputPorts { given, signature } => write!(f, "the outputs are not the model's: {given:?}, not {signature:?}"),
            Self::CallTypes { stated, signature } => {
                write!(f, "the output types do not follow from the signature: {}, not {}", types(stated), types(signature))
            }
            Self::Steps { steps } => write!(f, "a loop has at least one step, not {steps}"),
            Self::LoopInputs { given, groups } => {
                write!(f, "the inputs are not carry, each, captures: {given}, not {} + {} + {}", groups[0], groups[1], groups[2])
            }
            Self::Array { ty, steps } => write!(f, "an array is shorter than the loop: {ty} for {steps} steps"),
            Self::ArgumentOnce { index } => write!(f, "two arguments have one index: {index}"),
            Self::Argument { stated, given } => {
                write!(f, "an argument is not what the loop or branch gives: {}, not {}", types(stated), types(given.as_slice()))
            }
            Self::Carried { carry, results, outputs } => {
                write!(f, "results and carried values differ in number: {carry} are carried, {results} results, {outputs} outputs")
            }
            Self::CarriedType { init, result, output } => {
                write!(f, "a carried value changes its type: {init}, then {}, at the end {output}", types(result.as_slice()))
            }
            Self::Decides { ty } => write!(f, "a branch is decided by one number, not by {}", types(ty.as_slice())),
            Self::Below { below } => write!(f, "a branch compares with a number, not with {below}"),
            Self::Gives { names, outputs } => {
                write!(f, "a branch gives what it has names for, at least one value: {outputs} for {names} names")
            }
            Self::Arm { gives, outputs } => {
                write!(f, "an arm does not give what the branch gives: {}, not {}", types(gives), types(outputs))
            }
            Self::Placed { placed, unplaced } => write!(f, "{placed} calls have a session, {unplaced} have none"),
            Self::Session { session, models: [a, b] } => write!(f, "the session `{session}` is of `{a}` and of `{b}`"),
            Self::Pieces { pieces } => write!(f, "a call is made in at least one piece, not {pieces}"),
            Self::NoValues => write!(f, "a load or unload has values"),
            Self::Unordered => write!(f, "the order around a load or unload is not fixed"),
            Self::Loaded { session, is_loaded: true } => write!(f, "the session `{session}` is loaded already"),
            Self::Loaded { session, is_loaded: false } => write!(f, "the session `{session}` is not loaded"),
            Self::LeftLoaded { before, after } => write!(f, "the body finds {before:?} loaded and leaves {after:?}"),
            Self::Input => write!(f, "an input is a picture, outside of bodies"),
            Self::Name { name } => write!(f, "the name of a value is empty or taken: `{name}`"),
            Self::Inputs => write!(f, "the inputs are not the input nodes"),
            Self::Outputs { outputs, results } => write!(f, "outputs and results differ in number: {outputs} and {results}"),
            Self::Video { ty } => write!(f, "an output is not a video: {}", types(ty.as_slice())),
        }
    }
}

fn types(types: &[ValueType]) -> String {
    format!("({})", types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

type Checked<T = ()> = std::result::Result<T, Box<BrokenPipeline>>;

/// Checks the invariants.
///
/// # Errors
/// `internal/bug` with the first that does not hold: a pipeline is made by vidc, so a broken one is vidc's mistake.
pub fn verify(pipeline: &Pipeline) -> Result<()> {
    broken(pipeline).map_or(Ok(()), |b| Err(Box::new(diagnostic(pipeline, &b))))
}

/// The first invariant that does not hold.
pub fn broken(pipeline: &Pipeline) -> Option<BrokenPipeline> {
    check(pipeline).err().map(|b| *b)
}

fn check(pipeline: &Pipeline) -> Checked {
    let graph = &pipeline.graph;
    verify_graph(pipeline, graph, None)?;
    verify_placement(pipeline)?;
    let declared: HashSet<PipeId> = pipeline.inputs.iter().copied().collect();
    let found: HashSet<PipeId> = graph.ids().filter(|id| matches!(graph.node(*id).op, PipeOp::Input { .. })).collect();
    ensure(declared == found && declared.len() == pipeline.inputs.len(), None, || PipeInvariant::Inputs)?;
    let (outputs, results) = (pipeline.outputs.len(), graph.results.len());
    ensure(outputs > 0 && outputs == results, None, || PipeInvariant::Outputs { outputs, results })?;
    for result in &graph.results {
        let ty = graph.value_type(*result);
        ensure(ty.is_some_and(is_video), Some(result.node), || PipeInvariant::Video { ty: ty.cloned() })?;
    }
    Ok(())
}

/// `arguments`: in a body or an arm, the type of each argument.
fn verify_graph(p: &Pipeline, graph: &PipeGraph, arguments: Option<&[ValueType]>) -> Checked {
    ensure(graph.is_in_order(), None, || PipeInvariant::Cycle)?;
    let mut names = HashSet::new();
    let mut indices = HashSet::new();
    for id in graph.ids() {
        let (node, at) = (graph.node(id), Some(id));
        let slots = graph.input_slots(id);
        ensure(slots.iter().copied().eq(0..slots.len()), at, || PipeInvariant::Slots { filled: slots.clone() })?;
        let inputs = input_types(graph, id)?;
        for slot in 0..node.outputs.len() {
            let name = node.value_name(slot);
            ensure(!name.is_empty() && names.insert(name.clone()), at, || PipeInvariant::Name { name })?;
        }
        verify_node(p, graph, id, &inputs, arguments)?;
        if let PipeOp::Argument { index } = &node.op {
            ensure(indices.insert(*index), at, || PipeInvariant::ArgumentOnce { index: *index })?;
        }
    }
    Ok(())
}

fn verify_node(p: &Pipeline, graph: &PipeGraph, id: PipeId, inputs: &[ValueType], arguments: Option<&[ValueType]>) -> Checked {
    let node = graph.node(id);
    let outputs = &node.outputs;
    match &node.op {
        PipeOp::Input { fit } => {
            let one = inputs.is_empty() && arguments.is_none() && fit.0 > 0 && fit.1 > 0;
            ensure(one && outputs[..] == [ValueType::Picture { size: None }], Some(id), || PipeInvariant::Input)
        }
        PipeOp::Argument { index } => {
            let given = arguments.and_then(|a| a.get(*index));
            let fits = inputs.is_empty() && outputs.len() == 1 && given.is_some_and(|g| g.same_shape(&outputs[0]));
            ensure(fits, Some(id), || PipeInvariant::Argument { stated: outputs.clone(), given: given.cloned() })
        }
        PipeOp::Prim(prim) => match prim.infer(inputs) {
            Ok(ty) => {
                let equal = outputs.len() == 1 && outputs[0].same_shape(&ty);
                ensure(equal, Some(id), || PipeInvariant::Types { stated: outputs.clone(), inferred: ty })
            }
            Err(e) => ensure(false, Some(id), || PipeInvariant::Takes { why: e.message }),
        },
        PipeOp::Call(call) => verify_call(p, graph, id, call, inputs),
        PipeOp::Loop(l) => verify_loop(p, graph, id, l, inputs),
        PipeOp::Branch(b) => verify_branch(p, graph, id, b, inputs),
        PipeOp::Load(_) | PipeOp::Unload(_) => {
            ensure(inputs.is_empty() && outputs.is_empty(), Some(id), || PipeInvariant::NoValues)?;
            ensure(graph.is_ordered(), Some(id), || PipeInvariant::Unordered)
        }
    }
}

fn verify_call(p: &Pipeline, graph: &PipeGraph, id: PipeId, call: &Call, inputs: &[ValueType]) -> Checked {
    let (node, at) = (graph.node(id), Some(id));
    let Some(model) = p.models.get(&call.model) else {
        return ensure(false, at, || PipeInvariant::Model { name: call.model.clone() });
    };
    let ports: Vec<String> = model.signature.inputs.iter().map(|(n, _)| n.clone()).collect();
    let equal = ports == call.ports && inputs.len() == call.ports.len();
    ensure(equal, at, || PipeInvariant::Ports { given: call.ports.clone(), signature: ports })?;
    let ports: Vec<String> = model.signature.outputs.iter().map(|(n, _)| n.clone()).collect();
    ensure(ports == call.outputs, at, || PipeInvariant::OutputPorts { given: call.outputs.clone(), signature: ports.clone() })?;
    let types = call_types(&model.signature, inputs).unwrap_or_default();
    let equal = types.len() == node.outputs.len() && types.iter().zip(&node.outputs).all(|(a, b)| a.same_shape(b));
    let positive = types.iter().all(|t| t.dims().iter().all(|d| *d > 0));
    ensure(equal && positive, at, || PipeInvariant::CallTypes { stated: node.outputs.clone(), signature: types })
}

fn verify_loop(p: &Pipeline, graph: &PipeGraph, id: PipeId, l: &Loop, inputs: &[ValueType]) -> Checked {
    let node = graph.node(id);
    let at = Some(id);
    let (carry, each) = (l.carry.len(), l.each.len());
    ensure(l.steps >= 1, at, || PipeInvariant::Steps { steps: l.steps })?;
    let groups = [carry, each, l.captures.len()];
    ensure(inputs.len() == groups.iter().sum::<usize>(), at, || PipeInvariant::LoopInputs { given: inputs.len(), groups })?;
    for array in &inputs[carry..carry + each] {
        let long = array.axes().first().is_some_and(|axis| axis.size >= l.steps);
        ensure(long, at, || PipeInvariant::Array { ty: array.clone(), steps: l.steps })?;
    }
    let arguments: Vec<ValueType> =
        inputs.iter().enumerate().map(|(i, t)| if (carry..carry + each).contains(&i) { one_step(t) } else { t.clone() }).collect();
    verify_graph(p, &l.body, Some(&arguments)).map_err(|b| Box::new(b.inside(Within::Loop(id))))?;
    let (results, outputs) = (l.body.results.len(), node.outputs.len());
    ensure(results == carry && outputs == carry, at, || PipeInvariant::Carried { carry, results, outputs })?;
    for ((result, output), init) in l.body.results.iter().zip(&node.outputs).zip(inputs) {
        let result = l.body.value_type(*result);
        let same = result.is_some_and(|t| t.same_shape(output)) && output.same_shape(init);
        let broken = || PipeInvariant::CarriedType { init: init.clone(), result: result.cloned(), output: output.clone() };
        ensure(same, at, broken)?;
    }
    Ok(())
}

fn verify_branch(p: &Pipeline, graph: &PipeGraph, id: PipeId, b: &Branch, inputs: &[ValueType]) -> Checked {
    let outputs = &graph.node(id).outputs;
    let at = Some(id);
    ensure(inputs.first().is_some_and(decides), at, || PipeInvariant::Decides { ty: inputs.first().cloned() })?;
    ensure(b.below.is_finite(), at, || PipeInvariant::Below { below: b.below })?;
    let (names, given) = (b.gives.len(), outputs.len());
    ensure(given > 0 && given == names, at, || PipeInvariant::Gives { names, outputs: given })?;
    for (index, arm) in b.arms().into_iter().enumerate() {
        verify_graph(p, arm, Some(inputs)).map_err(|broken| broken.inside(Within::Arm { branch: id, arm: index }))?;
        let types: Vec<Option<&ValueType>> = arm.results.iter().map(|v| arm.value_type(*v)).collect();
        let fits = types.len() == given && types.iter().zip(outputs).all(|(t, output)| t.is_some_and(|t| t.same_shape(output)));
        ensure(fits, at, || PipeInvariant::Arm { gives: types.into_iter().flatten().cloned().collect(), outputs: outputs.clone() })?;
    }
    Ok(())
}

/// Calls and their sessions, loads and unloads (10).
fn verify_placement(p: &Pipeline) -> Checked {
    let mut found = Placements::default();
    found.look(&p.graph)?;
    let (placed, unplaced) = (found.placed, found.unplaced);
    ensure(unplaced == 0 || (placed == 0 && !found.moves), None, || PipeInvariant::Placed { placed, unplaced })?;
    if found.moves { loaded_where_called(&p.graph, &mut BTreeSet::new()) } else { Ok(()) }
}

#[derive(Default)]
struct Placements<'p> {
    /// The model of each session.
    models: BTreeMap<&'p str, &'p str>,
    placed: usize,
    unplaced: usize,
    /// Are there loads and unloads?
    moves: bool,
}

impl<'p> Placements<'p> {
    fn look(&mut self, graph: &'p PipeGraph) -> Checked {
        for id in graph.ids() {
            match &graph.node(id).op {
                PipeOp::Call(Call { placement: None, .. }) => self.unplaced += 1,
                PipeOp::Call(Call { placement: Some(at), model, .. }) => {
                    self.placed += 1;
                    let known = *self.models.entry(&at.session).or_insert(model);
                    let models = || PipeInvariant::Session { session: at.session.clone(), models: [known.into(), model.clone()] };
                    ensure(known == model, Some(id), models)?;
                    ensure(at.pieces >= 1, Some(id), || PipeInvariant::Pieces { pieces: at.pieces })?;
                }
                PipeOp::Load(_) | PipeOp::Unload(_) => self.moves = true,
                op => {
                    for (i, body) in op.bodies().into_iter().enumerate() {
                        self.look(body).map_err(|broken| broken.inside(Within::of(graph, id, i)))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn loaded_where_called<'p>(graph: &'p PipeGraph, loaded: &mut BTreeSet<&'p str>) -> Checked {
    for id in graph.order() {
        let wrong = |session: &str, is_loaded| {
            let session = session.to_owned();
            move || PipeInvariant::Loaded { session, is_loaded }
        };
        match &graph.node(id).op {
            PipeOp::Load(session) => ensure(loaded.insert(session), Some(id), wrong(session, true))?,
            PipeOp::Unload(session) => ensure(loaded.remove(session.as_str()), Some(id), wrong(session, false))?,
            PipeOp::Call(call) => {
                let session = call.placement.as_ref().map_or("", |p| p.session.as_str());
                ensure(loaded.contains(session), Some(id), wrong(session, false))?;
            }
            op => {
                for (i, body) in op.bodies().into_iter().enumerate() {
                    let before = loaded.clone();
                    loaded_where_called(body, loaded).map_err(|broken| broken.inside(Within::of(graph, id, i)))?;
                    let names = |set: &BTreeSet<&str>| set.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
                    ensure(before == *loaded, Some(id), || PipeInvariant::LeftLoaded { before: names(&before), after: names(loaded) })?;
                }
            }
        }
    }
    Ok(())
}

fn input_types(graph: &PipeGraph, id: PipeId) -> Checked<Vec<ValueType>> {
    let types: Option<Vec<ValueType>> = graph.inputs(id).into_iter().map(|v| graph.value_type(v).cloned()).collect();
    types.ok_or_else(|| BrokenPipeline::at(Some(id), PipeInvariant::Reads))
}

fn ensure(holds: bool, node: Option<PipeId>, broken: impl FnOnce() -> PipeInvariant) -> Checked {
    if holds { Ok(()) } else { Err(BrokenPipeline::at(node, broken())) }
}

impl BrokenPipeline {
    fn at(node: Option<PipeId>, invariant: PipeInvariant) -> Box<Self> {
        Box::new(Self { within: Vec::new(), node, invariant })
    }

    /// The same, seen from around a loop.
    fn inside(mut self, outer: Within) -> Self {
        self.within.insert(0, outer);
        self
    }
}

/// The node with what is wrong with it, and the lines around it with the mistake beneath its own.
fn diagnostic(pipeline: &Pipeline, broken: &BrokenPipeline) -> Diagnostic {
    let mut graph = &pipeline.graph;
    let mut inside = String::new();
    for way in &broken.within {
        let (Within::Loop(id) | Within::Arm { branch: id, .. }) = *way;
        let (Some(node), Some(body)) = (graph.get(id), way.enter(graph)) else { break };
        inside.extend(["the ", node.op.word(), " `", &node.name, "`: "]);
        graph = body;
    }
    let node = broken.node.and_then(|id| graph.get(id));
    let who = node.map_or_else(|| "the pipeline".into(), |n| format!("the node `{}` ({})", n.name, n.op.word()));
    let span: Option<&Span> = node.and_then(|n| n.span.as_ref());
    let d = Diagnostic::new("internal/bug", format!("ir::pipeline::verify: {inside}{who}: {}", broken.invariant));
    let d = broken.node.map_or(d.clone(), |id| d.note(graph.excerpt(id, &broken.invariant.to_string())));
    d.maybe_at(span, "this node")
}
