//! `vidc explain --memory` of a graph: its widest moments, who is alive then and why, and which answers would need less.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::common::Failure;
use crate::common::table::table;
use vidc::cost::pipeline::PeakParts;
use vidc::cost::timeline::{Timeline, Wide};
use vidc::ir::OpGraph;
use vidc::passes::{Choices, Lowered, Planned};
use vidc::tuner::savings::{Saving, savings};
use vidc::units::{Bytes, Time};

/// How many sessions have their widest moment told.
const MOMENTS: usize = 3;
/// How many buffers of a moment are listed.
const ALIVE: usize = 8;

/// What there is to say of a graph's memory.
#[derive(Serialize)]
pub(super) struct Memory {
    /// The widest moments, each of another session.
    pub(super) widest: Vec<Wide>,
    /// Answers that would lower the peak of the whole.
    pub(super) savings: Vec<Saving>,
    #[serde(skip)]
    pub(super) timeline: Timeline,
}

/// Looks at a lowered graph.
pub(super) fn of(planned: &Planned, lowered: &Lowered, choices: &Choices) -> Result<Memory, Failure> {
    let graphs: BTreeMap<&str, &OpGraph> = lowered.sessions.iter().map(|(name, c)| (name.as_str(), &c.graph)).collect();
    let timeline = Timeline::of(&lowered.program.pipeline, &graphs, planned.machine())?;
    let widest = timeline.widest(&graphs, MOMENTS)?;
    let savings = widest.first().map_or_else(|| Ok(Vec::new()), |w| savings(planned, choices, w))?;
    Ok(Memory { widest, savings, timeline })
}

/// What a peak consists of, with words for people, the bottom of a picture first.
pub(super) fn causes(p: &PeakParts) -> [(&'static str, Bytes); 8] {
    [
        ("process", p.process),
        ("weights", p.weights),
        ("packed weights", p.packed),
        ("nodes", p.nodes),
        ("inputs and outputs", p.bound),
        ("waiting values", p.beside),
        ("activations", p.activations),
        ("scratch", p.scratch),
    ]
}

impl Memory {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out: String = self.widest.iter().map(moment).collect();
        if self.savings.is_empty() {
            out += "no answer to a single knob would lower the peak\n";
        } else {
            let row = |s: &Saving| {
                vec![format!("{}={}", s.knob, s.answer), Bytes(s.peak_bytes).to_string(), Time::from_secs(s.latency_s).to_string()]
            };
            out += &table(&["another answer would make the peak", "", "in"], &self.savings.iter().map(row).collect::<Vec<_>>());
        }
        out
    }
}

fn moment(w: &Wide) -> String {
    let mut out = format!("{} in {}, step {} of {} ({})\n", w.parts.sum(), w.session, w.step, w.steps, w.node);
    let causes: Vec<String> = causes(&w.parts).iter().filter(|(_, b)| b.0 > 0).map(|(name, b)| format!("{name} {b}")).collect();
    let _ = writeln!(out, "{}", causes.join(", "));
    let row = |a: &vidc::cost::timeline::Alive| {
        vec![a.bytes.to_string(), a.made_by.clone(), a.ty.clone(), format!("{}..{}", a.first, a.last), a.waits_for.clone()]
    };
    let rows: Vec<Vec<String>> = w.alive.iter().take(ALIVE).map(row).collect();
    if !rows.is_empty() {
        out += &table(&["bytes", "made by", "type", "steps", "waits for"], &rows);
    }
    match w.alive.get(ALIVE..) {
        Some(rest) if !rest.is_empty() => {
            let bytes: Bytes = rest.iter().map(|a| a.bytes).sum();
            let _ = writeln!(out, "and {} smaller ones, {bytes}\n", rest.len());
        }
        _ => out.push('\n'),
    }
    out
}
