//! Camera moves over a still picture: where the view is in each frame, and what it sees.

use std::f64::consts::TAU;

use libm::{pow, sin};
use ndarray::ArrayView3;

use super::texture::smoothstep;
use super::{Clip, Size, SplitMix64, render};

/// What the camera does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MoveKind {
    /// It rests.
    Still,
    /// It goes left or right.
    Pan,
    /// It goes up or down.
    Tilt,
    /// It goes in or out.
    Zoom,
    /// It is held by a hand.
    Shake,
}

impl MoveKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Still, Self::Pan, Self::Tilt, Self::Zoom, Self::Shake];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::Pan => "pan",
            Self::Tilt => "tilt",
            Self::Zoom => "zoom",
            Self::Shake => "shake",
        }
    }
}

/// How a move begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Easing {
    /// At one speed throughout.
    Linear,
    /// From rest to rest, 3t² - 2t³.
    InOut,
    /// At full speed, then to rest, 1 - (1 - t)².
    Out,
}

impl Easing {
    const ALL: [Self; 3] = [Self::Linear, Self::InOut, Self::Out];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::InOut => "in-out",
            Self::Out => "out",
        }
    }

    /// The part of the way done at `t` of the time, both 0 to 1.
    fn at(self, t: f64) -> f64 {
        match self {
            Self::Linear => t,
            Self::InOut => smoothstep(t),
            Self::Out => 1.0 - (1.0 - t) * (1.0 - t),
        }
    }
}

/// A move of the camera. Lengths in the picture are in its pixels, lengths on the screen in pixels of the clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// What it is called.
    pub kind: MoveKind,
    /// How it begins and ends.
    pub easing: Easing,
    /// The picture is seen with left and right exchanged.
    pub mirrored: bool,
    /// The middle of the first view in the picture, x and y.
    pub centre: [f64; 2],
    /// Pixels of the picture to a pixel of the clip in the first frame.
    pub scale: f64,
    /// Way of the camera to the right over the clip, on the screen of the first frame.
    pub right: f64,
    /// Its way down.
    pub down: f64,
    /// Magnification of the last frame against the first.
    pub zoom: f64,
    /// Most that the hand strays in each direction, on the screen.
    pub shake: f64,
    /// Phases of the two swings of the hand in x and in y, in turns.
    phases: [f64; 4],
}

impl Move {
    /// A move of `kind` over a picture of `width` x `height`, whose views all lie inside of it. A picture too small for that is seen magnified.
    pub fn draw(kind: MoveKind, random: &mut SplitMix64, (width, height): (usize, usize), size: Size) -> Self {
        let gaps = size.frames.max(2) as f64 - 1.0;
        let (speed, sign) = (random.between(0.5, 4.0), if random.unit() < 0.5 { -1.0 } else { 1.0 });
        let ratio = random.between(1.1, 1.7);
        let shake = random.between(1.0, 4.0);
        let mut drawn = Self {
            kind,
            easing: Easing::ALL[random.below(Easing::ALL.len())],
            mirrored: random.unit() < 0.5,
            centre: [0.0; 2],
            scale: 1.0,
            right: if kind == MoveKind::Pan { sign * speed * gaps } else { 0.0 },
            down: if kind == MoveKind::Tilt { sign * speed * gaps } else { 0.0 },
            zoom: if kind == MoveKind::Zoom { pow(ratio, sign) } else { 1.0 },
            shake: if kind == MoveKind::Shake { shake } else { 0.0 },
            phases: [random.unit(), random.unit(), random.unit(), random.unit()],
        };
        drawn.place(random, [width as f64, height as f64], [size.width as f64, size.height as f64]);
        drawn
    }

