//! From a program to a plan directory: the answers, and the folder that holds the plan of a graph.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Failure;
use super::args::SearchArgs;
use super::system::{check_disk, folder_of, plans_folder};
use super::weights::Weights;
use vidc::cost;
use vidc::cost::pipeline::{Predicted, QualityFrom};
use vidc::diag::Diagnostic;
use vidc::files::word;
use vidc::hwdb::Machine;
use vidc::ir::{Op, Program};
use vidc::passes::{Choices, Effect, Lowered, Planned};
use vidc::plan::manifest::EffectEntry;
use vidc::plan::{self, Manifest, Provenance, Rung, hex};
use vidc::runtime::provision;
use vidc::tuner::{self, Certificate, Estimate, FrontPoint, Request};
use vidc::units::{Bytes, Time};
use vidc::weights::ParamSource;

/// Answers with their figures, and the program that has them.
pub(crate) struct Chosen {
    /// Answers that are not exact.
    pub(crate) effects: Vec<EffectEntry>,
    /// What they cost.
    pub(crate) predicted: Predicted,
    /// What is proved, if there was a search.
    pub(crate) certificate: Option<Certificate>,
    /// The plans of which no other is both faster and smaller, if there was one.
    pub(crate) front: Vec<FrontPoint>,
    /// The program after all passes.
    pub(crate) lowered: Lowered,
}

/// The best answers within a budget; those that are given are kept.
pub(crate) fn search(program: &Planned, memory: Option<Bytes>, how: &SearchArgs, fixed: &Choices) -> Result<Chosen, Failure> {
    let (tolerance, allow_unmeasured) = (how.share(), how.allow_unmeasured);
    let request = Request { memory, tolerance, fixed: fixed.clone(), allow_unmeasured, ..Request::default() };
    let outcome = tuner::tune(program, &request)?;
    Ok(Chosen {
        effects: EffectEntry::of(&outcome.knobs, &outcome.choices),
        predicted: outcome.predicted,
        certificate: Some(outcome.certificate),
        front: outcome.front,
        lowered: outcome.lowered,
    })
}

/// Given answers as they are.
pub(crate) fn given(program: &Planned, choices: &Choices) -> Result<Chosen, Failure> {
    let Estimate { predicted, knobs, lowered } = tuner::estimate(program, choices)?;
    Ok(Chosen { effects: EffectEntry::of(&knobs, &lowered.choices), predicted, certificate: None, front: Vec::new(), lowered })
}

/// How many plans a folder gets if nobody says.
pub(crate) const LADDER: u8 = 3;

/// Smaller plans of the same results, the largest first: from the front, down to the smallest in steps of one ratio.
pub(crate) fn rungs(program: &Planned, best: &Chosen, count: u8) -> Result<Vec<Chosen>, Failure> {
    let peak = best.predicted.peak_bytes;
    let mut smaller: Vec<&FrontPoint> = best.front.iter().filter(|p| p.peak_bytes < peak).collect();
    smaller.sort_by_key(|p| std::cmp::Reverse(p.peak_bytes));
    let Some(least) = smaller.last().map(|p| p.peak_bytes) else { return Ok(Vec::new()) };
    let steps = count.saturating_sub(1);
    let mut out: Vec<Chosen> = Vec::new();
    for step in 1..=steps {
        let ratio = (least as f64 / peak as f64).powf(f64::from(step) / f64::from(steps));
        let most = if step == steps { least } else { (peak as f64 * ratio) as u64 };
        let Some(point) = smaller.iter().find(|p| p.peak_bytes <= most) else { continue };
        let chosen = given(program, &point.choices)?;
        let is_new = out.last().is_none_or(|before| chosen.predicted.peak_bytes < before.predicted.peak_bytes);
        // What rounds differently gives other frames: a run could not go on with it.
        if is_new && chosen.effects == best.effects {
            out.push(chosen);
        }
    }
    Ok(out)
}

/// There is room for a plan's weights.
pub(crate) fn check_room(folder: &Path, program: &Program, weights: &Weights, bundle: bool) -> Result<(), Failure> {
    check_disk(folder_of(folder), written_bytes(program, &weights.source, bundle), "the plan")
}

/// Where a plan is to run.
#[derive(Clone, Copy)]
pub(crate) struct Where {
    /// Its weights are copied into it, so that it can be carried elsewhere.
    pub(crate) bundle: bool,
    /// The index of the device there.
    pub(crate) device: u32,
}

/// Writes a plan and the smaller ones behind it into a folder.
pub(crate) fn write(
    machine: &Machine,
    (chosen, smaller): (&Chosen, &[Chosen]),
    weights: &Weights,
    to: Where,
    folder: &Path,
) -> Result<Manifest, Failure> {
    let rung = |c| -> Result<Rung<'_>, Failure> {
        let c: &Chosen = c;
        let predicted = serde_json::to_value(&c.predicted)
            .map_err(|e| Diagnostic::new("internal/bug", format!("the prediction cannot be written: {e}")))?;
        let provenance =
            Provenance { weights: weights.words.clone(), effects: c.effects.clone(), predicted: Some(predicted), device: to.device };
        Ok(Rung { lowered: &c.lowered, provenance })
    };
    let rungs = std::iter::once(chosen).chain(smaller).map(rung).collect::<Result<Vec<_>, _>>()?;
    Ok(plan::write_ladder(&rungs, machine, &weights.source, to.bundle, folder)?)
}

