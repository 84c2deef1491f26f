//! What the ONNX standard says about the outputs of its operators: element types, extents as polynomials over the dims of the
//! model's inputs, and the elements of the small tensors that shape arithmetic computes.
//!
//! [`infer`] looks up the operator in the table of `table`; each rule is a pure function from what is known of the inputs to
//! what is known of the outputs. `value` evaluates what is small and known. Operators with bodies (`If`, `Loop`, `Scan`) are
//! for those who hold the bodies; here they are unknown.
//!
//! Assumptions about symbols. An extent may be 0, and comparisons of values are decided only if the answer is the same for all
//! symbols from 0 on. An integer division, which cuts towards 0, takes extents of inputs to be at least 1: `(h - 1) / 2` is a floor. Where an extent depends on whether a slice's bounds lie inside of the axis, symbols are taken to be at least
//! 1, so `x[1:]` of `n` elements has `n - 1`. Two symbolic extents that must be equal are taken to be.

mod call;
mod contrib;
mod control;
mod elementwise;
mod extent;
mod generate;
mod indexing;
mod linear;
mod quantize;
mod recurrent;
mod reduce;
mod shaping;
mod table;
mod value;
mod windows;

#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod notation;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod value_tests;

use crate::ir::Dim;
use crate::onnx::proto::{AttributeProto, TensorProto};

/// Numbers of ONNX element types (`TensorProto.DataType`) that rules name.
mod dtype {
    /// 32-bit float.
    pub(super) const FLOAT: i32 = 1;
    /// Unsigned byte.
    pub(super) const UINT8: i32 = 2;
    /// 32-bit integer.
    pub(super) const INT32: i32 = 6;
    /// 64-bit integer.
    pub(super) const INT64: i32 = 7;
    /// Text.
    pub(super) const STRING: i32 = 8;
    /// Truth value.
    pub(super) const BOOL: i32 = 9;
    /// 16-bit float.
    pub(super) const FLOAT16: i32 = 10;
    /// 64-bit float.
    pub(super) const DOUBLE: i32 = 11;
    /// The other 16-bit float.
    pub(super) const BFLOAT16: i32 = 16;
}

/// Extents of more axes than this are taken as unknown: no model has them, and files made to exhaust memory do.
pub(super) const MAX_RANK: usize = 32;
/// Elements of a [`ShapeValue`] at most.
const MAX_ELEMENTS: usize = 4096;

/// Outputs of a node that has more are unknown: no operator has so many.
const MAX_OUTPUTS: usize = 4096;

/// What is known of a value while a model is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ValueInfo {
    /// Its type; none for what is no tensor, and for what nothing is known of.
    pub(super) ty: Option<PartialType>,
    /// Its elements, if they are few and known.
    pub(super) value: Option<ShapeValue>,
}

/// Element type and, if the rank is known, extents; an extent may be unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartialType {
    /// A number of ONNX's `TensorProto.DataType`.
    pub(super) dtype: Option<i32>,
    /// Extents, outermost first.
    pub(super) shape: Option<Vec<Option<Dim>>>,
}

/// A small integer, bool or float tensor whose elements are known, symbolically or as numbers: what shape arithmetic computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShapeValue {
    /// Extents; their product is the number of elements.
    pub(super) shape: Vec<usize>,
    /// Elements, row-major.
    pub(super) elements: Elements,
}

/// The elements of a [`ShapeValue`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Elements {
    /// Integers, and bools as 0 and 1.
    Dims(Vec<Dim>),
    /// Floats.
    Numbers(Vec<f64>),
}

/// One node, with what is known of its inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeInfo<'a> {
    /// Domain; empty (or `ai.onnx`) for ONNX itself.
    pub(super) domain: &'a str,
    /// Operator.
    pub(super) op_type: &'a str,
    /// Operator set of the domain that the model imports.
    pub(super) version: i64,
    /// Attributes.
    pub(super) attributes: &'a [AttributeProto],
    /// One an input position; none for an absent input.
    pub(super) inputs: &'a [Option<&'a ValueInfo>],
    /// How many output positions the node has, absent ones included.
    pub(super) outputs: usize,
}

/// Makes a new symbol for an extent that depends on data.
pub(super) type Fresh<'f> = &'f mut dyn FnMut() -> Dim;

impl Elements {
    fn len(&self) -> usize {
        match self {
            Self::Dims(d) => d.len(),
            Self::Numbers(n) => n.len(),
        }
    }
}

impl ShapeValue {
    /// Whether the shape has as many elements as there are, and not too many.
    fn is_consistent(&self) -> bool {
        let count = self.shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
        self.elements.len() <= MAX_ELEMENTS && self.shape.len() <= MAX_RANK && count == Some(self.elements.len())
    }
}

impl ValueInfo {
    /// A tensor of this type.
    pub(super) fn tensor(dtype: i32, shape: Vec<Option<Dim>>) -> Self {
        Self { ty: Some(PartialType { dtype: Some(dtype), shape: Some(shape) }), value: None }
    }

    /// A tensor of known elements.
    pub(super) fn known(dtype: i32, value: ShapeValue) -> Self {
        let shape = value.shape.iter().map(|n| Some(Dim::from(*n))).collect();
        Self { ty: Some(PartialType { dtype: Some(dtype), shape: Some(shape) }), value: Some(value) }
    }

    /// What a stored tensor is: its type, and its elements if they are few, numbers, and in the model.
    pub(super) fn of_tensor(tensor: &TensorProto) -> Self {
        let shape = tensor.dims.iter().map(|d| (*d >= 0).then_some(Dim::Const(*d))).collect();
        let dtype = (tensor.data_type > 0).then_some(tensor.data_type);
        Self { ty: Some(PartialType { dtype, shape: Some(shape) }), value: value::tensor::read(tensor) }
    }
}

/// What is known of the outputs, one an output position; unknown where nothing can be said.
///
/// # Errors
/// One sentence, if the inputs contradict the operator.
pub(super) fn infer(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Result<Vec<ValueInfo>, String> {
    let mut infos = vec![ValueInfo::default(); call.outputs];
    let Some(rule) = table::find(call.domain, call.op_type).filter(|_| call.outputs <= MAX_OUTPUTS) else { return Ok(infos) };
    let types = rule.types(call, fresh).map_err(|e| format!("{}: {e}", call.op_type))?;
    for (info, ty) in infos.iter_mut().zip(types) {
        info.ty = Some(ty).filter(|t| *t != PartialType::default());
    }
    value::attach(call, &mut infos, fresh);
    Ok(infos)
}
