//! Files that were made to do harm, or were damaged: each gives a graph or a diagnostic, in bounded time and memory.

use std::time::{Duration, Instant};

use super::*;
use crate::ir::Op;
use crate::onnx::build::{self, Extent, attr};
use crate::onnx::proto::{FunctionProto, NodeProto, SparseTensorProto, TensorProto};

/// The code of the diagnostic; `ok` if there is none.
fn code_in(dir: &Path, model: &ModelProto) -> String {
    match import(model, dir, &Bindings::default()) {
        Ok(imported) => {
            verify(&imported.graph).unwrap();
            "ok".into()
        }
        Err(d) => d.code.into(),
    }
}

fn code(model: &ModelProto) -> String {
    code_in(Path::new("/nonexistent"), model)
}

fn check(source: &str, expect: &str) {
    let (model, dims) = text::model(source);
    let got = import(&model, Path::new("/nonexistent"), &dims).map_or_else(|d| d.code, |_| "ok");
    assert_eq!(got, expect, "{source}");
}

fn within(seconds: u64, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    assert!(start.elapsed() < Duration::from_secs(seconds), "it took {:?}", start.elapsed());
}

fn reading(t: TensorProto) -> ModelProto {
    let node = build::node("Exp", "e", &[&t.name.clone()], &["y"]);
    let graph =
        GraphProto { node: vec![node], initializer: vec![t], output: vec![build::value_info("y", 1, &[])], ..GraphProto::default() };
    build::model(graph, 21)
}

#[test]
fn external_data_stay_inside_of_the_folder_and_of_the_file() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("model");
    fs::create_dir(&dir).unwrap();
    fs::write(outer.path().join("secret"), [0; 64]).unwrap();
    fs::write(dir.join("w.bin"), [0; 64]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", dir.join("out")).unwrap();
    let check = |location: &str, offset: u64, length: u64, expect: &str| {
        let model = reading(build::external_tensor("w", 1, &[4], location, offset, length));
        assert_eq!(code_in(&dir, &model), expect, "{location} {offset} {length}");
    };
    check("w.bin", 48, 16, "ok");
    check("../secret", 0, 16, "onnx/external-path-escape");
    check("/etc/passwd", 0, 16, "onnx/external-path-escape");
    #[cfg(unix)]
    check("out", 0, 16, "onnx/external-path-escape");
    check("", 0, 16, "onnx/external-path-escape");
    check("none", 0, 16, "onnx/external-missing");
    check("w.bin", 49, 16, "onnx/external-out-of-range");
    check("w.bin", u64::MAX, 16, "onnx/external-out-of-range");
    check("w.bin", 0, u64::MAX, "onnx/external-out-of-range");
    check("w.bin", 0, 15, "onnx/tensor-size-mismatch");
}

#[test]
fn stored_tensors_are_as_long_as_they_say() {
    let check =
        |dims: &[i64], raw: usize, expect: &str| assert_eq!(code(&reading(build::tensor("w", 1, dims, vec![0; raw]))), expect, "{dims:?}");
    check(&[2], 8, "ok");
    check(&[2], 7, "onnx/tensor-size-mismatch");
    check(&[i64::MAX], 8, "onnx/tensor-shape");
    check(&[1 << 40, 1 << 40], 8, "onnx/tensor-shape");
    check(&[-1], 8, "onnx/tensor-shape");
    check(&[0, 1 << 40, 1 << 40], 0, "onnx/tensor-shape");
    check(&[0, 7], 0, "ok");
}

#[test]
fn sparse_tensors_are_checked_like_others() {
    let values = build::external_tensor("w", 1, &[2], "../secret", 0, 8);
    let sparse = SparseTensorProto { values: Some(values), indices: Some(build::tensor("", 7, &[2], vec![0; 16])), dims: vec![4] };
    let mut model = reading(build::tensor("other", 1, &[2], vec![0; 8]));
    model.graph.as_mut().unwrap().sparse_initializer.push(sparse);
    assert_eq!(code(&model), "onnx/external-path-escape");
}

#[test]
fn no_graph_is_no_model() {
    assert_eq!(code(&ModelProto::default()), "onnx/not-a-model");
}

