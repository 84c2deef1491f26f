//! What one provider operator of a lowered graph does, and what that costs.
//!
//! [`work`] is a table: operator and types → abstract [`Work`]. [`cost`] asks `latency` for its time and adds the dispatch in
//! such a way that the times of nodes *add up*: on a GPU the host dispatches ahead, so a node takes the larger of kernel and
//! dispatch; on a CPU they take turns, so a node takes their sum; a view takes nothing. (For a run of nodes
//! [`stage_time`](super::latency::stage_time) is never above this sum; what the sum overcounts is dispatch hidden behind a
//! longer neighbour.) Additive times are what makes the exact search possible.

use super::fit::Point;
use super::latency::{Estimate, Family, Machine, MemoryKind, Precision, Work, latency_as};
use super::scratch::scratch;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::{DeviceKind, FEW_CHANNELS};
use crate::ir::op::{Conv, Unary};
use crate::ir::{DType, Node, NodeId, Op, OpGraph, TensorType};
use crate::units::{Bytes, Time};

/// What one node costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatorCost {
    /// Kernel and dispatch as they add up.
    pub time: Time,
    /// The kernel alone, with what it is made of.
    pub kernel: Estimate,
    /// Memory beside inputs and outputs while the kernel runs.
    pub scratch: Bytes,
}

/// The cost of a node of a lowered graph.
///
/// # Errors
/// `internal/bug` for an operator that no provider runs; `model/unbound` if a symbol is left.
pub fn cost(graph: &OpGraph, id: NodeId, machine: &Machine) -> Result<OperatorCost> {
    let node = graph.node(id);
    let wires = graph.inputs_of(id);
    let inputs: Vec<&TensorType> = wires.iter().map(|i| graph.ty(*i)).collect();
    let work = work(node, &inputs)?;
    let kernel = latency_as(class(node, &inputs, &work), &work, precision(&inputs, node, graph.tf32), machine);
    Ok(OperatorCost { time: with_dispatch(&work, kernel.time, machine), kernel, scratch: scratch(node, &inputs, machine) })
}

/// A node of a lowered graph whose kernel took `seconds`, as the fits take it; none for what takes no time.
///
/// # Errors
/// As [`cost`].
pub fn point(graph: &OpGraph, id: NodeId, seconds: f64) -> Result<Option<Point>> {
    let node = graph.node(id);
    let wires = graph.inputs_of(id);
    let inputs: Vec<&TensorType> = wires.iter().map(|i| graph.ty(*i)).collect();
    let work = work(node, &inputs)?;
    let point = Point { class: class(node, &inputs, &work), work, precision: precision(&inputs, node, graph.tf32), seconds };
    Ok((work != Work::Free).then_some(point))
}

/// Which class of kernels runs a node, one of the family of its work.
fn class(node: &Node, inputs: &[&TensorType], work: &Work) -> Family {
    let broad = work.family().unwrap_or(Family::Copy);
    match &node.op {
        Op::ConvTranspose(_) => Family::ConvSpread,
        Op::Conv(c) | Op::FusedConv(c) => convolution_class(c, work),
        Op::MatMul | Op::FusedMatMul if matches!(work, Work::Gemm { b: 2.., .. }) => Family::GemmPairs,
        Op::Unary(Unary::Sqrt | Unary::Neg) => Family::Elementwise,
        Op::Unary(Unary::Erf | Unary::GeluErf | Unary::GeluTanh) | Op::BiasGelu => Family::Gelu,
        Op::Unary(_) | Op::QuickGelu { .. } => Family::Silu,
        Op::ChannelAffine => Family::Affine,
        Op::Binary(_) if inputs.iter().any(|i| i.shape != node.outs[0].shape) => Family::Broadcast,
        Op::InstanceNorm { .. } => Family::InstanceNorm,
        Op::LayerNorm { .. } => Family::LayerNorm,
        Op::ReduceMean { .. } => Family::Mean,
        Op::Transpose { perm } if perm.last().is_some_and(|last| last + 1 == perm.len()) => Family::Rows,
        Op::Slice { .. } | Op::Split { .. } => Family::Slice,
        _ => broad,
    }
}

