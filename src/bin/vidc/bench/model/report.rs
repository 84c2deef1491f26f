//! What `vidc bench model` says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::levels::Tried;
use super::{Bench, Figures};
use crate::bench::{command, machine};
use crate::common::clock::Took;
use crate::common::table::{grouped, table};
use vidc::optimize::measure::Executed;
use vidc::optimize::paired::{CandidateTimes, Paired};
use vidc::optimize::peak::Report;
use vidc::optimize::rates;
use vidc::runtime::provision;
use vidc::units::Bytes;

/// Everything that was measured.
pub(super) struct Measured<'a> {
    pub(super) bench: &'a Bench<'a>,
    pub(super) compared: &'a Paired,
    pub(super) figures: &'a [Figures],
    pub(super) tried: &'a [Tried],
    /// Of a session of nothing.
    pub(super) empty: Option<Report>,
    pub(super) took: Took,
}

impl Measured<'_> {
    pub(super) fn json(&self) -> Value {
        let rows = self.figures.iter().zip(&self.compared.rows).enumerate();
        let rows: Vec<Value> = rows.map(|(i, (f, r))| row_json(f, r, self.compared, i)).collect();
        json!({
            "machine": machine(),
            "onnxruntime": { "version": provision::VERSION, "build": self.bench.runtime.build_info() },
            "command": command(),
            "took": self.took,
            "threads": self.bench.args.threads,
            "dims": self.bench.dims,
            "inputs": self.bench.specs,
            "empty_process_bytes": self.empty.map(|e| e.peak),
            "tried": self.tried,
            "control": self.compared.rows.last(),
            "noise": self.compared.noise(),
            "models": rows,
        })
    }

    pub(super) fn text(&self) -> String {
        let figures = self.figures;
        let mut rows: Vec<Vec<String>> = figures.iter().zip(&self.compared.rows).map(|(f, r)| row_text(f, r, &figures[0])).collect();
        rows.extend(self.compared.rows.last().map(|c| vec![c.name.clone(), on(&figures[0]), rounds(c), seconds(c), ratio(c)]));
        let header =
            ["model", "on", "rounds", "time", "ratio (95 %)", "peak", "ratio", "activations", "nodes", "optimised", "kernels", "error"];
        let mut out = table(&header, &rows);
        let _ = writeln!(out, "\nnoise of equal sessions: {:.1} %", self.compared.noise() * 100.0);
        if let Some(empty) = self.empty {
            let _ = writeln!(out, "an empty session needs {} of each peak", empty.peak);
        }
        for tried in self.tried {
            let _ = writeln!(out, "{}", tried.words());
        }
        let _ = write!(out, "{}", self.took.words());
        for (f, executed) in figures.iter().filter_map(|f| Some((f, f.executed.as_ref()?))) {
            let _ = writeln!(out, "\n{}", f.candidate.name);
            out += &work_text(executed);
        }
        out
    }
}

/// Which providers run a candidate.
fn on(f: &Figures) -> String {
    let keys: Vec<&str> = f.candidate.options.providers.iter().map(|p| p.provider.as_str()).collect();
    if keys.is_empty() { "cpu".into() } else { keys.join(", ") }
}

fn row_json(f: &Figures, row: &CandidateTimes, compared: &Paired, index: usize) -> Value {
    json!({
        "name": row.name,
        "options": f.candidate.options,
        "time_s": row.time_s,
        "best_s": row.best_s,
        "times_s": row.times_s,
        "stopped": row.stopped,
        "ratio": row.ratio,
        "verdict": compared.verdict(index),
        "rel_l2": row.rel_l2,
        "peak_bytes": f.peak.map(|p| p.peak),
        "loaded_bytes": f.peak.map(|p| p.loaded),
        "memory": f.memory,
        "nodes": f.statistics.nodes,
        "nodes_computing": f.statistics.computing,
        "nodes_optimized": f.optimized.as_ref().map(|o| o.nodes),
        "kernels": f.executed.as_ref().map(Executed::count),
        "kernels_by_operator": f.executed.as_ref().map(Executed::by_operator),
        "work": f.executed.as_ref().map(rates::multiplied),
    })
}

fn rounds(row: &CandidateTimes) -> String {
    row.times_s.len().to_string()
}

fn seconds(row: &CandidateTimes) -> String {
    format!("{:.4} s", row.time_s.median)
}

fn ratio(row: &CandidateTimes) -> String {
    format!("{:.3} ({:.3} to {:.3})", row.ratio.median, row.ratio.low, row.ratio.high)
}

fn row_text(f: &Figures, row: &CandidateTimes, first: &Figures) -> Vec<String> {
    let peak = f.peak.zip(first.peak).map(|(own, first)| (own.peak, own.peak.0 as f64 / first.peak.0.max(1) as f64));
    let none = || "-".to_owned();
    let words = |b: Option<Bytes>| b.map_or_else(none, |b| b.to_string());
    let count = |n: Option<usize>| n.map_or_else(none, |n| grouped(n as u64));
    vec![
        row.name.clone(),
        on(f),
        rounds(row),
        seconds(row),
        ratio(row),
        words(peak.map(|p| p.0)),
        peak.map_or_else(none, |p| format!("{:.3}", p.1)),
        words(f.memory.and_then(|m| m.activations)),
        grouped(f.statistics.computing as u64),
        count(f.optimized.as_ref().map(|o| o.nodes)),
        count(f.executed.as_ref().map(Executed::count)),
        format!("{:.1e}", row.rel_l2),
    ]
}

/// Time by kind of kernel, and the operators that take most of it.
fn work_text(executed: &Executed) -> String {
    const MOST: usize = 12;
    let whole = executed.nodes.iter().map(|n| n.dur_us).sum::<u64>().max(1) as f64;
    let line = |name: String, count: usize, us: u64, rate: String| {
        vec![name, count.to_string(), format!("{:.1} ms", us as f64 / 1e3), format!("{:.1} %", us as f64 / whole * 100.0), rate]
    };
    let rate = |m: &rates::Multiplied| if m.flop == 0 { String::new() } else { format!("{:.1} GFLOP/s", m.gflops()) };
    let mut rows: Vec<Vec<String>> =
        rates::multiplied(executed).iter().map(|(kind, m)| line((*kind).into(), m.count, m.time_us, rate(m))).collect();
    let mut operators: Vec<_> = executed.by_operator().into_iter().collect();
    operators.sort_by_key(|(_, k)| std::cmp::Reverse(k.time_us));
    rows.extend(operators.into_iter().take(MOST).map(|(op, k)| line(op, k.count, k.time_us, String::new())));
    table(&["kernels", "count", "time", "share", "rate"], &rows)
}
