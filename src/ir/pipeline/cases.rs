//! Bad graphs and what is said about them: `tests/cases/{spec,graph}/*.yaml`.
//!
//! The expectation stands beside the mistake: `# error: CODE` on a line means that a diagnostic with that code has its primary
//! place on that line, and `# help: TEXT` after it that its help contains the text; several pairs may stand on one line. The set of
//! diagnostics must be the set of expectations. The first line says what is run: `# run: check` and any `NAME=VALUE` to set. The whole
//! text of the diagnostics is kept in a snapshot beside the case.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{resolve, tests};
use crate::diag::{Diagnostic, Diagnostics};

fn folder(area: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(area)
}

fn cases(area: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder(area)).expect("the folder of cases exists").map(|f| f.expect("listable").path());
    let mut files: Vec<PathBuf> = files.filter(|f| f.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

/// What `vidc check` would find.
fn check(name: &str, text: &str) -> Diagnostics {
    let run = text.lines().next().and_then(|l| l.strip_prefix("# run: check")).expect("a case begins with `# run: check`");
    let set = run.split(" #").next().unwrap_or_default();
    let pairs = set.split_whitespace().map(|p| p.split_once('=').expect("NAME=VALUE"));
    let set: Vec<(String, String)> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    match tests::read(name, text) {
        (Some(spec), found) if found.0.is_empty() => resolve(&spec, &set, &tests::signatures).map(|_| ()).err().unwrap_or_default(),
        (_, found) => found,
    }
}

fn line(d: &Diagnostic) -> usize {
    d.labels.first().map_or(1, |l| l.span.line_column().0)
}

/// (line, code, what the help contains) of each `# error:` comment.
fn expectations(text: &str) -> Vec<(usize, String, Option<String>)> {
    let mut all = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for error in line.split("# error: ").skip(1) {
            let (code, help) = error.split_once("# help: ").map_or((error, None), |(c, h)| (c, Some(h.trim().to_owned())));
            all.push((i + 1, code.trim().to_owned(), help));
        }
    }
    all
}

fn render(found: &Diagnostics) -> String {
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
    out
}

fn run(area: &str) -> usize {
    let files = cases(area);
    let mut wrong = String::new();
    for file in &files {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).expect("readable");
        let found = check(&name, &text);
        let expected = expectations(&text);
        let mut want: Vec<(usize, &str)> = expected.iter().map(|(l, c, _)| (*l, c.as_str())).collect();
        let mut have: Vec<(usize, &str)> = found.0.iter().map(|d| (line(d), d.code)).collect();
        want.sort_unstable();
        have.sort_unstable();
        let helped = |(at, code, help): &(usize, String, Option<String>)| {
            let fits = |d: &&Diagnostic| line(d) == *at && d.code == code;
            help.as_ref().is_none_or(|h| found.0.iter().filter(fits).any(|d| d.help.as_ref().is_some_and(|have| have.contains(h))))
        };
        if want.is_empty() || want != have || !expected.iter().all(helped) {
            let _ = writeln!(wrong, "== {name}\nexpected {want:?}\n{}", render(&found));
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder(area).join("snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(file.file_stem().expect("a file").to_string_lossy().into_owned(), render(&found)));
    }
    assert!(wrong.is_empty(), "{wrong}");
    files.len()
}

#[test]
fn bad_texts_are_explained() {
    assert!(run("spec") >= 15);
}

#[test]
fn bad_graphs_are_explained() {
    assert!(run("graph") >= 30);
}
