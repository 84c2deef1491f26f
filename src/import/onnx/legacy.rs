//! Operators of the sets 1 to 10 in the form that set 11 gave them: what was an attribute is an input, what was renamed has its new
//! name. Sources: the changelog of the standard (`docs/Changelog.md` of `onnx`). A form that set 11 cannot say is refused.

use super::functions::Called;
use super::reader::Reader;
use super::standard::Elements;
use crate::diag::{Diagnostic, Result};
use crate::ir::Outlet;
use crate::onnx::build::attr;
use crate::onnx::proto::{AttributeProto, NodeProto};

/// Since this set, every operator has the form that the rest of the import knows.
pub(super) const MODERN: i64 = 11;

/// What was an attribute: (operator, first set of the new form, attribute, its place among the inputs, what it is).
const MOVED: &[(&str, i64, &str, usize, Kind)] = &[
    ("Clip", 11, "min", 1, Kind::Float),
    ("Clip", 11, "max", 2, Kind::Float),
    ("Pad", 11, "pads", 1, Kind::Integers),
    ("Pad", 11, "value", 2, Kind::Float),
    ("Slice", 10, "starts", 1, Kind::Integers),
    ("Slice", 10, "ends", 2, Kind::Integers),
    ("Slice", 10, "axes", 3, Kind::Integers),
    ("TopK", 10, "k", 1, Kind::Integers),
    ("Upsample", 9, "scales", 1, Kind::Floats),
];

/// What says nothing any more: (operator, first set without it, attribute, the only value that may be dropped, if there is just one).
const DROPPED: &[(&str, i64, &str, Option<i64>)] = &[
    ("Dropout", 7, "is_test", Some(1)),
    ("BatchNormalization", 7, "is_test", Some(1)),
    ("BatchNormalization", 9, "spatial", Some(1)),
    ("RNN", 7, "output_sequence", None),
    ("GRU", 7, "output_sequence", None),
    ("LSTM", 7, "output_sequence", None),
    ("Gemm", 7, "broadcast", None),
];

/// Elementwise operators that broadcast along a named axis before set 7.
const BROADCAST: [&str; 12] = ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu"];

/// Operators whose form of set 1 was still that of set 6; others of the sets below 6 are refused.
#[rustfmt::skip]
const SINCE_ONE: &[&str] = &[
    "And", "ArgMax", "ArgMin", "AveragePool", "Constant", "Conv", "ConvTranspose", "DepthToSpace", "Equal", "Flatten", "Gather",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "Hardmax", "Identity", "If", "LRN", "LSTM", "Less", "LogSoftmax", "Loop",
    "LpNormalization", "MatMul", "MaxPool", "MaxRoiPool", "Not", "Or", "Pow", "RNN", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Shape", "Size", "Slice", "Softmax", "Softplus", "Softsign",
    "SpaceToDepth", "Squeeze", "TopK", "Transpose", "Unsqueeze", "Xor",
];

#[derive(Clone, Copy)]
enum Kind {
    /// A scalar of the element type of input 0.
    Float,
    /// A vector of i64.
    Integers,
    /// A vector of f32.
    Floats,
}

/// A node as set 11 has it; its new inputs are added to `inputs`.
///
/// # Errors
/// `onnx/opset` for a form that set 11 cannot say.
pub(super) fn modern(r: &mut Reader<'_, '_>, node: &NodeProto, version: i64, inputs: &mut Vec<Option<Outlet>>) -> Result<NodeProto> {
    let mut out = node.clone();
    let op = node.op_type.as_str();
    if version < 6 && !SINCE_ONE.contains(&op) {
        return Err(refused(node, version, "has its form of before set 6").into());
    }
    if version < 7 && BROADCAST.contains(&op) && (op == "PRelu" || out.attribute.iter().any(|a| a.name == "broadcast" && a.i == Some(1))) {
        return Err(refused(node, version, "broadcasts along a named axis").into());
    }
    if version < 9 && op == "Scan" {
        return Err(refused(node, version, "runs over a batch").into());
    }
    for (_, _, attribute, only) in DROPPED.iter().filter(|(o, since, ..)| *o == op && version < *since) {
        if let Some(a) = take(&mut out.attribute, attribute)
            && only.is_some_and(|n| a.i != Some(n))
        {
            return Err(refused(node, version, &format!("has `{attribute}` at {:?}", a.i)).into());
        }
    }
    for (_, _, attribute, position, kind) in MOVED.iter().filter(|(o, since, ..)| *o == op && version < *since) {
        if let Some(a) = take(&mut out.attribute, attribute) {
            let value = match kind {
                Kind::Float => r.float_like(a.f.unwrap_or(0.0), inputs.first().copied().flatten())?,
                Kind::Integers if a.ints.is_empty() => r.integers(&[a.i.unwrap_or(0)])?,
                Kind::Integers => r.integers(&a.ints)?,
                Kind::Floats => r.floats(&a.floats)?,
            };
            if inputs.len() <= *position {
                inputs.resize(position + 1, None);
            }
            inputs[*position].get_or_insert(value);
        }
    }
    match op {
        "Scatter" => out.op_type = "ScatterElements".into(),
        "Upsample" if version < 10 => resize(r, &mut out, version, inputs)?,
        "Resize" => resize(r, &mut out, version, inputs)?,
        _ => {}
    }
    Ok(out)
}

