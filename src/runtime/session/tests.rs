//! Tests that need the library: they fetch it once, or are skipped with a line that says so.

use std::path::Path;
use std::sync::Arc;

use super::errors::node_name;
use super::*;
use crate::runtime::profile::profile_nodes;
use crate::runtime::provision;
use crate::target::Provider;
use crate::weights::{DType, WeightsFile};

/// The runtime for tests; `None` (and a line on stderr) if it cannot be had here. With `VIDC_REQUIRE_ORT=1` that is a failure.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn test_runtime() -> Option<Runtime> {
    let found = provision::locate(None, &mut |line| eprintln!("{line}")).and_then(|l| Runtime::load(&l.path));
    match found {
        Ok(runtime) => Some(runtime),
        Err(d) if std::env::var_os("VIDC_REQUIRE_ORT").is_some_and(|v| v == "1") => panic!("{}: {d} {:?}", d.code, d.notes),
        Err(d) => {
            crate::skipped::skipped("a test of sessions", &format!("no ONNX Runtime library ({}: {d})", d.code));
            None
        }
    }
}

/// Models as protobuf, by hand: each function appends one field of onnx.proto to a message.
mod proto {
    pub(super) fn number(to: &mut Vec<u8>, tag: u8, mut value: u64) {
        to.push(tag << 3);
        while value > 127 {
            to.push(value as u8 | 128);
            value >>= 7;
        }
        to.push(value as u8);
    }

    pub(super) fn bytes(to: &mut Vec<u8>, tag: u8, value: &[u8]) {
        let mut len = vec![];
        number(&mut len, tag, value.len() as u64);
        len[0] |= 2; // wire type "length-delimited"
        to.extend(len);
        to.extend(value);
    }

    pub(super) fn message(to: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = vec![];
        fill(&mut inner);
        bytes(to, tag, &inner);
    }
}

/// A graph in the making; every value is f32.
#[derive(Default)]
struct Graph {
    bytes: Vec<u8>,
}

impl Graph {
    fn node(mut self, name: &str, op: &str, inputs: &[&str], output: &str) -> Self {
        proto::message(&mut self.bytes, 1, |n| {
            for i in inputs {
                proto::bytes(n, 1, i.as_bytes());
            }
            proto::bytes(n, 2, output.as_bytes());
            proto::bytes(n, 3, name.as_bytes());
            proto::bytes(n, 4, op.as_bytes());
        });
        self
    }

    /// An extent below 0 is left open.
    fn port(mut self, tag: u8, name: &str, shape: &[i64]) -> Self {
        proto::message(&mut self.bytes, tag, |v| {
            proto::bytes(v, 1, name.as_bytes());
            proto::message(v, 2, |ty| {
                proto::message(ty, 1, |t| {
                    proto::number(t, 1, 1);
                    proto::message(t, 2, |s| {
                        for d in shape {
                            proto::message(s, 1, |dim| if *d < 0 { proto::bytes(dim, 2, b"n") } else { proto::number(dim, 1, *d as u64) });
                        }
                    });
                });
            });
        });
        self
    }

    fn input(self, name: &str, shape: &[i64]) -> Self {
        self.port(11, name, shape)
    }

    fn output(self, name: &str, shape: &[i64]) -> Self {
        self.port(12, name, shape)
    }

    fn external(mut self, name: &str, shape: &[i64], location: &str, offset: usize) -> Self {
        proto::message(&mut self.bytes, 5, |t| {
            for d in shape {
                proto::number(t, 1, *d as u64);
            }
            proto::number(t, 2, 1);
            proto::bytes(t, 8, name.as_bytes());
            let length = shape.iter().product::<i64>() * 4;
            for (key, value) in [("location", location.to_owned()), ("offset", offset.to_string()), ("length", length.to_string())] {
                proto::message(t, 13, |p| {
                    proto::bytes(p, 1, key.as_bytes());
                    proto::bytes(p, 2, value.as_bytes());
                });
            }
            proto::number(t, 14, 1);
        });
        self
    }

    fn model(mut self) -> Vec<u8> {
        proto::bytes(&mut self.bytes, 2, b"g");
        let mut model = vec![];
        proto::number(&mut model, 1, 10);
        proto::bytes(&mut model, 7, &self.bytes);
        proto::message(&mut model, 8, |o| proto::number(o, 2, 21));
        model
    }
}

