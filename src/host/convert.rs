//! 8-bit pictures to the tensors that models take, and back.

use ndarray::{Array4, ArrayView3, ArrayView4, Axis, Zip};
use rayon::prelude::*;

/// A picture u8 [height, width, 3] as f32 [1, 3, height, width] in [-1, 1]: x / 255 * 2 - 1, each operation rounded to f32.
pub fn picture_to_tensor(picture: ArrayView3<'_, u8>) -> Array4<f32> {
    let planar = picture.permuted_axes([2, 0, 1]);
    planar.mapv(|v| f32::from(v) / 255.0 * 2.0 - 1.0).as_standard_layout().into_owned().insert_axis(Axis(0))
}

/// Frames f32 [frames, 3, height, width] as u8 [frames, height, width, 3]: clamp(x / 2 + 0.5, 0, 1) * 255, ties to even.
///
/// A value that is not a number becomes 0; whoever must not let that pass in silence looks before.
pub fn frames_to_pictures(frames: ArrayView4<'_, f32>) -> Array4<u8> {
    let (f, c, h, w) = frames.dim();
    let mut out = Array4::zeros((f, h, w, c));
    let pairs: Vec<_> = out.outer_iter_mut().zip(frames.outer_iter()).collect();
    pairs.into_par_iter().for_each(|(picture, frame)| {
        Zip::from(picture).and(frame.permuted_axes([1, 2, 0])).for_each(|to, &from| *to = level(from));
    });
    out
}

fn level(x: f32) -> u8 {
    ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Ix3, Ix4};

    use super::super::testing::Reference;
    use super::*;

    #[test]
    fn a_picture_becomes_planar() {
        let picture = Array3::from_shape_vec((1, 2, 3), vec![0, 51, 255, 102, 0, 204]).unwrap();
        let want = [-1.0, -0.199_999_99, -0.6, -1.0, 1.0, 0.6];
        let got = picture_to_tensor(picture.view());
        assert_eq!(got.dim(), (1, 3, 1, 2));
        assert!(got.is_standard_layout());
        assert!(got.iter().zip(want).all(|(g, w): (&f32, f32)| (g - w).abs() < 1e-7), "{got}");
    }

    #[test]
    fn every_level_survives_the_way_there_and_back() {
        let picture = Array3::from_shape_fn((16, 16, 3), |(y, x, c)| (y * 16 + x + 85 * c) as u8);
        let back = frames_to_pictures(picture_to_tensor(picture.view()).view());
        assert_eq!(back.index_axis(Axis(0), 0), picture);
    }

    #[test]
    fn levels_clamp_and_round_to_even() {
        let check = |x: f32, want: u8| assert_eq!(level(x), want, "{x}");
        check(-7.0, 0);
        check(7.0, 255);
        check(0.0, 128); // 127.5 is a tie
        check(f32::from_bits(0xBF7E_FEFF), 0); // just under half a level
        check(f32::INFINITY, 255);
        check(f32::NEG_INFINITY, 0);
        check(f32::NAN, 0);
    }

    #[test]
    fn the_reference_input_of_the_encoder() {
        let Some(mut reference) = Reference::open("the_reference_input_of_the_encoder") else { return };
        let image = reference.read::<u8>("image").into_dimensionality::<Ix3>().unwrap();
        let noise = reference.read::<f32>("noise_aug_noise").into_dimensionality::<Ix4>().unwrap();
        let want = reference.read::<f32>("vae_input").into_dimensionality::<Ix4>().unwrap();
        let got = picture_to_tensor(image.view()) + noise * 0.02;
        assert!((got - want).iter().all(|d| d.abs() < 3e-7));
    }
}
