//! `vidc bench scenarios`: test footage as arrays, with a list of what is in each.

use std::path::{Path, PathBuf};

use ndarray::Array3;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::common::table::table;
use crate::common::{Done, Failure, Out};
use vidc::diag::{Diagnostic, Diagnostics};
use vidc::files::output::check_new_folder;
use vidc::files::{word, write_atomic};
use vidc::media::{npy, picture};
use vidc::metrics::frame_difference;
use vidc::plan::hex;
use vidc::scenarios::{Clip, Move, MoveKind, Scenario, Size, SplitMix64, Texture};

/// Most pixels of a clip, which is held in memory: 768 MiB.
const MOST_PIXELS: usize = 1 << 28;

/// Side of the texture that a camera moves over where there is no picture.
const GROUND: usize = 512;

/// Kinds of camera moves, as often as they are drawn.
const MIX: [MoveKind; 10] = [
    MoveKind::Pan,
    MoveKind::Pan,
    MoveKind::Pan,
    MoveKind::Pan,
    MoveKind::Zoom,
    MoveKind::Zoom,
    MoveKind::Zoom,
    MoveKind::Tilt,
    MoveKind::Shake,
    MoveKind::Still,
];

/// One camera move in so many is over a texture.
const TEXTURES: usize = 8;

/// Arguments of `scenarios`.
#[derive(clap::Args)]
pub(crate) struct ScenariosArgs {
    /// The folder to make: an array (u8 [frames, height, width, 3]) a clip and `scenarios.json`.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Camera moves over the pictures of this folder in place of the nine scenarios.
    #[arg(long, value_name = "DIR", requires = "clips")]
    pictures: Option<PathBuf>,
    /// How many camera moves; over textures where no pictures are given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    clips: Option<u64>,
    /// Another seed makes other clips.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Frames of a clip.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    frames: u64,
    /// Rows and columns of a clip.
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..=4096))]
    size: u64,
}

/// What `scenarios.json` says of a clip.
#[derive(Serialize)]
struct Entry {
    name: String,
    file: String,
    scenario: &'static str,
    seed: u64,
    frames: usize,
    height: usize,
    width: usize,
    /// The camera's move, where the clip is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    camera: Option<Camera>,
    /// Mean |difference| of neighbouring frames, 0 to 1.
    mean_difference: f64,
    /// Of the bytes of the frames.
    sha256: String,
}

#[derive(Serialize)]
struct Camera {
    /// The picture's file name; none over a texture.
    picture: Option<String>,
    easing: &'static str,
    mirrored: bool,
    right: f64,
    down: f64,
    zoom: f64,
    shake: f64,
}

/// A picture and what it is called.
struct Still {
    name: String,
    pixels: Array3<u8>,
}

/// Writes the clips.
pub(crate) fn run(args: &ScenariosArgs, out: &Out) -> Done {
    let side = args.size as usize;
    let size = Size { frames: args.frames as usize, height: side, width: side };
    if size.frames * side * side > MOST_PIXELS {
        return Err(Failure::Usage(format!("{} frames of {side}x{side} are more than the {MOST_PIXELS} pixels of a clip", size.frames)));
    }
    check_folder(&args.output)?;
    let stills = args.pictures.as_deref().map_or_else(|| Ok(Vec::new()), stills)?;
    make_folder(&args.output)?;
    let entries = match args.clips {
        None => Scenario::ALL.par_iter().map(|s| synthetic(*s, args, size)).collect::<Result<Vec<_>, _>>()?,
        Some(clips) => (0..clips).into_par_iter().map(|i| filmed(i, &stills, args, size)).collect::<Result<Vec<_>, _>>()?,
    };
    let list = json!({ "vidc": env!("CARGO_PKG_VERSION"), "clips": entries });
    let path = args.output.join("scenarios.json");
    write_atomic(&path, |w| w.write_all(format!("{list:#}\n").as_bytes()))?;
    out.result(|| summary(&entries, &args.output), || list.clone());
    Ok(())
}

/// Refuses a folder with something in it, since what is there may be the user's.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    check_new_folder(folder, &folder.join("scenarios.json"))?;
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        let d = Diagnostic::new("io/output-taken", format!("the folder `{}` is not empty", folder.display()));
        return Err(d.help("name a new folder").into());
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    let unwritable = |e: std::io::Error| Diagnostic::new("io/unwritable", format!("`{}` cannot be made: {e}", folder.display()));
    Ok(std::fs::create_dir_all(folder).map_err(|e| unwritable(e).help("choose a folder that takes files"))?)
}

