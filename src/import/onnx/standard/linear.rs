//! Products of matrices, `Einsum`, attention.

use std::collections::BTreeMap;

use super::call::{Extent, Extents, Outputs, tensor};
use super::extent::{add, broadcast, divide, mul, number, unify};
use super::{Fresh, MAX_RANK, NodeInfo};

/// `MatMul` of inputs `a` and `b`, each perhaps with its last two axes exchanged.
pub(super) fn matmul(call: &NodeInfo<'_>, at: (usize, usize), trans: (bool, bool), result: Option<i32>, fresh: Fresh<'_>) -> Outputs {
    let (Some(a), Some(b)) = (call.shape(at.0), call.shape(at.1)) else { return Ok(vec![tensor(result, None)]) };
    Ok(vec![tensor(result, Some(product_shape(a, b, trans, fresh)?))])
}

fn product_shape(a: &[Extent], b: &[Extent], trans: (bool, bool), fresh: Fresh<'_>) -> Result<Extents, String> {
    let (Some(_), Some(_)) = (a.first(), b.first()) else { return Err("a scalar".into()) };
    // A vector is a row on the left and a column on the right, and leaves no axis.
    let left = if a.len() == 1 { vec![number(1), a[0].clone()] } else { exchanged(a, trans.0) };
    let right = if b.len() == 1 { vec![b[0].clone(), number(1)] } else { exchanged(b, trans.1) };
    let ([lead_a @ .., m, k], [lead_b @ .., k2, n]) = (&left[..], &right[..]) else { return Err("a scalar".into()) };
    unify(k, k2)?;
    let mut out = broadcast(lead_a, lead_b, fresh)?;
    out.extend((a.len() > 1).then(|| m.clone()));
    out.extend((b.len() > 1).then(|| n.clone()));
    Ok(out)
}

fn exchanged(shape: &[Extent], exchange: bool) -> Extents {
    let mut out = shape.to_vec();
    let n = out.len();
    if exchange {
        out.swap(n - 1, n - 2);
    }
    out
}

/// `Gemm` of inputs `a` and `b`.
pub(super) fn gemm(call: &NodeInfo<'_>, at: (usize, usize), result: Option<i32>) -> Outputs {
    let matrix = |at: usize, trans: &str| -> Result<(Extent, Extent), String> {
        match call.shape(at) {
            None => Ok((None, None)),
            Some([a, b]) if call.flag(trans, false) => Ok((b.clone(), a.clone())),
            Some([a, b]) => Ok((a.clone(), b.clone())),
            Some(other) => Err(format!("rank {} instead of 2", other.len())),
        }
    };
    let ((m, k), (k2, n)) = (matrix(at.0, "transA")?, matrix(at.1, "transB")?);
    unify(&k, &k2)?;
    Ok(vec![tensor(result, Some(vec![m, n]))])
}

