//! Test footage made of numbers: nine scenarios that each exercise one thing, and camera moves over still pictures.
//!
//! A frame is a function of the scenario, the seed, its index and the size, and has the same bytes on every machine: all arithmetic is IEEE f64
//! without fused operations, and transcendental functions come from the pure-Rust `libm`. Tests hold the hashes.
//!
//! | file | what |
//! | --- | --- |
//! | `synthetic` | the nine scenarios |
//! | `camera` | pan, tilt, zoom and shake over a picture, with easing |
//! | `texture` | the value noise that both look at where there is no picture |

#![expect(clippy::needless_pass_by_value, reason = "a view is a reference already")]

mod camera;
mod random;
mod synthetic;
mod texture;

pub use camera::{Easing, Move, MoveKind};
pub use random::SplitMix64;
pub use synthetic::Scenario;
pub use texture::Texture;

use ndarray::Array4;
use rayon::prelude::*;

/// 8-bit RGB frames, [frames, height, width, 3].
pub type Clip = Array4<u8>;

/// What a clip measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Frames, at least 1.
    pub frames: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// A clip whose pixel in frame `t`, row `y`, column `x` has the colour `colour(t, y, x)`, 0 to 1 a channel.
fn render(size: Size, colour: impl Fn(usize, usize, usize) -> [f64; 3] + Sync) -> Clip {
    let mut clip = Clip::zeros((size.frames, size.height, size.width, 3));
    let row = (size.width * 3).max(1);
    let bytes = clip.as_slice_mut().expect("a fresh array is contiguous");
    bytes.par_chunks_mut(row).enumerate().for_each(|(at, line)| {
        let (t, y) = (at / size.height, at % size.height);
        for (x, pixel) in line.as_chunks_mut().0.iter_mut().enumerate() {
            *pixel = colour(t, y, x).map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
        }
    });
    clip
}

#[cfg(test)]
mod tests;
