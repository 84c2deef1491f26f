//! The tables of `vidc fit`, for people and for programs.

use serde_json::{Map, Value, json};

use super::vary::Cell;
use crate::common::table::table;
use vidc::diag::Diagnostics;
use vidc::hwdb::Machine;
use vidc::passes::KnobId;
use vidc::spec::Number;
use vidc::tuner::fit::Verdict;
use vidc::units::Bytes;

/// One question with its answer.
pub(super) struct Row {
    /// The varied parameters; of a comparison of devices the key.
    pub(super) cell: Cell,
    /// How much the combination asks for.
    pub(super) work: u128,
    /// The answer.
    pub(super) verdict: Verdict,
    /// The device with the memory that is allowed there, in a comparison of devices; none if there is no such machine.
    pub(super) machine: Option<(Bytes, Machine)>,
}

/// The sizes of a graph on one device.
pub(super) struct Sizes<'a> {
    /// The name of the graph.
    pub(super) graph: &'a str,
    /// The device.
    pub(super) machine: &'a Machine,
    /// The memory that is allowed.
    pub(super) budget: Bytes,
    /// A row for every combination.
    pub(super) rows: &'a [Row],
}

impl Sizes<'_> {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { graph, machine, budget, rows } = self;
        let (name, provider, origin) = (&machine.name, machine.target.name, machine.provenance());
        let only = if machine.target.missing().is_some() { "; modelled only" } else { "" };
        let mut out = format!("{graph} on {name} ({}) with {provider}, {budget} allowed; figures from {origin}{only}\n", machine.key);
        out += &match fitting(rows) {
            0 => format!("none of {} fits, the nearest miss first\n\n", combinations(rows.len())),
            fit => format!("{fit} of {} fit, the largest first\n\n", combinations(rows.len())),
        };
        let names = rows.first().into_iter().flat_map(|row| &row.cell).map(|(name, _)| name.as_str());
        let header: Vec<&str> = names.chain(["latency", "memory", "at most", "plan"]).collect();
        let row = |row: &Row| row.cell.iter().map(|(_, value)| value.clone()).chain(figures(&row.verdict, *budget)).collect();
        out + &table(&header, &rows.iter().map(row).collect::<Vec<_>>())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let cell = |row: &Row| {
            let parameters: Map<String, Value> = row.cell.iter().map(|(name, text)| (name.clone(), number(text))).collect();
            let work = u64::try_from(row.work).unwrap_or(u64::MAX);
            with(json!({ "parameters": parameters, "work": work }), verdict_json(&row.verdict))
        };
        let cells: Vec<Value> = self.rows.iter().map(cell).collect();
        with(json!({ "graph": self.graph, "cells": cells }), machine_json(Some(&(self.budget, self.machine))))
    }
}

fn combinations(count: usize) -> String {
    if count == 1 { "1 combination".into() } else { format!("{count} combinations") }
}

fn fitting(rows: &[Row]) -> usize {
    rows.iter().filter(|row| matches!(row.verdict, Verdict::Fits(_))).count()
}

/// A comparison of devices for people.
pub(super) fn on_devices(rows: &[Row], graph: &str) -> String {
    let mut out = match fitting(rows) {
        0 => format!("{graph}: none of {} devices takes it, the nearest miss first\n\n", rows.len()),
        fit => format!("{graph}: {fit} of {} devices take it, the fastest first\n\n", rows.len()),
    };
    let row = |row: &Row| {
        let of = row.machine.as_ref();
        let word = |text: Option<String>| text.unwrap_or_else(|| "–".into());
        let provider = word(of.map(|(_, m)| m.target.key.into()));
        let allowed = of.map_or(Bytes(0), |(budget, _)| *budget);
        let mut cells = vec![row.cell[0].1.clone(), provider, word(of.map(|(budget, _)| budget.to_string()))];
        cells.extend(figures(&row.verdict, allowed));
        if of.is_some_and(|(_, m)| m.target.missing().is_some()) {
            let plan = cells.pop().unwrap_or_default();
            cells.push(format!("modelled only; {plan}"));
        }
        cells
    };
    out += &table(&["hw", "provider", "allowed", "latency", "memory", "at most", "plan"], &rows.iter().map(row).collect::<Vec<_>>());
    let lacks = rows.iter().find_map(|row| row.machine.as_ref()?.1.target.missing());
    if let Some(what) = lacks {
        out += &format!("\nmodelled only: {what}\n");
    }
    out
}

/// The same for programs.
pub(super) fn devices_json(rows: &[Row], graph: &str) -> Value {
    let device = |row: &Row| {
        let machine = machine_json(row.machine.as_ref().map(|(budget, m)| (*budget, m)).as_ref());
        with(with(machine, json!({ "hw": row.cell[0].1 })), verdict_json(&row.verdict))
    };
    json!({ "graph": graph, "devices": rows.iter().map(device).collect::<Vec<_>>() })
}

