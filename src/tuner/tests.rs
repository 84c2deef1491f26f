//! The tuner on the small pipeline: against brute force through compiles, and what it promises about budgets and records.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;

use super::record::{TuningRecord, json_schema};
use super::search::tests::chosen;
use super::search::{Found, Problem};
use super::*;
use crate::cost::pipeline::Residency;
use crate::hwdb;
use crate::ir::Program;
use crate::ir::pipeline::resolve;
use crate::spec;

/// An embedded pipeline with its models.
fn program(name: &str) -> Program {
    let (parsed, found) = spec::parse(&spec::builtin(name).unwrap());
    assert_eq!(found.0, []);
    let parsed = parsed.unwrap();
    let build = |name: &str, decl: &spec::ModelDecl| {
        let config = serde_json::to_value(&decl.config).unwrap();
        let component = decl.weights.as_ref().map_or(name, |w| &w.value);
        crate::models::build(&decl.architecture.value, &config, component, name)
    };
    let pipeline = resolve(&parsed, &[], &|decl| build("m", decl).map(|g| g.signature())).map_err(|e| e.0).unwrap();
    let models: IndexMap<String, OpGraph> =
        parsed.models.iter().map(|(k, decl)| (k.value.clone(), build(&k.value, decl).unwrap())).collect();
    Program { pipeline, models }
}

/// Its models as they are declared, none of them cut.
fn uncut(name: &str) -> Planned {
    let debugging = Debugging { disable: vec![crate::passes::hoist::ID.into()], ..Debugging::default() };
    Planned::of(&program(name), &hwdb::machine("cpu-avx2").unwrap(), &debugging).unwrap()
}

/// Every knob at its plain answer, apart from `open` ones.
fn all_fixed_but(space: &Space, open: &[&str]) -> Choices {
    let closed = space.knobs().into_iter().filter(|k| !open.contains(&k.id.as_str()));
    Choices(closed.map(|k| (k.id.clone(), k.default().to_owned())).collect())
}

/// Knobs that stay open in the brute force: 2 · 4 · (4·3·2) · (3·4·4 + 3·4·3) = 16128 combinations.
const OPEN: [&str; 9] = [
    "pipeline.residency",
    "image_encoder.precision",
    "vae_decoder.precision",
    "vae_decoder.level0.frames",
    "vae_decoder.level0.temporal-conv",
    "unet.guidance",
    "unet.level1.attention",
    "unet.level0.feed-forward",
    "unet.level0.frames",
];

/// One combination of answers with its figures.
struct Point {
    predicted: Predicted,
    noise: u64,
    departures: u32,
}

/// Every combination of the space, by the report of compiled graphs; each model is compiled once for each of its own
/// combinations.
fn brute_force(space: &Space, stages: &Stages<'_>, machine: &Machine) -> Vec<Point> {
    let plain: BTreeMap<String, String> = space.knobs().iter().map(|k| (k.id.clone(), k.default().to_owned())).collect();
    let by_model: Vec<Vec<(StageCost, u32)>> = stages
        .stages
        .iter()
        .zip(&space.models)
        .map(|(stage, m)| {
            let answers: Vec<Choices> = m.variants.iter().flat_map(answered).collect();
            let cost = |c: &Choices| stage_cost(stages, stage, machine, c, Checks::Fast).unwrap();
            let departures = |c: &Choices| c.0.iter().filter(|(id, a)| plain[*id] != **a).count() as u32;
            answers.par_iter().map(|c| (cost(c), departures(c))).collect()
        })
        .collect();
    let mut points = Vec::new();
    for residency in Residency::ALL {
        let mut partial: Vec<(Vec<StageCost>, u32)> = vec![(Vec::new(), u32::from(residency != Residency::All))];
        for options in &by_model {
            partial = partial
                .iter()
                .flat_map(|(costs, d)| {
                    options.iter().map(move |(cost, more)| ([&costs[..], std::slice::from_ref(cost)].concat(), d + more))
                })
                .collect();
        }
        points.extend(partial.into_iter().map(|(costs, departures)| {
            let noise = costs.iter().map(|c| c.noise).sum::<Noise>().0;
            Point { predicted: report(&costs, residency, machine), noise, departures }
        }));
    }
    points
}

