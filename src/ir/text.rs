//! The canonical text of an operator graph: one line a node in execution order. Snapshots, dumps, diffs, fingerprints and
//! `explain` all print this and nothing else, and [`parse`](super::parse::parse) reads it back.
//!
//! The text shows everything that decides what a graph computes: two graphs with the same text are equal. Constants carry the
//! types of their leaves, and literals their values: one value where all are equal, a list of up to [`MOST_VALUES`], else a
//! digest. Names, groups and knobs of nodes are not part of it ([`tagged`] and [`annotated`] add them), nor are constants that no
//! operator reads. Names that are not plain words stand in quotes.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use prost::Message;
use sha2::{Digest, Sha256};

use super::graph::{NodeId, OpGraph, Outlet};
use super::op::{Conv, ForChunks, Foreign, Join, Op, Place, Sliced, Unary};
use super::place::BodyId;
use super::types::DType;
use crate::weights::{WeightExpr, WeightOp};

/// Longer literals are printed as a digest.
pub const MOST_VALUES: u64 = 16;

/// The canonical text.
pub fn canonical(graph: &OpGraph) -> String {
    Printer::default().print(graph)
}

/// The canonical text with the knob that governs each node, if one does: ` @KNOB` behind its types.
pub fn tagged(graph: &OpGraph) -> String {
    Printer { knobs: true, ..Printer::default() }.print(graph)
}

/// The tagged text with the name of each node behind it.
pub fn annotated(graph: &OpGraph) -> String {
    Printer { names: true, knobs: true, ..Printer::default() }.print(graph)
}

/// The annotated text, cut into its lines; [`listing`](super::listing) writes between them.
pub(super) fn lines(graph: &OpGraph) -> Vec<Line> {
    let mut printer = Printer { names: true, starts: Some(Vec::new()), ..Printer::default() };
    let text = printer.print(graph);
    let starts = printer.starts.unwrap_or_default();
    let ends = starts.iter().skip(1).map(|(at, ..)| *at).chain([text.len()]);
    let cut = |((start, bodies, node), end): (&Start, usize)| Line {
        text: text[*start..end].trim_end().to_owned(),
        bodies: bodies.clone(),
        node: *node,
    };
    starts.iter().zip(ends).map(cut).collect()
}

impl PartialEq for OpGraph {
    fn eq(&self, other: &Self) -> bool {
        canonical(self) == canonical(other)
    }
}

/// A line of the text.
pub(super) struct Line {
    /// The line without its end.
    pub(super) text: String,
    /// The bodies around it, from the outside in.
    pub(super) bodies: Vec<BodyId>,
    /// The node that it shows, or `None` for the head of a graph.
    pub(super) node: Option<NodeId>,
}

/// SHA-256 of the canonical text, in hex: independent of insertion order and of node names.
pub fn fingerprint(graph: &OpGraph) -> String {
    hex(&Sha256::digest(canonical(graph).as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        write!(s, "{b:02x}").expect("writing to a string cannot fail");
        s
    })
}

/// A name, in quotes unless it is a plain word or path.
pub(super) fn quoted(name: &str) -> String {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first && name.chars().all(is_plain) { name.into() } else { format!("{name:?}") }
}

/// May stand in a name without quotes?
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ")
}

/// Where a line begins, the bodies around it, its node.
type Start = (usize, Vec<BodyId>, Option<NodeId>);

/// Prints any graph, also one that breaks the rules: what is not there is a `?`.
#[derive(Default)]
struct Printer {
    out: String,
    /// Put names of nodes behind the lines?
    names: bool,
    /// Put the knobs that govern nodes behind their types?
    knobs: bool,
    /// Where lines begin, if somebody wants to know.
    starts: Option<Vec<Start>>,
    /// The bodies around the line being written.
    bodies: Vec<BodyId>,
}

impl Printer {
    fn print(&mut self, graph: &OpGraph) -> String {
        self.graph(graph, "", "").expect("writing to a string cannot fail");
        std::mem::take(&mut self.out)
    }

    fn start(&mut self, node: Option<NodeId>) {
        if let Some(starts) = &mut self.starts {
            starts.push((self.out.len(), self.bodies.clone(), node));
        }
    }

