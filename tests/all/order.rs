//! ONNX Runtime runs the nodes of a plan in the order that `plan::order` says, nearly all of them in the planned one; the memory planner
//! relies on it.

use std::sync::Arc;

use vidc::onnx::decode;
use vidc::passes::{Checks, Choices};
use vidc::plan::order::realised_names;
use vidc::plan::{self, Manifest, Provenance};
use vidc::runtime::profile::profile_nodes;
use vidc::runtime::session::{Session, SessionOptions, Weights};
use vidc::runtime::tensor::Tensor;
use vidc::weights::ParamSource;
use vidc::weights::WeightsFile;

/// How many neighbouring pairs of how many nodes ran in the planned order, by session of the tiny pipeline. That they ran in the order that
/// was foretold is seen to here.
fn realised(choices: &[(&str, &str)]) -> Vec<(String, usize, usize)> {
    let Some(runtime) = super::reference::runtime() else { return Vec::new() };
    let program = super::reference::planned("svd-tiny");
    let given = Choices(choices.iter().map(|(k, v)| ((*k).into(), (*v).to_owned())).collect());
    let lowered = program.compile(&given, Checks::Full).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("plan");
    let provenance = Provenance { weights: "random:4242".into(), effects: vec![], predicted: None, device: 0 };
    let manifest = plan::write(&lowered, program.machine(), &ParamSource::Random { seed: 4242 }, provenance, false, &dir).unwrap();
    let mut out = Vec::new();
    for entry in &manifest.sessions {
        let mut weights = Weights::none();
        for file in manifest.files.iter().filter(|f| entry.weights.contains(&f.location)) {
            weights = weights.with(file.location.clone(), Arc::new(WeightsFile::open(&Manifest::weights_path(&dir, file)).unwrap()));
        }
        let options = SessionOptions { profile: Some(folder.path().join("profile")), ..Default::default() };
        let model = std::fs::read(dir.join(&entry.file)).unwrap();
        let mut session = Session::load(&runtime, &model, &weights, &options).unwrap();
        let inputs: Vec<(String, Tensor)> = session
            .inputs()
            .iter()
            .map(|p| {
                let shape: Vec<usize> = p.shape.iter().map(|d| d.unwrap()).collect();
                (p.name.clone(), Tensor::zeros(p.dtype.unwrap(), &shape).unwrap())
            })
            .collect();
        let outputs: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
        let views: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
        session.run(&views, &outputs.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let profile = session.end_profile().unwrap();
        let nodes = profile_nodes(&profile).unwrap();
        let written = decode(model.into()).unwrap().graph.unwrap();
        assert_eq!(nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), realised_names(&written), "{}", entry.name);
        let ran: Vec<usize> = nodes.iter().filter_map(|n| n.name.split(':').next()?.parse().ok()).collect();
        let ordered = ran.windows(2).filter(|w| w[0] < w[1]).count();
        out.push((entry.name.clone(), ordered + 1, ran.len()));
    }
    out
}

#[test]
fn nearly_all_nodes_run_in_the_planned_order() {
    let all = realised(&[
        ("vae_decoder.level0.frames", "8.rows-4.again"),
        ("vae_decoder.level1.frames", "4"),
        ("unet.level0.attention", "tile-4"),
        ("unet.level0.feed-forward", "4"),
    ]);
    eprintln!("{all:?}");
    for (name, ordered, nodes) in all {
        // Where the planned order is no depth-first walk from the outputs, ONNX Runtime hoists what depends on little.
        let share = ordered as f64 / nodes as f64;
        assert!(share >= 0.95, "{name}: only {ordered} of {nodes} nodes ran in order");
    }
}
