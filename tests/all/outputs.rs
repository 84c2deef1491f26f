//! Files of the user: what commands write, what they keep, and where names from files may lead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use crate::cli::{library, picture, vidc};
use crate::cli_cases::{contents, write_model};

/// Runs in `folder`, so that names that are not absolute lie there; the binary keeps its own things in `home`.
fn at(folder: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = vidc(home);
    command.current_dir(folder).args(args);
    command
}

fn done(command: &mut Command) -> String {
    let out: Output = command.output().unwrap();
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// A folder for the case and one for the binary.
fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

#[test]
fn a_model_of_the_user_is_kept_and_one_of_vidc_replaced() {
    let (dir, home) = folders();
    let path = |name: &str| dir.path().join(name);
    let optimize = |from: &str| done(&mut at(dir.path(), home.path(), &["optimize", from, "-o", "out/o.onnx", "--level", "none"]));
    std::fs::create_dir(path("out")).unwrap();
    write_model(&path("m.onnx"), "pytorch", Some("w.bin"));
    let inputs = [read(&path("m.onnx")), read(&path("w.bin"))];
    std::fs::write(path("out/o.onnx"), "mine").unwrap();

    assert!(optimize("m.onnx").contains("kept what was there as out/o.onnx.old"));
    assert_eq!(read(&path("out/o.onnx.old")), "mine");
    assert!(path("out/o.onnx.data").exists(), "weights in another folder are copied");
    // What vidc wrote is replaced, the weights with it.
    assert!(!optimize("m.onnx").contains("kept"));
    // What is kept stays, whatever comes.
    std::fs::remove_file(path("out/o.onnx.data")).unwrap();
    std::fs::write(path("out/o.onnx"), "mine again").unwrap();
    assert!(optimize("m.onnx").contains("kept what was there as out/o.onnx.old.2"));
    assert_eq!((read(&path("out/o.onnx.old")), read(&path("out/o.onnx.old.2"))), ("mine".into(), "mine again".into()));
    assert_eq!([read(&path("m.onnx")), read(&path("w.bin"))], inputs);
    let mut names: Vec<String> = contents(dir.path()).into_keys().collect();
    names.sort();
    assert_eq!(names, ["m.onnx", "out", "out/o.onnx", "out/o.onnx.data", "out/o.onnx.old", "out/o.onnx.old.2", "w.bin"]);
    done(&mut at(dir.path(), home.path(), &["inspect", "out/o.onnx"]));
}

#[test]
fn weights_that_a_killed_write_left_are_replaced() {
    let (dir, home) = folders();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("out")).unwrap();
    write_model(&path("m.onnx"), "pytorch", Some("w.bin"));
    // Killed between the two names: the weights have theirs, the model has not.
    write_model(&path("out/.vidc-x1.onnx"), "vidc", Some("o.onnx.data"));
    done(&mut at(dir.path(), home.path(), &["optimize", "m.onnx", "-o", "out/o.onnx", "--level", "none"]));
    assert_eq!(std::fs::read(path("out/o.onnx.data")).unwrap().len(), 64 * 64 * 4);
}

/// The built-in graph under another name.
fn named(path: &Path, name: &str) {
    let text = vidc::spec::builtin("svd-tiny").unwrap().text.replace("name: svd-tiny", &format!("name: {name:?}"));
    assert!(text.contains(&format!("{name:?}")));
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_name_of_a_graph_is_no_path() {
    let (dir, home) = folders();
    std::fs::create_dir(dir.path().join("work")).unwrap();
    let work = dir.path().join("work");
    for (i, name) in ["../../x", "/tmp/vidc-escape/x", "..", "a/../../b", "nul"].iter().enumerate() {
        named(&work.join("g.yaml"), name);
        let before = contents(dir.path());
        done(&mut at(&work, home.path(), &["tune", "g.yaml", "--hw", "cpu-avx2"]));
        let fresh: Vec<String> = contents(dir.path()).into_keys().filter(|n| !before.contains_key(n)).collect();
        assert!(!fresh.is_empty() && fresh.iter().all(|n| n.starts_with("work/tuning")), "{name}: {fresh:?}");
        assert_eq!(std::fs::read_dir(work.join("tuning")).unwrap().count(), i + 1, "{name}: a folder of its own");
        done(&mut at(&work, home.path(), &["explain", "g.yaml", "--hw", "cpu-avx2", "--dump-dir", "d"]));
    }
    // The cache of plans, once: it compiles.
    named(&work.join("g.yaml"), "../../x");
    let before = contents(dir.path());
    let input = format!("image={}", picture());
    let args = ["run", "g.yaml", "--input", &input, "-o", "o.gif", "--dry-run"];
    done(&mut at(&work, home.path(), &args));
    assert_eq!(contents(dir.path()), before, "a dry run writes into the cache alone");
    let plans = std::fs::read_dir(home.path().join("cache/vidc/plans")).unwrap();
    assert_eq!(plans.count(), 1);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "and nowhere else");
    assert!(!Path::new("/tmp/vidc-escape").exists());
}

