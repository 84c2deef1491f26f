//! Operators of ONNX Runtime's own domain, `com.microsoft`
//! (<https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>).

use super::call::{Extent, Extents, Outputs, axis_of, tensor};
use super::extent::{add, broadcast_all, divide, mul, number};
use super::{Fresh, NodeInfo, dtype};
use crate::ir::Dim;

/// `SkipLayerNormalization` and its like: the value, two statistics, and the sum before the norm.
pub(super) fn skip_norm(call: &NodeInfo<'_>) -> Outputs {
    let statistics = call.extents(0).map(|mut s| {
        if let Some(last) = s.last_mut() {
            *last = number(1);
        }
        s
    });
    let statistics = tensor(Some(dtype::FLOAT), statistics);
    Ok(vec![call.ty(0), statistics.clone(), statistics, call.ty(0)])
}

/// `SkipGroupNorm`: the value, and the sum before the norm.
pub(super) fn twice(call: &NodeInfo<'_>) -> Outputs {
    Ok(vec![call.ty(0), call.ty(0)])
}

/// `BiasSplitGelu`: half as many channels.
pub(super) fn halved(call: &NodeInfo<'_>) -> Outputs {
    let shape = call.extents(0).map(|mut s| {
        if let Some(last) = s.last_mut() {
            *last = divide(last, 2);
        }
        s
    });
    Ok(vec![tensor(call.dtype(0), shape)])
}

/// `com.microsoft.Attention`, `QAttention`: query, key and value from one weight.
pub(super) fn packed_attention(call: &NodeInfo<'_>, result: Option<i32>, past_at: usize) -> Outputs {
    let Some(shape) = call.shape(0) else { return Ok(vec![tensor(result, None)]) };
    let [batch, length, _] = shape else { return Err(format!("rank {} instead of 3", shape.len())) };
    let sizes = call.ints("qkv_hidden_sizes").filter(|v| v.len() == 3);
    let hidden = match sizes {
        Some(sizes) => number(sizes[2]),
        None => divide(&call.extent(1, 1), 3),
    };
    let heads = call.int("num_heads").filter(|n| *n > 0);
    let size = heads.and_then(|h| divide(&hidden, h));
    let past = if call.has(past_at) { call.extent(past_at, 3) } else { number(0) };
    let present = vec![number(2), batch.clone(), heads.and_then(number), add(&past, length), size];
    Ok(vec![tensor(result, Some(vec![batch.clone(), length.clone(), hidden])), tensor(result, Some(present))])
}

/// `MultiHeadAttention`: query `[batch, length, hidden]` or packed `[batch, length, heads, 3, size]`; key and value packed, separate, or a cache.
pub(super) fn multi_head_attention(call: &NodeInfo<'_>) -> Outputs {
    let heads = call.int("num_heads").filter(|n| *n > 0);
    let scores_type = call.dtype(0);
    let unknown = || Ok(vec![tensor(scores_type, None); 3]);
    let Some(q) = call.shape(0) else { return unknown() };
    let (batch, length, hidden) = match q {
        [b, n, c] => (b.clone(), n.clone(), value_width(call, c)),
        [b, n, h, _, d] => (b.clone(), n.clone(), mul(h, d)),
        other => return Err(format!("rank {} instead of 3 or 5", other.len())),
    };
    let key_length = match call.shape(1) {
        None if call.has(1) => None,
        None => length.clone(),
        Some([_, _, n, _] | [_, n, ..]) => n.clone(),
        Some(_) => None,
    };
    let past = if call.has(6) { call.extent(6, 2) } else { number(0) };
    let size = |width: &Extent| heads.and_then(|h| divide(width, h));
    let present = |width: &Extent| Some(vec![batch.clone(), heads.and_then(number), add(&past, &key_length), size(width)]);
    let q_width = match q {
        [_, _, c] => c.clone(),
        _ => hidden.clone(),
    };
    Ok(vec![
        tensor(call.dtype(0), Some(vec![batch.clone(), length, hidden.clone()])),
        tensor(call.dtype(0), present(&q_width)),
        tensor(call.dtype(0), present(&hidden)),
    ])
}

/// The width of the value: its own, that of its heads together, or that of the query.
fn value_width(call: &NodeInfo<'_>, query: &Extent) -> Extent {
    match call.shape(2) {
        Some([_, _, c]) => c.clone(),
        Some([_, h, _, d]) => mul(h, d),
        Some(_) => None,
        None if call.has(2) => None,
        None => query.clone(),
    }
}