fn convolution_class(c: &Conv, work: &Work) -> Family {
    let Work::Conv { cin, cout, .. } = *work else { return Family::Conv };
    let long = c.kernel.iter().filter(|k| **k > 1).count();
    match () {
        () if cin <= FEW_CHANNELS => Family::ConvThin,
        () if cout <= FEW_CHANNELS => Family::ConvNarrow,
        () if c.strides.iter().any(|s| *s > 1) => Family::ConvStrided,
        () if long == 0 => Family::ConvPoint,
        () if long == 1 => Family::ConvLine,
        () => Family::Conv,
    }
}

fn with_dispatch(work: &Work, kernel: Time, machine: &Machine) -> Time {
    let dispatch = Time::from_secs(machine.dispatch);
    match machine.kind {
        // On a CPU a view costs a dispatch of some microseconds; it is left out, so that where `place-views` puts views, which depends
        // on what stands around an operator, changes no figure of it.
        _ if *work == Work::Free => Time(0),
        DeviceKind::Cpu => kernel + dispatch,
        DeviceKind::Gpu => kernel.max(dispatch),
    }
}

/// The precision in which the node multiplies: that of its first input's element type.
fn precision(inputs: &[&TensorType], node: &Node, tf32: bool) -> Precision {
    match inputs.first().copied().or(node.outs.first()).map(|t| t.dtype) {
        Some(DType::F16) => Precision::F16,
        Some(DType::BF16) => Precision::Bf16,
        Some(DType::I8 | DType::U8) => Precision::Int8,
        _ if tf32 => Precision::Tf32,
        _ => Precision::F32,
    }
}

/// What a provider operator does. An operator that vidc does not know is taken to read and write each of its tensors once,
/// which is a lower bound.
///
/// # Errors
/// As [`cost`].
pub fn work(node: &Node, inputs: &[&TensorType]) -> Result<Work> {
    let out = node.outs.first().ok_or_else(|| unrunnable(node))?;
    let moved = |kind, read, written| Work::Memory { kind, read, written };
    let (read, written) = (sizes(node, inputs.iter().copied())?, sizes(node, &node.outs)?);
    Ok(match &node.op {
        Op::Reshape { .. } => Work::Free,
        Op::Gemm { .. } | Op::MatMul | Op::FusedMatMul => product(node, inputs, out)?,
        Op::Conv(c) | Op::FusedConv(c) => convolution(node, c, inputs, out)?,
        Op::ConvTranspose(c) => spread_product(node, c, inputs, out)?,
        Op::MultiHeadAttention(a) => attention(node, a.heads, inputs)?,
        Op::Unary(_) | Op::Binary(_) | Op::QuickGelu { .. } | Op::BiasGelu | Op::ChannelAffine => {
            moved(MemoryKind::Elementwise, read, written)
        }
        Op::InstanceNorm { .. } | Op::LayerNorm { .. } | Op::GroupNormNhwc(_) | Op::ReduceMean { .. } => {
            moved(MemoryKind::Norm, read, written)
        }
        Op::Softmax { .. } => moved(MemoryKind::Softmax, read, written),
        Op::Transpose { .. } => moved(MemoryKind::Transpose, read, written),
        // Of a sliced tensor only the range is read.
        Op::Slice { .. } => moved(MemoryKind::Copy, written, written),
        Op::Concat { .. } | Op::Split { .. } | Op::Expand { .. } | Op::Cast { .. } | Op::Pad { .. } | Op::Foreign(_) => {
            moved(MemoryKind::Copy, read, written)
        }
        Op::Upsample { .. } => moved(MemoryKind::Resize, read, written),
        Op::Input
        | Op::Weight(_)
        | Op::Arange { .. }
        | Op::Linear
        | Op::Attention(_)
        | Op::GroupNorm(_)
        | Op::RmsNorm { .. }
        | Op::Silu
        | Op::Gelu { .. }
        | Op::GeGlu
        | Op::RotaryEmbedding { .. }
        | Op::TemporalConv
        | Op::ForChunks(_) => return Err(Box::new(unrunnable(node))),
    })
}

