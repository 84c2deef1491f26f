//! The tiny Stable Video Diffusion against the tensors that diffusers and torch made (`tests/data/svd_tiny_ref`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ndarray::{Array3, ArrayD, Axis};
use vidc::hwdb::{self, Machine};
use vidc::media::npy::{read_npy, read_npz_member};
use vidc::metrics::relative_l2;
use vidc::passes::manager::Debugging;
use vidc::passes::{Checks, Choices, Planned};
use vidc::plan::{self, Provenance};
use vidc::runtime::request::{Event, RunOutcome, RunRequest};
use vidc::runtime::run::Run;
use vidc::runtime::session::Runtime;
use vidc::runtime::{PrepareOptions, Prepared};
use vidc::weights::ParamSource;

use crate::repo::knobs_of;
use crate::source::root;

/// What a stage may differ from another framework's reference when it is given the reference's input.
const STAGE: f64 = 2e-5;
/// What a value behind several stages may differ.
const PIPELINE: f64 = 5e-5;

/// The runtime, or `None` with a line on stderr where it cannot be had; with `VIDC_REQUIRE_ORT=1` that is a failure.
pub(crate) fn runtime() -> Option<Runtime> {
    match vidc::runtime::provision::locate(None, &mut |line| eprintln!("{line}")) {
        Ok(located) => Some(Runtime::load(&located.path).unwrap_or_else(|d| panic!("{d:?}"))),
        Err(d) if std::env::var_os("VIDC_REQUIRE_ORT").is_some_and(|v| v == "1") => panic!("{d:?}"),
        Err(d) => {
            crate::skipped::skipped("a test that runs models", &format!("no ONNX Runtime: {d}"));
            None
        }
    }
}

fn reference(name: &str) -> ArrayD<f32> {
    read_npy(&root().join(format!("tests/data/svd_tiny_ref/{name}.npy"))).unwrap()
}

/// `VIDC_SHARED/data/svd_tiny/ref.npz`, if there is one: it has the inputs of the first stages as well.
fn whole_reference() -> Option<PathBuf> {
    Some(crate::skipped::shared("the encoders against the whole reference")?.join("data/svd_tiny/ref.npz"))
}

/// The arrays one above the other, with a leading axis of steps.
fn steps(names: [&str; 3]) -> ArrayD<f32> {
    let arrays = names.map(reference);
    let views: Vec<_> = arrays.iter().map(|a| a.view()).collect();
    ndarray::stack(Axis(0), &views).unwrap()
}

/// A graph that travels with vidc.
pub(crate) fn load(graph: &str) -> vidc::ir::Program {
    let source = vidc::spec::builtin(graph).unwrap();
    vidc::models::load(&source, &[]).unwrap_or_else(|d| panic!("{graph}: {d:?}"))
}

/// A graph that travels with vidc, as it is planned.
pub(crate) fn planned(graph: &str) -> Planned {
    let machine = hwdb::machine("cpu-avx2").unwrap();
    Planned::of(&load(graph), &machine, &Debugging::default()).unwrap_or_else(|d| panic!("{graph}: {d:?}"))
}

/// `svd-tiny` compiled for the CPU into a folder.
pub(crate) fn write_plan(choices: &Choices, folder: &Path) {
    write_plan_of(&planned("svd-tiny"), choices, folder);
}

fn write_plan_of(program: &Planned, choices: &Choices, folder: &Path) {
    let lowered = program.compile(choices, Checks::Full).unwrap();
    let provenance = Provenance { weights: "random:4242".into(), effects: vec![], predicted: None, device: 0 };
    plan::write(&lowered, program.machine(), &ParamSource::Random { seed: 4242 }, provenance, false, folder).unwrap();
}

/// A plan from somebody else reads nothing outside its folder but weights that it names in full.
#[test]
fn file_names_in_a_manifest_are_no_paths() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("plan");
    write_plan(&Choices::default(), &folder);
    let path = folder.join("manifest.json");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (list, field) in [("sessions", "file"), ("files", "path")] {
        for name in ["../x", "sub/x", ".."] {
            let mut hostile = written.clone();
            hostile[list][0][field] = name.into();
            std::fs::write(&path, hostile.to_string()).unwrap();
            let d = plan::Manifest::read(&folder).unwrap_err();
            assert!(d.code == "plan/broken" && d.message.contains("leaves the folder"), "{list} {name}: {d:?}");
        }
    }
}

