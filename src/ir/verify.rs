//! The verifier of operator graphs.
//!
//! Invariants, checked between passes; each has its variants in [`Invariant`]:
//! 1. Every node's output types are the ones that shape inference gives for its inputs.
//! 2. The input slots of a node are 0, 1, … without gap or repetition; every edge leaves a slot that exists.
//! 3. A producer stands before its consumers in the execution order; so the graph has no cycle.
//! 4. Inputs and outputs of the graph are tensors of the graph; the inputs listed are the input nodes, each once.
//! 5. Ranges of a `ForChunks` cover their axis without gap or overlap (inference refuses others), and the bodies are graphs that
//!    keep all of this, whose inputs have the types of the pieces they see, halos included. Bodies of foreign operators too; what they capture
//!    has the same type inside as outside.
//!
//! Not checked here: that a rewrite kept the meaning (that is what `interp` is for), and foreign operators' types.
//!
//! A broken invariant is a value with a place, [`Broken`]; [`listing`] prints it beneath the line it belongs to.

use std::collections::BTreeSet;

use super::dim::Dim;
use super::graph::{NodeId, OpGraph};
use super::invariant::{Broken, Invariant};
use super::op::{ForChunks, Foreign, Op, Place, Sliced};
use super::place::{BodyId, Location, Part};
use super::types::TensorType;
use super::{infer, listing};
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
/// `model/invalid` with the lines of the graph that are concerned, each broken invariant beneath its line.
pub fn verify(graph: &OpGraph) -> Result<Verified<'_>> {
    let broken = broken(graph);
    if broken.is_empty() {
        return Ok(Verified(graph));
    }
    let count = if broken.len() == 1 { "one of its rules".into() } else { format!("its rules in {} places", broken.len()) };
    let d = Diagnostic::new("model/invalid", format!("the operator graph `{}` breaks {count}", graph.name));
    Err(Box::new(d.note(listing::excerpt(graph, &broken))))
}

/// Every invariant that the graph or a body of it breaks: the nodes in execution order, then the interface.
pub fn broken(graph: &OpGraph) -> Vec<Broken> {
    let mut checker = Checker { bodies: Vec::new(), found: Vec::new() };
    checker.graph(graph);
    checker.found
}

struct Checker {
    /// The bodies around the graph being checked.
    bodies: Vec<BodyId>,
    found: Vec<Broken>,
}

impl Checker {
    fn report(&mut self, part: Part, invariant: Invariant) {
        self.found.push(Broken { at: Location { bodies: self.bodies.clone(), part }, invariant });
    }

    fn graph(&mut self, graph: &OpGraph) {
        for id in graph.nodes() {
            self.node(graph, id);
        }
        self.inputs(graph);
        self.outputs(graph);
    }

    /// Checks a body; `invariant` is broken by its head.
    fn body(&mut self, id: BodyId, graph: &OpGraph, invariant: Option<Invariant>) {
        self.bodies.push(id);
        invariant.into_iter().for_each(|i| self.report(Part::Graph, i));
        self.graph(graph);
        self.bodies.pop();
    }

    fn node(&mut self, graph: &OpGraph, id: NodeId) {
        let node = graph.node(id);
        let mut slots: Vec<u16> = graph.graph.edges_directed(id.0, petgraph::Direction::Incoming).map(|e| e.weight().to).collect();
        slots.sort_unstable();
        if !slots.iter().enumerate().all(|(i, s)| i == *s as usize) {
            self.report(Part::Node(id), Invariant::Slots { filled: slots });
            return;
        }
        let inputs = graph.inputs_of(id);
        for (slot, input) in inputs.iter().enumerate() {
            let producer = graph.node(input.node);
            let (name, outputs) = (|| producer.name.clone(), producer.outs.len());
            if input.slot as usize >= outputs {
                self.report(Part::Node(id), Invariant::Edge { slot, producer: name(), output: input.slot, outputs });
                return;
            }
            if producer.order >= node.order && !matches!(producer.op, Op::Input | Op::Weight(_)) {
                self.report(Part::Node(id), Invariant::Order { producer: name() });
            }
        }
        let types: Vec<&TensorType> = inputs.iter().map(|i| graph.ty(*i)).collect();
        self.types(graph, id, &types);
    }

