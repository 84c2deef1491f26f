//! The tiny Stable Video Diffusion against tensors that diffusers and torch made (`VIDC_SHARED/data/svd_tiny`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array3, ArrayD};
use vidc::hwdb;
use vidc::media::npy::read_npz_member;
use vidc::metrics::relative_l2;
use vidc::passes::Choices;
use vidc::plan::{self, Provenance};
use vidc::runtime::execute::{Executor, RunRequest};
use vidc::runtime::session::{Runtime, SessionOptions};
use vidc::weights::Source;

fn shared() -> Option<PathBuf> {
    let found = std::env::var_os("VIDC_SHARED").map(PathBuf::from).filter(|p| p.join("data/svd_tiny/ref.npz").is_file());
    if found.is_none() {
        eprintln!("skipped: VIDC_SHARED does not name a folder with data/svd_tiny");
    }
    found
}

pub(crate) fn runtime() -> Runtime {
    let located = vidc::runtime::provision::locate(None, &mut |line| eprintln!("{line}")).unwrap();
    Runtime::load(&located.path).unwrap()
}

pub(crate) fn load(graph: &str) -> vidc::ir::Program {
    let source = vidc::spec::builtin(graph).unwrap();
    vidc::models::load(&source, &[]).unwrap_or_else(|d| panic!("{d:?}"))
}

fn member(path: &Path, name: &str) -> ArrayD<f32> {
    read_npz_member::<f32>(path, name).unwrap()
}

fn check(choices: &[(&str, &str)]) {
    let Some(shared) = shared() else { return };
    let reference = shared.join("data/svd_tiny/ref.npz");
    let runtime = runtime();
    let program = load("svd-tiny");
    let machine = hwdb::machine("cpu-avx2").unwrap();
    let mut given = Choices::default();
    for (k, v) in choices {
        given.set(k, *v);
    }
    let compiled = plan::compile(&program, &machine, &given, &Default::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("plan");
    let provenance = Provenance { weights: "random:4242".into(), effects: vec![], predicted: None };
    plan::write(&compiled, &machine, &Source::Random { seed: 4242 }, provenance, false, &dir).unwrap();
    let stop = Arc::default();
    let executor = Executor::open(&dir, &runtime, SessionOptions::default(), stop).unwrap();
    let image: Array3<u8> = read_npz_member::<u8>(&reference, "image").unwrap().into_dimensionality().unwrap();
    let stages = ["clip_pixel_values", "image_embeddings", "vae_input", "image_latents", "unet_sample", "unet_out", "latents"];
    let request = RunRequest {
        inputs: BTreeMap::from([("image".into(), image)]),
        feeds: ["noise_aug_noise", "init_noise"].map(|n| (n.to_owned(), member(&reference, n))).into(),
        dumps: stages.map(String::from).to_vec(),
        ..Default::default()
    };
    let start = std::time::Instant::now();
    let out = executor.run(&request, &mut |_| ()).unwrap();
    eprintln!("{choices:?} ran in {:?}: {:?}", start.elapsed(), out.measured);
    let frames = &out.outputs[0].1;
    let error = relative_l2(frames.view(), member(&reference, "frames").view());
    for name in &stages[..4] {
        eprintln!("  {name}: {:.2e}", relative_l2(out.dumps[*name].view(), member(&reference, name).view()));
    }
    for step in 0..3 {
        let got = out.dumps["latents"].index_axis(ndarray::Axis(0), step);
        eprintln!("  latents {step}: {:.2e}", relative_l2(got, member(&reference, &format!("latents_{step}")).view()));
    }
    eprintln!("  frames: {error:.2e}");
    assert!(error < 5e-5, "frames: {error:e}");
}

#[test]
fn the_tiny_pipeline_equals_the_reference() {
    check(&[]);
    check(&[
        ("unet.guidance", "serial"),
        ("unet.level0.attention", "tile-4"),
        ("unet.level0.feed-forward", "4"),
        ("unet.level1.temporal-conv", "conv2d"),
        ("vae_decoder.level0.frames", "4"),
        ("pipeline.residency", "stage"),
    ]);
}