#[test]
fn a_plan_of_vidc_is_replaced_whole() {
    let (dir, home) = folders();
    let compile = |seed: &str| {
        let weights = format!("random:{seed}");
        done(&mut at(dir.path(), home.path(), &["compile", "svd-tiny", "--hw", "cpu-avx2", "--weights", &weights, "-o", "p"]))
    };
    compile("1");
    let first = contents(dir.path());
    compile("2");
    let second = contents(dir.path());
    assert!(first.keys().eq(second.keys()) && first != second);
    // One of an older version is one too.
    let manifest = dir.path().join("p/manifest.json");
    std::fs::write(&manifest, read(&manifest).replacen("\"version\": 1", "\"version\": 0", 1)).unwrap();
    compile("2");
    assert_eq!(contents(dir.path()), second);
}

#[test]
fn a_video_of_the_user_is_kept_and_one_of_vidc_replaced() {
    let Some(library) = library() else { return };
    let (dir, home) = folders();
    let path = |name: &str| dir.path().join(name);
    let input = format!("image={}", picture());
    let run = |out: &str| {
        let args = ["run", "svd-tiny", "--input", &input, "--dump", "latents=l.npy", "-o", out];
        done(at(dir.path(), home.path(), &args).env("VIDC_ORT", &library))
    };
    std::fs::write(path("o.gif"), "holiday").unwrap();
    std::fs::write(path("l.npy"), "numbers").unwrap();
    let said = run("o.gif");
    assert!(said.contains("kept what was there as o.gif.old") && said.contains("as l.npy.old"), "{said}");
    assert_eq!((read(&path("o.gif.old")), read(&path("l.npy.old"))), ("holiday".into(), "numbers".into()));
    assert!(!run("o.gif").contains("kept"), "the report says that vidc wrote both");
    // Edited since, it is the user's.
    std::fs::write(path("o.gif"), "cut by hand").unwrap();
    assert!(run("o.gif").contains("kept what was there as o.gif.old.2"));
    assert_eq!(read(&path("o.gif.old.2")), "cut by hand");
    let names: Vec<String> = contents(dir.path()).into_keys().collect();
    assert_eq!(names, ["l.npy", "l.npy.old", "o.gif", "o.gif.old", "o.gif.old.2", "o.gif.report.json"]);
    // Frames are files of their own; one that was there is kept.
    std::fs::write(path("f-0001.png"), "frame").unwrap();
    assert!(run("f.png").contains("kept what was there as f-0001.png.old"));
}

#[test]
fn open_dims_say_what_they_leave_out() {
    let (dir, home) = folders();
    write_model(&dir.path().join("m.onnx"), "pytorch", Some("w.bin"));
    let said = done(&mut at(dir.path(), home.path(), &["optimize", "m.onnx", "-o", "o.onnx", "--hw", "rtx3090"]));
    assert!(
        said.contains("dims left open: n") && said.contains("left out because sizes are open: ") && said.contains("assign-precision"),
        "{said}"
    );
    let args = ["optimize", "m.onnx", "-o", "p.onnx", "--hw", "rtx3090", "--dim", "n=2", "--choose", "m.precision=f16"];
    assert!(!done(&mut at(dir.path(), home.path(), &args)).contains("left out"));
    let args = ["explain", "p.onnx", "--hw", "rtx3090", "--pass", "raise"];
    done(&mut at(dir.path(), home.path(), &args));
}

/// The commands that write, each with the file under whose name something may stand when it is killed.
const WRITERS: [&[&str]; 3] = [
    &["optimize", "m.onnx", "-o", "out/o.onnx", "--level", "none"],
    &["tune", "svd-tiny", "--hw", "cpu-avx2", "-o", "out/r.yaml"],
    &["compile", "svd-tiny", "--hw", "cpu-avx2", "-o", "out/p"],
];

/// The short form of `tools/kill.py`: each command is killed at a few moments of its run.
#[cfg(unix)]
#[test]
fn a_killed_command_leaves_the_files_of_the_user() {
    let (dir, home) = folders();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    write_model(&dir.path().join("m.onnx"), "pytorch", Some("w.bin"));
    std::fs::write(dir.path().join("out/o.onnx"), "mine").unwrap();
    std::fs::write(dir.path().join("out/r.yaml"), "mine").unwrap();
    let before = contents(dir.path());
    for args in WRITERS {
        for after in [5, 40, 160] {
            let mut child: Child =
                at(dir.path(), home.path(), args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(after));
            let _ = child.kill();
            child.wait().unwrap();
            check(dir.path(), &before, args);
        }
    }
}

/// What was there is there, under its name or as `.old`; what is new is whole.
fn check(dir: &Path, before: &BTreeMap<String, Vec<u8>>, args: &[&str]) {
    let after = contents(dir);
    for (name, held) in before {
        let still = |n: &str| after.get(n) == Some(held);
        assert!(still(name) || still(&format!("{name}.old")), "{args:?}: `{name}` is lost");
    }
    let home = tempfile::tempdir().unwrap();
    let is_final = |name: &&String| !name.split('/').any(|part| part.starts_with(".vidc-"));
    for name in after.keys().filter(is_final).filter(|n| !before.contains_key(*n) || after[*n] != before[*n]) {
        let path: PathBuf = dir.join(name);
        match name.as_str() {
            "out/o.onnx" => _ = done(&mut at(dir, home.path(), &["inspect", name])),
            "out/o.onnx.data" => assert_eq!(after[name].len(), 64 * 64 * 4),
            "out/r.yaml" => _ = vidc::tuner::record::TuningRecord::read(&path).unwrap(),
            "out/p" => _ = done(&mut at(dir, home.path(), &["check", name])),
            other => assert!(other.starts_with("out/p/") || other.contains(".old"), "{args:?}: left {other}"),
        }
    }
}
