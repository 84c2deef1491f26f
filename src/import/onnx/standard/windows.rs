//! Operators with a window: convolutions, pools, resizes, samples of pictures.

use super::call::{Extent, Extents, Outputs, axes_of, numbers, tensor};
use super::extent::{add, fresh_extents, mul, natural, number, product, sub, unify};
use super::shaping::stated_shape;
use super::{Fresh, MAX_RANK, NodeInfo, dtype};
use crate::ir::Dim;

/// The window of a convolution or a pool, an entry a spatial axis.
#[derive(Debug)]
struct Window {
    kernel: Vec<Extent>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<(i64, i64)>,
    auto: Auto,
    ceil: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auto {
    Stated,
    Same,
    Valid,
}

impl Window {
    fn read(call: &NodeInfo<'_>, kernel: Vec<Extent>) -> Result<Self, String> {
        let n = kernel.len();
        let list = |name: &str| -> Result<Vec<i64>, String> {
            match call.ints(name) {
                Some(v) if v.len() == n && v.iter().all(|x| *x > 0) => Ok(v.to_vec()),
                Some([]) | None => Ok(vec![1; n]),
                Some(v) => Err(format!("{name} {v:?} for {n} spatial axes")),
            }
        };
        let pads = match call.ints("pads") {
            Some(v) if v.len() == 2 * n => (0..n).map(|i| (v[i], v[i + n])).collect(),
            Some([]) | None => vec![(0, 0); n],
            Some(v) => return Err(format!("pads {v:?} for {n} spatial axes")),
        };
        let auto = match call.text("auto_pad") {
            Some("SAME_UPPER" | "SAME_LOWER") => Auto::Same,
            Some("VALID") => Auto::Valid,
            _ => Auto::Stated,
        };
        let ceil = call.flag("ceil_mode", false);
        Ok(Self { kernel, strides: list("strides")?, dilations: list("dilations")?, pads, auto, ceil })
    }

    /// What the kernel covers along an axis: `dilation * (kernel - 1) + 1`.
    fn covers(&self, i: usize) -> Extent {
        add(&mul(&number(self.dilations[i]), &sub(&self.kernel[i], &number(1))), &number(1))
    }

    fn both_pads(&self, i: usize) -> Extent {
        self.pads[i].0.checked_add(self.pads[i].1).map(Dim::Const)
    }

    /// Positions of the window along an axis (ONNX, `AveragePool`: `output_spatial_shape`).
    fn positions(&self, i: usize, of: &Extent) -> Result<Extent, String> {
        let stride = self.strides[i];
        if self.auto == Auto::Same {
            return Ok(of.as_ref().and_then(|d| d.checked_div_ceil(stride)));
        }
        let padded = if self.auto == Auto::Valid { of.clone() } else { add(of, &self.both_pads(i)) };
        let free = natural(sub(&padded, &self.covers(i))).map_err(|_| "the window is larger than what it slides over")?;
        if !self.ceil {
            return Ok(add(&free.and_then(|d| d.checked_div_floor(stride)), &number(1)));
        }
        // A last window that would begin in the padding behind the end does not count.
        let steps = free.as_ref().and_then(|d| d.checked_div_ceil(stride));
        let begins = mul(&steps, &number(stride));
        let inside = if self.auto == Auto::Valid { of.clone() } else { add(of, &number(self.pads[i].0)) };
        let counts = begins.as_ref().zip(inside.as_ref()).and_then(|(b, n)| Some(b.checked_add(&Dim::Const(1))?.at_most(n, 1)));
        Ok(match counts.flatten() {
            Some(true) => add(&steps, &number(1)),
            Some(false) => steps,
            // Windows cannot begin behind the end if the padding there is shorter than the window.
            None if self.last_begins_inside(i) => add(&steps, &number(1)),
            None => None,
        })
    }

