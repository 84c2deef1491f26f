//! Two resizes, each because a model was trained behind it.
//!
//! **The antialiased bicubic of the CLIP branch** ([`clip_preprocess`], [`resize_antialiased`]). Per axis, with f = length / size: a
//! Gaussian of deviation max((f - 1) / 2, 0.001) and k = int(max(4 deviation, 3)) taps, made odd, over the picture mirrored at its edges
//! (the edge itself not repeated); then cubic convolution with a = -0.75, corners aligned, edges repeated. Both steps are linear and act on
//! one axis, so here an axis is one set of sparse taps, applied in f64.
//!
//! **Lanczos with three lobes on 8-bit pictures** ([`lanczos`]), as Pillow defines it: the kernel is stretched when shrinking; columns first,
//! then rows, with 8 bit in between; weights in fixed point of 22 bits. (Pillow 13 takes rows first for some pairs of sizes. Overshoot is cut off between
//! the two, so at hard edges its result is another one; up to Pillow 12 the order is the one here.)

use std::f64::consts::PI;

use ndarray::{Array1, Array2, Array3, Array4, ArrayView3, ArrayView4, Axis, s};
use rayon::prelude::*;

/// The weights that make one output sample: (input index, weight).
type Taps = Vec<(usize, f64)>;

/// What CLIP's vision model takes: the picture u8 [h, w, 3] in [-1, 1], resized to `size` x `size` by the antialiased bicubic (no crop, the
/// aspect ratio is lost), back to [0, 1], less `mean`, by `deviation`, both per channel. f32 [1, 3, size, size].
pub fn clip_preprocess(picture: ArrayView3<'_, u8>, size: usize, mean: [f32; 3], deviation: [f32; 3]) -> Array4<f32> {
    let row = |y| picture.index_axis(Axis(0), y).mapv(|v| f32::from(v) / 255.0 * 2.0 - 1.0);
    let mut out = antialiased(picture.dim(), row, size);
    for (c, mut plane) in out.axis_iter_mut(Axis(0)).enumerate() {
        plane.mapv_inplace(|v| (f32::midpoint(v, 1.0) - mean[c]) / deviation[c]);
    }
    out.insert_axis(Axis(0))
}

/// The antialiased bicubic of the module doc on a tensor f32 [n, c, h, w]; the result is [n, c, size, size].
pub fn resize_antialiased(x: ArrayView4<'_, f32>, size: usize) -> Array4<f32> {
    let (n, c, h, w) = x.dim();
    let mut out = Array4::zeros((n, c, size, size));
    for (i, item) in x.outer_iter().enumerate() {
        let row = |y| item.index_axis(Axis(1), y).reversed_axes().to_owned();
        out.index_axis_mut(Axis(0), i).assign(&antialiased((h, w, c), row, size));
    }
    out
}

/// From rows [w, c] to [c, size, size]. Rows are made one at a time, so that a large picture never exists in floats.
fn antialiased((h, w, c): (usize, usize, usize), row: impl Fn(usize) -> Array2<f32> + Sync, size: usize) -> Array3<f32> {
    let (rows, columns) = (axis_taps(h, size), axis_taps(w, size));
    let narrow: Vec<Array1<f64>> = (0..h).into_par_iter().map(|y| combine_row(&row(y), &columns)).collect();
    let mut out = Array3::zeros((c, size, size));
    for (y, taps) in rows.iter().enumerate() {
        let mut sum = Array1::<f64>::zeros(size * c);
        for (i, weight) in taps {
            sum.scaled_add(*weight, &narrow[*i]);
        }
        let sum = sum.into_shape_with_order((size, c)).expect("size * c elements");
        out.slice_mut(s![.., y, ..]).assign(&sum.t().mapv(|v| v as f32));
    }
    out
}

/// One row [w, c] combined along w: size * c values, channels innermost.
fn combine_row(row: &Array2<f32>, columns: &[Taps]) -> Array1<f64> {
    let channels = row.ncols();
    let sample = |taps: &Taps, c: usize| taps.iter().map(|(i, weight)| f64::from(row[[*i, c]]) * weight).sum();
    columns.iter().flat_map(|taps| (0..channels).map(move |c| sample(taps, c))).collect()
}

/// Blur and bicubic of one axis as taps on the input.
fn axis_taps(length: usize, size: usize) -> Vec<Taps> {
    let kernel = gaussian(length as f64 / size as f64);
    (0..size).map(|o| merge(bicubic(o, length, size).into_iter().flat_map(|(i, weight)| blurred(i, weight, &kernel, length)))).collect()
}

