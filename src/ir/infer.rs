//! Shape inference: the output types of an operator from its input types. Pure; errors are one sentence for the caller to place.

use super::dim::{Dim, product};
use super::op::{Attention, Binary, Conv, ForChunks, Join, Op, Sliced};
use super::types::{DType, TensorType};

type Types = Result<Vec<TensorType>, String>;

/// The output types of `op`.
///
/// # Errors
/// What does not fit, in one sentence; outputs of which nobody could count the elements.
pub fn infer(op: &Op, inputs: &[&TensorType]) -> Types {
    let outs = infer_any(op, inputs)?;
    match outs.iter().find(|t| !countable(&t.shape)) {
        Some(t) => Err(format!("its result {t} has more elements than can be counted")),
        None => Ok(outs),
    }
}

/// Are there at most 2^60 elements, so that their bytes can be counted as well, and is their number a polynomial of bounded length?
pub fn countable(shape: &[Dim]) -> bool {
    // A zero counts as 1 here, so that the product of any part of the extents can be counted as well.
    let counted = shape.iter().try_fold(Dim::Const(1), |p, d| match d {
        Dim::Const(n) => p.checked_mul(&Dim::Const((*n).max(1))),
        Dim::Poly(_) => p.checked_mul(d),
    });
    counted.is_some_and(|n| n.as_const().is_none_or(|n| n <= 1 << 60))
}

fn infer_any(op: &Op, inputs: &[&TensorType]) -> Types {
    // Operators with at least one input and one output.
    let one = |infer: &dyn Fn(&TensorType, &[&TensorType]) -> Result<TensorType, String>| match inputs {
        [] => Err("it has no input".into()),
        [x, rest @ ..] => infer(x, rest).map(|t| vec![t]),
    };
    // Those with one input alone.
    let alone = |infer: &dyn Fn(&TensorType) -> Result<TensorType, String>| one(&|x, rest| count(rest, 0..=0).and_then(|()| infer(x)));
    match op {
        Op::Input | Op::Weight(_) => Err("inputs and constants have given types".into()),
        Op::Foreign(f) => Ok(f.outputs.clone()),
        Op::ForChunks(chunks) => for_chunks(chunks, inputs),
        Op::Concat { axis } => concat(*axis, inputs),
        Op::Split { axis, sizes } => split(*axis, sizes, inputs),
        Op::Arange { len } => {
            ensure(inputs.is_empty(), || "it takes other inputs".into()).map(|()| vec![TensorType::new(DType::F32, [len.clone()])])
        }
        Op::Unary(_) | Op::Silu | Op::Gelu { .. } | Op::QuickGelu { .. } => alone(&|x| Ok(x.clone())),
        Op::Cast { to } => alone(&|x| Ok(x.with_dtype(*to))),
        Op::Softmax { axis } => alone(&|x| axis_ok(*axis, x).map(|()| x.clone())),
        Op::GeGlu => alone(&halve),
        Op::ReduceMean { axes } => alone(&|x| reduce(x, axes)),
        Op::Reshape { shape } => alone(&|x| reshape(x, shape)),
        Op::Transpose { perm } => alone(&|x| transpose(x, perm)),
        Op::Slice { axis, start, end } => alone(&|x| slice(x, *axis, start, end)),
        Op::Expand { shape } => alone(&|x| expand(x, shape)),
        Op::Upsample { factors } => alone(&|x| upsample(x, factors)),
        Op::Pad { before, after } => alone(&|x| pad(x, before, after)),
        Op::Binary(b) => one(&|x, rest| binary(*b, x, rest)),
        Op::MatMul => one(&matmul),
        Op::Gemm { trans_b } => one(&|x, rest| gemm(x, rest, *trans_b)),
        Op::Linear => one(&linear),
        Op::FusedMatMul => one(&|x, rest| count(rest, 1..=1).and_then(|()| linear(x, rest))),
        Op::BiasGelu => one(&|x, rest| last_axis_scale(x, rest).and_then(|t| same_dtype(x, rest).map(|()| t))),
        Op::Conv(conv) => one(&|x, rest| convolve(x, rest, conv)),
        Op::ConvTranspose(conv) => one(&|x, rest| convolve_transposed(x, rest, conv)),
        Op::FusedConv(conv) => one(&|x, rest| convolve_onto(x, rest, conv)),
        Op::TemporalConv => one(&temporal_conv),
        Op::InstanceNorm { .. } | Op::ChannelAffine => one(&|x, rest| per_channel(x, rest, 1)),
        Op::GroupNorm(g) => one(&|x, rest| divides(x, 1, g.groups).and_then(|()| per_channel(x, rest, 1))),
        Op::GroupNormNhwc(g) => one(&|x, rest| {
            let last = x.rank().saturating_sub(1);
            divides(x, last, g.groups).and_then(|()| per_channel(x, rest, last))
        }),
        Op::LayerNorm { .. } => one(&|x, rest| per_channel(x, rest, x.rank().saturating_sub(1))),
        Op::RmsNorm { .. } => one(&last_axis_scale),
        Op::Attention(a) | Op::MultiHeadAttention(a) => one(&|x, rest| attention(*a, x, rest)),
        Op::RotaryEmbedding { heads } => one(&|x, rest| rotary(*heads, x, rest)),
    }
}

