//! Folding equals the kernels: every operator that vidc computes at compile time, on NaN, infinities, signed zeros, denormals and the
//! ends of integers, in every element type, against what ONNX Runtime's CPU provider computes without optimisation.
//!
//! Each row is a model of constants whose result is joined to an input, so that nothing but folding can be different. A few elements
//! are computed while the file is read (`import::onnx::standard`), many by the pass `fold-constants`; both are tried. What is folded, what
//! stays and what the runtime has no kernel for is a snapshot, so a row that no longer folds is seen.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use prost::Message;
use vidc::onnx::build::{self, Extent, attr};
use vidc::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use vidc::optimize::model::Level;
use vidc::runtime::session::{Runtime, Session, SessionOptions, Weights};
use vidc::runtime::tensor::Tensor;
use vidc::weights::DType;

use crate::onnx_backend::through;
use crate::reference::runtime;

/// Repetitions of the values that are too many for shape arithmetic.
const MANY: usize = 600;

const FLOATS: [f64; 20] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    -0.0,
    0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    3.0,
    1e-3,
    -7.25,
    20.0,
    -20.0,
    88.0,
    0.75,
    -0.999,
];
const FLOAT_TYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];
const WHOLE_TYPES: [DType; 4] = [DType::I64, DType::I32, DType::I8, DType::U8];

/// The least and the largest denormal, the least normal and the largest number of a type.
fn edges(dtype: DType) -> [f64; 4] {
    match dtype {
        DType::F64 => [f64::from_bits(1), f64::from_bits((1 << 52) - 1), f64::MIN_POSITIVE, f64::MAX],
        DType::F16 => [1, 0x3ff, 0x400, 0x7bff].map(|b| f16::from_bits(b).to_f64()),
        DType::BF16 => [1, 0x7f, 0x80, 0x7f7f].map(|b| bf16::from_bits(b).to_f64()),
        _ => [1, 0x7f_ffff, 0x80_0000, 0x7f7f_ffff].map(|b| f64::from(f32::from_bits(b))),
    }
}

fn float_bytes(dtype: DType, x: f64) -> Vec<u8> {
    match dtype {
        DType::F64 => x.to_le_bytes().into(),
        DType::F16 => f16::from_f64(x).to_le_bytes().into(),
        DType::BF16 => bf16::from_f64(x).to_le_bytes().into(),
        _ => (x as f32).to_le_bytes().into(),
    }
}

fn whole_bytes(dtype: DType, n: i64) -> Vec<u8> {
    n.to_le_bytes()[..dtype.size() as usize].into()
}

/// The numbers of a type as the left operand (`side` 0) or the right one, little-endian; no whole divisor is 0 or -1, on which the
/// processor traps.
fn values(dtype: DType, side: usize) -> Vec<Vec<u8>> {
    if dtype.is_float() {
        let mut all: Vec<f64> = FLOATS.iter().copied().chain(edges(dtype)).chain(edges(dtype).map(|x| -x)).collect();
        let count = all.len();
        all.rotate_left(side * 9 % count);
        return all.into_iter().map(|x| float_bytes(dtype, x)).collect();
    }
    let (low, high) = match dtype {
        DType::I64 => (i64::MIN, i64::MAX),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::I8 => (-128, 127),
        DType::Bool => (0, 1),
        _ => (0, 255),
    };
    let all = if side == 0 { [low, high, 0, 1, 7, 100, high - 1, 2] } else { [2, 3, 7, high, 1, 100, 5, 2] };
    all.iter().map(|n| whole_bytes(dtype, *n)).collect()
}

/// A row of the table: an operator, its attributes, its operands and how near the results must be.
struct Row {
    name: &'static str,
    op: &'static str,
    attributes: Vec<AttributeProto>,
    /// Further inputs, after `operands` tensors of the type at hand.
    extra: Vec<TensorProto>,
    operands: usize,
    /// Left operands are a matrix of this many columns.
    columns: Option<usize>,
    near: Near,
    types: &'static [DType],
    /// The type of the result, where it is another one.
    result: Option<DType>,
}

