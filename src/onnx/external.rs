//! Every stored tensor of a model, wherever it stands, and the proof that external ones are where they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::dtype::Field;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use super::scan::too_deep;
use super::tensor;
use crate::diag::{Diagnostic, Result};
use crate::files::{self, Refusal};

/// Graphs in graphs; real models have three or four.
const MAX_NESTING: usize = 20;

/// A tensor whose values lie in another file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalTensor {
    /// Its name; empty for the value of an attribute.
    pub name: String,
    /// Whether it is a dense initialiser of the main graph, where names are unique.
    pub top_level: bool,
    /// A row of [`super::dtype::DTYPES`].
    pub data_type: i32,
    /// Shape.
    pub shape: Vec<u64>,
    /// The real path of the file.
    pub path: PathBuf,
    /// First byte.
    pub offset: u64,
    /// Bytes: what shape and type need.
    pub len: u64,
}

/// Checks every tensor of a model that lies in `dir`: the number of values of those in the model; file, offset and length of
/// those outside. Initialisers, sparse ones, attributes, subgraphs, functions and training graphs are walked.
///
/// Returns the external tensors in the order of the walk. Reads no values.
///
/// # Errors
/// The first mistake, one code each: the rows `onnx/external-…` and `onnx/tensor-…`, `onnx/too-deep`. Notes say where.
pub fn check_external_data(model: &ModelProto, dir: &Path) -> Result<Vec<ExternalTensor>> {
    let mut folder = Folder { dir, known: BTreeMap::new() };
    let mut found = Vec::new();
    for_each_tensor(model, &mut |t, top_level| {
        tensor::check(t)?;
        if tensor::is_external(t) {
            found.push(folder.locate(t, top_level)?);
        } else if !t.external_data.is_empty() {
            return Err(malformed(t, "names external data but is not marked as external").into());
        }
        Ok(())
    })?;
    Ok(found)
}

/// What is called for each tensor: the tensor, and whether it is a dense initialiser of the main graph.
type Visit<'v, 'm> = &'v mut dyn FnMut(&'m TensorProto, bool) -> Result<()>;

/// Calls `visit` for every tensor of a model, also in attributes, subgraphs, functions and training graphs.
///
/// # Errors
/// What `visit` returns, with notes that say where; `onnx/too-deep`.
pub fn for_each_tensor<'m>(model: &'m ModelProto, visit: Visit<'_, 'm>) -> Result<()> {
    if let Some(graph) = &model.graph {
        walk_graph(graph, 0, visit)?;
    }
    for function in &model.functions {
        walk_function(function, visit).map_err(|d| d.note(format!("in function `{}`", function.name)))?;
    }
    for graph in model.training_info.iter().flat_map(|t| t.initialization.iter().chain(&t.algorithm)) {
        walk_graph(graph, 1, visit).map_err(|d| d.note("in a training graph"))?;
    }
    Ok(())
}

fn walk_function<'m>(function: &'m FunctionProto, visit: Visit<'_, 'm>) -> Result<()> {
    for attribute in &function.attribute_proto {
        walk_attribute(attribute, 1, visit)?;
    }
    function.node.iter().try_for_each(|node| walk_node(node, 1, visit))
}

fn walk_graph<'m>(graph: &'m GraphProto, depth: usize, visit: Visit<'_, 'm>) -> Result<()> {
    if depth > MAX_NESTING {
        return Err(too_deep().into());
    }
    for tensor in &graph.initializer {
        visit(tensor, depth == 0)?;
    }
    for sparse in &graph.sparse_initializer {
        walk_sparse(sparse, visit)?;
    }
    graph.node.iter().try_for_each(|node| walk_node(node, depth, visit))
}

fn walk_node<'m>(node: &'m NodeProto, depth: usize, visit: Visit<'_, 'm>) -> Result<()> {
    for attribute in &node.attribute {
        walk_attribute(attribute, depth, visit)
            .map_err(|d| d.note(format!("in attribute `{}` of node `{}` ({})", attribute.name, node.name, node.op_type)))?;
    }
    Ok(())
}

fn walk_attribute<'m>(attribute: &'m AttributeProto, depth: usize, visit: Visit<'_, 'm>) -> Result<()> {
    for tensor in attribute.t.iter().map(AsRef::as_ref).chain(&attribute.tensors) {
        visit(tensor, false)?;
    }
    for sparse in attribute.sparse_tensor.iter().map(AsRef::as_ref).chain(&attribute.sparse_tensors) {
        walk_sparse(sparse, visit)?;
    }
    let mut graphs = attribute.g.iter().map(AsRef::as_ref).chain(&attribute.graphs);
    graphs.try_for_each(|graph| walk_graph(graph, depth + 1, visit))
}