/// `GroupQueryAttention`: like the query, and the cache.
pub(super) fn group_query_attention(call: &NodeInfo<'_>) -> Outputs {
    let heads = |name: &str| call.int(name).filter(|n| *n > 0);
    let shape = call.extents(0).filter(|s| s.len() == 3);
    let width = match (call.has(1), heads("num_heads"), heads("kv_num_heads")) {
        (true, ..) => shape.as_ref().and_then(|s| s[2].clone()),
        // Packed: the query's heads, then as many of key and of value.
        (false, Some(q), Some(kv)) => {
            let all = kv.checked_mul(2).and_then(|n| n.checked_add(q));
            let size = all.and_then(|all| divide(shape.as_ref().map_or(&None, |s| &s[2]), all));
            mul(&size, &number(q))
        }
        _ => None,
    };
    let y = shape.map(|s| vec![s[0].clone(), s[1].clone(), width]);
    let cache = |at: usize| tensor(call.dtype(at).or(call.dtype(0)), call.shape(at).map(|s| s.iter().map(|_| None).collect()));
    Ok(vec![tensor(call.dtype(0), y), cache(3), cache(4)])
}

/// `MatMulNBits`: weights of `N` rows of `K` packed numbers.
pub(super) fn matmul_nbits(call: &NodeInfo<'_>) -> Outputs {
    let shape = call.extents(0).map(|mut s| {
        if let Some(last) = s.last_mut() {
            *last = call.int("N").map(Dim::Const);
        }
        s
    });
    Ok(vec![tensor(call.dtype(0), shape)])
}

/// `FusedMatMul`: a product with transposed sides; a batch may be transposed too.
pub(super) fn fused_matmul(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    if call.flag("transBatchA", false) || call.flag("transBatchB", false) {
        let rank = call.rank(0).filter(|r| Some(*r) == call.rank(1));
        return Ok(vec![tensor(call.dtype(0), rank.map(|n| vec![None; n]))]);
    }
    let trans = (call.flag("transA", false), call.flag("transB", false));
    super::linear::matmul(call, (0, 1), trans, call.dtype(0), fresh)
}

/// `QLinearAdd`, `QLinearMul`: each value is followed by its scale and zero point.
pub(super) fn quantized_pair(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    Ok(vec![tensor(call.dtype(0), broadcast_all([call.shape(0), call.shape(3)], fresh)?)])
}

/// `QLinearWhere`: the condition, then value, scale and zero point of both sides.
pub(super) fn quantized_where(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    Ok(vec![tensor(call.dtype(1), broadcast_all([0, 1, 4].map(|i| call.shape(i)), fresh)?)])
}

/// `QLinearGlobalAveragePool`: channels may stand last.
pub(super) fn quantized_global_pool(call: &NodeInfo<'_>) -> Outputs {
    let last = call.flag("channels_last", false);
    let shape = call.shape(0).map(|s| {
        let channel = if last { s.len().saturating_sub(1) } else { 1 };
        s.iter().enumerate().map(|(i, e)| if i == 0 || i == channel { e.clone() } else { number(1) }).collect()
    });
    Ok(vec![tensor(call.dtype(0), shape)])
}

/// `EmbedLayerNormalization`: a row of the embedding for each token, and where the mask ends.
pub(super) fn embed_layer_norm(call: &NodeInfo<'_>) -> Outputs {
    let tokens = call.shape(0).filter(|s| s.len() == 2);
    let out = tokens.map(|s| vec![s[0].clone(), s[1].clone(), call.extent(2, 1)]);
    let element = call.dtype(2);
    let mask = tensor(Some(dtype::INT32), tokens.map(|s| s[..1].to_vec()));
    Ok(vec![tensor(element, out.clone()), mask, tensor(element, out)])
}

/// `NhwcConv`: pictures `[batch, height, width, channels]` and weights `[out, height, width, in]` with the arithmetic of `Conv`.
pub(super) fn nhwc_conv(call: &NodeInfo<'_>) -> Outputs {
    let turned = |at: usize| -> Option<super::ValueInfo> {
        let s = call.shape(at).filter(|s| s.len() > 2)?;
        let shape: Extents = [&[s[0].clone(), s[s.len() - 1].clone()], &s[1..s.len() - 1]].concat();
        Some(super::ValueInfo { ty: Some(tensor(call.dtype(at), Some(shape))), value: None })
    };
    let (Some(x), Some(w)) = (turned(0), turned(1)) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let inputs = [Some(&x), Some(&w)];
    let mut out = super::windows::conv(&NodeInfo { inputs: &inputs, ..*call }, 0, 1, call.dtype(0))?;
    if let Some(shape) = out.first_mut().and_then(|t| t.shape.as_mut()) {
        shape[1..].rotate_left(1);
    }
    Ok(out)
}

/// `ExpandDims`: a new axis.
pub(super) fn expand_dims(call: &NodeInfo<'_>) -> Outputs {
    let Some(mut shape) = call.extents(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let Some(axis) = call.known_ints(1).and_then(|v| v.first().copied()) else {
        return Ok(vec![tensor(call.dtype(0), Some(vec![None; shape.len() + 1]))]);
    };
    shape.insert(axis_of(axis, shape.len() + 1)?, number(1));
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// `SimplifiedLayerNormalization`: the value and one statistic.
pub(super) fn simplified_norm(call: &NodeInfo<'_>) -> Outputs {
    let all = super::elementwise::layer_norm(call)?;
    Ok(all[..2].to_vec())
}
