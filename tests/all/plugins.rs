//! Providers as plug-ins, from the command line: what is said where they are missing, and that a plan computes the same on them.

use std::path::Path;
use std::process::Output;

use vidc::media::npy::read_npy;
use vidc::runtime::provision::Provision;

use crate::cli::{library, vidc};

fn run(home: &Path, args: &[&str]) -> Output {
    vidc(home).args(args).output().unwrap()
}

fn err(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// An empty cache: nothing is fetched in silence, and the way out stands there with the size of what would come.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn libraries_are_fetched_only_where_somebody_agreed() {
    let home = tempfile::tempdir().unwrap();
    let out = run(home.path(), &["runtime", "install", "--provider", "openvino"]);
    let said = err(&out);
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains("runtime/not-agreed") && said.contains("50.15 MiB"), "{said}");
    assert!(said.contains("vidc runtime install --provider openvino --yes"), "{said}");
    assert!(!home.path().join("cache/vidc/ort").exists(), "nothing was fetched");
    let status = String::from_utf8_lossy(&run(home.path(), &["runtime", "status"]).stdout).into_owned();
    let row = status.lines().find(|l| l.starts_with("openvino ")).unwrap();
    assert!(row.contains("not installed") && row.contains("--provider openvino` fetches 50.15 MiB"), "{status}");
}

#[test]
fn a_provider_that_has_nothing_to_fetch_says_so() {
    let home = tempfile::tempdir().unwrap();
    let cpu = err(&run(home.path(), &["runtime", "install", "--provider", "cpu", "--yes"]));
    assert!(cpu.contains("vidc fetches nothing for the CPU provider") && cpu.contains("part of every ONNX Runtime"), "{cpu}");
    let unknown = err(&run(home.path(), &["runtime", "install", "--provider", "openvin", "--yes"]));
    assert!(unknown.contains("did you mean `openvino`?"), "{unknown}");
}

/// The whole small pipeline through OpenVINO shows the frames of the CPU provider.
#[test]
fn a_plan_computes_the_same_on_a_plug_in() {
    if library().is_none() {
        return;
    }
    let row = vidc::target::row("openvino").unwrap();
    let Ok(files) = Provision::here(None).unwrap().provider_files(row) else {
        return crate::skipped::skipped("a plan on a plug-in", "the libraries of `openvino` are not installed");
    };
    // The cache of this user has the libraries.
    let cache = files.library.ancestors().nth(4).unwrap().to_path_buf();
    let home = tempfile::tempdir().unwrap();
    let frames = |provider: &str| {
        let output = home.path().join(format!("{provider}.npy"));
        let plan = home.path().join(provider);
        let compile =
            ["compile", "graphs/svd-tiny.yaml", "--set", "steps=1", "--set", "frames=2", "--hw", "cpu", "--provider", provider, "-o"];
        let compiled = vidc(home.path()).args(compile).arg(&plan).output().unwrap();
        assert!(compiled.status.success(), "{}", err(&compiled));
        let mut command = vidc(home.path());
        command.env("XDG_CACHE_HOME", &cache).arg("run").arg(&plan);
        let ran = command.args(["--threads", "1", "--input", "image=examples/boat.png", "-o"]).arg(&output).output().unwrap();
        assert!(ran.status.success(), "{}", err(&ran));
        read_npy::<u8>(&output).unwrap()
    };
    let (cpu, openvino) = (frames("cpu"), frames("openvino"));
    let most = cpu.iter().zip(&openvino).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert_eq!(cpu.shape(), openvino.shape());
    assert!(most <= 1, "a level is off by {most}");
}
