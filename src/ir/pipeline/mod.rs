//! The pipeline level of the IR: a small dataflow graph, every name resolved, every number evaluated, every shape known.
//!
//! A [`Pipeline`] is one [`PipeGraph`] plus what surrounds it: parameters, models, inputs, outputs. A node makes one or more
//! values; a [`ValueId`] is a node and an output slot; an edge carries (output slot, input slot). A loop is one node whose
//! body is a graph of its own with explicit captures: what the body sees of the outside are its `Argument` nodes, in the order
//! of the loop's inputs (carried values, per-step values, captures).
//!
//! ```text
//! spec::Spec ─ resolve (names, parameters, types) ─► Pipeline ─ verify ─► passes, plan
//!                                                       └─ text, fingerprint, to_dot
//! ```
//! Evaluation: nodes in any order that respects edges give the same values; [`PipeGraph::order`] is the one that everything
//! uses. A loop runs its body `steps` times; in step i a per-step argument is the slice `i..i+1` of the first axis of the array
//! (so the axis stays, with extent 1); a carried argument is its init in step 0 and the body's result of the step before after.

mod alive;
mod call;
#[cfg(test)]
mod cases;
mod lower;
mod params;
mod prim;
mod resolve;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod verify;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use serde::{Deserialize, Serialize};

pub use params::parameters;
pub use prim::{Prim, TypeError};
pub use resolve::{Signatures, resolve};
pub use verify::{BrokenPipeline, PipeInvariant, broken, verify};

use super::{DType, Signature};
use crate::diag::Span;
use crate::spec::{ModelDecl, Number, WeightsSource};

/// A whole pipeline at given parameters.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Name of the graph.
    pub name: String,
    /// The value of each parameter.
    pub params: IndexMap<String, Number>,
    /// The nodes; its results are the frames of the outputs.
    pub graph: PipeGraph,
    /// The input nodes, in the order declared.
    pub inputs: Vec<PipeId>,
    /// The models by name, in the order declared.
    pub models: IndexMap<String, Model>,
    /// What comes out, one for each result of the graph.
    pub outputs: Vec<Output>,
    /// Where weights come from if the command line says nothing.
    pub weights: Option<WeightsSource>,
}

/// The share of a model that was not cut.
pub const WHOLE: u32 = 1000;

/// A model of the pipeline.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its declaration.
    pub decl: ModelDecl,
    /// The component (folder) of the weights that it reads.
    pub component: String,
    /// Its ports.
    pub signature: Signature,
    /// How many thousandths of the declared model's rounding it has: [`WHOLE`], or less for a part of a model that was cut.
    pub share: u32,
    /// Where it is declared.
    pub span: Option<Span>,
}

/// A video that comes out: f32 [batch, frames, 3, height, width].
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Frames a second.
    pub fps: f64,
}

/// An axis of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Its name, if something named it. Names are for people and for `axis: name`; they do not change a value.
    pub name: Option<String>,
    /// Its extent.
    pub size: i64,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// A tensor.
    Tensor {
        /// Element type.
        dtype: DType,
        /// Axes, outermost first.
        axes: Vec<Axis>,
    },
    /// A picture of 8-bit RGB.
    Picture {
        /// (height, width), if the graph determines them; a file's own size is known when it is read.
        size: Option<(i64, i64)>,
    },
}

/// A value and the loops around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The loop nodes from the outside in, each a node of the body of the one before.
    pub loops: Vec<PipeId>,
    /// The value, in the body of the last of them.
    pub value: ValueId,
}

impl Pipeline {
    /// The value that `--feed` and `--dump` mean by `name`. A carried value is found inside of its loop (where it is what a step makes).
    pub fn locate(&self, name: &str) -> Option<Located> {
        self.values().into_iter().find(|(n, _)| n == name).map(|(_, at)| at)
    }

    /// Every value that has a name of its own: bodies first, arguments left out.
    pub fn values(&self) -> Vec<(String, Located)> {
        let mut out = Vec::new();
        values(&self.graph, &mut Vec::new(), &mut out);
        out
    }
}

fn values(graph: &PipeGraph, loops: &mut Vec<PipeId>, out: &mut Vec<(String, Located)>) {
    for node in graph.order() {
        if let PipeOp::Loop(l) = &graph.node(node).op {
            loops.push(node);
            values(&l.body, loops, out);
            loops.pop();
        }
    }
    for node in graph.order().into_iter().filter(|n| !matches!(graph.node(*n).op, PipeOp::Argument { .. })) {
        for slot in 0..graph.node(node).outputs.len() {
            let value = ValueId { node, slot };
            out.push((graph.value_name(value), Located { loops: loops.clone(), value }));
        }
    }
}

