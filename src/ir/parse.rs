//! Reads the canonical text of an operator graph back: `parse(&canonical(g)) == g`.
//!
//! The grammar is what [`super::text`] prints, no more: one form, one spacing. Every node's types are inferred and compared
//! with those that stand in the text, and the graph is verified at the end. Constants of equal text become one node, across
//! bodies too. What the text cannot hold (tensors in files, seeded values, long literals) is looked up in constants that the
//! caller knows. The comment of the annotated text gives a node its name and group; without it the node is called `nN`.
//! Nesting is bounded, and so are numbers: an extent beyond 2^40 is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cursor::{Cursor, Fallible};
use super::dim::Dim;
use super::graph::{OpGraph, Outlet};
use super::op::{Attention, Binary, Body, Conv, ForChunks, Foreign, GroupNorm, Join, Op, Place, Sliced, Unary};
use super::types::{DType, TensorType};
use super::{text, verify};
use crate::diag::{Diagnostic, Result};
use crate::weights::{Arithmetic, Function, WeightExpr};

/// Nested bodies; passes make one.
const DEEPEST_BODY: usize = 8;
/// Nested operations of a constant.
const DEEPEST_CONSTANT: usize = 64;
/// A literal given by one value is at most this many elements.
const LARGEST_LITERAL: u64 = 1 << 22;

/// Reads a graph.
///
/// # Errors
/// `model/text` with the line at which the text is not as printed, or what does not fit; `model/invalid` as [`verify`](super::verify()).
pub fn parse(text: &str) -> Result<OpGraph> {
    parse_with(text, &[])
}

/// Reads a graph whose text names constants that it does not hold; they are found among the leaves of `known`.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, known: &[WeightExpr]) -> Result<OpGraph> {
    let mut constants = BTreeMap::new();
    known.iter().for_each(|expr| leaves(expr, &mut constants));
    let mut reader = Reader { lines: lines(text), at: 0, constants };
    let graph = reader.whole().map_err(|(line, what)| Diagnostic::new("model/text", format!("line {line}: {what}")))?;
    verify(&graph)?;
    Ok(graph)
}

fn leaves(expr: &WeightExpr, into: &mut BTreeMap<String, WeightExpr>) {
    if expr.operands().is_empty() {
        into.insert(text::constant(expr), expr.clone());
    }
    expr.operands().into_iter().for_each(|e| leaves(e, into));
}

struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let each = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    each.map(|(i, l)| Line { number: i + 1, indent: l.len() - l.trim_start().len(), text: l.trim_start() }).collect()
}

/// What an operator reads, before nodes are known.
enum Reference {
    Input(String),
    Node(usize, u16),
    Constant(WeightExpr),
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
    /// Constants by text, so that equal ones are one.
    constants: BTreeMap<String, WeightExpr>,
}

/// The graph being read.
struct Scope {
    graph: OpGraph,
    inputs: BTreeMap<String, Outlet>,
    constants: BTreeMap<String, Outlet>,
    /// First output of each numbered node.
    nodes: Vec<Outlet>,
}

impl<'a> Reader<'a> {
    fn whole(&mut self) -> Fallible<OpGraph> {
        let (indent, mut c) = self.next().ok_or((1, "there is no graph".to_owned()))?;
        let graph = self.graph(&mut c, indent, 0)?;
        match self.lines.get(self.at) {
            Some(line) => Err((line.number, "nothing may follow the graph; is it indented as its neighbours?".into())),
            None => Ok(graph),
        }
    }

    fn next(&mut self) -> Option<(usize, Cursor<'a>)> {
        let line = self.lines.get(self.at)?;
        self.at += 1;
        Some((line.indent, Cursor::new(line.text, line.number)))
    }

