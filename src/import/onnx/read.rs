//! The walk over a model's nodes: names become outlets, operators become typed ones or stay foreign, shape arithmetic is
//! evaluated on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::constants::{self, Folder};
use super::functions::{self, Called, Functions, not_a_graph};
use super::{extents, legacy, lift, upgrade};
use crate::diag::{Diagnostic, Result};
use crate::ir::op::{Body, Foreign};
use crate::ir::standard::{self, Elements, MAX_RANK, NodeInfo, PartialType, ShapeValue, ValueInfo};
use crate::ir::{Bindings, DType, Dim, Op, OpGraph, Outlet, TensorType, infer};
use crate::onnx::build::attr;
use crate::onnx::proto::{AttributeProto, DimensionValue, GraphProto, NodeProto, TensorProto, TypeValue, ValueInfoProto};
use crate::weights::WeightExpr;

/// Bodies inside bodies.
const MAX_DEPTH: usize = 20;
/// An extent beyond this is no extent; products of a few of them still fit 63 bits with checks.
pub(super) const MAX_EXTENT: i64 = 1 << 40;

/// What the graph and all bodies share.
pub(super) struct Shared<'m> {
    pub(super) functions: Functions<'m>,
    pub(super) folder: Folder,
    pub(super) bindings: &'m Bindings,
    /// Symbols that inputs of the model carry: a shape over these can be computed anywhere.
    pub(super) computable: BTreeSet<String>,
    /// Names of dims in the file → symbols; also those that were bound, for the diagnostic about unknown names.
    pub(super) named: BTreeMap<String, Dim>,
    fresh: usize,
    /// What was inferred for nodes whose outputs got new symbols, by a text of what those extents depend on: equal nodes get equal symbols.
    origins: HashMap<String, Vec<ValueInfo>>,
    /// Slices of tables that end at a symbolic dim: the symbol of the slice's extent, and that dim.
    cut: HashMap<String, Dim>,
    taken: usize,
    depth: usize,
}

impl<'m> Shared<'m> {
    pub(super) fn new(functions: Functions<'m>, folder: Folder, bindings: &'m Bindings) -> Self {
        let (computable, named, origins, cut) = (BTreeSet::new(), BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { functions, folder, bindings, computable, named, fresh: 0, origins, cut, taken: 0, depth: 0 }
    }

    /// A symbol that nothing else carries, whatever the file calls its dims.
    fn fresh(&mut self) -> Dim {
        loop {
            self.fresh += 1;
            let dim = Dim::unknown(self.fresh);
            if dim.as_symbol().is_some_and(|word| !self.computable.contains(word)) {
                return dim;
            }
        }
    }

    /// A word that no symbol has yet. The number never starts again, so that many names that look alike cost no more than others.
    fn free(&mut self, word: &str) -> String {
        let mut free = word.to_owned();
        while self.computable.contains(&free) {
            self.taken += 1;
            free = format!("{word}_{}", self.taken);
        }
        free
    }
}

/// One graph being read.
pub(super) struct Reader<'s, 'm> {
    pub(super) graph: OpGraph,
    pub(super) shared: &'s mut Shared<'m>,
    names: HashMap<String, Outlet>,
    infos: HashMap<Outlet, ValueInfo>,
    declared: HashMap<String, ValueInfo>,
    /// Inputs that took an initialiser as their default.
    defaulted: BTreeSet<String>,
}

/// A node as the rules of [`lift`] see it: at the meaning of opset 21.
pub(super) struct UpgradedNode<'a> {
    pub(super) op_type: &'a str,
    pub(super) version: i64,
    pub(super) attributes: &'a [AttributeProto],
    pub(super) inputs: &'a [Option<Outlet>],
    pub(super) outputs: &'a [String],
    /// What inference says about the outputs.
    pub(super) infos: &'a [ValueInfo],
    pub(super) name: &'a str,
    pub(super) group: Arc<str>,
}

