//! What can take up a scale or a shift per channel: the operators with a weight or an affine, how their parameters change, and
//! where the channels lie.

use crate::diag::Result;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::weights::{Arithmetic, Function, WeightExpr};

/// `x · by`, `x / by`, `x + by` or `x - by`, where `by` is one value (`[1]`) or one per channel (`[n]`).
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Which of the four.
    pub(super) how: Arithmetic,
    /// The value or values.
    pub(super) by: WeightExpr,
}

impl Change {
    /// Does it change the size of values, and not where they lie?
    pub(super) fn scales(&self) -> bool {
        matches!(self.how, Arithmetic::Mul | Arithmetic::Div)
    }
}

/// An operator whose parameters can take up a change of its output, or of its input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carrier {
    /// The axis of the channels in its output.
    pub(super) out_axis: usize,
    /// The axis of the weight that runs over the output's channels.
    pub(super) weight_out: usize,
    /// The axis of the channels in its input, and the axis of the weight that runs over them; of products only.
    input: Option<(usize, Option<usize>)>,
    /// Is a bias possible?
    bias: bool,
    /// Does every element of the output see every input channel exactly once, so that a shift of the input is one of the output?
    sees_all: bool,
}

/// The parameters of a carrier.
#[derive(Clone, Debug)]
pub(super) struct Params {
    /// The weight, or the scale of a norm.
    pub(super) weight: WeightExpr,
    /// The bias, if there is one.
    pub(super) bias: Option<WeightExpr>,
}

/// The carrier that an operator is, if its parameters are constants.
pub(super) fn carrier(graph: &OpGraph, id: NodeId) -> Option<(Carrier, Params)> {
    let params = params(graph, id)?;
    let last = graph.node(id).outs[0].rank().checked_sub(1)?;
    let dense =
        |weight_out, weight_in, bias| Carrier { out_axis: last, weight_out, input: Some((last, Some(weight_in))), bias, sees_all: true };
    let norm = |out_axis, bias| Carrier { out_axis, weight_out: 0, input: None, bias, sees_all: false };
    let conv = |groups: i64, sees_all: bool| Carrier {
        out_axis: 1,
        weight_out: 0,
        input: Some((1, (groups == 1).then_some(1))),
        bias: true,
        sees_all: sees_all && groups == 1,
    };
    let carrier = match &graph.node(id).op {
        Op::Linear | Op::Gemm { trans_b: true } => dense(0, 1, true),
        Op::Gemm { .. } => dense(1, 0, true),
        Op::MatMul if params.weight.shape().len() == 2 => dense(1, 0, false),
        Op::Conv(c) => conv(c.groups, c.kernel.iter().all(|k| *k == 1) && c.pads.iter().all(|p| *p == (0, 0))),
        Op::TemporalConv => conv(1, params.weight.shape().get(2) == Some(&1)),
        Op::LayerNorm { .. } => norm(last, true),
        Op::RmsNorm { .. } => norm(last, false),
        Op::InstanceNorm { .. } => norm(1, true),
        Op::GroupNorm(g) if !g.silu => norm(1, true),
        _ => return None,
    };
    Some((carrier, params))
}

fn params(graph: &OpGraph, id: NodeId) -> Option<Params> {
    let inputs = graph.inputs_of(id);
    let [_, rest @ ..] = &inputs[..] else { return None };
    let constants: Option<Vec<WeightExpr>> = rest.iter().map(|o| graph.as_weight(*o).cloned()).collect();
    let mut constants = constants?.into_iter();
    let params = Params { weight: constants.next()?, bias: constants.next() };
    constants.next().is_none().then_some(params)
}

impl Carrier {
    /// The axis of its input that a change must lie on to be taken up from there.
    pub(super) fn in_axis(&self) -> Option<usize> {
        self.input.map(|(axis, _)| axis)
    }

