//! A model as a file for others: nodes in topological order, weights in one file beside it, and what it was made for in its
//! `metadata_props`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::live_part;
use crate::diag::{Diagnostic, Result};
use crate::files;
use crate::ir::{OpGraph, verify};
use crate::onnx::proto::StringStringEntryProto;
use crate::onnx::{self, Style};
use crate::plan::{Placed, Store, emit};
use crate::weights::{Source, WeightExpr, WeightOp};

/// Behind the name of the model.
const DATA: &str = ".data";

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The model.
    pub model: PathBuf,
    /// Its weights; none if all of them are small.
    pub data: Option<PathBuf>,
    /// Bytes of both.
    pub bytes: u64,
    /// Nodes of the model.
    pub nodes: usize,
}

/// Writes what the outputs of a lowered graph depend on to `path`, weights to `path` with `.data` behind it. Weights that nobody changed stay in the file that they
/// are in if that lies in the same folder.
///
/// # Errors
/// What evaluating weights returns, `pass/not-lowered`, `io/unwritable`.
pub fn write(graph: &OpGraph, style: &Style, metadata: Vec<StringStringEntryProto>, path: &Path) -> Result<Written> {
    let unwritable = |e: &dyn std::fmt::Display| Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {e}", path.display()));
    let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| unwritable(&"it has no name in UTF-8"))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let own = format!("{name}{DATA}");
    let temporary = tempfile::Builder::new().prefix(".vidc-").tempdir_in(folder).map_err(|e| unwritable(&e))?;
    let source = Source::Files(BTreeMap::new());
    let mut store = Store::create(temporary.path().join(&own), &own, &source, true)?;
    let home = std::fs::canonicalize(folder).map_err(|e| unwritable(&e))?;
    let graph = live_part(graph);
    let mut proto = emit(verify(&graph)?, style, &mut |expr| match beside(expr, &home, &own) {
        Some(placed) => Ok(placed),
        None => store.place(expr),
    })?;
    proto.metadata_props = metadata;
    let files = store.finish()?;
    let bytes = onnx::encode(&proto)?;
    let data = files.first().map(|_| folder.join(&own));
    if let Some(data) = &data {
        std::fs::rename(temporary.path().join(&own), data).map_err(|e| unwritable(&e))?;
    }
    files::write_atomic(path, |w| w.write_all(&bytes))?;
    let nodes = proto.graph.as_ref().map_or(0, |g| g.node.len());
    let total = bytes.len() as u64 + files.iter().map(|f| f.bytes).sum::<u64>();
    Ok(Written { model: path.into(), data, bytes: total, nodes })
}

/// The place of a weight that lies untouched in the folder already.
fn beside(expr: &WeightExpr, home: &Path, own: &str) -> Option<Placed> {
    let WeightOp::Stored(tensor) = expr.op() else { return None };
    let path = std::fs::canonicalize(tensor.file.path()).ok()?;
    let name = path.file_name()?.to_str().filter(|n| *n != own)?;
    (path.parent()? == home).then(|| Placed::External { location: name.into(), offset: tensor.offset, len: tensor.len })
}
