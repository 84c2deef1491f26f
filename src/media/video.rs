//! Writes frames u8 [frames, height, width, 3] in the format that the output's extension names.
//!
//! | extension | what |
//! | --- | --- |
//! | `.mp4` | H.264, 4:2:0, BT.709 tagged and converted as such, constant quantiser 18, a key frame every five seconds; plays in browsers |
//! | `.gif` | 256 colours a frame, repeats for ever |
//! | `.png` | one file a frame: `out.png` gives `out-0000.png`, `out-0001.png`, … |
//! | `.npy` | the array itself |
//!
//! Only npy and png keep every bit; measures of quality are taken on those.
//!
//! H.264 in 4:2:0 has even sides, and the encoder takes no side under 16: smaller or odd sides are extended by repeating the last
//! column and row. One encoder thread, so that the same frames give the same bytes.

use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use muxide::api::{MuxerBuilder, VideoCodec};
use ndarray::{ArrayView3, ArrayView4, Axis};
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::YUVBuffer;
use openh264::{OpenH264API, Timestamp};
use rayon::prelude::*;

use super::npy::write_npy;
use crate::diag::{Diagnostic, Result};
use crate::files::write_atomic;

/// The quantiser, 0 (finest) to 51 (the encoder adds at most 2 at a change of scene). At 18, natural pictures come back at 40 dB and more.
const QUANTISER: u8 = 18;

/// Seconds between key frames, for seeking.
const KEY_FRAME_SECONDS: u32 = 5;

/// The larger and the smaller side that the encoder takes.
const MAX_SIDES: (usize, usize) = (3840, 2160);

/// The format of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// H.264 in an MP4 file.
    Mp4,
    /// An animated GIF.
    Gif,
    /// One PNG file a frame.
    Png,
    /// A `NumPy` array u8 [frames, height, width, 3].
    Npy,
}