/// How near a number must be to the kernel's. NaN, infinities and signs of zeros agree always.
#[derive(Clone, Copy, PartialEq)]
enum Near {
    /// To the last bit.
    Same,
    /// A kernel approximates the function, or sums in another order: relative and absolute difference.
    Within(f64, f64),
}

/// An approximation of a transcendental function.
const APPROXIMATE: Near = Near::Within(2e-6, 1e-7);

fn row(name: &'static str) -> Row {
    let (types, near, operands) = (&FLOAT_TYPES[..], Near::Same, 1);
    Row { name, op: name, attributes: vec![], extra: vec![], operands, columns: None, near, types, result: None }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    build::tensor(name, DType::I64.onnx(), &[values.len() as i64], values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

fn scalar(name: &str, value: f32) -> TensorProto {
    build::tensor(name, DType::F32.onnx(), &[], value.to_le_bytes().to_vec())
}

fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    for name in ["Abs", "Neg", "Relu", "Sign"] {
        rows.push(row(name));
        rows.push(Row { types: &WHOLE_TYPES, ..row(name) });
    }
    rows.extend(["Floor", "Ceil", "Round", "Sqrt", "Reciprocal"].map(row));
    rows.extend(["Exp", "Log", "Sigmoid", "Tanh", "Sin", "Cos", "Erf", "Gelu"].map(|n| Row { near: APPROXIMATE, ..row(n) }));
    rows.push(Row { op: "Gelu", attributes: vec![attr::string("approximate", "tanh")], near: APPROXIMATE, ..row("GeluTanh") });
    for name in ["Add", "Sub", "Mul", "Div", "Max", "Min"] {
        rows.push(Row { operands: 2, ..row(name) });
        rows.push(Row { operands: 2, types: &WHOLE_TYPES, ..row(name) });
    }
    rows.push(Row { operands: 2, near: APPROXIMATE, ..row("Pow") });
    rows.push(Row { operands: 2, attributes: vec![attr::int("fmod", 1)], ..row("Mod") });
    rows.push(Row { operands: 2, types: &WHOLE_TYPES, ..row("Mod") });
    for name in ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"] {
        rows.push(Row { operands: 2, result: Some(DType::Bool), ..row(name) });
        rows.push(Row { operands: 2, result: Some(DType::Bool), types: &WHOLE_TYPES, ..row(name) });
    }
    for to in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::Bool] {
        let cast = || Row { op: "Cast", attributes: vec![attr::int("to", i64::from(to.onnx()))], result: Some(to), ..row(to.name()) };
        rows.push(cast());
        rows.push(Row { types: &WHOLE_TYPES, ..cast() });
    }
    for to in WHOLE_TYPES {
        let attributes = vec![attr::int("to", i64::from(to.onnx()))];
        rows.push(Row { op: "Cast", attributes, result: Some(to), types: &WHOLE_TYPES, ..row(to.name()) });
    }
    for name in ["ReduceMax", "ReduceMin"] {
        rows.push(Row { columns: Some(4), extra: vec![ints("axes", &[1])], ..row(name) });
    }
    for name in ["ReduceSum", "ReduceMean", "ReduceProd"] {
        rows.push(Row { columns: Some(4), extra: vec![ints("axes", &[1])], near: Near::Within(1e-6, 0.0), ..row(name) });
    }
    rows.push(Row { columns: Some(4), attributes: vec![attr::int("axis", 1)], near: APPROXIMATE, ..row("Softmax") });
    rows.push(Row { columns: Some(4), operands: 2, near: Near::Within(1e-6, 1e-12), ..row("MatMul") });
    let gemm = |alpha, beta| vec![attr::float("alpha", alpha), attr::float("beta", beta), attr::int("transB", 1)];
    rows.push(Row {
        op: "Gemm",
        columns: Some(4),
        operands: 3,
        attributes: gemm(0.5, 0.0),
        near: Near::Within(1e-6, 1e-12),
        ..row("GemmBeta0")
    });
    rows.push(Row {
        op: "Gemm",
        columns: Some(4),
        operands: 3,
        attributes: gemm(1.0, 2.0),
        near: Near::Within(1e-6, 1e-12),
        ..row("GemmBeta2")
    });
    rows.push(Row { columns: Some(4), attributes: vec![attr::ints("perm", &[1, 0])], ..row("Transpose") });
    rows.push(Row { op: "Clip", ..row("ClipOpen") });
    rows.push(Row { extra: vec![scalar("low", -1.0)], types: &[DType::F32], ..row("Clip") });
    rows
}

