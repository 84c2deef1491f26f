//! Everything after the last kernel: frames, dumps, the report.

use std::path::PathBuf;

use ndarray::Ix5;

use super::outputs::Round;
use super::prepare::{Ready, at_seed, rate};
use super::{Args, outputs};
use crate::common::{Failure, say};
use vidc::diag::Diagnostic;
use vidc::files::output::Kept;
use vidc::host::convert::frames_to_pictures;
use vidc::media::npy::write_npy;
use vidc::media::video::write_files;
use vidc::runtime::provision::LocatedLibrary;
use vidc::runtime::report::{FileEntry, MeasuredReport, RunReport, RuntimeReport, peak_resident};
use vidc::runtime::request::RunOutcome;
use vidc::runtime::session::Runtime;

/// Writes videos, dumps and the report; removes the saved progress. Says under which names files are kept that were in their places.
pub(super) fn outputs(
    args: &Args,
    ready: &Ready,
    round: &Round,
    outcome: &RunOutcome,
    located: &LocatedLibrary,
    runtime: &Runtime,
) -> Result<(RunReport, Vec<PathBuf>), Failure> {
    let kept = outputs::keep_all(round)?;
    match write(args, ready, round, outcome, located, runtime) {
        Ok(report) => Ok((report, kept.into_iter().map(|k| k.path).collect())),
        Err(failure) => {
            kept.into_iter().for_each(Kept::undo);
            Err(failure)
        }
    }
}

fn write(
    args: &Args,
    ready: &Ready,
    round: &Round,
    outcome: &RunOutcome,
    located: &LocatedLibrary,
    runtime: &Runtime,
) -> Result<RunReport, Failure> {
    let written = videos(ready, round, outcome)?;
    let non_finite: u64 = outcome.outputs.iter().map(|(_, f)| f.iter().filter(|v| !v.is_finite()).count() as u64).sum();
    if non_finite > 0 {
        say(&format!("warning: {non_finite} numbers of the frames are not finite; the picture is wrong"));
    }
    for dump in &round.dumps {
        if let Some(array) = outcome.dumps.get(&dump.name) {
            write_npy(&dump.path(), array.view())?;
        }
    }
    let library = RuntimeReport { library: located.path.clone(), version: located.version.clone(), build: runtime.build_info().into() };
    let measured = MeasuredReport::of(outcome, peak_resident());
    let mut report = RunReport::of(&at_seed(&ready.manifest, round.seed)?, library, measured);
    report.non_finite = non_finite;
    report.resumed_at = ready.request.resume.as_ref().map(|r| r.done);
    for given in args.inputs.iter().chain(&args.feeds) {
        report.inputs.push(FileEntry::of(&given.name, &given.path())?);
    }
    for (name, path) in &written {
        report.outputs.push(FileEntry::of(name, path)?);
    }
    for dump in &round.dumps {
        report.outputs.push(FileEntry::of(&dump.name, &dump.path())?);
    }
    report.write(&round.report_path())?;
    let saved = round.progress_path();
    if saved.exists() {
        std::fs::remove_file(&saved)
            .map_err(|e| Diagnostic::new("io/unwritable", format!("`{}` cannot be removed: {e}", saved.display())))?;
    }
    Ok(report)
}

/// One file per output and item of the batch; a single one has the name that was asked for.
fn videos(ready: &Ready, round: &Round, outcome: &RunOutcome) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut written = Vec::new();
    let mut places = round.videos.iter();
    for ((name, frames), entry) in outcome.outputs.iter().zip(&ready.manifest.outputs) {
        let frames = frames.view().into_dimensionality::<Ix5>();
        let frames = frames.map_err(|e| Diagnostic::new("internal/bug", format!("the output `{name}` is no video: {e}")))?;
        for (video, files) in frames.outer_iter().zip(&mut places) {
            let pictures = frames_to_pictures(video);
            write_files(ready.kind, files, pictures.view(), rate(entry.fps))?;
            written.extend(files.iter().map(|p| (name.clone(), p.clone())));
        }
    }
    Ok(written)
}

/// What was done, in a line or two; of one of several runs also what of its time was loading.
pub(super) fn text(report: &RunReport, ready: &Ready) -> String {
    let shape = ready.manifest.outputs.first().map(|o| ready.manifest.values[o.value].ty.dims()).unwrap_or_default();
    let size = match shape[..] {
        [_, frames, _, height, width] => format!(" ({frames} frames of {width}x{height})"),
        _ => String::new(),
    };
    let first = report.outputs.first().map_or_else(String::new, |f| f.path.display().to_string());
    let more = if report.outputs.len() > 1 { format!(" and {} more files", report.outputs.len() - 1) } else { String::new() };
    let peak = report.measured.peak_bytes.map_or_else(String::new, |b| format!(", {} of memory", vidc::units::Bytes(b)));
    let m = &report.measured;
    let loads = match m.load_s {
        _ if ready.rounds.len() == 1 => String::new(),
        0.0 => " (nothing loaded)".into(),
        seconds => format!(" ({seconds:.1} s of it loading)"),
    };
    let mut out = format!("wrote {first}{more}{size} in {:.1} s{loads}{peak}\n", m.latency_s);
    if report.weights.random {
        out += &format!("weights: {} (random weights: the picture means nothing)\n", report.weights.source);
    }
    out
}