impl OutputKind {
    const EXTENSIONS: [(&'static str, Self); 4] = [("mp4", Self::Mp4), ("gif", Self::Gif), ("png", Self::Png), ("npy", Self::Npy)];

    /// The format that the extension of `path` names, in any case of letters.
    ///
    /// # Errors
    /// `media/unknown-output` with the extensions there are.
    pub fn from_path(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let row = Self::EXTENSIONS.iter().find(|(e, _)| *e == extension);
        row.map(|(_, kind)| *kind).ok_or_else(|| {
            let message = format!("the name `{}` does not say in which format to write the video", path.display());
            Diagnostic::new("media/unknown-output", message).help("end it in .mp4, .gif, .png (one file a frame) or .npy").into()
        })
    }
}

/// Writes `frames` u8 [frames, height, width, 3] at `fps` frames a second and returns the files that were written.
///
/// # Errors
/// `media/unknown-output`, `media/unwritable-video`, `io/unwritable`, `media/encoder-failed`.
pub fn write_video(path: &Path, frames: ArrayView4<'_, u8>, fps: u32) -> Result<Vec<PathBuf>> {
    let kind = OutputKind::from_path(path)?;
    let files = files(kind, path, frames.len_of(Axis(0)));
    write_files(kind, &files, frames, fps)?;
    Ok(files)
}

/// Writes `frames` u8 [frames, height, width, 3] at `fps` frames a second as `kind` into what [`files`] says of them.
///
/// # Errors
/// As [`write_video`].
pub fn write_files(kind: OutputKind, files: &[PathBuf], frames: ArrayView4<'_, u8>, fps: u32) -> Result<()> {
    check_size(kind, frames.dim(), fps)?;
    match (kind, files) {
        (OutputKind::Png, files) => write_pngs(files, frames),
        (OutputKind::Mp4, [path]) => write_mp4(path, frames, fps),
        (OutputKind::Gif, [path]) => write_gif(path, frames, fps),
        (OutputKind::Npy, [path]) => write_npy(path, frames.into_dyn()),
        _ => Err(Diagnostic::new("internal/bug", "a video of one file has another number of names").into()),
    }
}

/// The files that a video of `frames` frames becomes.
pub fn files(kind: OutputKind, path: &Path, frames: usize) -> Vec<PathBuf> {
    if kind == OutputKind::Png { (0..frames).map(|i| numbered(path, i)).collect() } else { vec![path.to_owned()] }
}

/// Whether a video of `(frames, height, width, 3)` at `fps` can be written as `kind`; worth asking before a long run.
///
/// # Errors
/// `media/unwritable-video` with the reason.
pub fn check_size(kind: OutputKind, (frames, height, width, channels): (usize, usize, usize, usize), fps: u32) -> Result<()> {
    let (larger, smaller) = (height.max(width), height.min(width));
    let reason = match kind {
        _ if frames == 0 || smaller == 0 => "there is nothing to write".into(),
        _ if channels != 3 => format!("frames have {channels} channels, not 3"),
        _ if fps == 0 => "the frame rate is 0".into(),
        OutputKind::Mp4 if larger > MAX_SIDES.0 || smaller > MAX_SIDES.1 => {
            format!("the H.264 encoder takes at most {}x{} pixels", MAX_SIDES.0, MAX_SIDES.1)
        }
        OutputKind::Gif if larger > usize::from(u16::MAX) => "a GIF has at most 65535 pixels on a side".into(),
        _ => return Ok(()),
    };
    let message = format!("{frames} frames of {width}x{height} at {fps} a second cannot be written: {reason}");
    Err(Diagnostic::new("media/unwritable-video", message).help("write .png or .npy, or change the size").into())
}

/// One encoded frame: Annex B, key frames with their parameter sets.
struct Access {
    bytes: Vec<u8>,
    key: bool,
}

/// Encodes a frame at a time: `frames` encoded frames of (width, height) pixels.
fn encode_h264(frames: ArrayView4<'_, u8>, fps: u32) -> Result<(Vec<Access>, (usize, usize))> {
    let (_, h, w, _) = frames.dim();
    let (width, height) = (even(w), even(h));
    let config = encoder_config(width * height, fps);
    let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config).map_err(|e| failed(&e))?;
    let mut out = Vec::with_capacity(frames.len_of(Axis(0)));
    for (i, frame) in frames.outer_iter().enumerate() {
        let yuv = YUVBuffer::from_vec(yuv420(frame, width, height), width, height);
        let at = Timestamp::from_millis(i as u64 * 1000 / u64::from(fps));
        let stream = encoder.encode_at(&yuv, at).map_err(|e| failed(&e))?;
        let key = matches!(stream.frame_type(), FrameType::IDR);
        out.push(Access { bytes: stream.to_vec(), key });
    }
    Ok((out, (width, height)))
}

fn even(side: usize) -> usize {
    side.next_multiple_of(2).max(16)
}

fn encoder_config(pixels: usize, fps: u32) -> EncoderConfig {
    // In this mode the quantiser stays in its range and no frame is skipped, so the bit rate only chooses the level that is written. The modes named
    // for quality and bit rate would code the same, but complain on stderr that frames may not be skipped.
    let bits = (pixels as u64).saturating_mul(u64::from(fps)).clamp(1_000_000, 100_000_000) as u32;
    EncoderConfig::new()
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(QUANTISER, QUANTISER))
        .bitrate(BitRate::from_bps(bits))
        .max_frame_rate(FrameRate::from_hz(fps.min(60) as f32))
        .skip_frames(false)
        .adaptive_quantization(false)
        .background_detection(false)
        .complexity(Complexity::High)
        .intra_frame_period(IntraFramePeriod::from_num_frames(fps.saturating_mul(KEY_FRAME_SECONDS)))
        .num_threads(1)
        .vui(VuiConfig::bt709())
}

/// The planes Y, Cb, Cr of a frame, one after another, in BT.709 limited range (ITU-R BT.709-6, 3.2 to 3.4): luma from 16 to 235, chroma around 128.
/// Chroma is the mean of four pixels. Pixels past the frame repeat its last column and row.
fn yuv420(frame: ArrayView3<'_, u8>, width: usize, height: usize) -> Vec<u8> {
    let (h, w, _) = frame.dim();
    let pixel = |x: usize, y: usize| {
        let (x, y) = (x.min(w - 1), y.min(h - 1));
        ycc([0, 1, 2].map(|c| f32::from(frame[[y, x, c]])))
    };
    let mut out = vec![0; width * height * 3 / 2];
    let (luma, chroma) = out.split_at_mut(width * height);
    let (blue, red) = chroma.split_at_mut(width * height / 4);
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
            let at = y * width + x;
            for (to, p) in [at, at + 1, at + width, at + width + 1].into_iter().zip(four) {
                luma[to] = (p[0] + 0.5) as u8;
            }
            let mean = |c: usize| (four.iter().map(|p| p[c]).sum::<f32>() / 4.0 + 0.5) as u8;
            let at = y / 2 * (width / 2) + x / 2;
            (blue[at], red[at]) = (mean(1), mean(2));
        }
    }
    out
}

