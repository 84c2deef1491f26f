//! The command line as users meet it: the built binary, its exit status, what it writes and where.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use vidc::media::npy::{read_npy, write_npy};

/// The binary with a cache of its own and nothing of this user's environment that would change what it does.
pub(crate) fn vidc(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vidc"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("XDG_CACHE_HOME", home.join("cache")).env("XDG_CONFIG_HOME", home.join("config"));
    for variable in ["VIDC_ORT", "ORT_DYLIB_PATH", "VIDC_LOG"] {
        command.env_remove(variable);
    }
    command.env("NO_COLOR", "1").env("ORT_DISABLE_TELEMETRY", "1").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs to the end; what it wrote to stdout if it ended with `status`.
fn run(home: &Path, args: &[&str], status: i32) -> String {
    let out = vidc(home).args(args).output().unwrap();
    check(&out, status, args)
}

fn check(out: &Output, status: i32, args: &[&str]) -> String {
    assert_eq!(out.status.code(), Some(status), "{args:?}\n{}\n{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

/// The JSON document on stdout.
fn json(home: &Path, args: &[&str], status: i32) -> Value {
    let all: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    let document: Value = serde_json::from_str(&run(home, &all, status)).unwrap();
    assert_eq!(document["version"], 1);
    document
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The library of this machine; without one the test says that it is skipped, unless it must not be.
pub(crate) fn library() -> Option<PathBuf> {
    match vidc::runtime::provision::locate(None, &mut |line| eprintln!("{line}")) {
        Ok(located) => Some(located.path),
        Err(d) if std::env::var_os("VIDC_REQUIRE_ORT").is_some_and(|v| v == "1") => panic!("{d:?}"),
        Err(d) => {
            crate::skipped::skipped("a test of the command line", &d.to_string());
            None
        }
    }
}

#[test]
fn the_version_is_one_line() {
    let home = temporary();
    assert_eq!(run(home.path(), &["--version"], 0), format!("vidc {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_graph_inside_vidc_is_valid() {
    let home = temporary();
    for (name, _) in vidc::spec::BUILTIN {
        let out = run(home.path(), &["check", name], 0);
        assert!(out.contains(&format!("{name} is a valid graph")), "{out}");
        let document = json(home.path(), &["check", name], 0);
        assert!(document["values"].as_array().unwrap().iter().any(|v| v["name"] == "latents" && v["loops"] == 1));
        assert!(run(home.path(), &["graph", name, "--dot"], 0).starts_with("digraph"));
    }
}

#[test]
fn explain_says_what_each_pass_did() {
    let home = temporary();
    let out = run(home.path(), &["explain", "svd-tiny", "--hw", "rtx3090"], 0);
    for word in ["fold-cross-attention", "applied", "declined", "unet.precision", "f32 | "] {
        assert!(out.contains(word), "no {word} in\n{out}");
    }
    let out = run(home.path(), &["explain", "svd-tiny", "--hw", "rtx3090", "--pass", "fold-cross-attention"], 0);
    assert!(out.contains("graphs/svd-tiny.yaml:"), "{out}");
    let out = run(home.path(), &["explain", "svd-tiny", "--hw", "cpu", "--memory"], 0);
    assert!(out.contains("waits for") && out.contains("another answer would make the peak"), "{out}");
    let dumps = home.path().join("dumps");
    let folder = dumps.to_str().unwrap();
    run(home.path(), &["explain", "svd-tiny", "--hw", "cpu", "--dump-dir", folder, "--disable", "eliminate"], 0);
    assert!(dumps.join("unet/00-bound.txt").is_file());
}

#[test]
fn a_code_is_explained() {
    let home = temporary();
    assert!(run(home.path(), &["explain-code", "graph/unknown-value"], 0).contains("exit 1"));
    run(home.path(), &["explain-code", "graph/unknown-valeu"], 2);
}

#[test]
fn hardware_is_listed_and_shown() {
    let home = temporary();
    let devices = json(home.path(), &["hw", "list"], 0);
    assert!(devices["devices"].as_array().unwrap().iter().any(|d| d["key"] == "rtx3090"));
    // What is shown can be read back as a profile of the user's own.
    let shown = run(home.path(), &["hw", "show", "rtx3090"], 0);
    let file = home.path().join("mine.yaml");
    std::fs::write(&file, shown).unwrap();
    run(home.path(), &["hw", "show", file.to_str().unwrap()], 0);
    run(home.path(), &["hw", "detect"], 0);
    run(home.path(), &["doctor"], 0);
}

#[test]
fn a_search_writes_a_record_that_compile_takes() {
    let home = temporary();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (record, plan) = (path("r.yaml"), path("plan"));
    let tuned = json(home.path(), &["tune", "svd-tiny", "--hw", "cpu-avx2", "-o", &record], 0);
    assert_eq!(tuned["certificate"]["optimal"], true);
    let choose: Vec<String> = tuned["choices"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(k, v)| ["--choose".into(), format!("{k}={}", v.as_str().unwrap())])
        .collect();
    let mut args = vec!["estimate", "svd-tiny", "--hw", "cpu-avx2"];
    args.extend(choose.iter().map(String::as_str));
    // The certificate speaks of the figure that `estimate` prints.
    assert_eq!(json(home.path(), &args, 0)["predicted"], tuned["predicted"]);
    let compiled = json(home.path(), &["compile", "svd-tiny", "--tuning", &record, "-o", &plan], 0);
    assert_eq!(compiled["choices"], tuned["choices"]);
    assert_eq!(json(home.path(), &["check", &plan], 0)["weights"]["random"], true);
    run(home.path(), &["inspect", &plan], 0);
    // A plan is checked file by file.
    std::fs::write(home.path().join("plan/unet.onnx"), b"x").unwrap();
    let error = json(home.path(), &["check", &plan], 1);
    assert_eq!(error["error"]["code"], "plan/broken");
}

/// What one device takes and by how much it misses the rest, the same bytes whichever search was first.
#[test]
fn what_fits_comes_before_what_misses() {
    let home = temporary();
    let args = |memory: &'static str| ["fit", "svd-tiny", "--hw", "rtx3060-12gb", "--vary", "frames=2..4", "--memory", memory];
    let verdicts = |found: &Value| -> Vec<(u64, String)> {
        let one = |c: &Value| (c["parameters"]["frames"].as_u64().unwrap(), c["verdict"].as_str().unwrap().to_owned());
        found["cells"].as_array().unwrap().iter().map(one).collect()
    };
    let all = json(home.path(), &args("8GiB"), 0);
    assert_eq!(verdicts(&all), [4, 3, 2].map(|frames| (frames, "fits".to_owned())));
    let none = json(home.path(), &args("1MiB"), 0);
    let needs: Vec<u64> = none["cells"].as_array().unwrap().iter().map(|c| c["needs_bytes"].as_u64().unwrap()).collect();
    assert!(needs.is_sorted() && needs[0] < needs[2], "{needs:?}");
    // What the nearest needs is what it takes, and the others still miss.
    let budget = needs[0].to_string();
    let mut some = args("");
    some[7] = &budget;
    let found = json(home.path(), &some, 0);
    let fits: Vec<&Value> = found["cells"].as_array().unwrap().iter().take_while(|c| c["verdict"] == "fits").collect();
    assert!(!fits.is_empty() && fits.len() < 3, "{found}");
    assert!(fits.iter().all(|c| c["peak_bytes_hi"].as_u64().unwrap() <= needs[0]), "{found}");
    assert_eq!(json(home.path(), &some, 0), found);
    let text = run(home.path(), &some, 0);
    assert!(text.contains("does not fit: needs"), "{text}");
}

#[test]
fn devices_are_compared() {
    let home = temporary();
    let args = ["fit", "svd-tiny", "--hw", "rtx2060,m1,h200-sxm", "--vary", "frames=2"];
    let found = json(home.path(), &args, 0);
    let devices = found["devices"].as_array().unwrap();
    let seconds: Vec<f64> = devices.iter().map(|d| d["latency_s"].as_f64().unwrap()).collect();
    assert!(seconds.is_sorted(), "{seconds:?}");
    let modelled: Vec<&str> = devices.iter().filter(|d| d["modelled_only"] == true).map(|d| d["hw"].as_str().unwrap()).collect();
    assert_eq!(modelled, ["m1"]);
}

/// y · sigmoid(y) of y = exp(x), x f32[n, 4]; with `plain`, y alone.
fn write_model(path: &Path, plain: bool) {
    use vidc::onnx::build::{model, node, value_info};
    let float = |name: &str| value_info(name, 1, &["n".into(), 4.into()]);
    let nodes = [
        node("Exp", "exp", &["x"], &["y"]),
        node("Sigmoid", "sigmoid", &["y"], &["s"]),
        node("Mul", "product", &["y", "s"], &["z"]),
        node("Softmax", "softmax", &["z"], &["w"]),
    ];
    let (node, output) = if plain { (nodes[..1].to_vec(), "y") } else { (nodes.to_vec(), "w") };
    let graph = vidc::onnx::proto::GraphProto {
        name: "../a name".into(),
        node,
        input: vec![float("x")],
        output: vec![float(output)],
        ..Default::default()
    };
    std::fs::write(path, vidc::onnx::encode(&model(graph, 17)).unwrap()).unwrap();
}

#[test]
fn a_model_is_inspected_compared_and_explained() {
    let home = temporary();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("a.onnx"), path("b.onnx"));
    write_model(Path::new(&a), false);
    write_model(Path::new(&b), true);

    let open = run(home.path(), &["inspect", &a], 0);
    assert!(open.contains("dims left open: n") && open.contains("unknown: bind dims"), "{open}");
    let bound = json(home.path(), &["inspect", &a, "--dim", "n=2"], 0);
    assert_eq!((&bound["opset"], &bound["model"]["nodes"]), (&17.into(), &4.into()));
    assert_eq!(bound["model"]["bytes_moved"], 32 * (2 + 2 + 3 + 2));
    let sites = bound["sites"].as_array().unwrap();
    assert!(sites.iter().any(|s| s["rule"] == "silu" && s["applied"] == true), "{sites:?}");
    assert!(sites.iter().any(|s| s["first"] == "softmax" && s["failed"].is_string()), "{sites:?}");

    let same = json(home.path(), &["diff", &a, &a], 0);
    assert_eq!(same["models"][0]["same"], true);
    let text = run(home.path(), &["diff", &a, &b, "--dim", "n=2"], 0);
    assert!(text.contains("the first 1 operators are the same") && text.contains("Sigmoid"), "{text}");
    assert!(run(home.path(), &["diff", "svd-tiny", "svd-tiny"], 0).contains("unet: the same"));

    let explain = |more: &[&str]| run(home.path(), &[&["explain", &a, "--hw", "rtx3090"], more].concat(), 0);
    let all = explain(&[]);
    assert!(all.contains("skipped: sizes are not bound") && all.contains("dims left open: n"), "{all}");
    assert!(explain(&["--pass", "raise"]).lines().any(|l| l.starts_with("declined") && l.contains("failed=")));
    assert!(explain(&["--memory"]).contains("unknown"));
    assert!(explain(&["--memory", "--dim", "n=2"]).contains("alive at step"));
    // What the file calls its graph is not where the texts go.
    let dumps = path("dumps");
    explain(&["--dump-dir", &dumps, "--stop-after", "raise"]);
    assert!(home.path().join("dumps/a/00-bound.txt").is_file());

    let out = path("out.onnx");
    let optimized = json(home.path(), &["optimize", &a, "-o", &out, "--dim", "n=2"], 0);
    let raise = optimized["passes"].as_array().unwrap().iter().find(|p| p["id"] == "raise").unwrap();
    assert!(!raise["remarks"].as_array().unwrap().is_empty());
}

pub(crate) fn picture() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/boat.png").to_str().unwrap().to_owned()
}

#[test]
fn a_graph_becomes_a_video() {
    let Some(library) = library() else { return };
    let home = temporary();
    let input = format!("image={}", picture());
    let path = |name: &str| home.path().join(name);
    for (name, magic) in [("out.gif", &b"GIF89a"[..]), ("out.npy", &b"\x93NUMPY"[..])] {
        let out = path(name);
        let dump = format!("latents={}", path("latents.npy").display());
        let args = ["run", "svd-tiny", "--input", &input, "--dump", &dump, "-o", out.to_str().unwrap()];
        let done = vidc(home.path()).env("VIDC_ORT", &library).args(args).output().unwrap();
        let said = check(&done, 0, &args);
        assert!(said.contains("weights: random:4242 (random weights: the picture means nothing)"), "{said}");
        assert!(std::fs::read(&out).unwrap().starts_with(magic));
        assert!(!path(&format!("{name}.progress")).exists());
        let report: Value = serde_json::from_slice(&std::fs::read(path(&format!("{name}.report.json"))).unwrap()).unwrap();
        assert_eq!((&report["weights"]["random"], &report["parameters"]["seed"]), (&true.into(), &4242.into()));
        assert!(report["measured"]["peak_bytes"].as_u64() > Some(0) && report["measured"]["stages"]["unet"]["runs"].as_u64() > Some(0));
    }
    assert_eq!(read_npy::<u8>(&path("out.npy")).unwrap().shape(), [4, 128, 128, 3]);
    assert_eq!(read_npy::<f32>(&path("latents.npy")).unwrap().shape(), [3, 1, 4, 4, 16, 16]);
    // The second run found the plan of the first.
    let plans = json(home.path(), &["cache", "list"], 0);
    assert_eq!(plans["plans"].as_array().unwrap().len(), 1);
    run(home.path(), &["cache", "clear"], 0);
    assert_eq!(json(home.path(), &["cache", "list"], 0)["plans"].as_array().unwrap().len(), 0);
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let Some(library) = library() else { return };
    let home = temporary();
    let input = format!("image={}", picture());
    let command = |out: &Path, resume: bool| {
        let mut c = vidc(home.path());
        c.env("VIDC_ORT", &library).args(["run", "svd-tiny", "--set", "steps=30", "--input", &input, "-o"]).arg(out);
        if resume {
            c.arg("--resume");
        }
        c
    };
    let (whole, parts) = (home.path().join("whole.npy"), home.path().join("parts.npy"));
    check(&command(&whole, false).output().unwrap(), 0, &["whole"]);
    let mut child = command(&parts, false).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains("step 1 of 30")), "no step was said");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:#?}");
    assert!(rest.iter().any(|l| l.contains("--resume")), "{rest:#?}");
    assert!(!parts.exists() && home.path().join("parts.npy.progress").exists());
    check(&command(&parts, true).output().unwrap(), 0, &["resumed"]);
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&parts).unwrap());
    let report: Value = serde_json::from_slice(&std::fs::read(home.path().join("parts.npy.report.json")).unwrap()).unwrap();
    assert!(report["resumed_at"].as_u64() >= Some(1));
}

#[test]
fn a_dry_run_says_that_the_run_is_possible_and_runs_nothing() {
    let home = temporary();
    let out = home.path().join("o.mp4");
    let noise = home.path().join("noise.npy");
    write_npy(&noise, ndarray::ArrayD::<f32>::zeros(vec![1, 4, 4, 16, 16]).view()).unwrap();
    let (input, feed) = (format!("image={}", picture()), format!("init_noise={}", noise.display()));
    let args = ["run", "svd-tiny", "--dry-run", "--input", &input, "--feed", &feed, "-o", out.to_str().unwrap()];
    let document = json(home.path(), &args, 0);
    assert_eq!((&document["possible"], &document["weights"]["random"]), (&true.into(), &true.into()));
    assert!(document["predicted"]["host_bytes"].as_u64() > Some(0));
    assert!(!out.exists());
}
