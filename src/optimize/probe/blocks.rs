//! Graphs in the making: the parts of video models as raised operators over one input, with made-up weights.

use std::sync::Arc;

use crate::diag::Result;
use crate::ir::op::{Attention, Conv, GroupNorm};
use crate::ir::{DType, Op, OpGraph, Outlet, TensorType};
use crate::weights::WeightExpr;

/// A graph that grows at its end.
pub(super) struct Block {
    graph: OpGraph,
    group: Arc<str>,
    made: usize,
}

impl Block {
    /// Nothing yet.
    pub(super) fn new(name: &str) -> Self {
        Self { graph: OpGraph::new(name), group: "probe".into(), made: 0 }
    }

    /// The graph with its outputs.
    pub(super) fn done(mut self, outputs: &[Outlet]) -> OpGraph {
        for (i, output) in outputs.iter().enumerate() {
            self.graph.output(format!("y{i}"), *output);
        }
        self.graph
    }

    /// Another input of f32.
    pub(super) fn input(&mut self, shape: &[i64]) -> Outlet {
        self.made += 1;
        self.graph.input(format!("x{}", self.made), TensorType::new(DType::F32, shape.iter().copied()))
    }

    /// The extents of a value.
    pub(super) fn shape(&self, x: Outlet) -> Vec<i64> {
        self.graph.ty(x).dims().unwrap_or_default()
    }

    /// Another operator.
    pub(super) fn op(&mut self, op: Op, inputs: &[Outlet]) -> Result<Outlet> {
        self.made += 1;
        self.graph.add(op, inputs, format!("op{}", self.made), &self.group)
    }

    /// Other weights of f32.
    pub(super) fn weight(&mut self, shape: &[i64]) -> Result<Outlet> {
        self.made += 1;
        let shape: Vec<u64> = shape.iter().map(|d| d.unsigned_abs()).collect();
        Ok(self.graph.weight(WeightExpr::param("probe", &format!("w{}", self.made), DType::F32, &shape)?))
    }

    fn with_weights(&mut self, op: Op, x: Outlet, shape: &[i64]) -> Result<Outlet> {
        let (weight, bias) = (self.weight(shape)?, self.weight(&shape[..1])?);
        self.op(op, &[x, weight, bias])
    }

    /// A convolution of pictures that keeps the size, strides aside.
    pub(super) fn conv(&mut self, x: Outlet, out: i64, kernel: i64, stride: i64) -> Result<Outlet> {
        let channels = self.shape(x)[1];
        self.with_weights(Op::Conv(Conv::square(kernel, stride, kernel / 2)), x, &[out, channels, kernel, kernel])
    }

    /// A convolution over frames, three wide; x is `[b, c, f, h, w]`.
    pub(super) fn temporal_conv(&mut self, x: Outlet, out: i64) -> Result<Outlet> {
        let channels = self.shape(x)[1];
        self.with_weights(Op::TemporalConv, x, &[out, channels, 3, 1, 1])
    }

    /// A product with weights over the last axis.
    pub(super) fn linear(&mut self, x: Outlet, out: i64) -> Result<Outlet> {
        let k = self.shape(x).last().copied().unwrap_or(1);
        self.with_weights(Op::Linear, x, &[out, k])
    }

    /// A group normalisation with up to 32 groups, with or without `x · sigmoid(x)` behind it.
    pub(super) fn group_norm(&mut self, x: Outlet, silu: bool) -> Result<Outlet> {
        let channels = self.shape(x)[1];
        let groups = [32, 16, 8, 4, 2, 1].into_iter().find(|g| channels % g == 0).unwrap_or(1);
        self.with_weights(Op::GroupNorm(GroupNorm { groups, eps: 1e-5, silu }), x, &[channels])
    }

    /// A normalisation of the last axis.
    pub(super) fn layer_norm(&mut self, x: Outlet) -> Result<Outlet> {
        let channels = self.shape(x).last().copied().unwrap_or(1);
        self.with_weights(Op::LayerNorm { eps: 1e-5 }, x, &[channels])
    }

    /// Attention.
    pub(super) fn attention(&mut self, [q, k, v]: [Outlet; 3], heads: i64) -> Result<Outlet> {
        let size = self.shape(q)[2] / heads;
        self.op(Op::Attention(Attention { heads, scale: 1.0 / (size as f32).sqrt() }), &[q, k, v])
    }

    /// Axes in another order.
    pub(super) fn transpose(&mut self, x: Outlet, perm: &[usize]) -> Result<Outlet> {
        self.op(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// The same elements in another shape.
    pub(super) fn reshape(&mut self, x: Outlet, shape: &[i64]) -> Result<Outlet> {
        self.op(Op::Reshape { shape: shape.iter().map(|d| (*d).into()).collect() }, &[x])
    }
}