#[test]
fn every_prefix_of_a_model_is_refused_or_a_graph() {
    let source = "opset com.example 1\nin x: f32[n, 2]\nin c: bool[]\ninit s: i64[2] = -1 1\nfunction com.example.F(a) -> b\nnode Exp(a) -> b\nend\n\
                  graph t\nnode Neg(x) -> r\nout r\nend\nnode If(c) -> z {then_branch=&t else_branch=&t}\nnode Reshape(z, s) -> v\n\
                  node com.example.F(v) -> y {to=1}\nout y: f32[m, 1]";
    let whole = onnx::encode(&text::model(source).0).unwrap();
    for len in 0..whole.len() {
        if let Ok(model) = onnx::decode(whole[..len].to_vec().into()) {
            code(&model);
        }
    }
    assert_eq!(code(&onnx::decode(whole.into()).unwrap()), "ok");
}

#[test]
fn sizes_beyond_counting() {
    let far = i64::MAX;
    check(&format!("in x: f32[{far}, {far}]\nnode Exp(x) -> y\nout y"), "onnx/tensor-shape");
    check("in x: f32[1099511627776, 1099511627776]\nnode Exp(x) -> y\nout y", "ok");
    check(&format!("in x: f32[4]\ninit s: i64[2] = {far} {far}\nnode Reshape(x, s) -> y\nout y"), "ok");
    check("in x: f32[4]\ninit s: i64[2] = 1099511627776 1099511627776\nnode Expand(x, s) -> y\nout y", "onnx/shape");
    check(&format!("in x: f32[1]\ninit s: i64[3] = {far} {far} 1\nnode Expand(x, s) -> y\nout y"), "ok");
    check(&format!("in x: f32[1]\ninit s: i64[1] = {far}\nnode Tile(x, s) -> a\nnode Concat(a, a) -> y {{axis=0}}\nout y"), "ok");
    check(&format!("in x: f32[4]\ninit p: i64[2] = {far} {far}\nnode Pad(x, p) -> y\nout y"), "ok");
    check(&format!("in x: f32[1, 1, 4]\ninit w: f32[1, 1, 1] = 1\nnode Conv(x, w) -> y {{pads=[{far}, {far}]}}\nout y"), "ok");
    check(&format!("in x: f32[1, 1, 4]\ninit w: f32[1, 1, 1] = 1\nnode Conv(x, w) -> y {{strides=[{far}]}}\nout y"), "ok");
    check("in x: f32[4]\ninit s: f32[1] = 1e30\nnode Resize(x, , s) -> y\nout y", "ok");
    check(&format!("in x: f32[4]\ninit s: i64[1] = {}\ninit e: i64[1] = {far}\nnode Slice(x, s, e) -> y\nout y", i64::MIN), "ok");
    check("in x: f32[4]\ninit s: i64[1] = 1099511627776\nnode ConstantOfShape(s) -> y\nout y", "ok");
    check(&format!("init a: i64[] = {}\ninit b: i64[] = {far}\ninit d: i64[] = 1\nnode Range(a, b, d) -> y\nout y", i64::MIN), "ok");
}

