//! What can take up a scale or a shift per channel: the operators with a weight or an affine, and how their parameters change.

use super::{Attempt, Miss};
use crate::diag::Result;
use crate::ir::axes::{self, Dependence};
use crate::ir::{Dim, NodeId, Op, OpGraph};
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

/// The carrier that an operator is, if its parameters are constants. Which channels are which, the operator's axes say: those of the
/// output are the axis that follows one of the weight, those of the input are what it and the weight are combined over.
pub(super) fn carrier(graph: &OpGraph, id: NodeId) -> Option<(Carrier, Params)> {
    let params = params(graph, id)?;
    let product = match &graph.node(id).op {
        Op::MatMul if params.weight.shape().len() != 2 => return None,
        Op::Linear | Op::Gemm { .. } | Op::MatMul | Op::Conv(_) | Op::TemporalConv => true,
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::InstanceNorm { .. } => false,
        Op::GroupNorm(g) if !g.silu => false,
        _ => return None,
    };
    let bias = !matches!(graph.node(id).op, Op::MatMul | Op::RmsNorm { .. });
    let axes = axes::at(graph, id);
    let follows = |a: usize| Some((a, axes.along(0, a, 1).independent()?));
    let (out_axis, weight_out) = (0..graph.node(id).outs[0].rank()).rev().find_map(follows)?;
    if !product {
        return Some((Carrier { out_axis, weight_out, input: None, bias, sees_all: false }, params));
    }
    // With groups a channel of the output sees some of the input's, or, with as many groups as channels, its own.
    let own = axes.along(0, out_axis, 0);
    let dense = own == Dependence::Broadcast;
    let in_axis = own.independent().or_else(|| axes.combined(0, 0).first().copied())?;
    let input = Some((in_axis, axes.combined(0, 1).first().copied().filter(|_| dense)));
    let sees_all = dense && (0..graph.node(id).outs[0].rank()).all(|a| sees_each(&axes.along(0, a, 0)));
    Some((Carrier { out_axis, weight_out, input, bias, sees_all }, params))
}

/// Does an index see as much of the input as every other, nothing of it padded?
fn sees_each(d: &Dependence) -> bool {
    match d {
        Dependence::Window(w) => w.kernel == 1 && w.spread == 1 && [&w.before, &w.after].iter().all(|pad| **pad == Dim::Const(0)),
        Dependence::Independent { .. } | Dependence::Broadcast => true,
        Dependence::Reduced { .. } | Dependence::Whole => false,
    }
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
    pub(super) fn changed_behind(&self, p: &Params, change: &Change) -> Attempt<Params> {
        let by = &change.by;
        if change.scales() {
            let weight = p.weight.binary(change.how, &along(by, p.weight.shape().len(), self.weight_out)?)?;
            let bias = p.bias.as_ref().map(|b| b.binary(change.how, by)).transpose()?;
            return Ok(Params { weight, bias });
        }
        if !self.bias {
            return Err(Miss::Unmet("no-bias"));
        }
        let bias = match &p.bias {
            Some(bias) => bias.binary(change.how, by)?,
            None => signed(change)?.expand(&[p.weight.shape()[self.weight_out]])?,
        };
        Ok(Params { weight: p.weight.clone(), bias: Some(bias) })
    }

    /// The parameters with which the operator gives the same output from `x` as it gave from the scaled or shifted `x`.
    pub(super) fn changed_in_front(&self, p: &Params, change: &Change) -> Attempt<Params> {
        let Some((_, weight_in)) = self.input else { return Err(Miss::Unmet("no-product")) };
        let one = change.by.elements() == 1;
        let rank = p.weight.shape().len();
        if change.scales() {
            let by = match weight_in {
                Some(axis) => along(&change.by, rank, axis)?,
                None if one => along(&change.by, rank, 0)?,
                None => return Err(Miss::Unmet("grouped")),
            };
            return Ok(Params { weight: p.weight.binary(change.how, &by)?, bias: p.bias.clone() });
        }
        if !self.bias {
            return Err(Miss::Unmet("no-bias"));
        }
        let (true, Some(axis)) = (self.sees_all, weight_in) else { return Err(Miss::Unmet("a-shift-meets-the-edge")) };
        let (k, n) = (p.weight.shape()[axis], p.weight.shape()[self.weight_out]);
        let matrix = if axis == 0 { p.weight.transpose(&[1, 0])? } else { p.weight.reshape(&[n, k])? };
        let shift = matrix.matmul(&change.by.expand(&[k])?.reshape(&[k, 1])?)?.reshape(&[n])?;
        let bias = match &p.bias {
            Some(bias) => bias.binary(change.how, &shift)?,
            None => signed(&Change { how: change.how, by: shift })?,
        };
        Ok(Params { weight: p.weight.clone(), bias: Some(bias) })
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

/// A carrier with other parameters.
pub(super) struct Changed {
    pub(super) id: NodeId,
    pub(super) carrier: Carrier,
    pub(super) old: Params,
    pub(super) new: Params,
}

impl Changed {
    pub(super) fn another_weight(&self) -> bool {
        self.old.weight != self.new.weight
    }
}
