//! What bodies are given and what operators with bodies yield.

use super::reader::{Reader, fill};
use super::standard::{PartialType, ValueInfo};
use crate::ir::{Dim, Outlet};
use crate::onnx::proto::NodeProto;

const INT64: i32 = 7;
const BOOL: i32 = 9;

/// What is known of the formal inputs of a node's bodies. Extents of what a loop carries may change from turn to turn.
pub(super) fn formal(r: &Reader<'_, '_>, node: &NodeProto, inputs: &[Option<Outlet>]) -> Vec<ValueInfo> {
    let carried =
        |from: usize| inputs.iter().skip(from).map(|o| o.map_or_else(ValueInfo::default, |o| loose(r.info(o)))).collect::<Vec<_>>();
    match node.op_type.as_str() {
        "Loop" => {
            let mut out = vec![ValueInfo::tensor(INT64, vec![]), ValueInfo::tensor(BOOL, vec![])];
            out.extend(carried(2));
            out
        }
        _ => Vec::new(),
    }
}

/// Element type and rank alone.
fn loose(info: &ValueInfo) -> ValueInfo {
    let ty = info.ty.as_ref().map(|t| PartialType { dtype: t.dtype, shape: t.shape.as_ref().map(|s| vec![None; s.len()]) });
    ValueInfo { ty, value: None }
}

/// Adds what the bodies yield to what is known of the outputs.
pub(super) fn yielded(r: &mut Reader<'_, '_>, node: &NodeProto, yields: &[Vec<ValueInfo>], infos: &mut [ValueInfo]) {
    match (node.op_type.as_str(), yields) {
        ("If", [a, b]) => infos.iter_mut().zip(a.iter().zip(b)).for_each(|(info, (a, b))| fill(info, &either(r, a, b))),
        ("Loop", [body]) => {
            let carried = node.input.len().saturating_sub(2);
            for (i, (info, given)) in infos.iter_mut().zip(body.iter().skip(1)).enumerate() {
                let known = if i < carried { loose(given) } else { stacked(given) };
                fill(info, &known);
            }
        }
        _ => {}
    }
}

/// What holds whichever branch is taken.
fn either(r: &Reader<'_, '_>, a: &ValueInfo, b: &ValueInfo) -> ValueInfo {
    let (Some(x), Some(y)) = (&a.ty, &b.ty) else { return ValueInfo::default() };
    if x.dtype != y.dtype {
        return ValueInfo::default();
    }
    let known = |d: &Option<Dim>| d.as_ref().is_some_and(|d| d.symbols().iter().all(|s| r.shared.computable.contains(s)));
    let shape = match (&x.shape, &y.shape) {
        (Some(x), Some(y)) if x.len() == y.len() => {
            Some(x.iter().zip(y).map(|(a, b)| if a == b && known(a) { a.clone() } else { None }).collect())
        }
        _ => None,
    };
    ValueInfo { ty: Some(PartialType { dtype: x.dtype, shape }), value: None }
}

/// One result a turn, stacked along a new first axis.
fn stacked(info: &ValueInfo) -> ValueInfo {
    let ty = loose(info).ty.map(|t| PartialType { dtype: t.dtype, shape: t.shape.map(|s| std::iter::once(None).chain(s).collect()) });
    ValueInfo { ty, value: None }
}
