//! Cases of hostile and damaged external data; `w.bin` has 24 bytes, the tensor [2, 3] of f32 needs 24.

use std::fs;

use super::super::build::{attr, entry, external_tensor, model, node, tensor};
use super::super::proto::{FunctionProto, NodeProto, TrainingInfoProto};
use super::*;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("m")).unwrap();
    fs::write(dir.path().join("m/w.bin"), [0; 24]).unwrap();
    fs::write(dir.path().join("secret"), [0; 24]).unwrap();
    dir
}

fn good() -> TensorProto {
    external_tensor("w", 1, &[2, 3], "w.bin", 0, 24)
}

fn with_entries(entries: &[(&str, &str)]) -> TensorProto {
    TensorProto { external_data: entries.iter().map(|(k, v)| entry(k, v)).collect(), ..good() }
}

fn of(t: TensorProto) -> ModelProto {
    model(GraphProto { initializer: vec![t], ..GraphProto::default() }, 21)
}

fn check_model(model: &ModelProto) -> std::result::Result<Vec<ExternalTensor>, Box<Diagnostic>> {
    let dir = folder();
    check_external_data(model, &dir.path().join("m"))
}

fn check(t: TensorProto, code: &str) {
    let text = format!("{t:?}");
    assert_eq!(check_model(&of(t)).map_or_else(|d| d.code, |_| ""), code, "{text}");
}

#[test]
fn good_tensors_are_located() {
    let found = check_model(&of(good())).unwrap();
    assert_eq!((found[0].offset, found[0].len, found[0].shape.as_slice(), found[0].top_level), (0, 24, &[2, 3][..], true));
    check(with_entries(&[("location", "w.bin")]), "");
    check(external_tensor("w", 1, &[1], "w.bin", 20, 4), "");
    check(external_tensor("w", 1, &[0], "w.bin", 24, 0), "");
    check(tensor("w", 1, &[1], vec![0; 4]), "");
}

#[test]
fn ranges_are_checked_without_overflow() {
    check(external_tensor("w", 1, &[2, 3], "w.bin", 1, 24), "onnx/external-out-of-range");
    check(external_tensor("w", 1, &[2, 3], "w.bin", u64::MAX, 24), "onnx/external-out-of-range");
    check(external_tensor("w", 1, &[2, 3], "w.bin", u64::MAX - 23, 24), "onnx/external-out-of-range");
    check(external_tensor("w", 1, &[1 << 40], "w.bin", 0, 1 << 42), "onnx/external-out-of-range");
    check(external_tensor("w", 1, &[2, 3], "w.bin", 0, 20), "onnx/tensor-size-mismatch");
    check(external_tensor("w", 1, &[2, 2], "w.bin", 0, 24), "onnx/tensor-size-mismatch");
    check(external_tensor("w", 1, &[1 << 62, 4], "w.bin", 0, 24), "onnx/tensor-shape");
    check(external_tensor("w", 1, &[-6], "w.bin", 0, 24), "onnx/tensor-shape");
}

#[test]
fn entries_are_checked() {
    for entries in [
        &[("offset", "0")][..],
        &[("location", "w.bin"), ("location", "w.bin")],
        &[("location", "w.bin"), ("offset", "-1")],
        &[("location", "w.bin"), ("offset", "+1")],
        &[("location", "w.bin"), ("length", "NaN")],
        &[("location", "w.bin"), ("length", "")],
        &[("location", "w.bin"), ("length", "99999999999999999999")],
    ] {
        check(with_entries(entries), "onnx/external-malformed");
    }
    check(TensorProto { data_location: None, raw_data: Some(vec![0; 24].into()), ..good() }, "onnx/external-malformed");
    check(TensorProto { raw_data: Some(vec![0; 24].into()), ..good() }, "onnx/external-malformed");
    check(TensorProto { data_type: 8, ..good() }, "onnx/external-malformed");
}