    /// A graph; `lead` stands before its head.
    fn graph(&mut self, graph: &OpGraph, indent: &str, lead: &str) -> fmt::Result {
        let ids = graph.nodes();
        let number: BTreeMap<NodeId, usize> =
            ids.iter().filter(|id| !matches!(graph.node(**id).op, Op::Input | Op::Weight(_))).enumerate().map(|(i, id)| (*id, i)).collect();
        let inputs = list(graph.inputs().iter().map(|i| input(graph, *i)));
        let outputs = list(graph.outputs().iter().map(|(n, o)| output(graph, &number, n, *o)));
        let flags = format!("{}{}", if graph.needs_f32 { " needs-f32" } else { "" }, if graph.tf32 { " tf32" } else { "" });
        self.start(None);
        writeln!(self.out, "{lead}model {}({inputs}) -> {outputs}{flags}", quoted(&graph.name))?;
        for id in ids.iter().filter(|id| number.contains_key(id)) {
            self.start(Some(*id));
            self.node(graph, *id, &number, indent)?;
            self.bodies_of(*id, &graph.node(*id).op, indent)?;
        }
        Ok(())
    }

    fn node(&mut self, graph: &OpGraph, id: NodeId, number: &BTreeMap<NodeId, usize>, indent: &str) -> fmt::Result {
        let node = graph.node(id);
        let args = list(graph.inputs_of(id).iter().map(|o| reference(graph, number, *o)));
        let out = &mut self.out;
        write!(out, "{indent}  %{} = {}{}({args}) : {}", number[&id], word(&node.op), attributes(&node.op), list(&node.outs))?;
        if let Some(knob) = node.knob.as_ref().filter(|_| self.knobs) {
            write!(out, " @{}", quoted(knob))?;
        }
        if self.names {
            write!(out, "    # {}{}", node.name, if node.group.is_empty() { String::new() } else { format!(" [{}]", node.group) })?;
        }
        out.push('\n');
        Ok(())
    }

    fn bodies_of(&mut self, node: NodeId, op: &Op, indent: &str) -> fmt::Result {
        let indent = format!("{indent}    ");
        for (index, (label, body)) in op.bodies().into_iter().enumerate() {
            self.bodies.push(BodyId { node, index });
            self.graph(body, &indent, &format!("{indent}{label}: "))?;
            self.bodies.pop();
        }
        Ok(())
    }
}

