//! Models whose extents no input says mean the same after all passes, at several sizes.

use std::path::Path;

use vidc::metrics::relative_l2;
use vidc::onnx::build::{self, Extent, attr};
use vidc::onnx::encode;
use vidc::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use vidc::optimize::model::Level;
use vidc::runtime::session::{Runtime, Session, SessionOptions, Weights};
use vidc::runtime::tensor::{Tensor, TensorView};

use crate::onnx_backend::through;
use crate::reference::runtime;

const FLOAT: i32 = 1;
const INT64: i32 = 7;

fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute: attributes, ..build::node(op, output, inputs, &[output]) }
}

fn ints(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    build::tensor(name, INT64, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// Values that differ from place to place and have both signs.
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect()
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let n = dims.iter().product::<i64>() as usize;
    build::tensor(name, FLOAT, dims, values(n).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

fn model(input: &[Extent], initializer: Vec<TensorProto>, node: Vec<NodeProto>) -> Vec<u8> {
    let output = vec![vidc::onnx::proto::ValueInfoProto { name: "y".into(), ..build::value_info("y", FLOAT, &[]) }];
    let mut graph = GraphProto { name: "extents".into(), initializer, node, output, ..GraphProto::default() };
    if let Some(vidc::onnx::proto::TypeValue::Tensor(t)) = graph.output[0].r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.shape = None;
    }
    graph.input = vec![build::value_info("x", FLOAT, input)];
    encode(&build::model(graph, 21)).unwrap()
}

fn run(session: &mut Session, shape: &[usize]) -> Tensor {
    let x = values(shape.iter().product());
    session.run(&[("x", TensorView::of(shape, &x))], &["y"]).unwrap().remove(0)
}

/// Every size gives the same before and after.
fn check(runtime: &Runtime, name: &str, bytes: &[u8], sizes: &[Vec<usize>]) {
    let folder = tempfile::tempdir().unwrap();
    let file = |n: &str| folder.path().join(n);
    std::fs::write(file("in.onnx"), bytes).unwrap();
    let session = |bytes: &[u8], weights: &Weights| {
        Session::load(runtime, bytes, weights, &SessionOptions { threads: 1, ..SessionOptions::default() })
    };
    let mut before = session(bytes, &Weights::none()).unwrap();
    for level in [Level::None, Level::Full] {
        let written = through(&file("in.onnx"), level, Path::new(&file("out.onnx"))).unwrap_or_else(|d| panic!("{name}: {d:?}"));
        let mut after = session(&written.bytes, &written.weights).unwrap_or_else(|d| panic!("{name}: {d:?}"));
        for size in sizes {
            let (want, got) = (run(&mut before, size), run(&mut after, size));
            assert_eq!(got.shape(), want.shape(), "{name} at {size:?}");
            let array = |t: &Tensor| ndarray::ArrayD::from_shape_vec(t.shape().to_vec(), t.as_slice::<f32>().unwrap().to_vec()).unwrap();
            let error = relative_l2(array(&got).view(), array(&want).view());
            assert!(error <= 2e-5, "{name} at {size:?}, {level:?}: {error:e}");
        }
    }
}

/// `1 + (n - 1) / 2` in integers, of an axis of the input, into `out`.
fn halved(axis: i64, out: &str) -> Vec<NodeProto> {
    let n = |part: &str| format!("{out}_{part}");
    vec![
        node("Shape", &["x"], &n("s"), vec![attr::int("start", axis), attr::int("end", axis + 1)]),
        node("Squeeze", &[&n("s")], &n("n"), vec![]),
        node("Add", &[&n("n"), "minus"], &n("a"), vec![]),
        node("Div", &[&n("a"), "two"], &n("d"), vec![]),
        node("Add", &["one", &n("d")], out, vec![]),
    ]
}

/// Attention over the pixels of a convolution with stride 2; the keys are turned through a view of three axes.
fn attention_after_a_strided_convolution() -> Vec<u8> {
    let constants = vec![
        floats("kernel", &[16, 3, 3, 3]),
        ints("minus", &[], &[-1]),
        ints("one", &[], &[1]),
        ints("two", &[], &[2]),
        ints("rest", &[1], &[-1]),
        ints("c", &[1], &[16]),
        ints("heads", &[4], &[0, -1, 2, 8]),
        ints("joined", &[3], &[0, -1, 16]),
        ints("last", &[1], &[-1]),
        ints("end", &[1], &[i64::MAX]),
        ints("before", &[1], &[-2]),
        ints("all", &[1], &[i64::MIN]),
    ];
    let strided = vec![attr::ints("strides", &[2, 2]), attr::ints("pads", &[1, 1, 1, 1])];
    let turned = || vec![attr::ints("perm", &[0, 2, 1, 3])];
    let mut nodes = vec![
        node("Conv", &["x", "kernel"], "conv", strided),
        node("Transpose", &["conv"], "pixels", vec![attr::ints("perm", &[0, 2, 3, 1])]),
        node("Shape", &["x"], "b", vec![attr::int("end", 1)]),
    ];
    nodes.extend(halved(2, "h"));
    nodes.extend(halved(3, "w"));
    nodes.extend([
        node("Mul", &["h", "w"], "count", vec![]),
        node("Reshape", &["count", "rest"], "counts", vec![]),
        node("Concat", &["b", "counts", "c"], "shape", vec![attr::int("axis", 0)]),
        node("Reshape", &["pixels", "shape"], "tokens", vec![]),
        node("Reshape", &["tokens", "heads"], "split", vec![]),
        node("Transpose", &["split"], "q", turned()),
        node("Shape", &["q"], "s", vec![]),
        node("Slice", &["s", "last", "end"], "d", vec![]),
        node("Slice", &["s", "before", "last"], "l", vec![]),
        node("Slice", &["s", "all", "before"], "bh", vec![]),
        node("Concat", &["last", "l", "d"], "three", vec![attr::int("axis", 0)]),
        node("Reshape", &["q", "three"], "k3", vec![]),
        node("Transpose", &["k3"], "k3t", vec![attr::ints("perm", &[0, 2, 1])]),
        node("Concat", &["bh", "d", "l"], "four", vec![attr::int("axis", 0)]),
        node("Reshape", &["k3t", "four"], "k", vec![]),
        node("MatMul", &["q", "k"], "scores", vec![]),
        node("Softmax", &["scores"], "p", vec![]),
        node("MatMul", &["p", "q"], "o", vec![]),
        node("Transpose", &["o"], "back", turned()),
        node("Reshape", &["back", "joined"], "y", vec![]),
    ]);
    model(&["b".into(), 3.into(), "h".into(), "w".into()], constants, nodes)
}

/// As many rows as values are not 0, in shapes that need the number: attention, a slice and an expansion.
fn extents_that_depend_on_data() -> Vec<u8> {
    let constants = vec![
        floats("up", &[2, 16]),
        floats("row", &[1, 1, 16]),
        ints("heads", &[4], &[1, -1, 2, 8]),
        ints("joined", &[3], &[1, -1, 16]),
        ints("first", &[1], &[0]),
        ints("one", &[1], &[1]),
        ints("two", &[1], &[2]),
        ints("c", &[1], &[16]),
    ];
    let turned = || vec![attr::ints("perm", &[0, 2, 1, 3])];
    let nodes = vec![
        node("Relu", &["x"], "positive", vec![]),
        node("NonZero", &["positive"], "places", vec![]),
        node("Transpose", &["places"], "pairs", vec![]),
        node("Cast", &["pairs"], "numbers", vec![attr::int("to", 1)]),
        node("MatMul", &["numbers", "up"], "wide", vec![]),
        node("Sigmoid", &["wide"], "rows", vec![]),
        node("Reshape", &["rows", "heads"], "split", vec![]),
        node("Transpose", &["split"], "q", turned()),
        node("Transpose", &["split"], "k", vec![attr::ints("perm", &[0, 2, 3, 1])]),
        node("MatMul", &["q", "k"], "scores", vec![]),
        node("Softmax", &["scores"], "p", vec![]),
        node("MatMul", &["p", "q"], "o", vec![]),
        node("Transpose", &["o"], "back", turned()),
        node("Reshape", &["back", "joined"], "tokens", vec![]),
        node("Shape", &["tokens"], "count", vec![attr::int("start", 1), attr::int("end", 2)]),
        node("Concat", &["one", "count", "c"], "full", vec![attr::int("axis", 0)]),
        node("Expand", &["row", "full"], "copies", vec![]),
        node("Div", &["count", "two"], "half", vec![]),
        node("Concat", &["tokens", "copies"], "both", vec![attr::int("axis", 2)]),
        node("Slice", &["both", "first", "half", "one"], "y", vec![]),
    ];
    model(&["n".into(), "m".into()], constants, nodes)
}

#[test]
fn extents_that_no_input_says_are_computed_at_run_time() {
    let Some(runtime) = runtime() else { return };
    let sizes = [vec![2, 3, 7, 10], vec![1, 3, 8, 5], vec![1, 3, 1, 1]];
    check(&runtime, "attention after a strided convolution", &attention_after_a_strided_convolution(), &sizes);
    let sizes = [vec![5, 9], vec![16, 4]];
    check(&runtime, "extents that depend on data", &extents_that_depend_on_data(), &sizes);
}
