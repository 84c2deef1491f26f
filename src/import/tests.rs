//! Tests of importing: a good folder in each form, and bad ones with what is said about them, in `tests/cases/import/*.yaml`.
//!
//! A case spoils the folder of [`tiny_folder`] and names the codes that importing it gives, in order; the whole text of the
//! diagnostics is kept in a snapshot beside it. A folder without `error` is imported in spite of the change, and the snapshot
//! holds the notes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::tiny_folder::{Form, SEED, Shapes, tiny_folder};
use super::*;
use crate::ir::{OpGraph, Program};
use crate::spec::WeightsSource;
use crate::weights::{self, WeightExpr, evaluate, open_folder};

const HOLLOW: Form = Form { half: false, shards: 0, hollow: true };

fn import(dir: &Path, variant: Option<&str>) -> ImportedFolder {
    diffusers(dir, variant).unwrap_or_else(|found| panic!("{:#?}", found.0))
}

fn tiny() -> Spec {
    template("svd-tiny")
}

/// The program of a spec, at its defaults changed by `set`.
fn program(spec: &Spec, set: &[(&str, &str)]) -> Program {
    let set: Vec<(String, String)> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let pipeline = pipeline::resolve(spec, &set, &signature).unwrap_or_else(|e| panic!("{:#?}", e.0));
    pipeline::verify(&pipeline).expect("verifies");
    let graphs = pipeline.models.iter().map(|(name, model)| {
        let config = model.decl.config.0.to_json();
        (name.clone(), build(&model.decl.architecture.value, &config, &model.component, name).expect("builds"))
    });
    Program { models: graphs.map(|(name, graph)| (name, std::sync::Arc::new(graph))).collect(), pipeline }
}

fn params(program: &Program) -> Vec<(String, String, WeightExpr)> {
    let graphs: Vec<OpGraph> = program.models.values().map(|g| (**g).clone()).collect();
    let of = |g| super::models::params(std::slice::from_ref(g));
    let stage = |p: &WeightExpr| p.params()[0].0.to_owned();
    graphs.iter().flat_map(of).map(|(name, p)| (stage(&p), name, p)).collect()
}

#[test]
fn the_tiny_folder_becomes_the_tiny_graph() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("svd-tiny");
    tiny_folder(&home, HOLLOW, |_, _| ());
    let imported = import(&home, None);
    assert_eq!(imported.spec.name.value, "svd-tiny");
    assert_eq!(imported.spec.weights.as_ref().map(|w| w.value.to_string()), home.to_str().map(str::to_owned));
    // Steps and seed are no matter of the folder; everything else computes the same.
    let same = program(&imported.spec, &[("steps", "3"), ("seed", "4242")]).pipeline.fingerprint();
    assert_eq!(same, program(&tiny(), &[]).pipeline.fingerprint(), "{}", imported.text);
}

#[test]
fn what_is_handed_out_is_what_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    tiny_folder(dir.path(), HOLLOW, |_, _| ());
    let imported = import(dir.path(), None);
    let (again, found) = spec::parse(&Arc::new(SourceText { name: "t.yaml".into(), text: imported.text.clone() }));
    assert_eq!((found.0, again.as_ref()), (Vec::new(), Some(&imported.spec)));
    assert!(imported.text.starts_with("# A StableVideoDiffusionPipeline in /"), "{}", imported.text);
}

/// Every parameter binds, and a few of them have the values that the generator gives.
fn check_form(form: Form, tolerance: f32) {
    let dir = tempfile::tempdir().expect("a folder");
    tiny_folder(dir.path(), form, |_, _| ());
    let variant = form.half.then_some("fp16");
    let imported = import(dir.path(), variant);
    let Some(WeightsSource::Folder(from)) = imported.spec.weights.map(|w| w.value) else { panic!("a folder") };
    assert_eq!(from.variant.as_deref(), variant);
    let open = |stage: &str| open_folder(&Path::new(&from.folder).join(stage), from.variant.as_deref()).expect("opens");
    let stages = ["image_encoder", "vae", "unet"].map(|s| (s.to_owned(), open(s)));
    let files = weights::ParamSource::Files(BTreeMap::from(stages));
    let program = program(&template("svd-tiny"), &[]);
    let bound: Vec<_> = params(&program).into_iter().map(|(_, name, p)| (name, p.bind(&files).expect("binds"), p)).collect();
    assert_eq!(bound.len(), 1858, "{form:?}");
    for (name, stored, param) in bound.iter().step_by(97).filter(|_| !form.hollow) {
        let seeded = param.bind(&weights::ParamSource::Random { seed: SEED }).expect("binds");
        let floats = |e: &WeightExpr| {
            let bytes = evaluate(e).expect("evaluates").bytes;
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<_>>()
        };
        let (a, b) = (floats(stored), floats(&seeded));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= tolerance * b.abs().max(1e-3)), "{name}");
    }
}