impl Op {
    /// The graphs inside of it and what the text writes before each.
    pub(super) fn bodies(&self) -> Vec<(String, &OpGraph)> {
        match self {
            Self::ForChunks(chunks) => chunks.bodies.iter().map(|(place, body)| (place.to_string(), body)).collect(),
            Self::Foreign(foreign) => {
                foreign.bodies.iter().map(|b| (format!("{} captures={}", quoted(&b.attribute), b.captures), &b.graph)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn input(graph: &OpGraph, id: NodeId) -> String {
    let Some(node) = graph.contains(id).then(|| graph.node(id)) else { return "?".into() };
    let default = graph.default_of(&node.name).map(|d| format!(" = {{{}}}", constant(d))).unwrap_or_default();
    format!("{}: {}{default}", quoted(&node.name), list(&node.outs))
}

fn output(graph: &OpGraph, number: &BTreeMap<NodeId, usize>, name: &str, outlet: Outlet) -> String {
    if !graph.contains(outlet.node) {
        return format!("{}: ?", quoted(name));
    }
    let ty = graph.node(outlet.node).outs.get(outlet.slot as usize).map_or_else(|| "?".into(), ToString::to_string);
    format!("{}: {ty} = {}", quoted(name), reference(graph, number, outlet))
}

fn word(op: &Op) -> String {
    if let Op::Foreign(f) = op { quoted(&f.op_type) } else { op.name().into() }
}

fn reference(graph: &OpGraph, number: &BTreeMap<NodeId, usize>, outlet: Outlet) -> String {
    let node = graph.node(outlet.node);
    match &node.op {
        Op::Input => format!("%{}", quoted(&node.name)),
        Op::Weight(expr) => format!("{{{}}}", constant(expr)),
        _ if outlet.slot == 0 => format!("%{}", number[&outlet.node]),
        _ => format!("%{}.{}", number[&outlet.node], outlet.slot),
    }
}

/// A constant with the types of its leaves and the values of its literals.
pub fn constant(expr: &WeightExpr) -> String {
    let of = || list(expr.operands().into_iter().map(constant));
    match expr.op() {
        WeightOp::Param { .. } | WeightOp::Stored(_) | WeightOp::Random { .. } => format!("{}: {}", leaf(expr), typed(expr)),
        WeightOp::Literal(bytes) => format!("literal {} = {}", typed(expr), values(expr, bytes)),
        WeightOp::Transpose { perm, .. } => format!("transpose{perm:?}({})", of()),
        WeightOp::Reshape { .. } => format!("reshape{:?}({})", expr.shape(), of()),
        WeightOp::Concat { axis, .. } => format!("concat[{axis}]({})", of()),
        WeightOp::Slice { axis, start, end, .. } => format!("slice[{axis}, {start}..{end}]({})", of()),
        WeightOp::Scale { factor, .. } => format!("scale[{factor}]({})", of()),
        WeightOp::Map { function, .. } => format!("{}({})", function.name(), of()),
        WeightOp::Binary { function, .. } => format!("{}({})", function.name(), of()),
        WeightOp::Expand { .. } => format!("expand{:?}({})", expr.shape(), of()),
        WeightOp::MatMul { .. } => format!("matmul({})", of()),
        WeightOp::Cast { .. } => format!("cast[{}]({})", expr.dtype(), of()),
    }
}

/// A constant that is read or generated, without its type.
fn leaf(expr: &WeightExpr) -> String {
    match expr.op() {
        WeightOp::Param { stage, name } => format!("param {}", quoted(&format!("{stage}/{name}"))),
        WeightOp::Stored(t) => format!("stored {}@{}+{}", quoted(&t.file.name()), t.offset, t.len),
        WeightOp::Random { name, spec } => format!("random {}@{:016x}", quoted(name), spec.seed),
        _ => expr.to_string(),
    }
}

fn typed(expr: &WeightExpr) -> String {
    format!("{}{:?}", expr.dtype(), expr.shape())
}

/// The values of a literal: one for all, a list, or a digest of the bytes where decimals would not give them back.
fn values(expr: &WeightExpr, bytes: &[u8]) -> String {
    let size = expr.dtype().size() as usize;
    let mut each = bytes.chunks_exact(size);
    let one = each.next().filter(|first| each.all(|b| b == *first));
    let text = match one {
        Some(first) => number(expr.dtype(), first),
        None if expr.elements() <= MOST_VALUES => {
            let all: Option<Vec<String>> = bytes.chunks_exact(size).map(|b| number(expr.dtype(), b)).collect();
            all.map(|v| format!("[{}]", v.join(", ")))
        }
        None => None,
    };
    text.unwrap_or_else(|| format!("sha256:{}", &hex(&Sha256::digest(bytes))[..16]))
}

/// An element as a decimal that reads back to the same bytes, if there is one.
fn number(dtype: DType, bytes: &[u8]) -> Option<String> {
    let text = match dtype {
        DType::F32 => f32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        DType::F64 => f64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        DType::F16 => half::f16::from_le_bytes(bytes.try_into().ok()?).to_f32().to_string(),
        DType::BF16 => half::bf16::from_le_bytes(bytes.try_into().ok()?).to_f32().to_string(),
        DType::I64 => i64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        DType::I32 => i32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        DType::U8 | DType::Bool => bytes.first()?.to_string(),
        DType::I8 => i8::from_le_bytes(bytes.try_into().ok()?).to_string(),
        DType::Opaque => return None,
    };
    (element(dtype, &text)? == bytes).then_some(text)
}

/// The bytes of an element written as a decimal.
pub(super) fn element(dtype: DType, text: &str) -> Option<Vec<u8>> {
    Some(match dtype {
        DType::F32 => text.parse::<f32>().ok()?.to_le_bytes().into(),
        DType::F64 => text.parse::<f64>().ok()?.to_le_bytes().into(),
        DType::F16 => half::f16::from_f32(text.parse().ok()?).to_le_bytes().into(),
        DType::BF16 => half::bf16::from_f32(text.parse().ok()?).to_le_bytes().into(),
        DType::I64 => text.parse::<i64>().ok()?.to_le_bytes().into(),
        DType::I32 => text.parse::<i32>().ok()?.to_le_bytes().into(),
        DType::U8 | DType::Bool => vec![text.parse::<u8>().ok()?],
        DType::I8 => text.parse::<i8>().ok()?.to_le_bytes().into(),
        DType::Opaque => return None,
    })
}

/// The attributes in braces, or nothing.
pub fn attributes(op: &Op) -> String {
    let text = match op {
        Op::Arange { len } => format!("len={len}"),
        Op::Gemm { trans_b } => format!("trans_b={trans_b}"),
        Op::Conv(c) | Op::ConvTranspose(c) | Op::FusedConv(c) => convolution(c),
        Op::Split { axis, sizes } => format!("axis={axis} sizes={sizes:?}"),
        Op::Softmax { axis } | Op::Concat { axis } => format!("axis={axis}"),
        Op::InstanceNorm { eps } | Op::LayerNorm { eps } | Op::RmsNorm { eps } => format!("eps={eps}"),
        Op::ReduceMean { axes } => format!("axes={axes:?}"),
        Op::Reshape { shape } | Op::Expand { shape } => format!("shape={shape:?}"),
        Op::Transpose { perm } => format!("perm={perm:?}"),
        Op::Slice { axis, start, end } => format!("axis={axis} {start}..{end}"),
        Op::Cast { to } => format!("to={to}"),
        Op::Upsample { factors } => format!("factors={factors:?}"),
        Op::Pad { before, after } => format!("before={before:?} after={after:?}"),
        Op::Attention(a) | Op::MultiHeadAttention(a) => format!("heads={} scale={}", a.heads, a.scale),
        Op::GroupNorm(g) | Op::GroupNormNhwc(g) => format!("groups={} eps={}{}", g.groups, g.eps, if g.silu { " silu" } else { "" }),
        // The raised operator says `tanh`, the standard one `approximate`: their texts must differ.
        Op::Gelu { tanh } => format!("tanh={tanh}"),
        Op::Unary(Unary::GeluTanh) => "approximate=tanh".into(),
        Op::Unary(Unary::GeluErf) => "approximate=none".into(),
        Op::QuickGelu { alpha } => format!("alpha={alpha}"),
        Op::RotaryEmbedding { heads } => format!("heads={heads}"),
        Op::ForChunks(c) => chunk_attributes(c),
        Op::Foreign(f) => foreign_attributes(f),
        _ => return String::new(),
    };
    format!("{{{text}}}")
}

/// `2`, or with a halo `2-1+1`.
impl fmt::Display for Sliced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        around(f, self.axis as i64, self.before, self.after)
    }
}

/// `4`, or with what is seen around it `4-0+1`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        around(f, self.extent, self.before, self.after)
    }
}

fn around(f: &mut fmt::Formatter<'_>, what: i64, before: i64, after: i64) -> fmt::Result {
    if (before, after) == (0, 0) { write!(f, "{what}") } else { write!(f, "{what}-{before}+{after}") }
}

fn convolution(c: &Conv) -> String {
    format!("kernel={:?} strides={:?} pads={:?} groups={}", c.kernel, c.strides, c.pads, c.groups)
}

fn chunk_attributes(c: &ForChunks) -> String {
    let axes = list(c.sliced.iter().map(|s| s.map_or("-".into(), |s| s.to_string())));
    let joined = list(c.joined.iter().map(|join| match join {
        Join::Along(axis) => axis.to_string(),
        Join::Stacked => "+".into(),
    }));
    format!("sliced=[{axes}] joined=[{joined}] ranges={:?}", c.ranges)
}

/// Attributes of an unknown operator are kept as the bytes of their protobuf messages.
fn foreign_attributes(f: &Foreign) -> String {
    let each = f.attributes.iter().map(|a| format!(" {}={}", quoted(&a.name), hex(&a.encode_to_vec())));
    let absent = |word: &str, slots: &[u16]| if slots.is_empty() { String::new() } else { format!(" {word}={slots:?}") };
    let (inputs, outputs) = (absent("no-inputs", &f.absent_inputs), absent("no-outputs", &f.absent_outputs));
    format!("domain={:?}{inputs}{outputs}{}", f.domain, each.collect::<String>())
}