/// A plan opened with ONNX Runtime's defaults, sessions kept as planned.
pub(crate) fn prepared(folder: &Path, runtime: &Runtime) -> Prepared {
    let manifest = plan::Manifest::read(folder).unwrap();
    Prepared::open(runtime, folder, manifest, PrepareOptions::default()).unwrap_or_else(|d| panic!("{d:?}"))
}

/// One run that nobody stops.
pub(crate) fn run_once(prepared: &Prepared, request: &RunRequest, events: &mut dyn FnMut(Event)) -> RunOutcome {
    let stop = AtomicBool::new(false);
    Run::new(prepared, request, &stop, events).and_then(Run::finish).unwrap_or_else(|d| panic!("{d:?}"))
}

fn run(plan: &Path, runtime: &Runtime, feeds: Vec<(&str, ArrayD<f32>)>, dumps: &[&str]) -> RunOutcome {
    let image: ArrayD<u8> = read_npy(&root().join("tests/data/svd_tiny_ref/image.npy")).unwrap();
    let image: Array3<u8> = image.into_dimensionality().unwrap();
    let request = RunRequest {
        inputs: BTreeMap::from([("image".into(), image)]),
        feeds: feeds.into_iter().map(|(n, a)| (n.to_owned(), a)).collect(),
        dumps: dumps.iter().map(|d| (*d).to_owned()).collect(),
        ..RunRequest::default()
    };
    run_once(&prepared(plan, runtime), &request, &mut |_| ())
}

fn near(what: &str, got: ndarray::ArrayViewD<'_, f32>, want: &ArrayD<f32>, bound: f64) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    let error = relative_l2(got, want.view());
    eprintln!("  {what}: {error:.1e}");
    assert!(error <= bound, "{what} is {error:.2e} away from the reference, at most {bound:.0e}");
}

/// From the picture to the frames: only picture and noise are given.
fn whole(plan: &Path, runtime: &Runtime) {
    let noise = ["noise_aug_noise", "init_noise"].map(|n| (n, reference(n))).to_vec();
    let out = run(plan, runtime, noise, &["image_embeddings", "image_latents", "latents"]);
    near("image_embeddings", out.dumps["image_embeddings"].view(), &reference("image_embeddings"), STAGE);
    near("image_latents", out.dumps["image_latents"].view(), &reference("image_latents"), STAGE);
    for step in 0..3 {
        let latents = out.dumps["latents"].index_axis(Axis(0), step);
        near(&format!("latents after step {step}"), latents, &reference(&format!("latents_{step}")), PIPELINE);
    }
    near("frames", out.outputs[0].1.view(), &reference("frames"), PIPELINE);
}

/// Each stage alone: it is given what the reference gave it.
fn stages(plan: &Path, runtime: &Runtime) {
    let feeds = vec![
        ("image_embeddings", reference("image_embeddings")),
        ("image_latents", reference("image_latents")),
        // The reference keeps the input of the U-net in the first and the last step; the one between is not compared.
        ("unet_sample", steps(["unet_sample_0", "unet_sample_0", "unet_sample_2"])),
        ("latents", steps(["latents_0", "latents_1", "latents_2"])),
    ];
    let out = run(plan, runtime, feeds, &["unet_out"]);
    for step in [0, 2] {
        let answer = out.dumps["unet_out"].index_axis(Axis(0), step);
        near(&format!("unet_out of step {step} alone"), answer, &reference(&format!("unet_out_{step}")), STAGE);
    }
    near("frames alone", out.outputs[0].1.view(), &reference("frames"), STAGE);
}