impl<'s, 'm> Reader<'s, 'm> {
    pub(super) fn new(name: &str, shared: &'s mut Shared<'m>) -> Self {
        Self {
            graph: OpGraph::new(name),
            shared,
            names: HashMap::new(),
            infos: HashMap::new(),
            declared: HashMap::new(),
            defaulted: BTreeSet::new(),
        }
    }

    /// Inputs of the model. One among the initialisers has a default, which the caller may replace; in a file of an `ir_version`
    /// before 4 every initialiser had to be declared as an input, and none of them may be replaced.
    pub(super) fn inputs(&mut self, graph: &GraphProto, ir_version: i64) -> Result<()> {
        let stored: BTreeMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        for input in &graph.input {
            match stored.get(input.name.as_str()) {
                None => {
                    let info = self.declaration(input, true)?;
                    self.declare(&input.name, info)?;
                }
                Some(default) if ir_version >= 4 => {
                    let Some(expr) = self.shared.folder.expression(default)? else { continue };
                    let mut info = self.declaration(input, true)?;
                    fill(&mut info, &ValueInfo { value: None, ..ValueInfo::of_tensor(default) });
                    let ty = self.tensor_type(&info);
                    let outlet = self.graph.input_with_default(&input.name, ty, expr);
                    self.define(&input.name, outlet, info)?;
                    self.defaulted.insert(input.name.clone());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn declare(&mut self, name: &str, info: ValueInfo) -> Result<Outlet> {
        let ty = self.tensor_type(&info);
        let outlet = self.graph.input(name, ty);
        self.define(name, outlet, info)?;
        Ok(outlet)
    }

    fn define(&mut self, name: &str, outlet: Outlet, info: ValueInfo) -> Result<()> {
        if self.names.insert(name.to_owned(), outlet).is_some() {
            return Err(not_a_graph(&format!("the value `{name}` is made twice")).into());
        }
        self.learn(outlet, info);
        Ok(())
    }

    /// Keeps what is known of a value; its type is the graph's, where the graph has one.
    fn learn(&mut self, outlet: Outlet, info: ValueInfo) {
        let ty = self.graph.ty(outlet);
        let typed = (ty.dtype != DType::Opaque)
            .then(|| PartialType { dtype: Some(ty.dtype.onnx()), shape: Some(ty.shape.iter().cloned().map(Some).collect()) });
        let known = self.infos.entry(outlet).or_default();
        known.ty = typed.or(info.ty);
        if known.value.is_none() {
            known.value = info.value;
        }
    }

    /// What is known of a value.
    pub(super) fn info(&self, outlet: Outlet) -> &ValueInfo {
        &self.infos[&outlet]
    }

    /// What a declaration says. Symbols of the model's own inputs can be computed from; others are new.
    fn declaration(&mut self, value: &ValueInfoProto, own: bool) -> Result<ValueInfo> {
        let Some(TypeValue::Tensor(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else { return Ok(ValueInfo::default()) };
        let dtype = (tensor.elem_type > 0).then_some(tensor.elem_type);
        let Some(shape) = tensor.shape.as_ref().filter(|s| s.dim.len() <= MAX_RANK) else {
            return Ok(ValueInfo { ty: Some(PartialType { dtype, shape: None }), value: None });
        };
        let mut extents = Vec::new();
        for (axis, dim) in shape.dim.iter().enumerate() {
            extents.push(match &dim.value {
                Some(DimensionValue::Value(n)) if *n > MAX_EXTENT => {
                    let message = format!("`{}` is declared with {n} elements along axis {axis}", value.name);
                    return Err(Diagnostic::new("onnx/tensor-shape", message).help("export the model again").into());
                }
                Some(DimensionValue::Value(n)) if *n >= 0 => Some(Dim::Const(*n)),
                Some(DimensionValue::Param(name)) if own && !name.is_empty() => Some(self.named(name)),
                _ if own => Some(self.named(&format!("{}.{axis}", value.name))),
                _ => None,
            });
        }
        Ok(ValueInfo { ty: Some(PartialType { dtype, shape: Some(extents) }), value: None })
    }

    /// The dim of a name in the file: its binding, or a symbol that is a plain word.
    fn named(&mut self, name: &str) -> Dim {
        if let Some(dim) = self.shared.named.get(name) {
            return dim.clone();
        }
        let dim = if let Some(n) = self.shared.bindings.get(name) {
            Dim::Const(*n)
        } else {
            let mut word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                word.insert_str(0, "dim_");
            }
            let word = self.shared.free(&word);
            self.shared.computable.insert(word.clone());
            Dim::symbol(&word)
        };
        self.shared.named.insert(name.to_owned(), dim.clone());
        dim
    }

    /// The graph's type of a value: opaque where the element type is none of ours or the rank is not known.
    fn tensor_type(&mut self, info: &ValueInfo) -> TensorType {
        let opaque = || TensorType { dtype: DType::Opaque, shape: Vec::new() };
        let Some(ty) = &info.ty else { return opaque() };
        let dtype = ty.dtype.and_then(DType::from_onnx).unwrap_or(DType::Opaque);
        let Some(shape) = ty.shape.as_ref().filter(|s| s.len() <= MAX_RANK) else { return opaque() };
        let shape: Vec<Dim> = shape.iter().map(|d| d.clone().unwrap_or_else(|| self.shared.fresh())).collect();
        if infer::countable(&shape) { TensorType { dtype, shape } } else { opaque() }
    }

    /// Stored tensors and nodes of a graph, then its outputs by name.
    pub(super) fn content(&mut self, graph: &GraphProto) -> Result<()> {
        for value in graph.value_info.iter().chain(&graph.output) {
            let info = self.declaration(value, false)?;
            self.declared.insert(value.name.clone(), info);
        }
        for t in &graph.initializer {
            if self.defaulted.remove(&t.name) {
                continue;
            }
            let outlet = self.stored(t)?;
            self.define(&t.name, outlet, ValueInfo::of_tensor(t))?;
        }
        for sparse in &graph.sparse_initializer {
            let node = NodeProto { op_type: "Constant".into(), attribute: vec![attr_sparse(sparse)], ..NodeProto::default() };
            let node = NodeProto { output: vec![constants::sparse_name(sparse).into()], ..node };
            self.node(&Called { node, opsets: 0 })?;
        }
        let nodes = self.shared.functions.inline(graph)?;
        for called in functions::sorted(nodes)? {
            self.node(&called).map_err(|d| Box::new(d.note(format!("at the node `{}` ({})", called.node.name, called.node.op_type))))?;
        }
        Ok(())
    }

    /// The values that a graph declares as outputs.
    pub(super) fn outputs(&self, graph: &GraphProto) -> Result<Vec<Outlet>> {
        graph.output.iter().map(|o| self.named_value(&o.name)).collect()
    }

    fn named_value(&self, name: &str) -> Result<Outlet> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| not_a_graph(&format!("the value `{name}` is read but nothing makes it")).into())
    }

    /// A stored tensor; one of a type that vidc does not know is a foreign constant.
    pub(super) fn stored(&mut self, t: &TensorProto) -> Result<Outlet> {
        if let Some(expr) = self.shared.folder.expression(t)? {
            return Ok(self.graph.weight(expr));
        }
        let ty = self.tensor_type(&ValueInfo::of_tensor(t));
        let value = TensorProto { name: String::new(), ..self.shared.folder.embedded(t)? };
        let foreign =
            Foreign { op_type: "Constant".into(), attributes: vec![attr::tensor("value", value)], outputs: vec![ty], ..Foreign::default() };
        self.graph.add(Op::Foreign(Box::new(foreign)), &[], t.name.clone(), &"".into())
    }

    /// An i64 vector.
    pub(super) fn integers(&mut self, values: &[i64]) -> Result<Outlet> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let expr = WeightExpr::literal(DType::I64, &[values.len() as u64], &bytes)?;
        let elements = Elements::Dims(values.iter().map(|n| Dim::Const(*n)).collect());
        Ok(self.known_constant(expr, ValueInfo::known(DType::I64.onnx(), ShapeValue { shape: vec![values.len()], elements })))
    }

    /// An f32 vector.
    pub(super) fn floats(&mut self, values: &[f32]) -> Result<Outlet> {
        let expr = WeightExpr::literal_f32(&[values.len() as u64], values)?;
        let elements = Elements::Numbers(values.iter().map(|x| f64::from(*x)).collect());
        Ok(self.known_constant(expr, ValueInfo::known(DType::F32.onnx(), ShapeValue { shape: vec![values.len()], elements })))
    }

    /// A scalar of the element type of a value; f32 if that is not known.
    pub(super) fn float_like(&mut self, value: f32, like: Option<Outlet>) -> Result<Outlet> {
        let known = like.and_then(|l| self.info(l).ty.as_ref()?.dtype).and_then(DType::from_onnx);
        let dtype = known.filter(|d| d.is_float()).unwrap_or(DType::F32);
        let expr = WeightExpr::literal_f32(&[], &[value])?.cast(dtype)?;
        let elements = Elements::Numbers(vec![f64::from(value)]);
        Ok(self.known_constant(expr, ValueInfo::known(dtype.onnx(), ShapeValue { shape: vec![], elements })))
    }

    /// An operator of one input that no node of the file stands for.
    pub(super) fn repeat(&mut self, op: Op, input: Outlet) -> Result<Outlet> {
        let outlet = self.graph.add(op, &[input], "", &"".into())?;
        self.learn(outlet, ValueInfo::default());
        Ok(outlet)
    }

    fn known_constant(&mut self, expr: WeightExpr, info: ValueInfo) -> Outlet {
        let outlet = self.graph.weight(expr);
        self.learn(outlet, info);
        outlet
    }

    /// An i64 scalar.
    pub(super) fn scalar(&mut self, value: i64) -> Result<Outlet> {
        let expr = WeightExpr::literal(DType::I64, &[], &value.to_le_bytes())?;
        let elements = Elements::Dims(vec![Dim::Const(value)]);
        Ok(self.known_constant(expr, ValueInfo::known(DType::I64.onnx(), ShapeValue { shape: vec![], elements })))
    }

    /// A constant that the file does not hold as it is.
    pub(super) fn constant(&mut self, expr: WeightExpr) -> Outlet {
        let outlet = self.graph.weight(expr);
        self.learn(outlet, ValueInfo::default());
        outlet
    }

    /// Adds an operator for a node of the file; none if its inputs do not fit, which with symbolic sizes is no mistake of the file.
    pub(super) fn add(&mut self, upgraded: &UpgradedNode<'_>, op: Op, inputs: &[Outlet]) -> Option<Outlet> {
        let outlet = self.graph.add(op, inputs, upgraded.name, &upgraded.group).ok()?;
        self.learn(outlet, ValueInfo::default());
        Some(outlet)
    }

    fn node(&mut self, called: &Called) -> Result<()> {
        let mut node = &called.node;
        let domain = functions::domain(&node.domain);
        let version = self.shared.functions.opsets[called.opsets].get(domain).copied().unwrap_or(1);
        let rank = || self.info(*self.names.get(node.input.first()?)?).ty.as_ref()?.shape.as_ref().map(Vec::len);
        if domain.is_empty()
            && let Some(steps) = legacy::flattened(called, version, rank())
        {
            return steps.iter().try_for_each(|step| self.node(step));
        }
        if node.input.len() > usize::from(u16::MAX) || node.output.len() > usize::from(u16::MAX) {
            return Err(not_a_graph(&format!("`{}` has more inputs or outputs than any operator", node.name)).into());
        }
        let mut inputs: Vec<Option<Outlet>> = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(self.named_value(name)?) });
        }
        let modern;
        let version = if domain.is_empty() && version < legacy::MODERN {
            modern = legacy::modern(self, node, version, &mut inputs)?;
            node = &modern;
            legacy::MODERN
        } else {
            version
        };
        if domain.is_empty() && self.decided(node, &inputs)? {
            return Ok(());
        }
        if domain.is_empty() {
            self.equate(node, &inputs);
        }
        let infos = self.infer(node, domain, version, &inputs)?;
        if let Some(outlets) = self.known(node, &infos) {
            return self.define_all(node, &outlets, infos);
        }
        let mut attributes: Vec<AttributeProto> = node.attribute.iter().filter(|a| a.g.is_none() && a.graphs.is_empty()).cloned().collect();
        let has_bodies = attributes.len() < node.attribute.len();
        if domain.is_empty() {
            upgrade::upgrade(self, &node.op_type, version, &mut attributes, &mut inputs, node.output.len())?;
        }
        let name = if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
        let group = group(&node.name);
        let upgraded = UpgradedNode {
            op_type: &node.op_type,
            version,
            attributes: &attributes,
            inputs: &inputs,
            outputs: &node.output,
            infos: &infos,
            name: &name,
            group,
        };
        let lifted = if has_bodies { None } else { lift::lift(self, domain, &upgraded)? };
        match lifted {
            Some(outlets) => self.define_all(node, &outlets, infos),
            None => self.foreign(node, domain, &upgraded),
        }
    }

    /// Outlets to the names of a node's outputs; there may be fewer outlets than outputs that nobody names.
    fn define_all(&mut self, node: &NodeProto, outlets: &[Option<Outlet>], infos: Vec<ValueInfo>) -> Result<()> {
        for ((name, outlet), info) in node.output.iter().zip(outlets).zip(infos).filter(|((name, _), _)| !name.is_empty()) {
            let Some(outlet) = outlet else {
                return Err(not_a_graph(&format!("`{name}` is an output that `{}` does not have", node.op_type)).into());
            };
            self.define(name, *outlet, info)?;
        }
        Ok(())
    }

    fn infer(&mut self, node: &NodeProto, domain: &str, version: i64, inputs: &[Option<Outlet>]) -> Result<Vec<ValueInfo>> {
        let given: Vec<Option<&ValueInfo>> = inputs.iter().map(|o| o.map(|o| &self.infos[&o])).collect();
        let call =
            NodeInfo { domain, op_type: &node.op_type, version, attributes: &node.attribute, inputs: &given, outputs: node.output.len() };
        let shared = &mut *self.shared;
        let symbols = shared.fresh;
        let mut infos = standard::infer(&call, &mut || shared.fresh()).map_err(|why| {
            Diagnostic::new("onnx/shape", why)
                .help("the file contradicts the ONNX standard, or a dim was bound to a value that it cannot have")
        })?;
        if shared.fresh != symbols
            && let Some(origin) = extents::origin(&call)
        {
            infos.clone_from(shared.origins.entry(origin).or_insert_with(|| infos.clone()));
        }
        shared.cut.extend(extents::cut(&call, &infos));
        for (info, name) in infos.iter_mut().zip(&node.output) {
            if let Some(declared) = self.declared.get(name) {
                fill(info, declared);
            }
        }
        Ok(infos)
    }

    /// What must be equal for a node to run becomes one extent. In bodies extents keep their names: those from around are not theirs.
    fn equate(&mut self, node: &NodeProto, inputs: &[Option<Outlet>]) {
        if self.shared.depth > 0 || self.shared.fresh == 0 {
            return;
        }
        let given: Vec<Option<&ValueInfo>> = inputs.iter().map(|o| o.map(|o| &self.infos[&o])).collect();
        let is_cut = |symbol: &Dim, end: &Dim| symbol.as_symbol().and_then(|s| self.shared.cut.get(s)) == Some(end);
        let mut pairs = extents::must_be_equal(node, &given, is_cut);
        while let Some(pair) = pairs.pop() {
            let Some((symbol, dim)) = extents::replaced(&pair) else { continue };
            self.graph.equate(&symbol, &dim);
            let known = self.infos.values_mut().chain(self.shared.origins.values_mut().flatten());
            known.for_each(|info| extents::equate(info, &symbol, &dim));
            pairs.iter_mut().for_each(|(a, b)| (*a, *b) = (a.replace(&symbol, &dim), b.replace(&symbol, &dim)));
        }
    }

    /// Outputs whose elements are all known numbers are constants.
    fn known(&mut self, node: &NodeProto, infos: &[ValueInfo]) -> Option<Vec<Option<Outlet>>> {
        let literals: Option<Vec<Option<WeightExpr>>> = (node.output.iter().zip(infos))
            .map(|(name, info)| if name.is_empty() { Some(None) } else { constants::literal(info).map(Some) })
            .collect();
        let literals = literals.filter(|l| l.iter().any(Option::is_some))?;
        Some(literals.into_iter().map(|l| l.map(|expr| self.graph.weight(expr))).collect())
    }

    /// An `If` whose condition is known is the branch that it takes.
    fn decided(&mut self, node: &NodeProto, inputs: &[Option<Outlet>]) -> Result<bool> {
        if node.op_type != "If" {
            return Ok(false);
        }
        let truth = inputs.first().copied().flatten().and_then(|o| constants::truth(&self.infos[&o]));
        let Some(truth) = truth else { return Ok(false) };
        let wanted = if truth { "then_branch" } else { "else_branch" };
        let Some(branch) = node.attribute.iter().find(|a| a.name == wanted).and_then(|a| a.g.as_deref()) else { return Ok(false) };
        self.deeper(|r| r.content(branch))?;
        let outlets = self.outputs(branch)?;
        // Names inside of a branch are its own: the next branch may use them again.
        let made = branch.initializer.iter().map(|t| &t.name).chain(branch.node.iter().flat_map(|n| &n.output));
        for name in made {
            self.names.remove(name);
        }
        for (name, outlet) in node.output.iter().zip(outlets).filter(|(name, _)| !name.is_empty()) {
            self.define(name, outlet, ValueInfo::default())?;
        }
        Ok(true)
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.shared.depth >= MAX_DEPTH {
            return Err(Diagnostic::new("onnx/too-deep", format!("bodies are nested more than {MAX_DEPTH} deep")).into());
        }
        self.shared.depth += 1;
        let out = work(self);
        self.shared.depth -= 1;
        out
    }

    /// A node as it is.
    fn foreign(&mut self, node: &NodeProto, domain: &str, upgraded: &UpgradedNode<'_>) -> Result<()> {
        let mut infos = upgraded.infos.to_vec();
        let mut bodies = Vec::new();
        let mut edges: Vec<Outlet> = upgraded.inputs.iter().copied().flatten().collect();
        let formal = control::formal(self, node, upgraded.inputs);
        let mut yields = Vec::new();
        for attribute in node.attribute.iter().filter(|a| a.g.is_some()) {
            let Some(graph) = attribute.g.as_deref() else { continue };
            let (body, captured, types) = self.deeper(|r| r.body(&attribute.name, graph, &formal))?;
            edges.extend(captured);
            bodies.push(body);
            yields.push(types);
        }
        control::yielded(self, node, &yields, &mut infos);
        let absent = |all: &mut dyn Iterator<Item = bool>| all.enumerate().filter(|(_, a)| *a).map(|(i, _)| i as u16).collect::<Vec<_>>();
        let mut outputs = Vec::new();
        for (info, name) in infos.iter().zip(&node.output) {
            if !name.is_empty() {
                outputs.push(self.tensor_type(info));
            }
        }
        let foreign = Foreign {
            domain: domain.into(),
            op_type: node.op_type.clone(),
            attributes: upgraded.attributes.to_vec(),
            bodies,
            absent_inputs: absent(&mut upgraded.inputs.iter().map(Option::is_none)),
            absent_outputs: absent(&mut node.output.iter().map(String::is_empty)),
            outputs,
        };
        let first = self.graph.add(Op::Foreign(Box::new(foreign)), &edges, upgraded.name, &upgraded.group)?;
        let present = node.output.iter().zip(infos).filter(|(name, _)| !name.is_empty());
        for (slot, (name, info)) in present.enumerate() {
            self.define(name, Outlet { node: first.node, slot: slot as u16 }, info)?;
        }
        Ok(())
    }

    /// A body, the values that it captures, and what it yields.
    fn body(&mut self, attribute: &str, graph: &GraphProto, formal: &[ValueInfo]) -> Result<(Body, Vec<Outlet>, Vec<ValueInfo>)> {
        let mut around = Vec::new();
        for name in functions::captures(graph) {
            let outlet = self.named_value(&name)?;
            let info = self.infos[&outlet].clone();
            around.push((name, outlet, self.graph.as_weight(outlet).cloned(), self.graph.ty(outlet).clone(), info));
        }
        let mut inner = Reader::new(&graph.name, &mut *self.shared);
        for (i, input) in graph.input.iter().enumerate() {
            let mut info = inner.declaration(input, false)?;
            if let Some(given) = formal.get(i) {
                fill(&mut info, given);
            }
            inner.declare(&input.name, info)?;
        }
        let mut captured = Vec::new();
        for (name, outlet, weight, ty, info) in around {
            let here = if let Some(expr) = weight {
                inner.graph.weight(expr)
            } else {
                captured.push(outlet);
                inner.graph.input(name.clone(), ty)
            };
            inner.define(&name, here, info)?;
        }
        inner.content(graph)?;
        let outlets = inner.outputs(graph)?;
        let infos = outlets.iter().map(|o| inner.infos[o].clone()).collect();
        for (output, outlet) in graph.output.iter().zip(outlets) {
            inner.graph.output(output.name.clone(), outlet);
        }
        Ok((Body { attribute: attribute.into(), graph: inner.graph, captures: captured.len() }, captured, infos))
    }
}

