//! Operators that make tensors: constants, ranges, random numbers, windows of signal processing.

use super::call::{Extents, Outputs, numbers, tensor};
use super::extent::number;
use super::shaping::stated_shape;
use super::value::constant as known;
use super::{Fresh, NodeInfo, dtype};
use crate::ir::Dim;

/// `Constant`: what its one attribute holds.
pub(super) fn constant(call: &NodeInfo<'_>) -> Outputs {
    let list = |dtype, n: usize| Ok(vec![tensor(Some(dtype), numbers(&[n as i64]))]);
    for a in call.attributes {
        match a.name.as_str() {
            "value" => {
                let ty = a.t.as_deref().and_then(|t| super::ValueInfo::of_tensor(t).ty);
                return Ok(vec![ty.unwrap_or_default()]);
            }
            "sparse_value" => {
                let ty = a.sparse_tensor.as_deref().map(|s| {
                    let dtype = s.values.as_ref().map(|v| v.data_type).filter(|n| *n > 0);
                    tensor(dtype, numbers(&s.dims))
                });
                return Ok(vec![ty.unwrap_or_default()]);
            }
            "value_float" => return Ok(vec![tensor(Some(dtype::FLOAT), Some(Vec::new()))]),
            "value_int" => return Ok(vec![tensor(Some(dtype::INT64), Some(Vec::new()))]),
            "value_string" => return Ok(vec![tensor(Some(dtype::STRING), Some(Vec::new()))]),
            "value_floats" => return list(dtype::FLOAT, a.floats.len()),
            "value_ints" => return list(dtype::INT64, a.ints.len()),
            "value_strings" => return list(dtype::STRING, a.strings.len()),
            _ => {}
        }
    }
    Ok(Vec::new())
}

/// `ConstantOfShape`: 32-bit zeros unless a value is stated.
pub(super) fn constant_of_shape(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let dtype = call.stored("value").map_or(dtype::FLOAT, |t| t.data_type);
    let shape = stated_shape(call, 0, fresh);
    for extent in shape.iter().flatten() {
        super::extent::natural(extent.clone())?;
    }
    Ok(vec![tensor(Some(dtype), shape)])
}

/// `Range`: `ceil((limit - start) / delta)` elements, at least none.
pub(super) fn range(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let count = known::range_length(call)?;
    let dtype = call.dtype(0).or(call.dtype(1)).or(call.dtype(2));
    Ok(vec![tensor(dtype, Some(vec![Some(count.unwrap_or_else(fresh))]))])
}

/// `RandomNormal`, `RandomUniform`: of the stated shape.
pub(super) fn random(call: &NodeInfo<'_>) -> Outputs {
    let dtype = call.dtype_attribute("dtype").unwrap_or(dtype::FLOAT);
    Ok(vec![tensor(Some(dtype), call.ints("shape").and_then(numbers))])
}

/// `Multinomial`: as many samples of each row.
pub(super) fn multinomial(call: &NodeInfo<'_>) -> Outputs {
    let dtype = call.dtype_attribute("dtype").unwrap_or(dtype::INT32);
    Ok(vec![tensor(Some(dtype), Some(vec![call.extent(0, 0), number(call.int_or("sample_size", 1))]))])
}

/// `HannWindow` and its like: as long as the input says.
pub(super) fn window(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let dtype = call.dtype_attribute("output_datatype").unwrap_or(dtype::FLOAT);
    let n = call.dims(0).and_then(|d| d.first().cloned()).unwrap_or_else(fresh);
    Ok(vec![tensor(Some(dtype), Some(vec![super::extent::natural(Some(n))?]))])
}

/// `MelWeightMatrix`: half a transform's bins by the number of mel bins.
pub(super) fn mel_weights(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let dtype = call.dtype_attribute("output_datatype").unwrap_or(dtype::FLOAT);
    let scalar = |at: usize| call.dims(at).and_then(|d| d.first().cloned());
    let bins = scalar(1).and_then(|d| d.checked_div_floor(2)?.checked_add(&Dim::Const(1)));
    let shape: Extents = [bins, scalar(0)].into_iter().map(|e| Some(e.unwrap_or_else(&mut *fresh))).collect();
    Ok(vec![tensor(Some(dtype), Some(shape))])
}

/// Rows of the first input, and a stated number of columns.
pub(super) fn scored(call: &NodeInfo<'_>, columns: Option<i64>, result: Option<i32>) -> Outputs {
    let rows = match call.shape(0) {
        Some([] | [_]) => number(1),
        Some([rows, ..]) => rows.clone(),
        None => None,
    };
    Ok(vec![tensor(result, Some(vec![rows, columns.map(Dim::Const)]))])
}

/// Labels of rows, and their scores: the classifiers of `ai.onnx.ml`.
pub(super) fn classified(call: &NodeInfo<'_>) -> Outputs {
    let text = ["classlabels_strings", "classlabels_int64s", "classlabels_ints"].map(|n| call.attribute(n));
    let (label, count) = match text {
        [Some(s), _, _] if !s.strings.is_empty() => (dtype::STRING, Some(s.strings.len())),
        [_, Some(a), _] | [_, _, Some(a)] => (dtype::INT64, Some(a.ints.len())),
        _ => (dtype::INT64, None),
    };
    let scores = scored(call, count.map(|n| n as i64), Some(dtype::FLOAT))?;
    let rows = scores[0].shape.as_ref().map(|s| s[..1].to_vec());
    Ok([vec![tensor(Some(label), rows)], scores].concat())
}

/// `FeatureVectorizer`: inputs side by side, each as wide as stated.
pub(super) fn features(call: &NodeInfo<'_>) -> Outputs {
    let columns = call.ints("inputdimensions").map(|v| v.iter().fold(0_i64, |s, n| s.saturating_add(*n)));
    scored(call, columns, Some(dtype::FLOAT))
}

/// `LabelEncoder`: the type of the stated values.
pub(super) fn labels(call: &NodeInfo<'_>) -> Outputs {
    let named =
        [("values_strings", dtype::STRING), ("values_int64s", dtype::INT64), ("values_floats", dtype::FLOAT), ("classes_strings", 0)];
    let found = named.iter().find(|(name, _)| call.attribute(name).is_some()).map(|(_, dtype)| *dtype);
    let result = match found {
        // Version 1: strings become numbers and numbers strings.
        Some(0) => Some(if call.dtype(0) == Some(dtype::STRING) { dtype::INT64 } else { dtype::STRING }),
        None => call.stored("values_tensor").map(|t| t.data_type),
        other => other,
    };
    Ok(vec![tensor(result, call.extents(0))])
}

/// `CategoryMapper`: strings become numbers and numbers strings.
pub(super) fn categories(call: &NodeInfo<'_>) -> Outputs {
    let other = call.dtype(0).map(|d| if d == dtype::STRING { dtype::INT64 } else { dtype::STRING });
    Ok(vec![tensor(other, call.extents(0))])
}

/// `OneHotEncoder`: a new last axis, an entry a category.
pub(super) fn one_hot_encoder(call: &NodeInfo<'_>) -> Outputs {
    let count = call.ints("cats_int64s").map(<[i64]>::len).or_else(|| call.attribute("cats_strings").map(|a| a.strings.len()));
    let shape = call.extents(0).map(|s| [s, vec![count.map(Dim::from)]].concat());
    Ok(vec![tensor(Some(dtype::FLOAT), shape)])
}
