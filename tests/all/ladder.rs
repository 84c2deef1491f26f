//! A plan with smaller ones behind it: they share weights, and a run that needs more memory than it was allowed goes on with the next.

use std::path::Path;
use std::process::Output;

use ndarray::ArrayD;
use vidc::media::npy::read_npy;
use vidc::plan::Manifest;

use crate::cli::{library, picture, vidc};

/// `svd-tiny` with two smaller plans behind the best.
fn compiled(folder: &Path) -> std::path::PathBuf {
    let plan = folder.join("plan");
    let args = [
        "compile",
        "svd-tiny",
        "--hw",
        "x86-cpu-2core",
        "--set",
        "frames=6",
        "--set",
        "height=128",
        "--set",
        "width=128",
        "--ladder",
        "3",
        "-o",
    ];
    let out = vidc(folder).args(args).arg(&plan).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    plan
}

fn run(folder: &Path, library: &Path, plan: &Path, memory: Option<u64>, out: &str) -> Output {
    let mut command = vidc(folder);
    command.current_dir(folder).arg("run").arg(plan).arg("--runtime").arg(library);
    command.args(["--input", &format!("image={}", picture()), "-o", out]);
    if let Some(memory) = memory {
        command.args(["--memory", &format!("{memory}B")]);
    }
    command.output().unwrap()
}

fn said(out: &Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Pixels of 8 bits: where a sum is rounded otherwise, one of many may fall on the other side.
fn same_frames(folder: &Path, a: &str, b: &str) {
    let read = |name: &str| -> ArrayD<u8> { read_npy(&folder.join(name)).unwrap() };
    let (a, b) = (read(a), read(b));
    let apart: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b)).filter(|d| *d > 0).collect();
    assert!(a.shape() == b.shape() && apart.iter().all(|d| *d == 1) && apart.len() * 1000 < a.len(), "{} of {}", apart.len(), a.len());
}

#[test]
fn smaller_plans_share_weights_and_are_listed_by_what_they_need() {
    let dir = tempfile::tempdir().unwrap();
    let plan = compiled(dir.path());
    let first = Manifest::read(&plan).unwrap();
    assert!(!first.ladder.is_empty());
    let mut before = first.predicted_bytes("peak_bytes").unwrap().0;
    for rung in &first.ladder {
        let manifest = Manifest::read_rung(&plan, rung).unwrap();
        assert_eq!((&manifest.files, &manifest.effects, &manifest.values.len()), (&first.files, &first.effects, &first.values.len()));
        assert_eq!(manifest.predicted_bytes("peak_bytes").unwrap().0, rung.peak_bytes);
        assert!(rung.peak_bytes < before && manifest.ladder.is_empty());
        before = rung.peak_bytes;
    }
    // A folder with its ladder is a plan, and is replaced by another one.
    compiled(dir.path());
}

#[test]
fn a_budget_takes_the_plan_that_keeps_to_it() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plan = compiled(dir.path());
    let first = Manifest::read(&plan).unwrap();
    let smallest = Manifest::read_rung(&plan, first.ladder.last().unwrap()).unwrap();
    let high = |m: &Manifest| m.predicted_bytes("peak_bytes_hi").unwrap().0;
    let free = run(dir.path(), &library, &plan, None, "free.npy");
    assert!(!said(&free).contains("smaller"));
    let tight = run(dir.path(), &library, &plan, Some(high(&smallest)), "tight.npy");
    assert!(said(&tight).contains("taking a smaller one"), "{}", said(&tight));
    same_frames(dir.path(), "free.npy", "tight.npy");
    let none = run(dir.path(), &library, &plan, Some(high(&smallest) - 1), "none.npy");
    assert_eq!(none.status.code(), Some(3), "{}", String::from_utf8_lossy(&none.stderr));
    assert!(String::from_utf8_lossy(&none.stderr).contains("run/over-budget"));
    assert!(!dir.path().join("none.npy").exists());
}

/// A plan that is wrong about its denoiser: the run finds out, and goes on with the next plan.
#[test]
fn a_run_beyond_its_memory_goes_on_with_a_smaller_plan() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plan = compiled(dir.path());
    said(&run(dir.path(), &library, &plan, None, "free.npy"));
    let manifest = plan.join("manifest.json");
    let mut wrong = Manifest::read(&plan).unwrap();
    let high = wrong.predicted_bytes("peak_bytes_hi").unwrap().0;
    // The decoder runs behind the loop: what the loop has made is kept.
    wrong.sessions.iter_mut().find(|s| s.name == "vae_decoder").unwrap().transient_bytes = 1000;
    let peak = serde_json::json!(high - 1_000_000);
    wrong.predicted.as_mut().unwrap()["peak_bytes"] = peak;
    std::fs::write(&manifest, serde_json::to_string(&wrong).unwrap()).unwrap();
    let out = run(dir.path(), &library, &plan, Some(high), "went-on.npy");
    assert!(said(&out).contains("going on with a smaller plan"), "{}", said(&out));
    same_frames(dir.path(), "free.npy", "went-on.npy");
    assert!(!dir.path().join("went-on.npy.progress").exists());
}
