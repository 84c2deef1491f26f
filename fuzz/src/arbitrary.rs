//! A small ONNX graph from bytes: inputs, constants, then nodes that read what was made before. Most of them fit together, so that much
//! gets past the import; every number may also be one at which arithmetic goes wrong.

use vidc::onnx::build::{self, Extent, attr};
use vidc::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto};

/// Most nodes of a graph.
const NODES: usize = 24;
/// Most elements of a constant.
const ELEMENTS: i64 = 256;
/// Element types, the usual ones first.
const TYPES: [i32; 8] = [1, 1, 1, 7, 10, 6, 9, 11];
/// Extents.
const EXTENTS: [i64; 8] = [1, 2, 3, 4, 6, 8, 16, 1 << 20];
/// Numbers for attributes, the usual ones first.
const NUMBERS: [i64; 16] = [0, 1, 2, 3, -1, 4, 1, 2, -2, 8, 16, 32, -3, 1 << 40, i64::MAX, i64::MIN];

/// Operators with how many operands they have at most.
const OPERATORS: &[(&str, usize)] = &[
    ("Add", 2),
    ("Mul", 2),
    ("Sub", 2),
    ("Div", 2),
    ("Pow", 2),
    ("MatMul", 2),
    ("Gemm", 3),
    ("Conv", 3),
    ("Relu", 1),
    ("Sigmoid", 1),
    ("Tanh", 1),
    ("Erf", 1),
    ("Exp", 1),
    ("Sqrt", 1),
    ("Neg", 1),
    ("Softmax", 1),
    ("Transpose", 1),
    ("Reshape", 2),
    ("Unsqueeze", 2),
    ("Squeeze", 2),
    ("Slice", 5),
    ("Concat", 3),
    ("Split", 2),
    ("Gather", 2),
    ("Expand", 2),
    ("Tile", 2),
    ("Where", 3),
    ("Equal", 2),
    ("Cast", 1),
    ("Shape", 1),
    ("ConstantOfShape", 1),
    ("Range", 3),
    ("ReduceMean", 2),
    ("ReduceSum", 2),
    ("LayerNormalization", 3),
    ("InstanceNormalization", 3),
    ("GroupNormalization", 3),
    ("BatchNormalization", 5),
    ("Pad", 3),
    ("Resize", 4),
    ("Clip", 3),
    ("Identity", 1),
    ("Flatten", 1),
    ("Gelu", 1),
    ("DepthToSpace", 1),
    ("MaxPool", 1),
    ("AveragePool", 1),
    ("ConvTranspose", 3),
    ("Einsum", 2),
    ("Trilu", 2),
    ("CumSum", 2),
    ("Constant", 0),
    ("Dropout", 3),
    ("Attention", 3),
    ("RMSNormalization", 2),
];

/// Attributes that take one number.
const INTS: [&str; 16] = [
    "axis",
    "keepdims",
    "to",
    "group",
    "transA",
    "transB",
    "num_groups",
    "blocksize",
    "num_outputs",
    "allowzero",
    "upper",
    "start",
    "end",
    "noop_with_empty_axes",
    "q_num_heads",
    "kv_num_heads",
];
/// Attributes that take a list of numbers.
const LISTS: [&str; 8] = ["perm", "axes", "pads", "strides", "kernel_shape", "dilations", "split", "output_padding"];
/// Attributes that take a word, with words.
const WORDS: [(&str, &[&str]); 5] = [
    ("mode", &["nearest", "linear", "cubic", "constant", "reflect", "DCR", "CRD"]),
    ("coordinate_transformation_mode", &["asymmetric", "half_pixel", "align_corners"]),
    ("auto_pad", &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    ("equation", &["ij,jk->ik", "bij,bjk", "...ij->...ji", "ii->i"]),
    ("approximate", &["tanh", "none"]),
];

/// Bytes, then zeros.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn next(&mut self) -> usize {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(b, rest)| (*b, rest));
        self.0 = rest;
        first.into()
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() % choices.len()]
    }

    fn numbers(&mut self) -> Vec<i64> {
        (0..self.next() % 5).map(|_| self.of(&NUMBERS)).collect()
    }
}