fn walk_sparse<'m>(sparse: &'m SparseTensorProto, visit: Visit<'_, 'm>) -> Result<()> {
    sparse.values.iter().chain(&sparse.indices).try_for_each(|tensor| visit(tensor, false))
}

/// The model's folder, and the files of it that were looked at.
struct Folder<'a> {
    dir: &'a Path,
    known: BTreeMap<String, (PathBuf, u64)>,
}

impl Folder<'_> {
    fn locate(&mut self, t: &TensorProto, top_level: bool) -> Result<ExternalTensor> {
        if tensor::dtype_of(t)?.field == Field::Strings || t.raw_data.as_ref().is_some_and(|raw| !raw.is_empty()) {
            return Err(malformed(t, "is external but is of strings, or has values in the model too").into());
        }
        let needed = tensor::bytes_needed(t)?;
        let location = key(t, "location")?.ok_or_else(|| malformed(t, "is external but names no location"))?;
        let offset = number(t, "offset")?.unwrap_or(0);
        let len = number(t, "length")?.unwrap_or(needed);
        let (path, file_len) = self.file(t, location)?;
        if offset.checked_add(len).is_none_or(|end| end > file_len) {
            return Err(out_of_range(t, location, offset, len, file_len).into());
        }
        if len != needed {
            return Err(wrong_length(t, len, needed).into());
        }
        let (shape, _) = tensor::shape_of(t)?;
        Ok(ExternalTensor { name: t.name.clone(), top_level, data_type: t.data_type, shape, path, offset, len })
    }

    fn file(&mut self, t: &TensorProto, location: &str) -> Result<(PathBuf, u64)> {
        if let Some(known) = self.known.get(location) {
            return Ok(known.clone());
        }
        let path = files::confined(self.dir, location).map_err(|why| refused(t, location, &why))?;
        let (_, len) = files::open_regular(&path)?;
        self.known.insert(location.into(), (path.clone(), len));
        Ok((path, len))
    }
}

/// The value of `key` in the tensor's external data.
fn key<'t>(t: &'t TensorProto, key: &str) -> Result<Option<&'t str>> {
    let mut values = t.external_data.iter().filter(|e| e.key == key).map(|e| e.value.as_str());
    let first = values.next();
    if values.next().is_some() {
        return Err(malformed(t, &format!("names `{key}` of its external data twice")).into());
    }
    Ok(first)
}

fn number(t: &TensorProto, name: &str) -> Result<Option<u64>> {
    let Some(text) = key(t, name)? else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|_| digits);
    value
        .map(Some)
        .ok_or_else(|| malformed(t, &format!("has the {name} `{text}` for its external data, which is not a whole number")).into())
}

fn malformed(t: &TensorProto, what: &str) -> Diagnostic {
    Diagnostic::new("onnx/external-malformed", format!("tensor `{}` {what}", t.name)).help("export the model again")
}

fn refused(t: &TensorProto, location: &str, why: &Refusal) -> Diagnostic {
    let message = format!("tensor `{}` wants its data from `{}`: {why}", t.name, location.escape_debug());
    if matches!(why, Refusal::Missing | Refusal::Dangling(_)) {
        return Diagnostic::new("onnx/external-missing", message).help("copy the file into the model's folder");
    }
    Diagnostic::new("onnx/external-path-escape", message)
        .help("external data must be one regular file directly in the model's folder; move it there, or export again")
}

fn out_of_range(t: &TensorProto, location: &str, offset: u64, len: u64, file_len: u64) -> Diagnostic {
    let message = format!("tensor `{}` takes {len} bytes from byte {offset} of `{location}`, which has {file_len}", t.name);
    Diagnostic::new("onnx/external-out-of-range", message).help("the file is truncated or belongs to another model; fetch both again")
}

fn wrong_length(t: &TensorProto, len: u64, needed: u64) -> Diagnostic {
    let message = format!("tensor `{}` of shape {:?} needs {needed} bytes but {len} are stored", t.name, t.dims);
    Diagnostic::new("onnx/tensor-size-mismatch", message).help("the model and its data do not belong together")
}

#[cfg(test)]
#[path = "external_tests.rs"]
mod tests;
