//! A model as a file for others: nodes in topological order, weights in one file beside it, and what it was made for in its
//! `metadata_props`.
//!
//! Both files are whole, under temporary names, before either takes its own. The model that the new weights do not belong to goes
//! first, so that at no moment a model stands beside weights of another.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::model::live_part;
use crate::diag::{Diagnostic, Result};
use crate::files;
use crate::files::output::{Kept, Name, Outputs, check_extension, folder_of, keep};
use crate::ir::{OpGraph, verify};
use crate::onnx::proto::StringStringEntryProto;
use crate::onnx::{self, Style, owner};
use crate::plan::{Placed, Store, emit};
use crate::weights::{ParamSource, WeightExpr, WeightOp};

/// Behind the name of the model.
const DATA: &str = ".data";

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The model.
    pub model: PathBuf,
    /// Its weights; none if all of them are small.
    pub data: Option<PathBuf>,
    /// Where a file is kept that stood under the model's name and was not vidc's.
    pub kept: Option<PathBuf>,
    /// Bytes of both.
    pub bytes: u64,
    /// Nodes of the model.
    pub nodes: usize,
}

/// The files that [`write()`] would write, looked at before any work.
///
/// # Errors
/// `io/extension`, and those of [`Outputs::file`].
pub fn outputs(path: &Path) -> Result<Outputs> {
    check_extension(path, &["onnx"])?;
    let mut outputs = Outputs::default();
    outputs.file(path, Name::Given, &owner::written_here)?;
    outputs.file(&data_beside(path), Name::Chosen, &|data| owner::weights_written_here(path, data))?;
    Ok(outputs)
}

/// `o.onnx` → `o.onnx.data`.
fn data_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(DATA);
    name.into()
}

/// Writes what the outputs of a lowered graph depend on to `path`, weights to `path` with `.data` behind it. Weights that nobody changed stay in the file that they
/// are in if that lies in the same folder.
///
/// # Errors
/// What evaluating weights returns, `pass/not-lowered`, those of [`outputs`], `io/unwritable`; nothing is left behind then.
pub fn write(graph: &OpGraph, style: &Style, metadata: Vec<StringStringEntryProto>, path: &Path) -> Result<Written> {
    let unwritable = |e: &dyn std::fmt::Display| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", path.display()));
    let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| unwritable(&"it has no name in UTF-8"))?;
    outputs(path)?;
    let folder = folder_of(path);
    let own = format!("{name}{DATA}");
    let weights = files::temporary(folder, DATA).map_err(|e| unwritable(&e))?;
    let source = ParamSource::Files(BTreeMap::new());
    let mut store = Store::create(weights.path().into(), &own, &source, true)?;
    let home = std::fs::canonicalize(folder).map_err(|e| unwritable(&e))?;
    let graph = live_part(graph);
    let mut proto = emit(verify(&graph)?, style, &mut |expr| match beside(expr, &home, &own) {
        Some(placed) => Ok(placed),
        None => store.place(expr),
    })?;
    proto.metadata_props = metadata;
    let files = store.finish()?;
    let bytes = onnx::encode(&proto)?;
    let weights = (!files.is_empty()).then_some(weights);
    let data = weights.as_ref().map(|_| data_beside(path));
    let kept = whole(folder, &bytes, weights.as_ref()).and_then(|model| publish(path, model, weights)).map_err(|e| match e {
        Unpublished::Io(e) => Box::new(unwritable(&e).help("choose a folder that exists, may be written and has room")),
        Unpublished::Refused(d) => d,
    })?;
    let nodes = proto.graph.as_ref().map_or(0, |g| g.node.len());
    let total = bytes.len() as u64 + files.iter().map(|f| f.bytes).sum::<u64>();
    Ok(Written { model: path.into(), data, kept: kept.map(|k| k.path), bytes: total, nodes })
}

/// Why two whole files did not get their names.
enum Unpublished {
    Io(io::Error),
    Refused(Box<Diagnostic>),
}

impl From<io::Error> for Unpublished {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// The model under a temporary name, with the weights on the disk.
fn whole(folder: &Path, bytes: &[u8], weights: Option<&NamedTempFile>) -> std::result::Result<NamedTempFile, Unpublished> {
    // Its ending makes it a witness that the weights are vidc's, should this process be killed between the two names.
    let mut model = files::temporary(folder, ".onnx")?;
    model.write_all(bytes)?;
    model.as_file().sync_all()?;
    if let Some(weights) = weights {
        weights.as_file().sync_all()?;
    }
    Ok(model)
}

/// Gives both files their names.
fn publish(path: &Path, model: NamedTempFile, weights: Option<NamedTempFile>) -> std::result::Result<Option<Kept>, Unpublished> {
    // Somebody else may have written meanwhile.
    outputs(path).map_err(Unpublished::Refused)?;
    let data = data_beside(path);
    let stale = data.symlink_metadata().is_ok();
    let kept = keep(path, &owner::written_here).map_err(Unpublished::Refused)?;
    let named = (|| {
        if stale && weights.is_some() && path.symlink_metadata().is_ok() {
            std::fs::remove_file(path)?;
        }
        let renews = weights.is_some();
        if let Some(weights) = weights {
            weights.persist(&data).map_err(|e| e.error)?;
        }
        if let Err(e) = model.persist(path) {
            if renews {
                std::fs::remove_file(&data)?;
            }
            return Err(e.error);
        }
        // Weights of the model that was replaced; this one has none of its own.
        if stale && !renews { std::fs::remove_file(&data) } else { Ok(()) }
    })();
    match named {
        Ok(()) => Ok(kept),
        Err(e) => {
            kept.into_iter().for_each(Kept::undo);
            Err(e.into())
        }
    }
}

/// The place of a weight that lies untouched in the folder already.
fn beside(expr: &WeightExpr, home: &Path, own: &str) -> Option<Placed> {
    let WeightOp::Stored(tensor) = expr.op() else { return None };
    let path = std::fs::canonicalize(tensor.file.path()).ok()?;
    let name = path.file_name()?.to_str().filter(|n| *n != own)?;
    (path.parent()? == home).then(|| Placed::External { location: name.into(), offset: tensor.offset, len: tensor.len })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::import::onnx::read_model;
    use crate::ir::Bindings;
    use crate::onnx::build::{self, attr};
    use crate::onnx::proto::{GraphProto, NodeProto};

    /// A product with a factor holds its weight once as it was and once scaled while it is read; only one of them is needed.
    #[test]
    fn what_no_output_depends_on_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("m.onnx");
        let gemm = build::node("Gemm", "gemm", &["x", "w"], &["y"]);
        let graph = GraphProto {
            name: "g".into(),
            node: vec![NodeProto { attribute: vec![attr::float("alpha", 0.5)], ..gemm }],
            input: vec![build::value_info("x", 1, &[3.into(), 64.into()])],
            output: vec![build::value_info("y", 1, &[3.into(), 64.into()])],
            initializer: vec![build::tensor("w", 1, &[64, 64], 1_f32.to_le_bytes().repeat(64 * 64))],
            ..GraphProto::default()
        };
        std::fs::write(&source, onnx::encode(&build::model(graph, 17)).unwrap()).unwrap();
        let model = read_model(&source, &Bindings::default()).unwrap();
        let written = write(&model.graph, &model.style, vec![], &folder.path().join("o.onnx")).unwrap();
        let before = std::fs::metadata(&source).unwrap().len();
        assert!(written.bytes < before + 1000, "{before} bytes became {}", written.bytes);
    }
}