/// RGB in 0..255 as Y in 16..235, Cb and Cr in 16..240.
fn ycc([r, g, b]: [f32; 3]) -> [f32; 3] {
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let chroma = |difference: f32, span: f32| 128.0 + difference / span * (224.0 / 255.0);
    [16.0 + y * (219.0 / 255.0), chroma(b - y, 1.8556), chroma(r - y, 1.5748)]
}

fn write_mp4(path: &Path, frames: ArrayView4<'_, u8>, fps: u32) -> Result<()> {
    let bytes = mux(frames, fps)?;
    write_atomic(path, |w| w.write_all(&bytes))
}

/// The whole MP4 file. Frame i is shown at i / fps seconds, to 1/90000 s, so the rate does not drift.
fn mux(frames: ArrayView4<'_, u8>, fps: u32) -> Result<Vec<u8>> {
    let (accesses, (width, height)) = encode_h264(frames, fps)?;
    let mut bytes = Vec::new();
    let builder = MuxerBuilder::new(&mut bytes).video(VideoCodec::H264, width as u32, height as u32, f64::from(fps));
    let mut muxer = builder.build().map_err(|e| failed(&e))?;
    for (i, access) in accesses.iter().enumerate() {
        muxer.write_video(i as f64 / f64::from(fps), &access.bytes, access.key).map_err(|e| failed(&e))?;
    }
    // The container takes a sample's duration from the next one. A single frame has none, so it is written twice, half a duration each.
    if let [only] = accesses.as_slice() {
        muxer.write_video(0.5 / f64::from(fps), &only.bytes, only.key).map_err(|e| failed(&e))?;
    }
    muxer.finish().map_err(|e| failed(&e))?;
    Ok(bytes)
}

fn failed(error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::new("media/encoder-failed", format!("the video encoder failed: {error}")).help("write .png or .npy instead")
}

fn write_gif(path: &Path, frames: ArrayView4<'_, u8>, fps: u32) -> Result<()> {
    let (_, h, w, _) = frames.dim();
    let (width, height) = (w as u16, h as u16);
    let pictures: Vec<_> = frames.outer_iter().collect();
    let encode = |picture: &ArrayView3<'_, u8>| gif::Frame::from_rgb_speed(width, height, &pixels(*picture), 10);
    let encoded: Vec<_> = pictures.par_iter().map(encode).collect();
    write_atomic(path, |out| {
        let mut encoder = gif::Encoder::new(out, width, height, &[]).map_err(std::io::Error::other)?;
        encoder.set_repeat(gif::Repeat::Infinite).map_err(std::io::Error::other)?;
        for (i, mut frame) in encoded.into_iter().enumerate() {
            frame.delay = gif_delay(i, fps);
            encoder.write_frame(&frame).map_err(std::io::Error::other)?;
        }
        Ok(())
    })
}

/// How long frame `i` is shown, in 1/100 s: the rounding never adds up. Viewers take less than 2 for a mistake and show such a frame for 10.
fn gif_delay(i: usize, fps: u32) -> u16 {
    let fps = u64::from(fps);
    let at = |i: u64| (200 * i + fps) / (2 * fps);
    (at(i as u64 + 1) - at(i as u64)).clamp(2, u64::from(u16::MAX)) as u16
}

fn write_pngs(paths: &[PathBuf], frames: ArrayView4<'_, u8>) -> Result<()> {
    let (_, h, w, _) = frames.dim();
    let jobs: Vec<_> = paths.iter().zip(frames.outer_iter()).collect();
    jobs.into_par_iter().try_for_each(|(path, frame)| {
        let pixels = pixels(frame);
        write_atomic(path, |out| {
            PngEncoder::new(out).write_image(&pixels, w as u32, h as u32, ExtendedColorType::Rgb8).map_err(std::io::Error::other)
        })
    })
}

/// `folder/out.png`, 7 is `folder/out-0007.png`.
fn numbered(path: &Path, i: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{i:04}.png"));
    path.with_file_name(name)
}

/// The bytes of a picture, row by row.
fn pixels(picture: ArrayView3<'_, u8>) -> Vec<u8> {
    picture.iter().copied().collect()
}

#[cfg(test)]
#[path = "video_tests.rs"]
mod tests;
