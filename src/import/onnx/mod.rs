//! A model file that somebody else exported → an operator graph.
//!
//! ```text
//! bytes ─ onnx::read, check_external_data ─► ModelProto ─ functions inlined, nodes sorted ─► one node after the other:
//!     what is known of its inputs ─ standard ─► what is known of its outputs
//!     known numbers ─► a constant;   a rule of `lift` ─► a typed operator;   else ─► a foreign operator, as it was
//! ```
//! Typed and foreign operators stand at the meaning of opset 21 (`upgrade`), or of the file's own if that is newer. A shape whose
//! dims can be computed from the inputs of the model becomes an attribute of the operator, so the arithmetic that made it in the
//! file is dead. Values of other element types, sequences and types that are not known are opaque and only passed on.

mod constants;
mod control;
mod extents;
mod functions;
mod legacy;
mod lift;
mod read;
mod reader;
mod standard;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::diag::{Diagnostic, Result, suggest};
use crate::ir::{Bindings, OpGraph, verify};
use crate::onnx::proto::{GraphProto, ModelProto, ValueInfoProto};
use crate::onnx::{self, OPSET, Style};
use constants::Folder;
use functions::Functions;
use reader::{MAX_EXTENT, Reader, Shared};

/// Operator sets of the standard domain that are read. Older ones mean other things by the same names.
pub const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// A model as an operator graph, and what is needed to write it again.
#[derive(Clone, Debug)]
pub struct ImportedModel {
    /// The graph; its name is the file's.
    pub graph: OpGraph,
    /// How it is written: operator sets and the declarations of opaque inputs and outputs.
    pub style: Style,
    /// The operator set of the file.
    pub opset: i64,
    /// The files that hold its external data.
    pub files: BTreeSet<PathBuf>,
    /// Names of dims that the inputs declare, with their values where bound.
    pub dims: BTreeMap<String, Option<i64>>,
}

impl ImportedModel {
    /// Names of dims that are not bound.
    pub fn open_dims(&self) -> Vec<String> {
        self.dims.iter().filter(|(_, n)| n.is_none()).map(|(name, _)| name.clone()).collect()
    }
}

/// Reads a model. `dims` gives numbers for names of dims; an extent without a name is called `INPUT.AXIS`.
///
/// # Errors
/// `onnx/…`: the file is not a model, lies about its tensors, contradicts the standard or uses an operator set that is not read;
/// `onnx/unknown-dim` if a dim to bind is none of the model's.
pub fn read_model(path: &Path, dims: &Bindings) -> Result<ImportedModel> {
    let model = onnx::read(path)?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    import(&model, dir, dims).map_err(|d| Box::new(d.note(format!("the file is {}", path.display()))))
}

/// Reads a model that was decoded; its external data lie in `dir`.
///
/// # Errors
/// As [`read_model`].
pub fn import(model: &ModelProto, dir: &Path, dims: &Bindings) -> Result<ImportedModel> {
    let files = onnx::check_external_data(model, dir)?.into_iter().map(|t| t.path).collect();
    let proto = model.graph.as_ref().ok_or_else(|| Diagnostic::new("onnx/not-a-model", "the file holds no graph"))?;
    let functions = Functions::new(model);
    let opset = functions.opsets[0].get("").copied().unwrap_or(*OPSETS.start());
    check_opset(opset)?;
    check_bindings(dims)?;
    let mut shared = Shared::new(functions, Folder::new(dir), dims);
    let mut reader = Reader::new(&proto.name, &mut shared);
    reader.inputs(proto, model.ir_version)?;
    reader.content(proto)?;
    let outputs = reader.outputs(proto)?;
    let mut graph = reader.graph;
    for (declared, outlet) in proto.output.iter().zip(outputs) {
        graph.output(declared.name.clone(), outlet);
    }
    check_dims(dims, &shared.named)?;
    verify(&graph)?;
    let style = style(proto, &shared, opset);
    for opset in &shared.functions.opsets {
        check_opset(opset.get("").copied().unwrap_or(style.opset))?;
    }
    let dims = shared.named.iter().map(|(name, dim)| (name.clone(), dim.as_const())).collect();
    Ok(ImportedModel { graph, style, opset, files, dims })
}

fn check_opset(opset: i64) -> Result<()> {
    if OPSETS.contains(&opset) {
        return Ok(());
    }
    let message = format!("the model uses operator set {opset}; {} to {} are read", OPSETS.start(), OPSETS.end());
    Err(Diagnostic::new("onnx/opset", message).help("convert it with `onnx.version_converter`, or export it again").into())
}

fn check_bindings(dims: &Bindings) -> Result<()> {
    if let Some((name, n)) = dims.iter().find(|(_, n)| !(0..=MAX_EXTENT).contains(*n)) {
        let message = format!("`{name}` cannot be {n}");
        return Err(Diagnostic::new("onnx/tensor-shape", message).help("give the number of elements along an axis").into());
    }
    Ok(())
}

fn check_dims(dims: &Bindings, named: &BTreeMap<String, crate::ir::Dim>) -> Result<()> {
    let Some(unknown) = dims.keys().find(|d| !named.contains_key(*d)) else { return Ok(()) };
    let names: Vec<&str> = named.keys().map(String::as_str).collect();
    let message = if names.is_empty() {
        format!("`{unknown}` is no dim of the model: all its inputs have fixed sizes")
    } else {
        format!("`{unknown}` is no dim of the model; it has {}", names.join(", "))
    };
    Err(Diagnostic::new("onnx/unknown-dim", message).help(suggest(unknown, names)).into())
}

fn style(proto: &GraphProto, shared: &Shared<'_>, opset: i64) -> Style {
    let newest = shared.functions.opsets.iter().filter_map(|o| o.get("")).max().copied().unwrap_or(opset);
    let declared: BTreeMap<String, ValueInfoProto> = proto.input.iter().chain(&proto.output).map(|v| (v.name.clone(), v.clone())).collect();
    let mut domains: BTreeMap<String, i64> = BTreeMap::new();
    for (domain, version) in shared.functions.opsets.iter().flatten().filter(|(d, _)| !d.is_empty()) {
        let known = domains.entry(domain.clone()).or_insert(*version);
        *known = (*known).max(*version);
    }
    Style { opset: newest.max(OPSET), reversed: false, declared, domains, hides_shapes: false }
}