    fn types(&mut self, graph: &OpGraph, id: NodeId, types: &[&TensorType]) {
        let (node, part) = (graph.node(id), Part::Node(id));
        match &node.op {
            Op::Input => {}
            Op::Weight(expr) => {
                let expression = TensorType::new(expr.dtype(), expr.shape().iter().copied());
                if node.outs.as_slice() != std::slice::from_ref(&expression) {
                    self.report(part, Invariant::ConstantType { stated: node.outs.clone(), expression });
                }
            }
            op => {
                match infer::infer(op, types) {
                    Ok(outs) if outs == node.outs => {}
                    Ok(inferred) => self.report(part, Invariant::Types { stated: node.outs.clone(), inferred }),
                    Err(why) => self.report(part, Invariant::Takes { given: owned(types), why }),
                }
                match op {
                    Op::ForChunks(chunks) => self.chunks(id, chunks, types),
                    Op::Foreign(foreign) => self.foreign(id, foreign, types),
                    _ => {}
                }
            }
        }
    }

    fn chunks(&mut self, node: NodeId, chunks: &ForChunks, types: &[&TensorType]) {
        for (index, (place, body)) in chunks.bodies.iter().enumerate() {
            let pieces: Vec<TensorType> = types.iter().zip(&chunks.sliced).map(|(ty, sliced)| piece(ty, *sliced, *place)).collect();
            let takes = formals(body);
            let other = (pieces != takes).then_some(Invariant::Pieces { takes, pieces });
            self.body(BodyId { node, index }, body, other);
        }
    }

    fn foreign(&mut self, node: NodeId, foreign: &Foreign, types: &[&TensorType]) {
        let captures = foreign.captures();
        let Some(operands) = types.len().checked_sub(captures) else {
            self.report(Part::Node(node), Invariant::CapturesGiven { captures, inputs: types.len() });
            return;
        };
        let mut captured = &types[operands..];
        for (index, body) in foreign.bodies.iter().enumerate() {
            let (own, rest) = captured.split_at(body.captures);
            captured = rest;
            let (outside, inside) = (owned(own), formals(&body.graph));
            let other = (!inside.ends_with(&outside)).then_some(Invariant::CaptureTypes { outside, inside });
            self.body(BodyId { node, index }, &body.graph, other);
        }
    }

    fn inputs(&mut self, graph: &OpGraph) {
        let mut listed = BTreeSet::new();
        for (at, id) in graph.inputs().iter().enumerate() {
            if !graph.contains(*id) || graph.node(*id).op != Op::Input {
                self.report(Part::Input(at), Invariant::InputNode);
            } else if !listed.insert(*id) {
                self.report(Part::Input(at), Invariant::InputOnce { input: graph.node(*id).name.clone() });
            }
        }
        for id in graph.nodes().into_iter().filter(|id| graph.node(*id).op == Op::Input && !listed.contains(id)) {
            self.report(Part::Node(id), Invariant::InputListed { input: graph.node(id).name.clone() });
        }
    }

    fn outputs(&mut self, graph: &OpGraph) {
        for (at, (name, outlet)) in graph.outputs().iter().enumerate() {
            let node = graph.contains(outlet.node).then(|| graph.node(outlet.node)).map(|n| (n.name.clone(), n.outs.len()));
            if node.as_ref().is_none_or(|(_, outputs)| outlet.slot as usize >= *outputs) {
                self.report(Part::Output(at), Invariant::OutputTensor { output: name.clone(), node });
            }
        }
    }
}

fn owned(types: &[&TensorType]) -> Vec<TensorType> {
    types.iter().copied().cloned().collect()
}

/// The types of a body's inputs.
fn formals(body: &OpGraph) -> Vec<TensorType> {
    body.inputs().iter().filter(|i| body.contains(**i)).filter_map(|i| body.node(*i).outs.first().cloned()).collect()
}

fn piece(ty: &TensorType, sliced: Option<Sliced>, place: Place) -> TensorType {
    let mut ty = ty.clone();
    // An axis that is not there is a mistake that inference reports.
    if let Some((sliced, dim)) = sliced.and_then(|s| Some((s, ty.shape.get_mut(s.axis)?))) {
        *dim = Dim::Const(sliced.extent(place));
    }
    ty
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
