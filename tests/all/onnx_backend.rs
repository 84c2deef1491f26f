//! The backend tests of the `onnx` package: each model goes through vidc and must then mean to ONNX Runtime what it meant before.
//!
//! `tests/data/onnx_backend` has a few hundred small ones, a file each; with `VIDC_ONNX_TESTS=DIR` (`tools/onnx/backend.py extract DIR`) all of
//! them are run, and with `VIDC_ONNX_EXPORT=DIR` (one test at a time) what vidc made of them is written there, for `tools/onnx/backend.py compare`, which also
//! feeds the types that vidc's sessions do not take.

mod case;
mod compare;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use vidc::hwdb;
use vidc::import::onnx::read_model;
use vidc::ir::Bindings;
use vidc::optimize::model::{Level, optimize};
use vidc::optimize::write::write;
use vidc::passes::Choices;
use vidc::passes::manager::Debugging;
use vidc::runtime::session::{Port, Runtime, Session, SessionOptions, Weights};
use vidc::runtime::tensor::Tensor;
use vidc::weights::WeightsFile;

use self::case::{Case, DataSet, Unfed};
use self::compare::{close, same};
use crate::reference::runtime;
use crate::source::{files_below, root};

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Equal outputs.
    Pass,
    /// ONNX Runtime loads both models; their values are of types that vidc's sessions do not take.
    Loads,
    /// ONNX Runtime does not load the original, or does not run it.
    Unsupported,
    /// An operator set that vidc does not read, and says so.
    Old,
    /// The original gives other values each time; the new model gives some of the same types and shapes.
    Random,
    /// Anything else.
    Fail(String),
}

/// A model as vidc writes it, and the file of its weights.
pub(crate) struct Rewritten {
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// Its weights, for a session.
    pub(crate) weights: Weights,
}

/// Imports a model, runs the passes of a level for a CPU and writes it to `output`.
pub(crate) fn through(model: &Path, level: Level, output: &Path) -> vidc::diag::Result<Rewritten> {
    let imported = read_model(model, &Bindings::default())?;
    let machine = hwdb::machine("cpu-avx2")?;
    let compiled = optimize(&imported, &machine, &Choices::default(), level, &Debugging::default())?;
    let written = write(&compiled.graph, &imported.style, vec![], output)?;
    let bytes = std::fs::read(&written.model).unwrap();
    let weights = match &written.data {
        Some(data) => Weights::none().with(data.file_name().unwrap().to_string_lossy(), Arc::new(WeightsFile::open(data)?)),
        None => Weights::none(),
    };
    Ok(Rewritten { bytes, weights })
}

/// As [`through`], with a panic as an error.
fn written(case: &Case, level: Level, export: Option<&Path>) -> Result<Rewritten, String> {
    let temporary = tempfile::tempdir().unwrap();
    let folder = export.map_or(temporary.path().to_owned(), |e| e.join(&case.kind));
    std::fs::create_dir_all(&folder).unwrap();
    let output = folder.join(format!("{}.onnx", case.name));
    match catch_unwind(AssertUnwindSafe(|| through(&case.model_file(), level, &output))) {
        Ok(Ok(rewritten)) => Ok(rewritten),
        Ok(Err(d)) => Err(format!("{}: {d}", d.code)),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("without words")))
        }
    }
}

fn open(runtime: &Runtime, model: &[u8], weights: &Weights) -> Result<Session, String> {
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    Session::load(runtime, model, weights, &options).map_err(|d| format!("{d} {:?}", d.notes))
}

/// Names and types; a shape may become better known.
fn interface(ports: &[Port]) -> Vec<(&str, Option<vidc::weights::DType>)> {
    ports.iter().map(|p| (p.name.as_str(), p.dtype)).collect()
}

/// The outputs of a data set in the model's order.
fn run(session: &mut Session, set: &DataSet) -> Result<Vec<Tensor>, String> {
    let names: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let feeds: Vec<_> = set.inputs.iter().map(|(name, t)| (name.as_str(), t.view())).collect();
    session.run(&feeds, &names).map_err(|d| d.to_string())
}

fn check(runtime: &Runtime, case: &Case, level: Level, export: Option<&Path>) -> Verdict {
    let written = written(case, level, export);
    let before = open(runtime, &case.model, &Weights::none());
    match (before, written) {
        (_, Err(e)) if e.starts_with("panic") => Verdict::Fail(e),
        (Err(_), _) => Verdict::Unsupported,
        (Ok(_), Err(e)) if e.starts_with("onnx/opset:") => Verdict::Old,
        (Ok(_), Err(e)) => Verdict::Fail(e),
        (Ok(mut before), Ok(rewritten)) => match open(runtime, &rewritten.bytes, &rewritten.weights) {
            Err(e) => Verdict::Fail(format!("ONNX Runtime refuses it now: {e}")),
            Ok(mut after) => both(case, &mut before, &mut after),
        },
    }
}