/// Elements along each axis, and the operands of a row in a type.
fn operands(row: &Row, dtype: DType, times: usize) -> Vec<TensorProto> {
    let one = |i: usize| {
        let mut each = values(dtype, i);
        let columns = row.columns.unwrap_or(1);
        each.truncate(each.len() / columns * columns);
        let count = each.len();
        let bytes: Vec<u8> = each.concat().repeat(times);
        let rows = (count * times / columns) as i64;
        let shape: Vec<i64> = match (row.op, i) {
            // Products: the right operand and the bias are small, so that the result is not much larger than its operands.
            ("MatMul" | "Gemm", 1..) => vec![],
            (_, _) if row.columns.is_some() => vec![rows, columns as i64],
            _ => vec![rows],
        };
        if shape.is_empty() {
            let (elements, shape) = if i == 1 { (16, vec![4, 4]) } else { (4, vec![4]) };
            return build::tensor(&format!("c{i}"), dtype.onnx(), &shape, each.concat()[..elements * dtype.size() as usize].to_vec());
        }
        build::tensor(&format!("c{i}"), dtype.onnx(), &shape, bytes)
    };
    (0..row.operands).map(one).collect()
}

/// The model of a row: its result, flat, in front of an input.
fn model(row: &Row, dtype: DType, times: usize) -> Vec<u8> {
    let result = row.result.unwrap_or(dtype).onnx();
    let mut initializer = operands(row, dtype, times);
    initializer.extend(row.extra.iter().cloned());
    initializer.push(ints("flat", &[-1]));
    let inputs: Vec<&str> = initializer[..initializer.len() - 1].iter().map(|t| t.name.as_str()).collect();
    let node = vec![
        NodeProto { attribute: row.attributes.clone(), ..build::node(row.op, "op", &inputs, &["folded"]) },
        build::node("Reshape", "flatten", &["folded", "flat"], &["row"]),
        NodeProto { attribute: vec![attr::int("axis", 0)], ..build::node("Concat", "join", &["row", "x"], &["y"]) },
    ];
    let graph = GraphProto {
        name: "g".into(),
        node,
        input: vec![build::value_info("x", result, &[Extent::Known(1)])],
        output: vec![build::value_info("y", result, &[Extent::Unknown])],
        initializer,
        ..GraphProto::default()
    };
    build::model(graph, 21).encode_to_vec()
}

fn session(runtime: &Runtime, bytes: &[u8], weights: &Weights) -> Option<Session> {
    Session::load(runtime, bytes, weights, &SessionOptions { threads: 1, ..SessionOptions::default() }).ok()
}

fn run(session: &mut Session, dtype: DType) -> Option<Tensor> {
    let x = Tensor::zeros(dtype, &[1]).unwrap();
    session.run(&[("x", x.view())], &["y"]).ok()?.pop()
}