fn answered(variant: &space::Variant) -> Vec<Choices> {
    let extend = |partial: Vec<Choices>, knob: &crate::passes::Knob| {
        let with = |c: &Choices, answer: &String| {
            let mut c = c.clone();
            c.set(&knob.id, answer);
            c
        };
        partial.iter().flat_map(|c| knob.domain.iter().map(move |a| with(c, a))).collect()
    };
    variant.segments.iter().fold(vec![variant.globals.clone()], extend)
}

fn best(points: &[Point], objective: Objective, limits: &Limits) -> Option<(u64, u64, u64, u32)> {
    let fits =
        |p: &&Point| limits.peak.is_none_or(|b| p.predicted.peak_bytes_hi <= b.0) && limits.noise.is_none_or(|most| p.noise <= most.0);
    let figures = |p: &Point| (p.predicted.latency_ps, p.predicted.peak_bytes, p.noise, p.departures);
    chosen(&points.iter().filter(fits).map(figures).collect::<Vec<_>>(), objective, limits.tolerance)
}

#[test]
fn the_search_agrees_with_brute_force_through_compiles() {
    let program = uncut("svd-tiny");
    let stages = Stages::of(&program);
    let machine = hwdb::machine("rtx3090").unwrap();
    let whole = Space::of(&stages, &machine, &Choices::default()).unwrap();
    let fixed = all_fixed_but(&whole, &OPEN);
    let space = Space::of(&stages, &machine, &fixed).unwrap();
    let points = brute_force(&space, &stages, &machine);
    assert_eq!(points.len() as u128, space.combinations());
    assert_eq!(points.len(), 16_128);
    let tables = Tables::of(&space, &stages, &machine).unwrap();
    let problem = tables.problem(&space, &machine);
    let mut peaks: Vec<u64> = points.iter().map(|p| p.predicted.peak_bytes_hi).collect();
    peaks.sort_unstable();
    let budgets = [None, Some(peaks[0]), Some(peaks[0] - 1), Some(peaks[points.len() / 20]), Some(peaks[points.len() / 3])];
    let floors = [None, Some(60.0), Some(65.0), Some(100.0)];
    let asked =
        [Objective::Latency, Objective::Memory].into_iter().flat_map(|o| budgets.into_iter().flat_map(move |b| floors.map(|f| (o, b, f))));
    for ((objective, budget, floor), tolerance) in asked.flat_map(|a| [0.0, TOLERANCE, 0.2].map(|t| (a, t))) {
        let limits = Limits { peak: budget.map(Bytes), noise: floor.map(Noise::at_least_db), tolerance, deadline: None };
        let found = search::search(&problem, objective, &limits);
        let got = found.best.as_ref().map(|p| (p.time, p.peak, p.noise, p.departures));
        assert_eq!(got, best(&points, objective, &limits), "{objective:?} {budget:?} {floor:?} {tolerance}");
        assert!(found.complete && found.gap == 0.0);
    }
    // The whole way, with the check of the last digit.
    let request = Request { memory: Some(Bytes(peaks[points.len() / 20])), fixed, ..Request::default() };
    let outcome = tune(&stages, &machine, &request).unwrap();
    let limits = Limits { peak: request.memory, ..Limits::default() };
    assert_eq!(outcome.predicted.latency_ps, best(&points, Objective::Latency, &limits).unwrap().0);
    assert_eq!(outcome.predicted, estimate(&stages, &machine, &outcome.choices).unwrap().0);
    assert!(outcome.certificate.optimal && outcome.certificate.combinations as u64 == 16_128);
    assert!(
        outcome.front.len() <= 12 && outcome.front.windows(2).all(|w| w[0].peak_bytes < w[1].peak_bytes && w[0].latency_s > w[1].latency_s)
    );
}

