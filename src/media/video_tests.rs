//! Tests of the video outputs: what is written is decoded again by another library or by hand.

use ndarray::{Array3, Array4, s};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use super::super::npy::read_npy;
use super::super::picture::read_picture;
use super::*;

/// A clip like a photograph: smooth light, soft-edged objects that move, fine texture.
fn clip(frames: usize, height: usize, width: usize) -> Array4<u8> {
    Array4::from_shape_fn((frames, height, width, 3), |(t, y, x, c)| {
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let light = 90.0 + 80.0 * (u * 2.1 + v + c as f32 * 0.7).sin();
        let centre = 0.3 + 0.02 * t as f32;
        let object = 70.0 / (1.0 + ((u - centre).powi(2) + (v - 0.5).powi(2)) * 60.0);
        let texture = 6.0 * (x as f32 * 0.9 + t as f32).sin() * (y as f32 * 0.7).cos();
        (light + object + texture).clamp(0.0, 255.0) as u8
    })
}

/// RGB from a decoded picture by the inverse of BT.709, limited range.
fn rgb(yuv: &impl YUVSource) -> Array3<u8> {
    let ((w, h), (sy, su, sv)) = (yuv.dimensions(), yuv.strides());
    Array3::from_shape_fn((h, w, 3), |(y, x, c)| {
        let luma = (f32::from(yuv.y()[y * sy + x]) - 16.0) * 255.0 / 219.0;
        let blue = (f32::from(yuv.u()[y / 2 * su + x / 2]) - 128.0) * 255.0 / 224.0;
        let red = (f32::from(yuv.v()[y / 2 * sv + x / 2]) - 128.0) * 255.0 / 224.0;
        let value = match c {
            0 => luma + 1.5748 * red,
            1 => luma - 0.187_324 * blue - 0.468_124 * red,
            _ => luma + 1.8556 * blue,
        };
        value.round().clamp(0.0, 255.0) as u8
    })
}

fn psnr(a: &Array3<u8>, b: ArrayView3<'_, u8>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    let sum: f64 = a.iter().zip(&b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / sum).log10()
}

/// The samples of an MP4 file as Annex B, one a frame: walks its boxes for `stsz` and `mdat`.
fn samples(file: &[u8]) -> Vec<Vec<u8>> {
    let find = |name: &[u8]| file.windows(4).position(|w| w == name).unwrap() + 4;
    let word = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let sizes = find(b"stsz");
    let count = word(sizes + 8);
    let mut at = find(b"mdat");
    (0..count)
        .map(|i| {
            let end = at + word(sizes + 12 + 4 * i);
            let mut sample = Vec::new();
            while at < end {
                let length = word(at);
                sample.extend([0, 0, 0, 1]);
                sample.extend(&file[at + 4..at + 4 + length]);
                at += 4 + length;
            }
            assert_eq!(at, end);
            sample
        })
        .collect()
}

fn decoded(samples: &[Vec<u8>]) -> Vec<Array3<u8>> {
    let mut decoder = Decoder::new().unwrap();
    let mut out: Vec<_> = samples.iter().filter_map(|s| decoder.decode(s).unwrap().map(|yuv| rgb(&yuv))).collect();
    out.extend(decoder.flush_remaining().unwrap().iter().map(rgb));
    out
}

#[test]
fn an_mp4_decodes_to_nearly_the_same_frames() {
    let frames = clip(9, 96, 160);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    assert_eq!(write_video(&path, frames.view(), 7).unwrap(), [path.as_path()]);
    let file = std::fs::read(&path).unwrap();
    assert_eq!(&file[4..8], b"ftyp");
    let pictures = decoded(&samples(&file));
    assert_eq!(pictures.len(), 9);
    for (got, want) in pictures.iter().zip(frames.outer_iter()) {
        let db = psnr(got, want);
        assert!(db > 38.0, "{db} dB");
    }
}

#[test]
fn odd_and_tiny_sides_repeat_their_last_column_and_row() {
    for (h, w, height, width) in [(33, 47, 34, 48), (1, 5, 16, 16)] {
        let frames = clip(2, h, w);
        let (accesses, size) = encode_h264(frames.view(), 7).unwrap();
        assert_eq!(size, (width, height));
        let pictures = decoded(&accesses.into_iter().map(|a| a.bytes).collect::<Vec<_>>());
        let part = pictures[0].slice(s![..h, ..w, ..]).to_owned();
        assert!(psnr(&part, frames.index_axis(Axis(0), 0)) > 30.0);
    }
}

#[test]
fn the_same_frames_give_the_same_bytes() {
    let frames = clip(3, 32, 32);
    assert_eq!(mux(frames.view(), 7).unwrap(), mux(frames.view(), 7).unwrap());
}