/// The verdict on two sessions of one test.
fn both(case: &Case, before: &mut Session, after: &mut Session) -> Verdict {
    for (old, new) in [(before.inputs(), after.inputs()), (before.outputs(), after.outputs())] {
        if interface(old) != interface(new) {
            return Verdict::Fail(format!("the interface was {:?} and is {:?}", interface(old), interface(new)));
        }
    }
    let sets = match case.data_sets(before) {
        Ok(sets) => sets,
        Err(Unfed) => return Verdict::Loads,
    };
    sets.iter().map(|set| one_set(case, set, before, after)).max().unwrap_or(Verdict::Loads)
}

fn one_set(case: &Case, set: &DataSet, before: &mut Session, after: &mut Session) -> Verdict {
    let Ok(want) = run(before, set) else { return Verdict::Unsupported };
    let got = match run(after, set) {
        Ok(got) => got,
        Err(e) => return Verdict::Fail(format!("it does not run now: {e}")),
    };
    let all = |a: &[Tensor], b: &[Tensor], rtol, atol| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b, rtol, atol));
    if got.len() == want.len() && got.iter().zip(&want).all(|(g, w)| same(g, w)) {
        return Verdict::Pass;
    }
    let again = run(before, set).unwrap_or_default();
    let alike = |(a, b): (&Tensor, &Tensor)| a.dtype() == b.dtype() && a.shape() == b.shape();
    if !(again.len() == want.len() && again.iter().zip(&want).all(|(a, w)| same(a, w)))
        && got.len() == want.len()
        && got.iter().zip(&want).all(alike)
    {
        return Verdict::Random;
    }
    let as_expected = all(&got, &set.outputs, case.rtol, case.atol);
    Verdict::Fail(format!("other outputs{}", if as_expected { ", though as the test expects them" } else { "" }))
}

/// Runs all cases; the table of counts by kind with the name of each that did not simply pass, and the failures.
fn report(runtime: &Runtime, files: &[PathBuf], level: Level, read: fn(&Path) -> Case) -> (String, Vec<String>) {
    let export = std::env::var_os("VIDC_ONNX_EXPORT").map(PathBuf::from);
    let verdicts: Vec<(String, String, Verdict)> = files
        .par_iter()
        .map(|file| {
            let case = read(file);
            let verdict = check(runtime, &case, level, export.as_deref());
            (case.kind, case.name, verdict)
        })
        .collect();
    let mut counts: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    let (mut failures, mut named) = (Vec::new(), String::new());
    for (kind, name, verdict) in &verdicts {
        let column = match verdict {
            Verdict::Pass => 0,
            Verdict::Loads => 1,
            Verdict::Random => 2,
            Verdict::Unsupported => 3,
            Verdict::Old => 4,
            Verdict::Fail(why) => {
                failures.push(format!("{kind}/{name}: {why}"));
                5
            }
        };
        if !matches!(verdict, Verdict::Pass | Verdict::Fail(_)) {
            named.push_str(&format!("{verdict:?} {kind}/{name}\n"));
        }
        counts.entry(kind).or_default()[column] += 1;
    }
    let mut table = String::from("tests               pass  loads random unsupported  old fail\n");
    for (kind, [pass, loads, random, unsupported, old, fail]) in counts {
        table.push_str(&format!("{kind:18} {pass:5} {loads:6} {random:6} {unsupported:11} {old:4} {fail:4}\n"));
    }
    (table + &named, failures)
}

/// The table, if nothing fails.
fn hold(runtime: &Runtime, files: &[PathBuf], level: Level, read: fn(&Path) -> Case) -> String {
    assert!(!files.is_empty(), "no tests were found");
    let (table, failures) = report(runtime, files, level, read);
    eprintln!("{level:?}\n{table}");
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    table
}

fn hold_here(level: Level) {
    let Some(runtime) = runtime() else { return };
    let table = hold(&runtime, &files_below(&root().join("tests/data/onnx_backend"), ".test"), level, Case::packed);
    // A loader that reads nothing would pass everything: what passes is counted, and what does not is named.
    insta::assert_snapshot!(format!("onnx-backend-{level:?}").to_lowercase(), table);
}

#[test]
fn models_mean_the_same_after_import_and_export() {
    hold_here(Level::None);
}

#[test]
fn models_mean_the_same_after_all_passes() {
    hold_here(Level::Full);
}

fn hold_all(level: Level) {
    let Some(folder) = std::env::var_os("VIDC_ONNX_TESTS") else {
        crate::skipped::skipped("every backend test", "VIDC_ONNX_TESTS names no folder; tools/onnx/backend.py makes one");
        return;
    };
    let Some(runtime) = runtime() else { return };
    hold(&runtime, &files_below(Path::new(&folder), "model.onnx"), level, Case::folder);
}

#[test]
fn every_backend_test_means_the_same_after_import_and_export() {
    hold_all(Level::None);
}

#[test]
fn every_backend_test_means_the_same_after_all_passes() {
    hold_all(Level::Full);
}