fn reduce(x: &TensorType, axes: &[usize]) -> Result<TensorType, String> {
    ensure(axes.windows(2).all(|w| w[0] < w[1]) && axes.iter().all(|a| *a < x.rank()), || {
        format!("{axes:?} are not ascending axes of {x}")
    })?;
    let shape = x.shape.iter().enumerate().map(|(i, d)| if axes.contains(&i) { Dim::Const(1) } else { d.clone() });
    Ok(TensorType { dtype: x.dtype, shape: shape.collect() })
}

fn reshape(x: &TensorType, shape: &[Dim]) -> Result<TensorType, String> {
    let counted = |shape: &[Dim]| Dim::checked_product(shape).ok_or("it has more elements than can be counted");
    let (have, want) = (counted(&x.shape)?, counted(shape)?);
    ensure(have == want, || format!("{have} elements do not make {want}"))?;
    Ok(TensorType { dtype: x.dtype, shape: shape.to_vec() })
}

fn transpose(x: &TensorType, perm: &[usize]) -> Result<TensorType, String> {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    ensure(sorted == (0..x.rank()).collect::<Vec<_>>(), || format!("{perm:?} is no permutation of its {} axes", x.rank()))?;
    Ok(TensorType { dtype: x.dtype, shape: perm.iter().map(|p| x.shape[*p].clone()).collect() })
}

fn expand(x: &TensorType, shape: &[Dim]) -> Result<TensorType, String> {
    let out = broadcast(&x.shape, shape)?;
    ensure(out == shape, || "the shape is smaller than the tensor".into())?;
    Ok(TensorType { dtype: x.dtype, shape: out })
}

fn upsample(x: &TensorType, factors: &[i64]) -> Result<TensorType, String> {
    ensure(factors.len() == x.rank() && factors.iter().all(|f| *f >= 1), || format!("{factors:?} are not whole factors, one per axis"))?;
    Ok(TensorType { dtype: x.dtype, shape: x.shape.iter().zip(factors).map(|(d, f)| d * &Dim::Const(*f)).collect() })
}

fn pad(x: &TensorType, before: &[i64], after: &[i64]) -> Result<TensorType, String> {
    ensure(before.len() == x.rank() && after.len() == x.rank(), || "pads need one entry per axis".into())?;
    let shape = x.shape.iter().zip(before.iter().zip(after)).map(|(d, (b, a))| d + &Dim::Const(b.saturating_add(*a)));
    Ok(TensorType { dtype: x.dtype, shape: shape.collect() })
}

fn ensure(ok: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(why()) }
}

fn count(rest: &[&TensorType], want: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    ensure(want.contains(&rest.len()), || format!("it has {} inputs", rest.len() + 1))
}