    /// The next line, if it stands at this indent.
    fn next_at(&mut self, indent: usize) -> Option<Cursor<'a>> {
        self.lines.get(self.at).filter(|l| l.indent == indent)?;
        self.next().map(|(_, c)| c)
    }

    /// A header at the cursor and the node lines below it.
    fn graph(&mut self, c: &mut Cursor<'a>, indent: usize, depth: usize) -> Fallible<OpGraph> {
        if depth > DEEPEST_BODY {
            return c.fail("bodies are nested too deep");
        }
        c.expect("model ")?;
        let mut scope = Scope { graph: OpGraph::new(c.name()?), inputs: BTreeMap::new(), constants: BTreeMap::new(), nodes: Vec::new() };
        let input = |c: &mut Cursor<'a>| {
            let (name, ty) = (c.name()?, c.colon_type()?);
            let default = if c.eat(" = ") { Some(self.reference(c)?) } else { None };
            Ok((name, ty, default))
        };
        for (name, ty, default) in c.list("(", ")", input)? {
            let outlet = match default {
                None => scope.graph.input(name.clone(), ty),
                Some(Reference::Constant(expr)) => scope.graph.input_with_default(name.clone(), ty, expr),
                Some(_) => return c.fail(&format!("the default of the input `{name}` is no constant")),
            };
            if scope.inputs.insert(name.clone(), outlet).is_some() {
                return c.fail(&format!("the input `{name}` stands twice"));
            }
        }
        c.expect(" -> ")?;
        let mut outputs = Vec::new();
        while !c.is_done() {
            if c.eat(" needs-f32") {
                scope.graph.needs_f32 = true;
                continue;
            }
            if c.eat(" tf32") {
                scope.graph.tf32 = true;
                continue;
            }
            if !outputs.is_empty() {
                c.expect(", ")?;
            }
            let (name, ty) = (c.name()?, c.colon_type()?);
            c.expect(" = ")?;
            outputs.push((name, ty, self.reference(c)?));
        }
        c.end()?;
        while let Some(mut line) = self.next_at(indent + 2) {
            self.node(&mut line, &mut scope, indent, depth)?;
        }
        for (name, ty, reference) in outputs {
            let outlet = scope.resolve(c, reference)?;
            if *scope.graph.ty(outlet) != ty {
                return c.fail(&format!("the output `{name}` is {}", scope.graph.ty(outlet)));
            }
            scope.graph.output(name, outlet);
        }
        Ok(scope.graph)
    }

    fn node(&mut self, c: &mut Cursor<'a>, scope: &mut Scope, indent: usize, depth: usize) -> Fallible<()> {
        let number = scope.nodes.len();
        c.expect(&format!("%{number} = "))?;
        let word = c.name()?;
        let mut op = operator(c, &word)?;
        let args = c.list("(", ")", |c| self.reference(c))?;
        c.expect(" : ")?;
        let mut types = vec![c.ty()?];
        while c.eat(", ") {
            types.push(c.ty()?);
        }
        let knob = if c.eat(" @") { Some(c.name()?) } else { None };
        let (name, group) = comment(c, number)?;
        match &mut op {
            Op::Foreign(f) => {
                f.outputs.clone_from(&types);
                f.bodies = self.foreign_bodies(indent + 4, depth)?;
            }
            Op::ForChunks(chunks) => chunks.bodies = self.bodies(indent + 4, depth)?,
            _ => {}
        }
        let args: Vec<Outlet> = args.into_iter().map(|r| scope.resolve(c, r)).collect::<Fallible<_>>()?;
        let outlet = scope.graph.add(op, &args, name, &group).or_else(|d| c.fail(&d.message))?;
        if scope.graph.node(outlet.node).outs != types {
            return c.fail(&format!(
                "{word} yields {:?}",
                scope.graph.node(outlet.node).outs.iter().map(ToString::to_string).collect::<Vec<_>>()
            ));
        }
        scope.graph.node_mut(outlet.node).knob = knob.map(Into::into);
        scope.nodes.push(outlet);
        Ok(())
    }

    fn bodies(&mut self, indent: usize, depth: usize) -> Fallible<Vec<(Place, OpGraph)>> {
        let mut bodies = Vec::new();
        while let Some(mut c) = self.next_at(indent) {
            let extent = c.int()?;
            let (before, after) = halo(&mut c)?;
            c.expect(": ")?;
            bodies.push((Place { extent, before, after }, self.graph(&mut c, indent, depth + 1)?));
        }
        Ok(bodies)
    }

    fn foreign_bodies(&mut self, indent: usize, depth: usize) -> Fallible<Vec<Body>> {
        let mut bodies = Vec::new();
        while let Some(mut c) = self.next_at(indent) {
            let attribute = c.name()?;
            let captures = c.key(" captures=", Cursor::index)?;
            c.expect(": ")?;
            bodies.push(Body { attribute, graph: self.graph(&mut c, indent, depth + 1)?, captures });
        }
        Ok(bodies)
    }

    fn reference(&mut self, c: &mut Cursor<'a>) -> Fallible<Reference> {
        if c.eat("{") {
            let expr = self.constant(c, 0)?;
            c.expect("}")?;
            return Ok(Reference::Constant(expr));
        }
        c.expect("%")?;
        if !c.peek(|ch| ch.is_ascii_digit()) {
            return c.name().map(Reference::Input);
        }
        let node = c.index()?;
        let slot = if c.eat(".") { c.index()? } else { 0 };
        u16::try_from(slot).map(|slot| Reference::Node(node, slot)).or_else(|_| c.fail("there is no such output"))
    }

    fn constant(&mut self, c: &mut Cursor<'a>, depth: usize) -> Fallible<WeightExpr> {
        if depth > DEEPEST_CONSTANT {
            return c.fail("the constant is nested too deep");
        }
        let expr = self.expression(c, depth)?;
        let key = text::constant(&expr);
        Ok(self.constants.entry(key).or_insert(expr).clone())
    }

    fn expression(&mut self, c: &mut Cursor<'a>, depth: usize) -> Fallible<WeightExpr> {
        let start = c.rest();
        let word = c.word();
        match word {
            "param" => return param(c),
            "literal" => return self.literal(c, start),
            "stored" | "random" => return self.known(c, start),
            _ => {}
        }
        let numbers =
            if matches!(word, "transpose" | "reshape" | "concat" | "expand") { c.list("[", "]", Cursor::index)? } else { Vec::new() };
        let attributes = if matches!(word, "slice" | "scale" | "cast") { c.bracketed()? } else { "" };
        let of = c.list("(", ")", |c| self.constant(c, depth + 1))?;
        let shape: Vec<u64> = numbers.iter().map(|n| *n as u64).collect();
        let made = match (word, &of[..], &numbers[..]) {
            ("transpose", [of], perm) => of.transpose(perm),
            ("reshape", [of], _) => of.reshape(&shape),
            ("concat", parts, [axis]) => WeightExpr::concat(parts, *axis),
            ("slice", [of], _) => {
                let mut inner = Cursor::new(attributes, c.line());
                let axis = inner.index()?;
                inner.expect(", ")?;
                let from = inner.index()?;
                inner.expect("..")?;
                of.slice(axis, from as u64, inner.index()? as u64)
            }
            ("scale", [of], _) => match attributes.parse() {
                Ok(factor) => of.scale(factor),
                Err(_) => return c.fail("a scale needs a number"),
            },
            ("cast", [of], _) => of.cast(Cursor::new(attributes, c.line()).dtype()?),
            ("expand", [of], _) => of.expand(&shape),
            ("matmul", [left, right], _) => left.matmul(right),
            (_, of, _) => match applied(word, of) {
                Some(made) => made,
                None => return c.fail(&format!("`{word}` is no constant")),
            },
        };
        made.or_else(|d| c.fail(&d.message))
    }

    /// `f32[2] = 1` (all elements), `f32[2] = [1, 2]`, or a digest that must be known.
    fn literal(&self, c: &mut Cursor<'a>, start: &str) -> Fallible<WeightExpr> {
        c.expect(" ")?;
        let (dtype, shape) = fixed_type(c)?;
        c.expect(" = ")?;
        let count = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n <= LARGEST_LITERAL);
        let Some(count) = count else { return c.fail("the literal is too large") };
        if c.eat("sha256:") {
            c.word();
            return self.look_up(c, start);
        }
        let each = if c.rest().starts_with('[') { c.list("[", "]", |c| Ok(c.decimal()))? } else { vec![c.decimal(); count as usize] };
        let bytes: Option<Vec<Vec<u8>>> = each.iter().map(|t| text::element(dtype, t)).collect();
        match bytes {
            Some(bytes) => WeightExpr::literal(dtype, &shape, &bytes.concat()).or_else(|d| c.fail(&d.message)),
            None => c.fail(&format!("a value is no {dtype}")),
        }
    }

    /// `stored F@O+L: T` and `random N@S: T`.
    fn known(&self, c: &mut Cursor<'a>, start: &str) -> Fallible<WeightExpr> {
        c.expect(" ")?;
        c.name()?;
        c.skip(|ch| ch.is_ascii_hexdigit() || matches!(ch, '@' | '+'));
        c.colon_type()?;
        self.look_up(c, start)
    }

    fn look_up(&self, c: &Cursor<'a>, start: &str) -> Fallible<WeightExpr> {
        let text = &start[..start.len() - c.rest().len()];
        self.constants.get(text).cloned().map_or_else(|| c.fail(&format!("the text does not hold the values of `{text}`")), Ok)
    }
}

