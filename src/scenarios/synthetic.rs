//! The nine scenarios: what changes from frame to frame, and how much, is known in each.

use std::f64::consts::TAU;

use libm::{cos, exp2, log2, sin, sqrt};

use super::{Clip, Size, SplitMix64, Texture, render};
use crate::host::noise;

/// A kind of footage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scenario {
    /// Nothing changes: what a cache can save at most.
    Static,
    /// [`Scenario::Static`] with normal noise of 4 levels in each frame: flicker without motion.
    Noise,
    /// Four discs that move at up to 6 pixels a frame over a resting ground: local motion, occlusion.
    Shapes,
    /// The camera goes right by 2 pixels a frame.
    Pan,
    /// The camera goes in by 3 % a frame.
    Zoom,
    /// Brightness swings by a quarter over 8 frames; nothing moves.
    Flash,
    /// The camera goes right by 12 pixels a frame.
    FastPan,
    /// Every pixel swings by up to 18 pixels: the worst case for what reuses features.
    Warp,
    /// [`Scenario::Pan`] over another ground every 6 frames.
    Cut,
}

impl Scenario {
    /// All of them, calm ones first.
    pub const ALL: [Self; 9] =
        [Self::Static, Self::Noise, Self::Shapes, Self::Pan, Self::Zoom, Self::Flash, Self::FastPan, Self::Warp, Self::Cut];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Noise => "noise",
            Self::Shapes => "shapes",
            Self::Pan => "pan",
            Self::Zoom => "zoom",
            Self::Flash => "flash",
            Self::FastPan => "fast-pan",
            Self::Warp => "warp",
            Self::Cut => "cut",
        }
    }

    /// Its frames.
    pub fn clip(self, seed: u64, size: Size) -> Clip {
        let ground = Texture::new(seed);
        let still = |x: f64, y: f64| ground.at(x, y);
        match self {
            Self::Static => render(size, |_, y, x| still(x as f64, y as f64)),
            Self::Noise => noisy(&ground, seed, size),
            Self::Shapes => shapes(&ground, seed, size),
            Self::Pan => render(size, |t, y, x| still(x as f64 + SLOW * t as f64, y as f64)),
            Self::FastPan => render(size, |t, y, x| still(x as f64 + FAST * t as f64, y as f64)),
            Self::Zoom => zoom(&ground, size),
            Self::Flash => render(size, |t, y, x| still(x as f64, y as f64).map(|v| v * (1.0 + 0.25 * sin(TAU * t as f64 / 8.0)))),
            Self::Warp => render(size, |t, y, x| warped(&ground, t as f64, y as f64, x as f64)),
            Self::Cut => cut(seed, size),
        }
    }
}

/// Pixels a frame of [`Scenario::Pan`].
const SLOW: f64 = 2.0;

/// Pixels a frame of [`Scenario::FastPan`].
const FAST: f64 = 12.0;

/// Standard deviation of [`Scenario::Noise`], in levels of 255.
const NOISE: f64 = 4.0;

fn noisy(ground: &Texture, seed: u64, size: Size) -> Clip {
    let noise = noise::normal(seed, "sensor", &[size.frames, size.height, size.width, 3]);
    render(size, |t, y, x| {
        let colour = ground.at(x as f64, y as f64);
        [0, 1, 2].map(|c| colour[c] + NOISE / 255.0 * f64::from(noise[[t, y, x, c]]))
    })
}

/// Magnification by 1.03 a frame around the middle.
fn zoom(ground: &Texture, size: Size) -> Clip {
    let middle = [size.width as f64 / 2.0, size.height as f64 / 2.0];
    let rate = log2(1.03);
    render(size, |t, y, x| {
        let scale = exp2(-rate * t as f64);
        ground.at(middle[0] + (x as f64 - middle[0]) * scale, middle[1] + (y as f64 - middle[1]) * scale)
    })
}

/// A wave of 18 pixels runs through rows and another through columns.
fn warped(ground: &Texture, t: f64, y: f64, x: f64) -> [f64; 3] {
    const REACH: f64 = 18.0;
    const WAVE: f64 = 64.0;
    ground.at(x + REACH * sin(TAU * (y / WAVE + t / 5.0)), y + REACH * sin(TAU * (x / WAVE + t / 7.0)))
}

fn cut(seed: u64, size: Size) -> Clip {
    const SHOT: usize = 6;
    let grounds: Vec<Texture> = (0..size.frames.div_ceil(SHOT) as u64).map(|shot| Texture::new(seed.wrapping_add(shot << 32))).collect();
    render(size, |t, y, x| grounds[t / SHOT].at(x as f64 + SLOW * t as f64, y as f64))
}

/// A disc that moves in a straight line and comes back from the edges.
struct Disc {
    centre: [f64; 2],
    speed: [f64; 2],
    radius: f64,
    colour: [f64; 3],
}

impl Disc {
    fn new(random: &mut SplitMix64, size: Size) -> Self {
        let centre = [random.unit() * size.width as f64, random.unit() * size.height as f64];
        let (speed, angle) = (random.between(2.0, 6.0), TAU * random.unit());
        let radius = random.between(0.05, 0.12) * size.width.min(size.height) as f64;
        let colour = [random.unit(), random.unit(), random.unit()];
        Self { centre, speed: [speed * cos(angle), speed * sin(angle)], radius, colour }
    }

    /// How much of the pixel around (`x`, `y`) it covers in frame `t`: 1 inside, 0 outside, between on its edge.
    fn cover(&self, t: f64, y: f64, x: f64, size: Size) -> f64 {
        let dx = x - bounced(self.centre[0] + self.speed[0] * t, size.width as f64);
        let dy = y - bounced(self.centre[1] + self.speed[1] * t, size.height as f64);
        (self.radius - sqrt(dx * dx + dy * dy) + 0.5).clamp(0.0, 1.0)
    }
}

/// Where a point is that flies to `at` between mirrors at 0 and `length`.
fn bounced(at: f64, length: f64) -> f64 {
    let folded = at.rem_euclid(2.0 * length);
    folded.min(2.0 * length - folded)
}

fn shapes(ground: &Texture, seed: u64, size: Size) -> Clip {
    let mut random = SplitMix64::new(!seed);
    let discs: Vec<Disc> = (0..4).map(|_| Disc::new(&mut random, size)).collect();
    render(size, |t, y, x| {
        discs.iter().fold(ground.at(x as f64, y as f64), |under, disc| {
            let cover = disc.cover(t as f64, y as f64, x as f64, size);
            [0, 1, 2].map(|c| under[c] + (disc.colour[c] - under[c]) * cover)
        })
    })
}