#[test]
fn names_stay_in_the_folder() {
    for name in ["../secret", "/etc/passwd", "sub/w.bin", "..", "", "..\\secret", "C:w.bin", "*/_ORT_MEM_ADDR_/*"] {
        check(external_tensor("w", 1, &[2, 3], name, 0, 24), "onnx/external-path-escape");
    }
    check(external_tensor("w", 1, &[2, 3], "other.bin", 0, 24), "onnx/external-missing");
}

#[cfg(unix)]
#[test]
fn links_out_and_devices_are_refused() {
    let dir = folder();
    let home = dir.path().join("m");
    std::os::unix::fs::symlink("../secret", home.join("out")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", home.join("zero")).unwrap();
    std::os::unix::fs::symlink("w.bin", home.join("in")).unwrap();
    let code = |name: &str| {
        let model = of(external_tensor("w", 1, &[2, 3], name, 0, 24));
        check_external_data(&model, &home).map_or_else(|d| d.code, |_| "")
    };
    assert_eq!(code("out"), "onnx/external-path-escape");
    assert_eq!(code("zero"), "onnx/external-path-escape");
    assert_eq!(code("in"), "");
}

fn bad() -> TensorProto {
    external_tensor("evil", 1, &[2, 3], "../secret", 0, 24)
}

fn constant(attribute: AttributeProto) -> NodeProto {
    NodeProto { attribute: vec![attribute], ..node("Constant", "c", &[], &["v"]) }
}

/// Every place in a model that can hold a tensor.
fn hiding_places() -> Vec<ModelProto> {
    let sparse = SparseTensorProto { values: Some(tensor("v", 1, &[1], vec![0; 4])), indices: Some(bad()), dims: vec![9] };
    let graph = |node| GraphProto { node: vec![node], ..GraphProto::default() };
    let inner = GraphProto { initializer: vec![bad()], ..GraphProto::default() };
    let in_list = AttributeProto { tensors: vec![bad()], ..AttributeProto::default() };
    let in_sparse = AttributeProto { sparse_tensors: vec![sparse.clone()], ..AttributeProto::default() };
    let in_graphs = AttributeProto { graphs: vec![inner.clone()], ..AttributeProto::default() };
    let empty = || model(GraphProto::default(), 21);
    let function = FunctionProto { node: vec![constant(attr::tensor("value", bad()))], ..FunctionProto::default() };
    let default = FunctionProto { attribute_proto: vec![attr::tensor("value", bad())], ..FunctionProto::default() };
    let training = TrainingInfoProto { algorithm: Some(inner.clone()), ..TrainingInfoProto::default() };
    vec![
        of(bad()),
        model(GraphProto { sparse_initializer: vec![sparse], ..GraphProto::default() }, 21),
        model(graph(constant(attr::tensor("value", bad()))), 21),
        model(graph(constant(in_list)), 21),
        model(graph(constant(in_sparse)), 21),
        model(graph(constant(attr::graph("body", inner))), 21),
        model(graph(constant(in_graphs)), 21),
        ModelProto { functions: vec![function], ..empty() },
        ModelProto { functions: vec![default], ..empty() },
        ModelProto { training_info: vec![training], ..empty() },
    ]
}

#[test]
fn tensors_are_found_wherever_they_hide() {
    for (i, model) in hiding_places().iter().enumerate() {
        assert_eq!(check_model(model).unwrap_err().code, "onnx/external-path-escape", "place {i}");
    }
    let error = check_model(&hiding_places()[5]).unwrap_err();
    assert_eq!(error.notes, ["in attribute `body` of node `c` (Constant)"]);
}

#[test]
fn nesting_is_bounded_for_models_made_in_memory() {
    let mut graph = GraphProto::default();
    for _ in 0..30 {
        graph = GraphProto { node: vec![constant(attr::graph("body", graph))], ..GraphProto::default() };
    }
    assert_eq!(check_model(&model(graph, 21)).unwrap_err().code, "onnx/too-deep");
}
