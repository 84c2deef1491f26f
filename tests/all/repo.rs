//! The rules of the house that a reader would otherwise have to watch over: sizes, documentation, tables and generated files.

use std::collections::BTreeSet;
use std::fmt::Write;

use vidc::diag::codes;
use vidc::hwdb::{self, Database, Machine};
use vidc::ir::Program;
use vidc::passes::manager::Debugging;
use vidc::passes::{self, Answer, Choices, Knob, Leveled, PassInfo, Planned, QualityLoss};
use vidc::tuner::space::{Space, Wanted};

use crate::reference::load;
use crate::source::{files_below, functions, literals, root, sources};

/// The longest function, in lines.
const FUNCTION: usize = 120;
/// The longest file, in lines that are no tests.
const FILE: usize = 1000;

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for file in sources() {
        for f in functions(&file) {
            let lines = f.last - f.first + 1;
            if lines > FUNCTION {
                wrong.push(format!("{}:{}: `{}` has {lines} lines, at most {FUNCTION}", file.path, f.first, f.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    // Blanked test items leave empty lines, blanked comments too; only comment lines are lines of the file all the same.
    let lines = |text: &str, code: &str| {
        text.lines().zip(code.lines()).filter(|(t, c)| t.trim_start().starts_with("//") || !c.trim().is_empty()).count()
    };
    for file in sources().iter().filter(|f| !f.is_test) {
        let lines = lines(&file.text, &file.code);
        assert!(lines <= FILE, "{} has {lines} lines, at most {FILE}", file.path);
    }
}

#[test]
fn every_module_says_what_it_is() {
    for folder in ["src", "tests", "benches"] {
        for path in files_below(&root().join(folder), ".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.trim_start().starts_with("//!"), "{} does not begin with a `//!` doc", path.display());
        }
    }
}

/// Files that write, each with what it writes. Whatever is written for the user goes through `files::output` first.
const WRITERS: &[(&str, &str)] = &[
    ("src/files.rs", "temporary files that take a name when they are whole"),
    ("src/files/output.rs", "decides for all others"),
    ("src/media/npy.rs", "one array, for callers that asked `files::output`"),
    ("src/media/video.rs", "one video, for callers that asked `files::output`"),
    ("src/onnx/writer.rs", "one model, for callers that asked `files::output`"),
    ("src/optimize/cache.rs", "times of sites, in the cache of this user"),
    ("src/optimize/plan_memory.rs", "a word to the system, in `/proc`"),
    ("src/optimize/probe/profile.rs", "the profile of this machine, for `hw probe`, which asked `files::output`"),
    ("src/optimize/write.rs", "model and weights, after `files::output`"),
    ("src/plan/folder.rs", "decides for folders of plans"),
    ("src/plan/mod.rs", "a plan, into a temporary folder"),
    ("src/plan/store.rs", "derived weights, into a temporary folder or file"),
    ("src/runtime/progress.rs", "saved progress, of which `run` asked `files::output`"),
    ("src/runtime/provision/pip.rs", "what pip says, in a temporary folder"),
    ("src/runtime/provision/store.rs", "published libraries, in the cache of this user"),
    ("src/runtime/report.rs", "a run report, of which `run` asked `files::output`"),
    ("src/runtime/session/weights.rs", "placeholders in a temporary folder"),
    ("src/tuner/record.rs", "the folder of a record, before `files::output`"),
    ("src/bin/vidc/bench/scenarios.rs", "footage, into a new or empty folder"),
    ("src/bin/vidc/cache.rs", "removes plans from the cache of this user"),
    ("src/bin/vidc/common/libraries.rs", "which providers were checked, in the cache of this user"),
    ("src/bin/vidc/explain.rs", "the folder of `--dump-dir`, before `files::output`"),
    ("src/bin/vidc/hw/probe.rs", "the folder of this user's profiles, before `files::output`"),
    ("src/bin/vidc/run/prepare.rs", "removes a broken plan from the cache of this user"),
    ("src/bin/vidc/run/write.rs", "removes saved progress, of which `run` asked `files::output`"),
];

#[test]
fn only_a_few_files_write() {
    let calls = [
        "fs::write(",
        "File::create",
        "fs::rename(",
        "fs::copy(",
        "fs::remove_",
        "fs::create_dir",
        "fs::hard_link(",
        "OpenOptions",
        "write_atomic(",
    ];
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources().iter().filter(|f| !f.is_test && f.path != "src/import/tiny_folder.rs") {
        if let Some(call) = calls.iter().find(|call| file.bare.contains(**call)) {
            used.insert(file.path.clone());
            if WRITERS.iter().all(|(path, _)| *path != file.path) {
                wrong.push(format!("{}: `{call}…` writes; go through `files::output`, or say why not in `WRITERS`", file.path));
            }
        }
    }
    wrong.extend(WRITERS.iter().filter(|(path, _)| !used.contains(*path)).map(|(path, _)| format!("{path} writes nothing any more")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Every literal `area/slug` of a known area has a row, and every row is used.
#[test]
fn diagnostic_codes_and_their_table_agree() {
    let rows: BTreeSet<&str> = codes::all().map(|c| c.code).collect();
    assert_eq!(rows.len(), codes::all().count(), "a code has two rows");
    let areas: BTreeSet<&str> = rows.iter().filter_map(|c| Some(c.split_once('/')?.0)).collect();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|f| !f.path.starts_with("src/diag/codes/")) {
        for (line, literal) in literals(file) {
            let is_code = literal.split_once('/').is_some_and(|(area, slug)| areas.contains(area) && is_slug(slug));
            if is_code && !rows.contains(literal.as_str()) {
                wrong.push(format!("{}:{line}: the code `{literal}` has no row in src/diag/codes", file.path));
            }
            used.insert(literal);
        }
    }
    wrong.extend(rows.iter().filter(|r| !used.contains(**r)).map(|r| format!("src/diag/codes: nothing makes the code `{r}`")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn is_slug(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The graphs of `graphs/` by name.
fn graphs() -> Vec<(String, Program)> {
    let paths = files_below(&root().join("graphs"), ".yaml");
    let load = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let program = load(&name);
        (name, program)
    };
    paths.iter().map(load).collect()
}

#[test]
fn every_graph_loads_and_binds() {
    for (name, program) in graphs() {
        assert_eq!(program.pipeline.name, name, "a graph is named as its file");
        let sessions = program.sessions();
        sessions.iter().for_each(|site| drop(program.bound(site).unwrap_or_else(|d| panic!("{name}: {d:?}"))));
        assert_eq!(sessions.len(), program.models.len(), "{name}: a model is not called, or called with two sizes");
    }
}

/// A whole compile of the small graph for each provider; one profile of each is enough, the rest differ in figures.
#[test]
fn the_small_graph_compiles_for_every_provider() {
    let program = load("svd-tiny");
    let mut providers = BTreeSet::new();
    for key in Database::new(None).keys() {
        let profile = hwdb::load(&key).unwrap_or_else(|d| panic!("{key}: {d:?}"));
        for target in profile.targets() {
            if providers.insert(target.key) || ["rtx3090", "h100-sxm"].contains(&key.as_str()) {
                let machine = Machine::on(&profile, target);
                passes::compile(&program, &machine, &Choices::default(), &Debugging::default()).unwrap_or_else(|d| panic!("{key}: {d:?}"));
            }
        }
    }
    assert_eq!(providers.len(), vidc::target::ROWS.len(), "a row that fits no profile: {providers:?}");
}

/// `docs/passes.md` is what the passes say about themselves. `VIDC_UPDATE=1` rewrites it.
#[test]
fn the_page_of_passes_is_fresh() {
    let path = root().join("docs/passes.md");
    let want = page_of_passes();
    if std::env::var_os("VIDC_UPDATE").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == want, "docs/passes.md is stale; VIDC_UPDATE=1 cargo test rewrites it");
}

fn page_of_passes() -> String {
    let mut page = String::from(
        "# The passes\n\nGenerated from the code: `VIDC_UPDATE=1 cargo test` rewrites this page.\n\n\
         In the order in which they run (`src/passes/mod.rs` says why in that order): those of the level `pipeline` once over the whole \
         program, then those of the level `operator` over the graph of each session.\n\n\
         | pass | level | what it does | effect | asks about | needs | establishes |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let order = passes::order();
    for pass in &order {
        let level = if matches!(pass, Leveled::Pipeline(_)) { "pipeline" } else { "operator" };
        let PassInfo { id, summary, effect, asks, requires, establishes, .. } = pass.info();
        let asks = asks.map_or_else(|| "–".into(), |scope| word(&scope));
        writeln!(page, "| `{id}` | {level} | {summary} | {} | {asks} | {} | {} |", word(effect), words(requires), words(establishes))
            .unwrap();
    }
    page.push_str(
        "\n## Knobs\n\n\
         What is asked for `graphs/svd-tiny.yaml` on an RTX 3090: of the pipeline, then of each session. The first answer is the plain \
         one. Behind an answer that is not exact stands what it costs alone, decibels PSNR against the reference, and where that figure \
         comes from.\n\n| knob | answers | about | what it asks |\n| --- | --- | --- | --- |\n",
    );
    for Knob { id, scope, answers, about } in knobs_of("svd-tiny", "rtx3090") {
        let answers: Vec<String> = answers.iter().map(answer_text).collect();
        writeln!(page, "| `{id}` | {} | {} | {about} |", answers.join(", "), word(&scope)).unwrap();
    }
    page.push_str("\n## Examples\n\nEach is also a test: what stands before becomes what stands behind.\n");
    let mut shown = BTreeSet::new();
    for info in order.iter().map(Leveled::info).filter(|i| shown.insert(i.id)) {
        writeln!(page, "\n### {}\n\n```text\n{}\n```", info.id, info.example.trim()).unwrap();
    }
    page
}

fn answer_text(a: &Answer) -> String {
    match a.quality {
        QualityLoss::Exact => a.name.clone(),
        QualityLoss::Unmeasured => format!("{} (unmeasured)", a.name),
        QualityLoss::Literature { noise } => format!("{} ({:.0} dB, literature)", a.name, noise.db().unwrap_or(f64::INFINITY)),
        QualityLoss::Measured { noise } => format!("{} ({:.0} dB, measured)", a.name, noise.db().unwrap_or(f64::INFINITY)),
    }
}

/// The knobs of a graph on a device: the pipeline's own and those of each session.
pub(crate) fn knobs_of(graph: &str, key: &str) -> Vec<Knob> {
    let planned = Planned::of(&load(graph), &hwdb::machine(key).unwrap(), &Debugging::default()).unwrap();
    Space::of(&planned, Wanted { fixed: &Choices::default(), unmeasured: true }).unwrap().knobs
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap_or_default().to_owned()
}

fn words<T: serde::Serialize>(values: &[T]) -> String {
    if values.is_empty() { "–".into() } else { values.iter().map(word).collect::<Vec<_>>().join(", ") }
}

#[test]
fn every_tuning_record_is_readable_and_speaks_of_what_there_is() {
    let mut records = 0;
    for graph in std::fs::read_dir(root().join("tuning")).unwrap() {
        let graph = graph.unwrap().path();
        for file in std::fs::read_dir(&graph).unwrap().map(|f| f.unwrap().path()) {
            let record = vidc::tuner::record::TuningRecord::read(&file).unwrap_or_else(|d| panic!("{}: {d}", file.display()));
            assert_eq!(graph.file_name().unwrap(), record.graph.as_str(), "{}", file.display());
            vidc::hwdb::load(&record.hw).unwrap();
            records += 1;
        }
    }
    assert!(records > 0);
}
