//! Normalisation, softmax and means. Statistics accumulate in f64.

use ndarray::{ArrayD, ArrayViewD, ArrayViewMut1, Axis};
use rayon::prelude::*;

use super::elementwise::sigmoid;
use super::float::Float;
use crate::ir::op::GroupNorm;

/// Softmax along one axis.
pub(super) fn softmax<T: Float>(x: &ArrayViewD<'_, T>, axis: usize) -> ArrayD<T> {
    let mut out = x.to_owned();
    out.lanes_mut(Axis(axis)).into_iter().for_each(softmax_lane);
    out
}

/// Softmax of one lane in place.
pub(super) fn softmax_lane<T: Float>(mut lane: ArrayViewMut1<'_, T>) {
    let largest = lane.iter().fold(T::from_f64(f64::NEG_INFINITY), |m, v| if *v > m { *v } else { m });
    let mut sum = 0.0;
    for v in &mut lane {
        *v = (*v - largest).exp();
        sum += v.to_f64();
    }
    let sum = T::from_f64(sum);
    lane.mapv_inplace(|v| v / sum);
}

/// Instance normalisation is group normalisation with a group for each channel.
pub(super) fn per_channel<T>(x: &ArrayViewD<'_, T>, eps: f32) -> GroupNorm {
    GroupNorm { groups: x.shape()[1] as i64, eps, silu: false }
}

/// Group normalisation of `[n, c, …]`.
pub(super) fn group_norm<T: Float>(x: &ArrayViewD<'_, T>, scale: &ArrayViewD<'_, T>, bias: &ArrayViewD<'_, T>, g: &GroupNorm) -> ArrayD<T> {
    let (mut out, channels) = (x.to_owned(), x.shape()[1]);
    let plane: usize = x.shape()[2..].iter().product();
    let group = plane * channels / (g.groups as usize).max(1);
    let data = out.as_slice_mut().expect("standard layout");
    data.par_chunks_mut(group.max(1)).for_each(|piece| standardise(piece, f64::from(g.eps)));
    for (i, piece) in data.chunks_mut(plane.max(1)).enumerate() {
        let (s, b) = (scale[i % channels], bias[i % channels]);
        for v in piece {
            *v = *v * s + b;
        }
    }
    if g.silu {
        out.mapv_inplace(|v| v * sigmoid(v));
    }
    out
}

/// `x · scale + bias` for each element of axis 1.
pub(super) fn channel_affine<T: Float>(x: &ArrayViewD<'_, T>, scale: &ArrayViewD<'_, T>, bias: &ArrayViewD<'_, T>) -> ArrayD<T> {
    let mut out = x.to_owned();
    for (mut channel, (s, b)) in out.axis_iter_mut(Axis(1)).zip(scale.iter().zip(bias)) {
        channel.mapv_inplace(|v| v * *s + *b);
    }
    out
}

/// Group normalisation of `[n, …, c]`.
pub(super) fn group_norm_nhwc<T: Float>(
    x: &ArrayViewD<'_, T>,
    scale: &ArrayViewD<'_, T>,
    bias: &ArrayViewD<'_, T>,
    g: &GroupNorm,
) -> ArrayD<T> {
    let last = x.ndim() - 1;
    let first: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
    let back: Vec<usize> = [0].into_iter().chain(2..=last).chain([1]).collect();
    let x = x.view().permuted_axes(first);
    group_norm(&x.as_standard_layout().view(), scale, bias, g).permuted_axes(back)
}

/// Normalisation over the last axis.
pub(super) fn layer_norm<T: Float>(x: &ArrayViewD<'_, T>, scale: &ArrayViewD<'_, T>, bias: &ArrayViewD<'_, T>, eps: f32) -> ArrayD<T> {
    by_row(x, |row| {
        standardise(row, f64::from(eps));
        row.iter_mut().zip(scale).zip(bias).for_each(|((v, s), b)| *v = *v * *s + *b);
    })
}

/// Root-mean-square normalisation over the last axis.
pub(super) fn rms_norm<T: Float>(x: &ArrayViewD<'_, T>, scale: &ArrayViewD<'_, T>, eps: f32) -> ArrayD<T> {
    by_row(x, |row| {
        let squares: f64 = row.iter().map(|v| v.to_f64() * v.to_f64()).sum();
        let factor = (squares / row.len() as f64 + f64::from(eps)).sqrt().recip();
        row.iter_mut().zip(scale).for_each(|(v, s)| *v = T::from_f64(v.to_f64() * factor) * *s);
    })
}

/// Mean over axes, which stay with extent 1.
pub(super) fn reduce_mean<T: Float>(x: &ArrayViewD<'_, T>, axes: &[usize]) -> ArrayD<T> {
    let sum = axes.iter().fold(x.mapv(T::to_f64), |x, a| x.sum_axis(Axis(*a)).insert_axis(Axis(*a)));
    let count = x.len() as f64 / sum.len() as f64;
    sum.mapv(|v| T::from_f64(v / count))
}

fn by_row<T: Float>(x: &ArrayViewD<'_, T>, f: impl Fn(&mut [T]) + Send + Sync) -> ArrayD<T> {
    let mut out = x.to_owned();
    let width = x.shape()[x.ndim() - 1];
    out.as_slice_mut().expect("standard layout").par_chunks_mut(width.max(1)).for_each(f);
    out
}

/// `(x - mean) / sqrt(var + eps)` in two sweeps, with the variance of the population.
fn standardise<T: Float>(x: &mut [T], eps: f64) {
    let count = x.len() as f64;
    let mean = x.iter().map(|v| v.to_f64()).sum::<f64>() / count;
    let variance = x.iter().map(|v| (v.to_f64() - mean).powi(2)).sum::<f64>() / count;
    let factor = (variance + eps).sqrt().recip();
    for v in x {
        *v = T::from_f64((v.to_f64() - mean) * factor);
    }
}