fn axis_ok(axis: usize, x: &TensorType) -> Result<(), String> {
    ensure(axis < x.rank(), || format!("there is no axis {axis}"))
}

fn same_dtype(x: &TensorType, rest: &[&TensorType]) -> Result<(), String> {
    match rest.iter().find(|t| t.dtype != x.dtype) {
        Some(other) => Err(format!("{} meets {}", x.dtype, other.dtype)),
        None => Ok(()),
    }
}

fn divides(x: &TensorType, axis: usize, by: i64) -> Result<(), String> {
    axis_ok(axis, x)?;
    ensure(by > 0 && x.shape[axis].div_exact(by).is_some(), || format!("axis {axis} ({}) is no multiple of {by}", x.shape[axis]))
}

/// numpy broadcasting.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = a.len().max(b.len());
    let one = Dim::Const(1);
    let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or_else(|| one.clone(), |j| s[j].clone());
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == one => Ok(x),
            (x, y) if x == one => Ok(y),
            (x, y) => Err(format!("{x} does not broadcast with {y} on axis {i}")),
        })
        .collect()
}

fn binary(_: Binary, x: &TensorType, rest: &[&TensorType]) -> Result<TensorType, String> {
    count(rest, 1..=1)?;
    same_dtype(x, rest)?;
    Ok(TensorType { dtype: x.dtype, shape: broadcast(&x.shape, &rest[0].shape)? })
}

fn matmul(x: &TensorType, rest: &[&TensorType]) -> Result<TensorType, String> {
    count(rest, 1..=1)?;
    same_dtype(x, rest)?;
    let y = rest[0];
    ensure(x.rank() >= 2 && y.rank() >= 2, || "both need at least two axes".into())?;
    let (m, k) = (&x.shape[x.rank() - 2], &x.shape[x.rank() - 1]);
    let (k2, n) = (&y.shape[y.rank() - 2], &y.shape[y.rank() - 1]);
    ensure(k == k2, || format!("inner extents {k} and {k2} differ"))?;
    let mut shape = broadcast(&x.shape[..x.rank() - 2], &y.shape[..y.rank() - 2])?;
    shape.extend([m.clone(), n.clone()]);
    Ok(TensorType { dtype: x.dtype, shape })
}

fn gemm(x: &TensorType, rest: &[&TensorType], trans_b: bool) -> Result<TensorType, String> {
    count(rest, 1..=2)?;
    same_dtype(x, rest)?;
    ensure(x.rank() == 2 && rest[0].rank() == 2, || "both need two axes".into())?;
    let (k, n) = if trans_b { (1, 0) } else { (0, 1) };
    ensure(x.shape[1] == rest[0].shape[k], || format!("inner extents {} and {} differ", x.shape[1], rest[0].shape[k]))?;
    let n = rest[0].shape[n].clone();
    if let Some(bias) = rest.get(1) {
        ensure(bias.shape == [n.clone()], || format!("the bias is {bias}, not [{n}]"))?;
    }
    Ok(TensorType { dtype: x.dtype, shape: vec![x.shape[0].clone(), n] })
}

fn linear(x: &TensorType, rest: &[&TensorType]) -> Result<TensorType, String> {
    let rows = product(x.shape.iter().take(x.rank().saturating_sub(1)));
    ensure(x.rank() >= 1, || "it needs an axis".into())?;
    let flat = TensorType { dtype: x.dtype, shape: vec![rows, x.shape[x.rank() - 1].clone()] };
    let out = gemm(&flat, rest, true)?;
    let mut shape = x.shape.clone();
    shape[x.rank() - 1] = out.shape[1].clone();
    Ok(TensorType { dtype: x.dtype, shape })
}

