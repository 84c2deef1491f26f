//! The elements of small tensors: what the shape arithmetic of a model computes, with symbols where the model's dims are open.
//!
//! An element that cannot be expressed but is known not to be negative becomes a new symbol, so that one open element does not hide
//! its neighbours; an operator with an element of which not even that is known has no value. Integers held by a float tensor (an
//! extent that was cast, to be scaled) keep their symbols; a float tensor whose elements are all numbers has
//! [`Elements::Numbers`].

pub(super) mod arithmetic;
pub(super) mod constant;
pub(super) mod layout;
pub(super) mod reduction;
pub(super) mod tensor;

use super::{Elements, Fresh, NodeInfo, ShapeValue, ValueInfo, dtype};
use crate::ir::{DType, Dim};

/// Adds the elements of the outputs, where they can be computed; the types are there already.
pub(super) fn attach(call: &NodeInfo<'_>, infos: &mut [ValueInfo], fresh: Fresh<'_>) {
    if !call.is_standard() || infos.is_empty() {
        return;
    }
    let Some(values) = evaluate(call, infos, fresh) else { return };
    for (info, value) in infos.iter_mut().zip(values) {
        let Some(ty) = &mut info.ty else { continue };
        let Some(value) = ty.dtype.and_then(|d| normal(value, d)) else { continue };
        let agrees = |shape: &Vec<Option<Dim>>| {
            let known = |e: &Option<Dim>| e.as_ref().and_then(Dim::as_const);
            shape.len() == value.shape.len() && shape.iter().zip(&value.shape).all(|(e, n)| known(e).is_none_or(|k| k == *n as i64))
        };
        if ty.shape.as_ref().is_none_or(agrees) {
            ty.shape = Some(value.shape.iter().map(|n| Some(Dim::from(*n))).collect());
            info.value = Some(value);
        }
    }
}

fn evaluate(call: &NodeInfo<'_>, infos: &[ValueInfo], fresh: Fresh<'_>) -> Option<Vec<ShapeValue>> {
    match call.op_type {
        "Shape" | "Size" | "Constant" | "ConstantOfShape" | "Range" | "NonZero" | "OneHot" => Some(vec![constant::make(call, fresh)?]),
        "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Transpose" | "Concat" | "Slice" | "Split" | "Expand" | "Tile"
        | "Gather" | "GatherElements" | "GatherND" | "Compress" | "ScatterND" | "ScatterElements" | "Scatter" | "Pad" => {
            layout::moved(call, infos)
        }
        "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" | "ReduceMean" | "CumSum" | "ArgMax" | "ArgMin" => {
            Some(vec![reduction::reduce(call, fresh)?])
        }
        "Dropout" => None,
        _ => Some(vec![arithmetic::elementwise(call, fresh)?]),
    }
}

/// A value as it is held: few elements, in the range of the type, numbers where they are all known and the type is a float's.
pub(super) fn normal(value: ShapeValue, dtype: i32) -> Option<ShapeValue> {
    if !value.is_consistent() {
        return None;
    }
    let ShapeValue { shape, elements } = value;
    let elements = match elements {
        Elements::Dims(dims) if is_float(dtype) => {
            let numbers: Option<Vec<f64>> = dims.iter().map(|d| Some(rounded(d.as_const()? as f64, dtype))).collect();
            numbers.map_or(Elements::Dims(dims), Elements::Numbers)
        }
        Elements::Dims(dims) => {
            let (low, high) = range_of(dtype)?;
            let fits = |d: &Dim| d.as_const().is_none_or(|n| (low..=high).contains(&i128::from(n)));
            dims.iter().all(fits).then_some(Elements::Dims(dims))?
        }
        Elements::Numbers(numbers) if is_float(dtype) => Elements::Numbers(numbers.into_iter().map(|n| rounded(n, dtype)).collect()),
        Elements::Numbers(_) => return None,
    };
    Some(ShapeValue { shape, elements })
}

pub(super) fn is_float(number: i32) -> bool {
    matches!(number, dtype::FLOAT | dtype::FLOAT16 | dtype::DOUBLE | dtype::BFLOAT16)
}

/// The largest finite number of a float type that has kernels of its own; bf16 is computed in f32 and rounded.
pub(super) fn largest(number: i32) -> Option<f64> {
    Some(match number {
        dtype::FLOAT => f64::from(f32::MAX),
        dtype::FLOAT16 => f64::from(half::f16::MAX.to_f32()),
        dtype::DOUBLE => f64::MAX,
        _ => return None,
    })
}

/// The integers of a type.
pub(super) fn range_of(number: i32) -> Option<(i128, i128)> {
    Some(match number {
        2 => (0, 255),
        3 => (-128, 127),
        4 => (0, 65_535),
        5 => (-32_768, 32_767),
        dtype::INT32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        dtype::INT64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
        dtype::BOOL => (0, 1),
        12 => (0, i128::from(u32::MAX)),
        13 => (0, i128::from(u64::MAX)),
        _ => return None,
    })
}

/// A number as the type holds it.
pub(super) fn rounded(n: f64, number: i32) -> f64 {
    DType::from_onnx(number).map_or(n, |dtype| dtype.rounded(n))
}

/// The elements as integers, if they are all whole.
fn as_dims(elements: &Elements) -> Option<Vec<Dim>> {
    match elements {
        Elements::Dims(d) => Some(d.clone()),
        Elements::Numbers(n) => n.iter().map(|n| whole(*n)).collect(),
    }
}

/// A float that is an integer which floats of its size still tell apart.
fn whole(n: f64) -> Option<Dim> {
    (n.fract() == 0.0 && n.abs() < 9e15).then_some(Dim::Const(n as i64))
}