fn numbers(t: &Tensor) -> Vec<f64> {
    match t.dtype() {
        DType::F32 => t.as_slice::<f32>().unwrap().iter().map(|v| f64::from(*v)).collect(),
        DType::F64 => t.as_slice::<f64>().unwrap().to_vec(),
        DType::F16 => t.as_slice::<f16>().unwrap().iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => t.as_slice::<bf16>().unwrap().iter().map(|v| v.to_f64()).collect(),
        DType::I64 => t.as_slice::<i64>().unwrap().iter().map(|v| *v as f64).collect(),
        DType::I32 => t.as_slice::<i32>().unwrap().iter().map(|v| f64::from(*v)).collect(),
        _ => t.bytes().iter().map(|v| f64::from(*v)).collect(),
    }
}

/// One step of a 16-bit type, within which the provider's detour over f32 may round twice.
fn step(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => 0.0,
    }
}

/// The first element that differs: its place, what the kernel gives and what vidc made of it.
fn difference(want: &Tensor, got: &Tensor, near: Near) -> Option<String> {
    if (want.dtype(), want.shape()) != (got.dtype(), got.shape()) {
        return Some(format!("{}{:?} became {}{:?}", want.dtype(), want.shape(), got.dtype(), got.shape()));
    }
    if want.bytes() == got.bytes() {
        return None;
    }
    let least = edges(want.dtype())[0];
    let agree = |w: f64, g: f64| {
        let (relative, absolute) = match near {
            Near::Same => (0.0, 0.0),
            Near::Within(relative, absolute) => (relative, absolute),
        };
        let step = step(want.dtype());
        let signed = w != 0.0 || w.is_sign_negative() == g.is_sign_negative() || near != Near::Same;
        let close = (w - g).abs() <= (relative.max(step) * w.abs()).max(absolute).max(if step > 0.0 { least } else { 0.0 });
        (w.is_nan() && g.is_nan()) || (w.is_infinite() && w.to_bits() == g.to_bits()) || (w.is_finite() && close && signed)
    };
    let pairs = numbers(want).into_iter().zip(numbers(got)).enumerate();
    pairs.filter(|(_, (w, g))| !agree(*w, *g)).map(|(i, (w, g))| format!("element {i}: the kernel gives {w:e}, folding {g:e}")).next()
}

/// What became of a row, or how it differs.
fn check(runtime: &Runtime, row: &Row, dtype: DType, times: usize, folder: &Path) -> Result<&'static str, String> {
    let bytes = model(row, dtype, times);
    let result = row.result.unwrap_or(dtype);
    let want = session(runtime, &bytes, &Weights::none()).and_then(|mut s| run(&mut s, result));
    let Some(want) = want else { return Ok("no kernel") };
    let file = folder.join("model.onnx");
    std::fs::write(&file, &bytes).unwrap();
    let rewritten = through(&file, Level::Full, &folder.join("out.onnx")).map_err(|d| format!("{d:?}"))?;
    let nodes = vidc::onnx::decode(rewritten.bytes.clone().into()).unwrap().graph.unwrap().node.len();
    let mut after = session(runtime, &rewritten.bytes, &rewritten.weights).ok_or("ONNX Runtime does not take what was written")?;
    let got = run(&mut after, result).ok_or("what was written does not run")?;
    difference(&want, &got, row.near).map_or(Ok(if nodes == 1 { "folded" } else { "stays" }), Err)
}

#[test]
fn folding_equals_the_kernels() {
    let Some(runtime) = runtime() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut fates, mut failures) = (BTreeMap::new(), Vec::new());
    for row in table() {
        for dtype in row.types {
            for (times, word) in [(1, "few"), (MANY, "many")] {
                let name = if row.op == "Cast" { format!("Cast to {}", row.name) } else { row.name.to_owned() };
                match check(&runtime, &row, *dtype, times, folder.path()) {
                    Ok(fate) => fates.entry(format!("{name}, {word}: {fate}")).or_insert_with(Vec::new).push(dtype.name()),
                    Err(why) => failures.push(format!("{name} of {word} {dtype}: {why}")),
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    let lines: Vec<String> = fates.iter().map(|(row, types)| format!("{row} {}", types.join(" "))).collect();
    insta::assert_snapshot!("folding", lines.join("\n"));
}