fn convolve(x: &TensorType, rest: &[&TensorType], conv: &Conv) -> Result<TensorType, String> {
    count(rest, 1..=2)?;
    same_dtype(x, rest)?;
    let (w, spatial) = (rest[0], conv.kernel.len());
    ensure(conv.strides.len() == spatial && conv.pads.len() == spatial, || "kernel, strides and pads need one entry per axis".into())?;
    ensure(conv.strides.iter().all(|s| *s > 0) && conv.groups > 0, || "strides and groups must be positive".into())?;
    ensure(x.rank() == spatial + 2 && w.rank() == spatial + 2, || format!("{spatial} spatial axes need rank {}", spatial + 2))?;
    ensure(w.shape[2..].iter().map(Dim::as_const).eq(conv.kernel.iter().map(|k| Some(*k))), || {
        format!("the weight {w} has another kernel than {:?}", conv.kernel)
    })?;
    let per_group = w.shape[1].clone() * conv.groups;
    ensure(x.shape[1] == per_group, || format!("{} channels meet a weight for {per_group}", x.shape[1]))?;
    if let Some(bias) = rest.get(1) {
        ensure(bias.shape == [w.shape[0].clone()], || format!("the bias is {bias}, not [{}]", w.shape[0]))?;
    }
    let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
    for i in 0..spatial {
        let (before, after) = conv.pads[i];
        let longer = before.checked_add(after).and_then(|p| p.checked_sub(conv.kernel[i])).ok_or("its pads are too large")?;
        let padded = x.shape[i + 2].clone() + longer;
        ensure(padded.as_const().is_none_or(|p| p >= 0), || format!("axis {} is smaller than the kernel", i + 2))?;
        shape.push(padded.div_floor(conv.strides[i]) + 1);
    }
    Ok(TensorType { dtype: x.dtype, shape })
}

fn convolve_transposed(x: &TensorType, rest: &[&TensorType], conv: &Conv) -> Result<TensorType, String> {
    count(rest, 1..=2)?;
    same_dtype(x, rest)?;
    let (w, spatial) = (rest[0], conv.kernel.len());
    ensure(conv.strides.len() == spatial && conv.pads.len() == spatial, || "kernel, strides and pads need one entry per axis".into())?;
    ensure(conv.strides.iter().all(|s| *s > 0) && conv.groups == 1, || "strides must be positive, and there are no groups".into())?;
    ensure(x.rank() == spatial + 2 && w.rank() == spatial + 2, || format!("{spatial} spatial axes need rank {}", spatial + 2))?;
    ensure(w.shape[2..].iter().map(Dim::as_const).eq(conv.kernel.iter().map(|k| Some(*k))), || {
        format!("the weight {w} has another kernel than {:?}", conv.kernel)
    })?;
    ensure(x.shape[1] == w.shape[0], || format!("{} channels meet a weight for {}", x.shape[1], w.shape[0]))?;
    if let Some(bias) = rest.get(1) {
        ensure(bias.shape == [w.shape[1].clone()], || format!("the bias is {bias}, not [{}]", w.shape[1]))?;
    }
    let mut shape = vec![x.shape[0].clone(), w.shape[1].clone()];
    for (i, ((before, after), kernel)) in conv.pads.iter().zip(&conv.kernel).enumerate() {
        ensure([before, after].iter().all(|p| (0..*kernel).contains(*p)), || format!("pads {before} and {after} of a kernel of {kernel}"))?;
        let n = x.shape[i + 2].clone();
        ensure(n.as_const().is_none_or(|n| n > 0), || format!("axis {} is empty", i + 2))?;
        let out = (n + -1) * conv.strides[i] + (kernel - before - after);
        ensure(out.as_const().is_none_or(|o| o >= 0), || format!("axis {} is smaller than its pads", i + 2))?;
        shape.push(out);
    }
    Ok(TensorType { dtype: x.dtype, shape })
}

fn convolve_onto(x: &TensorType, rest: &[&TensorType], conv: &Conv) -> Result<TensorType, String> {
    count(rest, 3..=3)?;
    let out = convolve(x, &rest[..2], conv)?;
    ensure(rest[2] == &out, || format!("{} is added to {out}", rest[2]))?;
    Ok(out)
}

