//! Mutated models through everything that reads a file of somebody else: decoding, import, the passes of every level, verification, emission.
//! Whatever the bytes are, each step returns a graph or a diagnostic, within [`MOST`] and without a panic.
//!
//! A plain run tries a fixed number of mutants; `VIDC_FUZZ_SECONDS=300` goes on for that long, `VIDC_FUZZ_SEED=7` from another seed.
//! What fails is left as a file in the folder for temporary files of the target folder; it becomes a test with a name in
//! `src/import/onnx/tests`. The package in `fuzz` does the same under a fuzzer that is guided by coverage.

mod mutate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vidc::hwdb::{self, Machine};
use vidc::import::onnx::import;
use vidc::ir::{Bindings, verify};
use vidc::onnx;
use vidc::onnx::proto::ModelProto;
use vidc::optimize::model::{Level, optimize};
use vidc::passes::Choices;
use vidc::passes::manager::Debugging;
use vidc::plan::{Placed, emit};

use self::mutate::Mutator;
use crate::source::{files_below, root};

/// Mutants of a plain run.
const PLAIN: u64 = 400;
/// The longest that one mutant may take, in a build without optimisation on a busy machine.
const MOST: Duration = Duration::from_secs(20);

/// How far a mutant came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    NotDecoded,
    NotImported,
    NotOptimized,
    NotEmitted,
    Emitted,
}

/// All steps; weights are placed but not computed.
fn through(bytes: &[u8], bindings: &Bindings, machine: &Machine) -> Reached {
    let Ok(model) = onnx::decode(bytes.to_vec().into()) else { return Reached::NotDecoded };
    let Ok(imported) = import(&model, Path::new("/nonexistent"), bindings) else { return Reached::NotImported };
    let mut reached = Reached::NotOptimized;
    for level in [Level::None, Level::Basic, Level::Full] {
        let Ok(compiled) = optimize(&imported, machine, &Choices::default(), level, &Debugging::default()) else { continue };
        let verified = verify(&compiled.graph).unwrap_or_else(|d| panic!("the passes broke the graph: {d}"));
        let mut place = |_: &vidc::weights::WeightExpr| Ok(Placed::External { location: "w".into(), offset: 0, len: 0 });
        let emitted = emit(verified, &imported.style, &mut place).is_ok();
        reached = reached.max(if emitted { Reached::Emitted } else { Reached::NotEmitted });
    }
    reached
}

/// The models of the stored backend tests: the first part of each packed file.
fn seeds() -> Vec<ModelProto> {
    let model = |file: &PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        let line = bytes.iter().position(|b| *b == b'\n').unwrap();
        let head: serde_json::Value = serde_json::from_slice(&bytes[..line]).unwrap();
        let len = usize::try_from(head["parts"][0][1].as_u64().unwrap()).unwrap();
        onnx::decode(bytes[line + 1..][..len].to_vec().into()).unwrap()
    };
    files_below(&root().join("tests/data/onnx_backend"), ".test").iter().map(model).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// One line of a panic without its numbers, so that equal ones count once.
fn kind(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    let line = text.and_then(|t| t.lines().next()).unwrap_or("without words");
    line.chars().filter(|c| !c.is_ascii_digit()).take(120).collect()
}

#[test]
fn mutated_models_give_a_graph_or_a_diagnostic() {
    let seconds = number("VIDC_FUZZ_SECONDS");
    let seed = number("VIDC_FUZZ_SEED").unwrap_or(1);
    let machine = hwdb::machine("cpu-avx2").unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut mutator = Mutator::new(seeds(), seed);
    let (mut counts, mut found) = (BTreeMap::<Reached, u64>::new(), BTreeMap::<String, PathBuf>::new());
    let (start, mut done, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while seconds.map_or(done < PLAIN, |s| start.elapsed().as_secs() < s) {
        let (bytes, bindings) = mutator.next();
        if seconds.is_some() {
            // A stack or memory that runs out ends the process: this is what it was reading.
            std::fs::write(folder.join(format!("fuzz-{seed}-now.onnx")), &bytes).unwrap();
        }
        let before = Instant::now();
        let failure = match catch_unwind(AssertUnwindSafe(|| through(&bytes, &bindings, &machine))) {
            Ok(reached) => {
                *counts.entry(reached).or_default() += 1;
                (before.elapsed() > MOST).then(|| "slow".to_owned())
            }
            Err(payload) => Some(kind(&*payload)),
        };
        slowest = slowest.max(before.elapsed());
        if let Some(failure) = failure
            && !found.contains_key(&failure)
        {
            let path = folder.join(format!("fuzz-{seed}-{done}.onnx"));
            std::fs::write(&path, &bytes).unwrap();
            eprintln!("{failure}: {} with {bindings:?}", path.display());
            found.insert(failure, path);
        }
        done += 1;
    }
    eprintln!("{done} mutants in {:.0} s, the slowest {:.1} s: {counts:?}", start.elapsed().as_secs_f64(), slowest.as_secs_f64());
    assert!(found.is_empty(), "{found:#?}");
    assert!(counts.get(&Reached::Emitted).is_some_and(|n| *n * 20 > done), "nearly nothing gets through, so little is tested: {counts:?}");
}