/// The encoders alone, with the inputs that only the whole reference has; and how near our preprocessing comes to them.
fn encoders(plan: &Path, runtime: &Runtime, file: &Path) {
    let member = |name: &str| read_npz_member::<f32>(file, name).unwrap();
    let noise = vec![("noise_aug_noise", reference("noise_aug_noise"))];
    let out = run(plan, runtime, noise, &["clip_pixel_values", "vae_input", "added_time_ids", "guidance"]);
    near("clip_pixel_values", out.dumps["clip_pixel_values"].view(), &member("clip_pixel_values"), 1e-5);
    near("vae_input", out.dumps["vae_input"].view(), &member("vae_input"), 1e-6);
    near("added_time_ids", out.dumps["added_time_ids"].view(), &member("added_time_ids"), 1e-6);
    let given = ["clip_pixel_values", "vae_input"].map(|n| (n, member(n))).to_vec();
    let out = run(plan, runtime, given, &["image_embeddings", "image_latents"]);
    near("image_embeddings alone", out.dumps["image_embeddings"].view(), &member("image_embeddings"), STAGE);
    near("image_latents alone", out.dumps["image_latents"].view(), &member("image_latents"), STAGE);
}

fn check(choices: &Choices) {
    let Some(runtime) = runtime() else { return };
    eprintln!("{:?}", choices.0);
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan");
    write_plan(choices, &plan);
    whole(&plan, &runtime);
    stages(&plan, &runtime);
    if let Some(file) = whole_reference() {
        encoders(&plan, &runtime, &file);
    }
}

/// The last answer to every knob on offer for the CPU whose id the filter likes.
fn last_answers(filter: impl Fn(&str) -> bool) -> Choices {
    let mut choices = Choices::default();
    for knob in knobs_of("svd-tiny", "cpu-avx2").into_iter().filter(|k| filter(&k.id)) {
        let mut searched = knob.answers.iter().filter(|a| !a.on_request);
        choices.set(knob.id.clone(), &searched.next_back().unwrap().name);
    }
    assert!(!choices.0.is_empty(), "no knob passes the filter");
    choices
}

fn is_attention(id: &str) -> bool {
    id.ends_with(".attention")
}

fn is_guidance(id: &str) -> bool {
    id.ends_with(".guidance")
}

/// The forms of TensorRT are operators of the standard and fused attention, which the CPU provider has too: a plan for TensorRT whose
/// manifest names the CPU provider instead.
#[test]
fn the_forms_of_tensorrt_equal_the_reference() {
    let Some(runtime) = runtime() else { return };
    let machine = Machine::with_provider(&hwdb::load("rtx4090").unwrap(), Some("tensorrt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan");
    write_plan_of(&Planned::of(&load("svd-tiny"), &machine, &Debugging::default()).unwrap(), &Choices::default(), &plan);
    let path = plan.join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for session in manifest["sessions"].as_array_mut().unwrap() {
        assert_eq!(session["providers"][0]["provider"], "tensorrt");
        session["providers"] = serde_json::json!([{ "provider": "cpu" }]);
    }
    std::fs::write(&path, manifest.to_string()).unwrap();
    whole(&plan, &runtime);
    stages(&plan, &runtime);
}

#[test]
fn batched_guidance_and_fused_attention_equal_the_reference() {
    check(&Choices::default());
}

#[test]
fn serial_guidance_equals_the_reference() {
    check(&last_answers(is_guidance));
}

#[test]
fn tiled_attention_equals_the_reference() {
    check(&last_answers(is_attention));
}

#[test]
fn serial_guidance_and_tiled_attention_equal_the_reference() {
    check(&last_answers(|id| is_guidance(id) || is_attention(id)));
}

/// Rows of pixels in tiles, what the second norm reads kept between its sweeps.
#[test]
fn tiled_rows_equal_the_reference() {
    let mut choices = Choices::default();
    for knob in knobs_of("svd-tiny", "cpu-avx2") {
        let rows = knob.answers.iter().rfind(|a| a.name.contains(".rows-") && !a.name.ends_with("again"));
        rows.into_iter().for_each(|a| choices.set(knob.id.clone(), &a.name));
    }
    assert!(!choices.0.is_empty(), "no level cuts rows");
    check(&choices);
}

#[test]
fn every_knob_at_its_last_answer_equals_the_reference() {
    check(&last_answers(|_| true));
}
