//! Which operators stay f32 whatever the type of their model is, by rule.
//!
//! | rule | what stays f32 |
//! | --- | --- |
//! | `argument-of-sin-or-cos` | Sin and Cos, and what leads to them: positions and phases of hundreds have no fraction left in 16 bits |
//! | `becomes-a-whole-number` | floats that are cast to whole numbers, and what leads to them: 16 bits count to 2048 (f16) or 256 (bf16) |
//! | `logarithm-of-a-small-number` | Log and what leads to it: small probabilities become 0, and their logarithm infinite |
//! | `sum-divided-by-a-count` | a sum and its division: the sum leaves the range where the mean does not |
//! | `constant-beyond-the-range` | what reads a constant that f16 cannot hold, up to the next norm, softmax or product: what it makes may be as large |
//! | `constant-lost-in-the-type` | what reads a constant that 16 bits round away (an epsilon of 1e-8), up to the division that it guards |
//!
//! "What leads to" goes back through operators that move, join and change single elements, sums, softmax and products over up to
//! [`POSITIONS`] elements (positions times frequencies); it ends at convolutions, larger products, attention and norms, whose results
//! are activations like any other.

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::Result;
use crate::ir::op::{Binary, Unary};
use crate::ir::{DType, Dim, NodeId, Op, OpGraph, Outlet};
use crate::weights::{Narrowing, narrowing};

/// Inner extents of products that make positions.
const POSITIONS: i64 = 16;
/// Operators between a constant and the division that it guards.
const FARTHEST: usize = 8;
/// A constant is lost in a type that changes it by more than this, relative L2: normal numbers lose 1/2048 in f16, 1/256 in bf16.
const LOST: f64 = 1.0 / 128.0;

/// The nodes that stay f32, each with its rule.
pub(super) type Wide = BTreeMap<NodeId, &'static str>;

/// Applies the rules.
///
/// # Errors
/// Those of reading a constant.
pub(super) fn wide(graph: &OpGraph, ty: DType) -> Result<Wide> {
    let mut found = Found { graph, wide: Wide::new() };
    for id in graph.nodes() {
        found.by_operator(id);
    }
    for id in graph.nodes() {
        found.by_constant(id, ty)?;
    }
    Ok(found.wide)
}

struct Found<'a> {
    graph: &'a OpGraph,
    wide: Wide,
}