/// The pictures of a folder in the order of their names.
fn stills(folder: &Path) -> Result<Vec<Still>, Failure> {
    let unreadable = |e: std::io::Error| Diagnostic::new("io/unreadable", format!("`{}` cannot be read: {e}", folder.display()));
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<PathBuf> = entries.map_err(unreadable)?.into_iter().map(|e| e.path()).collect();
    paths.sort();
    let mut found = Diagnostics::default();
    let mut stills = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match picture::read_picture(&path) {
            Ok(pixels) => stills.push(Still { name, pixels }),
            Err(d) => found.push(*d),
        }
    }
    if stills.is_empty() && found.0.is_empty() {
        found.push(Diagnostic::new("io/unreadable", format!("there is no picture in `{}`", folder.display())));
    }
    Ok(found.into_result(stills)?)
}

fn synthetic(scenario: Scenario, args: &ScenariosArgs, size: Size) -> vidc::diag::Result<Entry> {
    let clip = scenario.clip(args.seed, size);
    write(&args.output, scenario.name().into(), scenario.name(), args.seed, None, &clip)
}

/// Camera move `index`: kind, picture and way follow from the seed and the index alone.
fn filmed(index: u64, stills: &[Still], args: &ScenariosArgs, size: Size) -> vidc::diag::Result<Entry> {
    let mut random = SplitMix64::new(args.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index);
    let kind = MIX[random.below(MIX.len())];
    let textured = stills.is_empty() || random.below(TEXTURES) == 0;
    let ground;
    let still = if textured {
        ground = Still { name: String::new(), pixels: surface(random.bits()) };
        &ground
    } else {
        &stills[random.below(stills.len())]
    };
    let (height, width, _) = still.pixels.dim();
    let way = Move::draw(kind, &mut random, (width, height), size);
    let camera = Camera {
        picture: (!textured).then(|| still.name.clone()),
        easing: way.easing.name(),
        mirrored: way.mirrored,
        right: way.right,
        down: way.down,
        zoom: way.zoom,
        shake: way.shake,
    };
    let subject = if textured { "texture".into() } else { word(still.name.rsplit_once('.').map_or(still.name.as_str(), |(stem, _)| stem)) };
    let name = format!("{index:06}-{}-{subject}", kind.name());
    write(&args.output, name, kind.name(), args.seed, Some(camera), &way.film(still.pixels.view(), size))
}

/// A texture as a picture.
fn surface(seed: u64) -> Array3<u8> {
    let texture = Texture::new(seed);
    let mut pixels = Array3::zeros((GROUND, GROUND, 3));
    for ((y, x), mut pixel) in pixels.lanes_mut(ndarray::Axis(2)).into_iter().enumerate().map(|(i, p)| ((i / GROUND, i % GROUND), p)) {
        let colour = texture.at(x as f64, y as f64).map(|v| (v * 255.0 + 0.5) as u8);
        pixel.assign(&ndarray::aview1(&colour));
    }
    pixels
}

fn write(folder: &Path, name: String, scenario: &'static str, seed: u64, camera: Option<Camera>, clip: &Clip) -> vidc::diag::Result<Entry> {
    let file = format!("{name}.npy");
    npy::write_npy(&folder.join(&file), clip.view().into_dyn())?;
    let (frames, height, width, _) = clip.dim();
    let mean_difference = frame_difference(clip.view());
    let sha256 = hex(&Sha256::digest(clip.as_slice().expect("a clip is contiguous")));
    Ok(Entry { name, file, scenario, seed, frames, height, width, camera, mean_difference, sha256 })
}

fn summary(entries: &[Entry], folder: &Path) -> String {
    const MOST: usize = 24;
    let row = |e: &Entry| vec![e.name.clone(), format!("{:.4}", e.mean_difference), e.sha256[..16].into()];
    let rows: Vec<Vec<String>> = entries.iter().take(MOST).map(row).collect();
    let more = entries.len().saturating_sub(MOST);
    let more = if more > 0 { format!("… and {more} more\n") } else { String::new() };
    format!("{}{more}wrote {} clips to {}\n", table(&["clip", "difference", "sha256"], &rows), entries.len(), folder.display())
}
