//! A scheduled operator graph as an ONNX model: mechanical, takes no decision.
//!
//! In a plan the nodes are written in *reverse* order: ONNX Runtime walks depth first from the outputs and prefers, among a
//! node's inputs, the producer that stands later in the list; with the list reversed it runs the planned order
//! (`docs/facts/ort.md` section 3). A file for others is written in the planned order, as the standard asks ([`Style`]).
//! IR version 10; contrib kernels from `com.microsoft` 1. Weights are external data by (location, offset, length). A shape with
//! symbolic dims is written as the arithmetic that computes it from the extents of tensors (`shapes`).

mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::Result;
use crate::ir::op::{Body, Conv, Foreign, Unary};
use crate::ir::{DType, Dim, NodeId, Op, OpGraph, Outlet, TensorType, Verified};
use crate::onnx::Style;
use crate::onnx::build::{self, Extent, attr};
use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::weights::WeightExpr;

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

/// Says where a constant lies.
type Place<'a> = &'a mut dyn FnMut(&WeightExpr) -> Result<Placed>;

/// The model of a scheduled graph; `place` says where each constant lies.
///
/// # Errors
/// What `place` returns, `pass/not-lowered` for an operator that has no ONNX form, `model/unbound` for a dim that cannot be computed
/// from the inputs.
pub fn emit(graph: Verified<'_>, style: &Style, place: Place<'_>) -> Result<ModelProto> {
    let graph = graph.graph();
    let mut e = Emitter::new(graph, style, String::new(), BTreeMap::new());
    e.proto.name.clone_from(&graph.name);
    e.symbols = shapes::symbols(graph);
    for input in graph.inputs() {
        let name = graph.node(*input).name.clone();
        e.proto.input.push(e.value_info(&name, &graph.node(*input).outs[0]));
        if let Some(default) = graph.default_of(&name) {
            e.proto.initializer.push(initializer(&name, default, place(default)?));
        }
        e.names.insert(Outlet { node: *input, slot: 0 }, name);
    }
    e.body(place)?;
    e.give_hidden_shapes();
    for (name, outlet) in graph.outputs() {
        let info = e.value_info(name, graph.ty(*outlet));
        e.proto.output.push(info);
    }
    if style.reversed {
        e.proto.node.reverse();
    }
    let mut domains = e.domains;
    domains.extend(foreign_domains(graph));
    let mut model = build::model(e.proto, style.opset);
    for domain in domains.iter().filter(|d| !matches!(d.as_str(), "" | "ai.onnx")) {
        model.opset_import.push(build::opset(domain, style.domains.get(domain).copied().unwrap_or(1)));
    }
    Ok(model)
}

/// The name in the file of the node at a position of the graph's order; names in a file are unique, those in a graph need not be.
pub(super) fn node_name(index: usize, name: &str) -> String {
    format!("{index}:{name}")
}

fn foreign_domains(graph: &OpGraph) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for id in graph.nodes() {
        if let Op::Foreign(f) = &graph.node(id).op {
            out.insert(f.domain.clone());
            f.bodies.iter().for_each(|b| out.extend(foreign_domains(&b.graph)));
        }
    }
    out
}

struct Emitter<'a> {
    graph: &'a OpGraph,
    style: &'a Style,
    /// In front of every name that is made here: names are unique over bodies too.
    prefix: String,
    names: BTreeMap<Outlet, String>,
    proto: GraphProto,
    /// Constants and computed dims that are there already.
    made: BTreeSet<String>,
    /// The name and axis of the input that gives each symbol.
    symbols: BTreeMap<String, (String, usize)>,
    /// The other extents, read off the tensors that have them.
    carried: shapes::Carried,
    /// Shapes that a `Split` at the front gives.
    hidden: Vec<Vec<i64>>,
    /// Domains of the operators written.
    domains: BTreeSet<String>,
}

/// Attributes of a node and the constants that follow its inputs.
struct Form {
    attributes: Vec<AttributeProto>,
    /// Names of further inputs; an empty one is left out.
    extra: Vec<String>,
}

impl Form {
    fn of(attributes: Vec<AttributeProto>) -> Self {
        Self { attributes, extra: Vec::new() }
    }

    fn with(mut self, extra: impl IntoIterator<Item = String>) -> Self {
        self.extra.extend(extra);
        self
    }
}

impl<'a> Emitter<'a> {
    fn new(graph: &'a OpGraph, style: &'a Style, prefix: String, symbols: BTreeMap<String, (String, usize)>) -> Self {
        Self {
            graph,
            style,
            prefix,
            names: BTreeMap::new(),
            proto: GraphProto::default(),
            made: BTreeSet::new(),
            symbols,
            carried: shapes::Carried::default(),
            hidden: Vec::new(),
            domains: BTreeSet::new(),
        }
    }

