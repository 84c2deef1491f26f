//! Answers that a user gives for a model: its knobs begin with the name of its graph, which few people know.

use std::path::Path;

use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::import::onnx::ImportedModel;
use crate::passes::manager::is_bound;
use crate::passes::{Choices, Knob, PassRecord, Status, offered_knobs};

/// The knobs of a model on a device; none while sizes are open.
///
/// # Errors
/// What a pass returns.
pub fn knobs(model: &ImportedModel, machine: &Machine) -> Result<Vec<Knob>> {
    if is_bound(&model.graph) { offered_knobs(&model.graph, machine) } else { Ok(Vec::new()) }
}

/// The answers `given` for the model in `path`, checked. A knob may begin with the name of the file, without its extension, in place
/// of the name of the graph.
///
/// # Errors
/// `tune/unknown-knob`, `tune/not-in-domain`, `tune/given-twice`; `tune/open-dims` if there are answers and sizes are open.
pub fn answers(model: &ImportedModel, path: &Path, machine: &Machine, given: &Choices) -> Result<Choices> {
    if given.0.is_empty() {
        return Ok(Choices::default());
    }
    if !is_bound(&model.graph) {
        let open = model.open_dims();
        let (open, help) = if open.is_empty() {
            ("sizes that are known at run time only".to_owned(), "leave --choose out: this model has no such answer".to_owned())
        } else {
            let bind: Vec<String> = open.iter().map(|name| format!("--dim {name}=N")).collect();
            (open.join(", "), format!("bind them with {}, or leave --choose out", bind.join(" ")))
        };
        let names: Vec<&str> = given.0.keys().map(crate::passes::KnobId::as_str).collect();
        let message = format!("`{}` cannot be answered while the model leaves sizes open: {open}", names.join("`, `"));
        return Err(Diagnostic::new("tune/open-dims", message).help(help).into());
    }
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let knobs = knobs(model, machine)?;
    let mut answers = Choices::default();
    for (id, answer) in &given.0 {
        let own = named_as_graph(id, &stem, &model.graph.name, &knobs);
        if answers.get(&own).is_some_and(|other| other != answer) {
            let d = Diagnostic::new("tune/given-twice", format!("the knob `{own}` is given two answers, `{answer}` under the name `{id}`"));
            return Err(d.help("leave one of them out").into());
        }
        answers.set(own, answer);
    }
    answers.check(&knobs)?;
    Ok(answers)
}

/// The name of a knob with that of the graph in front.
fn named_as_graph(id: &str, stem: &str, graph: &str, knobs: &[Knob]) -> String {
    let is_known = knobs.iter().any(|k| k.id == id);
    match id.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.')) {
        Some(rest) if !is_known && !stem.is_empty() => format!("{graph}.{rest}"),
        _ => id.to_owned(),
    }
}

/// The passes that did not run because sizes are open, in their order.
pub fn left_out(records: &[PassRecord]) -> Vec<&'static str> {
    let mut ids: Vec<&str> = Vec::new();
    for record in records.iter().filter(|r| r.status == Status::Skipped) {
        if !ids.contains(&record.id) {
            ids.push(record.id);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::onnx::import;
    use crate::onnx::build::{model, node, value_info};
    use crate::onnx::proto::GraphProto;

    fn imported(dims: &[(&str, i64)]) -> ImportedModel {
        let float = |name: &str| value_info(name, 1, &["n".into(), 4.into()]);
        let graph = GraphProto {
            name: "main.graph".into(),
            node: vec![node("Exp", "exp", &["x"], &["y"])],
            input: vec![float("x")],
            output: vec![float("y")],
            ..Default::default()
        };
        let dims = dims.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        import(&model(graph, 17), Path::new("."), &dims).expect("a sound model")
    }

    fn ask(dims: &[(&str, i64)], given: &[(&str, &str)]) -> std::result::Result<Choices, &'static str> {
        let mut choices = Choices::default();
        given.iter().for_each(|(id, answer)| choices.set(*id, *answer));
        let machine = crate::hwdb::machine("rtx3090").expect("an embedded profile");
        answers(&imported(dims), Path::new("dir/my.unet.onnx"), &machine, &choices).map_err(|d| d.code)
    }

    #[test]
    fn a_knob_goes_by_the_name_of_the_graph_or_of_the_file() {
        let bound = [("n", 2)];
        let mut want = Choices::default();
        want.set("main.graph.precision", "f16");
        for id in ["main.graph.precision", "my.unet.precision"] {
            assert_eq!(ask(&bound, &[(id, "f16")]), Ok(want.clone()), "{id}");
            assert_eq!(ask(&bound, &[(id, "f17")]), Err("tune/not-in-domain"), "{id}");
        }
        assert_eq!(ask(&bound, &[("my.unet.precison", "f16")]), Err("tune/unknown-knob"));
        assert_eq!(ask(&bound, &[("precision", "f16")]), Err("tune/unknown-knob"));
        assert_eq!(ask(&bound, &[("main.graph.precision", "f16"), ("my.unet.precision", "f32")]), Err("tune/given-twice"));
    }

    #[test]
    fn open_sizes_leave_nothing_to_answer() {
        assert_eq!(ask(&[], &[("main.graph.precision", "f16")]), Err("tune/open-dims"));
        assert_eq!(ask(&[], &[]), Ok(Choices::default()));
    }
}
