//! What a lowered graph costs: its steps in order, and the sums that the search and the reports use.
//!
//! Latency is the sum of the steps; memory is, over the steps, the most of live buffers plus the kernel's scratch, on top of
//! weights and of what the caller binds. Both are also kept *per knob* ([`GraphCost::by_knob`]): a segment knob changes only
//! the nodes that it governs, so sums and maxima over its own steps are all that the search needs to know about an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::latency::Machine;
use super::operator;
use crate::diag::Result;
use crate::ir::{DType, LEAST_WEIGHT, NodeId, Op, OpGraph, Outlet, Schedule, schedule};
use crate::units::{Bytes, Flop, Time};

/// One step of a lowered graph.
#[derive(Clone, Copy, Debug)]
pub struct StepCost {
    /// The node.
    pub node: NodeId,
    /// Kernel and dispatch.
    pub time: Time,
    /// Relative standard deviation of `time`.
    pub sigma: f64,
    /// Operations.
    pub flop: Flop,
    /// Bytes to and from device memory.
    pub bytes: Bytes,
    /// Buffers alive during the step, bound ones excepted.
    pub live: Bytes,
    /// Memory of the kernel alone.
    pub scratch: Bytes,
}

/// Figures over a set of steps: time and what nodes keep add up, memory that comes and goes is the most at one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Sum of the steps' times.
    pub time: Time,
    /// Most of live buffers and scratch at one step.
    pub transient: Bytes,
    /// What a session keeps for its nodes as long as it is loaded.
    pub nodes: Bytes,
}

impl Figures {
    fn add(&mut self, step: &StepCost, node: Bytes) {
        self.time += step.time;
        self.transient = self.transient.max(step.live + step.scratch);
        self.nodes += node;
    }
}

/// The constants of a graph, bytes; each counts once, however many nodes read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WeightBytes {
    /// As they are stored: distinct constants of at least [`LEAST_WEIGHT`] bytes.
    pub stored: Bytes,
    /// Copies in the layout of kernels, which a session makes when it is loaded.
    pub packed: Bytes,
    /// What of `stored` is in memory for these copies alone, and not again.
    pub spared: Bytes,
}

impl WeightBytes {
    /// What is in memory while the session is loaded.
    pub fn resident(&self) -> Bytes {
        self.stored - self.spared + self.packed
    }
}

/// One row of a breakdown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Number of steps.
    pub steps: u64,
    /// Their time.
    pub time: Time,
    /// Their operations.
    pub flop: Flop,
    /// Their bytes.
    pub bytes: Bytes,
}

/// The figures of one execution of a lowered graph, without its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphFigures {
    /// All steps together.
    pub total: Figures,
    /// See [`GraphCost::deviation`].
    pub deviation: u128,
    /// Operations.
    pub flop: Flop,
    /// Its weights.
    pub weights: WeightBytes,
    /// Inputs and outputs, which the caller allocates.
    pub bound: Bytes,
    /// What of the transient memory of the worst step is scratch.
    pub scratch: Bytes,
    /// What of transient memory no order of the nodes can do without: see [`GraphCost::widest`].
    pub widest: Bytes,
}

impl GraphFigures {
    /// What is in memory as long as the session is loaded.
    pub fn resident(&self) -> Bytes {
        self.weights.resident() + self.total.nodes
    }
}

/// The cost of one execution of a lowered graph.
#[derive(Clone, Debug)]
pub struct GraphCost {
    /// Every step in the order of execution.
    pub steps: Vec<StepCost>,
    /// All steps together.
    pub total: Figures,
    /// Sum over the steps of time in picoseconds times relative standard deviation in millionths; whole numbers, so that the
    /// order of the sum does not matter.
    pub deviation: u128,
    /// Operations.
    pub flop: Flop,
    /// Its weights.
    pub weights: WeightBytes,
    /// Inputs and outputs, which the caller allocates.
    pub bound: Bytes,
    /// What the widest single operator needs at once: its scratch and its tensors, bound ones excepted.
    pub widest: Bytes,
    /// The figures of the steps that each knob governs; `None` for the steps that no knob governs.
    pub by_knob: BTreeMap<Option<Arc<str>>, Figures>,
}

impl GraphCost {
    /// The cost of a lowered graph.
    ///
    /// # Errors
    /// As [`operator::cost`].
    pub fn of(graph: &OpGraph, machine: &Machine) -> Result<Self> {
        Self::scheduled(graph, &schedule(graph)?, machine)
    }

    /// As [`GraphCost::of`], for a graph whose schedule is at hand.
    ///
    /// # Errors
    /// As [`operator::cost`].
    pub fn scheduled(graph: &OpGraph, schedule: &Schedule, machine: &Machine) -> Result<Self> {
        let mut out = Self {
            steps: Vec::with_capacity(schedule.steps.len()),
            total: Figures::default(),
            deviation: 0,
            flop: Flop(0),
            weights: weight_bytes(graph, machine.target.figures.packs_weights),
            bound: Bytes(schedule.bound_bytes()),
            widest: Bytes(0),
            by_knob: BTreeMap::new(),
        };
        for (node, live) in schedule.steps.iter().zip(schedule.live()) {
            out.push(graph, step(graph, *node, live, machine)?, machine.target.figures.node);
        }
        Ok(out)
    }

