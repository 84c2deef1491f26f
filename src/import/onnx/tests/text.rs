//! Small models as text, a statement a line:
//!
//! ```text
//! opset 13                                   default 21; `opset com.example 1` for other domains
//! bind n=4                                   a dim to bind
//! ir 3                                       version of the format, else the newest
//! in x: f32[2, n, ?]                         f32, f16, i64, bool, u16, string, seq; `x: f32` has no rank
//! init w: i64[2] = 3 4
//! node com.example.Op(x, , w) -> y, {axis=1 axes=[1, 2] alpha=0.5 mode="a" to=@ref body=&graph}
//! out y: f32[2]
//! graph NAME … end                           a body, for the nodes behind it
//! function com.example.F(a, b) -> c … end    with `attr NAME` and `default NAME=VALUE` lines
//! ```

use std::collections::BTreeMap;

use crate::ir::Bindings;
use crate::onnx::build::{self, Extent, attr};
use crate::onnx::proto::{
    AttributeProto, ElementTypeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, TypeValue, ValueInfoProto,
};

const TYPES: [(&str, i32, usize); 7] =
    [("f32", 1, 4), ("f16", 10, 2), ("f64", 11, 8), ("i64", 7, 8), ("bool", 9, 1), ("u16", 4, 2), ("string", 8, 0)];

/// A model and the dims to bind.
pub(super) fn model(source: &str) -> (ModelProto, Bindings) {
    let mut model = build::model(GraphProto { name: "g".into(), ..GraphProto::default() }, 21);
    let mut dims = Bindings::new();
    let mut bodies = BTreeMap::new();
    let mut graph = GraphProto { name: "g".into(), ..GraphProto::default() };
    let mut lines = source.lines().map(str::trim).filter(|l| !l.is_empty());
    while let Some(line) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "opset" => match rest.split_once(' ') {
                Some((domain, version)) => model.opset_import.push(build::opset(domain, version.parse().unwrap())),
                None => model.opset_import[0].version = rest.parse().unwrap(),
            },
            "ir" => model.ir_version = rest.parse().unwrap(),
            "bind" => {
                let (name, value) = rest.rsplit_once('=').unwrap();
                dims.insert(name.into(), value.parse().unwrap());
            }
            "graph" => {
                let mut body = GraphProto { name: rest.into(), ..GraphProto::default() };
                lines.by_ref().take_while(|l| *l != "end").for_each(|l| statement(&mut body, l, &bodies));
                bodies.insert(rest.to_owned(), body);
            }
            "function" => model.functions.push(function(rest, &mut lines, &bodies)),
            _ => statement(&mut graph, line, &bodies),
        }
    }
    model.graph = Some(graph);
    (model, dims)
}

fn function<'a>(head: &str, lines: &mut impl Iterator<Item = &'a str>, bodies: &BTreeMap<String, GraphProto>) -> FunctionProto {
    let call = node(head, bodies);
    let mut out =
        FunctionProto { domain: call.domain, name: call.op_type, input: call.input, output: call.output, ..FunctionProto::default() };
    out.opset_import = vec![build::opset("", 21)];
    let mut graph = GraphProto::default();
    for line in lines.take_while(|l| *l != "end") {
        match line.split_once(' ').unwrap() {
            ("opset", version) => out.opset_import[0].version = version.parse().unwrap(),
            ("attr", name) => out.attribute.push(name.into()),
            ("default", given) => out.attribute_proto.extend(attributes(given, bodies)),
            _ => statement(&mut graph, line, bodies),
        }
    }
    out.node = graph.node;
    out
}

fn statement(graph: &mut GraphProto, line: &str, bodies: &BTreeMap<String, GraphProto>) {
    match line.split_once(' ').unwrap() {
        ("in", rest) => graph.input.push(declared(rest)),
        ("out", rest) => graph.output.push(declared(rest)),
        ("init", rest) => graph.initializer.push(stored(rest)),
        ("node", rest) => graph.node.push(node(rest, bodies)),
        _ => panic!("what is `{line}`?"),
    }
}

fn element(word: &str) -> (i32, usize) {
    TYPES.iter().find(|(name, ..)| *name == word).map(|(_, number, size)| (*number, *size)).unwrap()
}

