//! How far a tensor moved: the number by which a step decides whether what an earlier step computed still does.

use ndarray::ArrayViewD;

/// The L1 distance of `to` from `from` relative to `from`: Σ|to − from| / Σ|from|, by which `TeaCache` (Liu et al. 2024)
/// judges the inputs of two steps. Both have one shape. Sums are in f64, in the order of the elements. 0 where both sums are 0,
/// infinite where only `from` is 0; no number where either tensor holds one that is none, or infinities.
pub fn relative(from: ArrayViewD<'_, f32>, to: ArrayViewD<'_, f32>) -> f32 {
    let (mut moved, mut size) = (0.0_f64, 0.0_f64);
    for (from, to) in from.iter().zip(to.iter()) {
        moved += (f64::from(*to) - f64::from(*from)).abs();
        size += f64::from(*from).abs();
    }
    if moved == 0.0 && size == 0.0 { 0.0 } else { (moved / size) as f32 }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};
    use proptest::prelude::*;

    use super::*;

    fn check(from: &[f32], to: &[f32], want: f32) {
        let tensor = |x: &[f32]| ArrayD::from_shape_vec(IxDyn(&[x.len()]), x.to_vec()).unwrap();
        let got = relative(tensor(from).view(), tensor(to).view());
        assert!(got == want || (got.is_nan() && want.is_nan()), "{from:?} {to:?}: {got}, not {want}");
    }

    #[test]
    fn golden_values() {
        check(&[1.0, -2.0, 3.0], &[1.5, -1.0, 3.0], 0.25);
        check(&[4.0, 4.0], &[4.0, 4.0], 0.0);
        check(&[0.0, 0.0], &[0.0, -0.0], 0.0);
        check(&[0.0, 0.0], &[0.0, 1e-30], f32::INFINITY);
        check(&[f32::NAN, 1.0], &[1.0, 1.0], f32::NAN);
        check(&[1.0, 1.0], &[f32::NAN, 1.0], f32::NAN);
        // Sums beyond f32 are still sums.
        check(&[f32::MAX, f32::MAX], &[f32::MAX, -f32::MAX], 1.0);
    }

    /// A distance below what a sum in f32 could tell from 0: 2^24 elements of 1, of which one moves by 1/2.
    #[test]
    fn a_small_move_of_a_large_tensor_counts() {
        let from = ArrayD::<f32>::ones(IxDyn(&[1 << 12, 1 << 12]));
        let mut to = from.clone();
        to[[4095, 4095]] = 1.5;
        assert_eq!(relative(from.view(), to.view()), 0.5 / 16_777_216.0);
    }

    proptest! {
        /// Exact in whole numbers: both sums as integers.
        #[test]
        fn whole_numbers_agree_with_integers(pairs in proptest::collection::vec((-1000_i32..1000, -1000_i32..1000), 1..60), turn: bool) {
            let column = |f: fn(&(i32, i32)) -> i32| {
                let values: Vec<f32> = pairs.iter().map(|p| f(p) as f32).collect();
                let x = ArrayD::from_shape_vec(IxDyn(&[pairs.len(), 1]), values).unwrap();
                if turn { x.reversed_axes() } else { x }
            };
            let moved: i64 = pairs.iter().map(|(a, b)| i64::from(a.abs_diff(*b))).sum();
            let size: i64 = pairs.iter().map(|(a, _)| i64::from(a.unsigned_abs())).sum();
            let got = relative(column(|p| p.0).view(), column(|p| p.1).view());
            let want = match (moved, size) {
                (0, 0) => 0.0,
                (_, 0) => f32::INFINITY,
                _ => (moved as f64 / size as f64) as f32,
            };
            prop_assert_eq!(got, want);
        }
    }
}