/// y = x · w with w of `n` × `n` in a file that has `skip` bytes before it.
fn product(n: i64, location: &str, skip: usize) -> Vec<u8> {
    Graph::default()
        .node("mm", "MatMul", &["x", "w"], "y")
        .input("x", &[1, n])
        .output("y", &[1, n])
        .external("w", &[n, n], location, skip)
        .model()
}

fn file_of(dir: &Path, skip: usize, values: &[f32]) -> Arc<WeightsFile> {
    let path = dir.join(format!("w{skip}.bin"));
    let bytes: Vec<u8> = vec![0xff; skip].into_iter().chain(values.iter().flat_map(|v| v.to_le_bytes())).collect();
    std::fs::write(&path, bytes).unwrap();
    Arc::new(WeightsFile::open(&path).unwrap())
}

#[test]
fn weights_are_read_from_a_mapped_file_at_any_offset() {
    let Some(runtime) = test_runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    for skip in [0, 4, 64, 13, 4096, 4099] {
        for prepacking in [true, false] {
            let weights = Weights::none().with("unet/w.bin", file_of(dir.path(), skip, &[1.0, 2.0, 3.0, 4.0]));
            let options = SessionOptions { prepacking, ..SessionOptions::default() };
            let mut session = Session::load(&runtime, &product(2, "unet/w.bin", skip), &weights, &options).unwrap();
            drop(weights); // the session holds the map
            let y = session.run(&[("x", TensorView::of(&[1, 2], &[10f32, 1.0]))], &["y"]).unwrap();
            assert_eq!((y[0].as_slice::<f32>().unwrap(), y[0].shape()), (&[13.0, 24.0][..], &[1, 2][..]), "{skip} {prepacking}");
        }
    }
}

#[test]
fn the_way_of_other_providers_reads_the_same_weights() {
    let Some(runtime) = test_runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = product(2, "w.bin", 13);
    let weights = Weights::none().with("w.bin", file_of(dir.path(), 13, &[1.0, 2.0, 3.0, 4.0]));
    let mut builder = SessionOptions::default().builder(&runtime, false).unwrap();
    let held = Held::give(&mut builder, &weights, &external::entries(&model).unwrap(), &[provider("cuda")]).unwrap();
    let mut session = builder.commit_from_memory(&model).unwrap();
    let x = ort::value::Tensor::from_array(([1usize, 2], vec![10f32, 1.0])).unwrap();
    let y = session.run(ort::inputs![x]).unwrap();
    assert_eq!(y[0].try_extract_tensor::<f32>().unwrap().1, [13.0, 24.0]);
    assert!(held.placeholders.is_none(), "only views need files that exist");
}

#[test]
fn sessions_can_share_packed_weights() {
    let Some(runtime) = test_runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let weights = Weights::none().with("w.bin", file_of(dir.path(), 0, &[1.0, 2.0, 3.0, 4.0])).sharing_packed(&runtime);
    let mut sessions = [(); 2].map(|()| Session::load(&runtime, &product(2, "w.bin", 0), &weights, &SessionOptions::default()).unwrap());
    drop(weights);
    for session in &mut sessions {
        let y = session.run(&[("x", TensorView::of(&[1, 2], &[10f32, 1.0]))], &["y"]).unwrap();
        assert_eq!(y[0].as_slice::<f32>().unwrap(), [13.0, 24.0]);
    }
}

#[test]
fn weights_that_are_not_there_are_named() {
    let Some(runtime) = test_runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let check = |weights: Weights, message: &str| {
        let d = Session::load(&runtime, &product(2, "w.bin", 8), &weights, &SessionOptions::default()).unwrap_err();
        assert_eq!(d.code, "runtime/weights");
        assert!(d.message.contains(message), "{}", d.message);
    };
    check(Weights::none(), "weight `w` lies in `w.bin`, which was not given");
    check(Weights::none().with("w.bin", file_of(dir.path(), 0, &[1.0; 4])), "ends at byte 24");
}

/// Two chains of two nodes from one input; the list is given in `order`.
fn two_chains(order: &[usize]) -> Vec<u8> {
    let nodes = [("a1", ["x"].as_slice(), "p"), ("a2", &["p"], "q"), ("b1", &["x"], "r"), ("b2", &["r"], "s")];
    let mut graph = Graph::default().input("x", &[4]).output("y", &[4]);
    for i in order {
        graph = match nodes.get(*i) {
            Some((name, inputs, output)) => graph.node(name, "Neg", inputs, output),
            None => graph.node("sum", "Add", &["q", "s"], "y"),
        };
    }
    graph.model()
}

