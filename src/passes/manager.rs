//! The pass manager: runs the order over one model and holds every pass to its word.
//!
//! After each pass it verifies the graph, compares the interface, and compares the text with the remarks: a pass that changed
//! the graph without a remark, or remarks without a change, fails the compile. [`Checks::Traced`] leaves the comparisons out,
//! [`Checks::Fast`] the remarks too; the search
//! uses it for graphs that it will compile again with [`Checks::Full`] before anything is shown.

use std::time::Instant;

use super::trace::{PassRecord, Status, Trace};
use super::{Choices, Knob, Pass, PassCx, Property, Rewriter, pipeline};
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::{DType, OpGraph, TensorType, text, verify};

/// How closely passes are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Verify, compare interface and text after every pass.
    Full,
    /// Verify once at the end; remarks are kept. For models of others, whose text is too long to be compared after every pass.
    Traced,
    /// Verify once at the end; no remarks, and new nodes have no names.
    Fast,
}

/// Where to stop and what to leave out; for `explain` and for finding a wrong pass.
#[derive(Clone, Debug, Default)]
pub struct Debugging {
    /// Stop after the last pass of this name.
    pub stop_after: Option<String>,
    /// Passes to leave out.
    pub disable: Vec<String>,
}

/// A model after the passes.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Provider operators in their order.
    pub graph: OpGraph,
    /// What happened.
    pub trace: Trace,
}

/// Runs all passes over a bound graph.
///
/// # Errors
/// What a pass returns, or `pass/misreported` and `pass/order` if a pass or the order is wrong.
pub fn compile(graph: &OpGraph, machine: &Machine, choices: &Choices, checks: Checks, debugging: &Debugging) -> Result<Compiled> {
    run_passes(&pipeline(), graph, machine, choices, checks, debugging)
}

/// Does every tensor that vidc computes with have a size?
pub fn is_bound(graph: &OpGraph) -> bool {
    graph.nodes().into_iter().all(|id| graph.node(id).outs.iter().all(|t| t.dtype == DType::Opaque || t.dims().is_some()))
}

/// Runs these passes in this order; see [`compile`]. Over a graph with symbolic dims, those that need sizes are left out.
///
/// # Errors
/// As [`compile`].
pub fn run_passes(
    passes: &[Box<dyn Pass>],
    graph: &OpGraph,
    machine: &Machine,
    choices: &Choices,
    checks: Checks,
    debugging: &Debugging,
) -> Result<Compiled> {
    let cx = PassCx { machine, choices };
    let mut out = Compiled { graph: graph.clone(), trace: Trace::default() };
    let bound = is_bound(graph);
    let mut established = if bound { vec![Property::Bound] } else { Vec::new() };
    for (i, pass) in passes.iter().enumerate() {
        let info = pass.info();
        if debugging.disable.iter().any(|d| d == info.id) {
            out.trace.records.push(record(&**pass, &out.graph, Status::Disabled));
            established.extend(info.establishes);
            continue;
        }
        if !bound && info.requires.contains(&Property::Bound) {
            out.trace.records.push(record(&**pass, &out.graph, Status::Skipped));
            established.extend(info.establishes);
            continue;
        }
        if let Some(missing) = info.requires.iter().find(|r| !established.contains(r)) {
            return Err(Box::new(Diagnostic::new(
                "pass/order",
                format!("`{}` needs {missing:?}, which no earlier pass establishes", info.id),
            )));
        }
        step(&**pass, &mut out, &cx, checks)?;
        established.extend(info.establishes);
        let last = passes[i + 1..].iter().all(|later| later.info().id != info.id);
        if last && debugging.stop_after.as_deref() == Some(info.id) {
            return Ok(out);
        }
    }
    verify(&out.graph)?;
    Ok(out)
}

fn record(pass: &dyn Pass, graph: &OpGraph, status: Status) -> PassRecord {
    PassRecord {
        id: pass.info().id,
        unit: graph.name.clone(),
        status,
        nodes_before: graph.len(),
        nodes_after: graph.len(),
        remarks: Vec::new(),
        elapsed: std::time::Duration::ZERO,
    }
}