impl Scope {
    fn resolve(&mut self, c: &Cursor<'_>, reference: Reference) -> Fallible<Outlet> {
        match reference {
            Reference::Input(name) => self.inputs.get(&name).copied().map_or_else(|| c.fail(&format!("there is no input `{name}`")), Ok),
            Reference::Constant(expr) => Ok(*self.constants.entry(text::constant(&expr)).or_insert_with(|| self.graph.weight(expr))),
            Reference::Node(n, slot) => match self.nodes.get(n) {
                Some(first) if usize::from(slot) < self.graph.node(first.node).outs.len() => Ok(Outlet { node: first.node, slot }),
                _ => c.fail(&format!("there is no %{n}.{slot} above")),
            },
        }
    }
}

/// A function of one constant or of two.
fn applied(word: &str, of: &[WeightExpr]) -> Option<Result<WeightExpr>> {
    match of {
        [of] => Function::from_name(word).map(|f| of.map(f)),
        [left, right] => Arithmetic::from_name(word).map(|f| left.binary(f, right)),
        _ => None,
    }
}

/// ` STAGE/NAME: f32[2]`
fn param(c: &mut Cursor<'_>) -> Fallible<WeightExpr> {
    c.expect(" ")?;
    let path = c.name()?;
    c.expect(": ")?;
    let (dtype, shape) = fixed_type(c)?;
    let Some((stage, name)) = path.split_once('/') else { return c.fail("a parameter is named STAGE/NAME") };
    WeightExpr::param(stage, name, dtype, &shape).or_else(|d| c.fail(&d.message))
}