    /// The parameters after which the output is changed on its channels.
    pub(super) fn changed_behind(&self, p: &Params, change: &Change) -> Result<std::result::Result<Params, &'static str>> {
        let by = &change.by;
        if change.scales() {
            let weight = p.weight.binary(change.how, &along(by, p.weight.shape().len(), self.weight_out)?)?;
            let bias = p.bias.as_ref().map(|b| b.binary(change.how, by)).transpose()?;
            return Ok(Ok(Params { weight, bias }));
        }
        if !self.bias {
            return Ok(Err("no-bias"));
        }
        let bias = match &p.bias {
            Some(bias) => bias.binary(change.how, by)?,
            None => signed(change)?.expand(&[p.weight.shape()[self.weight_out]])?,
        };
        Ok(Ok(Params { weight: p.weight.clone(), bias: Some(bias) }))
    }

    /// The parameters with which the operator gives the same output from `x` as it gave from the scaled or shifted `x`.
    pub(super) fn changed_in_front(&self, p: &Params, change: &Change) -> Result<std::result::Result<Params, &'static str>> {
        let Some((_, weight_in)) = self.input else { return Ok(Err("no-product")) };
        let one = change.by.elements() == 1;
        let rank = p.weight.shape().len();
        if change.scales() {
            let by = match weight_in {
                Some(axis) => along(&change.by, rank, axis)?,
                None if one => along(&change.by, rank, 0)?,
                None => return Ok(Err("grouped")),
            };
            return Ok(Ok(Params { weight: p.weight.binary(change.how, &by)?, bias: p.bias.clone() }));
        }
        if !self.bias {
            return Ok(Err("no-bias"));
        }
        let (true, Some(axis)) = (self.sees_all, weight_in) else { return Ok(Err("a-shift-meets-the-edge")) };
        let (k, n) = (p.weight.shape()[axis], p.weight.shape()[self.weight_out]);
        let matrix = if axis == 0 { p.weight.transpose(&[1, 0])? } else { p.weight.reshape(&[n, k])? };
        let shift = matrix.matmul(&change.by.expand(&[k])?.reshape(&[k, 1])?)?.reshape(&[n])?;
        let bias = match &p.bias {
            Some(bias) => bias.binary(change.how, &shift)?,
            None => signed(&Change { how: change.how, by: shift })?,
        };
        Ok(Ok(Params { weight: p.weight.clone(), bias: Some(bias) }))
    }
}

/// What a shift adds to nothing.
fn signed(change: &Change) -> Result<WeightExpr> {
    if change.how == Arithmetic::Sub { change.by.map(Function::Neg) } else { Ok(change.by.clone()) }
}

/// A vector on one of `rank` axes.
fn along(by: &WeightExpr, rank: usize, axis: usize) -> Result<WeightExpr> {
    let mut shape = vec![1; rank];
    shape[axis] = by.elements();
    by.reshape(&shape)
}

/// Where an axis of the input of an operator that only moves elements lies in its output; `None` for no axis stays so.
pub(super) fn forward(graph: &OpGraph, id: NodeId, axis: Option<usize>) -> Option<Option<usize>> {
    let Some(axis) = axis else { return moves(graph, id).then_some(None) };
    let input = *graph.inputs_of(id).first()?;
    let (from, to) = (&graph.ty(input).shape, &graph.node(id).outs[0].shape);
    match &graph.node(id).op {
        Op::Transpose { perm } => perm.iter().position(|p| *p == axis).map(Some),
        Op::Reshape { .. } => super::same_axis(from, to, axis).map(Some),
        _ => None,
    }
}

/// The reverse of [`forward`], through more operators: (the input to go on from, the axis there). What a scale may pass and a
/// shift may not is passed if `scales`.
pub(super) fn backward(graph: &OpGraph, id: NodeId, axis: Option<usize>, scales: bool) -> Option<(Outlet, Option<usize>)> {
    let inputs = graph.inputs_of(id);
    let (first, out) = (*inputs.first()?, &graph.node(id).outs[0]);
    let from = &graph.ty(first).shape;
    match (&graph.node(id).op, axis) {
        (Op::Transpose { perm }, Some(a)) => Some((first, Some(perm[a]))),
        (Op::Reshape { .. }, Some(a)) => Some((first, Some(super::same_axis(&out.shape, from, a)?))),
        (Op::Slice { axis: cut, .. }, Some(a)) => (*cut != a).then_some((first, axis)),
        (Op::Upsample { factors }, Some(a)) => (factors[a] == 1).then_some((first, axis)),
        (Op::Pad { before, after }, Some(a)) => (scales && before[a] == 0 && after[a] == 0).then_some((first, axis)),
        (Op::Transpose { .. } | Op::Reshape { .. } | Op::Slice { .. } | Op::Upsample { .. }, None) => Some((first, None)),
        (Op::Pad { .. } | Op::RotaryEmbedding { .. }, None) => scales.then_some((first, None)),
        // The weights of a query's keys sum to 1: a shift of all values is the same shift of the output.
        (Op::Attention(_), None) => Some((*inputs.get(2)?, None)),
        (Op::Attention(_), Some(2)) => {
            let v = *inputs.get(2)?;
            (graph.ty(v).shape.last() == out.shape.last()).then_some((v, Some(2)))
        }
        _ => None,
    }
}

fn moves(graph: &OpGraph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Transpose { .. } | Op::Reshape { .. })
}