impl Found<'_> {
    fn by_operator(&mut self, id: NodeId) {
        let graph = self.graph;
        let node = graph.node(id);
        let inputs = graph.inputs_of(id);
        let reads_f32 = inputs.first().is_some_and(|x| graph.ty(*x).dtype == DType::F32);
        let rule = match &node.op {
            _ if !reads_f32 => return,
            Op::Unary(Unary::Sin | Unary::Cos) => "argument-of-sin-or-cos",
            Op::Cast { to } if !to.is_float() && !matches!(to, DType::Bool | DType::Opaque) => "becomes-a-whole-number",
            Op::Foreign(f) if f.op_type == "Log" => "logarithm-of-a-small-number",
            Op::Binary(Binary::Div | Binary::Mul) => return self.mean(id, &inputs),
            _ => return,
        };
        self.insert(id, rule);
        self.back(inputs, rule);
    }

    fn insert(&mut self, id: NodeId, rule: &'static str) -> bool {
        if self.wide.contains_key(&id) {
            return false;
        }
        self.wide.insert(id, rule);
        true
    }

    /// What leads to these tensors.
    fn back(&mut self, mut stack: Vec<Outlet>, rule: &'static str) {
        while let Some(outlet) = stack.pop() {
            let node = self.graph.node(outlet.node);
            let leads = self.graph.ty(outlet).dtype == DType::F32 && (is_elementwise(&node.op) || self.makes_positions(outlet.node));
            // The way back ends at a softmax: its inputs are ordinary scores.
            let ends = matches!(node.op, Op::Softmax { .. });
            if leads && self.insert(outlet.node, rule) && !ends {
                stack.extend(self.graph.inputs_of(outlet.node));
            }
        }
    }

    /// Sums, softmax and small products.
    fn makes_positions(&self, id: NodeId) -> bool {
        let inner = || self.graph.ty(*self.graph.inputs_of(id).first()?).shape.last().and_then(Dim::as_const);
        match &self.graph.node(id).op {
            Op::Softmax { .. } | Op::ReduceMean { .. } | Op::Cast { to: DType::F32 } | Op::Arange { .. } => true,
            Op::Foreign(f) => f.bodies.is_empty(),
            Op::MatMul | Op::Gemm { .. } | Op::Linear => inner().is_some_and(|n| n <= POSITIONS),
            _ => false,
        }
    }

    /// A sum that is divided by something, or multiplied by a constant.
    fn mean(&mut self, id: NodeId, inputs: &[Outlet]) {
        let graph = self.graph;
        let scaled = |x: Outlet, by: Outlet| (graph.node(id).op == Op::Binary(Binary::Div) || graph.as_weight(by).is_some()).then_some(x);
        let [left, right] = inputs[..] else { return };
        let Some(mut x) = scaled(left, right) else { return };
        let mut path = vec![id];
        loop {
            path.push(x.node);
            match &graph.node(x.node).op {
                Op::Foreign(f) if f.op_type == "ReduceSum" => break,
                Op::Reshape { .. } | Op::Expand { .. } | Op::Transpose { .. } if path.len() < FARTHEST => x = graph.inputs_of(x.node)[0],
                _ => return,
            }
        }
        for id in path {
            self.insert(id, "sum-divided-by-a-count");
        }
    }

    fn by_constant(&mut self, id: NodeId, ty: DType) -> Result<()> {
        let at = Outlet { node: id, slot: 0 };
        let Some(expr) = self.graph.as_weight(at).filter(|e| e.dtype() == DType::F32) else { return Ok(()) };
        match narrowing(expr, ty)? {
            Narrowing::Infinite => {
                for (reader, _) in self.graph.users(at) {
                    self.large(reader);
                }
            }
            Narrowing::Loses(part) if part > LOST => {
                for (reader, _) in self.graph.users(at) {
                    self.insert(reader, "constant-lost-in-the-type");
                    self.guarded(reader, FARTHEST);
                }
            }
            Narrowing::Loses(_) | Narrowing::Unknown => {}
        }
        Ok(())
    }

    /// Keeps in f32 the reader of a constant that is too large for the type, and the elementwise operators that its result goes through.
    fn large(&mut self, reader: NodeId) {
        let mut stack = vec![reader];
        let mut seen = BTreeSet::new();
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            let graph = self.graph;
            let op = &graph.node(id).op;
            if matches!(op, Op::Cast { .. }) {
                continue;
            }
            self.insert(id, "constant-beyond-the-range");
            // A constant that is a bound (of a clip, a minimum, a maximum) does not make the result as large as itself.
            let bounds = matches!(op, Op::Foreign(f) if ["Clip", "Min", "Max"].contains(&f.op_type.as_str()));
            let goes_on = is_elementwise(op) || id == reader || matches!(op, Op::Foreign(_));
            if goes_on && !bounds {
                let outs = 0..graph.node(id).outs.len() as u16;
                let floats = outs.map(|slot| Outlet { node: id, slot }).filter(|o| graph.ty(*o).dtype == DType::F32);
                stack.extend(floats.flat_map(|o| graph.users(o)).map(|(user, _)| user));
            }
        }
    }

    /// Does a division by the result of a node (or a power, a logarithm of it) follow within so many steps? If so, the nodes on
    /// the way stay f32.
    fn guarded(&mut self, from: NodeId, steps: usize) -> bool {
        let graph = self.graph;
        let mut divides = false;
        for (user, slot) in graph.users(Outlet { node: from, slot: 0 }).into_iter().filter(|_| steps > 0) {
            let found = match &graph.node(user).op {
                Op::Binary(Binary::Div) => slot == 1,
                Op::Binary(Binary::Pow) => true,
                Op::Foreign(f) if ["Reciprocal", "Log"].contains(&f.op_type.as_str()) => true,
                Op::Binary(Binary::Add | Binary::Sub) | Op::Unary(Unary::Sqrt) | Op::Reshape { .. } | Op::Expand { .. } => {
                    self.guarded(user, steps - 1)
                }
                _ => false,
            };
            if found {
                self.insert(user, "constant-lost-in-the-type");
                divides = true;
            }
        }
        divides
    }
}

/// Does each element of the result come from single elements?
fn is_elementwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Split { .. }
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::Expand { .. }
            | Op::Upsample { .. }
            | Op::Pad { .. }
            | Op::ChannelAffine
            | Op::Silu
            | Op::QuickGelu { .. }
            | Op::Gelu { .. }
    )
}