/// Scales stand behind a region; sampling is at `x / scale`, and the nearest is the one before where a picture grows.
fn resize(r: &Reader<'_, '_>, node: &mut NodeProto, version: i64, inputs: &mut Vec<Option<Outlet>>) -> Result<()> {
    let scales = inputs.get(1).copied().flatten();
    let nearest = node.attribute.iter().find(|a| a.name == "mode").is_none_or(|a| a.s.as_deref() == Some(b"nearest"));
    let grows = scales.is_some_and(|s| match r.info(s).value.as_ref().map(|v| &v.elements) {
        Some(Elements::Numbers(n)) => n.iter().all(|n| *n >= 1.0),
        _ => false,
    });
    // The standard says that Upsample only enlarges; its scales at run time are not known here.
    if nearest && !grows && node.op_type == "Resize" {
        return Err(refused(node, version, "shrinks to the nearest, or by scales that are not known").into());
    }
    node.op_type = "Resize".into();
    node.attribute.push(attr::string("coordinate_transformation_mode", "asymmetric"));
    node.attribute.push(attr::string("nearest_mode", "floor"));
    inputs.truncate(2);
    inputs.insert(inputs.len().min(1), None);
    Ok(())
}

fn refused(node: &NodeProto, version: i64, what: &str) -> Diagnostic {
    let message = format!("`{}` of operator set {version} {what}, which newer sets cannot say", node.op_type);
    Diagnostic::new("onnx/opset", message).help("convert the model with `onnx.version_converter`, or export it again")
}

fn take(attributes: &mut Vec<AttributeProto>, name: &str) -> Option<AttributeProto> {
    let at = attributes.iter().position(|a| a.name == name)?;
    Some(attributes.remove(at))
}

/// `LogSoftmax` and `Hardmax` before set 13 took the axes from the given one on as one: the nodes that say so. None where that is
/// one axis anyway, which `rank` decides.
pub(super) fn flattened(called: &Called, version: i64, rank: Option<usize>) -> Option<Vec<Called>> {
    let node = &called.node;
    if version >= 13 || !matches!(node.op_type.as_str(), "LogSoftmax" | "Hardmax") {
        return None;
    }
    let axis = node.attribute.iter().find(|a| a.name == "axis").map_or(1, |a| a.i.unwrap_or(0));
    let last = rank.is_some_and(|n| axis == -1 || axis + 1 == n as i64);
    if last && node.attribute.iter().any(|a| a.name == "axis") {
        return None;
    }
    let (x, y) = (node.input.first()?, node.output.first()?);
    let step = |op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| Called {
        node: NodeProto {
            op_type: op.into(),
            name: format!("{}/{op}", node.name),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.into()],
            attribute,
            ..NodeProto::default()
        },
        opsets: called.opsets,
    };
    let (flat, shape, done) = (format!("{y}/flat"), format!("{y}/shape"), format!("{y}/of_flat"));
    let last_axis = || vec![attr::int("axis", 1)];
    Some(vec![
        step("Shape", &[x], &shape, vec![]),
        step("Flatten", &[x], &flat, vec![attr::int("axis", axis)]),
        step(&node.op_type, &[&flat], &done, last_axis()),
        step("Reshape", &[&done, &shape], y, vec![]),
    ])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::import;
    use crate::ir::{Bindings, text};
    use crate::onnx::build::{self, Extent, attr};
    use crate::onnx::proto::{AttributeProto, GraphProto};

    /// The text of a model of one node over `x: f32[2, 4]`, or the code of the diagnostic.
    fn check(opset: i64, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, expect: &str) {
        let mut node = build::node(op, "n", inputs, &["y"]);
        node.attribute = attributes;
        let graph = GraphProto {
            name: "g".into(),
            node: vec![node],
            input: vec![build::value_info("x", 1, &[Extent::Known(2), Extent::Known(4)])],
            output: vec![build::value_info("y", 1, &[])],
            initializer: vec![build::tensor("scales", 1, &[2], [1.0_f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())],
            ..GraphProto::default()
        };
        let got = match import(&build::model(graph, opset), Path::new("."), &Bindings::default()) {
            Ok(imported) => text::canonical(&imported.graph),
            Err(d) => d.code.to_owned(),
        };
        assert!(got.contains(expect), "{op} of set {opset}: {got} has no {expect}");
    }

    #[test]
    fn what_was_an_attribute_is_an_input() {
        check(6, "Clip", &["x"], vec![attr::float("min", 0.0), attr::float("max", 6.0)], "Clip");
        check(9, "Slice", &["x"], vec![attr::ints("starts", &[1]), attr::ints("ends", &[3]), attr::ints("axes", &[1])], "f32[2, 2]");
        check(9, "Upsample", &["x", "scales"], vec![attr::string("mode", "nearest")], "f32[2, 8]");
        check(12, "LogSoftmax", &["x"], vec![attr::int("axis", 0)], "f32[1, 8]");
    }

    #[test]
    fn what_newer_sets_cannot_say_is_refused() {
        check(6, "Add", &["x", "x"], vec![attr::int("broadcast", 1)], "onnx/opset");
        check(5, "Tile", &["x", "scales"], vec![], "onnx/opset");
        check(10, "Resize", &["x", "x"], vec![], "onnx/opset");
        check(8, "Scan", &["x"], vec![], "onnx/opset");
    }
}