    fn value_info(&self, name: &str, ty: &TensorType) -> ValueInfoProto {
        if ty.dtype == DType::Opaque {
            let bare = || ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
            return self.style.declared.get(name).cloned().unwrap_or_else(bare);
        }
        let extent = |d: &Dim| d.as_const().map_or_else(|| Extent::Named(d.to_string()), Extent::Known);
        build::value_info(name, ty.dtype.onnx(), &ty.shape.iter().map(extent).collect::<Vec<_>>())
    }

    /// All nodes, and a name for each output of the graph.
    fn body(&mut self, place: Place<'_>) -> Result<()> {
        for (name, outlet) in self.graph.outputs() {
            let computed = !matches!(self.graph.node(outlet.node).op, Op::Input | Op::Weight(_));
            if computed {
                self.names.entry(*outlet).or_insert_with(|| name.clone());
            }
        }
        for (i, id) in self.graph.nodes().into_iter().enumerate() {
            self.node(i, id, place)?;
        }
        self.alias_outputs();
        Ok(())
    }

    fn node(&mut self, index: usize, id: NodeId, place: Place<'_>) -> Result<()> {
        let node = self.graph.node(id);
        let at = |slot| Outlet { node: id, slot };
        if node.op == Op::Input {
            return Ok(());
        }
        if let Op::Weight(expr) = &node.op {
            let name = format!("{}w{index}", self.prefix);
            self.proto.initializer.push(initializer(&name, expr, place(expr)?));
            self.names.insert(at(0), name);
            return Ok(());
        }
        let mut inputs: Vec<String> = self.graph.inputs_of(id).iter().map(|o| self.names[o].clone()).collect();
        for slot in 0..node.outs.len() as u16 {
            let name = format!("{}v{index}_{slot}", self.prefix);
            self.names.entry(at(slot)).or_insert(name);
        }
        let mut outputs: Vec<String> = (0..node.outs.len() as u16).map(|slot| self.names[&at(slot)].clone()).collect();
        let form = if let Op::Foreign(f) = &node.op {
            let form = self.foreign(index, f, &inputs, place)?;
            inputs.truncate(inputs.len() - f.captures());
            inputs = Foreign::with_absent(&inputs, &f.absent_inputs, &String::new());
            outputs = Foreign::with_absent(&outputs, &f.absent_outputs, &String::new());
            form
        } else {
            self.form(id)?
        };
        if matches!(node.op, Op::MultiHeadAttention(_)) && inputs.len() > 3 {
            // Between the values and the mask stand a bias and the lengths of the keys, which vidc does not use.
            inputs.splice(3..3, [String::new(), String::new()]);
        }
        let (domain, op_type) = node.op.onnx_type().ok_or_else(|| shapes::no_form(&node.op))?;
        inputs.extend(form.extra);
        self.domains.insert(domain.to_owned());
        self.proto.node.push(NodeProto {
            input: inputs,
            output: outputs,
            name: format!("{}{}", self.prefix, node_name(index, &node.name)),
            op_type: op_type.to_owned(),
            domain: domain.to_owned(),
            attribute: form.attributes,
            ..Default::default()
        });
        for (slot, ty) in node.outs.iter().enumerate() {
            let name = self.names[&at(slot as u16)].clone();
            self.carries(&name, ty);
        }
        Ok(())
    }

    fn foreign(&mut self, index: usize, f: &Foreign, inputs: &[String], place: Place<'_>) -> Result<Form> {
        let mut attributes = f.attributes.clone();
        let mut captured = inputs[inputs.len() - f.captures()..].iter();
        for (i, body) in f.bodies.iter().enumerate() {
            let own: Vec<String> = captured.by_ref().take(body.captures).cloned().collect();
            attributes.push(attr::graph(&body.attribute, self.nested(&format!("{index}_{i}_"), body, &own, place)?));
        }
        Ok(Form::of(attributes))
    }

    /// A body as a graph of the file; what it captures it reads by the name outside.
    fn nested(&mut self, prefix: &str, body: &Body, captured: &[String], place: Place<'_>) -> Result<GraphProto> {
        let graph = &body.graph;
        let mut e = Emitter::new(graph, self.style, format!("{}{prefix}", self.prefix), self.symbols.clone());
        e.proto.name.clone_from(&graph.name);
        e.carried.clone_from(&self.carried);
        let formal = graph.inputs().len() - body.captures;
        for (i, input) in graph.inputs().iter().enumerate() {
            let outlet = Outlet { node: *input, slot: 0 };
            let own = format!("{}i{i}", e.prefix);
            if i < formal {
                e.proto.input.push(e.untyped_if_opaque(&own, graph.ty(outlet)));
            }
            let name = i.checked_sub(formal).map_or(own, |c| captured[c].clone());
            e.carries(&name, graph.ty(outlet));
            e.names.insert(outlet, name);
        }
        let outputs: Vec<String> = (0..graph.outputs().len()).map(|i| format!("{}o{i}", e.prefix)).collect();
        for ((_, outlet), name) in graph.outputs().iter().zip(&outputs) {
            if !matches!(graph.node(outlet.node).op, Op::Input | Op::Weight(_)) {
                e.names.entry(*outlet).or_insert_with(|| name.clone());
            }
        }
        for (i, id) in graph.nodes().into_iter().enumerate() {
            e.node(i, id, place)?;
        }
        for ((_, outlet), name) in graph.outputs().iter().zip(&outputs) {
            e.alias(*outlet, name);
            let info = e.untyped_if_opaque(name, graph.ty(*outlet));
            e.proto.output.push(info);
        }
        if self.style.reversed {
            e.proto.node.reverse();
        }
        self.domains.extend(e.domains);
        Ok(e.proto)
    }

