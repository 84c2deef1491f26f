//! The canonical text of a pipeline, its fingerprint, and a drawing.
//!
//! ```text
//! graph svd-tiny(image: picture) -> video: f32[batch=1, frames=4, 3, height=128, width=128]
//!   %image = input {fit=[128, 128]} : picture                                         graphs/svd-tiny.yaml:81:3
//!   %latents = loop denoise(latents=%latents_init, …) {steps=3} : f32[…]
//!     %scaled = scale_model_input(%latents, %sigma) : f32[…]
//!     yield %latents
//!   %noise = branch reuse(%change; capture %cached) {below=0.1} : f32[…]
//!     then
//!       %kept = argument 1 : f32[…]
//!       yield %kept
//!     else
//!       …
//!   return video=%frames {fps=7.0}
//! ```
//! `Display` leaves the places out; it is what the fingerprint hashes.

use std::fmt::{self, Write as _};

use sha2::{Digest, Sha256};

use super::{Axis, Call, Loop, PipeGraph, PipeId, PipeNode, PipeOp, Pipeline, Prim, ValueId, ValueType};

/// Column where places begin, if the line is not longer.
const PLACE_COLUMN: usize = 100;

impl Pipeline {
    /// The canonical text with the YAML position of each node.
    pub fn text_with_places(&self) -> String {
        self.render(Shown { places: true, placement: true })
    }

    /// A hash of everything that decides what the pipeline computes: nodes, types, parameters, models with their configurations. It
    /// does not depend on places, comments or layout of the YAML.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        field("vidc pipeline 1");
        field(&self.render(Shown { places: false, placement: false }));
        for (name, value) in &self.params {
            field(name);
            field(&value.to_string());
        }
        for (name, model) in &self.models {
            field(name);
            field(&model.decl.architecture.value);
            field(&model.component);
            field(&model.decl.config.0.to_json().to_string());
        }
        hash.finalize().into()
    }

    /// The pipeline as a Graphviz graph; a loop is a box around its body, a branch has a box around each arm.
    pub fn to_dot(&self) -> String {
        let mut out = format!("digraph {:?} {{\n  rankdir=TB; node [shape=box, fontname=\"monospace\", fontsize=10];\n", self.name);
        dot_graph(&self.graph, "n", &mut out);
        for (output, result) in self.outputs.iter().zip(&self.graph.results) {
            let _ = writeln!(out, "  {:?} [shape=ellipse];\n  n{} -> {:?};", output.name, result.node.0.index(), output.name);
        }
        out.push_str("}\n");
        out
    }

    fn render(&self, shown: Shown) -> String {
        let inputs: Vec<String> =
            self.inputs.iter().map(|id| format!("{}: {}", self.graph.node(*id).name, types(self.graph.node(*id)))).collect();
        let outputs: Vec<String> = self.outputs.iter().zip(&self.graph.results).map(|(o, v)| self.output(&o.name, *v)).collect();
        let mut out = format!("graph {}({}) -> {}\n", self.name, inputs.join(", "), outputs.join(", "));
        render_graph(&self.graph, 2, shown, &mut out);
        let returns: Vec<String> = self
            .outputs
            .iter()
            .zip(&self.graph.results)
            .map(|(o, v)| format!("{}=%{} {{fps={:?}}}", o.name, self.graph.value_name(*v), o.fps))
            .collect();
        let _ = writeln!(out, "  return {}", returns.join(", "));
        out
    }

    fn output(&self, name: &str, value: ValueId) -> String {
        self.graph.value_type(value).map_or_else(|| name.to_owned(), |t| format!("{name}: {t}"))
    }
}

/// Lines before and behind the one that an excerpt is about.
const CONTEXT: usize = 2;

impl PipeGraph {
    /// The lines around a node, with what is wrong beneath its own. For broken graphs too: nodes stand in the order in which they were
    /// added.
    pub(super) fn excerpt(&self, at: PipeId, wrong: &str) -> String {
        let ids: Vec<PipeId> = self.ids().collect();
        let place = ids.iter().position(|id| *id == at).unwrap_or(0);
        let shown = &ids[place.saturating_sub(CONTEXT)..ids.len().min(place + CONTEXT + 1)];
        let mut out = String::new();
        for id in shown {
            let _ = writeln!(out, "{}", render_node(self, *id, Shown { places: false, placement: true }));
            if *id == at {
                let _ = writeln!(out, "^ {wrong}");
            }
        }
        out
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Shown { places: false, placement: true }))
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.size),
            None => write!(f, "{}", self.size),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor { dtype, axes } => write!(f, "{dtype}[{}]", axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            Self::Picture { size: None } => f.write_str("picture"),
            Self::Picture { size: Some((height, width)) } => write!(f, "picture[height={height}, width={width}]"),
        }
    }
}