/// The Gaussian kernel, of odd length, summing to 1.
fn gaussian(factor: f64) -> Vec<f64> {
    let deviation = ((factor - 1.0) / 2.0).max(0.001);
    let taps = (4.0 * deviation).max(3.0) as usize | 1;
    let weight = |i: usize| {
        let x = i as f64 - (taps / 2) as f64;
        libm::exp(-x * x / (2.0 * deviation * deviation))
    };
    let sum: f64 = (0..taps).map(weight).sum();
    (0..taps).map(|i| weight(i) / sum).collect()
}

/// A tap on blurred sample `i` as taps on the samples under the kernel.
fn blurred(i: usize, weight: f64, kernel: &[f64], length: usize) -> impl Iterator<Item = (usize, f64)> {
    let first = i as isize - (kernel.len() / 2) as isize;
    kernel.iter().zip(first..).map(move |(k, j)| (mirror(j, length), k * weight))
}

/// The index that `i` mirrors, the edges not repeated: -1 is 1, length is length - 2.
fn mirror(i: isize, length: usize) -> usize {
    let last = length as isize - 1;
    let folded = i.rem_euclid((2 * last).max(1));
    folded.min(2 * last - folded).max(0) as usize
}

/// The four taps of cubic convolution (Keys 1981, a = -0.75) with the corners aligned.
fn bicubic(o: usize, length: usize, size: usize) -> Taps {
    const A: f64 = -0.75;
    let at = o as f64 * (length as f64 - 1.0) / (size as f64 - 1.0).max(1.0);
    let first = libm::floor(at);
    let weight = |d: f64| match d {
        d if d <= 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
        d if d < 2.0 => ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A,
        _ => 0.0,
    };
    (-1..=2)
        .map(|j| {
            let index = (first as isize + j).clamp(0, length as isize - 1);
            (index as usize, weight((at - first - j as f64).abs()))
        })
        .collect()
}

/// Adds up the taps on the same sample; ascending by index.
fn merge(taps: impl Iterator<Item = (usize, f64)>) -> Taps {
    let mut sums = std::collections::BTreeMap::new();
    for (i, weight) in taps {
        *sums.entry(i).or_insert(0.0) += weight;
    }
    sums.into_iter().collect()
}

/// Fraction bits of a fixed-point weight: 32, less 8 for the sample, less 2 for the sum and the sign.
const PRECISION: u32 = 32 - 8 - 2;

/// One output sample of the Lanczos resize: the first input sample and the fixed-point weights from there.
struct Window {
    first: usize,
    weights: Vec<i64>,
}

/// A picture u8 [h, w, c] resized to [height, width, c], within one level of what Pillow's `Image.resize` with `LANCZOS` gives. All lengths are at
/// least 1; an axis whose length stays is not touched.
pub fn lanczos(picture: ArrayView3<'_, u8>, height: usize, width: usize) -> Array3<u8> {
    let (h, w, _) = picture.dim();
    let narrow = if w == width { picture.to_owned() } else { lanczos_columns(picture, width) };
    if h == height { narrow } else { lanczos_rows(&narrow, height) }
}

fn lanczos_columns(picture: ArrayView3<'_, u8>, width: usize) -> Array3<u8> {
    let (h, w, channels) = picture.dim();
    let windows = windows(w, width);
    let mut out = Array3::zeros((h, width, channels));
    let rows: Vec<_> = out.axis_iter_mut(Axis(0)).zip(picture.axis_iter(Axis(0))).collect();
    rows.into_par_iter().for_each(|(mut to, from)| {
        for ((x, c), level) in to.indexed_iter_mut() {
            let window = &windows[x];
            *level = round(window.weights.iter().zip(window.first..).map(|(k, i)| k * i64::from(from[[i, c]])).sum());
        }
    });
    out
}

fn lanczos_rows(picture: &Array3<u8>, height: usize) -> Array3<u8> {
    let (h, w, channels) = picture.dim();
    let windows = windows(h, height);
    let mut out = Array3::zeros((height, w, channels));
    let rows: Vec<_> = out.axis_iter_mut(Axis(0)).zip(&windows).collect();
    rows.into_par_iter().for_each(|(mut to, window)| {
        let mut sums = Array2::<i64>::zeros((w, channels));
        for (k, y) in window.weights.iter().zip(window.first..) {
            ndarray::Zip::from(&mut sums).and(picture.index_axis(Axis(0), y)).for_each(|sum, v| *sum += k * i64::from(*v));
        }
        to.zip_mut_with(&sums, |level, sum| *level = round(*sum));
    });
    out
}

