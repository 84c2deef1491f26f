//! A scheduled operator graph as an ONNX model: mechanical, takes no decision.
//!
//! The nodes are written in *reverse* order: ONNX Runtime walks depth first from the outputs and prefers, among a node's inputs,
//! the producer that stands later in the list; with the list reversed it runs the planned order (`docs/facts/ort.md` section 3).
//! Opset 21, IR version 10; contrib kernels from `com.microsoft` 1. Weights are external data by (location, offset, length).

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Result};
use crate::ir::op::{Conv, Unary};
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet, TensorType, Verified};
use crate::onnx::build::{self, Extent, attr};
use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::weights::{DType, WeightExpr};

/// Opset that vidc writes: the newest that all providers run and that has Gelu.
const OPSET: i64 = 21;
const CONTRIB: &str = "com.microsoft";

/// Where the bytes of a constant lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// In a file that the plan names by a location.
    External {
        /// The location.
        location: String,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// In the model itself.
    Embedded(Vec<u8>),
}

/// The model of a scheduled graph; `place` says where each constant lies.
///
/// # Errors
/// What `place` returns, and `pass/not-lowered` for an operator that has no ONNX form.
pub fn emit(graph: Verified<'_>, place: &mut dyn FnMut(&WeightExpr) -> Result<Placed>) -> Result<ModelProto> {
    let graph = graph.graph();
    let mut e = Emitter { graph, names: BTreeMap::new(), proto: GraphProto::default(), shapes: BTreeSet::new() };
    e.proto.name.clone_from(&graph.name);
    for input in graph.inputs() {
        let name = graph.node(*input).name.clone();
        e.proto.input.push(value_info(&name, &graph.node(*input).outs[0])?);
        e.names.insert(Outlet { node: *input, slot: 0 }, name);
    }
    for (name, outlet) in graph.outputs() {
        e.proto.output.push(value_info(name, graph.ty(*outlet))?);
        e.names.entry(*outlet).or_insert_with(|| name.clone());
    }
    for (i, id) in graph.nodes().into_iter().enumerate() {
        e.node(i, id, place)?;
    }
    e.proto.node.reverse();
    let mut model = build::model(e.proto, OPSET);
    model.opset_import.push(build::opset(CONTRIB, 1));
    Ok(model)
}

fn value_info(name: &str, ty: &TensorType) -> Result<crate::onnx::proto::ValueInfoProto> {
    let dims = ty.dims().ok_or_else(|| Diagnostic::new("model/unbound", format!("`{name}` still has the symbolic type {ty}")))?;
    let extents: Vec<Extent> = dims.into_iter().map(Extent::Known).collect();
    Ok(build::value_info(name, ty.dtype.onnx(), &extents))
}

struct Emitter<'a> {
    graph: &'a OpGraph,
    names: BTreeMap<Outlet, String>,
    proto: GraphProto,
    /// Integer constants that are there already.
    shapes: BTreeSet<String>,
}

/// Operator type, domain, attributes and the constants that follow the inputs.
struct Form {
    op_type: String,
    domain: &'static str,
    attributes: Vec<AttributeProto>,
    /// Names of further inputs; an empty one is left out.
    extra: Vec<String>,
}

impl Form {
    fn standard(op_type: &str, attributes: Vec<AttributeProto>) -> Self {
        Self { op_type: op_type.into(), domain: "", attributes, extra: Vec::new() }
    }

    fn contrib(op_type: &str, attributes: Vec<AttributeProto>) -> Self {
        Self { op_type: op_type.into(), domain: CONTRIB, attributes, extra: Vec::new() }
    }

    fn with(mut self, extra: impl IntoIterator<Item = String>) -> Self {
        self.extra.extend(extra);
        self
    }
}

