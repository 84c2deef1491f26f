//! Hashes, closed forms, and the figures of an independent program.

use ndarray::{Array3, s};
use sha2::{Digest, Sha256};

use super::*;
use crate::metrics::frame_difference;

const SMALL: Size = Size { frames: 8, height: 48, width: 64 };

fn hash(clip: &Clip) -> String {
    let digest = Sha256::digest(clip.as_slice().unwrap());
    format!("{:016x}", u64::from_be_bytes(digest[..8].try_into().unwrap()))
}

/// The bytes of every scenario are the same on every machine, for good: results name seeds.
#[test]
fn frames_are_the_same_everywhere() {
    let lines: Vec<String> = Scenario::ALL.iter().map(|s| format!("{:8} {}", s.name(), hash(&s.clip(7, SMALL)))).collect();
    insta::assert_snapshot!("scenarios", lines.join("\n"));
    let picture = ground(300, 200);
    let film = |kind: MoveKind| Move::draw(kind, &mut SplitMix64::new(5), (300, 200), SMALL).film(picture.view(), SMALL);
    let lines: Vec<String> = MoveKind::ALL.iter().map(|k| format!("{:8} {}", k.name(), hash(&film(*k)))).collect();
    insta::assert_snapshot!("camera", lines.join("\n"));
}

/// A texture as a picture.
fn ground(width: usize, height: usize) -> Array3<u8> {
    let texture = Texture::new(3);
    Array3::from_shape_fn((height, width, 3), |(y, x, c)| (texture.at(x as f64, y as f64)[c] * 255.0) as u8)
}

/// Mean frame differences of 16 frames of 256x256, seeds 1 to 3, as an independent program in numpy measured them. Its textures came from the same
/// definition but not from the same random numbers, so they agree within the spread of seeds.
#[test]
fn motion_is_that_of_an_independent_implementation() {
    const MEASURED: [f64; 9] = [0.0, 0.0176, 0.0072, 0.0164, 0.0194, 0.0578, 0.0761, 0.1014, 0.0442];
    let size = Size { frames: 16, height: 256, width: 256 };
    for (scenario, want) in Scenario::ALL.iter().zip(MEASURED) {
        let got = frame_difference(scenario.clip(1, size).view());
        assert!((got - want).abs() <= 0.2 * want, "{}: {got}, not {want}", scenario.name());
    }
}

#[test]
fn a_pan_shows_later_what_lay_to_the_right() {
    let clip = Scenario::Pan.clip(1, SMALL);
    for t in 1..SMALL.frames {
        assert_eq!(clip.slice(s![t, .., ..62, ..]), clip.slice(s![t - 1, .., 2.., ..]));
    }
}

#[test]
fn a_cut_changes_everything_every_six_frames() {
    let clip = Scenario::Cut.clip(1, SMALL);
    let step = |t: usize| frame_difference(clip.slice(s![t..t + 2, .., .., ..]));
    assert!(step(5) > 4.0 * step(4) && step(5) > 4.0 * step(6), "{} {} {}", step(4), step(5), step(6));
}

/// A picture whose red says the column and whose green says the row: what a view shows tells where it is.
fn compass() -> Array3<u8> {
    Array3::from_shape_fn((250, 250, 3), |(y, x, c)| [x as u8, y as u8, 0][c])
}

fn colours(clip: &Clip, t: usize) -> [f64; 2] {
    let at = |y: usize, x: usize, c: usize| f64::from(clip[[t, y, x, c]]);
    let (y, x) = (SMALL.height / 2, SMALL.width / 2);
    // The middle lies between pixels.
    [0, 1].map(|c| (at(y - 1, x - 1, c) + at(y - 1, x, c) + at(y, x - 1, c) + at(y, x, c)) / 4.0)
}

#[test]
fn moves_go_where_they_say_and_stay_inside() {
    let picture = compass();
    for seed in 0..40 {
        for kind in MoveKind::ALL {
            let way = Move::draw(kind, &mut SplitMix64::new(seed), (250, 250), SMALL);
            let clip = way.film(picture.view(), SMALL);
            let (first, last) = (colours(&clip, 0), colours(&clip, SMALL.frames - 1));
            let sign = if way.mirrored { -1.0 } else { 1.0 };
            let want = [sign * way.right * way.scale, way.down * way.scale];
            for a in [0, 1] {
                let slack = 1.5 + 2.0 * way.shake * way.scale;
                assert!((last[a] - first[a] - want[a]).abs() <= slack, "{way:?}: {first:?} to {last:?}");
            }
            // Beyond an edge the outermost pixels go on: neighbours would be equal there.
            let spread = |t: usize| f64::from(clip[[t, 0, 0, 0]].abs_diff(clip[[t, 0, SMALL.width - 1, 0]])) / (SMALL.width - 1) as f64;
            let scale = |t: usize| way.view(t, SMALL.frames).1;
            for t in [0, SMALL.frames - 1] {
                assert!((spread(t) - scale(t)).abs() <= 0.05, "{way:?}: {} at {t}, not {}", spread(t), scale(t));
            }
            assert_eq!(kind == MoveKind::Still, frame_difference(clip.view()) == 0.0, "{way:?}");
        }
    }
}

#[test]
fn a_zoom_ends_at_its_ratio() {
    let way = Move::draw(MoveKind::Zoom, &mut SplitMix64::new(1), (250, 250), SMALL);
    let (first, last) = (way.view(0, SMALL.frames).1, way.view(SMALL.frames - 1, SMALL.frames).1);
    assert!((first / last - way.zoom).abs() < 1e-12);
}

#[test]
fn a_clip_of_one_frame_is_a_picture() {
    let size = Size { frames: 1, ..SMALL };
    for scenario in Scenario::ALL {
        assert_eq!(scenario.clip(1, size), scenario.clip(1, SMALL).slice(s![..1, .., .., ..]), "{}", scenario.name());
    }
    assert_eq!(Move::draw(MoveKind::Pan, &mut SplitMix64::new(1), (250, 250), size).film(compass().view(), size).dim(), (1, 48, 64, 3));
}