    fn push(&mut self, graph: &OpGraph, step: StepCost, node: Bytes) {
        let view = graph.node(step.node).op.is_view();
        let node = if view { Bytes(0) } else { node };
        self.widest = self.widest.max(step.scratch + Bytes(needs(graph, step.node)));
        self.total.add(&step, node);
        self.flop += step.flop;
        self.deviation += u128::from(step.time.0) * u128::from((step.sigma * 1e6).round() as u64);
        // Which views there are depends on all answers together; they take no time, and no memory beyond their neighbours'.
        if !view {
            self.by_knob.entry(graph.node(step.node).knob.clone()).or_default().add(&step, node);
        }
        self.steps.push(step);
    }

    /// The figures without the steps.
    pub fn figures(&self) -> GraphFigures {
        let Self { total, deviation, flop, weights, bound, widest, .. } = *self;
        let scratch = self.worst_step().map_or(Bytes(0), |i| self.steps[i].scratch);
        GraphFigures { total, deviation, flop, weights, bound, scratch, widest }
    }

    /// Everything that is in memory at the worst step, without the machine's overhead.
    pub fn peak(&self) -> Bytes {
        self.figures().resident() + self.bound + self.total.transient
    }

    /// Index of the step at which the transient memory is largest.
    pub fn worst_step(&self) -> Option<usize> {
        let most = self.steps.iter().enumerate().max_by_key(|(i, s)| (s.live + s.scratch, std::cmp::Reverse(*i)));
        most.map(|(i, _)| i)
    }

    /// What no order of these nodes can go below: what is resident, bound tensors and the widest single operator.
    pub fn lower_bound(&self) -> Bytes {
        self.figures().resident() + self.bound + self.widest
    }

    /// Time, operations and bytes by operator, largest time first.
    pub fn by_operator(&self, graph: &OpGraph) -> Vec<(String, Share)> {
        self.shares(|s| graph.node(s.node).op.name().to_owned())
    }

    /// The same by group, the part of the architecture.
    pub fn by_group(&self, graph: &OpGraph) -> Vec<(String, Share)> {
        self.shares(|s| graph.node(s.node).group.to_string())
    }

    fn shares(&self, key: impl Fn(&StepCost) -> String) -> Vec<(String, Share)> {
        let mut rows: BTreeMap<String, Share> = BTreeMap::new();
        for s in &self.steps {
            let row = rows.entry(key(s)).or_default();
            row.steps += 1;
            row.time += s.time;
            row.flop += s.flop;
            row.bytes += s.bytes;
        }
        let mut rows: Vec<(String, Share)> = rows.into_iter().collect();
        rows.sort_by_key(|(_, share)| std::cmp::Reverse(share.time));
        rows
    }
}

fn step(graph: &OpGraph, node: NodeId, live: u64, machine: &Machine) -> Result<StepCost> {
    let cost = operator::cost(graph, node, machine)?;
    Ok(StepCost {
        node,
        time: cost.time,
        sigma: cost.kernel.sigma_rel,
        flop: cost.kernel.flop,
        bytes: cost.kernel.dram_bytes,
        live: Bytes(live),
        scratch: cost.scratch,
    })
}

/// Constants are equal if their expressions read alike, which is what a constant's name is.
fn weight_bytes(graph: &OpGraph, packs: bool) -> WeightBytes {
    let mut seen: BTreeMap<&str, (u64, Packing)> = BTreeMap::new();
    for id in graph.nodes() {
        let node = graph.node(id);
        let bytes = node.outs[0].bytes().unwrap_or(0);
        if matches!(node.op, Op::Weight(_)) && bytes >= LEAST_WEIGHT {
            let of_node = if packs { packing(graph, Outlet { node: id, slot: 0 }) } else { Packing::default() };
            let known = seen.entry(node.name.as_str()).or_insert((bytes, of_node));
            known.1 = Packing { packed: known.1.packed.max(of_node.packed), also_read: known.1.also_read || of_node.also_read };
        }
    }
    let mut out = WeightBytes::default();
    for (bytes, packing) in seen.into_values() {
        out.stored += Bytes(bytes);
        out.packed += Bytes(packing.packed);
        if packing.packed > 0 && !packing.also_read {
            out.spared += Bytes(bytes.saturating_sub(2 * FAULT_AROUND));
        }
    }
    out
}

/// Reading a page of a mapped file brings its neighbours into memory, up to so many bytes (`fault_around_bytes` of Linux): what lies beside
/// weights that are read, on either side, is not spared.
const FAULT_AROUND: u64 = 64 << 10;

/// What the readers of a constant make of it.
#[derive(Clone, Copy, Default)]
struct Packing {
    /// Bytes of the copy; 0 if nobody packs it.
    packed: u64,
    /// Does anybody read it as it is?
    also_read: bool,
}

