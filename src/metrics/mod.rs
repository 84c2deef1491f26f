//! Distances between tensors and between videos: arithmetic on arrays; runs no network.
//!
//! Everything is summed in f64, in one order. The two arrays have one shape (a mismatch is a bug and panics), and what is not a number
//! in either of them is not a number in the result: a broken tensor never looks close.

#![expect(clippy::needless_pass_by_value, reason = "a view is a reference already")]

use ndarray::{ArrayView, ArrayView4, Axis, Dimension, Zip};

/// ||a - b|| / ||b||, `b` being the reference. Against a zero reference: 0 if equal, else infinite.
pub fn relative_l2<T: Copy + Into<f64>, D: Dimension>(a: ArrayView<'_, T, D>, b: ArrayView<'_, T, D>) -> f64 {
    relative_l2_above(a, b, 0.0)
}

/// The same against a reference that may be close to zero: one whose root mean square is below `floor` counts as one of `floor`.
pub fn relative_l2_above<T: Copy + Into<f64>, D: Dimension>(a: ArrayView<'_, T, D>, b: ArrayView<'_, T, D>, floor: f64) -> f64 {
    let difference = squared_distance(a, b.view());
    let norm = b.fold(0.0, |sum: f64, y| sum + (*y).into() * (*y).into());
    let least = floor * floor * b.len() as f64;
    // Not `f64::max`: a norm that is no number must stay one.
    let norm = if norm < least { least } else { norm };
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

/// Peak signal-to-noise ratio in dB: 10 lg(peak^2 / mean squared error). Infinite for equal arrays. `peak` is the span of the values: 255 for
/// 8-bit pictures, 1 for [0, 1], 2 for [-1, 1].
pub fn psnr<T: Copy + Into<f64>, D: Dimension>(a: ArrayView<'_, T, D>, b: ArrayView<'_, T, D>, peak: f64) -> f64 {
    let count = b.len().max(1) as f64;
    10.0 * (peak * peak * count / squared_distance(a, b)).log10()
}

/// The largest |a - b|; 0 of empty arrays.
pub fn max_abs<T: Copy + Into<f64>, D: Dimension>(a: ArrayView<'_, T, D>, b: ArrayView<'_, T, D>) -> f64 {
    Zip::from(a).and(b).fold(0.0, |worst: f64, &x, &y| {
        let d = (x.into() - y.into()).abs();
        if d > worst || d.is_nan() { d } else { worst }
    })
}

/// How much a video moves: mean |f(t+1) - f(t)| / 255 over all frames, rows, columns and channels of u8 [frames, height, width, channels].
/// 0 of fewer than two frames.
pub fn frame_difference(frames: ArrayView4<'_, u8>) -> f64 {
    let gaps = frames.len_of(Axis(0)).saturating_sub(1);
    let (earlier, later) =
        (frames.slice_axis(Axis(0), (..gaps).into()), frames.slice_axis(Axis(0), (frames.len_of(Axis(0)) - gaps..).into()));
    let sum = Zip::from(earlier).and(later).fold(0_u64, |sum, a, b| sum + u64::from(a.abs_diff(*b)));
    sum as f64 / (earlier.len().max(1) as f64 * 255.0)
}

fn squared_distance<T: Copy + Into<f64>, D: Dimension>(a: ArrayView<'_, T, D>, b: ArrayView<'_, T, D>) -> f64 {
    Zip::from(a).and(b).fold(0.0, |sum, &x, &y| {
        let d = x.into() - y.into();
        sum + d * d
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, array};

    use super::*;

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12 * want.abs().max(1.0), "{got} is not {want}");
    }

    #[test]
    fn closed_forms() {
        let (a, b) = (array![[3.0_f32, 4.0]], array![[0.0_f32, 5.0]]);
        close(relative_l2(a.view(), b.view()), 10.0_f64.sqrt() / 5.0);
        close(max_abs(a.view(), b.view()), 3.0);
        // A constant error of one level on 8-bit pictures is 48.1308 dB in every textbook.
        let (p, q) = (Array2::from_elem((4, 4), 100_u8), Array2::from_elem((4, 4), 101_u8));
        assert!((psnr(p.view(), q.view(), 255.0) - 48.130_803_608_679_1).abs() < 1e-9);
    }

    #[test]
    fn frames_differ_by_their_mean_step() {
        // Three frames of two pixels: steps of 10 and 0, then of 20 and 30, so 15 on average.
        let frames = ndarray::Array4::from_shape_vec((3, 1, 2, 1), vec![0, 50, 10, 50, 30, 20]).unwrap();
        close(frame_difference(frames.view()), 15.0 / 255.0);
        close(frame_difference(frames.slice(ndarray::s![..1, .., .., ..])), 0.0);
        close(frame_difference(frames.slice(ndarray::s![..0, .., .., ..])), 0.0);
    }

    #[test]
    fn equal_arrays_are_at_no_distance() {
        let a = array![0.5_f64, -1.0];
        close(relative_l2(a.view(), a.view()), 0.0);
        assert!(psnr(a.view(), a.view(), 1.0).is_infinite());
        let zero = Array1::<f32>::zeros(3);
        close(relative_l2(zero.view(), zero.view()), 0.0);
        assert!(relative_l2(Array1::from_elem(3, 1.0_f32).view(), zero.view()).is_infinite());
        close(relative_l2_above(Array1::from_elem(3, 1.0_f32).view(), zero.view(), 0.5), 2.0);
    }

    #[test]
    fn what_is_not_a_number_never_looks_close() {
        let (a, b) = (array![f32::NAN, 0.0], array![1.0_f32, 0.0]);
        for (x, y) in [(&a, &b), (&b, &a)] {
            assert!(relative_l2(x.view(), y.view()).is_nan());
            assert!(psnr(x.view(), y.view(), 1.0).is_nan());
            assert!(max_abs(x.view(), y.view()).is_nan());
        }
    }
}
