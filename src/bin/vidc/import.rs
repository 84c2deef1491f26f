//! `vidc import`: makes a graph of a diffusers folder.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::render::kept_text;
use crate::common::{Done, Out, say};
use vidc::files::output::{Name, Outputs, Saved, check_extension, save, unknown_writer};
use vidc::files::word;
use vidc::import::{diffusers, files};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder that holds `model_index.json`.
    folder: PathBuf,
    /// Which of several sets of weights in the folder, such as fp16.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// The graph; NAME.yaml if not given. A different one that is there is kept as FILE.old.
    #[arg(short, long, value_name = "GRAPH")]
    output: Option<PathBuf>,
}

/// Refuses an output that cannot be written, or that the folder needs.
fn check(path: &Path, reads: &[PathBuf]) -> Done {
    check_extension(path, &["yaml", "yml"])?;
    let mut outputs = Outputs::default();
    outputs.file(path, Name::Given, &unknown_writer)?;
    Ok(outputs.spare(reads)?)
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let reads = files(&args.folder);
    if let Some(path) = &args.output {
        check(path, &reads)?;
    }
    let imported = diffusers(&args.folder, args.variant.as_deref())?;
    imported.notes.iter().for_each(|note| say(&format!("note: {note}")));
    let name = &imported.spec.name.value;
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.yaml", word(name))));
    check(&path, &reads)?;
    let (what, kept) = match save(&path, &imported.text)? {
        Saved::New => ("wrote", None),
        Saved::Unchanged => ("unchanged:", None),
        Saved::Replaced(old) => ("wrote", Some(old)),
    };
    let old = kept_text(kept.as_slice());
    out.result(
        || format!("{what} {}\n{old}", path.display()),
        || json!({ "graph": name, "path": path, "kept": kept, "notes": imported.notes }),
    );
    Ok(())
}
