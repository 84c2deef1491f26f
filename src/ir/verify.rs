//! The verifier of operator graphs.
//!
//! Invariants, checked between passes:
//! 1. Every node's output types are the ones that shape inference gives for its inputs.
//! 2. The input slots of a node are 0, 1, … without gap or repetition; every edge leaves a slot that exists.
//! 3. A producer stands before its consumers in the execution order; so the graph has no cycle.
//! 4. Inputs and outputs of the graph are nodes of the graph; an input node is listed once.
//! 5. Ranges of a `ForChunks` cover their axis without gap or overlap, and the bodies are verified graphs whose inputs have
//!    the types of the pieces they see.
//!
//! Not checked here: that a rewrite kept the meaning (that is what `interp` is for), and foreign operators' types.

use super::dim::Dim;
use super::graph::{NodeId, OpGraph};
use super::infer;
use super::op::{ForChunks, Foreign, Op};
use super::types::TensorType;
use crate::diag::{Diagnostic, Result};

/// Proof that a graph was verified; what lowers a graph takes nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a>(&'a OpGraph);

impl<'a> Verified<'a> {
    /// The graph.
    pub fn graph(self) -> &'a OpGraph {
        self.0
    }
}

/// Checks all invariants.
///
/// # Errors
/// `model/invalid` with every broken invariant as a note.
pub fn verify(graph: &OpGraph) -> Result<Verified<'_>> {
    let mut broken = Vec::new();
    for id in graph.nodes() {
        check_node(graph, id, &mut broken);
    }
    check_interface(graph, &mut broken);
    if broken.is_empty() {
        return Ok(Verified(graph));
    }
    let mut d = Diagnostic::new("model/invalid", format!("the operator graph `{}` breaks {} of its rules", graph.name, broken.len()));
    d.notes = broken;
    Err(Box::new(d))
}

fn check_node(graph: &OpGraph, id: NodeId, broken: &mut Vec<String>) {
    let node = graph.node(id);
    let mut slots: Vec<u16> = graph.graph.edges_directed(id.0, petgraph::Direction::Incoming).map(|e| e.weight().to).collect();
    slots.sort_unstable();
    if !slots.iter().enumerate().all(|(i, s)| i == *s as usize) {
        broken.push(format!("`{}` has input slots {slots:?}", node.name));
        return;
    }
    let inputs = graph.inputs_of(id);
    for input in &inputs {
        let producer = graph.node(input.node);
        if input.slot as usize >= producer.outs.len() {
            broken.push(format!("`{}` reads output {} of `{}`, which has {}", node.name, input.slot, producer.name, producer.outs.len()));
            return;
        }
        if producer.order >= node.order && !matches!(producer.op, Op::Input | Op::Weight(_)) {
            broken.push(format!("`{}` runs before its producer `{}`", node.name, producer.name));
        }
    }
    let types: Vec<&TensorType> = inputs.iter().map(|i| graph.ty(*i)).collect();
    check_types(graph, id, &types, broken);
}

fn check_types(graph: &OpGraph, id: NodeId, types: &[&TensorType], broken: &mut Vec<String>) {
    let node = graph.node(id);
    match &node.op {
        Op::Input => {}
        Op::Weight(expr) => {
            let ty = TensorType::new(expr.dtype(), expr.shape().iter().copied());
            if node.outs != [ty] {
                broken.push(format!("the constant `{}` is typed {}", node.name, node.outs[0]));
            }
        }
        op => {
            match infer::infer(op, types) {
                Ok(outs) if outs == node.outs => {}
                Ok(outs) => broken.push(format!("`{}` is typed {:?} but yields {outs:?}", node.name, node.outs)),
                Err(why) => broken.push(format!("`{}`: {why}", node.name)),
            }
            match op {
                Op::ForChunks(chunks) => check_chunks(chunks, types, broken),
                Op::Foreign(foreign) => check_foreign(foreign, types, broken),
                _ => {}
            }
        }
    }
}

fn check_chunks(chunks: &ForChunks, types: &[&TensorType], broken: &mut Vec<String>) {
    for (extent, body) in &chunks.bodies {
        let expected: Vec<TensorType> = types.iter().zip(&chunks.sliced).map(|(ty, axis)| piece(ty, *axis, *extent)).collect();
        let got: Vec<&TensorType> = body.inputs().iter().map(|i| &body.node(*i).outs[0]).collect();
        if !expected.iter().eq(got.iter().copied()) {
            broken.push(format!("the body of `{}` takes {got:?}, its pieces are {expected:?}", body.name));
        }
        if let Err(d) = verify(body) {
            broken.extend(d.notes);
        }
    }
}

/// What bodies capture is typed as outside.
fn check_foreign(foreign: &Foreign, types: &[&TensorType], broken: &mut Vec<String>) {
    let Some(operands) = types.len().checked_sub(foreign.captures()) else {
        broken.push(format!("{} captures more than it reads", foreign.op_type));
        return;
    };
    let mut captured = &types[operands..];
    for body in &foreign.bodies {
        let (own, rest) = captured.split_at(body.captures);
        captured = rest;
        let formal: Vec<&TensorType> = body.graph.inputs().iter().map(|i| &body.graph.node(*i).outs[0]).collect();
        if formal.len() < own.len() || !formal[formal.len() - own.len()..].iter().eq(own) {
            broken.push(format!("the body `{}` of {} captures {own:?} as {formal:?}", body.attribute, foreign.op_type));
        }
        if let Err(d) = verify(&body.graph) {
            broken.extend(d.notes);
        }
    }
}

fn piece(ty: &TensorType, axis: Option<usize>, extent: i64) -> TensorType {
    let mut ty = ty.clone();
    if let Some(axis) = axis {
        ty.shape[axis] = Dim::Const(extent);
    }
    ty
}

fn check_interface(graph: &OpGraph, broken: &mut Vec<String>) {
    for (name, outlet) in graph.outputs() {
        if !graph.contains(outlet.node) {
            broken.push(format!("the output `{name}` is no node of the graph"));
        }
    }
    let listed: std::collections::BTreeSet<NodeId> = graph.inputs().iter().copied().collect();
    let present = graph.nodes().into_iter().filter(|id| graph.node(*id).op == Op::Input).count();
    if listed.len() != graph.inputs().len() || listed.len() != present {
        broken.push(format!("{} inputs are listed, {present} are in the graph", graph.inputs().len()));
    }
}