fn types(node: &PipeNode) -> String {
    node.outputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a text says beside the values.
#[derive(Clone, Copy)]
struct Shown {
    /// Where each node is written.
    places: bool,
    /// What runs the calls.
    placement: bool,
}

fn render_graph(graph: &PipeGraph, indent: usize, shown: Shown, out: &mut String) {
    let moves = |id: &PipeId| matches!(graph.node(*id).op, PipeOp::Load(_) | PipeOp::Unload(_));
    for id in graph.order().into_iter().filter(|id| shown.placement || !moves(id)) {
        let node = graph.node(id);
        let line = format!("{:indent$}{}", "", render_node(graph, id, shown));
        match node.span.as_ref().filter(|_| shown.places) {
            Some(span) => {
                let _ = writeln!(out, "{line:PLACE_COLUMN$} {span}");
            }
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
        match &node.op {
            PipeOp::Loop(l) => render_body(&l.body, indent + 2, shown, out),
            PipeOp::Branch(b) => {
                for (word, arm) in ["then", "else"].into_iter().zip(b.arms()) {
                    let _ = writeln!(out, "{:1$}{word}", "", indent + 2);
                    render_body(arm, indent + 4, shown, out);
                }
            }
            _ => {}
        }
    }
}

/// A graph inside of a node, and what comes out of it.
fn render_body(body: &PipeGraph, indent: usize, shown: Shown, out: &mut String) {
    render_graph(body, indent, shown, out);
    let results: Vec<String> = body.results.iter().map(|v| format!("%{}", body.value_name(*v))).collect();
    let _ = writeln!(out, "{:indent$}yield {}", "", results.join(", "));
}

fn render_node(graph: &PipeGraph, id: PipeId, shown: Shown) -> String {
    let node = graph.node(id);
    let names: Vec<String> = (0..node.outputs.len()).map(|slot| format!("%{}", node.value_name(slot))).collect();
    let inputs: Vec<String> = graph.inputs(id).into_iter().map(|v| format!("%{}", graph.value_name(v))).collect();
    let what = match &node.op {
        PipeOp::Input { fit: (height, width) } => format!("input {{fit=[{height}, {width}]}}"),
        PipeOp::Argument { index } => format!("argument {index}"),
        PipeOp::Prim(prim) => format!("{}({}){}", prim.word(), inputs.join(", "), attributes(prim)),
        PipeOp::Call(call) => render_call(call, &inputs, shown),
        PipeOp::Load(session) | PipeOp::Unload(session) => return format!("{} {session}", node.op.word()),
        PipeOp::Loop(l) => format!("loop {}({}) {{steps={}}}", node.name, loop_inputs(l, &inputs), l.steps),
        PipeOp::Branch(b) => format!("branch {}({}) {{below={:?}}}", node.name, branch_inputs(&inputs), b.below),
    };
    format!("{} = {what} : {}", names.join(", "), types(node))
}

fn render_call(call: &Call, inputs: &[String], shown: Shown) -> String {
    let given: Vec<String> = call.ports.iter().zip(inputs).map(|(port, value)| format!("{port}={value}")).collect();
    let placed = call.placement.as_ref().filter(|_| shown.placement).map_or_else(String::new, |p| {
        let pieces = if p.pieces == 1 { String::new() } else { format!(", pieces={}", p.pieces) };
        format!(" {{session={}, device={}{pieces}}}", p.session, p.device)
    });
    format!("call {}({}){placed}", call.model, given.join(", "))
}

fn loop_inputs(l: &Loop, inputs: &[String]) -> String {
    let mut values = inputs.iter();
    let mut group = |names: &[String]| names.iter().zip(values.by_ref()).map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(", ");
    let (carry, each) = (group(&l.carry), group(&l.each));
    // A capture has the name that it has outside.
    let captures: Vec<String> = l.captures.iter().map(|n| format!("%{n}")).collect();
    [("", carry), ("each ", each), ("capture ", captures.join(", "))]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(word, list)| format!("{word}{list}"))
        .collect::<Vec<_>>()
        .join("; ")
}

fn branch_inputs(inputs: &[String]) -> String {
    match inputs {
        [decides, captures @ ..] if !captures.is_empty() => format!("{decides}; capture {}", captures.join(", ")),
        _ => inputs.join(", "),
    }
}

/// ` {key=value, …}` of the fields of a primitive; a shape is left out, the type says it.
fn attributes(prim: &Prim) -> String {
    let json = serde_json::to_value(prim).unwrap_or_default();
    let fields = json.as_object().and_then(|o| o.values().next()).and_then(|v| v.as_object()).cloned().unwrap_or_default();
    let texts: Vec<String> =
        fields.iter().filter(|(key, _)| *key != "shape").map(|(key, value)| format!("{key}={}", attribute(value))).collect();
    if texts.is_empty() { String::new() } else { format!(" {{{}}}", texts.join(", ")) }
}

fn attribute(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => format!("[{}]", items.iter().map(attribute).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn dot_graph(graph: &PipeGraph, prefix: &str, out: &mut String) {
    for id in graph.order() {
        let (node, n) = (graph.node(id), id.0.index());
        let _ = writeln!(out, "  {prefix}{n} [label={:?}];", format!("{}\n{}\n{}", node.name, dot_word(node), types(node)));
        for value in graph.inputs(id) {
            let _ = writeln!(out, "  {prefix}{} -> {prefix}{n};", value.node.0.index());
        }
        for (i, (label, body)) in dot_boxes(node).into_iter().enumerate() {
            // A letter for each box: a branch has two, whose nodes have the same numbers.
            let inner = format!("{prefix}{n}{}", if i == 0 { "_" } else { "e_" });
            let _ = writeln!(out, "  subgraph cluster_{inner} {{\n  label={label:?};");
            dot_graph(body, &inner, out);
            out.push_str("  }\n");
            for result in &body.results {
                let _ = writeln!(out, "  {inner}{} -> {prefix}{n} [style=dashed];", result.node.0.index());
            }
        }
    }
}

fn dot_boxes(node: &PipeNode) -> Vec<(String, &PipeGraph)> {
    match &node.op {
        PipeOp::Loop(l) => vec![(format!("{} x {}", node.name, l.steps), &l.body)],
        PipeOp::Branch(b) => {
            vec![(format!("{} if below {:?}", node.name, b.below), &b.then), (format!("{} else", node.name), &b.otherwise)]
        }
        _ => Vec::new(),
    }
}

fn dot_word(node: &PipeNode) -> String {
    match &node.op {
        PipeOp::Call(call) => format!("call {}", call.model),
        op => op.word().to_owned(),
    }
}
