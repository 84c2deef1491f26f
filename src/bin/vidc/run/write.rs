//! Everything after the last kernel: frames, dumps, the report.

use std::path::{Path, PathBuf};

use ndarray::{Axis, Ix5};

use super::Args;
use super::prepare::{Ready, rate};
use crate::common::{Failure, say};
use vidc::diag::Diagnostic;
use vidc::host::convert::frames_to_pictures;
use vidc::media::npy::write_npy;
use vidc::media::video::write_video;
use vidc::runtime::execute::RunOutcome;
use vidc::runtime::provision::Located;
use vidc::runtime::report::{FileEntry, MeasuredReport, RunReport, RuntimeReport, peak_resident};
use vidc::runtime::session::Runtime;

/// Writes videos, dumps and the report; removes the saved progress.
pub(super) fn outputs(
    args: &Args,
    ready: &Ready,
    outcome: &RunOutcome,
    located: &Located,
    runtime: &Runtime,
) -> Result<RunReport, Failure> {
    let written = videos(ready, outcome)?;
    let non_finite: u64 = outcome.outputs.iter().map(|(_, f)| f.iter().filter(|v| !v.is_finite()).count() as u64).sum();
    if non_finite > 0 {
        say(&format!("warning: {non_finite} numbers of the frames are not finite; the picture is wrong"));
    }
    for dump in &args.dumps {
        if let Some(array) = outcome.dumps.get(&dump.name) {
            write_npy(&dump.path(), array.view())?;
        }
    }
    let library = RuntimeReport { library: located.path.clone(), version: located.version.clone(), build: runtime.build_info().into() };
    let measured = MeasuredReport { latency_s: outcome.total_s, peak_bytes: peak_resident(), stages: outcome.measured.clone() };
    let mut report = RunReport::of(&ready.manifest, library, measured);
    report.non_finite = non_finite;
    report.resumed_at = ready.request.resume.as_ref().map(|r| r.done);
    for given in args.inputs.iter().chain(&args.feeds) {
        report.inputs.push(FileEntry::of(&given.name, &given.path())?);
    }
    for (name, path) in &written {
        report.outputs.push(FileEntry::of(name, path)?);
    }
    for dump in &args.dumps {
        report.outputs.push(FileEntry::of(&dump.name, &dump.path())?);
    }
    report.write(&ready.report_path())?;
    if let Some(saved) = ready.request.save.as_ref().filter(|p| p.exists()) {
        std::fs::remove_file(saved)
            .map_err(|e| Diagnostic::new("io/unwritable", format!("`{}` cannot be removed: {e}", saved.display())))?;
    }
    Ok(report)
}

/// One file per output and item of the batch; a single one has the name that was asked for.
fn videos(ready: &Ready, outcome: &RunOutcome) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut written = Vec::new();
    for ((name, frames), entry) in outcome.outputs.iter().zip(&ready.manifest.outputs) {
        let frames = frames.view().into_dimensionality::<Ix5>();
        let frames = frames.map_err(|e| Diagnostic::new("internal/bug", format!("the output `{name}` is no video: {e}")))?;
        let batch = frames.len_of(Axis(0));
        for (i, video) in frames.outer_iter().enumerate() {
            let mut words = Vec::new();
            if ready.manifest.outputs.len() > 1 {
                words.push(name.clone());
            }
            if batch > 1 {
                words.push(i.to_string());
            }
            let path = with_words(&ready.output, &words);
            let pictures = frames_to_pictures(video);
            written.extend(write_video(&path, pictures.view(), rate(entry.fps))?.into_iter().map(|p| (name.clone(), p)));
        }
    }
    Ok(written)
}

/// `out.mp4` with `video` and `1` is `out-video-1.mp4`.
fn with_words(path: &Path, words: &[String]) -> PathBuf {
    if words.is_empty() {
        return path.into();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{}.{extension}", words.join("-")))
}

/// What was done, in a line or two.
pub(super) fn text(report: &RunReport, ready: &Ready) -> String {
    let shape = ready.manifest.outputs.first().map(|o| ready.manifest.values[o.value].ty.dims()).unwrap_or_default();
    let size = match shape[..] {
        [_, frames, _, height, width] => format!(" ({frames} frames of {width}x{height})"),
        _ => String::new(),
    };
    let first = report.outputs.first().map_or_else(String::new, |f| f.path.display().to_string());
    let more = if report.outputs.len() > 1 { format!(" and {} more files", report.outputs.len() - 1) } else { String::new() };
    let peak = report.measured.peak_bytes.map_or_else(String::new, |b| format!(", {} of memory", vidc::units::Bytes(b)));
    let mut out = format!("wrote {first}{more}{size} in {:.1} s{peak}\n", report.measured.latency_s);
    if report.weights.random {
        out += &format!("weights: {} (random weights: the picture means nothing)\n", report.weights.source);
    }
    out
}