#[test]
fn key_frames_come_every_five_seconds_and_no_frame_is_skipped() {
    let frames = clip(12, 16, 16);
    let (accesses, _) = encode_h264(frames.view(), 1).unwrap();
    let keys: Vec<usize> = accesses.iter().enumerate().filter(|(_, a)| a.key).map(|(i, _)| i).collect();
    assert_eq!(keys, [0, 5, 10]);
    assert!(accesses.iter().all(|a| !a.bytes.is_empty()));
}

/// (count, duration) rows of the box `stts`, in 1/90000 s.
fn durations(file: &[u8]) -> Vec<(u32, u32)> {
    let at = file.windows(4).position(|w| w == b"stts").unwrap() + 8;
    let word = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    (0..word(at) as usize).map(|i| (word(at + 4 + 8 * i), word(at + 8 + 8 * i))).collect()
}

#[test]
fn frames_are_shown_at_their_time() {
    let total = |frames: usize, fps: u32| {
        let file = mux(clip(frames, 16, 16).view(), fps).unwrap();
        durations(&file).iter().map(|(n, d)| n * d).sum::<u32>()
    };
    assert_eq!(total(14, 7), 180_000);
    assert_eq!(total(8, 8), 90_000);
    assert_eq!(total(1, 10), 9_000);
}

#[test]
fn known_colours_in_bt_709() {
    let check = |rgb: [f32; 3], want: [f32; 3]| {
        let got = ycc(rgb);
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 0.01), "{rgb:?}: {got:?}");
    };
    check([0.0; 3], [16.0, 128.0, 128.0]);
    check([255.0; 3], [235.0, 128.0, 128.0]);
    check([255.0, 0.0, 0.0], [62.559, 102.336, 240.0]);
    check([0.0, 0.0, 255.0], [31.812, 240.0, 117.73]);
}

#[test]
fn png_frames_and_npy_keep_every_bit() {
    let frames = clip(3, 5, 7);
    let folder = tempfile::tempdir().unwrap();
    let written = write_video(&folder.path().join("out.png"), frames.view(), 7).unwrap();
    assert_eq!(written[2], folder.path().join("out-0002.png"));
    for (path, want) in written.iter().zip(frames.outer_iter()) {
        assert_eq!(read_picture(path).unwrap(), want);
    }
    let path = folder.path().join("out.npy");
    write_video(&path, frames.view(), 7).unwrap();
    assert_eq!(read_npy::<u8>(&path).unwrap(), frames.into_dyn());
}

#[test]
fn a_gif_has_its_frames_and_its_time() {
    let frames = clip(7, 12, 10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gif");
    write_video(&path, frames.view(), 7).unwrap();
    let mut decoder = gif::DecodeOptions::new().read_info(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!((decoder.width(), decoder.height(), decoder.repeat()), (10, 12, gif::Repeat::Infinite));
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        delays.push(frame.delay);
    }
    assert_eq!((delays.len(), delays.iter().sum::<u16>()), (7, 100));
    // 120 pixels have at most 120 colours, so the first frame is exact.
    assert_eq!(read_picture(&path).unwrap(), frames.index_axis(Axis(0), 0));
}

#[test]
fn gif_delays_do_not_drift() {
    let check = |fps, want: &[u16]| assert_eq!((0..want.len()).map(|i| gif_delay(i, fps)).collect::<Vec<_>>(), want);
    check(7, &[14, 15, 14, 14, 14, 15, 14]);
    check(25, &[4, 4, 4]);
    check(100, &[2, 2]);
}

#[test]
fn the_extension_decides() {
    let kind = |name: &str| OutputKind::from_path(Path::new(name));
    assert_eq!(kind("a/b.MP4"), Ok(OutputKind::Mp4));
    assert_eq!(kind("b.gif"), Ok(OutputKind::Gif));
    assert_eq!(kind("b.png"), Ok(OutputKind::Png));
    assert_eq!(kind("b.npy"), Ok(OutputKind::Npy));
    for name in ["b.avi", "b", ".mp4", ""] {
        let error = kind(name).unwrap_err();
        assert_eq!(error.code, "media/unknown-output");
        assert!(error.help.unwrap().contains(".mp4, .gif, .png"));
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let check = |kind, dims, fps, says: &str| {
        let error = check_size(kind, dims, fps).unwrap_err();
        assert_eq!(error.code, "media/unwritable-video");
        assert!(error.message.contains(says), "{error}");
    };
    check(OutputKind::Npy, (0, 4, 4, 3), 7, "nothing");
    check(OutputKind::Gif, (1, 4, 0, 3), 7, "nothing");
    check(OutputKind::Png, (1, 4, 4, 4), 7, "4 channels");
    check(OutputKind::Mp4, (1, 4, 4, 3), 0, "rate is 0");
    check(OutputKind::Mp4, (1, 2162, 3840, 3), 7, "3840x2160");
    check(OutputKind::Gif, (1, 4, 70_000, 3), 7, "65535");
    assert!(check_size(OutputKind::Mp4, (1, 3840, 2160, 3), 7).is_ok());
    assert!(check_size(OutputKind::Png, (1, 4, 70_000, 3), 7).is_ok());
}