/// Adds to what is known of a value what another source says of it.
fn fill(info: &mut ValueInfo, other: &ValueInfo) {
    let Some(from) = &other.ty else { return };
    let ty = info.ty.get_or_insert_with(PartialType::default);
    ty.dtype = ty.dtype.or(from.dtype);
    match (&mut ty.shape, &from.shape) {
        (shape @ None, Some(_)) => shape.clone_from(&from.shape),
        (Some(shape), Some(given)) if shape.len() == given.len() => {
            for (d, g) in shape.iter_mut().zip(given).filter(|(d, _)| d.is_none()) {
                d.clone_from(g);
            }
        }
        _ => {}
    }
}

fn attr_sparse(sparse: &crate::onnx::proto::SparseTensorProto) -> AttributeProto {
    AttributeProto {
        name: "sparse_value".into(),
        r#type: crate::onnx::proto::attribute_type::SPARSE_TENSOR,
        sparse_tensor: Some(Box::new(sparse.clone())),
        ..AttributeProto::default()
    }
}

/// The part of the architecture that a node's path names: its first two parts that are no operator.
fn group(name: &str) -> Arc<str> {
    let parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty()).collect();
    let path = &parts[..parts.len().saturating_sub(1)];
    let first = path.iter().position(|p| p.contains('.')).unwrap_or(0);
    path.get(first).copied().unwrap_or_default().into()
}

#[path = "control.rs"]
mod control;