impl Emitter<'_> {
    fn node(&mut self, index: usize, id: NodeId, place: &mut dyn FnMut(&WeightExpr) -> Result<Placed>) -> Result<()> {
        let node = self.graph.node(id);
        let at = |slot| Outlet { node: id, slot };
        match &node.op {
            Op::Input => return Ok(()),
            Op::Weight(expr) => {
                let name = format!("w{index}");
                self.proto.initializer.push(initializer(&name, expr, place(expr)?));
                self.names.insert(at(0), name);
                return Ok(());
            }
            _ => {}
        }
        let form = self.form(id)?;
        let mut inputs: Vec<String> = self.graph.inputs_of(id).iter().map(|o| self.names[o].clone()).collect();
        if let (Op::MultiHeadAttention(_), true) = (&node.op, inputs.len() > 3) {
            // Between the values and the mask stand a bias and the lengths of the keys, which vidc does not use.
            inputs.splice(3..3, [String::new(), String::new()]);
        }
        inputs.extend(form.extra);
        for slot in 0..node.outs.len() as u16 {
            self.names.entry(at(slot)).or_insert_with(|| format!("v{index}_{slot}"));
        }
        let outputs = (0..node.outs.len() as u16).map(|slot| self.names[&at(slot)].clone()).collect();
        self.proto.node.push(NodeProto {
            input: inputs,
            output: outputs,
            name: format!("{index}:{}", node.name),
            op_type: form.op_type,
            domain: form.domain.into(),
            attribute: form.attributes,
            ..Default::default()
        });
        self.alias_outputs(id);
        Ok(())
    }

    /// A tensor that is an output twice, or an input that is an output, needs an Identity for the further names.
    fn alias_outputs(&mut self, id: NodeId) {
        for (name, outlet) in self.graph.outputs().iter().filter(|(_, o)| o.node == id) {
            let source = self.names[outlet].clone();
            if &source != name {
                self.proto.node.push(build::node("Identity", name, &[&source], &[name]));
            }
        }
    }

    fn form(&mut self, id: NodeId) -> Result<Form> {
        let node = self.graph.node(id);
        let rank = node.outs[0].rank() as i64;
        Ok(match &node.op {
            Op::Unary(Unary::GeluTanh) => Form::standard("Gelu", vec![attr::string("approximate", "tanh")]),
            Op::Unary(u) => Form::standard(u.name(), vec![]),
            Op::Binary(b) => Form::standard(b.name(), vec![]),
            Op::MatMul => Form::standard("MatMul", vec![]),
            Op::Gemm { trans_b } => Form::standard("Gemm", vec![attr::int("transB", i64::from(*trans_b))]),
            Op::Conv(c) => Form::standard("Conv", conv_attributes(c)),
            Op::Softmax { axis } => Form::standard("Softmax", vec![attr::int("axis", *axis as i64)]),
            Op::InstanceNorm { eps } => Form::standard("InstanceNormalization", vec![attr::float("epsilon", *eps)]),
            Op::LayerNorm { eps } => Form::standard("LayerNormalization", vec![attr::int("axis", rank - 1), attr::float("epsilon", *eps)]),
            Op::ReduceMean { axes } => {
                let axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
                Form::standard("ReduceMean", vec![attr::int("keepdims", 1)]).with([self.integers(&axes)])
            }
            Op::Transpose { perm } => {
                Form::standard("Transpose", vec![attr::ints("perm", &perm.iter().map(|p| *p as i64).collect::<Vec<_>>())])
            }
            Op::Concat { axis } => Form::standard("Concat", vec![attr::int("axis", *axis as i64)]),
            Op::Cast { to } => Form::standard("Cast", vec![attr::int("to", i64::from(to.onnx()))]),
            Op::MultiHeadAttention(a) => {
                Form::contrib("MultiHeadAttention", vec![attr::int("num_heads", a.heads), attr::float("scale", a.scale)])
            }
            Op::QuickGelu { alpha } => Form::contrib("QuickGelu", vec![attr::float("alpha", *alpha)]),
            Op::GroupNormNhwc(g) => Form::contrib(
                "GroupNorm",
                vec![
                    attr::int("groups", g.groups),
                    attr::float("epsilon", g.eps),
                    attr::int("activation", i64::from(g.silu)),
                    attr::int("channels_last", 1),
                ],
            ),
            op => self.shaped_form(op)?,
        })
    }

    /// Operators whose shapes are constant inputs.
    fn shaped_form(&mut self, op: &Op) -> Result<Form> {
        Ok(match op {
            Op::Reshape { shape } => Form::standard("Reshape", vec![]).with([self.dims(shape)?]),
            Op::Expand { shape } => Form::standard("Expand", vec![]).with([self.dims(shape)?]),
            Op::Slice { axis, start, end } => {
                let (start, end) = (self.dims(std::slice::from_ref(start))?, self.dims(std::slice::from_ref(end))?);
                Form::standard("Slice", vec![]).with([start, end, self.integers(&[*axis as i64])])
            }
            Op::Pad { before, after } => {
                let pads: Vec<i64> = before.iter().chain(after).copied().collect();
                Form::standard("Pad", vec![]).with([self.integers(&pads)])
            }
            Op::Upsample { factors } => {
                let attributes = vec![
                    attr::string("mode", "nearest"),
                    attr::string("coordinate_transformation_mode", "asymmetric"),
                    attr::string("nearest_mode", "floor"),
                ];
                Form::standard("Resize", attributes).with([String::new(), self.factors(factors)])
            }
            Op::Foreign(f) => Form { op_type: f.op_type.clone(), domain: "", attributes: f.attributes.clone(), extra: vec![] },
            other => return Err(Box::new(Diagnostic::new("pass/not-lowered", format!("{} has no ONNX form", other.name())))),
        })
    }

    fn dims(&mut self, dims: &[Dim]) -> Result<String> {
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
        let numbers = numbers.ok_or_else(|| Diagnostic::new("model/unbound", format!("the shape {dims:?} is still symbolic")))?;
        Ok(self.integers(&numbers))
    }

    /// The name of an i64 vector.
    fn integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(format!("i64{values:?}"), DType::I64, values.len(), bytes)
    }

    /// The name of an f32 vector of whole factors.
    fn factors(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
        self.constant(format!("f32{values:?}"), DType::F32, values.len(), bytes)
    }

    fn constant(&mut self, name: String, dtype: DType, len: usize, bytes: Vec<u8>) -> String {
        if self.shapes.insert(name.clone()) {
            self.proto.initializer.push(build::tensor(&name, dtype.onnx(), &[len as i64], bytes));
        }
        name
    }
}

fn conv_attributes(c: &Conv) -> Vec<AttributeProto> {
    let pads: Vec<i64> = c.pads.iter().map(|p| p.0).chain(c.pads.iter().map(|p| p.1)).collect();
    vec![attr::ints("kernel_shape", &c.kernel), attr::ints("strides", &c.strides), attr::ints("pads", &pads), attr::int("group", c.groups)]
}

fn initializer(name: &str, expr: &WeightExpr, placed: Placed) -> TensorProto {
    let dims: Vec<i64> = expr.shape().iter().map(|d| *d as i64).collect();
    let dtype = expr.dtype().onnx();
    match placed {
        Placed::External { location, offset, len } => build::external_tensor(name, dtype, &dims, &location, offset, len),
        Placed::Embedded(bytes) => build::tensor(name, dtype, &dims, bytes),
    }
}