#[test]
fn a_reversed_node_list_runs_in_the_planned_order() {
    let Some(runtime) = test_runtime() else { return };
    let check = |order: &[usize], expect: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let options = SessionOptions { profile: Some(dir.path().join("profile")), ..SessionOptions::default() };
        let mut session = Session::load(&runtime, &two_chains(order), &Weights::none(), &options).unwrap();
        let y = session.run(&[("x", TensorView::of(&[4], &[1f32, 2.0, 3.0, 4.0]))], &["y"]).unwrap();
        assert_eq!(y[0].as_slice::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0]);
        let nodes = profile_nodes(&session.end_profile().unwrap()).unwrap();
        assert_eq!(nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), expect);
        assert!(nodes.iter().all(|n| n.provider == "CPUExecutionProvider" && (n.op == "Neg" || n.op == "Add")), "{nodes:?}");
    };
    check(&[4, 3, 2, 1, 0], &["a1", "a2", "b1", "b2", "sum"]);
    check(&[4, 1, 0, 3, 2], &["b1", "b2", "a1", "a2", "sum"]);
}

#[test]
fn tensors_that_do_not_fit_are_refused_before_the_run() {
    let Some(runtime) = test_runtime() else { return };
    let mut session = Session::load(&runtime, &two_chains(&[4, 3, 2, 1, 0]), &Weights::none(), &SessionOptions::default()).unwrap();
    let mut check = |inputs: &[(&str, TensorView<'_>)], output: &str, message: &str| {
        let d = session.run(inputs, &[output]).unwrap_err();
        assert_eq!(d.code, "runtime/binding");
        assert!(d.message.contains(message), "{}", d.message);
    };
    let x = [0f32; 4];
    check(&[], "y", "input `x` was not given");
    check(&[("x", TensorView::of(&[4], &x)), ("z", TensorView::of(&[4], &x))], "y", "the model has no `z`");
    check(&[("x", TensorView::of(&[2, 2], &x))], "y", "`x` is Some(F32) [Some(4)]");
    check(&[("x", TensorView::of(&[4], &[0i64; 4]))], "y", "was given I64");
    check(&[("x", TensorView::of(&[4], &x[..3]))], "y", "in 12 bytes");
    check(&[("x", TensorView::of(&[4], &x))], "yy", "did you mean `y`?");
}

#[test]
fn an_open_extent_is_known_after_the_run() {
    let Some(runtime) = test_runtime() else { return };
    let model = Graph::default().node("n", "Neg", &["x"], "y").input("x", &[-1, 2]).output("y", &[-1, 2]).model();
    let mut session = Session::load(&runtime, &model, &Weights::none(), &SessionOptions::default()).unwrap();
    assert_eq!(session.outputs()[0].shape, [None, Some(2)]);
    for n in [1, 3, 0] {
        let x = vec![1f32; n * 2];
        let y = session.run(&[("x", TensorView::of(&[n, 2], &x))], &["y"]).unwrap();
        assert_eq!((y[0].shape(), y[0].as_slice::<f32>().unwrap()), (&[n, 2][..], &vec![-1.0; n * 2][..]));
    }
    let mut into = Tensor::zeros(DType::F32, &[1, 2]).unwrap();
    session.run_into(&[("x", TensorView::of(&[1, 2], &[5f32, 6.0]))], vec![("y", into.view_mut())], None).unwrap();
    assert_eq!(into.as_slice::<f32>().unwrap(), [-5.0, -6.0]);
}

/// `len` products one after the other.
fn chain(len: usize, n: i64) -> Vec<u8> {
    let mut graph = Graph::default().input("v0", &[n, n]).output(&format!("v{len}"), &[n, n]);
    for i in (0..len).rev() {
        graph = graph.node(&format!("mm{i}"), "MatMul", &[&format!("v{i}"), "v0"], &format!("v{}", i + 1));
    }
    graph.model()
}

#[test]
fn a_run_is_stopped_between_nodes_and_can_go_on_later() {
    let Some(runtime) = test_runtime() else { return };
    let mut session = Session::load(&runtime, &chain(400, 256), &Weights::none(), &SessionOptions::default()).unwrap();
    let x = vec![0f32; 256 * 256];
    let inputs = [("v0", TensorView::of(&[256, 256], &x))];
    let control = RunControl::new(&runtime, None).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            control.cancel();
        });
        assert_eq!(session.run_controlled(&inputs, &["v400"], Some(&control)).unwrap_err().code, "run/interrupted");
    });
    assert_eq!(session.run_controlled(&inputs, &["v400"], Some(&control)).unwrap_err().code, "run/interrupted");
    control.reset();
    session.run_controlled(&inputs, &["v400"], Some(&control)).unwrap();
}