    /// `ceil((n + p - k) / s) * s < n + p - k + s`, so the last window begins before `n + begin` if `s + end <= k`.
    fn last_begins_inside(&self, i: usize) -> bool {
        let end = if self.auto == Auto::Valid { 0 } else { self.pads[i].1 };
        let reach = self.strides[i].checked_add(end);
        self.covers(i).as_ref().and_then(Dim::as_const).zip(reach).is_some_and(|(k, reach)| reach <= k)
    }
}

/// The extents of a weight behind its first two, or the attribute `kernel_shape`.
fn kernel_of(call: &NodeInfo<'_>, weight: Option<&[Extent]>, spatial: Option<usize>) -> Option<Vec<Extent>> {
    let stated = call.ints("kernel_shape").filter(|v| !v.is_empty()).and_then(numbers);
    let kernel = stated.or_else(|| Some(weight?.get(2..)?.to_vec())).or_else(|| Some(vec![None; spatial?]));
    kernel.filter(|k| k.len() <= MAX_RANK)
}

fn spatial_rank(shape: Option<&[Extent]>) -> Result<Option<usize>, String> {
    match shape.map(<[Extent]>::len) {
        Some(n) if n < 2 => Err(format!("rank {n} instead of 2 or more")),
        n => Ok(n.map(|n| n - 2)),
    }
}

fn spatial_extents(x: Option<&[Extent]>, n: usize) -> Result<Extents, String> {
    match x {
        None => Ok(vec![None; n]),
        Some(shape) if shape.len() == n + 2 => Ok(shape[2..].to_vec()),
        Some(shape) => Err(format!("a window of {n} axes over a tensor of rank {}", shape.len())),
    }
}

/// `Conv` and those computed like it: `x` and `weight` are input positions.
pub(super) fn conv(call: &NodeInfo<'_>, x: usize, weight: usize, result: Option<i32>) -> Outputs {
    let (xs, ws) = (call.shape(x), call.shape(weight));
    let unknown = || Ok(vec![tensor(result, None)]);
    let Some(kernel) = kernel_of(call, ws, spatial_rank(xs)?) else { return unknown() };
    if ws.is_some_and(|w| w.len() != kernel.len() + 2) {
        return Err("the weight and the kernel differ in rank".into());
    }
    if let (Some([_, channels, ..]), Some([_, inner, ..])) = (xs, ws) {
        unify(channels, &mul(inner, &number(call.int_or("group", 1))))?;
    }
    let window = Window::read(call, kernel)?;
    let spatial = spatial_extents(xs, window.kernel.len())?;
    let mut out = vec![xs.and_then(|s| s[0].clone()), ws.and_then(|w| w[0].clone())];
    for (i, of) in spatial.iter().enumerate() {
        out.push(window.positions(i, of)?);
    }
    Ok(vec![tensor(result, Some(out))])
}

/// `ConvTranspose`: `stride * (n - 1) + covered + output padding - pads`, unless the extents are stated.
pub(super) fn conv_transpose(call: &NodeInfo<'_>) -> Outputs {
    let (xs, ws) = (call.shape(0), call.shape(1));
    let Some(kernel) = kernel_of(call, ws, spatial_rank(xs)?) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    if ws.is_some_and(|w| w.len() != kernel.len() + 2) {
        return Err("the weight and the kernel differ in rank".into());
    }
    let window = Window::read(call, kernel)?;
    let n = window.kernel.len();
    let spatial = spatial_extents(xs, n)?;
    let channels = mul(&ws.and_then(|w| w[1].clone()), &number(call.int_or("group", 1)));
    let mut out = vec![xs.and_then(|s| s[0].clone()), channels];
    let stated = call.ints("output_shape").filter(|v| v.len() >= n && !v.is_empty()).map(|v| &v[v.len() - n..]);
    let more = call.ints("output_padding").filter(|v| v.len() == n);
    for (i, of) in spatial.iter().enumerate() {
        out.push(match stated {
            Some(stated) => natural(number(stated[i]))?,
            None => transposed(&window, i, of, more.map_or(0, |m| m[i]))?,
        });
    }
    Ok(vec![tensor(call.dtype(0), Some(out))])
}

fn transposed(window: &Window, i: usize, of: &Extent, more: i64) -> Result<Extent, String> {
    let stride = number(window.strides[i]);
    if window.auto == Auto::Same {
        return Ok(mul(of, &stride));
    }
    let full = add(&add(&mul(&sub(of, &number(1)), &stride), &window.covers(i)), &number(more));
    natural(if window.auto == Auto::Valid { full } else { sub(&full, &window.both_pads(i)) })
}

/// Pools; `indices` adds where each largest element was.
pub(super) fn pool(call: &NodeInfo<'_>, result: Option<i32>) -> Outputs {
    let xs = call.shape(0);
    let kernel = kernel_of(call, None, spatial_rank(xs)?);
    let both = |shape: Option<Extents>| Ok(vec![tensor(result, shape.clone()), tensor(Some(dtype::INT64), shape)]);
    let Some(kernel) = kernel else { return both(None) };
    let window = Window::read(call, kernel)?;
    let Some(xs) = xs else { return both(Some(vec![None; window.kernel.len() + 2])) };
    let mut out = xs[..2].to_vec();
    for (i, of) in spatial_extents(Some(xs), window.kernel.len())?.iter().enumerate() {
        out.push(window.positions(i, of)?);
    }
    both(Some(out))
}

/// `GlobalAveragePool` and its like: spatial extents become 1.
pub(super) fn global_pool(call: &NodeInfo<'_>) -> Outputs {
    spatial_rank(call.shape(0))?;
    let shape = call.shape(0).map(|s| s.iter().enumerate().map(|(i, e)| if i < 2 { e.clone() } else { number(1) }).collect());
    Ok(vec![tensor(call.dtype(0), shape)])
}

/// `MaxUnpool`: the inverse of a pool, or the stated shape.
pub(super) fn max_unpool(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    if call.has(2) {
        return Ok(vec![tensor(call.dtype(0), stated_shape(call, 2, fresh))]);
    }
    let xs = call.shape(0);
    let Some(kernel) = kernel_of(call, None, spatial_rank(xs)?) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let window = Window::read(call, kernel)?;
    let Some(xs) = xs else { return Ok(vec![tensor(call.dtype(0), Some(vec![None; window.kernel.len() + 2]))]) };
    let mut out = xs[..2].to_vec();
    for (i, of) in spatial_extents(Some(xs), window.kernel.len())?.iter().enumerate() {
        out.push(transposed(&window, i, of, 0)?);
    }
    Ok(vec![tensor(call.dtype(0), Some(out))])
}

/// `MaxRoiPool`, `RoiAlign`: a picture of fixed size for each region.
pub(super) fn regions(call: &NodeInfo<'_>, size: Option<(i64, i64)>) -> Outputs {
    // `RoiAlign` names the picture of each region.
    let count = unify(&call.extent(1, 0), &call.extent(2, 0))?;
    let (h, w) = size.map_or((None, None), |(h, w)| (number(h), number(w)));
    Ok(vec![tensor(call.dtype(0), Some(vec![count, call.extent(0, 1), h, w]))])
}

/// The output size of `MaxRoiPool`.
pub(super) fn pooled_shape(call: &NodeInfo<'_>) -> Option<(i64, i64)> {
    match call.ints("pooled_shape")? {
        [h, w] => Some((*h, *w)),
        _ => None,
    }
}

/// `GridSample`: the grid's places for each channel.
pub(super) fn grid_sample(call: &NodeInfo<'_>) -> Outputs {
    let (Some(x), Some(grid)) = (call.shape(0), call.shape(1)) else {
        let rank = call.rank(0).or(call.rank(1)).filter(|n| *n > 2);
        return Ok(vec![tensor(call.dtype(0), rank.map(|n| vec![None; n]))]);
    };
    let ([_, channels, _, ..], [n, places @ .., _]) = (x, grid) else { return Err("ranks below 3".into()) };
    if x.len() != grid.len() {
        return Err(format!("a grid of rank {} over a tensor of rank {}", grid.len(), x.len()));
    }
    let batch = unify(&x[0], n)?;
    Ok(vec![tensor(call.dtype(0), Some([&[batch, channels.clone()], places].concat()))])
}

/// `AffineGrid`: a grid as large as the stated picture.
pub(super) fn affine_grid(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let Some(size) = stated_shape(call, 1, fresh) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    let [n, _, space @ ..] = &size[..] else { return Err("a size of fewer than 2 axes".into()) };
    let shape = [std::slice::from_ref(n), space, &[number(space.len() as i64)]].concat();
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// `Col2Im`: columns back to a picture of the stated size.
pub(super) fn col2im(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let block = call.dims(2).and_then(Dim::checked_product).and_then(|d| d.as_const());
    let columns = call.extent(0, 1);
    let channels = match (&columns, block) {
        (Some(Dim::Const(c)), Some(b)) if b < 1 || c % b != 0 => return Err(format!("{c} rows do not fall into blocks of {b}")),
        (Some(d), Some(b)) if b > 0 => d.checked_div_floor(b),
        _ => None,
    };
    let Some(image) = stated_shape(call, 1, fresh) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    Ok(vec![tensor(call.dtype(0), Some([&[call.extent(0, 0), channels][..], &image].concat()))])
}

/// `Resize` (sizes or scales for all axes or the named ones) and `Upsample`.
pub(super) fn resize(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let old = call.version < 11 || call.op_type == "Upsample";
    let (scales_at, sizes_at) = if old { (1, usize::MAX) } else { (2, 3) };
    let attribute = call.attribute("scales").map(|a| a.floats.iter().map(|f| f64::from(*f)).collect::<Vec<_>>());
    let scales: Option<Vec<f64>> = attribute.or_else(|| call.floats(scales_at).map(<[f64]>::to_vec)).filter(|s| !s.is_empty());
    let sizes = call.dims(sizes_at).filter(|d| !d.is_empty());
    let Some(mut shape) = call.extents(0) else {
        let stated = sizes.filter(|_| call.ints("axes").is_none()).map(|d| d.iter().cloned().map(Some).collect());
        return Ok(vec![tensor(call.dtype(0), stated)]);
    };
    let axes = match call.ints("axes") {
        Some(axes) => axes_of(axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    if sizes.map(<[Dim]>::len).or(scales.as_ref().map(Vec::len)).is_some_and(|n| n != axes.len()) {
        return Err(format!("scales or sizes for {} axes", axes.len()));
    }
    let new: Extents = match (sizes, scales) {
        (Some(sizes), _) => sized(call, &shape, &axes, sizes)?,
        (_, Some(scales)) => axes.iter().zip(&scales).map(|(a, s)| scaled(shape[*a].as_ref(), *s, fresh)).collect(),
        _ => fresh_extents(axes.len(), fresh),
    };
    axes.iter().zip(new).for_each(|(a, e)| shape[*a] = e);
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// Stated sizes, or the largest (smallest) picture of the same aspect within (around) them.
fn sized(call: &NodeInfo<'_>, shape: &[Extent], axes: &[usize], sizes: &[Dim]) -> Result<Extents, String> {
    let policy = call.text("keep_aspect_ratio_policy").unwrap_or("stretch");
    if policy == "stretch" {
        return sizes.iter().map(|d| natural(Some(d.clone()))).collect();
    }
    let known = |e: &Extent| e.as_ref().and_then(Dim::as_const);
    let pairs: Option<Vec<(i64, i64)>> = axes.iter().zip(sizes).map(|(a, s)| Some((known(&shape[*a])?, s.as_const()?))).collect();
    let Some(pairs) = pairs.filter(|p| p.iter().all(|(n, _)| *n > 0)) else { return Ok(vec![None; axes.len()]) };
    // The scale is a float32, as in the standard's formula; extents are rounded half up.
    let ratios = pairs.iter().map(|(n, s)| *s as f32 / *n as f32);
    let scale = if policy == "not_larger" { ratios.fold(f32::MAX, f32::min) } else { ratios.fold(f32::MIN, f32::max) };
    pairs.iter().map(|(n, _)| natural(number((scale * *n as f32 + 0.5).floor() as i64))).collect()
}

/// `floor(extent * scale)`: exact for a scale that is a fraction with a small denominator.
fn scaled(extent: Option<&Dim>, scale: f64, fresh: Fresh<'_>) -> Extent {
    let extent = extent?;
    if !(scale > 0.0 && scale < 1e9) {
        return None;
    }
    if let Some(n) = extent.as_const() {
        // The scale is a float32 and so is the product.
        return Some(Dim::Const((n as f32 * scale as f32).floor() as i64));
    }
    let fraction = (1..=64_i64).find(|d| (scale * *d as f64).fract() == 0.0);
    let exact = fraction.and_then(|d| extent.checked_mul(&Dim::Const((scale * d as f64) as i64))?.checked_div_floor(d));
    Some(exact.unwrap_or_else(fresh))
}

/// `ImageDecoder`: height and width are in the picture's data.
pub(super) fn image_decoder(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let channels = if call.text("pixel_format") == Some("Grayscale") { 1 } else { 3 };
    Ok(vec![tensor(Some(dtype::UINT8), Some(vec![Some(fresh()), Some(fresh()), number(channels)]))])
}

/// `STFT`: `[batch, frames, bins, 2]`.
pub(super) fn stft(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let scalar = |at: usize| call.dims(at).and_then(|d| d.first().cloned());
    let window = call.shape(2).and_then(product);
    let length = scalar(3).or(window);
    let bins = match &length {
        Some(n) if call.flag("onesided", true) => n.checked_div_floor(2).and_then(|d| d.checked_add(&Dim::Const(1))),
        other => other.clone(),
    };
    let step = scalar(1).and_then(|d| d.as_const()).filter(|s| *s > 0);
    let free = natural(sub(&call.extent(0, 1), &length)).map_err(|_| "the signal is shorter than a frame")?;
    let frames = free.zip(step).and_then(|(n, s)| n.checked_div_floor(s)?.checked_add(&Dim::Const(1)));
    let open = |e: Extent, fresh: Fresh<'_>| e.or_else(|| Some(fresh()));
    let shape = vec![call.extent(0, 0), open(frames, fresh), open(bins, fresh), number(2)];
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}

/// `DFT`: complex along the axis; one-sided keeps half.
pub(super) fn dft(call: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
    let Some(mut shape) = call.extents(0) else { return Ok(vec![tensor(call.dtype(0), None)]) };
    // An attribute (default 1) before version 20, an input (default -2) since.
    let stated = if call.version < 20 { Some(call.int_or("axis", 1)) } else { None };
    let axis = match stated {
        Some(axis) => Some(axis),
        None if call.has(2) => call.known_ints(2).and_then(|v| v.first().copied()),
        None => Some(-2),
    };
    let rank = shape.len();
    if rank < 2 {
        return Err(format!("rank {rank} instead of 2 or more"));
    }
    let inverse_real = call.flag("inverse", false) && call.flag("onesided", false);
    shape[rank - 1] = number(if inverse_real { 1 } else { 2 });
    let Some(axis) = axis else {
        shape[..rank - 1].iter_mut().for_each(|e| *e = Some(fresh()));
        return Ok(vec![tensor(call.dtype(0), Some(shape))]);
    };
    let axis = super::call::axis_of(axis, rank)?;
    if call.has(1) {
        shape[axis] = Some(call.dims(1).and_then(|d| d.first().cloned()).unwrap_or_else(&mut *fresh));
    }
    if call.flag("onesided", false) && !inverse_real {
        shape[axis] = shape[axis].as_ref().and_then(|d| d.checked_div_floor(2)?.checked_add(&Dim::Const(1)));
    } else if inverse_real && !call.has(1) {
        shape[axis] = mul(&number(2), &sub(&shape[axis], &number(1)));
    }
    Ok(vec![tensor(call.dtype(0), Some(shape))])
}