fn unrunnable(node: &Node) -> Diagnostic {
    Diagnostic::new("internal/bug", format!("`{}` is {}, which no provider runs and which has no cost", node.name, node.op.name()))
}

fn unbound(node: &Node) -> Diagnostic {
    Diagnostic::new("model/unbound", format!("`{}` still has a symbolic type", node.name))
}

fn sizes<'a>(node: &Node, types: impl IntoIterator<Item = &'a TensorType>) -> Result<u64> {
    types.into_iter().try_fold(0, |sum: u64, t| t.bytes().map(|b| sum.saturating_add(b))).ok_or_else(|| unbound(node).into())
}

fn extents(node: &Node, ty: &TensorType) -> Result<Vec<u64>> {
    let dims = ty.dims().ok_or_else(|| unbound(node))?;
    Ok(dims.into_iter().map(|d| d.max(0) as u64).collect())
}

fn count(dims: &[u64]) -> u64 {
    dims.iter().fold(1, |a: u64, d| a.saturating_mul(*d))
}

/// A matrix product; operands that all rows share make one product of them.
fn product(node: &Node, inputs: &[&TensorType], out: &TensorType) -> Result<Work> {
    let [x, w, ..] = inputs else { return Err(Box::new(unrunnable(node))) };
    let (x, w_dims, y) = (extents(node, x)?, extents(node, w)?, extents(node, out)?);
    let n = y.last().copied().unwrap_or(1);
    let shared = count(&w_dims[..w_dims.len().saturating_sub(2)]) == 1;
    let b = if shared { 1 } else { count(&y[..y.len().saturating_sub(2)]) };
    let extra_bytes = sizes(node, inputs[2..].iter().copied())?;
    Ok(Work::Gemm { b, m: count(&y) / (b * n).max(1), n, k: x.last().copied().unwrap_or(1), extra_bytes })
}

fn convolution(node: &Node, c: &Conv, inputs: &[&TensorType], out: &TensorType) -> Result<Work> {
    let (x, y) = (extents(node, inputs[0])?, extents(node, out)?);
    if x.len() < 3 || x.len() > 5 || y.len() != x.len() {
        return Err(Box::new(unrunnable(node)));
    }
    let padded = |dims: &mut dyn Iterator<Item = u64>| {
        let mut three = [1; 3];
        three.iter_mut().zip(dims).for_each(|(slot, d)| *slot = d);
        three
    };
    Ok(Work::Conv {
        batch: x[0],
        cin: x[1],
        cout: y[1],
        groups: c.groups.max(1) as u64,
        kernel: padded(&mut c.kernel.iter().map(|k| *k as u64)),
        out: padded(&mut y[2..].iter().copied()),
        in_elems: count(&x),
        extra_bytes: sizes(node, inputs[2.min(inputs.len())..].iter().copied())?,
    })
}

/// A transposed convolution as ONNX Runtime computes it: a product with all taps of the kernel, whose columns are then added up.
fn spread_product(node: &Node, c: &Conv, inputs: &[&TensorType], out: &TensorType) -> Result<Work> {
    let (x, y) = (extents(node, inputs[0])?, extents(node, out)?);
    let n = y[1].saturating_mul(taps(c));
    let m = count(&x[2..]);
    let columns = x[0].saturating_mul(m).saturating_mul(n).saturating_mul(out.dtype.size());
    let extra_bytes = columns.saturating_add(sizes(node, inputs[2..].iter().copied().chain([out]))?);
    Ok(Work::Gemm { b: x[0], m, n, k: x[1], extra_bytes })
}

fn taps(c: &Conv) -> u64 {
    c.kernel.iter().fold(1, |a: u64, k| a.saturating_mul((*k).max(0) as u64))
}