fn fixed_type(c: &mut Cursor<'_>) -> Fallible<(DType, Vec<u64>)> {
    let ty: TensorType = c.ty()?;
    let dims: Option<Vec<u64>> = ty.shape.iter().map(|d| d.as_const().and_then(|n| u64::try_from(n).ok())).collect();
    dims.map_or_else(|| c.fail("a constant has extents of 0 and more"), |shape| Ok((ty.dtype, shape)))
}

/// `    # NAME [GROUP]`, or nothing.
fn comment(c: &mut Cursor<'_>, number: usize) -> Fallible<(String, Arc<str>)> {
    if !c.eat("    # ") {
        c.end()?;
        return Ok((format!("n{number}"), "".into()));
    }
    let text = c.rest();
    Ok(match text.strip_suffix(']').and_then(|t| t.rsplit_once(" [")) {
        Some((name, group)) => (name.into(), group.into()),
        None => (text.into(), "".into()),
    })
}

/// The operator of a word, its attributes read.
fn operator(c: &mut Cursor<'_>, word: &str) -> Fallible<Op> {
    if c.rest().starts_with("{domain=") {
        return c.braced(|c| foreign(c, word));
    }
    if let Some(op) = bare(word) {
        return Ok(op);
    }
    c.braced(|c| with_attributes(c, word))
}