fn step(pass: &dyn Pass, out: &mut Compiled, cx: &PassCx<'_>, checks: Checks) -> Result<()> {
    let mut entry = record(pass, &out.graph, Status::Unchanged);
    let before = (checks == Checks::Full).then(|| (text::canonical(&out.graph), interface(&out.graph)));
    let start = Instant::now();
    let unit = out.graph.name.clone();
    let mut rw = match checks {
        Checks::Full | Checks::Traced => Rewriter::new(&unit, &mut out.graph),
        Checks::Fast => Rewriter::silent(&unit, &mut out.graph),
    };
    pass.run(&mut rw, cx).map_err(|d| Box::new(d.note(format!("in the pass `{}` over `{unit}`", entry.id))))?;
    entry.remarks = rw.finish();
    entry.elapsed = start.elapsed();
    entry.nodes_after = out.graph.len();
    if entry.remarks.iter().any(|r| r.applied) {
        entry.status = Status::Changed;
    }
    if let Some((text, interface_before)) = before {
        hold_to_word(pass, out, &entry, &text, &interface_before)?;
    }
    out.trace.records.push(entry);
    Ok(())
}

fn hold_to_word(
    pass: &dyn Pass,
    out: &Compiled,
    entry: &PassRecord,
    text_before: &str,
    interface_before: &[(String, TensorType)],
) -> Result<()> {
    verify(&out.graph).map_err(|d| Box::new(d.note(format!("after the pass `{}`", pass.info().id))))?;
    // The text leaves out constants that nobody reads.
    let changed = entry.nodes_after != entry.nodes_before || text::canonical(&out.graph) != text_before;
    if changed != (entry.status == Status::Changed) {
        let says = if changed { "changed the graph and says it did not" } else { "says it changed the graph and did not" };
        return Err(Box::new(Diagnostic::new("pass/misreported", format!("the pass `{}` {says}", pass.info().id))));
    }
    if interface(&out.graph) != interface_before {
        return Err(Box::new(Diagnostic::new(
            "pass/interface",
            format!("the pass `{}` changed the inputs or outputs of `{}`", pass.info().id, entry.unit),
        )));
    }
    Ok(())
}

fn interface(graph: &OpGraph) -> Vec<(String, TensorType)> {
    let inputs = graph.inputs().iter().map(|i| (graph.node(*i).name.clone(), graph.node(*i).outs[0].clone()));
    inputs.chain(graph.outputs().iter().map(|(n, o)| (n.clone(), graph.ty(*o).clone()))).collect()
}

/// The last pass that answers a global knob; what runs up to it does not depend on segment knobs.
const HEAD_ENDS: &str = "assign-precision";

/// The graph after the passes that no segment knob concerns: what compiles that differ in segment answers alone have in common.
///
/// # Errors
/// As [`compile`].
pub fn head(graph: &OpGraph, machine: &Machine, globals: &Choices) -> Result<OpGraph> {
    let debugging = Debugging { stop_after: Some(HEAD_ENDS.into()), ..Debugging::default() };
    compile(graph, machine, globals, Checks::Fast, &debugging).map(|c| c.graph)
}

/// The rest of the passes over a [`head`] made with the same global answers; the graph is that of [`compile`].
///
/// # Errors
/// As [`compile`].
pub fn tail(head: &OpGraph, machine: &Machine, choices: &Choices) -> Result<OpGraph> {
    let cx = PassCx { machine, choices };
    let mut out = Compiled { graph: head.clone(), trace: Trace::default() };
    for pass in pipeline().iter().skip_while(|p| p.info().id != HEAD_ENDS).skip(1) {
        step(&**pass, &mut out, &cx, Checks::Fast)?;
    }
    Ok(out.graph)
}

/// The knobs that the passes offer for a bound graph: each pass sees what the passes before it leave with plain answers, so
/// that sites which fold away offer nothing.
///
/// # Errors
/// What a pass returns.
pub fn offered_knobs(graph: &OpGraph, machine: &Machine) -> Result<Vec<Knob>> {
    let choices = Choices::default();
    let cx = PassCx { machine, choices: &choices };
    let mut out = Compiled { graph: graph.clone(), trace: Trace::default() };
    let mut knobs = Vec::new();
    for pass in pipeline() {
        for knob in pass.knobs(&out.graph, machine) {
            if knob.domain.len() + knob.on_request.len() > 1 && knobs.iter().all(|k: &Knob| k.id != knob.id) {
                knobs.push(knob);
            }
        }
        step(&*pass, &mut out, &cx, Checks::Fast)?;
    }
    Ok(knobs)
}