/// The CPU provider's products keep a constant second operand of f32 in tiles of 16 columns (counted for `MatMul`, `FusedMatMul` and
/// `Gemm`, ONNX Runtime 1.31.1).
fn packing(graph: &OpGraph, weight: Outlet) -> Packing {
    const COLUMNS: u64 = 16;
    let ty = graph.ty(weight);
    let mut out = Packing::default();
    for (reader, slot) in graph.users(weight) {
        let columns = match graph.node(reader).op {
            Op::MatMul | Op::Gemm { trans_b: false } => 1,
            Op::FusedMatMul | Op::Gemm { trans_b: true } => 0,
            _ => usize::MAX,
        };
        match ty.dims().as_deref() {
            Some([a, b]) if slot == 1 && columns < 2 && ty.dtype == DType::F32 => {
                let (n, k) = if columns == 0 { (*a, *b) } else { (*b, *a) };
                out.packed = (n.max(0) as u64).next_multiple_of(COLUMNS) * k.max(0) as u64 * 4;
            }
            _ => out.also_read = true,
        }
    }
    out
}

/// Bytes of the unbound tensors that an operator needs at once; an output that may take over an input's buffer is not counted.
fn needs(graph: &OpGraph, id: NodeId) -> u64 {
    let node = graph.node(id);
    let bound = |o: &Outlet| matches!(graph.node(o.node).op, Op::Input | Op::Weight(_)) || graph.is_output(*o);
    let bytes = |o: Outlet| graph.ty(o).bytes().unwrap_or(0);
    let reads: BTreeSet<Outlet> = graph.inputs_of(id).into_iter().filter(|o| !bound(o)).collect();
    let read: u64 = reads.into_iter().map(bytes).sum();
    let outs = (0..node.outs.len() as u16).map(|slot| Outlet { node: id, slot });
    let written: u64 = outs.filter(|o| !bound(o)).map(bytes).sum();
    let in_place = node.op.is_view() || matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Softmax { .. } | Op::Cast { .. });
    if in_place { read.max(written) } else { read + written }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwdb;
    use crate::ir::TensorType;
    use crate::ir::op::{Binary, Unary};

    /// x → softmax → transpose → add with x → y, with a constant that is read twice.
    fn example() -> OpGraph {
        let mut g = OpGraph::new("g");
        let x = g.input("x", TensorType::new(DType::F32, [64, 64]));
        let param = || crate::weights::WeightExpr::param("m", "w", DType::F32, &[64, 64]).unwrap();
        let (w, again) = (g.weight(param()), g.weight(param()));
        let a = g.add(Op::Softmax { axis: 1 }, &[x], "a", &"front".into()).unwrap();
        let t = g.add(Op::Transpose { perm: vec![1, 0] }, &[a], "t", &"front".into()).unwrap();
        let b = g.add(Op::MatMul, &[t, w], "b", &"back".into()).unwrap();
        let c = g.add(Op::MatMul, &[b, again], "c", &"back".into()).unwrap();
        let d = g.add(Op::Unary(Unary::Exp), &[c], "d", &"back".into()).unwrap();
        let y = g.add(Op::Binary(Binary::Add), &[d, x], "y", &"back".into()).unwrap();
        g.output("y", y);
        g.node_mut(t.node).knob = Some("g.front.form".into());
        g
    }

    #[test]
    fn figures_add_up_however_they_are_grouped() {
        let g = example();
        let cost = GraphCost::of(&g, &hwdb::machine("x86-cpu-2core").unwrap()).unwrap();
        let total = cost.total.time;
        assert_eq!(cost.steps.iter().map(|s| s.time).sum::<Time>(), total);
        assert_eq!(cost.by_knob.values().map(|f| f.time).sum::<Time>(), total);
        assert_eq!(cost.by_operator(&g).iter().map(|(_, s)| s.time).sum::<Time>(), total);
        assert_eq!(cost.by_group(&g).iter().map(|(_, s)| s.time).sum::<Time>(), total);
        assert_eq!(cost.by_knob.values().map(|f| f.transient).max(), Some(cost.total.transient));
        assert_eq!(cost.flop.0, 2 * 2 * 64 * 64 * 64);
    }

    #[test]
    fn memory_is_weights_bound_tensors_and_the_worst_step() {
        const T: u64 = 64 * 64 * 4;
        let g = example();
        let cost = GraphCost::of(&g, &hwdb::machine("x86-cpu-2core").unwrap()).unwrap();
        // The constant is one, though two nodes hold it; x and y are bound; a product has one operand and one result alive.
        assert_eq!((cost.weights.stored.0, cost.bound.0, cost.total.transient.0), (T, 2 * T, 2 * T));
        // Both products pack it, into one copy: 64 columns are 4 tiles of 16.
        assert_eq!((cost.weights.packed.0, cost.weights.spared.0), (T, 0));
        let nodes = cost.total.nodes.0;
        assert_eq!(nodes % 6, 0);
        // Of so small a constant both are in memory.
        assert_eq!(cost.peak().0, 6 * T + nodes);
        assert_eq!(cost.lower_bound().0, 6 * T + nodes);
        assert_eq!(cost.worst_step(), Some(1));
    }
}