/// Operators without attributes.
fn bare(word: &str) -> Option<Op> {
    use Binary::{Add, Div, Mul, Pow, Sub};
    use Unary::{Cos, Erf, Exp, Neg, Sigmoid, Sin, Sqrt, Tanh};
    if let Some(f) = [Sigmoid, Tanh, Erf, Exp, Sqrt, Sin, Cos, Neg].into_iter().find(|f| f.name() == word) {
        return Some(Op::Unary(f));
    }
    if let Some(f) = [Add, Sub, Mul, Div, Pow].into_iter().find(|f| f.name() == word) {
        return Some(Op::Binary(f));
    }
    [Op::MatMul, Op::Linear, Op::Silu, Op::GeGlu, Op::TemporalConv, Op::FusedMatMul, Op::BiasGelu, Op::ChannelAffine]
        .into_iter()
        .find(|op| op.name() == word)
}

fn with_attributes(c: &mut Cursor<'_>, word: &str) -> Fallible<Op> {
    Ok(match word {
        "Arange" => Op::Arange { len: c.key("len=", Cursor::dim)? },
        "Gemm" => Op::Gemm { trans_b: c.key("trans_b=", Cursor::bool)? },
        "Conv" => Op::Conv(convolution(c)?),
        "ConvTranspose" => Op::ConvTranspose(convolution(c)?),
        "FusedConv" => Op::FusedConv(convolution(c)?),
        "Split" => Op::Split { axis: c.key("axis=", Cursor::index)?, sizes: c.key(" sizes=", Cursor::ints)? },
        "Softmax" => Op::Softmax { axis: c.key("axis=", Cursor::index)? },
        "Concat" => Op::Concat { axis: c.key("axis=", Cursor::index)? },
        "InstanceNormalization" => Op::InstanceNorm { eps: c.key("eps=", Cursor::float)? },
        "LayerNormalization" => Op::LayerNorm { eps: c.key("eps=", Cursor::float)? },
        "RmsNorm" => Op::RmsNorm { eps: c.key("eps=", Cursor::float)? },
        "ReduceMean" => Op::ReduceMean { axes: c.key("axes=", Cursor::indices)? },
        "Reshape" => Op::Reshape { shape: c.key("shape=", Cursor::dims)? },
        "Expand" => Op::Expand { shape: c.key("shape=", Cursor::dims)? },
        "Transpose" => Op::Transpose { perm: c.key("perm=", Cursor::indices)? },
        "Slice" => slice(c)?,
        "Cast" => Op::Cast { to: c.key("to=", Cursor::dtype)? },
        "Resize" => Op::Upsample { factors: c.key("factors=", Cursor::ints)? },
        "Pad" => Op::Pad { before: c.key("before=", Cursor::ints)?, after: c.key(" after=", Cursor::ints)? },
        "Attention" => Op::Attention(attention(c)?),
        "MultiHeadAttention" => Op::MultiHeadAttention(attention(c)?),
        "GroupNorm" => Op::GroupNorm(group_norm(c)?),
        "GroupNormNhwc" => Op::GroupNormNhwc(group_norm(c)?),
        "Gelu" if c.eat("approximate=tanh") => Op::Unary(Unary::GeluTanh),
        "Gelu" if c.eat("approximate=none") => Op::Unary(Unary::GeluErf),
        "Gelu" => Op::Gelu { tanh: c.key("tanh=", Cursor::bool)? },
        "QuickGelu" => Op::QuickGelu { alpha: c.key("alpha=", Cursor::float)? },
        "RotaryEmbedding" => Op::RotaryEmbedding { heads: c.key("heads=", Cursor::int)? },
        "ForChunks" => Op::ForChunks(Box::new(chunks(c)?)),
        _ => return c.fail(&format!("there is no operator `{word}`")),
    })
}