/// A provider without options.
fn provider(key: &str) -> Provider {
    Provider { provider: key.into(), options: std::collections::BTreeMap::new() }
}

#[test]
fn a_provider_that_is_not_there_is_an_error() {
    let Some(runtime) = test_runtime() else { return };
    for keys in [&["cuda"][..], &["tensorrt", "cuda"]] {
        // A machine with the GPU build would rightly make the session.
        let options = SessionOptions { providers: keys.iter().map(|k| provider(k)).collect(), ..SessionOptions::default() };
        if let Err(d) = Session::load(&runtime, &chain(1, 4), &Weights::none(), &options) {
            assert_eq!(d.code, "runtime/provider-missing", "{d} {:?}", d.notes);
        } else {
            assert!(runtime.path().parent().unwrap().join("libonnxruntime_providers_cuda.so").exists());
        }
    }
}

#[test]
fn a_provider_that_vidc_cannot_start_says_what_is_missing() {
    let Some(runtime) = test_runtime() else { return };
    let options = SessionOptions { providers: vec![provider("standard")], ..SessionOptions::default() };
    let d = Session::load(&runtime, &chain(1, 4), &Weights::none(), &options).map(drop).unwrap_err();
    assert_eq!(d.code, "target/cannot-run");
}

#[test]
fn a_model_that_is_refused_names_its_node() {
    let Some(runtime) = test_runtime() else { return };
    let model = Graph::default().node("odd one", "NoSuchOperator", &["x"], "y").input("x", &[1]).output("y", &[1]).model();
    let d = Session::load(&runtime, &model, &Weights::none(), &SessionOptions::default()).unwrap_err();
    assert_eq!((d.code, d.notes.len()), ("runtime/session", 1));
    assert!(d.notes[0].contains("NoSuchOperator"), "{:?}", d.notes);
}

#[test]
fn messages_name_nodes() {
    let check = |said: &str, expect: Option<&str>| assert_eq!(node_name(said), expect);
    check("Non-zero status code returned while running Conv node. Name:'down.0/conv' Status Message: x", Some("down.0/conv"));
    check("Could not find an implementation for Swish(24) node with name 'act 1'", Some("act 1"));
    check("Node (mm3) Op (MatMul) [ShapeInferenceError] Incompatible dimensions", Some("mm3"));
    check("something else", None);
}

#[test]
fn a_run_beyond_its_memory_fails_cleanly_and_counts_exactly() {
    const TENSOR: u64 = 256 * 256 * 4;
    let Some(runtime) = test_runtime() else { return };
    let x = vec![0f32; 256 * 256];
    let inputs = [("v0", TensorView::of(&[256, 256], &x))];
    let mut session = Session::load(&runtime, &chain(4, 256), &Weights::none(), &SessionOptions::default()).unwrap();
    // Inside the chain two tensors are alive at once; the last one is the caller's.
    session.run(&inputs, &["v4"]).unwrap();
    assert_eq!((session.last_run().most, session.last_run().overrun), (Bytes(2 * TENSOR), false));
    let control = RunControl::new(&runtime, None).unwrap();
    control.limit_memory(Some(Bytes(TENSOR + TENSOR / 2)));
    let d = session.run_controlled(&inputs, &["v4"], Some(&control)).unwrap_err();
    assert_eq!(d.code, "runtime/out-of-memory", "{d} {:?}", d.notes);
    assert!(session.last_run().overrun);
    // The session is none the worse for it.
    control.limit_memory(None);
    session.run_controlled(&inputs, &["v4"], Some(&control)).unwrap();
    session.run(&inputs, &["v4"]).unwrap();
}

