//! Value noise: a surface with detail at several scales, endless in every direction.

use super::SplitMix64;

/// Points of the lattice on a side; the surface repeats after so many.
const SIDE: usize = 64;

/// Pixels between two lattice points of the coarsest octave.
const COARSEST: f64 = 64.0;

/// Octaves, each with half the period and half the strength of the one before.
const OCTAVES: usize = 5;

/// What the sum of the octaves, which gathers around its middle, is stretched by.
const GAIN: f64 = 1.6;

/// The surface of a seed: a colour at every point.
#[derive(Clone, Debug)]
pub struct Texture {
    /// [`SIDE`] x [`SIDE`] colours, each channel uniform in [0, 1).
    lattice: Vec<[f64; 3]>,
}

impl Texture {
    /// The surface of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        Self { lattice: (0..SIDE * SIDE).map(|_| [random.unit(), random.unit(), random.unit()]).collect() }
    }

    /// The colour at (`x`, `y`) pixels, 0 to 1 a channel.
    pub fn at(&self, x: f64, y: f64) -> [f64; 3] {
        let (mut sum, mut whole) = ([0.0; 3], 0.0);
        let (mut step, mut strength) = (1.0 / COARSEST, 1.0);
        for _ in 0..OCTAVES {
            let value = self.octave(x * step, y * step);
            sum = [0, 1, 2].map(|c| sum[c] + strength * value[c]);
            whole += strength;
            step *= 2.0;
            strength *= 0.5;
        }
        sum.map(|v| ((v / whole - 0.5) * GAIN + 0.5).clamp(0.0, 1.0))
    }

    /// Between the four lattice points around (`x`, `y`), blended by smoothstep.
    fn octave(&self, x: f64, y: f64) -> [f64; 3] {
        let (left, top) = (x.floor(), y.floor());
        let (u, v) = (smoothstep(x - left), smoothstep(y - top));
        let wrap = |at: f64| at.rem_euclid(SIDE as f64) as usize;
        let (l, t) = (wrap(left), wrap(top));
        let (r, b) = ((l + 1) % SIDE, (t + 1) % SIDE);
        let point = |row: usize, column: usize| self.lattice[row * SIDE + column];
        let (tl, tr, bl, br) = (point(t, l), point(t, r), point(b, l), point(b, r));
        [0, 1, 2].map(|c| {
            let top = tl[c] + (tr[c] - tl[c]) * u;
            let bottom = bl[c] + (br[c] - bl[c]) * u;
            top + (bottom - top) * v
        })
    }
}

/// 3t² - 2t³: from 0 to 1 with no slope at both ends.
pub(super) fn smoothstep(t: f64) -> f64 {
    t * t * (3.0 - 2.0 * t)
}
