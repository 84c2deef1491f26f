//! What the architectures are written with: an operator graph under construction, the module path that names both the stored
//! parameters and the nodes, and one short method an operator.

use std::fmt::Display;
use std::sync::Arc;

use crate::diag::Result;
use crate::ir::op::{Attention, Binary, Conv, GroupNorm, Unary};
use crate::ir::{DType, Dim, Op, OpGraph, Outlet, TensorType};
use crate::weights::WeightExpr;

/// Groups of every group normalisation, where the config does not say otherwise.
pub(super) const GROUPS: i64 = 32;

/// A graph under construction and the place in the architecture where the next operator goes.
pub(super) struct Builder {
    graph: OpGraph,
    component: Arc<str>,
    path: String,
    group: Arc<str>,
}

impl Builder {
    /// An empty graph whose parameters are those of the weights component `component`.
    pub(super) fn new(graph_name: &str, component: &str) -> Self {
        Self { graph: OpGraph::new(graph_name), component: component.into(), path: String::new(), group: "".into() }
    }

    /// The finished graph.
    pub(super) fn finish(self) -> OpGraph {
        self.graph
    }

    // ---- place

    /// Runs `body` one module deeper: its parameters and nodes are named below `module`.
    pub(super) fn within<T>(&mut self, module: impl Display, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(&module.to_string());
        let result = body(self);
        self.path.truncate(outer);
        result
    }

    /// From here on nodes belong to the part `group`, which shares its knobs.
    pub(super) fn enter_group(&mut self, group: &str) {
        self.group = group.into();
    }

    /// From here on nodes belong to the part of the resolution `level`; 0 is the finest.
    pub(super) fn enter_level(&mut self, level: usize) {
        self.group = format!("level{level}").into();
    }

    // ---- interface and constants

    pub(super) fn input(&mut self, name: &str, shape: impl IntoIterator<Item = Dim>) -> Outlet {
        self.graph.input(name, TensorType::new(DType::F32, shape))
    }

    pub(super) fn output(&mut self, name: &str, value: Outlet) {
        self.graph.output(name, value);
    }

    /// The stored parameter `name` of the current module.
    pub(super) fn param(&mut self, name: &str, shape: &[i64]) -> Outlet {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        self.graph.weight(parameter(&self.component, &path, shape))
    }

    /// Notes that the activations leave the range of fp16.
    pub(super) fn needs_f32(&mut self, yes: bool) {
        self.graph.needs_f32 = yes;
    }

    /// A vector of numbers known here.
    pub(super) fn literal(&mut self, values: &[f32]) -> Outlet {
        self.graph.weight(literal(values))
    }

    pub(super) fn shape(&self, x: Outlet) -> &[Dim] {
        &self.graph.ty(x).shape
    }

    /// The extent of an axis that the config fixes: channels, never pixels. 0 for a symbolic axis, which no operator then takes.
    pub(super) fn extent(&self, x: Outlet, axis: usize) -> i64 {
        self.shape(x)[axis].as_const().unwrap_or(0)
    }

    // ---- operators

    /// Adds an operator called `name` in the current module.
    pub(super) fn op(&mut self, name: &str, op: Op, inputs: &[Outlet]) -> Result<Outlet> {
        let name = format!("{}/{name}", self.path);
        self.graph.add(op, inputs, name, &self.group)
    }

    pub(super) fn unary(&mut self, name: &str, f: Unary, x: Outlet) -> Result<Outlet> {
        self.op(name, Op::Unary(f), &[x])
    }

    pub(super) fn binary(&mut self, name: &str, f: Binary, a: Outlet, b: Outlet) -> Result<Outlet> {
        self.op(name, Op::Binary(f), &[a, b])
    }

    pub(super) fn add(&mut self, name: &str, a: Outlet, b: Outlet) -> Result<Outlet> {
        self.binary(name, Binary::Add, a, b)
    }

    pub(super) fn mul(&mut self, name: &str, a: Outlet, b: Outlet) -> Result<Outlet> {
        self.binary(name, Binary::Mul, a, b)
    }