fn temporal_conv(x: &TensorType, rest: &[&TensorType]) -> Result<TensorType, String> {
    count(rest, 1..=2)?;
    let kernel = rest[0].shape.get(2).and_then(Dim::as_const).unwrap_or(0);
    ensure(x.rank() == 5 && rest[0].rank() == 5 && kernel % 2 == 1, || "it needs [b, c, f, h, w] and an odd kernel over f".into())?;
    let pads = vec![(kernel / 2, kernel / 2), (0, 0), (0, 0)];
    convolve(x, rest, &Conv { kernel: vec![kernel, 1, 1], strides: vec![1; 3], pads, groups: 1 })
}

/// A scale and a bias for each element of one axis.
fn per_channel(x: &TensorType, rest: &[&TensorType], axis: usize) -> Result<TensorType, String> {
    count(rest, 2..=2)?;
    axis_ok(axis, x)?;
    match rest.iter().find(|t| t.shape != [x.shape[axis].clone()]) {
        Some(t) => Err(format!("scale or bias {t} is not [{}]", x.shape[axis])),
        None => Ok(x.clone()),
    }
}

fn last_axis_scale(x: &TensorType, rest: &[&TensorType]) -> Result<TensorType, String> {
    count(rest, 1..=1)?;
    ensure(x.shape.last().is_some_and(|d| rest[0].shape == [d.clone()]), || format!("the scale is {}", rest[0]))?;
    Ok(x.clone())
}

fn halve(x: &TensorType) -> Result<TensorType, String> {
    let half = x.shape.last().and_then(|d| d.div_exact(2)).ok_or("the last axis is not even")?;
    let mut shape = x.shape.clone();
    *shape.last_mut().ok_or("it needs an axis")? = half;
    Ok(TensorType { dtype: x.dtype, shape })
}

fn attention(a: Attention, q: &TensorType, rest: &[&TensorType]) -> Result<TensorType, String> {
    count(rest, 2..=3)?;
    same_dtype(q, rest)?;
    let (k, v) = (rest[0], rest[1]);
    ensure([q, k, v].iter().all(|t| t.rank() == 3), || "q, k, v need three axes".into())?;
    ensure(q.shape[0] == k.shape[0] && k.shape[..2] == v.shape[..2], || "batch or key extents differ".into())?;
    ensure(q.shape[2] == k.shape[2], || format!("q and k have {} and {} channels", q.shape[2], k.shape[2]))?;
    divides(q, 2, a.heads)?;
    divides(v, 2, a.heads)?;
    if let Some(mask) = rest.get(2) {
        let scores = [q.shape[0].clone(), a.heads.into(), q.shape[1].clone(), k.shape[1].clone()];
        let fits = mask.rank() == 4 && (0..4).all(|i| mask.shape[i] == scores[i] || (i < 2 && mask.shape[i] == Dim::Const(1)));
        ensure(fits, || format!("the mask {mask} does not go with scores {scores:?}"))?;
    }
    Ok(TensorType { dtype: q.dtype, shape: vec![q.shape[0].clone(), q.shape[1].clone(), v.shape[2].clone()] })
}

fn rotary(heads: i64, x: &TensorType, rest: &[&TensorType]) -> Result<TensorType, String> {
    count(rest, 2..=2)?;
    same_dtype(x, rest)?;
    ensure(x.rank() == 3, || format!("{x} is not [b, l, heads·d]"))?;
    divides(x, 2, heads.checked_mul(2).ok_or("there are too many heads")?)?;
    let table = [x.shape[1].clone(), x.shape[2].div_floor(heads).div_floor(2)];
    match rest.iter().find(|t| t.shape != table) {
        Some(t) => Err(format!("the table {t} is not [{}, {}]", table[0], table[1])),
        None => Ok(x.clone()),
    }
}