    /// Chooses how large the views are and where they begin.
    fn place(&mut self, random: &mut SplitMix64, picture: [f64; 2], screen: [f64; 2]) {
        let way = [self.right, self.down];
        // What all views together cover, in pixels of the first one's screen.
        let cover = [0, 1].map(|a| (screen[a] + 2.0 * self.shake) / self.zoom.min(1.0) + way[a].abs());
        let largest = (picture[0] / cover[0]).min(picture[1] / cover[1]);
        self.scale = largest * random.between(0.45, 1.0);
        self.centre = [0, 1].map(|a| {
            let slack = picture[a] - cover[a] * self.scale;
            let first = (cover[a] - way[a].abs()) / 2.0 + (-way[a]).max(0.0);
            first * self.scale + slack * random.unit()
        });
    }

    /// The middle of the view in frame `t` of `frames`, and the pixels of the picture to one of the clip.
    pub(super) fn view(&self, t: usize, frames: usize) -> ([f64; 2], f64) {
        let done = self.easing.at(t as f64 / (frames.max(2) - 1) as f64);
        // A hand swings slowly and trembles quickly; both have no whole number of turns in a clip.
        let swing = |slow: f64, quick: f64| 0.7 * sin(TAU * (0.11 * t as f64 + slow)) + 0.3 * sin(TAU * (0.29 * t as f64 + quick));
        let stray = [swing(self.phases[0], self.phases[1]), swing(self.phases[2], self.phases[3])];
        let way = [self.right, self.down];
        let centre = [0, 1].map(|a| self.centre[a] + self.scale * (way[a] * done + self.shake * stray[a]));
        (centre, self.scale / pow(self.zoom, done))
    }

    /// What it sees of `picture`, u8 [height, width, 3].
    pub fn film(&self, picture: ArrayView3<'_, u8>, size: Size) -> Clip {
        let views: Vec<_> = (0..size.frames).map(|t| self.view(t, size.frames)).collect();
        let (width, height) = (picture.dim().1 as f64, picture.dim().0 as f64);
        render(size, |t, y, x| {
            let (centre, scale) = views[t];
            let offset = [x as f64 + 0.5 - size.width as f64 / 2.0, y as f64 + 0.5 - size.height as f64 / 2.0];
            let seen = [0, 1].map(|a| centre[a] + offset[a] * scale);
            let x = if self.mirrored { width - seen[0] } else { seen[0] };
            area(picture, [x, seen[1]], scale, [width, height])
        })
    }
}

/// The mean colour of a square with side `scale` around a point of the picture: as many samples a side as it has pixels, so that a view from afar
/// does not flicker.
fn area(picture: ArrayView3<'_, u8>, middle: [f64; 2], scale: f64, whole: [f64; 2]) -> [f64; 3] {
    let samples = scale.ceil().max(1.0);
    let mut sum = [0.0; 3];
    for j in 0..samples as usize {
        for i in 0..samples as usize {
            let offset = |k: usize| ((k as f64 + 0.5) / samples - 0.5) * scale;
            let colour = between(picture, middle[0] + offset(i), middle[1] + offset(j), whole);
            sum = [0, 1, 2].map(|c| sum[c] + colour[c]);
        }
    }
    sum.map(|v| v / (samples * samples * 255.0))
}

/// The colour at a point, linear between the middles of the four pixels around it; the outermost pixels go on beyond the edges.
fn between(picture: ArrayView3<'_, u8>, x: f64, y: f64, [width, height]: [f64; 2]) -> [f64; 3] {
    let (x, y) = ((x - 0.5).clamp(0.0, width - 1.0), (y - 0.5).clamp(0.0, height - 1.0));
    let (l, t) = (x.floor(), y.floor());
    let (u, v) = (x - l, y - t);
    let (r, b) = ((l + 1.0).min(width - 1.0) as usize, (t + 1.0).min(height - 1.0) as usize);
    let (l, t) = (l as usize, t as usize);
    [0, 1, 2].map(|c| {
        let at = |row: usize, column: usize| f64::from(picture[[row, column, c]]);
        let top = at(t, l) + (at(t, r) - at(t, l)) * u;
        let bottom = at(b, l) + (at(b, r) - at(b, l)) * u;
        top + (bottom - top) * v
    })
}
