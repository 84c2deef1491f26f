//! What an operator does to axes: for each axis of an output, which part of each input one index of it depends on.
//!
//! ```text
//! Linear(x [b, l, k], weight [n, k], bias [n]) -> y [b, l, n]
//!
//! axis of y    of x              of weight         of bias
//! 0            independent 0     broadcast         broadcast       item b of y reads item b of x, and the whole weight
//! 1            independent 1     broadcast         broadcast
//! 2            broadcast         independent 0     independent 0   all columns of y read the same elements of x
//! combined     2                 1                 -               k, which no axis of y follows
//! ```
//! The table (`table`) is the only place that knows it. Who computes something piece by piece, for all steps at once, on one copy instead of
//! many, or in another division of the axes asks here ([`of`], [`at`]) whether that is legal, and `rank` how the operator is written
//! then. Types may have symbols: an axis is followed only where the extents are equal whatever the symbols are. What is said is
//! never more than what holds; where it is less, it is [`Dependence::Whole`]. A property test over the evaluator holds each entry:
//! what an entry says is not read does not change the result by a bit.

mod rank;
mod table;
#[cfg(test)]
mod tests;

pub use rank::{Counting, counting, in_front, piece};

use super::dim::Dim;
use super::graph::{NodeId, OpGraph};
use super::op::Op;
use super::types::TensorType;
use table::Read;

/// How an index along one axis of an output depends on one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// Index i reads nothing but index i of this axis of the input, and the two axes have the same extent.
    Independent {
        /// The axis of the input.
        axis: usize,
    },
    /// Index i reads nothing but some indices near i of an axis of the input.
    Window(Window),
    /// The output has the axis with extent 1: all of this axis of the input is combined into it.
    Reduced {
        /// The axis of the input.
        axis: usize,
    },
    /// The input does not have this axis, or has extent 1 there: what is read does not depend on the index.
    Broadcast,
    /// Every index may read everything.
    Whole,
}

/// A window that moves along an axis of an input. Index i of the output reads those of the positions `i·stride - before +
/// t·dilation`, t from 0 up to but not including `kernel`, on which an element stands; the elements of the input stand at 0,
/// `spread`, 2·`spread`, … All of it counts in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The axis of the input.
    pub axis: usize,
    /// Positions that one index reads.
    pub kernel: i64,
    /// Distance of the windows of neighbouring indices.
    pub stride: i64,
    /// Distance of the positions within a window.
    pub dilation: Dim,
    /// Positions in front of the first element on which windows may lie: zeros that are padded, or, if negative, elements that are skipped.
    pub before: Dim,
    /// The same behind the last element.
    pub after: Dim,
    /// Distance of the elements: more than 1 where the output is an enlargement.
    pub spread: i64,
}

impl Window {
    /// The indices of the input that index `at` of the output reads, of an axis of this extent; none if a symbol has no value.
    pub fn reads(&self, at: i64, extent: i64) -> Option<Vec<i64>> {
        let (dilation, before) = (self.dilation.as_const()?, self.before.as_const()?);
        let positions = (0..self.kernel).map(|t| at * self.stride - before + t * dilation);
        let standing = positions.filter(|p| p.rem_euclid(self.spread) == 0).map(|p| p.div_euclid(self.spread));
        Some(standing.filter(|i| (0..extent).contains(i)).collect())
    }
}

impl Dependence {
    /// The axis of the input that an index follows alone.
    pub fn independent(&self) -> Option<usize> {
        match self {
            Self::Independent { axis } => Some(*axis),
            Self::Window(_) | Self::Reduced { .. } | Self::Broadcast | Self::Whole => None,
        }
    }
}

/// What one operator does to the axes of tensors of these types.
#[derive(Clone, Debug)]
pub struct Axes<'a> {
    op: &'a Op,
    inputs: Vec<&'a TensorType>,
    outs: &'a [TensorType],
}

/// What `op` does to axes, with these types of its inputs and, as shape inference gives them, its outputs.
pub fn of<'a>(op: &'a Op, inputs: &[&'a TensorType], outs: &'a [TensorType]) -> Axes<'a> {
    Axes { op, inputs: inputs.to_vec(), outs }
}

/// What a node of a graph does to axes.
pub fn at(graph: &OpGraph, id: NodeId) -> Axes<'_> {
    let node = graph.node(id);
    Axes { op: &node.op, inputs: graph.inputs_of(id).into_iter().map(|o| graph.ty(o)).collect(), outs: &node.outs }
}

impl Axes<'_> {
    /// How an index of this axis of output `slot` depends on an input. An axis or an input that is not there is [`Dependence::Whole`].
    pub fn along(&self, slot: usize, axis: usize, input: usize) -> Dependence {
        let (Some(out), Some(x)) = (self.outs.get(slot), self.inputs.get(input)) else { return Dependence::Whole };
        if axis >= out.rank() {
            return Dependence::Whole;
        }
        Read { op: self.op, inputs: &self.inputs, outs: self.outs, slot, out, input, x }.along(axis)
    }

    /// The axis of output `slot` of which each index reads one index of this axis of an input.
    pub fn follows(&self, slot: usize, input: usize, axis: usize) -> Option<usize> {
        let rank = self.outs.get(slot)?.rank();
        (0..rank).find(|a| self.along(slot, *a, input) == Dependence::Independent { axis })
    }

    /// The axes of an input that every element of output `slot` may read all along.
    pub fn combined(&self, slot: usize, input: usize) -> Vec<usize> {
        let (Some(out), Some(x)) = (self.outs.get(slot), self.inputs.get(input)) else { return Vec::new() };
        let followed: Vec<usize> = (0..out.rank())
            .filter_map(|a| match self.along(slot, a, input) {
                Dependence::Independent { axis } | Dependence::Window(Window { axis, .. }) => Some(axis),
                Dependence::Reduced { .. } | Dependence::Broadcast | Dependence::Whole => None,
            })
            .collect();
        (0..x.rank()).filter(|axis| !followed.contains(axis)).collect()
    }
}