impl ValueType {
    /// An f32 tensor with axes (name, extent); an empty name is none.
    pub fn f32<'a>(axes: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let axes = axes.into_iter().map(|(name, size)| Axis { name: (!name.is_empty()).then(|| name.to_owned()), size });
        Self::Tensor { dtype: DType::F32, axes: axes.collect() }
    }

    /// The axes; none for a picture.
    pub fn axes(&self) -> &[Axis] {
        match self {
            Self::Tensor { axes, .. } => axes,
            Self::Picture { .. } => &[],
        }
    }

    /// The extents; none for a picture.
    pub fn dims(&self) -> Vec<i64> {
        self.axes().iter().map(|a| a.size).collect()
    }

    /// The element type; u8 for a picture.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Tensor { dtype, .. } => *dtype,
            Self::Picture { .. } => DType::U8,
        }
    }

    /// Number of elements, if it is known and fits into 64 bits.
    pub fn numel(&self) -> Option<u64> {
        match self {
            Self::Tensor { axes, .. } => axes.iter().try_fold(1_u64, |n, a| n.checked_mul(u64::try_from(a.size).ok()?)),
            Self::Picture { size } => size.and_then(|(h, w)| u64::try_from(h.checked_mul(w)?.checked_mul(3)?).ok()),
        }
    }

    /// Size in bytes, if it is known.
    pub fn bytes(&self) -> Option<u64> {
        self.numel()?.checked_mul(self.dtype().size())
    }

    /// The same value apart from the names of axes?
    pub fn same_shape(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tensor { .. }, Self::Tensor { .. }) => self.dtype() == other.dtype() && self.dims() == other.dims(),
            _ => self == other,
        }
    }
}

/// A node of a [`PipeGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipeId(pub NodeIndex);

/// A value: an output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId {
    /// The node.
    pub node: PipeId,
    /// Which of its outputs.
    pub slot: usize,
}

impl From<PipeId> for ValueId {
    fn from(node: PipeId) -> Self {
        Self { node, slot: 0 }
    }
}

/// A node: how its values are made.
#[derive(Clone, Debug)]
pub struct PipeNode {
    /// Its name in the YAML; the names of its values follow from it, see [`PipeNode::value_name`].
    pub name: String,
    /// What it does.
    pub op: PipeOp,
    /// The type of each output.
    pub outputs: Vec<ValueType>,
    /// Where it is written.
    pub span: Option<Span>,
}

impl PipeNode {
    /// The name by which output `slot` is fed, dumped and printed.
    pub fn value_name(&self, slot: usize) -> String {
        match &self.op {
            PipeOp::Loop(l) => l.carry.get(slot).cloned().unwrap_or_default(),
            PipeOp::Call(call) if call.outputs.len() > 1 => {
                format!("{}.{}", self.name, call.outputs.get(slot).map_or("", String::as_str))
            }
            _ => self.name.clone(),
        }
    }
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum PipeOp {
    /// A picture that `--input` gives.
    Input {
        /// (height, width) that `--fit` fits it to.
        fit: (i64, i64),
    },
    /// In a loop's body: the loop node's input of this index, as the body sees it.
    Argument {
        /// The input slot of the loop node.
        index: usize,
    },
    /// A primitive.
    Prim(Prim),
    /// Runs a model.
    Call(Call),
    /// Runs a body again and again.
    Loop(Box<Loop>),
}

impl PipeOp {
    /// The word for it in texts.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Argument { .. } => "argument",
            Self::Prim(prim) => prim.word(),
            Self::Call(_) => "call",
            Self::Loop(_) => "loop",
        }
    }
}

/// A call of a model; its inputs are in the order of the model's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The model.
    pub model: String,
    /// The model's input ports, one for each input slot.
    pub ports: Vec<String>,
    /// The model's output ports, one for each output slot.
    pub outputs: Vec<String>,
}

/// A loop; its inputs are the inits of `carry`, then the arrays of `each`, then what the body captures.
#[derive(Clone, Debug)]
pub struct Loop {
    /// How many times the body runs.
    pub steps: i64,
    /// Names of the carried values: the loop's outputs, and the body's results.
    pub carry: Vec<String>,
    /// Names of the per-step values inside the body.
    pub each: Vec<String>,
    /// Names of the captured values.
    pub captures: Vec<String>,
    /// The body.
    pub body: PipeGraph,
}

/// An edge: from an output slot to an input slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Output slot of the source.
    pub from: usize,
    /// Input slot of the target.
    pub to: usize,
}

/// Nodes and the values that flow between them.
#[derive(Clone, Debug, Default)]
pub struct PipeGraph {
    graph: StableDiGraph<PipeNode, Slots>,
    /// What comes out.
    pub results: Vec<ValueId>,
}

impl PipeGraph {
    /// Adds a node that reads `inputs`, one for each input slot.
    pub fn add(&mut self, node: PipeNode, inputs: &[ValueId]) -> PipeId {
        let id = self.graph.add_node(node);
        for (to, value) in inputs.iter().enumerate() {
            self.graph.add_edge(value.node.0, id, Slots { from: value.slot, to });
        }
        PipeId(id)
    }

