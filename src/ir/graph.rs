//! The operator graph: a petgraph `StableDiGraph` behind newtypes.
//!
//! Rules of the structure:
//! - A node produces one or more tensors, its *outlets*; an edge carries (output slot, input slot).
//! - The type of every outlet is inferred when the node is added and never guessed later.
//! - Every node has an [`Order`]: its place in the execution order. A node that replaces another takes a place below it, so an
//!   expansion runs where its site ran and nothing else moves. Producers come before consumers in this order.
//! - Every node has a *group*: the part of the architecture that shares knobs (`level0`, `mid`, …), and a path-like name.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use petgraph::Direction;
use petgraph::stable_graph::{EdgeIndex, NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use super::dim::{Bindings, Dim};
use super::infer;
use super::op::{Body, Foreign, Op};
use super::types::TensorType;
use crate::diag::{Diagnostic, Result};
use crate::weights::WeightExpr;

/// A node of an [`OpGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) NodeIndex);

/// One output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outlet {
    /// The node.
    pub node: NodeId,
    /// Which of its outputs.
    pub slot: u16,
}

/// The place of a node in the execution order: compared part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(pub Vec<u32>);

impl Order {
    /// The `i`-th place below this one. Inputs and constants have no place; what is added at theirs runs before all else.
    #[must_use]
    pub fn below(&self, i: u32) -> Self {
        if self.0.is_empty() {
            return Self(vec![0, i]);
        }
        let mut parts = Vec::with_capacity(self.0.len() + 1);
        parts.extend_from_slice(&self.0);
        parts.push(i);
        Self(parts)
    }
}

/// An operator in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// A path such as `down_blocks.0.resnets.0/conv1`; for people, never for matching.
    pub name: String,
    /// The part of the architecture that shares knobs.
    pub group: Arc<str>,
    /// Its place in the execution order; it does not change while the node is in a graph, which keeps its nodes sorted.
    pub order: Order,
    /// The knob that decided this node's form, if one did.
    pub knob: Option<Arc<str>>,
    /// The type of each output.
    pub outs: Vec<TensorType>,
}

/// What an edge carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) from: u16,
    pub(crate) to: u16,
}

/// A model as operators. Two are equal if their canonical texts are ([`text`](super::text)).
#[derive(Clone, Debug)]
pub struct OpGraph {
    /// The model's name.
    pub name: String,
    pub(crate) graph: StableDiGraph<Node, Wire>,
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) outputs: Vec<(String, Outlet)>,
    /// Inputs that the caller may leave out, with the values that they have then.
    defaults: BTreeMap<String, WeightExpr>,
    /// The model's config says that its activations leave the range of fp16 (`force_upcast`).
    pub needs_f32: bool,
    /// Products of f32 tensors are taken in tf32: same tensors, fewer bits in the tensor cores.
    pub tf32: bool,
    next: u32,
    /// What [`OpGraph::nodes`] gives, from the first time it is asked until a node comes or goes: passes ask for it all the time.
    sorted: OnceLock<Vec<NodeId>>,
}