    /// A declaration in a body: the runtime infers what is not said. Symbols of a body are names of its own and say nothing.
    fn untyped_if_opaque(&self, name: &str, ty: &TensorType) -> ValueInfoProto {
        let fixed = ty.dtype != DType::Opaque && ty.shape.iter().all(|d| d.as_const().is_some());
        if fixed { self.value_info(name, ty) } else { shapes::of_element_type(name, ty.dtype) }
    }

    /// An output that is an input, a constant or another output needs an Identity.
    fn alias_outputs(&mut self) {
        let outputs: Vec<(String, Outlet)> = self.graph.outputs().to_vec();
        for (name, outlet) in outputs {
            self.alias(outlet, &name);
        }
    }

    fn alias(&mut self, outlet: Outlet, name: &str) {
        let source = &self.names[&outlet];
        if source != name {
            self.proto.node.push(build::node("Identity", &format!("{}{name}:identity", self.prefix), &[source], &[name]));
        }
    }

    fn form(&mut self, id: NodeId) -> Result<Form> {
        let node = self.graph.node(id);
        let rank = node.outs[0].rank() as i64;
        Ok(match &node.op {
            Op::Unary(Unary::GeluTanh) => Form::of(vec![attr::string("approximate", "tanh")]),
            Op::Unary(_) | Op::Binary(_) | Op::MatMul | Op::BiasGelu => Form::of(vec![]),
            Op::Gemm { trans_b } => Form::of(vec![attr::int("transB", i64::from(*trans_b))]),
            Op::Conv(c) | Op::ConvTranspose(c) | Op::FusedConv(c) => Form::of(conv_attributes(c)),
            Op::FusedMatMul => Form::of(vec![attr::int("transB", 1)]),
            Op::Softmax { axis } => Form::of(vec![attr::int("axis", *axis as i64)]),
            Op::InstanceNorm { eps } => Form::of(vec![attr::float("epsilon", *eps)]),
            Op::LayerNorm { eps } => Form::of(vec![attr::int("axis", rank - 1), attr::float("epsilon", *eps)]),
            Op::ReduceMean { axes } => {
                let axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
                Form::of(vec![attr::int("keepdims", 1)]).with([self.integers(&axes)])
            }
            Op::Transpose { perm } => Form::of(vec![attr::ints("perm", &perm.iter().map(|p| *p as i64).collect::<Vec<_>>())]),
            Op::Concat { axis } => Form::of(vec![attr::int("axis", *axis as i64)]),
            Op::Cast { to } => Form::of(vec![attr::int("to", i64::from(to.onnx()))]),
            Op::MultiHeadAttention(a) => Form::of(vec![attr::int("num_heads", a.heads), attr::float("scale", a.scale)]),
            Op::QuickGelu { alpha } => Form::of(vec![attr::float("alpha", *alpha)]),
            Op::GroupNormNhwc(g) => Form::of(vec![
                attr::int("groups", g.groups),
                attr::float("epsilon", g.eps),
                attr::int("activation", i64::from(g.silu)),
                attr::int("channels_last", 1),
            ]),
            Op::ChannelAffine => {
                let channels = node.outs[0].shape.get(1).and_then(Dim::as_const).unwrap_or(0).max(0) as usize;
                let [mean, variance] = [0_f32, 1.0]
                    .map(|v| self.constant(&format!("f32[{v}; {channels}]"), DType::F32, channels, v.to_le_bytes().repeat(channels)));
                Form::of(vec![attr::float("epsilon", 0.0)]).with([mean, variance])
            }
            Op::Reshape { .. } | Op::Split { .. } | Op::Slice { .. } | Op::Expand { .. } | Op::Upsample { .. } | Op::Pad { .. } => {
                self.shaped_form(id)?
            }
            // Written elsewhere, or to be lowered first.
            Op::Input
            | Op::Weight(_)
            | Op::Arange { .. }
            | Op::Linear
            | Op::Attention(_)
            | Op::GroupNorm(_)
            | Op::RmsNorm { .. }
            | Op::Silu
            | Op::Gelu { .. }
            | Op::GeGlu
            | Op::RotaryEmbedding { .. }
            | Op::TemporalConv
            | Op::ForChunks(_)
            | Op::Foreign(_) => return Err(shapes::no_form(&node.op)),
        })
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
