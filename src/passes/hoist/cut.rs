//! Where a model is cut: what each operator depends on, and which of those that a loop need not repeat are worth taking out.
//!
//! Taking an operator out saves its work in every step; each tensor that then crosses into the loop costs its bytes in every
//! step (copied in, cut apart, read) and lives through the loop. The cheapest cut is a minimum cut of a flow network: each
//! operator hangs from the source by its work, each tensor hangs on its maker by its price, a reader that is taken out demands
//! its makers, and what must stay is the sink. So `Expand`s stay inside and the narrow tensors before them cross.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::batch::batched;
use crate::diag::Result;
use crate::ir::{Bindings, DType, Node, NodeId, Op, OpGraph, Outlet, TensorType};

/// When a value is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    /// Before anything runs: constants.
    Always,
    /// Before the loop.
    Once,
    /// In a step, but from what is known for all steps before the loop.
    Step,
    /// In a step, from what the step before made.
    State,
}

/// Bytes that the dispatch of one more operator is worth: about a microsecond of a CPU's memory traffic. A tensor that crosses
/// costs two, to join it and to cut it out again.
const DISPATCH: u64 = 8192;
/// A view costs no kernel.
const VIEW: u64 = 1024;
/// How often the bytes of a tensor that crosses are moved in a step: written for the session, read there, cut apart, read.
const CROSSING: u64 = 4;
/// Multiplications that take as long as moving one byte.
const MACS_PER_BYTE: u64 = 8;
/// More than any sum of the others.
const NEVER: u64 = 1 << 50;

/// A model with symbols and the same model at the sizes of its call.
pub(super) struct Sized<'a> {
    /// With symbols.
    pub(super) graph: &'a OpGraph,
    bound: OpGraph,
    of: BTreeMap<NodeId, NodeId>,
    /// When each node is known.
    pub(super) when: BTreeMap<NodeId, When>,
    steps: i64,
}

impl<'a> Sized<'a> {
    /// `ports` says when each input is known; `steps` is the length of the loop.
    pub(super) fn new(graph: &'a OpGraph, bindings: &Bindings, ports: &[When], steps: i64) -> Result<Self> {
        let bound = graph.bind(bindings)?;
        // `bind` keeps the order.
        let of = graph.nodes().into_iter().zip(bound.nodes()).collect();
        let mut out = Self { graph, bound, of, when: BTreeMap::new(), steps };
        for (input, when) in graph.inputs().iter().zip(ports) {
            out.when.insert(*input, *when);
        }
        for id in graph.nodes() {
            if graph.node(id).op != Op::Input {
                let when = out.classify(id);
                out.when.insert(id, when);
            }
        }
        Ok(out)
    }

