//! The pass manager: runs passes over one unit, a program or the graph of a session, and holds every pass to its word.
//!
//! After each pass it verifies the unit, compares the interface, and compares the text with the remarks: a pass that changed
//! the graph without a remark, or remarks without a change, fails the compile. [`Checks::Traced`] leaves the comparisons out,
//! [`Checks::Fast`] the remarks too; the search
//! uses it for graphs that it will compile again with [`Checks::Full`] before anything is shown.

use std::ops::Range;
use std::time::Instant;

use super::level::IrLevel;
use super::trace::{PassRecord, Status, Trace};
use super::{Choices, Knob, Pass, PassCx, Property, Rewriter, Scope, operators};
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::{DType, OpGraph, verify};

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

impl Checks {
    fn rewriter<'a, L: IrLevel>(self, unit: &'a str, graph: &'a mut L) -> Rewriter<'a, L> {
        if self == Self::Fast { Rewriter::silent(unit, graph) } else { Rewriter::new(unit, graph) }
    }
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

/// Does every tensor that vidc computes with have a size?
pub fn is_bound(graph: &OpGraph) -> bool {
    graph.nodes().into_iter().all(|id| graph.node(id).outs.iter().all(|t| t.dtype == DType::Opaque || t.dims().is_some()))
}

/// Runs passes in this order over one operator graph. Over a graph with symbolic dims, those that need sizes are left out.
///
/// # Errors
/// What a pass returns, or `pass/misreported` and `pass/order` if a pass or the order is wrong.
pub fn run_passes(passes: &[Box<dyn Pass>], graph: &OpGraph, cx: &PassCx<'_>, checks: Checks) -> Result<Compiled> {
    let mut out = Compiled { graph: graph.clone(), trace: Trace::default() };
    let bound = is_bound(graph);
    let established = if bound { vec![Property::Bound] } else { Vec::new() };
    let mut run = Run { sized: bound, ..Run::new(&graph.name, established, cx, checks) };
    for (i, pass) in passes.iter().enumerate() {
        run.pass(&**pass, &mut out.graph)?;
        let id = pass.info().id;
        let last = passes[i + 1..].iter().all(|later| later.info().id != id);
        if last && cx.debugging.stop_after.as_deref() == Some(id) {
            out.trace.records = run.records;
            return Ok(out);
        }
    }
    out.trace.records = run.records;
    verify(&out.graph)?;
    Ok(out)
}

/// Runs all passes over the graph of one model that comes without a pipeline.
///
/// # Errors
/// As [`run_passes`].
pub fn compile_graph(graph: &OpGraph, machine: &Machine, choices: &Choices, checks: Checks, debugging: &Debugging) -> Result<Compiled> {
    run_passes(&operators(), graph, &PassCx { machine, choices, debugging }, checks)
}

/// The knobs that the passes offer for a bound graph that comes without a pipeline.
///
/// # Errors
/// What a pass returns.
pub fn offered_knobs(graph: &OpGraph, machine: &Machine) -> Result<Vec<Knob>> {
    let cx = PassCx { machine, choices: &Choices::default(), debugging: &Debugging::default() };
    Ok(offered(&operators(), graph, &cx)?.knobs)
}

/// Passes over one unit.
pub(super) struct Run<'a> {
    /// The unit's name.
    pub(super) unit: &'a str,
    /// What passes before have established.
    pub(super) established: Vec<Property>,
    /// Are there sizes? Passes that need them are left out if not.
    pub(super) sized: bool,
    pub(super) cx: &'a PassCx<'a>,
    pub(super) checks: Checks,
    /// What was done.
    pub(super) records: Vec<PassRecord>,
    /// The unit's text after the last pass, where every pass is watched.
    text: Option<String>,
}

impl<'a> Run<'a> {
    /// Passes over a unit of which this is established.
    pub(super) fn new(unit: &'a str, established: Vec<Property>, cx: &'a PassCx<'a>, checks: Checks) -> Self {
        Self { unit, established, sized: true, cx, checks, records: Vec::new(), text: None }
    }

    /// Runs one pass, unless it is switched off or needs sizes that are not there.
    pub(super) fn pass<L: IrLevel>(&mut self, pass: &dyn Pass<L>, graph: &mut L) -> Result<()> {
        let info = pass.info();
        let idle = if self.cx.debugging.disable.iter().any(|d| d == info.id) {
            Some(Status::Disabled)
        } else if !self.sized && info.requires.contains(&Property::Bound) {
            Some(Status::Skipped)
        } else {
            None
        };
        match (idle, info.requires.iter().find(|r| !self.established.contains(r))) {
            (Some(status), _) => self.records.push(record(pass, self.unit, graph, status)),
            (None, Some(missing)) => {
                let message = format!("`{}` needs {missing:?}, which no earlier pass establishes", info.id);
                return Err(Box::new(Diagnostic::new("pass/order", message)));
            }
            (None, None) => self.step(pass, graph)?,
        }
        self.established.extend(info.establishes);
        Ok(())
    }

    fn step<L: IrLevel>(&mut self, pass: &dyn Pass<L>, graph: &mut L) -> Result<()> {
        let mut entry = record(pass, self.unit, graph, Status::Unchanged);
        let text = self.text.take();
        let before = (self.checks == Checks::Full).then(|| (text.unwrap_or_else(|| graph.canonical()), graph.interface()));
        let start = Instant::now();
        let mut rw = self.checks.rewriter(self.unit, graph);
        pass.run(&mut rw, self.cx).map_err(|d| Box::new(d.note(format!("in the pass `{}` over `{}`", entry.id, self.unit))))?;
        let (inner, remarks) = rw.finish_all();
        self.records.extend(inner);
        entry.remarks = remarks;
        entry.elapsed = start.elapsed();
        entry.nodes_after = graph.size();
        if entry.remarks.iter().any(|r| r.applied) {
            entry.status = Status::Changed;
        }
        if let Some((text, interface)) = before {
            self.text = Some(hold_to_word(pass, graph, &entry, &text, &interface)?);
        }
        self.records.push(entry);
        Ok(())
    }
}

