//! Device memory over a run, by cause: what a picture of it shows and what the widest moments are.
//!
//! The spans of a [`Timeline`] are the calls of the pipeline in their order, each with how long all its executions take and with the steps
//! of one of them; what a loop repeats is there once. A branch shows both arms.

use std::collections::BTreeMap;

use serde::Serialize;

use super::graph::GraphCost;
use super::latency::Machine;
use super::pipeline::{PeakParts, transient_parts};
use crate::diag::Result;
use crate::ir::pipeline::Pipeline;
use crate::ir::{Op, OpGraph, Outlet, schedule};
use crate::units::{Bytes, Time};

/// Memory over a run.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The calls, in the order in which they are first made.
    pub spans: Vec<Span>,
}

/// A call with all its executions.
#[derive(Clone, Debug)]
pub struct Span {
    /// The session that it calls.
    pub session: String,
    /// How often a run executes it.
    pub executions: u64,
    /// One execution.
    pub once: Time,
    /// What is there all through it: everything but activations and scratch.
    pub kept: PeakParts,
    /// The steps of one execution.
    pub steps: Vec<Step>,
}

/// A step of an execution.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// How long it takes.
    pub time: Time,
    /// Buffers that are alive.
    pub live: Bytes,
    /// What its kernel works in.
    pub scratch: Bytes,
}

/// A buffer that is alive at a moment.
#[derive(Clone, Debug, Serialize)]
pub struct Alive {
    /// Its size.
    pub bytes: Bytes,
    /// The operator that made it.
    pub made_by: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// The step that made it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
    /// The operator of that step: what it waits for.
    pub waits_for: String,
}

/// A moment at which much is in memory.
#[derive(Clone, Debug, Serialize)]
pub struct Wide {
    /// The session that runs.
    pub session: String,
    /// The step, counted from 0.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The operator.
    pub node: String,
    /// The segment knob that governs it.
    pub knob: Option<String>,
    /// What is in memory.
    pub parts: PeakParts,
    /// The buffers among `activations`, the largest first.
    pub alive: Vec<Alive>,
}

impl Timeline {
    /// Of a lowered pipeline, with the graphs of its sessions.
    ///
    /// # Errors
    /// As [`GraphCost::of`].
    pub fn of(pipeline: &Pipeline, graphs: &BTreeMap<&str, &OpGraph>, machine: &Machine) -> Result<Self> {
        let costs: BTreeMap<&str, GraphCost> =
            graphs.iter().map(|(name, graph)| Ok((*name, GraphCost::of(graph, machine)?))).collect::<Result<_>>()?;
        let figures = costs.iter().map(|(name, cost)| (*name, cost.figures())).collect();
        let span = |m: &crate::ir::pipeline::Moment<'_>| {
            let cost = costs.get(m.placement.session.as_str())?;
            let steps = cost.steps.iter().map(|s| Step { time: s.time, live: s.live, scratch: s.scratch }).collect();
            let kept = transient_parts(m, &figures, machine, (Bytes(0), Bytes(0)))?;
            let executions = m.times * m.placement.pieces.max(1) as u64;
            Some(Span { session: m.placement.session.clone(), executions, once: cost.total.time, kept, steps })
        };
        Ok(Self { spans: pipeline.walk().moments.iter().filter_map(span).collect() })
    }

    /// All spans with all their executions.
    pub fn total(&self) -> Time {
        self.spans.iter().map(|s| s.once * s.executions).sum()
    }

    /// The widest moment of each session, the widest first, at most `count`.
    ///
    /// # Errors
    /// As [`schedule()`].
    pub fn widest(&self, graphs: &BTreeMap<&str, &OpGraph>, count: usize) -> Result<Vec<Wide>> {
        let mut by_session: BTreeMap<&str, (Bytes, &Span, usize)> = BTreeMap::new();
        for span in &self.spans {
            let most = span.steps.iter().enumerate().max_by_key(|(i, s)| (s.live + s.scratch, std::cmp::Reverse(*i)));
            let Some((step, s)) = most else { continue };
            let bytes = span.kept.sum() + s.live + s.scratch;
            let entry = by_session.entry(&span.session).or_insert((bytes, span, step));
            if entry.0 < bytes {
                *entry = (bytes, span, step);
            }
        }
        let mut widest: Vec<(Bytes, &Span, usize)> = by_session.into_values().collect();
        widest.sort_by_key(|(bytes, ..)| std::cmp::Reverse(*bytes));
        widest.into_iter().take(count).map(|(_, span, step)| span.wide(graphs[span.session.as_str()], step)).collect()
    }
}

impl Span {
    fn wide(&self, graph: &OpGraph, step: usize) -> Result<Wide> {
        let schedule = schedule(graph)?;
        let node = graph.node(schedule.steps[step]);
        let name = |step: usize| graph.node(schedule.steps[step]).name.clone();
        let there = schedule.buffers.iter().filter(|b| !b.bound && (b.first..=b.last).contains(&step));
        let mut alive: Vec<Alive> = there
            .map(|b| Alive {
                bytes: Bytes(b.bytes),
                made_by: b.tensors.first().map_or_else(String::new, |o| maker(graph, *o)),
                ty: b.tensors.first().map_or_else(String::new, |o| graph.ty(*o).to_string()),
                first: b.first,
                last: b.last,
                waits_for: name(b.last),
            })
            .collect();
        alive.sort_by_key(|a| std::cmp::Reverse(a.bytes));
        let s = self.steps[step];
        let parts = PeakParts { activations: s.live, scratch: s.scratch, ..self.kept.clone() };
        let knob = node.knob.as_deref().map(str::to_owned);
        Ok(Wide { session: self.session.clone(), step, steps: self.steps.len(), node: node.name.clone(), knob, parts, alive })
    }
}

fn maker(graph: &OpGraph, outlet: Outlet) -> String {
    let node = graph.node(outlet.node);
    if matches!(node.op, Op::Input) { format!("the input {}", node.name) } else { node.name.clone() }
}