fn list(text: &str) -> Vec<&str> {
    if text.trim().is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

fn declared(text: &str) -> ValueInfoProto {
    let Some((name, ty)) = text.split_once(": ") else { return ValueInfoProto { name: text.into(), ..ValueInfoProto::default() } };
    let Some((element_type, extents)) = ty.split_once('[') else {
        let sequence = ElementTypeProto { elem_type: declared("e: f32[]").r#type };
        let mut value = build::value_info(name, if ty == "seq" { 1 } else { element(ty).0 }, &[]);
        match value.r#type.as_mut().unwrap() {
            kind if ty == "seq" => *kind = TypeProto { value: Some(TypeValue::Sequence(Box::new(sequence))), ..TypeProto::default() },
            TypeProto { value: Some(TypeValue::Tensor(t)), .. } => t.shape = None,
            _ => {}
        }
        return value;
    };
    let extent = |word: &str| match word.parse::<i64>() {
        Ok(n) => Extent::Known(n),
        Err(_) if word == "?" => Extent::Unknown,
        Err(_) => Extent::Named(word.into()),
    };
    let extents: Vec<Extent> = list(extents.trim_end_matches(']')).into_iter().map(extent).collect();
    build::value_info(name, element(element_type).0, &extents)
}

fn stored(text: &str) -> TensorProto {
    let (head, values) = text.split_once('=').unwrap();
    let (name, ty) = head.trim().split_once(": ").unwrap();
    let (element_type, extents) = ty.split_once('[').unwrap();
    let dims: Vec<i64> = list(extents.trim_end_matches(']')).into_iter().map(|n| n.parse().unwrap()).collect();
    let (number, size) = element(element_type);
    if number == 8 {
        let strings = values.split_whitespace().map(|v| v.as_bytes().to_vec()).collect();
        return TensorProto { name: name.into(), data_type: 8, dims, string_data: strings, ..TensorProto::default() };
    }
    let bytes = |word: &str| match number {
        1 => word.parse::<f32>().unwrap().to_le_bytes().to_vec(),
        10 => half::f16::from_f32(word.parse().unwrap()).to_le_bytes().to_vec(),
        11 => word.parse::<f64>().unwrap().to_le_bytes().to_vec(),
        _ => word.parse::<i64>().unwrap().to_le_bytes()[..size].to_vec(),
    };
    let mut raw: Vec<u8> = values.split_whitespace().flat_map(bytes).collect();
    // One value stands for all.
    if raw.len() == size {
        raw = raw.repeat(usize::try_from(dims.iter().product::<i64>()).unwrap());
    }
    build::tensor(name, number, &dims, raw)
}

fn node(text: &str, bodies: &BTreeMap<String, GraphProto>) -> NodeProto {
    let (call, given) = text.split_once('{').unwrap_or((text, ""));
    let (left, outputs) = call.split_once("->").unwrap();
    let (path, inputs) = left.trim().trim_end_matches(')').split_once('(').unwrap();
    let (domain, op_type) = path.rsplit_once('.').unwrap_or(("", path));
    let mut node = build::node(op_type, "", &list(inputs), &list(outputs));
    node.domain = domain.into();
    node.attribute = attributes(given.trim_end_matches('}'), bodies);
    node
}

fn attributes(text: &str, bodies: &BTreeMap<String, GraphProto>) -> Vec<AttributeProto> {
    let mut rest = text.trim();
    let mut out = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let end = if after.starts_with('[') { after.find(']').unwrap() + 1 } else { after.find(' ').unwrap_or(after.len()) };
        out.push(attribute(name.trim(), &after[..end], bodies));
        rest = after[end..].trim();
    }
    out
}

fn attribute(name: &str, value: &str, bodies: &BTreeMap<String, GraphProto>) -> AttributeProto {
    if let Some(body) = value.strip_prefix('&') {
        return attr::graph(name, bodies[body].clone());
    }
    if let Some(other) = value.strip_prefix('@') {
        return AttributeProto { ref_attr_name: other.into(), r#type: 2, ..attr::int(name, 0) };
    }
    if let Some(inner) = value.strip_prefix('[') {
        let each = list(inner.trim_end_matches(']'));
        return match each.iter().map(|n| n.parse()).collect::<Result<Vec<i64>, _>>() {
            Ok(ints) => attr::ints(name, &ints),
            Err(_) => attr::floats(name, &each.iter().map(|x| x.parse().unwrap()).collect::<Vec<f32>>()),
        };
    }
    if let Some(text) = value.strip_prefix('"') {
        return attr::string(name, text.trim_end_matches('"'));
    }
    value.parse().map_or_else(|_| attr::float(name, value.parse().unwrap()), |n| attr::int(name, n))
}
