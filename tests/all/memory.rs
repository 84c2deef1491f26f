//! Memory as it is predicted and as it is: plans in processes of their own, and what `explain --memory` says.

use std::path::Path;

use serde_json::Value;

use crate::cli::{library, vidc};

fn json(folder: &Path, args: &[&str]) -> Value {
    let out = vidc(folder).args(args).args(["--format", "json"]).output().unwrap();
    assert!(out.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn number(of: &Value, path: &str) -> f64 {
    of.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {of}"))
}

/// A short form of the measurement in `benches/memory`: whatever the shape and the answers, a process needs what was predicted, and
/// kernels ask for what was predicted of them.
#[test]
#[cfg(target_os = "linux")]
fn a_process_needs_what_was_predicted() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("frames=8", "height=256", "width=128", "pipeline.residency=all"),
        ("frames=2", "height=128", "width=256", "pipeline.residency=stage"),
        ("frames=6", "height=128", "width=128", "unet.level0.feed-forward=8"),
    ];
    for (i, (frames, height, width, answer)) in cases.into_iter().enumerate() {
        let plan = dir.path().join(format!("plan{i}"));
        let plan = plan.to_str().unwrap();
        let shape = ["--set", frames, "--set", height, "--set", width, "--set", "steps=2"];
        let rest = ["--choose", answer, "--ladder", "1", "-o", plan];
        json(dir.path(), &[&["compile", "svd-tiny", "--hw", "cpu"][..], &shape, &rest].concat());
        let told = json(dir.path(), &["bench", "memory", plan, "--runtime", library.to_str().unwrap()]);
        let one = &told["plans"][0];
        // The program under test is not the released one, of which 23 MB are in memory when it opens a plan, libraries included.
        let own_pages = number(one, "/measured/parts/0/of_files") - 23e6;
        let ratio = (number(one, "/measured/needed") - own_pages) / number(one, "/predicted/peak_bytes");
        assert!((0.90..1.06).contains(&ratio), "{ratio} of what was predicted: {one}");
        for stage in one["predicted"]["stages"].as_array().unwrap() {
            let model = stage["model"].as_str().unwrap();
            let counted = number(&one["measured"]["sessions"][model], "/activations");
            // What is bound is the caller's and in the prediction of a stage. Where a region is cut, one piece more than planned may be there.
            assert!(counted <= 1.03 * number(stage, "/transient_bytes"), "{model}: {counted} counted, {stage}");
        }
    }
}

#[test]
fn the_widest_moment_is_the_predicted_peak_and_has_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("m.svg");
    let told = json(dir.path(), &["explain", "svd-tiny", "--hw", "rtx3090", "--memory", "-o", svg.to_str().unwrap()]);
    let estimated = json(dir.path(), &["estimate", "svd-tiny", "--hw", "rtx3090"]);
    let widest = &told["memory"]["widest"][0];
    let sum: f64 = widest["parts"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
    assert_eq!(sum, number(&estimated, "/predicted/peak_bytes"));
    let alive: f64 = widest["alive"].as_array().unwrap().iter().filter_map(|a| a["bytes"].as_f64()).sum();
    assert_eq!(alive, number(widest, "/parts/activations"));
    for saving in told["memory"]["savings"].as_array().unwrap() {
        assert!(number(saving, "/peak_bytes") < sum);
    }
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("activations") && picture.contains("unet"), "{picture}");
}
