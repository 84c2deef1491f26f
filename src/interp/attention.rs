//! Attention and the position embedding inside it.

use ndarray::{Array2, ArrayD, ArrayView3, ArrayViewD, Ix3, s};
use rayon::prelude::*;

use super::float::Float;
use super::norm::softmax_lane;
use crate::ir::op::Attention;

/// `softmax(scale · q kᵀ + mask) v` for each batch entry and head; x holds q, k, v as `[b, l, heads · d]` and the mask, if
/// there is one, as `[b or 1, heads or 1, lq, lk]`.
pub(super) fn attention<T: Float>(a: Attention, x: &[ArrayViewD<'_, T>], shape: &[usize]) -> ArrayD<T> {
    let (heads, scale) = (a.heads as usize, T::from_f64(f64::from(a.scale)));
    let [q, k, v] = [0, 1, 2].map(|i| x[i].view().into_dimensionality::<Ix3>().expect("three axes"));
    let work: Vec<(usize, usize)> = (0..shape[0]).flat_map(|b| (0..heads).map(move |h| (b, h))).collect();
    let pieces: Vec<Array2<T>> = work.par_iter().map(|(b, h)| one_head([&q, &k, &v], x.get(3), (*b, *h), heads, scale)).collect();
    let mut out = ndarray::Array3::zeros((shape[0], shape[1], shape[2]));
    let d = shape[2] / heads;
    for ((b, h), piece) in work.into_iter().zip(pieces) {
        out.slice_mut(s![b, .., h * d..(h + 1) * d]).assign(&piece);
    }
    out.into_dyn()
}

fn one_head<T: Float>(
    qkv: [&ArrayView3<'_, T>; 3],
    mask: Option<&ArrayViewD<'_, T>>,
    (b, h): (usize, usize),
    heads: usize,
    scale: T,
) -> Array2<T> {
    let [q, k, v] = qkv.map(|t| {
        let d = t.dim().2 / heads;
        t.slice(s![b, .., h * d..(h + 1) * d])
    });
    let mut scores = q.dot(&k.t());
    scores.mapv_inplace(|v| v * scale);
    if let Some(mask) = mask {
        let of = |axis: usize, i: usize| if mask.shape()[axis] == 1 { 0 } else { i };
        scores = scores + mask.slice(s![of(0, b), of(1, h), .., ..]);
    }
    scores.rows_mut().into_iter().for_each(softmax_lane);
    scores.dot(&v)
}

/// Rotates each head's pairs by a position's angles. The pairs are (i, i + d / 2): the halves of a head, not neighbours
/// (`interleaved = 0` of the standard operator).
pub(super) fn rotary<T: Float>(heads: usize, x: &[ArrayViewD<'_, T>]) -> ArrayD<T> {
    let (mut out, half) = (x[0].to_owned(), x[1].shape()[1]);
    let (length, width) = (x[0].shape()[1], x[0].shape()[2]);
    let (cos, sin) = (x[1].as_slice().expect("standard layout"), x[2].as_slice().expect("standard layout"));
    let data = out.as_slice_mut().expect("standard layout");
    for (i, head) in data.chunks_mut((width / heads).max(1)).enumerate() {
        let at = (i / heads) % length * half;
        let (first, second) = head.split_at_mut(half);
        for (j, (a, b)) in first.iter_mut().zip(second).enumerate() {
            let (c, s) = (cos[at + j], sin[at + j]);
            (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
        }
    }
    out
}