    /// The node at the sizes of the call.
    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.bound.node(self.of[&id])
    }

    /// The type of a tensor at the sizes of the call.
    pub(super) fn ty(&self, outlet: Outlet) -> &TensorType {
        self.bound.ty(Outlet { node: self.of[&outlet.node], slot: outlet.slot })
    }

    fn bytes(&self, outlet: Outlet) -> u64 {
        self.ty(outlet).bytes().unwrap_or(0)
    }

    fn classify(&self, id: NodeId) -> When {
        let inputs = self.graph.inputs_of(id);
        let latest = inputs.iter().map(|i| self.when[&i.node]).max().unwrap_or(When::Always);
        let node = self.node(id);
        let stays = matches!(node.op, Op::Foreign(_) | Op::ForChunks(_)) || self.graph.is_output(Outlet { node: id, slot: 0 });
        match latest {
            When::Once if stays => When::State,
            When::Step if stays || self.batched(id).is_none() => When::State,
            latest => latest,
        }
    }

    /// The node over all steps at once; see [`batched`].
    pub(super) fn batched(&self, id: NodeId) -> Option<(Op, Vec<super::batch::Prepare>)> {
        let inputs = self.graph.inputs_of(id);
        let types: Vec<&TensorType> = inputs.iter().map(|i| self.ty(*i)).collect();
        let varies: Vec<bool> = inputs.iter().map(|i| self.when[&i.node] == When::Step).collect();
        let node = self.node(id);
        batched(&node.op, &types, &node.outs[0], &varies, self.steps)
    }

    /// May the node run outside of the loop?
    fn movable(&self, id: NodeId) -> bool {
        matches!(self.when[&id], When::Once | When::Step) && self.graph.node(id).op != Op::Input
    }

    /// May the tensor cross into the loop? A call may be cut along the batch, so that axis is the outermost or none.
    fn crosses(&self, outlet: Outlet) -> bool {
        let ty = self.graph.ty(outlet);
        let of_batch = |d: &crate::ir::Dim| d.symbols().iter().any(|s| s == "batch");
        let first = ty.shape.first().is_none_or(|d| !of_batch(d) || d.symbols() == ["batch"] && d == &crate::ir::Dim::symbol("batch"));
        ty.dtype == DType::F32 && first && !ty.shape.iter().skip(1).any(of_batch)
    }

    /// Bytes that the node moves, its multiplications as bytes, and its dispatch.
    fn work(&self, id: NodeId) -> u64 {
        let node = self.node(id);
        if node.op.is_view() {
            return VIEW;
        }
        let inputs = self.graph.inputs_of(id);
        let results = node.outs[0].numel().as_const().unwrap_or(0) as u64;
        if matches!(node.op, Op::Slice { .. }) {
            return 2 * results * node.outs[0].dtype.size() + DISPATCH;
        }
        let moved: u64 = inputs.iter().map(|i| self.bytes(*i)).sum::<u64>() + node.outs.iter().filter_map(TensorType::bytes).sum::<u64>();
        let last = |i: usize, back: usize| {
            let dims = inputs.get(i).and_then(|o| self.ty(*o).dims()).unwrap_or_default();
            dims.len().checked_sub(back).map_or(1, |at| dims[at] as u64)
        };
        let each = match node.op {
            Op::Linear | Op::MatMul | Op::Gemm { .. } => last(0, 1),
            Op::Attention(_) => 2 * last(1, 2),
            Op::Conv(_) | Op::TemporalConv => inputs.get(1).map_or(0, |w| {
                let dims = self.ty(*w).dims().unwrap_or_default();
                dims.iter().skip(1).product::<i64>() as u64
            }),
            _ => 0,
        };
        moved + results.saturating_mul(each) / MACS_PER_BYTE + DISPATCH
    }

    /// The nodes worth taking out.
    pub(super) fn worthwhile(&self) -> BTreeSet<NodeId> {
        let movable: Vec<NodeId> = self.graph.nodes().into_iter().filter(|id| self.movable(*id)).collect();
        let mut net: DiGraph<(), u64> = DiGraph::new();
        let (source, sink) = (net.add_node(()), net.add_node(()));
        let at: BTreeMap<NodeId, NodeIndex> = movable.iter().map(|id| (*id, net.add_node(()))).collect();
        for id in &movable {
            let value = Outlet { node: *id, slot: 0 };
            let kept = net.add_node(());
            net.add_edge(source, at[id], self.work(*id).min(NEVER));
            let price = if self.crosses(value) { CROSSING * self.bytes(value) + 2 * DISPATCH } else { NEVER };
            net.add_edge(at[id], kept, price.min(NEVER));
            for (reader, _) in self.graph.users(value) {
                match at.get(&reader) {
                    Some(reader) => {
                        net.add_edge(kept, *reader, NEVER);
                        net.add_edge(*reader, at[id], NEVER);
                    }
                    None => {
                        net.add_edge(kept, sink, NEVER);
                    }
                }
            }
        }
        let (_, flow) = dinics(&net, source, sink);
        let side = reachable(&net, &flow, source);
        movable.into_iter().filter(|id| side.contains(&at[id])).collect()
    }

    /// The tensors that cross if these nodes are taken out, in execution order.
    pub(super) fn border(&self, out: &BTreeSet<NodeId>) -> Vec<Outlet> {
        let all = self.graph.nodes().into_iter().filter(|id| out.contains(id)).map(|node| Outlet { node, slot: 0 });
        all.filter(|o| self.graph.users(*o).iter().any(|(reader, _)| !out.contains(reader))).collect()
    }

    /// Bytes of the tensors that are known at `when`.
    pub(super) fn border_bytes(&self, border: &[Outlet], when: When) -> u64 {
        border.iter().filter(|o| self.when[&o.node] == when).map(|o| self.bytes(*o)).sum()
    }

    /// Bytes of constants that only these nodes read.
    pub(super) fn weights(&self, of: &BTreeSet<NodeId>) -> u64 {
        let constants: BTreeSet<Outlet> = of.iter().flat_map(|id| self.graph.inputs_of(*id)).collect();
        let own = |o: &Outlet| self.graph.as_weight(*o).is_some() && self.graph.users(*o).iter().all(|(reader, _)| of.contains(reader));
        constants.iter().filter(|o| own(o)).map(|o| self.bytes(*o)).sum()
    }
}

/// What the source still reaches once the flow is through: the nodes on its side of the cut.
fn reachable(net: &DiGraph<(), u64>, flow: &[u64], source: NodeIndex) -> BTreeSet<NodeIndex> {
    let mut seen = BTreeSet::from([source]);
    let mut queue = VecDeque::from([source]);
    while let Some(n) = queue.pop_front() {
        let ahead = net.edges_directed(n, petgraph::Outgoing).filter(|e| flow[e.id().index()] < *e.weight()).map(|e| e.target());
        let back = net.edges_directed(n, petgraph::Incoming).filter(|e| flow[e.id().index()] > 0).map(|e| e.source());
        for next in ahead.chain(back).collect::<Vec<_>>() {
            if seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    seen
}
