//! Whose a model file is, and whose the weights beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::proto::ModelProto;
use super::{build, for_each_tensor, read};
use crate::files::output::{folder_of, same_file};

/// Models of one folder that are looked at.
const MOST_MODELS: usize = 10_000;

/// Did vidc write this model? Its producer says so.
///
/// # Errors
/// Why not.
pub fn written_here(path: &Path) -> Result<(), String> {
    match read(path) {
        Ok(model) if model.producer_name == build::PRODUCER => Ok(()),
        Ok(_) => Err("it is a model that vidc did not write".into()),
        Err(_) => Err("it is no model that vidc wrote".into()),
    }
}

/// May `data`, the weights beside `model`, be replaced together with it? Only if a model by vidc names the file as its external data,
/// and no other model does. A model that a stopped write left under a temporary name counts as the model itself.
///
/// # Errors
/// Why not.
pub fn weights_written_here(model: &Path, data: &Path) -> Result<(), String> {
    let mut named = false;
    for path in models(folder_of(data)) {
        let Ok(proto) = read(&path) else { continue };
        if !names(&proto, data) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let vidc = proto.producer_name == build::PRODUCER;
        if !vidc || !(same_file(&path, model) || name.starts_with(crate::files::TEMPORARY)) {
            return Err(format!("the model `{name}` keeps its weights there"));
        }
        named = true;
    }
    if named { Ok(()) } else { Err("vidc did not write it: no model by vidc beside it names it".into()) }
}

/// Names of the files that hold a model's external data, as it writes them.
pub fn locations(model: &ModelProto) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // What is nested too deep is refused where the model is read; here it names nothing.
    let _ = for_each_tensor(model, &mut |tensor, _| {
        found.extend(tensor.external_data.iter().filter(|p| p.key == "location").map(|p| p.value.clone()));
        Ok(())
    });
    found
}

fn names(model: &ModelProto, data: &Path) -> bool {
    let folder = folder_of(data);
    locations(model).iter().any(|location| {
        let path = folder.join(location);
        path == data || same_file(&path, data)
    })
}

fn models(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_model = |path: &PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    entries.flatten().take(MOST_MODELS).map(|e| e.path()).filter(is_model).collect()
}