fn slice(x: &TensorType, axis: usize, start: &Dim, end: &Dim) -> Result<TensorType, String> {
    axis_ok(axis, x)?;
    let mut shape = x.shape.clone();
    shape[axis] = end - start;
    if let (Some(s), Some(e), Some(n)) = (start.as_const(), end.as_const(), x.shape[axis].as_const()) {
        ensure(0 <= s && s <= e && e <= n, || format!("{s}..{e} is not inside 0..{n}"))?;
    }
    Ok(TensorType { dtype: x.dtype, shape })
}

fn split(axis: usize, sizes: &[i64], inputs: &[&TensorType]) -> Types {
    let [x] = inputs else { return Err(format!("it has {} inputs", inputs.len())) };
    axis_ok(axis, x)?;
    let sum = sizes.iter().try_fold(0_i64, |sum, s| sum.checked_add(*s).filter(|_| *s >= 0));
    ensure(!sizes.is_empty() && sum.is_some_and(|s| x.shape[axis] == Dim::Const(s)), || {
        format!("{sizes:?} do not make {}", x.shape[axis])
    })?;
    let piece = |size: &i64| {
        let mut shape = x.shape.clone();
        shape[axis] = Dim::Const(*size);
        TensorType { dtype: x.dtype, shape }
    };
    Ok(sizes.iter().map(piece).collect())
}

fn concat(axis: usize, inputs: &[&TensorType]) -> Types {
    let [first, rest @ ..] = inputs else { return Err("it has no input".into()) };
    axis_ok(axis, first)?;
    same_dtype(first, rest)?;
    let mut shape = first.shape.clone();
    for t in rest {
        ensure(t.rank() == first.rank(), || format!("{first} meets {t}"))?;
        for i in (0..shape.len()).filter(|i| *i != axis) {
            ensure(t.shape[i] == first.shape[i], || format!("{first} meets {t} on axis {i}"))?;
        }
        shape[axis] = &shape[axis] + &t.shape[axis];
    }
    Ok(vec![TensorType { dtype: first.dtype, shape }])
}

fn for_chunks(chunks: &ForChunks, inputs: &[&TensorType]) -> Types {
    let total = chunks.total();
    let mut at = 0;
    for (start, end) in &chunks.ranges {
        ensure(*start == at && start < end, || format!("the range {start}..{end} leaves a gap, overlaps or is empty"))?;
        at = *end;
    }
    ensure(chunks.sliced.iter().flatten().all(|s| s.before >= 0 && s.after >= 0), || "a halo is less than nothing".into())?;
    for ((start, end), place) in chunks.placed() {
        ensure(chunks.body(place).is_some(), || format!("there is no body for {place}, the place of {start}..{end}"))?;
    }
    ensure(chunks.sliced.len() == inputs.len(), || "each input must say whether it is sliced".into())?;
    for (input, sliced) in inputs.iter().zip(&chunks.sliced) {
        let Some(Sliced { axis, .. }) = sliced else { continue };
        ensure(input.shape.get(*axis) == Some(&Dim::Const(total)), || format!("axis {axis} of {input} is not covered by 0..{total}"))?;
    }
    let each: Result<Vec<Vec<TensorType>>, String> =
        chunks.bodies.iter().map(|(place, body)| joined(chunks, place.extent, body, total)).collect();
    let mut each = each?.into_iter();
    let outs = each.next().ok_or("it has no body")?;
    ensure(each.all(|other| other == outs), || "its bodies yield different outputs".into())?;
    Ok(outs)
}

