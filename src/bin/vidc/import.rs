//! `vidc import`: makes a graph of a diffusers folder.

use std::path::PathBuf;

use serde_json::json;

use crate::common::{Done, Out, say};
use vidc::import::{Saved, diffusers, save};

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

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let imported = diffusers(&args.folder, args.variant.as_deref())?;
    imported.notes.iter().for_each(|note| say(&format!("note: {note}")));
    let name = &imported.spec.name.value;
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.yaml")));
    let (what, kept) = match save(&path, &imported.text)? {
        Saved::New => ("wrote", None),
        Saved::Unchanged => ("unchanged:", None),
        Saved::Replaced(old) => ("wrote", Some(old)),
    };
    let old = kept.as_ref().map_or_else(String::new, |k| format!("kept what was there as {}\n", k.display()));
    out.result(
        || format!("{what} {}\n{old}", path.display()),
        || json!({ "graph": name, "path": path, "kept": kept, "notes": imported.notes }),
    );
    Ok(())
}
