//! Tests of the import. What models become stands in `tests/cases/onnx/*.txt`: a small model as text ([`text`]), `---`, and the canonical
//! text of the graph or the code and message of the diagnostic. `VIDC_UPDATE=1 cargo test` rewrites the second part.

mod hostile;
mod text;

use std::fs;
use std::path::Path;

use super::*;
use crate::ir::text::canonical;
use crate::plan::{Placed, emit};
use crate::weights::{WeightExpr, WeightOp};

/// What a case becomes.
fn outcome(model: &ModelProto, dims: &Bindings) -> String {
    match import(model, Path::new("/nonexistent"), dims) {
        Ok(imported) => {
            written_and_read_again(&imported);
            canonical(&imported.graph)
        }
        Err(d) => format!("{}: {}{}\n", d.code, d.message, d.help.map(|h| format!(" ({h})")).unwrap_or_default()),
    }
}

fn literal(expr: &WeightExpr) -> Result<Placed> {
    let WeightOp::Literal(bytes) = expr.op() else { return Err(Diagnostic::new("onnx/shape", "no literal").into()) };
    Ok(Placed::Embedded(bytes.to_vec()))
}

/// Writing keeps what a graph is: the second round gives the text of the first. Graphs with open dims are written with arithmetic that
/// the first did not have, and typed operators may be written as several.
fn written_and_read_again(imported: &ImportedModel) {
    let Ok(model) = emit(verify(&imported.graph).unwrap(), &Style { reversed: false, ..imported.style.clone() }, &mut literal) else {
        return;
    };
    let again = import(&model, Path::new("/nonexistent"), &Bindings::default()).unwrap();
    let interface = |i: &ImportedModel| canonical(&i.graph).lines().next().map(|l| l.split(" = ").next().map(str::to_owned)).unwrap();
    assert_eq!(interface(&again), interface(imported));
    // Results of bodies are named by their place when they are written.
    let foreign_only = imported.graph.nodes().iter().all(|id| match &imported.graph.node(*id).op {
        crate::ir::Op::Foreign(f) => f.bodies.is_empty(),
        op => matches!(op, crate::ir::Op::Input | crate::ir::Op::Weight(_)),
    });
    if foreign_only {
        assert_eq!(canonical(&again.graph), canonical(&imported.graph));
    }
}

/// Runs the cases of a file; a case starts with a line `# what it shows`.
fn check_file(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/onnx").join(name);
    let file = fs::read_to_string(&path).unwrap();
    let mut now = String::new();
    for case in file.split("\n# ").map(|c| c.trim_start_matches("# ")) {
        let (given, _) = case.split_once("\n---").unwrap_or_else(|| panic!("no `---` in {case}"));
        let (title, source) = given.split_once('\n').unwrap();
        let (model, dims) = text::model(source);
        now.push_str(&format!("# {title}\n{source}\n---\n{}\n", outcome(&model, &dims)));
    }
    let now = format!("{}\n", now.trim_end());
    if std::env::var_os("VIDC_UPDATE").is_some() {
        fs::write(&path, &now).unwrap();
    }
    assert_eq!(now, file.replace("\r\n", "\n"), "{name}; VIDC_UPDATE=1 rewrites it");
}

#[test]
fn operators_become_typed() {
    check_file("lift.txt");
}

#[test]
fn shape_arithmetic_becomes_attributes() {
    check_file("shapes.txt");
}

#[test]
fn extents_are_named_or_read_off_tensors() {
    check_file("extents.txt");
}

#[test]
fn bodies_and_functions() {
    check_file("bodies.txt");
}

#[test]
fn older_operator_sets_mean_what_opset_21_means() {
    check_file("upgrade.txt");
}

#[test]
fn what_vidc_does_not_know_passes_through() {
    check_file("foreign.txt");
}

#[test]
fn what_is_wrong_is_said() {
    check_file("refused.txt");
}

/// Written with shapes that inference does not know, a model is read as it was: one `Split` gives them all.
#[test]
fn hidden_shapes_are_seen_through() {
    let (model, dims) = text::model(
        "in x: f32[2, 6]\ninit a: i64[2] = 3 4\ninit b: i64[3] = 2 2 3\nnode Reshape(x, a) -> h\nnode Reshape(x, b) -> z\nnode Exp(h) -> y\nout y\nout z\n",
    );
    let read = import(&model, Path::new("/nonexistent"), &dims).unwrap();
    let style = Style { hides_shapes: true, ..read.style.clone() };
    let written = emit(verify(&read.graph).unwrap(), &style, &mut literal).unwrap();
    let types: Vec<&str> = written.graph.as_ref().unwrap().node.iter().map(|n| n.op_type.as_str()).collect();
    assert_eq!(types.iter().filter(|t| **t == "Split").count(), 1, "{types:?}");
    assert_eq!(types[0], "Split");
    let again = import(&written, Path::new("/nonexistent"), &Bindings::default()).unwrap();
    assert_eq!(canonical(&again.graph), canonical(&read.graph));
}

/// The caller of the written model may replace the value as well.
#[test]
fn an_input_with_a_default_is_written_with_it() {
    let (model, dims) = text::model("in x: f32[2]\nin gain: f32[2]\ninit gain: f32[2] = 1 2\nnode Mul(x, gain) -> y\nout y\n");
    let read = import(&model, Path::new("/nonexistent"), &dims).unwrap();
    let written = emit(verify(&read.graph).unwrap(), &read.style, &mut literal).unwrap();
    let graph = written.graph.as_ref().unwrap();
    assert_eq!(graph.input.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["x", "gain"]);
    assert_eq!(graph.initializer.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["gain"]);
    let again = import(&written, Path::new("/nonexistent"), &Bindings::default()).unwrap();
    assert_eq!(canonical(&again.graph), canonical(&read.graph));
}
