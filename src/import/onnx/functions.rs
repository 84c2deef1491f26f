//! Local functions inlined: a call becomes the function's nodes under new names. ONNX Runtime does the same when it loads a model.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::diag::{Diagnostic, Result};
use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Calls inside calls.
const MAX_DEPTH: usize = 64;
/// Nodes of the whole model after inlining: ten times the largest graph we have seen; a function that calls two others twice each
/// grows without bound in a small file.
const MAX_NODES: usize = 2_000_000;
/// Bytes of names and attributes that calls copy. Raw data of tensors are shared and cost nothing.
const MAX_COPIED: usize = 1 << 30;

/// A node with the operator sets under which it stands.
#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) node: NodeProto,
    /// Index into [`Functions::opsets`].
    pub(super) opsets: usize,
}

/// The functions of a model by domain, name and overload, and the operator sets of the model and of each function.
pub(super) struct Functions<'m> {
    by_name: HashMap<Key, &'m FunctionProto>,
    /// First the model's, then one for each function met.
    pub(super) opsets: Vec<BTreeMap<String, i64>>,
    /// Nodes and calls so far.
    made: usize,
    /// Bytes of nodes that stand inside of functions, so far.
    copied: usize,
}

/// Domain, name and overload.
type Key = (String, String, String);

/// The standard domain has two names.
pub(super) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

impl<'m> Functions<'m> {
    pub(super) fn new(model: &'m ModelProto) -> Self {
        let by_name = model.functions.iter().map(|f| ((domain(&f.domain).into(), f.name.clone(), f.overload.clone()), f)).collect();
        let opsets = model.opset_import.iter().map(|o| (domain(&o.domain).to_owned(), o.version)).collect();
        Self { by_name, opsets: vec![opsets], made: 0, copied: 0 }
    }

    /// The nodes of a graph, calls replaced; bodies are not entered.
    ///
    /// # Errors
    /// `onnx/function`: a function calls itself, calls are nested too deep, or more nodes come out than a model can have.
    pub(super) fn inline(&mut self, graph: &GraphProto) -> Result<Vec<Called>> {
        let mut out = Vec::new();
        for node in &graph.node {
            self.node(node.clone(), 0, &mut Vec::new(), &mut out)?;
        }
        Ok(out)
    }

    fn node(&mut self, node: NodeProto, opsets: usize, stack: &mut Vec<Key>, out: &mut Vec<Called>) -> Result<()> {
        self.made += 1;
        self.copied = self.copied.saturating_add(if stack.is_empty() { 0 } else { size(&node) });
        if self.made > MAX_NODES || self.copied > MAX_COPIED {
            return Err(
                refused(&format!("the model has more than {MAX_NODES} nodes or too large ones once its functions are inlined")).into()
            );
        }
        let key: Key = (domain(&node.domain).into(), node.op_type.clone(), node.overload.clone());
        let Some(function) = self.by_name.get(&key).copied() else {
            out.push(Called { node, opsets });
            return Ok(());
        };
        if stack.contains(&key) {
            return Err(refused(&format!("the function `{}` calls itself", function.name)).into());
        }
        if stack.len() >= MAX_DEPTH {
            return Err(refused(&format!("functions call each other {MAX_DEPTH} deep")).into());
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            let message = format!(
                "`{}` gives {} inputs and takes {} outputs of the function `{}`, which has {} and {}",
                node.name,
                node.input.len(),
                node.output.len(),
                function.name,
                function.input.len(),
                function.output.len()
            );
            return Err(refused(&message).into());
        }
        self.opsets.push(function.opset_import.iter().map(|o| (domain(&o.domain).to_owned(), o.version)).collect());
        let inner = self.opsets.len() - 1;
        stack.push(key);
        // Every call has a prefix of its own: names stay unique.
        let prefix = format!("call{inner}/");
        let renames = Renames::of_call(function, &node, &prefix);
        for inner_node in &function.node {
            let mut copy = inner_node.clone();
            substitute(&mut copy.attribute, &node.attribute, function);
            renames.node(&mut copy);
            copy.name = format!("{}/{}", node.name, copy.name);
            self.node(copy, inner, stack, out)?;
        }
        // An output that is an input as it came.
        for (formal, actual) in function.output.iter().zip(&node.output).filter(|(_, a)| !a.is_empty()) {
            let value = renames.name(formal);
            if value != *actual {
                let copy = crate::onnx::build::node("Identity", &node.name, &[&value], &[actual]);
                self.node(copy, inner, stack, out)?;
            }
        }
        stack.pop();
        Ok(())
    }
}

/// Attributes that refer to the caller's get its values, or the function's defaults, or vanish. Bodies are entered.
fn substitute(attributes: &mut Vec<AttributeProto>, given: &[AttributeProto], function: &FunctionProto) {
    attributes.retain_mut(|a| {
        if !a.ref_attr_name.is_empty() {
            let value = given.iter().chain(&function.attribute_proto).find(|g| g.name == a.ref_attr_name);
            let Some(value) = value else { return false };
            *a = AttributeProto { name: std::mem::take(&mut a.name), ..value.clone() };
            return true;
        }
        for body in a.g.iter_mut().map(AsMut::as_mut).chain(&mut a.graphs) {
            body.node.iter_mut().for_each(|n| substitute(&mut n.attribute, given, function));
        }
        true
    });
}

/// New names for the values of one call.
struct Renames<'a> {
    prefix: &'a str,
    known: BTreeMap<&'a str, &'a str>,
}

