//! The schedule of an operator graph: a total order of its nodes, and the buffer behind every tensor with first and last use.
//!
//! Buffers follow what ONNX Runtime does with the order: a view (`Reshape`) shares its input's buffer; an elementwise operator
//! writes into its input's buffer when nobody reads that input afterwards and the sizes are equal; every other output gets a
//! buffer of its own that is freed after its last reader (`docs/facts/ort.md` section 3).

use std::collections::HashMap;

use super::graph::{NodeId, OpGraph, Outlet};
use super::op::Op;
use crate::diag::{Diagnostic, Result};

/// A stretch of memory that one or more tensors share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Size.
    pub bytes: u64,
    /// Step that allocates it.
    pub first: usize,
    /// Last step that touches it.
    pub last: usize,
    /// Bound from outside (an input or output of the graph): alive for the whole run, allocated by the caller.
    pub bound: bool,
    /// The tensors in it, first the one that allocated it.
    pub tensors: Vec<Outlet>,
}

/// A total order and its buffers.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The nodes in the order in which they run; inputs and constants are not in it.
    pub steps: Vec<NodeId>,
    /// Every buffer, by first use.
    pub buffers: Vec<Buffer>,
}

impl Schedule {
    /// Bytes of unbound buffers alive at each step.
    pub fn live(&self) -> Vec<u64> {
        let mut change = vec![0i128; self.steps.len() + 1];
        for b in self.buffers.iter().filter(|b| !b.bound) {
            change[b.first] += i128::from(b.bytes);
            change[b.last + 1] -= i128::from(b.bytes);
        }
        let mut live = 0;
        change[..self.steps.len()]
            .iter()
            .map(|c| {
                live += c;
                live as u64
            })
            .collect()
    }

    /// Bytes of the graph's inputs and outputs.
    pub fn bound_bytes(&self) -> u64 {
        self.buffers.iter().filter(|b| b.bound).map(|b| b.bytes).sum()
    }
}

/// The schedule of a bound graph in the order that its nodes carry.
///
/// # Errors
/// `model/unbound` if a symbol is left.
pub fn schedule(graph: &OpGraph) -> Result<Schedule> {
    let operators = graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_)));
    schedule_in(graph, operators.collect())
}

/// The schedule of a bound graph whose operators run in another order.
///
/// # Errors
/// As [`schedule()`].
pub fn schedule_in(graph: &OpGraph, steps: Vec<NodeId>) -> Result<Schedule> {
    let mut planner = Planner { graph, buffers: Vec::new(), of: HashMap::new(), pending: Vec::new() };
    for input in graph.inputs() {
        planner.allocate(Outlet { node: *input, slot: 0 }, 0, true)?;
    }
    for (step, id) in steps.iter().enumerate() {
        planner.run(*id, step)?;
    }
    let last = steps.len().saturating_sub(1);
    let Planner { mut buffers, .. } = planner;
    for b in buffers.iter_mut().filter(|b| b.bound) {
        b.last = last;
    }
    Ok(Schedule { steps, buffers })
}

struct Planner<'a> {
    graph: &'a OpGraph,
    buffers: Vec<Buffer>,
    /// The buffer of each tensor.
    of: HashMap<Outlet, usize>,
    /// Reads of each buffer still to come, from tensors that exist.
    pending: Vec<usize>,
}

/// What is said of a tensor without a size.
pub fn unsized_tensor(graph: &OpGraph, outlet: Outlet) -> Diagnostic {
    let message = format!("`{}` still has the symbolic type {}", graph.node(outlet.node).name, graph.ty(outlet));
    Diagnostic::new("model/unbound", message)
}