fn attention(node: &Node, heads: i64, inputs: &[&TensorType]) -> Result<Work> {
    let (q, k) = (extents(node, inputs[0])?, extents(node, inputs[1])?);
    let h = heads.max(1) as u64;
    Ok(Work::Attention { b: q[0], h, lq: q[1], lk: k[1], dh: q[2] / h, fused: true, q_tiles: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwdb;
    use crate::ir::op::Binary;
    use crate::ir::{Dim, Outlet};

    /// The last node of a graph over one input.
    fn last(shape: &[i64], build: impl FnOnce(&mut OpGraph, Outlet) -> Outlet) -> (OpGraph, NodeId) {
        let mut g = OpGraph::new("g");
        let x = g.input("x", TensorType::new(DType::F32, shape.iter().copied()));
        let y = build(&mut g, x);
        g.output("y", y);
        (g, y.node)
    }

    fn work_of((g, id): &(OpGraph, NodeId)) -> Work {
        let inputs = g.inputs_of(*id);
        let types: Vec<&TensorType> = inputs.iter().map(|i| g.ty(*i)).collect();
        work(g.node(*id), &types).unwrap()
    }

    fn weight(g: &mut OpGraph, name: &str, shape: &[u64]) -> Outlet {
        g.weight(crate::weights::WeightExpr::param("m", name, DType::F32, shape).unwrap())
    }

    #[test]
    fn a_product_with_shared_weights_has_all_rows_in_m() {
        let g = last(&[2, 5, 8], |g, x| {
            let w = weight(g, "w", &[8, 3]);
            g.add(Op::MatMul, &[x, w], "y", &"".into()).unwrap()
        });
        assert_eq!(work_of(&g), Work::Gemm { b: 1, m: 10, n: 3, k: 8, extra_bytes: 0 });
        let scores = last(&[2, 5, 8], |g, x| {
            let t = g.add(Op::Transpose { perm: vec![0, 2, 1] }, &[x], "t", &"".into()).unwrap();
            g.add(Op::MatMul, &[x, t], "y", &"".into()).unwrap()
        });
        assert_eq!(work_of(&scores), Work::Gemm { b: 2, m: 5, n: 5, k: 8, extra_bytes: 0 });
    }

    #[test]
    fn a_convolution_counts_its_operations() {
        let g = last(&[2, 4, 8, 8], |g, x| {
            let w = weight(g, "w", &[6, 4, 3, 3]);
            let b = weight(g, "b", &[6]);
            g.add(Op::Conv(Conv::square(3, 2, 1)), &[x, w, b], "y", &"".into()).unwrap()
        });
        let work = work_of(&g);
        assert_eq!(work.flop().0, 2 * 2 * 4 * 6 * 9 * 16);
        assert!(matches!(work, Work::Conv { extra_bytes: 24, in_elems: 512, .. }), "{work:?}");
    }

    #[test]
    fn small_nodes_cost_their_dispatch_and_views_nothing() {
        let machine = hwdb::machine("rtx3090").unwrap();
        let add = last(&[4], |g, x| g.add(Op::Binary(Binary::Add), &[x, x], "y", &"".into()).unwrap());
        assert_eq!(cost(&add.0, add.1, &machine).unwrap().time, Time::from_secs(machine.dispatch));
        let view = last(&[4], |g, x| g.add(Op::Reshape { shape: vec![Dim::Const(2), Dim::Const(2)] }, &[x], "y", &"".into()).unwrap());
        assert_eq!(cost(&view.0, view.1, &machine).unwrap().time, Time(0));
        let cpu = hwdb::machine("x86-cpu-2core").unwrap();
        assert_eq!(cost(&view.0, view.1, &cpu).unwrap().time, Time(0));
    }

    #[test]
    fn a_raised_operator_has_no_cost() {
        let g = last(&[4], |g, x| g.add(Op::Silu, &[x], "y", &"".into()).unwrap());
        let e = cost(&g.0, g.1, &hwdb::machine("rtx3090").unwrap()).unwrap_err();
        assert_eq!(e.code, "internal/bug");
    }
}