    /// The node `id`, if it exists.
    pub fn get(&self, id: PipeId) -> Option<&PipeNode> {
        self.graph.node_weight(id.0)
    }

    /// The node `id`, which must exist.
    pub fn node(&self, id: PipeId) -> &PipeNode {
        &self.graph[id.0]
    }

    /// The node `id`, which must exist, to change.
    pub fn node_mut(&mut self, id: PipeId) -> &mut PipeNode {
        &mut self.graph[id.0]
    }

    /// Removes a node and its edges.
    pub fn remove(&mut self, id: PipeId) -> Option<PipeNode> {
        self.graph.remove_node(id.0)
    }

    /// What `id` reads, by input slot.
    pub fn inputs(&self, id: PipeId) -> Vec<ValueId> {
        let mut inputs: Vec<(usize, ValueId)> = self
            .graph
            .edges_directed(id.0, Direction::Incoming)
            .map(|e| (e.weight().to, ValueId { node: PipeId(e.source()), slot: e.weight().from }))
            .collect();
        inputs.sort_unstable();
        inputs.into_iter().map(|(_, value)| value).collect()
    }

    /// The input slots that are filled, ascending, one entry for each edge.
    pub fn input_slots(&self, id: PipeId) -> Vec<usize> {
        let mut slots: Vec<usize> = self.graph.edges_directed(id.0, Direction::Incoming).map(|e| e.weight().to).collect();
        slots.sort_unstable();
        slots
    }

    /// Who reads `value`: node and input slot, ascending.
    pub fn users(&self, value: ValueId) -> Vec<(PipeId, usize)> {
        let edges = self.graph.edges_directed(value.node.0, Direction::Outgoing).filter(|e| e.weight().from == value.slot);
        let mut users: Vec<_> = edges.map(|e| (PipeId(e.target()), e.weight().to)).collect();
        users.sort_unstable();
        users
    }

    /// Makes input `slot` of `id` read `value`.
    pub fn set_input(&mut self, id: PipeId, slot: usize, value: ValueId) {
        let old = self.graph.edges_directed(id.0, Direction::Incoming).find(|e| e.weight().to == slot).map(|e| e.id());
        if let Some(old) = old {
            self.graph.remove_edge(old);
        }
        self.graph.add_edge(value.node.0, id.0, Slots { from: value.slot, to: slot });
    }

    /// Makes `id` read exactly `values`, one for each input slot.
    pub fn set_inputs(&mut self, id: PipeId, values: &[ValueId]) {
        let old: Vec<_> = self.graph.edges_directed(id.0, Direction::Incoming).map(|e| e.id()).collect();
        for edge in old {
            self.graph.remove_edge(edge);
        }
        for (to, value) in values.iter().enumerate() {
            self.graph.add_edge(value.node.0, id.0, Slots { from: value.slot, to });
        }
    }

    /// The type of `value`, if it exists.
    pub fn value_type(&self, value: ValueId) -> Option<&ValueType> {
        self.get(value.node)?.outputs.get(value.slot)
    }

    /// The name of `value`.
    pub fn value_name(&self, value: ValueId) -> String {
        self.get(value.node).map_or_else(|| "?".into(), |n| n.value_name(value.slot))
    }

    /// The value with this name, if there is one in this graph (not in bodies).
    pub fn find(&self, name: &str) -> Option<ValueId> {
        let all = self.ids().flat_map(|node| (0..self.node(node).outputs.len()).map(move |slot| ValueId { node, slot }));
        all.into_iter().find(|v| self.value_name(*v) == name)
    }

    /// Every node, in the order added.
    pub fn ids(&self) -> impl Iterator<Item = PipeId> + '_ {
        self.graph.node_indices().map(PipeId)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Has it no nodes?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The nodes so that each stands after what it reads; among those that could be next, the one added first. Nodes on a cycle
    /// are missing from it.
    pub fn order(&self) -> Vec<PipeId> {
        let mut waits: BTreeMap<NodeIndex, usize> =
            self.graph.node_indices().map(|n| (n, self.graph.edges_directed(n, Direction::Incoming).count())).collect();
        let mut ready: BinaryHeap<Reverse<NodeIndex>> = waits.iter().filter(|(_, w)| **w == 0).map(|(n, _)| Reverse(*n)).collect();
        let mut order = Vec::with_capacity(waits.len());
        while let Some(Reverse(next)) = ready.pop() {
            order.push(PipeId(next));
            for edge in self.graph.edges_directed(next, Direction::Outgoing) {
                let left = waits.entry(edge.target()).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    ready.push(Reverse(edge.target()));
                }
            }
        }
        order
    }
}
