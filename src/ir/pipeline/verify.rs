//! The invariants of a pipeline. `verify` checks them; whoever changes a [`Pipeline`] keeps them.
//!
//! 1. The graph has no cycle; so has no body.
//! 2. Each input slot `0..n` of a node is filled exactly once, by an output that exists.
//! 3. Each node has the number of inputs and outputs that its operator has.
//! 4. The type of a primitive's output is what [`Prim::infer`](super::Prim::infer) says of its inputs, names of axes apart.
//! 5. A call names a model of the pipeline and all of its ports in order; its output types follow from the signature.
//! 6. A loop has at least one step; its inputs are carry, each, captures; each array has an element for each step; the body's arguments
//!    have distinct indices within those inputs and the types that the loop gives them; the body's results have the types of the carried values.
//! 7. `Argument` stands only in bodies, `Input` only outside of them.
//! 8. Names of values are not empty and unique in each graph.
//! 9. `inputs` are exactly the input nodes; `outputs` and results of the graph are equally many, at least one, and each is a video.
//!
//! Not checked: that axis names agree (they change nothing), that a model is called at all, that a value is used.

use std::collections::HashSet;
use std::fmt;

use super::call::call_types;
use super::resolve::{is_video, one_step};
use super::{Call, Loop, PipeGraph, PipeId, PipeOp, Pipeline, ValueType};
use crate::diag::{Diagnostic, Result, Span};

/// An invariant that a pipeline breaks, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokenPipeline {
    /// The loops around it, from the outside in.
    pub loops: Vec<PipeId>,
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
    /// 7: an input is a picture, outside of bodies.
    Input,
    /// 8: a name is not empty and not taken.
    Name { name: String },
    /// 9: `inputs` are the input nodes.
    Inputs,
    /// 9: as many outputs as results.
    Outputs { outputs: usize, results: usize },
    /// 9: an output is a video.
    Video { ty: Option<ValueType> },
}

impl fmt::Display for PipeInvariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle => write!(f, "there is a cycle"),
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
                write!(f, "an argument is not what the loop gives: {}, not {}", types(stated), types(given.as_slice()))
            }
            Self::Carried { carry, results, outputs } => {
                write!(f, "results and carried values differ in number: {carry} are carried, {results} results, {outputs} outputs")
            }
            Self::CarriedType { init, result, output } => {
                write!(f, "a carried value changes its type: {init}, then {}, at the end {output}", types(result.as_slice()))
            }
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

/// `arguments`: in a body, the type of each argument.
fn verify_graph(p: &Pipeline, graph: &PipeGraph, arguments: Option<&[ValueType]>) -> Checked {
    ensure(graph.order().len() == graph.len(), None, || PipeInvariant::Cycle)?;
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
    verify_graph(p, &l.body, Some(&arguments)).map_err(|b| Box::new(b.inside(id)))?;
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

fn input_types(graph: &PipeGraph, id: PipeId) -> Checked<Vec<ValueType>> {
    let types: Option<Vec<ValueType>> = graph.inputs(id).into_iter().map(|v| graph.value_type(v).cloned()).collect();
    types.ok_or_else(|| BrokenPipeline::at(Some(id), PipeInvariant::Reads))
}

fn ensure(holds: bool, node: Option<PipeId>, broken: impl FnOnce() -> PipeInvariant) -> Checked {
    if holds { Ok(()) } else { Err(BrokenPipeline::at(node, broken())) }
}

impl BrokenPipeline {
    fn at(node: Option<PipeId>, invariant: PipeInvariant) -> Box<Self> {
        Box::new(Self { loops: Vec::new(), node, invariant })
    }

    /// The same, seen from around a loop.
    fn inside(mut self, outer: PipeId) -> Self {
        self.loops.insert(0, outer);
        self
    }
}

fn diagnostic(pipeline: &Pipeline, broken: &BrokenPipeline) -> Diagnostic {
    let mut graph = &pipeline.graph;
    let mut inside = String::new();
    for id in &broken.loops {
        let Some(node) = graph.get(*id) else { break };
        inside.extend(["the loop `", &node.name, "`: "]);
        if let PipeOp::Loop(l) = &node.op {
            graph = &l.body;
        }
    }
    let node = broken.node.and_then(|id| graph.get(id));
    let who = node.map_or_else(|| "the pipeline".into(), |n| format!("the node `{}` ({})", n.name, n.op.word()));
    let span: Option<&Span> = node.and_then(|n| n.span.as_ref());
    Diagnostic::new("internal/bug", format!("ir::pipeline::verify: {inside}{who}: {}", broken.invariant)).maybe_at(span, "this node")
}
