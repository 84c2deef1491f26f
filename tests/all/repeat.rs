//! `vidc run --repeat`: one plan, several seeds, one file each.

use std::path::Path;

use serde_json::Value;

use crate::cli::{library, picture, vidc};
use crate::cli_cases::contents;

/// Runs in `folder`; the JSON document on stdout, and stderr.
fn run(folder: &Path, home: &Path, library: &Path, args: &str, status: i32) -> (Value, String) {
    let input = format!("image={}", picture());
    let mut command = vidc(home);
    command
        .env("VIDC_ORT", library)
        .current_dir(folder)
        .args(["run", "svd-tiny", "--input", &input, "--format", "json"])
        .args(args.split(' '));
    let out = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(status), "{args}\n{stderr}");
    (serde_json::from_slice(&out.stdout).unwrap_or_default(), stderr)
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn each_seed_has_its_files_and_only_the_first_run_loads() {
    let Some(library) = library() else { return };
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let (document, _) =
        run(dir, home.path(), &library, "--choose pipeline.residency=all --seed 4 --repeat 3 --dump latents=l.npy -o o.npy", 0);
    let names: Vec<String> = contents(dir).into_keys().filter(|n| !n.ends_with(".report.json")).collect();
    assert_eq!(names, ["l.4.npy", "l.5.npy", "l.6.npy", "o.4.npy", "o.5.npy", "o.6.npy"]);
    let runs = document["runs"].as_array().unwrap();
    let loads: Vec<bool> = runs.iter().map(|r| r["measured"]["load_s"].as_f64().unwrap() > 0.0).collect();
    assert_eq!(loads, [true, false, false]);
    for (run, seed) in runs.iter().zip(4..) {
        assert_eq!(run["parameters"]["seed"], seed);
        let report: Value = serde_json::from_slice(&read(dir, &format!("o.{seed}.npy.report.json"))).unwrap();
        assert_eq!((&report["parameters"]["seed"], report["outputs"].as_array().unwrap().len()), (&Value::from(seed), 2));
        assert!(report["measured"]["run_s"].as_f64().unwrap() > 0.0);
    }
    // One run at a seed is the one of several, and that of a graph with that seed.
    run(dir, home.path(), &library, "--choose pipeline.residency=all --seed 5 -o one.npy", 0);
    run(dir, home.path(), &library, "--choose pipeline.residency=all --set seed=5 -o set.npy", 0);
    assert!(read(dir, "one.npy") == read(dir, "o.5.npy") && read(dir, "set.npy") == read(dir, "o.5.npy"));
    assert!(read(dir, "o.4.npy") != read(dir, "o.5.npy"));
}

#[test]
fn what_does_not_go_together_is_refused_before_any_work() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (args, status, words) in [
        ("--repeat 2 -o o.npy", 2, "--seed"),
        ("--repeat 0 --seed 1 -o o.npy", 2, "--repeat"),
        ("--seed 1 --set seed=2 -o o.npy", 2, "twice"),
        ("--seed 9223372036854775808 -o o.npy", 2, "--seed"),
    ] {
        let (_, stderr) = run(dir.path(), home.path(), Path::new("none"), args, status);
        assert!(stderr.contains(words), "{args}: {stderr}");
    }
    // A dump of one run is the video of another.
    let (document, _) = run(dir.path(), home.path(), Path::new("none"), "--seed 1 --repeat 2 --dump latents=o.npy -o o.npy", 1);
    assert!(document.to_string().contains("io/output-twice"), "{document}");
    assert!(contents(dir.path()).is_empty());
}