fn convolution(c: &mut Cursor<'_>) -> Fallible<Conv> {
    Ok(Conv {
        kernel: c.key("kernel=", Cursor::ints)?,
        strides: c.key(" strides=", Cursor::ints)?,
        pads: c.key(" pads=", Cursor::pairs)?,
        groups: c.key(" groups=", Cursor::int)?,
    })
}

fn slice(c: &mut Cursor<'_>) -> Fallible<Op> {
    let axis = c.key("axis=", Cursor::index)?;
    let start: Dim = c.key(" ", Cursor::dim)?;
    Ok(Op::Slice { axis, start, end: c.key("..", Cursor::dim)? })
}

fn attention(c: &mut Cursor<'_>) -> Fallible<Attention> {
    Ok(Attention { heads: c.key("heads=", Cursor::int)?, scale: c.key(" scale=", Cursor::float)? })
}

fn group_norm(c: &mut Cursor<'_>) -> Fallible<GroupNorm> {
    Ok(GroupNorm { groups: c.key("groups=", Cursor::int)?, eps: c.key(" eps=", Cursor::float)?, silu: c.eat(" silu") })
}

fn chunks(c: &mut Cursor<'_>) -> Fallible<ForChunks> {
    let slice = |c: &mut Cursor<'_>| if c.eat("-") { Ok(None) } else { sliced(c).map(Some) };
    let join = |c: &mut Cursor<'_>| if c.eat("+") { Ok(Join::Stacked) } else { c.index().map(Join::Along) };
    Ok(ForChunks {
        sliced: c.key("sliced=", |c| c.list("[", "]", slice))?,
        joined: c.key(" joined=", |c| c.list("[", "]", join))?,
        ranges: c.key(" ranges=", Cursor::pairs)?,
        bodies: Vec::new(),
    })
}

fn sliced(c: &mut Cursor<'_>) -> Fallible<Sliced> {
    let axis = c.index()?;
    let (before, after) = halo(c)?;
    Ok(Sliced { axis, before, after })
}

/// `-BEFORE+AFTER`, or nothing where both are 0.
fn halo(c: &mut Cursor<'_>) -> Fallible<(i64, i64)> {
    if c.eat("-") { Ok((c.int()?, c.key("+", Cursor::int)?)) } else { Ok((0, 0)) }
}

/// `domain="" no-inputs=[…] no-outputs=[…] NAME=PROTOBUF…`
fn foreign(c: &mut Cursor<'_>, word: &str) -> Fallible<Op> {
    use prost::Message;
    let domain = c.key("domain=", Cursor::name)?;
    let slots = |c: &mut Cursor<'_>| c.indices().map(|all| all.into_iter().map(|i| i as u16).collect());
    let absent_inputs = if c.eat(" no-inputs=") { slots(c)? } else { Vec::new() };
    let absent_outputs = if c.eat(" no-outputs=") { slots(c)? } else { Vec::new() };
    let mut attributes = Vec::new();
    while c.eat(" ") {
        c.name()?;
        c.expect("=")?;
        let bytes = c.hex()?;
        let attribute = crate::onnx::proto::AttributeProto::decode(&bytes[..]);
        attributes.push(attribute.or_else(|_| c.fail("the bytes are no attribute"))?);
    }
    let foreign = Foreign { domain, op_type: word.into(), attributes, absent_inputs, absent_outputs, ..Foreign::default() };
    Ok(Op::Foreign(Box::new(foreign)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
#[path = "parse_tests.rs"]
mod tests;
