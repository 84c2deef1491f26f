//! Quantization.

use super::call::{Outputs, tensor};
use super::{NodeInfo, dtype};

/// `QuantizeLinear`: the type of the zero point, else the attribute, else an unsigned byte.
pub(super) fn quantize(call: &NodeInfo<'_>) -> Outputs {
    let stated = call.dtype_attribute("output_dtype");
    let result = if call.has(2) { call.dtype(2).or(stated) } else { Some(stated.unwrap_or(dtype::UINT8)) };
    Ok(vec![tensor(result, call.extents(0))])
}

/// `DequantizeLinear`: the type of the scale (a 32-bit float in old versions), unless stated.
pub(super) fn dequantize(call: &NodeInfo<'_>) -> Outputs {
    let old = call.version < 19 && call.is_standard();
    let by_scale = if old { Some(dtype::FLOAT) } else { call.dtype(1) };
    Ok(vec![tensor(call.dtype_attribute("output_dtype").or(by_scale), call.extents(0))])
}

/// `DynamicQuantizeLinear`: bytes, scale, zero point.
pub(super) fn dynamic(call: &NodeInfo<'_>) -> Outputs {
    let scalar = |dtype| tensor(Some(dtype), Some(Vec::new()));
    Ok(vec![tensor(Some(dtype::UINT8), call.extents(0)), scalar(dtype::FLOAT), scalar(dtype::UINT8)])
}