    pub(super) fn reshape(&mut self, name: &str, x: Outlet, shape: Vec<Dim>) -> Result<Outlet> {
        self.op(name, Op::Reshape { shape }, &[x])
    }

    pub(super) fn transpose(&mut self, name: &str, x: Outlet, perm: &[usize]) -> Result<Outlet> {
        self.op(name, Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    pub(super) fn expand(&mut self, name: &str, x: Outlet, shape: Vec<Dim>) -> Result<Outlet> {
        self.op(name, Op::Expand { shape }, &[x])
    }

    /// `x · Wᵀ + b` with the module `name`'s weight `[out, k]` and, if it has one, its bias `[out]`.
    pub(super) fn linear(&mut self, name: &str, x: Outlet, out: i64, bias: bool) -> Result<Outlet> {
        let k = self.extent(x, self.shape(x).len() - 1);
        self.weighted(name, Op::Linear, x, &[out, k], bias)
    }

    /// A convolution with the module `name`'s weight `[out, c, kernel…]` and bias.
    pub(super) fn conv(&mut self, name: &str, x: Outlet, out: i64, conv: Conv, bias: bool) -> Result<Outlet> {
        let mut shape = vec![out, self.extent(x, 1)];
        shape.extend_from_slice(&conv.kernel);
        self.weighted(name, Op::Conv(conv), x, &shape, bias)
    }

    /// A convolution over frames, three wide; x is `[b, c, f, h, w]`.
    pub(super) fn temporal_conv(&mut self, name: &str, x: Outlet, out: i64) -> Result<Outlet> {
        let shape = [out, self.extent(x, 1), 3, 1, 1];
        self.weighted(name, Op::TemporalConv, x, &shape, true)
    }

    /// Group normalisation with the module `name`'s scale and bias.
    pub(super) fn group_norm(&mut self, name: &str, x: Outlet, norm: GroupNorm) -> Result<Outlet> {
        let channels = self.extent(x, 1);
        self.normalised(name, Op::GroupNorm(norm), x, channels)
    }

    /// Layer normalisation with the module `name`'s scale and bias.
    pub(super) fn layer_norm(&mut self, name: &str, x: Outlet, eps: f32) -> Result<Outlet> {
        let channels = self.extent(x, self.shape(x).len() - 1);
        self.normalised(name, Op::LayerNorm { eps }, x, channels)
    }

    /// Multi-head attention with the usual factor 1 / sqrt(head size).
    pub(super) fn attention(&mut self, name: &str, q: Outlet, k: Outlet, v: Outlet, heads: i64) -> Result<Outlet> {
        let head_size = self.extent(q, 2) / heads;
        let scale = 1.0 / (head_size as f32).sqrt();
        self.op(name, Op::Attention(Attention { heads, scale }), &[q, k, v])
    }

    fn weighted(&mut self, name: &str, op: Op, x: Outlet, shape: &[i64], bias: bool) -> Result<Outlet> {
        let mut inputs = vec![x, self.param(&format!("{name}.weight"), shape)];
        if bias {
            inputs.push(self.param(&format!("{name}.bias"), &shape[..1]));
        }
        self.op(name, op, &inputs)
    }

    fn normalised(&mut self, name: &str, op: Op, x: Outlet, channels: i64) -> Result<Outlet> {
        let scale = self.param(&format!("{name}.weight"), &[channels]);
        let bias = self.param(&format!("{name}.bias"), &[channels]);
        self.op(name, op, &[x, scale, bias])
    }
}

/// A parameter of a component, not yet bound to a file. The graph computes in f32 whatever type the file holds.
fn parameter(component: &str, name: &str, shape: &[i64]) -> WeightExpr {
    let shape: Vec<u64> = shape.iter().map(|d| *d as u64).collect();
    WeightExpr::param(component, name, DType::F32, &shape).expect("config limits keep every shape within 64 bits")
}

fn literal(values: &[f32]) -> WeightExpr {
    WeightExpr::literal_f32(&[values.len() as u64], values).expect("one value an element")
}

/// The dims of a shape, from whatever makes a [`Dim`].
macro_rules! dims {
    ($($d:expr),* $(,)?) => { vec![$($crate::ir::Dim::from($d.clone())),*] };
}
pub(super) use dims;