/// Two tensors of one shape, and a larger one between the last reader of the first and the second: the buffer is not kept for it.
#[test]
fn a_buffer_is_given_back_when_its_last_reader_is_done() {
    const TENSOR: u64 = 256 * 256 * 4;
    let Some(runtime) = test_runtime() else { return };
    let graph = Graph::default()
        .input("x", &[256, 256])
        .input("column", &[1024, 1])
        .input("row", &[1, 1024])
        .output("y", &[256, 256])
        .node("last", "MatMul", &["second", "x"], "y")
        .node("again", "Add", &["x", "mean"], "second")
        .node("reduce", "ReduceMean", &["larger"], "mean")
        .node("spread", "Add", &["scaled", "row"], "larger")
        .node("scale", "Mul", &["column", "one"], "scaled")
        .node("reduce_first", "ReduceMean", &["first"], "one")
        .node("product", "MatMul", &["x", "x"], "first");
    let model = graph.model();
    let x = vec![0f32; 256 * 256];
    let inputs = [
        ("x", TensorView::of(&[256, 256], &x)),
        ("column", TensorView::of(&[1024, 1], &x[..1024])),
        ("row", TensorView::of(&[1, 1024], &x[..1024])),
    ];
    let most = |buffer_reuse| {
        let options = SessionOptions { buffer_reuse, ..SessionOptions::default() };
        let mut session = Session::load(&runtime, &model, &Weights::none(), &options).unwrap();
        session.run(&inputs, &["y"]).unwrap();
        session.last_run().most.0
    };
    // The few bytes more are a mean.
    let kept = most(true) - most(false);
    assert!((TENSOR..TENSOR + 64).contains(&kept), "{kept}");
}

#[test]
fn one_library_a_process() {
    let Some(runtime) = test_runtime() else { return };
    assert_eq!(Runtime::load(runtime.path()).unwrap().path(), runtime.path());
    assert_eq!(Runtime::load(Path::new("/nowhere/libonnxruntime.so")).unwrap_err().code, "runtime/load-failed");
    assert!(runtime.build_info().contains("ORT Build Info"));
}

/// The libraries of a provider that are in the cache, if they are.
fn installed(key: &str) -> bool {
    let there = provision::Provision::here(None).unwrap().provider_files(crate::target::row(key).unwrap()).is_ok();
    if !there {
        let want = format!("the libraries of `{key}` are not here (`vidc runtime install --provider {key} --yes`)");
        crate::skipped::skipped("a test of a plug-in", &want);
    }
    there
}

fn with_provider(key: &str) -> SessionOptions {
    let provider = Provider { provider: key.into(), options: std::collections::BTreeMap::default() };
    SessionOptions { providers: vec![provider], forbid_cpu_nodes: true, threads: 1, ..SessionOptions::default() }
}

/// The plug-in is registered once and serves sessions one after the other; sessions on the CPU are not drawn to it.
#[test]
fn a_plug_in_runs_beside_the_cpu_provider() {
    let Some(runtime) = test_runtime() else { return };
    if !installed("openvino") {
        return;
    }
    let model = Graph::default().input("x", &[4, 4]).node("r", "Relu", &["x"], "y").output("y", &[4, 4]).model();
    let x: Vec<f32> = (0..16).map(|i| i as f32 - 8.0).collect();
    let x = Tensor::from_slice(&[4, 4], &x).unwrap();
    for options in [with_provider("openvino"), SessionOptions::default(), with_provider("openvino")] {
        let plugged = !options.providers.is_empty();
        let mut session = Session::load(&runtime, &model, &Weights::none(), &options).unwrap();
        assert_eq!(session.in_host_memory(), !plugged, "memory that the pool counts");
        let y = session.run(&[("x", x.view())], &["y"]).unwrap();
        assert_eq!(y[0].as_slice::<f32>().unwrap()[..10], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }
}

/// Without NVIDIA's driver the libraries of TensorRT-RTX are there and cannot be loaded: the library that is missing is named, and where it is
/// from.
#[test]
fn a_plug_in_without_its_driver_names_what_is_missing() {
    let Some(runtime) = test_runtime() else { return };
    let driver = std::path::Path::new("/dev/nvidiactl").exists();
    if driver || !installed("tensorrt-rtx") {
        return;
    }
    let model = Graph::default().input("x", &[4, 4]).node("r", "Relu", &["x"], "y").output("y", &[4, 4]).model();
    let d = Session::load(&runtime, &model, &Weights::none(), &with_provider("tensorrt-rtx")).unwrap_err();
    assert_eq!(d.code, "runtime/provider-missing");
    assert!(d.help.unwrap().starts_with("`libcuda.so` comes with the driver of the GPU"), "{:?}", d.notes);
}
