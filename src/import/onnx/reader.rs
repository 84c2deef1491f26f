//! One graph while it is read: the operators so far, the names that its values have in the file, and what is known of each value.
//!
//! What adds to it stands above: the older forms of operators (`legacy`, `upgrade`), the rules of `lift`, and the walk (`read`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::constants::Folder;
use super::functions::{Functions, not_a_graph};
use super::standard::{Elements, MAX_RANK, PartialType, ShapeValue, ValueInfo};
use crate::diag::{Diagnostic, Result};
use crate::ir::op::Foreign;
use crate::ir::{Bindings, DType, Dim, Op, OpGraph, Outlet, TensorType, infer};
use crate::onnx::build::attr;
use crate::onnx::proto::{AttributeProto, DimensionValue, GraphProto, NodeProto, TensorProto, TypeValue, ValueInfoProto};
use crate::weights::WeightExpr;

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
    pub(super) fresh: usize,
    /// What was inferred for nodes whose outputs got new symbols, by a text of what those extents depend on: equal nodes get equal symbols.
    pub(super) origins: HashMap<String, Vec<ValueInfo>>,
    /// Slices of tables that end at a symbolic dim: the symbol of the slice's extent, and that dim.
    pub(super) cut: HashMap<String, Dim>,
    taken: usize,
    pub(super) depth: usize,
}

impl<'m> Shared<'m> {
    pub(super) fn new(functions: Functions<'m>, folder: Folder, bindings: &'m Bindings) -> Self {
        let (computable, named, origins, cut) = (BTreeSet::new(), BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { functions, folder, bindings, computable, named, fresh: 0, origins, cut, taken: 0, depth: 0 }
    }

    /// A symbol that nothing else carries, whatever the file calls its dims.
    pub(super) fn fresh(&mut self) -> Dim {
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
    pub(super) names: HashMap<String, Outlet>,
    pub(super) infos: HashMap<Outlet, ValueInfo>,
    pub(super) declared: HashMap<String, ValueInfo>,
    /// Inputs that took an initialiser as their default.
    pub(super) defaulted: BTreeSet<String>,
}

/// A node as the rules of `lift` see it: at the meaning of opset 21.
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

    pub(super) fn declare(&mut self, name: &str, info: ValueInfo) -> Result<Outlet> {
        let ty = self.tensor_type(&info);
        let outlet = self.graph.input(name, ty);
        self.define(name, outlet, info)?;
        Ok(outlet)
    }

    pub(super) fn define(&mut self, name: &str, outlet: Outlet, info: ValueInfo) -> Result<()> {
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
    pub(super) fn declaration(&mut self, value: &ValueInfoProto, own: bool) -> Result<ValueInfo> {
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
    pub(super) fn tensor_type(&mut self, info: &ValueInfo) -> TensorType {
        let opaque = || TensorType { dtype: DType::Opaque, shape: Vec::new() };
        let Some(ty) = &info.ty else { return opaque() };
        let dtype = ty.dtype.and_then(DType::from_onnx).unwrap_or(DType::Opaque);
        let Some(shape) = ty.shape.as_ref().filter(|s| s.len() <= MAX_RANK) else { return opaque() };
        let shape: Vec<Dim> = shape.iter().map(|d| d.clone().unwrap_or_else(|| self.shared.fresh())).collect();
        if infer::countable(&shape) { TensorType { dtype, shape } } else { opaque() }
    }

    /// The values that a graph declares as outputs.
    pub(super) fn outputs(&self, graph: &GraphProto) -> Result<Vec<Outlet>> {
        graph.output.iter().map(|o| self.named_value(&o.name)).collect()
    }

    pub(super) fn named_value(&self, name: &str) -> Result<Outlet> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| not_a_graph(&format!("the value `{name}` is read but nothing makes it")).into())
    }

    /// Outlets to the names of a node's outputs; there may be fewer outlets than outputs that nobody names.
    pub(super) fn define_all(&mut self, node: &NodeProto, outlets: &[Option<Outlet>], infos: Vec<ValueInfo>) -> Result<()> {
        for ((name, outlet), info) in node.output.iter().zip(outlets).zip(infos).filter(|((name, _), _)| !name.is_empty()) {
            let Some(outlet) = outlet else {
                return Err(not_a_graph(&format!("`{name}` is an output that `{}` does not have", node.op_type)).into());
            };
            self.define(name, *outlet, info)?;
        }
        Ok(())
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
}

/// Adds to what is known of a value what another source says of it.
pub(super) fn fill(info: &mut ValueInfo, other: &ValueInfo) {
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
