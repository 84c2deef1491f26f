//! Where a constant scales or shifts a tensor.

use super::carrier::Change;
use crate::diag::Result;
use crate::ir::op::Unary;
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet};
use crate::passes::Edit;
use crate::passes::fold_constants::arithmetic;
use crate::weights::{Arithmetic, WeightExpr};

/// An operator that scales or shifts a tensor by a constant.
pub(super) struct Site {
    pub(super) id: NodeId,
    /// The tensor.
    pub(super) x: Outlet,
    how: Arithmetic,
    constant: WeightExpr,
}

impl Site {
    /// The site that a node is, if it is one.
    pub(super) fn at(graph: &OpGraph, id: NodeId) -> Result<Option<Self>> {
        let inputs = graph.inputs_of(id);
        let node = graph.node(id);
        let found = match (&node.op, &inputs[..]) {
            (Op::Unary(Unary::Neg), [x]) if node.outs[0].dtype == DType::F32 => {
                Some((*x, Arithmetic::Mul, WeightExpr::literal_f32(&[1], &[-1.0])?))
            }
            (Op::Binary(f), [left, right]) => match (arithmetic(*f), graph.as_weight(*left), graph.as_weight(*right)) {
                (Some(how), None, Some(c)) if how != Arithmetic::Pow => Some((*left, how, c.clone())),
                (Some(how @ (Arithmetic::Add | Arithmetic::Mul)), Some(c), None) => Some((*right, how, c.clone())),
                _ => None,
            },
            _ => None,
        };
        let same = |(x, _, _): &(Outlet, Arithmetic, WeightExpr)| graph.ty(*x) == &node.outs[0] && node.outs[0].dtype.is_float();
        Ok(found.filter(same).map(|(x, how, constant)| Self { id, x, how, constant }))
    }

    /// The changed tensor.
    pub(super) fn out(&self) -> Outlet {
        Outlet { node: self.id, slot: 0 }
    }

    /// The change per channel, and the axis of the channels; no axis if all elements change alike.
    pub(super) fn change(&self, graph: &OpGraph) -> std::result::Result<(Change, Option<usize>), &'static str> {
        let (shape, rank) = (self.constant.shape(), graph.ty(self.x).rank());
        let wide: Vec<usize> = (0..shape.len()).filter(|i| shape[*i] != 1).collect();
        let axis = match wide[..] {
            [] => None,
            [i] => Some(i + rank - shape.len()),
            _ => return Err("not-per-channel"),
        };
        let by = self.constant.reshape(&[self.constant.elements()]).map_err(|_| "not-per-channel")?;
        Ok((Change { how: self.how, by }, axis))
    }

    /// Lets what reads the site read the tensor instead.
    pub(super) fn dissolve(&self, e: &mut Edit<'_>) -> Result<()> {
        e.replace(self.out(), self.x)?;
        e.remove(self.id)
    }
}