impl OpGraph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            graph: StableDiGraph::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            defaults: BTreeMap::new(),
            needs_f32: false,
            tf32: false,
            next: 0,
            sorted: OnceLock::new(),
        }
    }

    /// Declares an input.
    pub fn input(&mut self, name: impl Into<String>, ty: TensorType) -> Outlet {
        // Before the first operator, so that what a pass puts behind an input (below its place) runs before it too.
        let order = Order(vec![0]);
        let node = self.insert(Node { op: Op::Input, name: name.into(), group: "".into(), order, knob: None, outs: vec![ty] }, &[]);
        self.inputs.push(node);
        Outlet { node, slot: 0 }
    }

    /// Declares an input that the caller may leave out: it is `default` then.
    pub fn input_with_default(&mut self, name: impl Into<String>, ty: TensorType, default: WeightExpr) -> Outlet {
        let name = name.into();
        self.defaults.insert(name.clone(), default);
        self.input(name, ty)
    }

    /// Declares an output.
    pub fn output(&mut self, name: impl Into<String>, value: Outlet) {
        self.outputs.push((name.into(), value));
    }

    /// Adds a constant.
    pub fn weight(&mut self, expr: WeightExpr) -> Outlet {
        let ty = TensorType::new(expr.dtype(), expr.shape().iter().copied());
        let node =
            Node { name: expr.to_string(), op: Op::Weight(expr), group: "".into(), order: Order::default(), knob: None, outs: vec![ty] };
        Outlet { node: self.insert(node, &[]), slot: 0 }
    }

    /// Adds an operator at the end of the execution order and infers its types.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit the operator.
    pub fn add(&mut self, op: Op, inputs: &[Outlet], name: impl Into<String>, group: &Arc<str>) -> Result<Outlet> {
        self.next += 1;
        let order = Order(vec![self.next]);
        let node = self.add_at(op, inputs, name.into(), group.clone(), order)?;
        Ok(Outlet { node, slot: 0 })
    }

    /// Adds an operator at a place of the execution order and infers its types.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit the operator.
    pub fn add_at(&mut self, op: Op, inputs: &[Outlet], name: String, group: Arc<str>, order: Order) -> Result<NodeId> {
        let types: Vec<&TensorType> = inputs.iter().map(|i| self.ty(*i)).collect();
        let outs = infer::infer(&op, &types).map_err(|why| {
            let given: Vec<String> = types.iter().map(ToString::to_string).collect();
            Diagnostic::new("model/shape", format!("`{name}`: {} does not take {}: {why}", op.name(), given.join(", ")))
        })?;
        Ok(self.insert(Node { op, name, group, order, knob: None, outs }, inputs))
    }

    pub(crate) fn insert(&mut self, node: Node, inputs: &[Outlet]) -> NodeId {
        self.sorted.take();
        let id = self.graph.add_node(node);
        for (to, input) in inputs.iter().enumerate() {
            self.graph.add_edge(input.node.0, id, Wire { from: input.slot, to: to as u16 });
        }
        NodeId(id)
    }

    /// Removes a node and its edges.
    pub(crate) fn remove_node(&mut self, id: NodeId) {
        self.sorted.take();
        self.graph.remove_node(id.0);
    }

    /// Is it the same graph down to the ids of its nodes? Cheaper to say than whether two graphs are equal; it tells copies of one graph
    /// that the same edits were made to.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        let edges = |g: &Self| g.graph.edge_indices().filter_map(|e| Some((g.graph.edge_endpoints(e)?, g.graph[e]))).collect::<Vec<_>>();
        let nodes = |g: &Self| g.graph.node_indices().collect::<Vec<_>>();
        (self.needs_f32, self.tf32, &self.name) == (other.needs_f32, other.tf32, &other.name)
            && (&self.inputs, &self.outputs, &self.defaults) == (&other.inputs, &other.outputs, &other.defaults)
            && nodes(self) == nodes(other)
            && self.graph.node_weights().eq(other.graph.node_weights())
            && edges(self) == edges(other)
    }

    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.graph[id.0]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.graph[id.0]
    }

    /// Moves a node in the execution order.
    pub(crate) fn set_order(&mut self, id: NodeId, order: Order) {
        self.sorted.take();
        self.graph[id.0].order = order;
    }

    /// Is the node still there?
    pub fn contains(&self, id: NodeId) -> bool {
        self.graph.contains_node(id.0)
    }

    /// The type of a tensor.
    pub fn ty(&self, outlet: Outlet) -> &TensorType {
        &self.graph[outlet.node.0].outs[outlet.slot as usize]
    }

    /// The tensors that a node reads, by input slot.
    pub fn inputs_of(&self, id: NodeId) -> Vec<Outlet> {
        let mut wires: Vec<(u16, Outlet)> = self
            .graph
            .edges_directed(id.0, Direction::Incoming)
            .map(|e| (e.weight().to, Outlet { node: NodeId(e.source()), slot: e.weight().from }))
            .collect();
        wires.sort_unstable_by_key(|(to, _)| *to);
        wires.into_iter().map(|(_, outlet)| outlet).collect()
    }

    /// Who reads a tensor: (node, input slot), by node id.
    pub fn users(&self, outlet: Outlet) -> Vec<(NodeId, u16)> {
        let mut users: Vec<(NodeId, u16)> = self
            .graph
            .edges_directed(outlet.node.0, Direction::Outgoing)
            .filter(|e| e.weight().from == outlet.slot)
            .map(|e| (NodeId(e.target()), e.weight().to))
            .collect();
        users.sort_unstable();
        users
    }

    /// How many inputs of nodes read a tensor.
    pub fn user_count(&self, outlet: Outlet) -> usize {
        self.graph.edges_directed(outlet.node.0, Direction::Outgoing).filter(|e| e.weight().from == outlet.slot).count()
    }

    /// Is the tensor an output of the graph?
    pub fn is_output(&self, outlet: Outlet) -> bool {
        self.outputs.iter().any(|(_, o)| *o == outlet)
    }

    /// The constant behind a tensor, if it is one.
    pub fn as_weight(&self, outlet: Outlet) -> Option<&WeightExpr> {
        match &self.node(outlet.node).op {
            Op::Weight(expr) => Some(expr),
            _ => None,
        }
    }

    /// All nodes in execution order: inputs and constants first, then by [`Order`].
    pub fn nodes(&self) -> Vec<NodeId> {
        self.sorted.get_or_init(|| self.by_order()).clone()
    }

    fn by_order(&self) -> Vec<NodeId> {
        // Most places differ in their first parts, which are compared as one number without following a pointer.
        let front = |o: &Order| (u64::from(o.0.first().map_or(0, |x| *x)) << 32) | u64::from(o.0.get(1).map_or(0, |x| *x));
        let mut ids: Vec<(u64, NodeIndex)> = self.graph.node_indices().map(|i| (front(&self.graph[i].order), i)).collect();
        ids.sort_unstable_by(|(x, a), (y, b)| x.cmp(y).then_with(|| self.graph[*a].order.cmp(&self.graph[*b].order)).then(a.cmp(b)));
        ids.into_iter().map(|(_, i)| NodeId(i)).collect()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Is there no node?
    pub fn is_empty(&self) -> bool {
        self.graph.node_count() == 0
    }

    /// Input nodes in declaration order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// What an input is where the caller leaves it out, if the caller may.
    pub fn default_of(&self, input: &str) -> Option<&WeightExpr> {
        self.defaults.get(input)
    }

    /// Output names and tensors in declaration order.
    pub fn outputs(&self) -> &[(String, Outlet)] {
        &self.outputs
    }

    /// Lets all readers of `old`, the graph's outputs included, read `new`. Returns the edges changed, for an undo.
    pub(crate) fn redirect(&mut self, old: Outlet, new: Outlet, except: &[NodeId]) -> Vec<(NodeId, u16)> {
        let edges: Vec<(EdgeIndex, NodeIndex, u16)> = self
            .graph
            .edges_directed(old.node.0, Direction::Outgoing)
            .filter(|e| e.weight().from == old.slot && !except.contains(&NodeId(e.target())))
            .map(|e| (e.id(), e.target(), e.weight().to))
            .collect();
        for (edge, target, to) in &edges {
            self.graph.remove_edge(*edge);
            self.graph.add_edge(new.node.0, *target, Wire { from: new.slot, to: *to });
        }
        edges.into_iter().map(|(_, target, to)| (NodeId(target), to)).collect()
    }

    /// Lets a node read these tensors instead of those it reads.
    pub(crate) fn rewire(&mut self, id: NodeId, inputs: &[Outlet]) {
        let old: Vec<EdgeIndex> = self.graph.edges_directed(id.0, Direction::Incoming).map(|e| e.id()).collect();
        for edge in old {
            self.graph.remove_edge(edge);
        }
        for (to, input) in inputs.iter().enumerate() {
            self.graph.add_edge(input.node.0, id.0, Wire { from: input.slot, to: to as u16 });
        }
    }

    /// Moves single edges, given as (reader, input slot), from one tensor to another.
    pub(crate) fn move_edges(&mut self, from: Outlet, to: Outlet, edges: &[(NodeId, u16)]) {
        for (reader, slot) in edges {
            let edge = self
                .graph
                .edges_connecting(from.node.0, reader.0)
                .find(|e| e.weight().from == from.slot && e.weight().to == *slot)
                .map(|e| e.id());
            if let Some(edge) = edge {
                self.graph.remove_edge(edge);
                self.graph.add_edge(to.node.0, reader.0, Wire { from: to.slot, to: *slot });
            }
        }
    }

    /// The graph with symbols replaced by numbers, types inferred anew.
    ///
    /// # Errors
    /// `model/shape` if an operator does not take the sizes.
    pub fn bind(&self, bindings: &Bindings) -> Result<Self> {
        let mut out = Self::new(self.name.clone());
        out.next = self.next;
        out.needs_f32 = self.needs_f32;
        out.tf32 = self.tf32;
        out.defaults.clone_from(&self.defaults);
        let mut map: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        for id in self.nodes() {
            let node = self.node(id);
            let inputs: Vec<Outlet> = self.inputs_of(id).iter().map(|o| Outlet { node: map[&o.node], slot: o.slot }).collect();
            let new = match &node.op {
                Op::Input | Op::Weight(_) => {
                    let outs = node.outs.iter().map(|t| t.bind(bindings)).collect();
                    out.insert(Node { outs, ..node.clone() }, &inputs)
                }
                Op::Foreign(f) => {
                    let op = Op::Foreign(Box::new(bind_foreign(f, bindings)?));
                    out.add_at(op, &inputs, node.name.clone(), node.group.clone(), node.order.clone())?
                }
                op => out.add_at(bind_op(op, bindings), &inputs, node.name.clone(), node.group.clone(), node.order.clone())?,
            };
            map.insert(id, new);
        }
        out.inputs = self.inputs.iter().map(|i| map[i]).collect();
        out.outputs = self.outputs.iter().map(|(n, o)| (n.clone(), Outlet { node: map[&o.node], slot: o.slot })).collect();
        Ok(out)
    }
}

fn bind_foreign(foreign: &Foreign, bindings: &Bindings) -> Result<Foreign> {
    let bodies: Result<Vec<Body>> = foreign.bodies.iter().map(|b| Ok(Body { graph: b.graph.bind(bindings)?, ..b.clone() })).collect();
    let outputs = foreign.outputs.iter().map(|t| t.bind(bindings)).collect();
    Ok(Foreign { bodies: bodies?, outputs, ..foreign.clone() })
}

fn bind_op(op: &Op, bindings: &Bindings) -> Op {
    let all = |dims: &[Dim]| dims.iter().map(|d| d.bind(bindings)).collect();
    match op {
        Op::Arange { len } => Op::Arange { len: len.bind(bindings) },
        Op::Reshape { shape } => Op::Reshape { shape: all(shape) },
        Op::Expand { shape } => Op::Expand { shape: all(shape) },
        Op::Slice { axis, start, end } => Op::Slice { axis: *axis, start: start.bind(bindings), end: end.bind(bindings) },
        other => other.clone(),
    }
}