/// `Einsum`: extents by the letters of the equation.
pub(super) fn einsum(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let dtype = call.dtype(0);
    let equation: String = call.text("equation").unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (&equation[..], None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != call.inputs.len() {
        return Err(format!("{} terms for {} inputs", terms.len(), call.inputs.len()));
    }
    let mut letters: BTreeMap<char, Extent> = BTreeMap::new();
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    let mut dots: Extents = Vec::new();
    let mut known = true;
    for (i, term) in terms.iter().enumerate() {
        term.chars().filter(|c| *c != '.').for_each(|c| *counts.entry(c).or_default() += 1);
        match call.shape(i) {
            Some(shape) => dots = broadcast(&dots, &bind_letters(term, shape, &mut letters)?, fresh)?,
            None => known &= !term.contains('.'),
        }
    }
    // Without an arrow: the letters that stand once, in order.
    let once = || counts.iter().filter(|(_, n)| **n == 1).map(|(c, _)| *c).collect::<String>();
    let implied = format!("{}{}", if left.contains("...") { "..." } else { "" }, once());
    let right = right.unwrap_or(&implied);
    if !known && right.contains('.') || right.len() > 2 * MAX_RANK {
        return Ok(vec![tensor(dtype, None)]);
    }
    let mut out = Vec::new();
    let mut dots = Some(dots);
    for c in right.chars() {
        match c {
            '.' => out.extend(dots.take().unwrap_or_default()),
            _ if !counts.contains_key(&c) => return Err(format!("`{c}` stands on the right only")),
            _ => out.push(letters.get(&c).cloned().flatten()),
        }
    }
    Ok(vec![tensor(dtype, Some(out))])
}

/// Notes the extents of a term's letters; gives those of its ellipsis.
fn bind_letters(term: &str, shape: &[Extent], letters: &mut BTreeMap<char, Extent>) -> Result<Extents, String> {
    let (before, after) = term.split_once("...").unwrap_or((term, ""));
    let (before, after): (Vec<char>, Vec<char>) = (before.chars().collect(), after.chars().collect());
    let named = before.len() + after.len();
    if named > shape.len() || (named < shape.len() && !term.contains("...")) {
        return Err(format!("`{term}` for a tensor of rank {}", shape.len()));
    }
    let tail = shape.len() - after.len();
    for (c, extent) in before.iter().zip(shape).chain(after.iter().zip(&shape[tail..])) {
        let have = letters.entry(*c).or_default();
        // Extents of 1 broadcast along a letter.
        let one = number(1);
        *have = match &*have {
            Some(_) if *have == one => extent.clone(),
            _ if *extent == one && have.is_some() => have.clone(),
            _ => unify(have, extent)?,
        };
    }
    Ok(shape[before.len()..tail].to_vec())
}

/// `Attention` of ONNX (versions 23 on): the value, present key and value, and the scores.
pub(super) fn attention(call: &NodeInfo<'_>) -> Outputs {
    let (q, k, v) = (call.shape(0), call.shape(1), call.shape(2));
    let out_type = call.dtype(0);
    let unknown = || Ok(vec![tensor(out_type, None), tensor(call.dtype(1), None), tensor(call.dtype(2), None), tensor(out_type, None)]);
    let (Some(q), Some(k), Some(v)) = (q, k, v) else { return unknown() };
    let heads = |name: &str| call.int(name).filter(|n| *n > 0);
    let split = |s: &[Extent], heads: Option<i64>| -> Result<[Extent; 4], String> {
        match s {
            [b, h, n, d] => Ok([b.clone(), h.clone(), n.clone(), d.clone()]),
            [b, n, c] => Ok([b.clone(), heads.and_then(number), n.clone(), heads.and_then(|h| divide(c, h))]),
            other => Err(format!("rank {} instead of 3 or 4", other.len())),
        }
    };
    let [b, hq, lq, dq] = split(q, heads("q_num_heads"))?;
    let [_, hk, lk, dk] = split(k, heads("kv_num_heads"))?;
    let [_, hv, lv, dv] = split(v, heads("kv_num_heads"))?;
    unify(&dq, &dk)?;
    let past = if call.has(4) { call.extent(4, 2) } else { number(0) };
    let total = add(&past, &lk);
    let y = match (v, heads("kv_num_heads")) {
        // As many sizes of a head as the query has heads; multiplied first, so that a width of symbols divides.
        ([_, _, width], Some(n)) if q.len() == 3 => vec![b.clone(), lq.clone(), divide(&mul(width, &hq), n)],
        _ if q.len() == 3 => vec![b.clone(), lq.clone(), mul(&hq, &dv)],
        _ => vec![b.clone(), hq.clone(), lq.clone(), dv.clone()],
    };
    // The outputs that keep keys and values have the number of heads and the head size of the past ones.
    let like_past = |at: usize, axis: usize, own: &Extent| if call.has(at) { unify(own, &call.extent(at, axis)) } else { Ok(own.clone()) };
    let present_key = vec![b.clone(), like_past(4, 1, &hk)?, total.clone(), like_past(4, 3, &dk)?];
    let present_value = vec![b.clone(), like_past(5, 1, &hv)?, add(&past, &lv), like_past(5, 3, &dv)?];
    Ok(vec![
        tensor(out_type, Some(y)),
        tensor(call.dtype(1), Some(present_key)),
        tensor(call.dtype(2), Some(present_value)),
        tensor(out_type, Some(vec![b, hq, lq, total])),
    ])
}