#[test]
fn attributes_of_the_wrong_kind_or_out_of_range() {
    let unary = |node: &str| format!("in x: f32[2, 4, 6]\ninit w: f32[4, 4, 3] = 1\nnode {node}\nout y");
    for node in [
        "Softmax(x) -> y {axis=9223372036854775807}",
        "Softmax(x) -> y {axis=-9223372036854775808}",
        "Concat(x, x) -> y {axis=7}",
        "Transpose(x) -> y {perm=[0, 0, 1]}",
        "Transpose(x) -> y {perm=[0, 1]}",
        "Conv(x, w) -> y {kernel_shape=[0]}",
        "Conv(x, w) -> y {strides=[0]}",
        "Conv(x, w) -> y {strides=[-1]}",
        "Conv(x, w) -> y {group=0}",
        "Conv(x, w) -> y {group=-1}",
        "Conv(x, w) -> y {dilations=[0]}",
        "Conv(x, w) -> y {pads=[-100, 0]}",
        "Conv(x, w) -> y {strides=[1, 1, 1, 1, 1]}",
        "Conv(x, w) -> y {auto_pad=\"NOTHING\"}",
        "Conv(x, w) -> y {auto_pad=\"SAME_UPPER\" strides=[0]}",
        "MaxPool(x) -> y {kernel_shape=[0]}",
        "MaxPool(x) -> y {kernel_shape=[2] strides=[0]}",
        "Softmax(x) -> y {axis=1.5}",
        "Softmax(x) -> y {axis=\"one\"}",
        "Cast(x) -> y {to=9223372036854775807}",
        "Cast(x) -> y {to=-1}",
        "Split(x) -> y {axis=5}",
        "Split(x) -> y {num_outputs=0}",
        "Flatten(x) -> y {axis=-9223372036854775808}",
        "DepthToSpace(x) -> y {blocksize=0}",
        "DepthToSpace(x) -> y {blocksize=9223372036854775807}",
        "SpaceToDepth(x) -> y {blocksize=-9223372036854775808}",
        "GroupNormalization(x, w, w) -> y {num_groups=0}",
        "Gemm(x, w) -> y {transA=\"t\"}",
        "ReduceMean(x) -> y {axes=[9223372036854775807]}",
        "LayerNormalization(x, w) -> y {axis=-9223372036854775808}",
        "Shape(x) -> y {start=-9223372036854775808 end=9223372036854775807}",
        "EyeLike(x) -> y {k=9223372036854775807}",
        "Constant() -> y {value_int=\"x\"}",
        "Constant() -> y",
        "Gather(x) -> y",
        "If() -> y",
        "Loop() -> y",
    ] {
        // What matters is that there is an answer; which one is for `tests/cases/onnx`.
        for (source, opset) in [(unary(node), 21), (unary(node), 11)] {
            code(&text::model(&format!("opset {opset}\n{source}")).0);
        }
    }
}

#[test]
fn functions_that_double_at_each_level_are_refused() {
    let call = |name: &str, from: &str, to: &str| NodeProto { domain: "d".into(), ..build::node(name, "", &[from], &[to]) };
    let function = |i: usize, node: Vec<NodeProto>| FunctionProto {
        name: format!("f{i}"),
        domain: "d".into(),
        input: vec!["a".into()],
        output: vec!["c".into()],
        node,
        opset_import: vec![build::opset("", 21)],
        ..FunctionProto::default()
    };
    for leaf in [vec![build::node("Exp", "", &["a"], &["c"])], vec![]] {
        let mut model = build::model(GraphProto { node: vec![call("f0", "x", "y")], ..GraphProto::default() }, 21);
        let graph = model.graph.as_mut().unwrap();
        graph.input.push(build::value_info("x", 1, &[Extent::Known(2)]));
        for i in 0..60 {
            let next = format!("f{}", i + 1);
            model.functions.push(function(i, vec![call(&next, "a", "b"), call(&next, "b", "c")]));
        }
        model.functions.push(function(60, leaf));
        within(60, || assert_eq!(code(&model), "onnx/function"));
    }
}

#[test]
fn functions_with_large_attributes_are_not_copied_without_end() {
    let big = NodeProto { attribute: vec![attr::ints("axes", &vec![1; 1 << 20])], ..build::node("Exp", "", &["a"], &["c"]) };
    let call = |i: usize| NodeProto { domain: "d".into(), ..build::node("f", "", &["x"], &[&format!("y{i}")]) };
    let mut model = build::model(GraphProto { node: (0..10_000).map(call).collect(), ..GraphProto::default() }, 21);
    let names = |n: &str| vec![n.to_owned()];
    let function = FunctionProto {
        name: "f".into(),
        domain: "d".into(),
        input: names("a"),
        output: names("c"),
        node: vec![big],
        ..FunctionProto::default()
    };
    model.functions.push(function);
    within(60, || assert_eq!(code(&model), "onnx/function"));
}

