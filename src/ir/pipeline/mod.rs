//! The pipeline level of the IR: a small dataflow graph, every name resolved, every number evaluated, every shape known.
//!
//! A [`Pipeline`] is one [`PipeGraph`] plus what surrounds it: parameters, models, inputs, outputs. A node makes one or more
//! values; a [`ValueId`] is a node and an output slot; an edge carries (output slot, input slot). A loop is one node whose
//! body is a graph of its own with explicit captures: what the body sees of the outside are its `Argument` nodes, in the order
//! of the loop's inputs (carried values, per-step values, captures). A branch is one node whose two arms are such graphs; their
//! `Argument` nodes mean the branch's inputs (what decides, then what either arm reads of the outside).
//!
//! ```text
//! spec::Spec ─ resolve (names, parameters, types) ─► Pipeline ─ verify ─► passes, plan
//!                                                       └─ text, fingerprint, to_dot
//! ```
//! Evaluation: nodes in any order that respects edges give the same values; [`PipeGraph::order`] is the one that everything
//! uses. A loop runs its body `steps` times; in step i a per-step argument is the slice `i..i+1` of the first axis of the array
//! (so the axis stays, with extent 1); a carried argument is its init in step 0 and the body's result of the step before after.
//! A branch runs its then-arm where the value that decides is less than its number, and its else-arm everywhere else: where it is
//! not less, and where it is no number (NaN). Its outputs are the results of the arm that ran.

mod alive;
mod call;
#[cfg(test)]
mod cases;
mod eval;
mod lower;
mod names;
mod params;
mod prim;
mod resolve;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod verify;
mod walk;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use serde::{Deserialize, Serialize};

pub use eval::{Value, eval_prim};
pub use names::{Located, Within};
pub use params::parameters;
pub use prim::{Prim, TypeError};
pub use resolve::{Signatures, resolve};
pub use verify::{BrokenPipeline, PipeInvariant, broken, verify};
pub use walk::{Moment, Walk};

use super::{DType, Signature};
use crate::diag::Span;
use crate::spec::{ModelDecl, Number, Spanned, WeightsSource};

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
    /// Answers to knobs that the graph gives: knob and answer, each with its place. They decide how it is computed, and are no part of
    /// the text or of the fingerprint.
    pub choose: Vec<(Spanned<String>, Spanned<String>)>,
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
            PipeOp::Branch(b) => b.gives.get(slot).cloned().unwrap_or_default(),
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
    /// In a loop's body or a branch's arm: the node's input of this index, as the body or arm sees it.
    Argument {
        /// The input slot of the loop or branch.
        index: usize,
    },
    /// A primitive.
    Prim(Prim),
    /// Runs a model.
    Call(Call),
    /// Runs a body again and again.
    Loop(Box<Loop>),
    /// Runs one of two arms.
    Branch(Box<Branch>),
    /// Brings the weights of a session into the device's memory. Has no value: it acts by its place in the order.
    Load(String),
    /// Takes them out again.
    Unload(String),
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
            Self::Branch(_) => "branch",
            Self::Load(_) => "load",
            Self::Unload(_) => "unload",
        }
    }

    /// The graphs inside of it, in the order in which their calls are listed: a loop's body, a branch's then-arm and else-arm.
    pub fn bodies(&self) -> Vec<&PipeGraph> {
        match self {
            Self::Loop(l) => vec![&l.body],
            Self::Branch(b) => b.arms().into(),
            _ => Vec::new(),
        }
    }

    /// The same, to change.
    pub fn bodies_mut(&mut self) -> Vec<&mut PipeGraph> {
        match self {
            Self::Loop(l) => vec![&mut l.body],
            Self::Branch(b) => vec![&mut b.then, &mut b.otherwise],
            _ => Vec::new(),
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
    /// What runs it, once that is decided.
    pub placement: Option<Placement>,
}

/// What runs a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The session: one compiled form of a model. Calls of one model with equal extents share it.
    pub session: String,
    /// Into how many pieces along its first axis the call is cut; the session runs once for each.
    pub pieces: i64,
    /// Key of the device that runs it.
    pub device: String,
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

/// A branch; its inputs are the value that decides, then what either arm reads of the outside.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The then-arm runs where the value that decides, one element, is less than this (compared in f64); else the else-arm.
    pub below: f64,
    /// Names of what comes out: the branch's outputs, and the results of each arm.
    pub gives: Vec<String>,
    /// The then-arm.
    pub then: PipeGraph,
    /// The else-arm.
    pub otherwise: PipeGraph,
}

impl Branch {
    /// The then-arm and the else-arm.
    pub fn arms(&self) -> [&PipeGraph; 2] {
        [&self.then, &self.otherwise]
    }

    /// Does the then-arm run at this value? At none that is not less, so not at NaN either.
    pub fn takes_then(value: f32, below: f64) -> bool {
        f64::from(value) < below
    }
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
    /// The order in which the nodes run, where it is fixed: loads and unloads have no values that would say when.
    sequence: Option<Vec<PipeId>>,
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

    /// Fixes the order in which the nodes run; `verify` holds it to the edges. Whoever adds nodes later fixes it anew.
    pub fn fix_order(&mut self, sequence: Vec<PipeId>) {
        self.sequence = Some(sequence);
    }

    /// The order in which the nodes run: the fixed one; else each stands after what it reads, and among those that could be next
    /// the one added first. Nodes on a cycle are missing from it.
    pub fn order(&self) -> Vec<PipeId> {
        self.sequence.clone().unwrap_or_else(|| self.by_edges())
    }

    /// Is the order fixed, and not only what the edges ask for?
    pub fn is_ordered(&self) -> bool {
        self.sequence.is_some()
    }

    /// Does [`PipeGraph::order`] hold every node once, each behind what it reads?
    pub fn is_in_order(&self) -> bool {
        let order = self.order();
        let place: BTreeMap<PipeId, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let edges = self.graph.edge_indices().filter_map(|e| self.graph.edge_endpoints(e));
        let stands = |(a, b): (NodeIndex, NodeIndex)| place.get(&PipeId(a)).zip(place.get(&PipeId(b))).is_some_and(|(a, b)| a < b);
        place.len() == order.len()
            && order.len() == self.len()
            && order.iter().all(|id| self.get(*id).is_some())
            && edges.into_iter().all(stands)
    }

    fn by_edges(&self) -> Vec<PipeId> {
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