/// From fixed point to the nearest level.
fn round(sum: i64) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// The windows of an axis.
fn windows(length: usize, size: usize) -> Vec<Window> {
    let scale = length as f64 / size as f64;
    let stretch = scale.max(1.0);
    let support = 3.0 * stretch;
    (0..size)
        .map(|o| {
            let centre = (o as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(length);
            let weights: Vec<f64> = (first..end).map(|i| lanczos3((i as f64 - centre + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            Window { first, weights: weights.iter().map(|v| fixed(v / sum)).collect() }
        })
        .collect()
}

fn fixed(weight: f64) -> i64 {
    libm::round(weight * f64::from(1_u32 << PRECISION)) as i64
}

/// sinc(x) sinc(x / 3) for |x| < 3 (Duchon 1979).
fn lanczos3(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { libm::sin(PI * x) / (PI * x) };
    if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use ndarray::{Ix3, Ix4};

    use super::super::testing::{Reference, golden};
    use super::*;

    const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
    const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

    fn input(name: &str) -> Array3<u8> {
        golden::<u8>(&format!("in-{name}.npy")).into_dimensionality::<Ix3>().unwrap()
    }

    /// The golden files are made by `tools/golden/resize.py`.
    #[test]
    fn the_antialiased_bicubic_is_that_of_the_golden_files() {
        for (name, size) in [("37x53", 16), ("11x7", 14), ("40x41", 15), ("5x90", 12)] {
            let want = golden::<f32>(&format!("clip-{name}-{size}.npy")).into_dimensionality::<Ix4>().unwrap();
            let got = clip_preprocess(input(name).view(), size, MEAN, DEVIATION);
            let worst = (got - want).iter().fold(0.0_f32, |m, d| m.max(d.abs()));
            assert!(worst < 2e-6, "{name} to {size}: {worst}");
        }
    }

    #[test]
    fn lanczos_is_that_of_pillow() {
        for (name, h, w) in [
            ("37x53", 19, 24),
            ("37x53", 37, 20),
            ("37x53", 20, 53),
            ("11x7", 32, 20),
            ("11x7", 3, 21),
            ("40x41", 39, 42),
            ("5x90", 9, 31),
            ("5x90", 1, 1),
        ] {
            let want = golden::<u8>(&format!("lanczos-{name}-{h}x{w}.npy")).into_dimensionality::<Ix3>().unwrap();
            let got = lanczos(input(name).view(), h, w);
            let worst = got.iter().zip(&want).map(|(g, w)| g.abs_diff(*w)).max();
            assert_eq!(worst, Some(0), "{name} to {h}x{w}");
        }
    }

    #[test]
    fn an_equal_size_is_the_picture_itself() {
        assert_eq!(lanczos(input("37x53").view(), 37, 53), input("37x53"));
    }

    #[test]
    fn a_constant_stays_constant_at_every_size() {
        for (h, w, size) in [(1, 1, 1), (1, 9, 4), (2, 3, 7), (300, 5, 16)] {
            let grey = Array4::from_elem((2, 3, h, w), 0.25_f32);
            let got = resize_antialiased(grey.view(), size);
            assert_eq!(got.dim(), (2, 3, size, size));
            assert!(got.iter().all(|v| (v - 0.25).abs() < 1e-6), "{h}x{w} to {size}");
            let flat = lanczos(Array3::from_elem((h, w, 3), 77).view(), size, size);
            assert!(flat.iter().all(|v| *v == 77), "{h}x{w} to {size}");
        }
    }

    #[test]
    fn mirroring_does_not_repeat_the_edge() {
        let row: Vec<usize> = (-3..8).map(|i| mirror(i, 5)).collect();
        assert_eq!(row, [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]);
        assert_eq!((mirror(-1, 1), mirror(1, 1), mirror(-5, 2)), (0, 0, 1));
    }

    #[test]
    fn the_reference_input_of_the_image_encoder() {
        let Some(mut reference) = Reference::open("the_reference_input_of_the_image_encoder") else { return };
        let image = reference.read::<u8>("image").into_dimensionality::<Ix3>().unwrap();
        let want = reference.read::<f32>("clip_pixel_values").into_dimensionality::<Ix4>().unwrap();
        let got = clip_preprocess(image.view(), 224, MEAN, DEVIATION);
        assert!((got - want).iter().all(|d| d.abs() < 1e-5));
    }
}
