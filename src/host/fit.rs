//! Makes the aspect ratio of a picture that of the video, before the resize that makes the size equal.

use ndarray::{Array3, ArrayView3, s};
use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Result};

/// What to do with a picture whose aspect ratio is not that of the video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Nothing: the resize will stretch it.
    #[default]
    Stretch,
    /// Cut the longer side, evenly at both ends, to the aspect ratio of the video.
    Crop,
    /// Add black, evenly, above and below or left and right.
    Pad,
}

impl Fit {
    /// The names that users write.
    pub const NAMES: [&'static str; 3] = ["stretch", "crop", "pad"];

    /// The answer that a name stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Stretch, Self::Crop, Self::Pad];
        Self::NAMES.iter().position(|n| *n == name).map(|i| all[i])
    }

    /// The name that users write.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Most pixels that padding may make: those of the largest picture that is read.
const MAX_PIXELS: u128 = 16_384 * 16_384;

/// A picture u8 [h, w, 3] with the aspect ratio of `height` to `width` (not the size: the resize follows). Lengths are rounded to
/// the nearest pixel and are at least 1; of an odd surplus, the larger half is at the bottom or at the right.
///
/// # Errors
/// `media/picture-too-large` if padding would make more than 16384 x 16384 pixels.
pub fn fit(picture: ArrayView3<'_, u8>, height: usize, width: usize, how: Fit) -> Result<Array3<u8>> {
    let (h, w, _) = picture.dim();
    let wide = w as u128 * height as u128 > h as u128 * width as u128;
    match (how, wide) {
        (Fit::Stretch, _) => Ok(picture.to_owned()),
        (Fit::Crop, true) => Ok(crop(picture, h, scaled(h, width, height) as usize)),
        (Fit::Crop, false) => Ok(crop(picture, scaled(w, height, width) as usize, w)),
        (Fit::Pad, true) => pad(picture, scaled(w, height, width), w as u128),
        (Fit::Pad, false) => pad(picture, h as u128, scaled(h, width, height)),
    }
}

/// length * numerator / denominator, to the nearest, at least 1.
fn scaled(length: usize, numerator: usize, denominator: usize) -> u128 {
    let denominator = (denominator as u128).max(1);
    ((length as u128 * numerator as u128 + denominator / 2) / denominator).max(1)
}

fn crop(picture: ArrayView3<'_, u8>, height: usize, width: usize) -> Array3<u8> {
    let (h, w, _) = picture.dim();
    let (height, width) = (height.min(h), width.min(w));
    let (top, left) = ((h - height) / 2, (w - width) / 2);
    picture.slice(s![top..top + height, left..left + width, ..]).to_owned()
}

fn pad(picture: ArrayView3<'_, u8>, height: u128, width: u128) -> Result<Array3<u8>> {
    let (h, w, channels) = picture.dim();
    if height.saturating_mul(width) > MAX_PIXELS {
        let message = format!("padding a picture of {w}x{h} pixels to the shape of the video would make {width}x{height}");
        return Err(Diagnostic::new("media/picture-too-large", message).help("use `--fit crop`, or a picture of a similar shape").into());
    }
    let (height, width) = ((height as usize).max(h), (width as usize).max(w));
    let (top, left) = ((height - h) / 2, (width - w) / 2);
    let mut out = Array3::zeros((height, width, channels));
    out.slice_mut(s![top..top + h, left..left + w, ..]).assign(&picture);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result's size and where the picture's first pixel (value 1) and last pixel (value 9) are.
    fn check(from: (usize, usize), to: (usize, usize), how: Fit, size: (usize, usize), ends: [Option<(usize, usize)>; 2]) {
        let mut picture = Array3::from_elem((from.0, from.1, 3), 5);
        picture.slice_mut(s![0, 0, ..]).fill(1);
        picture.slice_mut(s![from.0 - 1, from.1 - 1, ..]).fill(9);
        let got = fit(picture.view(), to.0, to.1, how).unwrap();
        assert_eq!((got.dim().0, got.dim().1), size, "{from:?} {to:?} {how:?}");
        let find = |value| got.indexed_iter().find(|(_, v)| **v == value).map(|((y, x, _), _)| (y, x));
        assert_eq!([find(1), find(9)], ends, "{from:?} {to:?} {how:?}");
    }

    #[test]
    fn stretch_keeps_the_picture() {
        check((4, 6), (9, 5), Fit::Stretch, (4, 6), [Some((0, 0)), Some((3, 5))]);
    }

    #[test]
    fn crop_takes_the_centre() {
        check((4, 10), (2, 2), Fit::Crop, (4, 4), [None, None]);
        check((10, 4), (2, 2), Fit::Crop, (4, 4), [None, None]);
        check((4, 8), (8, 16), Fit::Crop, (4, 8), [Some((0, 0)), Some((3, 7))]);
        check((3, 3), (1, 1000), Fit::Crop, (1, 3), [None, None]);
    }

    #[test]
    fn pad_adds_black_on_both_sides() {
        check((4, 10), (2, 2), Fit::Pad, (10, 10), [Some((3, 0)), Some((6, 9))]);
        check((5, 4), (2, 4), Fit::Pad, (5, 10), [Some((0, 3)), Some((4, 6))]);
    }

    #[test]
    fn padding_is_bounded() {
        let line = Array3::zeros((1, 16_384, 3));
        let error = fit(line.view(), 1000, 10, Fit::Pad).unwrap_err();
        assert_eq!(error.code, "media/picture-too-large");
        assert!(error.message.contains("16384x1638400"), "{error}");
    }

    #[test]
    fn names_and_answers_go_together() {
        for name in Fit::NAMES {
            assert_eq!(Fit::from_name(name).map(Fit::name), Some(name));
        }
        assert_eq!(Fit::from_name("zoom"), None);
        assert_eq!(Fit::default(), Fit::Stretch);
    }
}