#[test]
fn bodies_a_thousand_deep_are_refused() {
    let mut graph = GraphProto {
        node: vec![build::node("Exp", "", &["x"], &["y"])],
        output: vec![build::value_info("y", 1, &[])],
        ..GraphProto::default()
    };
    for _ in 0..40 {
        let node = NodeProto {
            attribute: vec![attr::graph("then_branch", graph.clone()), attr::graph("body", GraphProto::default())],
            ..build::node("If", "", &["c"], &["y"])
        };
        graph = GraphProto { node: vec![node], output: vec![build::value_info("y", 1, &[])], ..GraphProto::default() };
    }
    graph.input = vec![build::value_info("x", 1, &[]), build::value_info("c", 9, &[])];
    assert_eq!(code(&build::model(graph, 21)), "onnx/too-deep");
}

/// As many nodes as a large model has ten times over; what one node costs does not grow with their number.
#[test]
fn time_is_linear_in_the_nodes() {
    let chain = |n: usize| {
        let node = |i: usize| build::node("Exp", "", &[&format!("v{i}")], &[&format!("v{}", i + 1)]);
        let mut graph = GraphProto {
            node: (0..n).map(node).collect(),
            output: vec![build::value_info(&format!("v{n}"), 1, &[])],
            ..GraphProto::default()
        };
        graph.input.push(build::value_info("v0", 1, &[Extent::Known(2)]));
        build::model(graph, 21)
    };
    let time = |n: usize| {
        let model = chain(n);
        let start = Instant::now();
        assert_eq!(code(&model), "ok");
        start.elapsed()
    };
    let nodes = std::env::var("VIDC_MANY_NODES").map_or(20_000, |n| n.parse().unwrap());
    let (few, many) = (time(nodes / 10), time(nodes));
    assert!(many < few * 40 + Duration::from_secs(2), "{} nodes took {few:?}, {nodes} took {many:?}", nodes / 10);
}

/// The number of elements of 32 axes of `n + 2` each has 2^32 terms if it is multiplied out.
#[test]
fn polynomials_of_many_axes_are_not_multiplied_out() {
    let extents: Vec<String> = (0..30).map(|i| format!("n{i}")).collect();
    let ones = " 1".repeat(60);
    let source = format!(
        "in x: f32[{}]\ninit p: i64[60] ={ones}\ninit a: i64[1] = 0\nnode Pad(x, p) -> y\nnode Unsqueeze(y, a) -> z\nnode Softmax(z) -> w\nout w",
        extents.join(", ")
    );
    within(30, || check(&source, "ok"));
}

#[test]
fn dims_with_a_hundred_thousand_axes_or_names() {
    let axes = vec![Extent::Named("n".into()); 100_000];
    let node = build::node("Exp", "", &["x"], &["y"]);
    let graph = GraphProto {
        node: vec![node],
        input: vec![build::value_info("x", 1, &axes)],
        output: vec![build::value_info("y", 1, &[])],
        ..GraphProto::default()
    };
    within(30, || assert_eq!(code(&build::model(graph, 21)), "ok"));
    let input =
        |i: u32| build::value_info(&format!("x{i}"), 1, &[Extent::Named(char::from_u32(0x4e00 + i).map_or("a".into(), String::from))]);
    let graph = GraphProto { input: (0..20_000).map(input).collect(), ..GraphProto::default() };
    within(30, || assert_eq!(code(&build::model(graph, 21)), "ok"));
}

/// Two values whose fresh extents must not be taken for equal because the file calls a dim as vidc calls its own symbols.
#[test]
fn symbols_of_vidc_are_not_those_of_the_file() {
    let (model, dims) = text::model("in x: f32[unknown1]\nin y: f32[unknown2]\nnode NonZero(x) -> i\nnode NonZero(y) -> j\nout i\nout j");
    let graph = import(&model, Path::new("/nonexistent"), &dims).unwrap().graph;
    let open: Vec<String> = graph.outputs().iter().map(|(_, o)| graph.ty(*o).shape[1].to_string()).collect();
    assert_eq!(open, ["unknown3", "unknown4"]);
    assert!(graph.nodes().iter().any(|id| matches!(graph.node(*id).op, Op::Foreign(_))));
}