/// A model that was cut is several, with answers of their own; values of the pipeline count where they lie.
#[test]
fn the_search_agrees_with_brute_force_where_a_model_was_cut() {
    const OPEN: [&str; 6] =
        ["pipeline.residency", "unet.once.precision", "unet.schedule.precision", "unet.precision", "unet.guidance", "unet.level0.frames"];
    for key in ["rtx3090", "x86-cpu-2core"] {
        let machine = hwdb::machine(key).unwrap();
        let program = Planned::of(&program("svd-tiny"), &machine, &Debugging::default()).unwrap();
        let stages = Stages::of(&program);
        let instances: Vec<&str> = stages.stages.iter().map(|s| s.site.instance.as_str()).collect();
        assert_eq!(instances, ["image_encoder", "vae_encoder", "unet.once", "unet.schedule", "unet", "vae_decoder"]);
        let whole = Space::of(&stages, &machine, &Choices::default()).unwrap();
        assert!(whole.knobs().iter().all(|k| k.id != "unet.once.guidance" && k.id != "unet.schedule.guidance"));
        let fixed = all_fixed_but(&whole, &OPEN);
        let space = Space::of(&stages, &machine, &fixed).unwrap();
        let points = brute_force(&space, &stages, &machine);
        assert_eq!(points.len() as u128, space.combinations());
        let tables = Tables::of(&space, &stages, &machine).unwrap();
        let problem = tables.problem(&space, &machine);
        let mut peaks: Vec<u64> = points.iter().map(|p| p.predicted.peak_bytes_hi).collect();
        peaks.sort_unstable();
        for budget in [None, Some(peaks[0]), Some(peaks[points.len() / 20]), Some(peaks[points.len() / 3])] {
            let asked = [
                (Objective::Latency, None, 0.0),
                (Objective::Latency, None, TOLERANCE),
                (Objective::Latency, Some(62.0), 0.1),
                (Objective::Memory, Some(65.0), 0.1),
            ];
            for (objective, floor, tolerance) in asked {
                let limits = Limits { peak: budget.map(Bytes), noise: floor.map(Noise::at_least_db), tolerance, deadline: None };
                let found = search::search(&problem, objective, &limits);
                let got = found.best.as_ref().map(|p| (p.time, p.peak, p.noise, p.departures));
                assert_eq!(got, best(&points, objective, &limits), "{key} {objective:?} {budget:?} {floor:?}");
            }
        }
        let outcome = tune(&stages, &machine, &Request { fixed, ..Request::default() }).unwrap();
        assert_eq!(outcome.predicted, estimate(&stages, &machine, &outcome.choices).unwrap().0);
    }
}