/// The columns of a verdict: latency, memory, its upper end, and the plan or why there is none.
fn figures(verdict: &Verdict, budget: Bytes) -> [String; 4] {
    let none = || "–".to_owned();
    match verdict {
        Verdict::Fits(fit) => {
            let p = &fit.predicted;
            [p.latency().to_string(), p.peak().to_string(), Bytes(p.peak_bytes_hi).to_string(), in_short(&fit.departures)]
        }
        Verdict::Misses(miss) => {
            let more = miss.needs - budget;
            [none(), none(), none(), format!("does not fit: needs {}, {more} more, and would take {}", miss.needs, miss.latency)]
        }
        Verdict::Refused(found) => [none(), none(), none(), format!("refused: {}", reason(found))],
    }
}

fn reason(found: &Diagnostics) -> String {
    found.0.first().map_or_else(|| "no reason is known".into(), |d| d.message.clone())
}

/// Answers in short: each question with its answer and whom it is asked of, those of equal answers together. `unet.precision` is the
/// question `precision` asked of `unet`; what is asked of the whole pipeline names nobody.
fn in_short(departures: &[(KnobId, String)]) -> String {
    /// More of them are counted.
    const NAMED: usize = 3;
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for (knob, answer) in departures {
        let (whom, question) = knob.rsplit_once('.').unwrap_or(("pipeline", knob));
        let words = format!("{question} {answer}");
        match said.iter_mut().find(|(other, _)| *other == words) {
            Some((_, all)) => all.push(whom),
            None => said.push((words, vec![whom])),
        }
    }
    let one = |(words, whom): &(String, Vec<&str>)| match whom[..] {
        ["pipeline"] => words.clone(),
        _ if whom.len() > NAMED => format!("{words} ({} and {} more)", whom[..NAMED - 1].join(", "), whom.len() + 1 - NAMED),
        _ => format!("{words} ({})", whom.join(", ")),
    };
    if said.is_empty() { "plain".into() } else { said.iter().map(one).collect::<Vec<_>>().join("; ") }
}

fn number(text: &str) -> Value {
    Number::parse(text).map_or_else(|| text.into(), |n| json!(n))
}

/// Two objects as one.
fn with(mut one: Value, other: Value) -> Value {
    if let (Some(into), Value::Object(from)) = (one.as_object_mut(), other) {
        into.extend(from);
    }
    one
}

fn machine_json(machine: Option<&(Bytes, impl std::borrow::Borrow<Machine>)>) -> Value {
    let machine = machine.map(|(budget, m)| (budget, m.borrow()));
    json!({
        "hw": machine.map(|(_, m)| &m.key),
        "name": machine.map(|(_, m)| &m.name),
        "provider": machine.map(|(_, m)| m.target.key),
        "provenance": machine.map(|(_, m)| m.provenance()),
        "memory_bytes": machine.map(|(budget, _)| budget.0),
        "modelled_only": machine.map(|(_, m)| m.target.missing().is_some()),
    })
}

/// The fields of a verdict; those that do not belong to it are null.
fn verdict_json(verdict: &Verdict) -> Value {
    let word = match verdict {
        Verdict::Fits(_) => "fits",
        Verdict::Misses(_) => "misses",
        Verdict::Refused(_) => "refused",
    };
    let fit = if let Verdict::Fits(fit) = verdict { Some(fit) } else { None };
    let miss = if let Verdict::Misses(miss) = verdict { Some(miss) } else { None };
    let refused = if let Verdict::Refused(found) = verdict { found.0.first() } else { None };
    let p = fit.map(|fit| &fit.predicted);
    let answers = |fit: &vidc::tuner::fit::Fit| -> Map<String, Value> {
        fit.departures.iter().map(|(knob, answer)| (knob.to_string(), json!(answer))).collect()
    };
    json!({
        "verdict": word,
        "latency_s": p.map(|p| p.latency_s),
        "latency_s_lo": p.map(|p| p.latency_s_lo),
        "latency_s_hi": p.map(|p| p.latency_s_hi),
        "peak_bytes": p.map(|p| p.peak_bytes),
        "peak_bytes_lo": p.map(|p| p.peak_bytes_lo),
        "peak_bytes_hi": p.map(|p| p.peak_bytes_hi),
        "host_bytes": p.map(|p| p.host_bytes),
        "quality": p.map(|p| json!(p.quality)),
        "quality_db": p.and_then(|p| p.quality_db),
        "departures": fit.map(|fit| answers(fit)),
        "needs_bytes": miss.map(|miss| miss.needs.0),
        "needs_latency_s": miss.map(|miss| miss.latency.secs()),
        "refused": refused.map(|d| json!({ "code": d.code, "message": d.message, "help": d.help })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_answers_are_told_together() {
        let short = |of: &[(&str, &str)]| in_short(&of.iter().map(|(k, a)| (KnobId::from(*k), (*a).to_owned())).collect::<Vec<_>>());
        assert_eq!(short(&[]), "plain");
        let few = [("pipeline.residency", "stage"), ("unet.precision", "f16"), ("vae.l0.frames", "4"), ("vae.precision", "f16")];
        assert_eq!(short(&few), "residency stage; precision f16 (unet, vae); frames 4 (vae.l0)");
        let many = ["a", "b", "c", "d"].map(|whom| format!("{whom}.tile"));
        assert_eq!(short(&many.each_ref().map(|k| (k.as_str(), "2"))), "tile 2 (a, b and 2 more)");
    }
}