#[test]
fn weights_of_every_form_are_found() {
    check_form(Form { half: false, shards: 0, hollow: false }, 0.0);
    check_form(Form { half: true, shards: 0, hollow: false }, 1e-3);
    check_form(Form { half: false, shards: 3, hollow: true }, 0.0);
    check_form(Form { half: true, shards: 2, hollow: true }, 0.0);
}

/// The parameters of the graph that a folder becomes when a config is changed.
fn sizes(file: &str, key: &str, value: Value) -> [String; 3] {
    let dir = tempfile::tempdir().expect("a folder");
    tiny_folder(dir.path(), HOLLOW, |_, _| ());
    set_key(&dir.path().join(file), key, value);
    let spec = import(dir.path(), None).spec;
    ["height", "width", "frames"].map(|name| {
        let p = spec.parameters.get(name).expect("there");
        let number = |n: &Option<spec::Spanned<spec::Number>>| n.as_ref().map_or(String::new(), |n| n.value.to_string());
        format!("{} {}..{} by {}", p.default.value, number(&p.min), number(&p.max), p.multiple_of.as_ref().map_or(1, |m| m.value))
    })
}

#[test]
fn defaults_follow_what_the_models_were_made_for() {
    let check = |key: &str, value: Value, expect: [&str; 3]| assert_eq!(sizes("unet/config.json", key, value), expect, "{key}");
    let square = |side| format!("{side} 64..4096 by 64");
    check("num_frames", 25.into(), [&square(128), &square(128), "25 1..128 by 1"]);
    check("num_frames", 200.into(), [&square(128), &square(128), "200 1..200 by 1"]);
    check("num_frames", Value::Null, [&square(128), &square(128), "25 1..128 by 1"]);
    check("sample_size", 96.into(), [&square(576), &square(1024), "4 1..128 by 1"]);
    check("sample_size", 20.into(), [&square(192), &square(192), "4 1..128 by 1"]);
    check("sample_size", Value::from(vec![40, 72]), [&square(320), &square(576), "4 1..128 by 1"]);
    check("sample_size", Value::Null, [&square(576), &square(1024), "4 1..128 by 1"]);
}

#[test]
fn sizes_that_the_models_cannot_take_are_refused_with_the_nearest() {
    let dir = tempfile::tempdir().expect("a folder");
    tiny_folder(dir.path(), HOLLOW, |_, _| ());
    let spec = import(dir.path(), None).spec;
    let found = pipeline::resolve(&spec, &[("height".into(), "100".into())], &signature).expect_err("100 is no multiple of 64");
    assert_eq!(found.0[0].help.as_deref(), Some("the nearest are 64 and 128"));
}

#[test]
fn the_graph_is_named_after_the_folder_or_the_cached_model() {
    let check = |path: &str, expect: &str| {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path().join(path);
        fs::create_dir_all(&home).expect("writable");
        let folder = Folder::open(&home).unwrap_or_else(|d| panic!("{d}"));
        assert_eq!(folder.graph_name(), expect, "{path}");
    };
    check("svd_xt-1.1", "svd_xt-1.1");
    check("mein Modell!", "mein-Modell");
    check("...", "imported");
    check("models--someone--video-xt/snapshots/0123abcd", "video-xt");
}

#[cfg(unix)]
#[test]
fn the_links_of_the_hub_cache_are_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (snapshot, blobs) = (dir.path().join("models--a--tiny/snapshots/1"), dir.path().join("models--a--tiny/blobs"));
    tiny_folder(&snapshot, Form { shards: 2, ..HOLLOW }, |_, _| ());
    fs::create_dir(&blobs).expect("writable");
    let mut count = 0;
    for folder in ["", "unet", "vae", "image_encoder", "scheduler", "feature_extractor"].map(|f| snapshot.join(f)) {
        for file in fs::read_dir(&folder).expect("listable").map(|f| f.expect("listable").path()).filter(|f| f.is_file()) {
            let blob = blobs.join(count.to_string());
            fs::rename(&file, &blob).expect("writable");
            std::os::unix::fs::symlink(&blob, &file).expect("writable");
            count += 1;
        }
    }
    assert_eq!(import(&snapshot, None).spec.name.value, "tiny");
}

/// For `tools/kill.py`, which needs a folder that lasts: `VIDC_TINY_FOLDER=DIR cargo test --lib makes_a_tiny_folder -- --ignored`.
#[test]
#[ignore = "writes the folder that VIDC_TINY_FOLDER names"]
fn makes_a_tiny_folder() {
    let dir = std::env::var_os("VIDC_TINY_FOLDER").expect("VIDC_TINY_FOLDER names a folder");
    tiny_folder(Path::new(&dir), HOLLOW, |_, _| ());
}

