//! What somebody gave to `vidc import` in place of a folder, and the way from there to one.

use std::path::Path;

use crate::diag::Diagnostic;
use crate::files::{self, open_regular, read_start};

/// Endings of pickled checkpoints.
const PICKLES: [&str; 6] = ["bin", "ckpt", "pt", "pth", "pkl", "pickle"];

/// A regular file, or what else is no folder; `real` is where the name leads.
pub(super) fn file(dir: &Path, real: &Path) -> Diagnostic {
    let shown = dir.display();
    let extension = real.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let start = start(real);
    let name = real.file_name().unwrap_or_default();
    if name == "model_index.json" {
        return not_a_pipeline(format!("{shown} is a file")).help(format!("name the folder that it is in: `vidc import {}`", parent(dir)));
    }
    if extension == "safetensors" {
        let message =
            format!("{shown} is a single safetensors file: the weights alone, without the configurations that a graph is made of");
        return Diagnostic::new("import/single-file", message).help(convert(dir));
    }
    let is_pickle = PICKLES.contains(&extension.as_str())
        || start.starts_with(b"\x80\x02")
        || (start.starts_with(b"PK\x03\x04") && extension.is_empty());
    if is_pickle {
        let message = format!("{shown} is a pickled checkpoint, which vidc never loads because loading it runs the code in it");
        let help = format!("look for safetensors files of the same model; if you trust this one, {}", convert(dir));
        return Diagnostic::new("import/pickle", message).help(help);
    }
    if extension == "onnx" {
        let help = format!("one model is rewritten with `vidc optimize {shown} -o OUT.onnx` and looked at with `vidc inspect {shown}`");
        return not_a_pipeline(format!("{shown} is an ONNX model, not a pipeline")).help(help);
    }
    if extension == "gguf" || start.starts_with(b"GGUF") {
        return not_a_pipeline(format!("{shown} is a GGUF file, whose quantised weights vidc does not read"))
            .help("fetch the model in the layout of diffusers");
    }
    not_a_pipeline(format!("{shown} is not a folder")).help("name the folder that holds model_index.json")
}

/// A name under which nothing is.
pub(super) fn nothing(dir: &Path, shown: &str, why: &std::io::Error) -> Diagnostic {
    if let Some(to) = files::dangling(dir) {
        let message = format!("{shown} is a link to {}, which is not there", to.display());
        return not_a_pipeline(message).help("fetch the model again, or name the folder itself");
    }
    let Some(id) = hub_id(shown) else {
        return not_a_pipeline(format!("{shown} cannot be opened: {why}")).help("name the folder that holds model_index.json");
    };
    let name = id.rsplit('/').next().unwrap_or(id);
    let message = format!("{shown} is no folder here; it looks like a model on the hub, and vidc downloads no models");
    let help = format!("fetch it first: `hf download {id} --local-dir {name}`, then `vidc import {name}`");
    Diagnostic::new("import/hub-id", message).help(help)
}

/// The `OWNER/NAME` that a text seems to mean.
fn hub_id(text: &str) -> Option<&str> {
    let id = ["https://huggingface.co/", "http://huggingface.co/", "https://hf.co/", "hf://"].iter().find_map(|p| text.strip_prefix(p));
    let is_url = id.is_some();
    let id = id.unwrap_or(text).trim_end_matches('/');
    let word =
        |w: &str| w.starts_with(|c: char| c.is_ascii_alphanumeric()) && w.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let (owner, name) = id.split_once('/')?;
    let name = if is_url { name.split('/').next()? } else { name };
    let id = &id[..owner.len() + 1 + name.len()];
    // A folder of that name makes it a path with a mistake.
    (word(owner) && word(name) && (is_url || !Path::new(owner).exists())).then_some(id)
}

fn not_a_pipeline(message: String) -> Diagnostic {
    Diagnostic::new("import/not-a-pipeline", message)
}

/// The command of diffusers that makes a folder of one checkpoint.
fn convert(dir: &Path) -> String {
    let name = dir.file_stem().unwrap_or_default().to_string_lossy();
    format!(
        "make a folder of it with diffusers, `StableVideoDiffusionPipeline.from_single_file({:?}).save_pretrained({name:?})`, and import that",
        dir.display().to_string()
    )
}

fn parent(dir: &Path) -> String {
    files::output::folder_of(dir).display().to_string()
}

/// The first bytes of a file; none if it cannot be read.
fn start(path: &Path) -> Vec<u8> {
    let Ok((mut file, len)) = open_regular(path) else { return Vec::new() };
    read_start(path, &mut file, len.min(8)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_folder_is_said_with_the_way_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let given = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).expect("writable");
            let d = file(&path, &path);
            (d.code, d.help.unwrap_or_default())
        };
        for (name, bytes, code, way) in [
            ("m.safetensors", &b""[..], "import/single-file", "save_pretrained(\"m\")"),
            ("m.ckpt", b"", "import/pickle", "safetensors"),
            ("m.BIN", b"", "import/pickle", "safetensors"),
            ("m", b"\x80\x02}q", "import/pickle", "safetensors"),
            ("m.onnx", b"", "import/not-a-pipeline", "vidc optimize"),
            ("m.gguf", b"", "import/not-a-pipeline", "diffusers"),
            ("model_index.json", b"{}", "import/not-a-pipeline", "vidc import"),
            ("m.txt", b"", "import/not-a-pipeline", "model_index.json"),
        ] {
            let (found, help) = given(name, bytes);
            assert_eq!(found, code, "{name}");
            assert!(help.contains(way), "{name}: {help}");
        }
    }

    #[test]
    fn a_name_of_the_hub_is_known() {
        for text in [
            "stabilityai/svd",
            "https://huggingface.co/stabilityai/svd",
            "https://huggingface.co/stabilityai/svd/tree/main",
            "hf://stabilityai/svd",
        ] {
            assert_eq!(hub_id(text), Some("stabilityai/svd"), "{text}");
        }
        for text in ["svd", "/a/b", "./a/b", "../b", "a/b/c", "src/svd", "a b/c"] {
            assert_eq!(hub_id(text), None, "{text}");
        }
    }
}