impl<'a> Renames<'a> {
    fn of_call(function: &'a FunctionProto, call: &'a NodeProto, prefix: &'a str) -> Self {
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        // Inputs last: an output that is an input as well is read by the input's name.
        for (formal, actual) in function.output.iter().zip(&call.output).filter(|(_, a)| !a.is_empty()) {
            known.insert(formal, actual);
        }
        for (i, formal) in function.input.iter().enumerate() {
            known.insert(formal, call.input.get(i).map_or("", String::as_str));
        }
        Self { prefix, known }
    }

    fn name(&self, name: &str) -> String {
        match self.known.get(name) {
            Some(actual) => (*actual).to_owned(),
            None if name.is_empty() => String::new(),
            None => format!("{}{name}", self.prefix),
        }
    }

    fn node(&self, node: &mut NodeProto) {
        for name in node.input.iter_mut().chain(&mut node.output) {
            *name = self.name(name);
        }
        for a in &mut node.attribute {
            for body in a.g.iter_mut().map(AsMut::as_mut).chain(&mut a.graphs) {
                self.graph(body);
            }
        }
    }

    /// In a body every name is new but those from around it, and these are renamed alike.
    fn graph(&self, graph: &mut GraphProto) {
        let named = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).map(|v| &mut v.name);
        for name in named.chain(graph.initializer.iter_mut().map(|t| &mut t.name)) {
            *name = self.name(name);
        }
        graph.node.iter_mut().for_each(|n| self.node(n));
    }
}

/// What a copy of a node takes, roughly.
fn size(node: &NodeProto) -> usize {
    let names = node.name.len() + node.input.iter().chain(&node.output).map(|n| 24 + n.len()).sum::<usize>();
    names + 64 + node.attribute.iter().map(size_of_attribute).sum::<usize>()
}

fn size_of_attribute(a: &AttributeProto) -> usize {
    let text = a.s.as_ref().map_or(0, Vec::len) + a.strings.iter().map(|s| 24 + s.len()).sum::<usize>();
    let bodies: usize = a.g.iter().map(AsRef::as_ref).chain(&a.graphs).map(size_of_graph).sum();
    let tensors: usize = a.t.iter().map(AsRef::as_ref).chain(&a.tensors).map(size_of_tensor).sum();
    256 + a.name.len() + text + 8 * a.ints.len() + 4 * a.floats.len() + bodies + tensors
}

fn size_of_graph(g: &GraphProto) -> usize {
    g.node.iter().map(size).chain(g.initializer.iter().map(size_of_tensor)).sum()
}

fn size_of_tensor(t: &TensorProto) -> usize {
    let numbers = t.dims.len() + t.int64_data.len() + t.double_data.len() + t.uint64_data.len() + t.float_data.len() + t.int32_data.len();
    256 + 8 * numbers + t.string_data.iter().map(|s| 24 + s.len()).sum::<usize>()
}

fn refused(message: &str) -> Diagnostic {
    Diagnostic::new("onnx/function", message).help("export the model without local functions")
}

/// The nodes so that producers stand before consumers, otherwise in the given order. Plans hold their nodes in reverse.
///
/// # Errors
/// `onnx/not-a-graph`: a value is made twice, or nodes wait for each other. A value that nobody makes is left to the reader.
pub(super) fn sorted(nodes: Vec<Called>) -> Result<Vec<Called>> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, called) in nodes.iter().enumerate() {
        for output in called.node.output.iter().filter(|o| !o.is_empty()) {
            if producer.insert(output, i).is_some() {
                return Err(not_a_graph(&format!("the value `{output}` is made twice")).into());
            }
        }
    }
    let reads: Vec<BTreeSet<usize>> =
        nodes.iter().map(|n| reads(&n.node).iter().filter_map(|name| producer.get(name.as_str()).copied()).collect()).collect();
    let mut waiting: Vec<usize> = reads.iter().map(BTreeSet::len).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    reads.iter().enumerate().for_each(|(i, from)| from.iter().for_each(|p| readers[*p].push(i)));
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|i| waiting[*i] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for reader in &readers[next] {
            waiting[*reader] -= 1;
            if waiting[*reader] == 0 {
                ready.insert(*reader);
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = (0..nodes.len()).find(|i| waiting[*i] > 0).unwrap_or(0);
        return Err(not_a_graph(&format!("the node `{}` waits for itself", nodes[stuck].node.name)).into());
    }
    let mut slots: Vec<Option<Called>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|i| slots[i].take()).collect())
}

/// The names that a node reads, its bodies' captures included.
fn reads(node: &NodeProto) -> BTreeSet<String> {
    let mut out: BTreeSet<String> = node.input.iter().filter(|i| !i.is_empty()).cloned().collect();
    for body in bodies(node) {
        out.extend(captures(body));
    }
    out
}

/// The graphs among a node's attributes.
pub(super) fn bodies(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().map(AsRef::as_ref).chain(&a.graphs))
}

/// The names that a body reads and does not make.
pub(super) fn captures(body: &GraphProto) -> BTreeSet<String> {
    let mut own: BTreeSet<&str> = body.input.iter().map(|v| v.name.as_str()).collect();
    own.extend(body.initializer.iter().map(|t| t.name.as_str()));
    own.extend(body.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|t| t.name.as_str()));
    own.extend(body.node.iter().flat_map(|n| n.output.iter().map(String::as_str)));
    let read = body.node.iter().flat_map(reads).chain(body.output.iter().map(|o| o.name.clone()));
    read.filter(|name| !name.is_empty() && !own.contains(name.as_str())).collect()
}

pub(super) fn not_a_graph(message: &str) -> Diagnostic {
    Diagnostic::new("onnx/not-a-graph", message).help("export the model again; `onnx.checker` says more")
}