// ---- cases

/// How a case spoils the folder. File names are relative to it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Case {
    /// The variant asked for.
    variant: Option<String>,
    /// One file a model if empty; `sharded` or `fp16`.
    form: String,
    /// File → key → value in its JSON.
    set: BTreeMap<String, BTreeMap<String, Value>>,
    /// File → its whole text.
    write: BTreeMap<String, String>,
    /// File → its length; it is all holes.
    hole: BTreeMap<String, u64>,
    /// File → what it links to.
    link: BTreeMap<String, String>,
    /// Files and folders that are not there.
    remove: Vec<String>,
    /// Component → tensors that are not there; a part of the name is enough.
    drop: BTreeMap<String, Vec<String>>,
    /// Component → tensor → shape.
    shape: BTreeMap<String, Shapes>,
    /// What is imported: a folder or file within.
    dir: String,
    /// The codes of the diagnostics.
    error: Vec<String>,
}

fn set_key(file: &Path, key: &str, value: Value) {
    let text = fs::read_to_string(file).expect("readable");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    json[key] = value;
    fs::write(file, serde_json::to_string_pretty(&json).expect("JSON")).expect("writable");
}

impl Case {
    fn make(&self, home: &Path) {
        let form = Form { half: self.form == "fp16", shards: if self.form == "sharded" { 2 } else { 0 }, hollow: true };
        tiny_folder(home, form, |component, shapes| self.spoil(component, shapes));
        for (file, keys) in &self.set {
            for (key, value) in keys {
                set_key(&home.join(file), key, value.clone());
            }
        }
        for name in &self.remove {
            let path = home.join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was there");
        }
        for (file, text) in &self.write {
            fs::write(home.join(file), text).expect("writable");
        }
        for (file, len) in &self.hole {
            fs::File::create(home.join(file)).and_then(|f| f.set_len(*len)).expect("writable");
        }
        for (file, target) in &self.link {
            link(Path::new(target), &home.join(file));
        }
    }

    fn spoil(&self, component: &str, shapes: &mut Shapes) {
        for part in self.drop.get(component).into_iter().flatten() {
            let before = shapes.len();
            shapes.retain(|name, _| !name.contains(part.as_str()));
            assert!(shapes.len() < before, "{part} drops nothing");
        }
        for (name, shape) in self.shape.get(component).into_iter().flatten() {
            shapes.insert(name.clone(), shape.clone());
        }
    }
}

#[cfg(unix)]
fn link(target: &Path, at: &Path) {
    std::os::unix::fs::symlink(target, at).expect("writable");
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) {}

fn render(found: &Diagnostics, notes: &[String]) -> String {
    let mut out = String::new();
    for d in &found.0 {
        let _ = writeln!(out, "{}: {}", d.code, d.message);
        for label in &d.labels {
            let _ = writeln!(out, "  {} {}", label.span, label.text);
        }
        for (word, text) in d.help.iter().map(|h| ("help", h)).chain(d.notes.iter().map(|n| ("note", n))) {
            let _ = writeln!(out, "  {word}: {text}");
        }
    }
    for note in notes {
        let _ = writeln!(out, "{note}");
    }
    out
}

/// Runs a case; gives back what is wrong with it.
fn run(file: &Path) -> Option<String> {
    let name = file.file_stem().expect("a file").to_string_lossy().into_owned();
    let case: Case = serde_saphyr::from_str(&fs::read_to_string(file).expect("readable")).unwrap_or_else(|e| panic!("{name}: {e}"));
    if cfg!(not(unix)) && !case.link.is_empty() {
        return None;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("tiny");
    case.make(&home);
    let result = diffusers(&home.join(&case.dir), case.variant.as_deref());
    let (found, notes) = result.map_or_else(|found| (found, Vec::new()), |imported| (Diagnostics::default(), imported.notes));
    let text = render(&found, &notes).replace(&dir.path().canonicalize().expect("there").display().to_string(), "…");
    let text = text.replace(&dir.path().display().to_string(), "…");
    let codes: Vec<&str> = found.0.iter().map(|d| d.code).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder().join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name.clone(), text));
    (codes != case.error).then(|| format!("== {name}\nexpected {:?}\n{text}", case.error))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/import")
}

#[test]
fn bad_folders_are_explained() {
    let files = fs::read_dir(folder()).expect("the folder of cases exists").map(|f| f.expect("listable").path());
    let mut files: Vec<PathBuf> = files.filter(|f| f.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    assert!(files.len() >= 12);
    let wrong: Vec<String> = files.iter().filter_map(|f| run(f)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