fn record<L: IrLevel>(pass: &dyn Pass<L>, unit: &str, graph: &L, status: Status) -> PassRecord {
    PassRecord {
        id: pass.info().id,
        unit: unit.into(),
        status,
        nodes_before: graph.size(),
        nodes_after: graph.size(),
        remarks: Vec::new(),
        elapsed: std::time::Duration::ZERO,
    }
}

/// Checks what a pass left; the unit's text.
fn hold_to_word<L: IrLevel>(
    pass: &dyn Pass<L>,
    graph: &L,
    entry: &PassRecord,
    text_before: &str,
    interface_before: &[(String, String)],
) -> Result<String> {
    graph.check().map_err(|d| Box::new(d.note(format!("after the pass `{}`", pass.info().id))))?;
    // The text leaves out constants that nobody reads.
    let text = graph.canonical();
    let changed = entry.nodes_after != entry.nodes_before || text != text_before;
    if changed != (entry.status == Status::Changed) {
        let says = if changed { "changed the graph and says it did not" } else { "says it changed the graph and did not" };
        return Err(Box::new(Diagnostic::new("pass/misreported", format!("the pass `{}` {says}", pass.info().id))));
    }
    if graph.interface() != interface_before {
        return Err(Box::new(Diagnostic::new(
            "pass/interface",
            format!("the pass `{}` changed the inputs or outputs of `{}`", pass.info().id, entry.unit),
        )));
    }
    Ok(text)
}

/// A graph before and after the passes that answer the knobs of the whole model, and after all of them; and what was asked on the way.
pub struct Offered {
    /// What compiles that differ in any answers have in common.
    pub stem: OpGraph,
    /// What compiles that differ in the answers of segments alone have in common.
    pub head: OpGraph,
    /// The graph with plain answers of all segments.
    pub plain: OpGraph,
    /// The knobs of the model and of its segments.
    pub knobs: Vec<Knob>,
}

/// How many of these passes stand up to the last that answers a knob of the whole model: what they make does not depend on the
/// answers of segments.
fn head_length(passes: &[Box<dyn Pass>]) -> usize {
    passes.iter().rposition(|p| p.info().asks == Some(Scope::Model)).map_or(0, |i| i + 1)
}

/// How many stand before the first that answers one.
fn stem_length(passes: &[Box<dyn Pass>]) -> usize {
    passes.iter().position(|p| p.info().asks.is_some()).unwrap_or(passes.len()).min(head_length(passes))
}

/// Runs the passes over a bound graph for its figures alone, and collects the knobs that they offer: each pass sees what the passes
/// before it leave with plain answers, so that sites which fold away offer nothing.
///
/// # Errors
/// As [`run_passes`].
pub fn offered(passes: &[Box<dyn Pass>], graph: &OpGraph, cx: &PassCx<'_>) -> Result<Offered> {
    let (stem_ends, head_ends) = (stem_length(passes), head_length(passes));
    let mut plain = graph.clone();
    let (mut stem, mut head) = (plain.clone(), plain.clone());
    let mut knobs: Vec<Knob> = Vec::new();
    let mut run = Run::new(&graph.name, vec![Property::Bound], cx, Checks::Fast);
    for (i, pass) in passes.iter().enumerate() {
        let new = pass.knobs(&plain, cx.machine).into_iter().filter(|k| k.answers.len() > 1);
        for knob in new {
            if knobs.iter().all(|k| k.id != knob.id) {
                knobs.push(knob);
            }
        }
        run.pass(&**pass, &mut plain)?;
        if i + 1 == stem_ends {
            stem = plain.clone();
        }
        if i + 1 == head_ends {
            head = plain.clone();
        }
    }
    Ok(Offered { stem, head, plain, knobs })
}

/// The graph after the passes that no segment's knob concerns, from the one before those that ask something ([`Offered::stem`]).
///
/// # Errors
/// As [`run_passes`].
pub fn head(passes: &[Box<dyn Pass>], stem: &OpGraph, cx: &PassCx<'_>) -> Result<OpGraph> {
    part(passes, stem_length(passes)..head_length(passes), stem, cx)
}

/// The rest of the passes over a [`head`] made with the same answers of the model; the graph is that of [`run_passes`].
///
/// # Errors
/// As [`run_passes`].
pub fn tail(passes: &[Box<dyn Pass>], head: &OpGraph, cx: &PassCx<'_>) -> Result<OpGraph> {
    part(passes, head_length(passes)..passes.len(), head, cx)
}

/// Some of the passes over a graph that those before them have made.
fn part(passes: &[Box<dyn Pass>], range: Range<usize>, graph: &OpGraph, cx: &PassCx<'_>) -> Result<OpGraph> {
    let mut graph = graph.clone();
    let unit = graph.name.clone();
    let established = passes[..range.start].iter().flat_map(|p| p.info().establishes).copied().chain([Property::Bound]).collect();
    let mut run = Run::new(&unit, established, cx, Checks::Fast);
    passes[range].iter().try_for_each(|pass| run.pass(&**pass, &mut graph))?;
    Ok(graph)
}
