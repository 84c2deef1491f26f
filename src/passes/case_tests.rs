//! Cases: an operator graph before and after one pass, as text.
//!
//! Every pass carries one as its example; more lie in `tests/cases/passes/PASS/NAME.txt`. A case is a few lines of steering and
//! two graphs: `choose: KNOB=ANSWER, …`, `hw: KEY` (the CPU of the embedded profiles without it), `remark: RULE × COUNT` and
//! `declined: RULE × COUNT` for what the pass must say, then `before:` and `after:` with a graph each. Behind a node that a knob governs
//! stands ` @KNOB`, so that a pass which loses the knob of a site fails its cases. `after: same` is a graph
//! that stays as it is, `error: CODE` a pass that fails. Nodes whose line names no group are in the group `l`. Every case is run
//! twice, and the second run must change nothing; `interp` computes the same before and after. `VIDC_UPDATE=1` writes what came out into the files; read the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::property_tests::{EXACT, FOLDED, ROUNDED, close, outputs};
use super::*;
use crate::ir::{Op, parse, text, verify};

/// What steers a case, and its graphs.
#[derive(Default)]
struct Case<'a> {
    choices: Choices,
    machine: &'a str,
    before: String,
    after: String,
    /// The lines of steering that are input, as they stand.
    head: String,
    remarks: String,
    error: String,
}

fn read(text: &str) -> Case<'_> {
    let mut case = Case { machine: "x86-cpu-2core", ..Case::default() };
    let mut lines = text.lines().filter(|l| !l.trim().is_empty()).peekable();
    while let Some(line) = lines.next() {
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("`{line}` is no `key: value`"));
        let mut graph = || {
            let mut out = String::new();
            while let Some(l) = lines.next_if(|l| l.starts_with("model ") || l.starts_with(' ')) {
                out += l;
                out.push('\n');
            }
            out
        };
        match key {
            "choose" => value.split(',').map(|c| c.trim().split_once('=').unwrap()).for_each(|(k, v)| case.choices.set(k, v)),
            "hw" => case.machine = value.trim(),
            "before" => case.before = graph(),
            "after" if value.trim() == "same" => case.after.clone_from(&case.before),
            "after" => case.after = graph(),
            "remark" | "declined" => case.remarks += &format!("{line}\n"),
            "error" => case.error = value.trim().into(),
            "why" => {}
            _ => panic!("`{key}` steers nothing"),
        }
        if matches!(key, "choose" | "hw" | "why") {
            case.head += &format!("{line}\n");
        }
    }
    case
}

fn graph_of(text: &str) -> OpGraph {
    let mut graph = parse::parse(text).unwrap_or_else(|d| panic!("{}: {:?}\n{text}", d.message, d.notes));
    for id in graph.nodes() {
        let node = graph.node_mut(id);
        if node.group.is_empty() {
            node.group = "l".into();
        }
    }
    graph
}

fn run(pass: &dyn Pass, graph: &mut OpGraph, case: &Case<'_>) -> Result<Vec<Remark>> {
    let machine = crate::hwdb::machine_of_case(case.machine);
    let name = graph.name.clone();
    let mut rw = Rewriter::new(&name, graph);
    pass.run(&mut rw, &PassCx { machine: &machine, choices: &case.choices, debugging: &Debugging::default() })?;
    Ok(rw.finish())
}

/// `remark: RULE × COUNT` a line, by rule.
fn said(remarks: &[Remark]) -> String {
    let mut counts: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    remarks.iter().for_each(|r| *counts.entry((!r.applied, r.why.rule)).or_default() += 1);
    counts.into_iter().fold(String::new(), |mut s, ((declined, rule), n)| {
        writeln!(s, "{}: {rule} × {n}", if declined { "declined" } else { "remark" }).unwrap();
        s
    })
}

/// An exact pass computes the same in f64, a rounding one nearly the same in the types of its tensors.
fn means_the_same(pass: &dyn Pass, before: &OpGraph, after: &OpGraph) {
    if before.nodes().into_iter().any(|id| matches!(before.node(id).op, Op::Foreign(_))) {
        return; // nobody knows what it computes
    }
    match pass.info().effect {
        // A folded literal is rounded to its type, which f64 would show.
        _ if pass.info().id == "fold-constants" => close(&outputs::<f32>(after), &outputs::<f32>(before), FOLDED, pass.info().id),
        Effect::Exact => close(&outputs::<f64>(after), &outputs::<f64>(before), EXACT, pass.info().id),
        _ => close(&outputs::<f32>(after), &outputs::<f32>(before), ROUNDED, pass.info().id),
    }
}

/// What came of a case: the graph after the pass, what the pass said, and the code of its error.
fn outcome(pass: &dyn Pass, case: &Case<'_>) -> (String, String, String) {
    let mut graph = graph_of(&case.before);
    let knobs = pass.knobs(&graph, &crate::hwdb::machine_of_case(case.machine));
    case.choices.check(&knobs).unwrap_or_else(|d| panic!("{}: {:?}; on offer: {knobs:?}", d.message, d.help));
    let remarks = match run(pass, &mut graph, case) {
        Ok(remarks) => remarks,
        Err(d) => return (text::tagged(&graph), String::new(), d.code.into()),
    };
    verify(&graph).unwrap_or_else(|d| panic!("{:?}\n{}", d.notes, text::canonical(&graph)));
    means_the_same(pass, &graph_of(&case.before), &graph);
    let once = text::tagged(&graph);
    let again = run(pass, &mut graph, case).unwrap();
    assert_eq!(text::tagged(&graph), once, "a second run changes the graph");
    assert_eq!(again.iter().find(|r| r.applied), None, "a second run says that it changed something");
    (once, said(&remarks), String::new())
}

fn passes() -> BTreeMap<&'static str, Box<dyn Pass>> {
    operators().into_iter().map(|p| (p.info().id, p)).collect()
}

#[test]
fn the_example_of_each_pass_is_what_it_does() {
    let wrong = |(id, pass): (&str, Box<dyn Pass>)| {
        let case = read(pass.info().example);
        let (after, _, error) = outcome(&*pass, &case);
        (after != case.after || !error.is_empty()).then(|| format!("the example of `{id}` yields {error}\n{after}"))
    };
    let wrong: Vec<String> = passes().into_iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(pass: &dyn Pass, path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let case = read(&text);
    let (after, remarks, error) = outcome(pass, &case);
    if std::env::var_os("VIDC_UPDATE").is_some() {
        let result = match (error.as_str(), after == case.before) {
            ("", true) => "after: same\n".to_owned(),
            ("", false) => format!("after:\n{after}"),
            (code, _) => format!("error: {code}\n"),
        };
        return std::fs::write(path, format!("{}{remarks}before:\n{}{result}", case.head, case.before)).unwrap();
    }
    let expect = (case.error.as_str(), case.remarks.as_str());
    assert_eq!((error.as_str(), remarks.as_str()), expect, "{}", path.display());
    if error.is_empty() {
        assert_eq!(after, case.after, "{}", path.display());
    }
}

#[test]
fn cases_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/passes");
    for (id, pass) in passes() {
        let files = std::fs::read_dir(folder.join(id)).unwrap_or_else(|e| panic!("the cases of `{id}`: {e}"));
        let files: Vec<_> = files.map(|f| f.unwrap().path()).collect();
        assert!(files.len() >= 5, "`{id}` has {} cases", files.len());
        files.iter().for_each(|f| check(&*pass, f));
    }
}