/// Bytes of weights that a plan surely writes: all of them where no file holds them or copies are wanted.
fn written_bytes(program: &Program, source: &ParamSource, bundle: bool) -> Bytes {
    if !bundle && matches!(source, ParamSource::Files(_)) {
        return Bytes(0);
    }
    let bytes = |g: &vidc::ir::OpGraph| -> u64 {
        let weight = |id| Some(g.node(id)).filter(|n| matches!(n.op, Op::Weight(_))).and_then(|n| n.outs[0].bytes());
        g.nodes().into_iter().filter_map(weight).sum()
    };
    // Half, for a plan in 16 bits.
    Bytes(program.models.values().map(|g| bytes(g)).sum::<u64>() / 2)
}

/// The folder in the cache for a plan that is made from these.
pub(crate) fn cached_folder(program: &Program, machine: &Machine, weights: &Weights, asked: &[String]) -> Result<PathBuf, Failure> {
    let mut hash = Sha256::new();
    let mut field = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    field("vidc plan cache 2");
    field(env!("CARGO_PKG_VERSION"));
    field(&plan::manifest::VERSION.to_string());
    field(provision::VERSION);
    field(&hex(&program.pipeline.fingerprint()));
    field(&format!("{machine:?}"));
    weights.identity.iter().chain(asked).for_each(|text| field(text));
    let key = hex(&hash.finalize());
    Ok(plans_folder()?.join(format!("{}-{}", word(&program.pipeline.name), &key[..24])))
}

/// The figures of a prediction in words.
pub(crate) fn predicted_text(p: &Predicted) -> String {
    let time = |s: f64| Time::from_secs(s).to_string();
    let mut rows = vec![
        vec!["latency".into(), time(p.latency_s), format!("{} to {}", time(p.latency_s_lo), time(p.latency_s_hi))],
        vec!["device memory".into(), Bytes(p.peak_bytes).to_string(), ends(p.peak_bytes_lo, p.peak_bytes_hi)],
        vec!["host memory".into(), Bytes(p.host_bytes).to_string(), ends(p.host_bytes_lo, p.host_bytes_hi)],
    ];
    let word = if p.quality == QualityFrom::Unmeasured { "unmeasured" } else { "exact" };
    let quality = p.quality_db.map_or_else(|| word.into(), |db| format!("{db:.1} dB PSNR"));
    let how = match p.quality {
        QualityFrom::Exact => "the same function as the reference",
        QualityFrom::Estimated => "estimated, against the reference",
        QualityFrom::Unmeasured => "an answer was taken of which nobody knows what it costs",
    };
    rows.push(vec!["quality".into(), quality, how.into()]);
    let stages: Vec<Vec<String>> = p.stages.iter().map(stage_row).collect();
    let header = ["stage", "runs", "latency", "weights", "transient", "work"];
    format!("{}\n{}", super::table::table(&["predicted", "", "range"], &rows), super::table::table(&header, &stages))
}

fn ends(lo: u64, hi: u64) -> String {
    format!("{} to {}", Bytes(lo), Bytes(hi))
}

fn stage_row(s: &vidc::cost::pipeline::PredictedStage) -> Vec<String> {
    vec![
        s.model.clone(),
        s.executions.to_string(),
        Time::from_secs(s.latency_s).to_string(),
        Bytes(s.weight_bytes).to_string(),
        Bytes(s.transient_bytes).to_string(),
        vidc::units::Flop(s.flop).to_string(),
    ]
}

/// How long the first start takes beside, in words; nothing where a start is short.
pub(crate) fn first_start_text(lowered: &Lowered, machine: &Machine) -> String {
    match first_start(lowered, machine) {
        Time(0) => String::new(),
        time => format!("first start: about {time} to build engines for the device, which the plan keeps (a prior, not measured)\n"),
    }
}

fn first_start(lowered: &Lowered, machine: &Machine) -> Time {
    cost::pipeline::first_start(lowered.sessions.values().map(|s| &s.graph), machine)
}

/// Answers that are not exact, in words.
pub(crate) fn effects_text(effects: &[EffectEntry]) -> String {
    if effects.is_empty() {
        return "effects: none, every choice is exact\n".into();
    }
    let row = |e: &EffectEntry| vec![e.knob.clone(), e.answer.clone(), effect_word(e.effect).into(), quality_word(e)];
    super::table::table(&["effect of", "answer", "kind", "quality"], &effects.iter().map(row).collect::<Vec<_>>())
}

fn quality_word(e: &EffectEntry) -> String {
    match (e.quality_db, e.source) {
        (Some(db), source) => format!("{db:.1} dB, {}", source.word()),
        (None, source) => source.word().into(),
    }
}

fn effect_word(effect: Effect) -> &'static str {
    match effect {
        Effect::Exact => "exact",
        Effect::Rounding => "rounding",
        Effect::Approximate => "approximate",
    }
}

/// What the search proved, in one line.
pub(crate) fn certificate_text(c: &Certificate) -> String {
    let proof = if c.optimal { "optimal under the model".into() } else { format!("within {:.2} % of the best", c.gap * 100.0) };
    let elapsed = c.elapsed_s.map_or_else(String::new, |s| format!(", {s:.2} s"));
    let best = format!("the best figure is {} with {}", Time::from_secs(c.best_latency_s), Bytes(c.best_peak_bytes));
    format!(
        "certificate: {proof}; {:.3e} combinations{elapsed}\n{best}; up to {} % of it given for quality, memory and plain answers\n",
        c.combinations,
        c.tolerance * 100.0
    )
}

/// The JSON fields of a choice.
pub(crate) fn chosen_json(chosen: &Chosen, machine: &Machine) -> Value {
    json!({
        "hw": machine.key,
        "provider": machine.target.key,
        "provenance": machine.provenance(),
        "choices": chosen.lowered.choices,
        "predicted": chosen.predicted,
        "first_start_s": first_start(&chosen.lowered, machine).secs(),
        "certificate": chosen.certificate,
        "effects": chosen.effects,
    })
}