/// The search over the whole space of the small pipeline with different budgets.
fn with_budgets(machine: &Machine, check: impl Fn(&Problem<'_>, &dyn Fn(Option<u64>) -> Found)) {
    let program = uncut("svd-tiny");
    let stages = Stages::of(&program);
    let space = Space::of(&stages, machine, &Choices::default()).unwrap();
    let tables = Tables::of(&space, &stages, machine).unwrap();
    let problem = tables.problem(&space, machine);
    check(&problem, &|peak| search::search(&problem, Objective::Latency, &Limits { peak: peak.map(Bytes), ..Limits::default() }));
}

#[test]
fn more_memory_is_never_slower_and_too_little_names_the_smallest_plan() {
    let machine = hwdb::machine("x86-cpu-2core").unwrap();
    with_budgets(&machine, |_, search| {
        let free = search(None);
        let smallest = free.least.clone().unwrap();
        let most = upper(Bytes(free.front.last().unwrap().peak)).0;
        let least = upper(Bytes(smallest.peak)).0;
        let mut before = u64::MAX;
        for i in 0..=20 {
            let best = search(Some(least + (most - least) * i / 20)).best.unwrap();
            assert!(best.time <= before);
            before = best.time;
        }
        assert_eq!(Some(before), free.best.as_ref().map(|b| b.time));
        let miss = search(Some(least - 1));
        assert_eq!((miss.best, miss.complete, miss.least), (None, true, Some(smallest)));
    });
}

#[test]
fn what_does_not_fit_says_what_would() {
    let program = uncut("svd-tiny");
    let stages = Stages::of(&program);
    let machine = hwdb::machine("x86-cpu-2core").unwrap();
    let space = Space::of(&stages, &machine, &Choices::default()).unwrap();
    let fixed = all_fixed_but(&space, &["pipeline.residency", "vae_decoder.level0.frames"]);
    let request = Request { memory: Some(Bytes(1 << 20)), fixed: fixed.clone(), ..Request::default() };
    let e = tune(&stages, &machine, &request).unwrap_err();
    assert_eq!((e.code, e.class().exit_status()), ("tune/no-plan-fits", 3));
    assert!(e.message.starts_with("no plan fits into 1.00 MiB; the smallest needs "), "{}", e.message);
    let mut wrong = Choices::default();
    wrong.set("unet.level0.frame", "2");
    assert_eq!(estimate(&stages, &machine, &wrong).unwrap_err().code, "tune/unknown-knob");
    let mut wrong = fixed;
    wrong.set("unet.level0.frames", "3");
    assert_eq!(estimate(&stages, &machine, &wrong).unwrap_err().code, "tune/not-in-domain");
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let program = uncut("svd-tiny");
    let stages = Stages::of(&program);
    let machine = hwdb::machine("rtx3060-12gb").unwrap();
    let space = Space::of(&stages, &machine, &Choices::default()).unwrap();
    let request = Request { fixed: all_fixed_but(&space, &["pipeline.residency", "unet.precision"]), ..Request::default() };
    let outcome = tune(&stages, &machine, &request).unwrap();
    let record = TuningRecord::new(&stages, &machine, &request, &outcome, None);
    let again = TuningRecord::parse("r.yaml", &record.to_yaml()).unwrap();
    assert_eq!(again, record);
    again.check(&stages, &machine).unwrap();
    let other = hwdb::machine("rtx3090").unwrap();
    assert_eq!(again.check(&stages, &other).unwrap_err().code, "tune/stale-record");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yaml");
    assert_eq!(record.write(&path).unwrap(), None);
    assert_eq!(record.write(&path).unwrap(), None);
    let dated = TuningRecord { date: Some("2026-01-02".into()), ..record.clone() };
    let kept = dated.write(&path).unwrap().unwrap();
    assert_eq!(TuningRecord::read(&kept).unwrap(), record);
    assert_eq!(TuningRecord::read(&path).unwrap(), dated);
}

#[test]
fn a_bad_record_says_where() {
    let e = TuningRecord::parse("r.yaml", "tuning: 1\nvidc: 0.1.0\ngrph: svd\n").unwrap_err();
    assert_eq!(e.code, "tune/bad-record");
    assert!(e.message.contains("grph"), "{}", e.message);
    assert_eq!(e.labels[0].span.line_column().0, 3);
}

#[test]
fn the_schema_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/tuning.schema.json");
    if std::env::var_os("VIDC_UPDATE").is_some() {
        std::fs::write(&path, json_schema()).unwrap();
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == json_schema(), "schemas/tuning.schema.json is stale; VIDC_UPDATE=1 cargo test rewrites it");
}

#[test]
fn the_full_size_pipeline_is_tuned_for_a_card() {
    let program = uncut("svd-xt");
    let stages = Stages::of(&program);
    let machine = hwdb::machine("rtx3090").unwrap();
    let outcome = tune(&stages, &machine, &Request::default()).unwrap();
    assert!(outcome.certificate.optimal && outcome.certificate.combinations > 1e18, "{:?}", outcome.certificate);
    assert!(outcome.predicted.peak_bytes_hi <= machine.memory.0);
    let unet = outcome.predicted.stages.iter().find(|s| s.model == "unet").unwrap();
    // docs/facts/svd.md: one billion and a half weights, of which the embeddings of frame positions (99 million) become tables;
    // twenty-five steps.
    assert!((2.7e9..3.0e9).contains(&(unet.weight_bytes as f64)), "{unet:?}");
    assert_eq!(unet.executions, 25);
}
