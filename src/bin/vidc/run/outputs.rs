//! The files that runs write: their names, whether they can be written, and what is kept of those that are there.

use std::path::{Path, PathBuf};

use super::Args;
use super::prepare::output_dim;
use crate::common::args::Pair;
use crate::common::{Failure, target};
use vidc::files::output::{Kept, Name, Outputs, check_extension, keep};
use vidc::files::word;
use vidc::media::video::{OutputKind, files};
use vidc::plan::Manifest;
use vidc::plan::manifest::FILE;
use vidc::runtime::progress;
use vidc::runtime::report::{beside, output_written_here, written_here};

/// The files and the seed of one run.
#[derive(Clone)]
pub(super) struct Round {
    /// The seed, if it is not the plan's own.
    pub(super) seed: Option<u64>,
    /// The output as it is named on the command line, with the seed in it where there are several runs.
    pub(super) output: PathBuf,
    /// Values to write and their files.
    pub(super) dumps: Vec<Pair>,
    /// The files of each video, in the order of the plan's outputs and of their batch; one, as it is named, until the plan is known.
    pub(super) videos: Vec<Vec<PathBuf>>,
}

impl Round {
    /// The runs that the arguments ask for.
    pub(super) fn all(args: &Args) -> Vec<Self> {
        let one = |seed: Option<u64>, path: &dyn Fn(&Path) -> PathBuf| {
            let dump = |p: &Pair| Pair { name: p.name.clone(), value: path(&p.path()).to_string_lossy().into_owned() };
            let output = path(&args.output);
            Self { seed, dumps: args.dumps.iter().map(dump).collect(), videos: vec![vec![output.clone()]], output }
        };
        match (args.repeat, args.seed) {
            (Some(count), Some(first)) => {
                (first..first.saturating_add(count)).map(|seed| one(Some(seed), &|path| with_seed(path, seed))).collect()
            }
            _ => vec![one(args.seed, &Path::to_path_buf)],
        }
    }

    /// Where the report goes.
    pub(super) fn report_path(&self) -> PathBuf {
        beside(&self.output, "report.json")
    }

    /// Where the state of loops is saved.
    pub(super) fn progress_path(&self) -> PathBuf {
        beside(&self.output, "progress")
    }
}

/// Refuses outputs that cannot be written, that are written twice, or that a run reads.
pub(super) fn check(rounds: &[Round], reads: &[PathBuf]) -> Result<(), Failure> {
    let mut outputs = Outputs::default();
    for round in rounds {
        let report = round.report_path();
        let ours = |path: &Path| output_written_here(&report, path);
        for video in round.videos.iter().flatten() {
            outputs.file(video, Name::Given, &ours)?;
        }
        for dump in &round.dumps {
            check_extension(&dump.path(), &["npy"])?;
            outputs.file(&dump.path(), Name::Given, &ours)?;
        }
        outputs.file(&report, Name::Chosen, &written_here)?;
        outputs.file(&round.progress_path(), Name::Chosen, &progress::written_here)?;
    }
    Ok(outputs.spare(reads)?)
}

/// The files that the arguments name.
pub(super) fn named(args: &Args) -> Vec<PathBuf> {
    let mut reads = target::named_files(&args.target, args.hw.as_deref());
    reads.extend(args.inputs.iter().chain(&args.feeds).map(Pair::path));
    reads.extend(args.runtime.clone());
    reads
}

/// The files of a plan, beside those that the arguments name.
pub(super) fn of_plan(args: &Args, folder: &Path, manifest: &Manifest) -> Vec<PathBuf> {
    let mut reads = named(args);
    reads.push(folder.join(FILE));
    reads.extend(manifest.sessions.iter().map(|s| folder.join(&s.file)));
    reads.extend(manifest.files.iter().map(|f| Manifest::weights_path(folder, f)));
    reads
}

/// The files of each video: one video per output and item of the batch; a single one has the name that was asked for.
pub(super) fn videos(output: &Path, kind: OutputKind, manifest: &Manifest) -> Vec<Vec<PathBuf>> {
    let mut videos = Vec::new();
    for entry in &manifest.outputs {
        let batch = manifest.values[entry.value].ty.dims().first().map_or(1, |n| usize::try_from(*n).unwrap_or(1));
        for i in 0..batch {
            let mut words = Vec::new();
            if manifest.outputs.len() > 1 {
                // A name from a file, which is no path.
                words.push(word(&entry.name));
            }
            if batch > 1 {
                words.push(i.to_string());
            }
            videos.push(files(kind, &with_words(output, &words), output_dim(manifest, entry).0));
        }
    }
    videos
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

/// `out.mp4` at seed 7 is `out.7.mp4`.
fn with_seed(path: &Path, seed: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}.{seed}.{extension}"))
}

/// Gives what stands in the places of videos and dumps a second name, unless the report of the last run says that vidc wrote it.
pub(super) fn keep_all(round: &Round) -> Result<Vec<Kept>, Failure> {
    let report = round.report_path();
    let ours = |path: &Path| output_written_here(&report, path);
    let dumps: Vec<PathBuf> = round.dumps.iter().map(Pair::path).collect();
    let mut kept: Vec<Kept> = Vec::new();
    for path in round.videos.iter().flatten().chain(&dumps) {
        match keep(path, &ours) {
            Ok(one) => kept.extend(one),
            Err(d) => {
                kept.into_iter().for_each(Kept::undo);
                return Err(d.into());
            }
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_output_is_no_path() {
        for name in ["../../x", "/etc/x", "a/b"] {
            let path = with_words(Path::new("folder/o.mp4"), &[word(name), "1".into()]);
            assert_eq!(path.parent(), Some(Path::new("folder")), "{name}");
        }
        assert_eq!(with_words(Path::new("o.mp4"), &[word("video")]), Path::new("o-video.mp4"));
        assert_eq!(with_words(Path::new("o.mp4"), &[]), Path::new("o.mp4"));
    }

    #[test]
    fn runs_are_named_by_their_seeds() {
        assert_eq!(with_seed(Path::new("a/o.mp4"), 7), Path::new("a/o.7.mp4"));
        assert_eq!(with_seed(Path::new("o.1.npy"), 7), Path::new("o.1.7.npy"));
    }
}
