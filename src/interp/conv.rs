//! Convolution as a matrix product with the unfolded image, one image and group at a time.

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, IxDyn, Slice};
use rayon::prelude::*;

use super::float::Float;
use super::linear::standard;
use crate::ir::op::Conv;

/// A convolution over three axes; those that the operator lacks have extent 1.
struct Geometry {
    size: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    before: [usize; 3],
    out: [usize; 3],
}

impl Geometry {
    fn new(c: &Conv, x: &[usize], out: &[usize]) -> Self {
        let numbers = |v: &[i64]| v.iter().map(|d| *d as usize).collect::<Vec<_>>();
        let before: Vec<usize> = c.pads.iter().map(|(b, _)| *b as usize).collect();
        Self {
            size: three(&x[2..], 1),
            kernel: three(&numbers(&c.kernel), 1),
            stride: three(&numbers(&c.strides), 1),
            before: three(&before, 0),
            out: three(&out[2..], 1),
        }
    }

    /// Does the kernel see each point once, so that the image is its own unfolding?
    fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3] && self.before == [0; 3] && self.out == self.size
    }

    /// Positions of the output along an axis whose point under tap `k` lies inside the image.
    fn inside(&self, axis: usize, k: usize) -> std::ops::Range<usize> {
        let (s, p) = (self.stride[axis], self.before[axis]);
        let first = p.saturating_sub(k).div_ceil(s);
        let end = (self.size[axis] + p).saturating_sub(k).div_ceil(s).min(self.out[axis]);
        first.min(end)..end
    }
}

/// The last entries of an array of three, the first ones filled up.
fn three(v: &[usize], fill: usize) -> [usize; 3] {
    let mut out = [fill; 3];
    out[3 - v.len()..].copy_from_slice(v);
    out
}

/// The convolution that [`Op::TemporalConv`](crate::ir::Op::TemporalConv) is: over frames, same length, zeros beyond the ends.
pub(super) fn temporal<T>(w: &ArrayViewD<'_, T>) -> Conv {
    let k = w.shape()[2] as i64;
    Conv { kernel: vec![k, 1, 1], strides: vec![1; 3], pads: vec![(k / 2, k / 2), (0, 0), (0, 0)], groups: 1 }
}

/// Convolution over 1 to 3 spatial axes.
pub(super) fn conv<T: Float>(
    c: &Conv,
    x: &ArrayViewD<'_, T>,
    w: &ArrayViewD<'_, T>,
    bias: Option<&ArrayViewD<'_, T>>,
    shape: &[usize],
) -> ArrayD<T> {
    let g = Geometry::new(c, x.shape(), shape);
    let groups = c.groups as usize;
    let (c_in, c_out) = (x.shape()[1] / groups, shape[1] / groups);
    let (plane, taps, points) = (g.size.iter().product::<usize>(), g.kernel.iter().product::<usize>(), g.out.iter().product::<usize>());
    let mut out = ArrayD::zeros(IxDyn(shape));
    if out.is_empty() {
        return out;
    }
    let (image, weight) = (x.as_slice().expect("standard layout"), w.as_slice().expect("standard layout"));
    let pieces = out.as_slice_mut().expect("just made").par_chunks_mut(c_out * points);
    // Piece i is group i % groups of image i / groups, in the output as in the input.
    pieces.enumerate().for_each(|(i, piece)| {
        let group = i % groups;
        let x = &image[i * c_in * plane..(i + 1) * c_in * plane];
        let w = &weight[group * c_out * c_in * taps..(group + 1) * c_out * c_in * taps];
        let w = ArrayView2::from_shape((c_out, c_in * taps), w).expect("shape inference checked the weight");
        piece.copy_from_slice(standard(w.dot(&unfold(&g, x, c_in))).as_slice().expect("standard layout"));
        if let Some(bias) = bias {
            add_bias(piece, &bias.as_slice().expect("standard layout")[group * c_out..], points);
        }
    });
    out
}

/// The transpose of a convolution: the convolution of the image with zeros between its elements by the kernel turned around.
pub(super) fn conv_transpose<T: Float>(
    c: &Conv,
    x: &ArrayViewD<'_, T>,
    w: &ArrayViewD<'_, T>,
    bias: Option<&ArrayViewD<'_, T>>,
    shape: &[usize],
) -> ArrayD<T> {
    let stride = |axis: usize| if axis < 2 { 1 } else { c.strides[axis - 2] as usize };
    let spread: Vec<usize> = x.shape().iter().enumerate().map(|(i, n)| (n.saturating_sub(1)) * stride(i) + (*n).min(1)).collect();
    let mut image = ArrayD::zeros(IxDyn(&spread));
    image.slice_each_axis_mut(|a| Slice::new(0, None, stride(a.axis.index()) as isize)).assign(x);
    let mut turned = w.view();
    turned.swap_axes(0, 1);
    (2..w.ndim()).for_each(|axis| turned.invert_axis(Axis(axis)));
    let pads = c.kernel.iter().zip(&c.pads).map(|(k, (before, after))| (k - 1 - before, k - 1 - after)).collect();
    let plain = Conv { kernel: c.kernel.clone(), strides: vec![1; c.kernel.len()], pads, groups: 1 };
    conv(&plain, &image.view(), &turned.as_standard_layout().view(), bias, shape)
}

fn add_bias<T: Float>(piece: &mut [T], bias: &[T], points: usize) {
    for (plane, b) in piece.chunks_mut(points).zip(bias) {
        for v in plane {
            *v = *v + *b;
        }
    }
}

/// `[channels · taps, points]`: what each tap of the kernel sees at each point of the output.
fn unfold<T: Float>(g: &Geometry, x: &[T], channels: usize) -> Array2<T> {
    let points = g.out.iter().product();
    if g.is_pointwise() {
        return Array2::from_shape_vec((channels, points), x.to_vec()).expect("as many points as pixels");
    }
    let [d, h, w] = g.size;
    let mut out = Array2::zeros((channels * g.kernel.iter().product::<usize>(), points));
    let taps = ndarray::indices((channels, g.kernel[0], g.kernel[1], g.kernel[2]));
    for ((c, kd, kh, kw), mut row) in taps.into_iter().zip(out.rows_mut()) {
        let row = row.as_slice_mut().expect("rows are contiguous");
        let plane = &x[c * d * h * w..(c + 1) * d * h * w];
        for (od, oh) in g.inside(0, kd).flat_map(|od| g.inside(1, kh).map(move |oh| (od, oh))) {
            let (id, ih) = (od * g.stride[0] + kd - g.before[0], oh * g.stride[1] + kh - g.before[1]);
            let (from, to) = ((id * h + ih) * w, (od * g.out[1] + oh) * g.out[2]);
            for ow in g.inside(2, kw) {
                row[to + ow] = plane[from + ow * g.stride[2] + kw - g.before[2]];
            }
        }
    }
    out
}