impl Planner<'_> {
    fn allocate(&mut self, outlet: Outlet, step: usize, bound: bool) -> Result<()> {
        let bytes = self.graph.ty(outlet).bytes().ok_or_else(|| unsized_tensor(self.graph, outlet))?;
        self.of.insert(outlet, self.buffers.len());
        self.buffers.push(Buffer { bytes, first: step, last: step, bound, tensors: vec![outlet] });
        self.pending.push(self.graph.user_count(outlet));
        Ok(())
    }

    fn share(&mut self, outlet: Outlet, buffer: usize) {
        self.of.insert(outlet, buffer);
        self.buffers[buffer].tensors.push(outlet);
        self.buffers[buffer].bound |= self.graph.is_output(outlet);
        self.pending[buffer] += self.graph.user_count(outlet);
    }

    fn run(&mut self, id: NodeId, step: usize) -> Result<()> {
        let node = self.graph.node(id);
        let inputs = self.graph.inputs_of(id);
        for buffer in inputs.iter().filter_map(|i| self.of.get(i).copied()).collect::<Vec<_>>() {
            self.pending[buffer] -= 1;
            self.buffers[buffer].last = step;
        }
        for slot in 0..node.outs.len() as u16 {
            let out = Outlet { node: id, slot };
            match self.reusable(&node.op, &inputs, out) {
                Some(buffer) => self.share(out, buffer),
                None => self.allocate(out, step, self.graph.is_output(out))?,
            }
            let buffer = self.of[&out];
            self.buffers[buffer].last = step;
        }
        Ok(())
    }

    /// The input buffer that the output takes over.
    fn reusable(&self, op: &Op, inputs: &[Outlet], out: Outlet) -> Option<usize> {
        if op.is_view() {
            return self.of.get(inputs.first()?).copied().filter(|_| !self.graph.is_output(out));
        }
        if !runs_in_place(op) || self.graph.is_output(out) {
            return None;
        }
        let bytes = self.graph.ty(out).bytes();
        let read: Vec<usize> = inputs.iter().filter_map(|i| self.of.get(i).copied()).collect();
        // What an operator reads twice, as a square does, ONNX Runtime counts as still read when it looks for a buffer to take over.
        let once = |b: &usize| read.iter().filter(|other| *other == b).count() == 1;
        let free = |b: &usize| self.pending[*b] == 0 && !self.buffers[*b].bound && Some(self.buffers[*b].bytes) == bytes;
        read.iter().copied().find(|b| free(b) && once(b))
    }
}

/// Operators whose CPU and CUDA kernels declare that the output may take an input's buffer.
pub(super) fn runs_in_place(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Softmax { .. } | Op::Cast { .. })
}

#[cfg(test)]
mod tests {
    use super::super::op::{Binary, Unary};
    use super::super::types::{DType, TensorType};
    use super::*;

    /// x → sigmoid → exp → view → add with x → relu-like output.
    #[test]
    fn views_and_in_place_operators_share_buffers() {
        let mut g = OpGraph::new("g");
        let group = "".into();
        let x = g.input("x", TensorType::new(DType::F32, [4, 8]));
        let a = g.add(Op::Softmax { axis: 1 }, &[x], "a", &group).unwrap();
        let b = g.add(Op::Unary(Unary::Exp), &[a], "b", &group).unwrap();
        let v = g.add(Op::Reshape { shape: vec![super::super::Dim::Const(8), super::super::Dim::Const(4)] }, &[b], "v", &group).unwrap();
        let t = g.add(Op::Transpose { perm: vec![1, 0] }, &[v], "t", &group).unwrap();
        let y = g.add(Op::Binary(Binary::Add), &[t, x], "y", &group).unwrap();
        g.output("y", y);
        let s = schedule(&g).unwrap();
        // x is bound; a, b and v share one; t has its own; y is bound by the caller.
        assert_eq!(s.buffers.len(), 4);
        assert_eq!(s.live(), vec![128, 128, 128, 256, 128]);
        assert_eq!(s.bound_bytes(), 256);
    }

    #[test]
    fn a_square_takes_no_buffer_over() {
        let mut g = OpGraph::new("g");
        let group = "".into();
        let x = g.input("x", TensorType::new(DType::F32, [4, 8]));
        let a = g.add(Op::Unary(Unary::Exp), &[x], "a", &group).unwrap();
        let square = g.add(Op::Binary(Binary::Mul), &[a, a], "square", &group).unwrap();
        let y = g.add(Op::Transpose { perm: vec![1, 0] }, &[square], "y", &group).unwrap();
        g.output("y", y);
        assert_eq!(schedule(&g).unwrap().live(), vec![128, 256, 128]);
    }
}
