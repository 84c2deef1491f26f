//! Models that others trained (`tools/models/fetch.py DIR`, `VIDC_MODELS=DIR`): what they compute, operators and time before and after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::ArrayD;
use vidc::media::npy::read_npz_member;
use vidc::metrics::relative_l2;
use vidc::optimize::model::Level;
use vidc::runtime::session::{Optimization, Runtime, Session, SessionOptions, Weights};
use vidc::runtime::tensor::{Tensor, TensorView};

use crate::onnx_backend::through;
use crate::reference::runtime;

/// What the outputs may differ from the framework's, relative L2.
const EQUAL: f64 = 1e-5;
/// Runs a side, in turns.
const RUNS: usize = 5;

/// The facts that the script writes beside a model.
#[derive(serde::Deserialize)]
struct Facts {
    inputs: BTreeMap<String, Vec<usize>>,
    nodes: usize,
}

struct Model {
    file: PathBuf,
    facts: Facts,
    inputs: BTreeMap<String, ArrayD<f32>>,
}

impl Model {
    fn open(facts: &Path) -> Self {
        let beside = |end: &str| facts.with_extension(end);
        let read: Facts = serde_json::from_slice(&std::fs::read(facts).unwrap()).unwrap();
        let inputs = read.inputs.keys().map(|n| (n.clone(), read_npz_member(&beside("inputs.npz"), n).unwrap())).collect();
        Self { file: beside("onnx"), facts: read, inputs }
    }

    /// The outputs and the seconds of one run.
    fn run(&self, session: &mut Session) -> (Vec<(String, Tensor)>, f64) {
        let names: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        let feeds: Vec<_> = self.inputs.iter().map(|(n, a)| (n.as_str(), TensorView::of(a.shape(), a.as_slice().unwrap()))).collect();
        let start = Instant::now();
        let outputs = session.run(&feeds, &refs).unwrap_or_else(|d| panic!("{}: {d:?}", self.file.display()));
        let seconds = start.elapsed().as_secs_f64();
        (names.into_iter().zip(outputs).collect(), seconds)
    }

    fn difference(&self, outputs: &[(String, Tensor)]) -> f64 {
        let one = |(name, got): &(String, Tensor)| {
            let want: ArrayD<f32> = read_npz_member(&self.file.with_extension("outputs.npz"), name).unwrap();
            assert_eq!(got.shape(), want.shape(), "{name}");
            let got = ArrayD::from_shape_vec(want.raw_dim(), got.as_slice::<f32>().unwrap().to_vec()).unwrap();
            relative_l2(got.view(), want.view())
        };
        outputs.iter().map(one).fold(0.0, f64::max)
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// A line of the table.
fn compare(runtime: &Runtime, model: &Model) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let rewritten = through(&model.file, Level::Full, &folder.path().join("model.onnx")).map_err(|d| format!("{d:?}"))?;
    let optimised = start.elapsed().as_secs_f64();
    let original = std::fs::read(&model.file).unwrap();
    let best = SessionOptions { optimization: Optimization::All, ..SessionOptions::default() };
    let session = |bytes: &[u8], weights: &Weights, options: &SessionOptions| {
        Session::load(runtime, bytes, weights, options).map_err(|d| format!("{d:?}"))
    };
    let mut before = session(&original, &Weights::none(), &best)?;
    let mut after = session(&rewritten.bytes, &rewritten.weights, &SessionOptions::default())?;
    let (mut old, mut new, mut difference) = (vec![], vec![], 0.0_f64);
    for _ in 0..RUNS {
        old.push(model.run(&mut before).1);
        let (outputs, seconds) = model.run(&mut after);
        new.push(seconds);
        difference = difference.max(model.difference(&outputs));
    }
    let nodes = vidc::onnx::decode(rewritten.bytes.into()).unwrap().graph.unwrap().node.len();
    let line = format!(
        "{:6} -> {nodes:5} nodes, {:.3} s -> {:.3} s, optimised in {optimised:.2} s, relative L2 {difference:.1e}",
        model.facts.nodes,
        median(old),
        median(new),
    );
    if difference <= EQUAL { Ok(line) } else { Err(line) }
}

#[test]
fn models_of_others_compute_the_same() {
    let Some(folder) = std::env::var_os("VIDC_MODELS") else {
        crate::skipped::skipped("models_of_others_compute_the_same", "VIDC_MODELS names no folder; tools/models/fetch.py makes one");
        return;
    };
    let Some(runtime) = runtime() else { return };
    let mut facts: Vec<PathBuf> = Path::new(&folder).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    facts.retain(|p| p.extension().is_some_and(|e| e == "json") && p.with_extension("inputs.npz").is_file());
    facts.sort();
    let mut failures = Vec::new();
    for facts in facts {
        let name = facts.file_stem().unwrap().to_string_lossy().into_owned();
        match compare(&runtime, &Model::open(&facts)) {
            Ok(line) => eprintln!("{name:18} {line}"),
            Err(why) => failures.push(format!("{name}: {why}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
