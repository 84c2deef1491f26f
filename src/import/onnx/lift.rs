//! Operators that the IR knows: one row a rule, each rule a few lines. A rule that does not hold for a node gives nothing and the
//! node stays foreign; that is never wrong, it only leaves less to rewrite.

mod compute;
mod shape;

use super::reader::{Reader, UpgradedNode};
use super::standard::{Elements, PartialType};
use crate::diag::Result;
use crate::ir::{DType, Dim, Outlet};
use crate::onnx::proto::AttributeProto;

/// The outlets of a node's outputs; an output that the rule does not make is none.
type Lifted = Option<Vec<Option<Outlet>>>;
type Rule = fn(&mut Reader<'_, '_>, &UpgradedNode<'_>) -> Lifted;

/// (domain, operator, rule)
const RULES: &[(&str, &str, Rule)] = &[
    ("", "Add", compute::binary),
    ("", "Sub", compute::binary),
    ("", "Mul", compute::binary),
    ("", "Div", compute::binary),
    ("", "Pow", compute::binary),
    ("", "Sigmoid", compute::unary),
    ("", "Tanh", compute::unary),
    ("", "Erf", compute::unary),
    ("", "Exp", compute::unary),
    ("", "Sqrt", compute::unary),
    ("", "Sin", compute::unary),
    ("", "Cos", compute::unary),
    ("", "Neg", compute::unary),
    ("", "Gelu", compute::gelu),
    ("", "Swish", compute::swish),
    ("", "MatMul", compute::matmul),
    ("", "Gemm", compute::gemm),
    ("", "Conv", compute::conv),
    ("", "Softmax", compute::softmax),
    ("", "InstanceNormalization", compute::instance_norm),
    ("", "LayerNormalization", compute::layer_norm),
    ("", "RMSNormalization", compute::rms_norm),
    ("", "GroupNormalization", compute::group_norm),
    ("", "BatchNormalization", compute::batch_norm),
    ("", "ReduceMean", compute::reduce_mean),
    ("com.microsoft", "QuickGelu", compute::quick_gelu),
    ("", "Identity", shape::same),
    ("", "Dropout", shape::dropout),
    ("", "Constant", shape::constant),
    ("", "Reshape", shape::reshaped),
    ("", "Flatten", shape::reshaped),
    ("", "Squeeze", shape::reshaped),
    ("", "Unsqueeze", shape::reshaped),
    ("", "Transpose", shape::transpose),
    ("", "Concat", shape::concat),
    ("", "Slice", shape::slice),
    ("", "Split", shape::split),
    ("", "Gather", shape::gather),
    ("", "Expand", shape::expand),
    ("", "Tile", shape::tile),
    ("", "Where", shape::chosen),
    ("", "Cast", shape::cast),
    ("", "Pad", shape::pad),
    ("", "Resize", shape::resize),
];

/// The typed form of a node, if there is one.
///
/// # Errors
/// What stored tensors of attributes return.
pub(super) fn lift(r: &mut Reader<'_, '_>, domain: &str, node: &UpgradedNode<'_>) -> Result<Lifted> {
    let rule = RULES.iter().find(|(d, op, _)| *d == domain && *op == node.op_type);
    if let (Some(t), "Constant") = (node.attribute("value").and_then(|a| a.t.as_deref()), node.op_type) {
        return Ok(Some(vec![Some(r.stored(t)?)]));
    }
    Ok(rule.and_then(|(_, _, rule)| rule(r, node)))
}

fn one(outlet: Outlet) -> Lifted {
    Some(vec![Some(outlet)])
}

impl UpgradedNode<'_> {
    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes.iter().find(|a| a.name == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        // A writer may leave out a 0.
        self.attribute(name).map_or(default, |a| a.i.unwrap_or(0))
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f.unwrap_or(0.0))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.attribute(name).and_then(|a| std::str::from_utf8(a.s.as_deref().unwrap_or_default()).ok())
    }

    fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| &a.ints[..])
    }

    fn input(&self, at: usize) -> Option<Outlet> {
        self.inputs.get(at).copied().flatten()
    }

    /// Does nobody name an output beyond the first?
    fn one_output(&self) -> bool {
        self.outputs.iter().skip(1).all(String::is_empty)
    }

    /// An axis counted from the front.
    fn axis(axis: i64, rank: usize) -> Option<usize> {
        let from_front = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_front).ok().filter(|a| *a < rank)
    }

    /// The extents of an output, if all are numbers or can be computed from the extents of the model's inputs and of this tensor.
    fn extents(&self, r: &Reader<'_, '_>, at: usize, from: Outlet) -> Option<Vec<Dim>> {
        self.known_extents(at)?.into_iter().map(|d| computable(r, &d, from).then_some(d)).collect()
    }

    /// The extents of an output, if something is known of all.
    fn known_extents(&self, at: usize) -> Option<Vec<Dim>> {
        let PartialType { shape: Some(shape), .. } = self.infos.get(at)?.ty.as_ref()? else { return None };
        shape.iter().cloned().collect()
    }
}

/// Can a written model compute this dim where this tensor is at hand?
fn computable(r: &Reader<'_, '_>, dim: &Dim, from: Outlet) -> bool {
    dim.as_const().is_some() || dim.follows(|s| r.shared.computable.contains(s), &r.graph.ty(from).shape)
}

impl Reader<'_, '_> {
    fn dtype(&self, outlet: Outlet) -> DType {
        self.graph.ty(outlet).dtype
    }

    fn rank(&self, outlet: Outlet) -> usize {
        self.graph.ty(outlet).rank()
    }

    /// A float tensor of known rank?
    fn is_float(&self, outlet: Outlet) -> bool {
        self.dtype(outlet).is_float()
    }

    /// The known integers of a value.
    fn known_dims(&self, outlet: Outlet) -> Option<Vec<Dim>> {
        match &self.info(outlet).value.as_ref()?.elements {
            Elements::Dims(dims) => Some(dims.clone()),
            Elements::Numbers(_) => None,
        }
    }

    /// The same, all of them numbers.
    fn known_integers(&self, outlet: Outlet) -> Option<Vec<i64>> {
        self.known_dims(outlet)?.iter().map(Dim::as_const).collect()
    }

    fn known_numbers(&self, outlet: Outlet) -> Option<Vec<f64>> {
        match &self.info(outlet).value.as_ref()?.elements {
            Elements::Numbers(numbers) => Some(numbers.clone()),
            Elements::Dims(_) => None,
        }
    }
}
