//! Tests on small models: what runs, in what order, in how many bytes.

use super::*;
use crate::onnx::build::{self, Extent};
use crate::optimize::candidate::ModelSource;
use crate::optimize::inputs::{Dims, TensorSpec, input_specs, random_inputs};
use crate::optimize::paired::{Round, paired};
use crate::optimize::sequential::{Effort, Stop};
use crate::runtime::session::tests::test_runtime;
use crate::runtime::session::{Optimization, SessionOptions};

/// `t + sigmoid(t)` of `t = relu(x)` over `[n, 256]`, `n` open.
fn model() -> ModelProto {
    let value = |name: &str| build::value_info(name, 1, &[Extent::Named("n".into()), 256.into()]);
    let graph = GraphProto {
        name: "g".into(),
        node: vec![
            build::node("Relu", "a", &["x"], &["t"]),
            build::node("Identity", "no work", &["t"], &["same"]),
            build::node("Sigmoid", "b", &["same"], &["u"]),
            build::node("Add", "c", &["t", "u"], &["y"]),
        ],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    build::model(graph, 21)
}

fn candidate(level: Optimization) -> Candidate {
    let options = SessionOptions { optimization: level, threads: 1, ..SessionOptions::default() };
    Candidate::new("g", ModelSource::Memory(onnx::encode(&model()).unwrap()), options)
}

fn inputs(n: u64) -> Vec<(String, Tensor)> {
    let specs = input_specs(&model(), &Dims::from([("n".to_owned(), n)])).unwrap();
    random_inputs(&specs, 1).unwrap()
}

#[test]
fn the_kernels_of_one_run_are_counted_in_their_order() {
    let Some(runtime) = test_runtime() else { return };
    let ran = executed(&runtime, &candidate(Optimization::Basic), &inputs(4)).unwrap();
    assert_eq!(ran.order(), ["a", "b", "c"]);
    assert_eq!(ran.by_operator()["Relu"].count, 1);
    assert_eq!(ran.nodes[2].outputs, [[4, 256]]);
}

#[test]
fn what_the_runtime_makes_of_a_model_is_counted() {
    let Some(runtime) = test_runtime() else { return };
    assert_eq!(ModelStatistics::of(&model()).nodes, 4);
    let made = optimized(&runtime, &candidate(Optimization::All)).unwrap().unwrap();
    assert_eq!((made.nodes, made.operators.contains_key("Identity")), (3, false));
}

/// At once alive: `t` and `u`, of 1 KiB a row each; `y` is the caller's.
#[test]
fn activations_are_counted_to_the_byte() {
    let Some(runtime) = test_runtime() else { return };
    let outputs = [TensorSpec { name: "y".into(), dtype: crate::weights::DType::F32, shape: vec![64, 256], range: (0.0, 0.0) }];
    let bytes = pool_bytes(&runtime, &candidate(Optimization::Basic), &inputs(64), &outputs).unwrap();
    assert_eq!((bytes.kept, bytes.activations), (Bytes(0), Some(Bytes(2 * 64 * 1024))));
}

#[test]
fn candidates_of_one_model_give_one_result() {
    let Some(runtime) = test_runtime() else { return };
    let bound = candidate(Optimization::All).with(|o| o.dims = vec![("n".into(), 8)]);
    let mut heard = 0;
    let watch = &mut |_: Round| heard += 1;
    let result = paired(&runtime, &[candidate(Optimization::Disable), bound], &inputs(8), Effort::upto(3), watch).unwrap();
    assert_eq!(heard, 4);
    assert_eq!(result.rows.iter().map(|r| (r.times_s.len(), r.control)).collect::<Vec<_>>(), [(3, false), (3, false), (3, true)]);
    assert!(result.rows.iter().all(|r| r.rel_l2 < 1e-6));
    assert!((result.rows[0].ratio.median - 1.0).abs() < 1e-12);
    assert_eq!(result.outputs[0].shape, [8, 256]);
}

#[test]
fn one_round_is_run_though_there_is_no_time() {
    let Some(runtime) = test_runtime() else { return };
    let effort = Effort { within: Some(std::time::Duration::ZERO), ..Effort::upto(9) };
    let pair = [candidate(Optimization::Disable), candidate(Optimization::All)];
    let result = paired(&runtime, &pair, &inputs(8), effort, &mut |_| {}).unwrap();
    assert!(result.rows.iter().all(|r| (r.times_s.len(), r.stopped) == (1, Stop::Time)), "{result:?}");
}

#[test]
fn rounds_end_when_every_interval_is_settled() {
    let Some(runtime) = test_runtime() else { return };
    let pair = [candidate(Optimization::Disable), candidate(Optimization::Disable)];
    let result = paired(&runtime, &pair, &inputs(512), Effort::upto(2000), &mut |_| {}).unwrap();
    let row = &result.rows[1];
    assert_eq!((row.stopped, row.times_s.len() % 2), (Stop::Settled, 0));
    assert!((6..2000).contains(&row.times_s.len()), "{}", row.times_s.len());
}

#[test]
fn a_bound_extent_is_the_only_one_taken() {
    let Some(runtime) = test_runtime() else { return };
    let mut session = candidate(Optimization::All).with(|o| o.dims = vec![("n".into(), 8)]).open(&runtime).unwrap();
    assert_eq!(session.inputs()[0].shape, [Some(8), Some(256)]);
    assert_eq!(run(&mut session, &inputs(4)).unwrap_err().code, "runtime/binding");
}

#[test]
fn files_are_loaded_both_ways() {
    let Some(runtime) = test_runtime() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let mut proto = model();
    let graph = proto.graph.as_mut().unwrap();
    graph.node.push(build::node("Neg", "constant", &["w"], &["v"]));
    graph.node.push(build::node("Add", "d", &["y", "v"], &["z"]));
    graph.output[0].name = "z".into();
    graph.initializer.push(build::external_tensor("w", 1, &[256], "w.bin", 0, 1024));
    std::fs::write(folder.path().join("w.bin"), [0u8; 1024]).unwrap();
    std::fs::write(&path, onnx::encode(&proto).unwrap()).unwrap();
    // Every rewrite: ONNX Runtime reads weights while it folds constants, wherever they are.
    let options = SessionOptions { threads: 1, optimization: Optimization::All, ..SessionOptions::default() };
    let file = Candidate::new("file", ModelSource::File(path.clone()), options.clone());
    let mapped = Candidate::new("mapped", ModelSource::mapped(&path).unwrap(), options);
    let result = paired(&runtime, &[file, mapped], &inputs(2), Effort { warmup: 0, ..Effort::upto(1) }, &mut |_| {}).unwrap();
    assert!(result.rows[1].rel_l2.abs() < 1e-12);
    let mapped = Candidate::new(
        "mapped",
        ModelSource::mapped(&path).unwrap(),
        SessionOptions { optimization: Optimization::All, ..SessionOptions::default() },
    );
    assert!(!optimized(&runtime, &mapped).unwrap().unwrap().operators.contains_key("Neg"));
}