/// The outputs of a body for pieces of `extent` after they were joined.
fn joined(chunks: &ForChunks, extent: i64, body: &super::graph::OpGraph, total: i64) -> Types {
    ensure(body.outputs().len() == chunks.joined.len(), || "each output must say where it is joined".into())?;
    let whole = |((name, outlet), join): (&(String, super::graph::Outlet), &Join)| {
        let mut ty = body.ty(*outlet).clone();
        let axis = join.axis();
        let (part, all) = join.extents(extent, chunks.ranges.len() as i64, total);
        ensure(ty.shape.get(axis) == Some(&Dim::Const(part)), || format!("axis {axis} of `{name}` ({ty}) is not {part}"))?;
        ty.shape[axis] = Dim::Const(all);
        Ok(ty)
    };
    body.outputs().iter().zip(&chunks.joined).map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: &Op, inputs: &[TensorType], expect: &str) {
        let refs: Vec<&TensorType> = inputs.iter().collect();
        let got = match infer(op, &refs) {
            Ok(types) => types.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(why) => format!("error: {why}"),
        };
        assert_eq!(got, expect, "{}", op.name());
    }

    fn f32s(dims: &[i64]) -> TensorType {
        TensorType::new(DType::F32, dims.iter().copied())
    }

    #[test]
    fn shapes_follow_the_operators() {
        check(&Op::MatMul, &[f32s(&[2, 1, 3, 4]), f32s(&[5, 4, 6])], "f32[2, 5, 3, 6]");
        check(&Op::Linear, &[f32s(&[2, 7, 4]), f32s(&[9, 4]), f32s(&[9])], "f32[2, 7, 9]");
        check(&Op::Conv(Conv::square(3, 2, 1)), &[f32s(&[1, 4, 9, 8]), f32s(&[6, 4, 3, 3])], "f32[1, 6, 5, 4]");
        check(&Op::TemporalConv, &[f32s(&[1, 4, 5, 2, 2]), f32s(&[6, 4, 3, 1, 1])], "f32[1, 6, 5, 2, 2]");
        check(&Op::GeGlu, &[f32s(&[1, 5, 8])], "f32[1, 5, 4]");
        check(&Op::Binary(Binary::Add), &[f32s(&[2, 1]), f32s(&[3])], "f32[2, 3]");
        check(&Op::Concat { axis: 1 }, &[f32s(&[1, 2]), f32s(&[1, 3])], "f32[1, 5]");
        check(&Op::Split { axis: 1, sizes: vec![2, 3] }, &[f32s(&[1, 5])], "f32[1, 2]; f32[1, 3]");
        check(&Op::FusedMatMul, &[f32s(&[2, 7, 4]), f32s(&[9, 4])], "f32[2, 7, 9]");
        let onto = [f32s(&[1, 4, 9, 8]), f32s(&[6, 4, 3, 3]), f32s(&[6]), f32s(&[1, 6, 5, 4])];
        check(&Op::FusedConv(Conv::square(3, 2, 1)), &onto, "f32[1, 6, 5, 4]");
    }

    #[test]
    fn a_mask_has_the_shape_of_the_scores() {
        let op = Op::Attention(Attention { heads: 2, scale: 1.0 });
        let qkv = || vec![f32s(&[3, 5, 4]), f32s(&[3, 7, 4]), f32s(&[3, 7, 6])];
        let with = |mask: &[i64]| [qkv(), vec![f32s(mask)]].concat();
        check(&op, &qkv(), "f32[3, 5, 6]");
        check(&op, &with(&[1, 1, 5, 7]), "f32[3, 5, 6]");
        check(&op, &with(&[3, 2, 5, 7]), "f32[3, 5, 6]");
        check(&op, &with(&[3, 1, 1, 7]), "error: the mask f32[3, 1, 1, 7] does not go with scores [3, 2, 5, 7]");
        check(&op, &with(&[5, 7]), "error: the mask f32[5, 7] does not go with scores [3, 2, 5, 7]");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        check(&Op::MatMul, &[f32s(&[2, 3]), f32s(&[4, 5])], "error: inner extents 3 and 4 differ");
        check(&Op::GeGlu, &[f32s(&[1, 5])], "error: the last axis is not even");
        check(&Op::Reshape { shape: vec![Dim::Const(7)] }, &[f32s(&[2, 3])], "error: 6 elements do not make 7");
        check(&Op::Split { axis: 0, sizes: vec![2, 2] }, &[f32s(&[5])], "error: [2, 2] do not make 5");
        check(&Op::Binary(Binary::Mul), &[f32s(&[2]), f32s(&[3])], "error: 2 does not broadcast with 3 on axis 0");
    }
}