/// The model.
pub(crate) fn model(bytes: &[u8]) -> ModelProto {
    let mut source = Source(bytes);
    let opset = [21, 21, 17, 13, 11, 23][source.next() % 6];
    let mut graph = GraphProto { name: "g".into(), ..GraphProto::default() };
    let mut values = Vec::new();
    for i in 0..1 + source.next() % 3 {
        values.push(format!("x{i}"));
        graph.input.push(input(&mut source, &format!("x{i}")));
    }
    for i in 0..source.next() % 6 {
        values.push(format!("c{i}"));
        graph.initializer.push(constant(&mut source, &format!("c{i}")));
    }
    for i in 0..1 + source.next() % NODES {
        if source.0.is_empty() {
            break;
        }
        graph.node.push(node(&mut source, i, &mut values));
    }
    let read = |name: &String| graph.node.iter().any(|n| n.input.contains(name));
    let ends = graph.node.iter().flat_map(|n| &n.output).filter(|name| !read(name));
    let ends: Vec<_> =
        ends.map(|name| build::value_info(name, 0, &[])).map(|v| vidc::onnx::proto::ValueInfoProto { r#type: None, ..v }).collect();
    graph.output = ends;
    build::model(graph, opset)
}

fn input(source: &mut Source<'_>, name: &str) -> vidc::onnx::proto::ValueInfoProto {
    let ty = source.of(&TYPES);
    let extent = |source: &mut Source<'_>| match source.next() % 16 {
        0 => Extent::Named("n".into()),
        1 => Extent::Unknown,
        _ => Extent::Known(source.of(&EXTENTS)),
    };
    let shape: Vec<Extent> = (0..source.next() % 6).map(|_| extent(source)).collect();
    build::value_info(name, ty, &shape)
}

/// A constant: small numbers of 64 bits, as shapes, axes and indices are, or floats.
fn constant(source: &mut Source<'_>, name: &str) -> vidc::onnx::proto::TensorProto {
    if source.next() % 2 == 0 {
        let numbers = source.numbers();
        let raw: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let dims = [numbers.len() as i64];
        return build::tensor(name, 7, if source.next() % 8 == 0 && dims[0] == 1 { &[] } else { &dims }, raw);
    }
    let mut dims: Vec<i64> = (0..source.next() % 5).map(|_| source.of(&EXTENTS[..6])).collect();
    while dims.iter().product::<i64>() > ELEMENTS {
        dims.pop();
    }
    let value = [0.0f32, 1.0, 0.5, -1.0, 1e-5, f32::INFINITY, f32::NAN, 3e38][source.next() % 8];
    build::tensor(name, 1, &dims, value.to_le_bytes().repeat(dims.iter().product::<i64>() as usize))
}

fn node(source: &mut Source<'_>, i: usize, values: &mut Vec<String>) -> NodeProto {
    let (op, operands) = source.of(OPERATORS);
    let operand = |source: &mut Source<'_>| match source.next() {
        // Left out.
        255 => String::new(),
        // The newest are read most, so that graphs are deep.
        n if n < 128 => values[values.len() - 1 - n % values.len().min(3)].clone(),
        n => values[n % values.len()].clone(),
    };
    let inputs: Vec<String> = (0..operands.saturating_sub(source.next() % 8 / 6)).map(|_| operand(source)).collect();
    let several = op == "Split" || source.next() % 16 == 0;
    let outputs: Vec<String> = (0..if several { 2 } else { 1 }).map(|k| format!("v{i}_{k}")).collect();
    let mut attribute: Vec<AttributeProto> = (0..source.next() % 4).map(|_| one_attribute(source)).collect();
    if op == "Constant" {
        attribute = vec![attr::tensor("value", constant(source, ""))];
    }
    values.extend(outputs.iter().cloned());
    NodeProto { op_type: op.into(), name: format!("n{i}"), input: inputs, output: outputs, attribute, ..NodeProto::default() }
}

fn one_attribute(source: &mut Source<'_>) -> AttributeProto {
    match source.next() % 8 {
        0..4 => attr::int(source.of(&INTS), source.of(&NUMBERS)),
        4..6 => attr::ints(source.of(&LISTS), &source.numbers()),
        6 => attr::float(source.of(&["epsilon", "alpha", "beta", "scale"]), source.of(&[1e-5, 0.5, 1.0, 0.0, f32::NAN])),
        _ => {
            let (name, words) = source.of(&WORDS);
            attr::string(name, source.of(words))
        }
    }
}
