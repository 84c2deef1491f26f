//! The tuner on the small pipeline: against brute force through compiles, and what it promises about budgets and records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::record::{TuningRecord, json_schema};
use super::search::tests::{Figures, chosen};
use super::search::{Found, Problem};
use super::*;
use crate::hwdb;
use crate::ir::pipeline::{PipeOp, resolve};
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet, Program};
use crate::passes::manager::{Debugging, run_passes};
use crate::passes::{Answer, Arranged, Effect, KnobId, Leveled, Pass, PassCx, PassInfo, Passes, QualityLoss, Rewriter, Scope, Why, order};
use crate::spec;

/// A pipeline in YAML with its models.
fn loaded(source: &Arc<crate::diag::SourceText>) -> Program {
    let (parsed, found) = spec::parse(source);
    assert_eq!(found.0, []);
    let parsed = parsed.unwrap();
    let build = |name: &str, decl: &spec::ModelDecl| {
        let config = serde_json::to_value(&decl.config).unwrap();
        let component = decl.weights.as_ref().map_or(name, |w| &w.value);
        crate::models::build(&decl.architecture.value, &config, component, name)
    };
    let pipeline = resolve(&parsed, &[], &|decl| build("m", decl).map(|g| g.signature())).map_err(|e| e.0).unwrap();
    let models = parsed.models.iter().map(|(k, decl)| (k.value.clone(), Arc::new(build(&k.value, decl).unwrap()))).collect();
    Program { pipeline, models }
}

/// An embedded pipeline.
fn program(name: &str) -> Program {
    loaded(&spec::builtin(name).unwrap())
}

/// Its models as they are declared, none of them cut.
fn uncut(name: &str, key: &str) -> Planned {
    let debugging = Debugging { disable: vec!["hoist".into()], ..Debugging::default() };
    Planned::of(&program(name), &hwdb::machine_of_case(key), &debugging).unwrap()
}

fn space_of(planned: &Planned, fixed: &Choices) -> Space {
    Space::of(planned, Wanted { fixed, unmeasured: false }).unwrap()
}

/// Every knob at its plain answer, apart from `open` ones.
fn all_fixed_but(planned: &Planned, open: &[&str]) -> Choices {
    let knobs = space_of(planned, &Choices::default()).knobs;
    open.iter().for_each(|o| assert!(knobs.iter().any(|k| k.id == *o), "there is no knob {o}"));
    let closed = knobs.into_iter().filter(|k| !open.contains(&k.id.as_str()));
    Choices(closed.map(|k| (k.id.clone(), k.plain().to_owned())).collect())
}

/// Every combination of the space with its figures, read from lowered programs. What a session's graph costs is kept by the answers of
/// that session, which are all that its passes see of the others.
fn brute_force(space: &Space, planned: &Planned) -> Vec<(Predicted, Figures)> {
    let machine = planned.machine();
    let mut every: Vec<Choices> = Vec::new();
    for a in &space.arrangements {
        let sessions: Vec<Vec<Choices>> = a.sessions.iter().map(|s| s.variants.iter().flat_map(answered).collect()).collect();
        let join = |partial: Vec<Choices>, options: &Vec<Choices>| {
            partial.iter().flat_map(|p| options.iter().map(move |o| p.clone().and(o))).collect()
        };
        every.extend(sessions.iter().fold(vec![a.choices.clone()], join));
    }
    let known: Mutex<BTreeMap<(String, String), GraphFigures>> = Mutex::default();
    // What stands in the pipeline is kept by the answers to what the passes over it ask.
    let asked: Vec<KnobId> = planned.arranged(&Choices::default(), Checks::Fast).unwrap().knobs.into_iter().map(|k| k.id).collect();
    let arrangements: Mutex<BTreeMap<String, Arc<Arranged>>> = Mutex::default();
    let arranged = |choices: &Choices| {
        let key = asked.iter().filter_map(|id| choices.get(id)).collect::<Vec<_>>().join(",");
        let made = || Arc::new(planned.arranged(choices, Checks::Fast).unwrap());
        arrangements.lock().unwrap().entry(key).or_insert_with(made).clone()
    };
    let figures = |choices: &Choices| {
        let arranged = arranged(choices);
        let mut of_session = BTreeMap::new();
        for site in arranged.program.sessions() {
            let own = |id: &str| id.strip_prefix(&site.session).is_some_and(|rest| rest.starts_with('.'));
            let answers: Vec<String> = choices.0.iter().filter(|(id, _)| own(id)).map(|(id, a)| format!("{id}={a}")).collect();
            let key = (site.session.clone(), answers.join(","));
            let found = known.lock().unwrap().get(&key).copied();
            let figures = found.unwrap_or_else(|| {
                let graph = arranged.program.bound(&site).unwrap();
                let done = run_passes(planned.operators(), &graph, &planned.cx(choices), Checks::Fast).unwrap();
                GraphCost::of(&done.graph, machine).unwrap().figures()
            });
            known.lock().unwrap().insert(key, figures);
            of_session.insert(site.session.clone(), figures);
        }
        let quality = choices.quality(&space.knobs);
        let predicted = report(&arranged.program.pipeline, &|s| of_session.get(s).copied(), quality, machine).unwrap();
        let noise = if let Quality::Estimated(noise) = quality { noise.0 } else { 0 };
        let departures = choices.departures(&space.knobs).len() as u32;
        (predicted.clone(), (predicted.latency_ps, predicted.peak_bytes, noise, departures))
    };
    every.par_iter().map(figures).collect()
}

fn answered(variant: &space::Variant) -> Vec<Choices> {
    let extend = |partial: Vec<Choices>, knob: &Knob| {
        let with = |c: &Choices, answer: &Answer| {
            let mut c = c.clone();
            c.set(knob.id.clone(), &answer.name);
            c
        };
        partial.iter().flat_map(|c| knob.answers.iter().map(move |a| with(c, a))).collect()
    };
    variant.segments.iter().fold(vec![variant.globals.clone()], extend)
}

fn best(points: &[(Predicted, Figures)], objective: Objective, limits: &Limits) -> Option<Figures> {
    let fits =
        |p: &&(Predicted, Figures)| limits.peak.is_none_or(|b| p.0.peak_bytes <= b.0) && limits.noise.is_none_or(|most| p.1.2 <= most.0);
    chosen(&points.iter().filter(fits).map(|p| p.1).collect::<Vec<_>>(), objective, limits.tolerance)
}

/// The search over a space with all knobs but `open` at their plain answers, held against every combination: under budgets between
/// too little and enough, floors of quality, both objectives and several tolerances. How many combinations there were.
fn agrees_with_brute_force(planned: &Planned, open: &[&str], floors: &[Option<f64>]) -> usize {
    let fixed = all_fixed_but(planned, open);
    let space = space_of(planned, &fixed);
    let points = brute_force(&space, planned);
    assert_eq!(points.len() as u128, space.combinations());
    let tables = Tables::of(&space, planned).unwrap();
    let problem = tables.problem(&space, planned.machine());
    let mut peaks: Vec<u64> = points.iter().map(|p| p.0.peak_bytes).collect();
    peaks.sort_unstable();
    let n = points.len();
    for budget in [None, Some(peaks[0]), Some(peaks[0] - 1), Some(peaks[n / 20]), Some(peaks[n / 3])] {
        for floor in floors {
            for tolerance in [0.0, TOLERANCE, 0.2] {
                for objective in [Objective::Latency, Objective::Memory] {
                    let limits = Limits { peak: budget.map(Bytes), noise: floor.map(Noise::at_least_db), tolerance, deadline: None };
                    let found = search::search(&problem, objective, &limits);
                    let got = found.best.as_ref().map(|p| (p.time, p.peak, p.noise, p.departures));
                    assert_eq!(got, best(&points, objective, &limits), "{objective:?} {budget:?} {floor:?} {tolerance}");
                    assert!(found.complete && found.gap == 0.0);
                }
            }
        }
    }
    // The whole way, with the check of the last digit.
    let request = Request { memory: Some(upper(Bytes(peaks[n / 20]), planned.machine())), fixed, ..Request::default() };
    let outcome = tune(planned, &request).unwrap();
    let limits = Limits { peak: Some(Bytes(peaks[n / 20])), ..Limits::default() };
    assert_eq!(Some(outcome.predicted.latency_ps), best(&points, Objective::Latency, &limits).map(|f| f.0));
    let again = estimate(planned, &outcome.choices).unwrap();
    assert_eq!(outcome.predicted, again.predicted);
    assert!(outcome.lowered.sessions.iter().all(|(name, c)| c.graph == again.lowered.sessions[name].graph));
    assert!(outcome.certificate.optimal && outcome.certificate.combinations as usize == n);
    assert!(
        outcome.front.len() <= 12 && outcome.front.windows(2).all(|w| w[0].peak_bytes < w[1].peak_bytes && w[0].latency_s > w[1].latency_s)
    );
    n
}

/// 2 · 4 · (4·11·2) · (3·4 + 3·4) = 16896 combinations.
#[test]
fn the_search_agrees_with_brute_force_through_compiles() {
    let open = [
        "pipeline.residency",
        "image_encoder.precision",
        "vae_decoder.precision",
        "vae_decoder.level0.frames",
        "vae_decoder.level0.temporal-conv",
        "unet.guidance",
        "unet.level1.attention",
        "unet.level0.feed-forward",
    ];
    assert_eq!(
        agrees_with_brute_force(&uncut("svd-tiny", "rtx3090/tensorrt"), &open, &[None, Some(60.0), Some(65.0), Some(100.0)]),
        16_896
    );
}

/// A model that was cut is several, with answers of their own; values of the pipeline count where they lie.
#[test]
fn the_search_agrees_with_brute_force_where_a_model_was_cut() {
    let open =
        ["pipeline.residency", "unet.once.precision", "unet.schedule.precision", "unet.precision", "unet.guidance", "unet.level0.frames"];
    for key in ["rtx3090", "x86-cpu-2core"] {
        let planned = Planned::of(&program("svd-tiny"), &hwdb::machine(key).unwrap(), &Debugging::default()).unwrap();
        let sessions: Vec<String> = planned.sessions().into_iter().map(|s| s.session).collect();
        assert_eq!(sessions, ["image_encoder", "vae_encoder", "unet.once", "unet.schedule", "unet", "vae_decoder"]);
        let knobs = space_of(&planned, &Choices::default()).knobs;
        assert!(knobs.iter().all(|k| k.id != "unet.once.guidance" && k.id != "unet.schedule.guidance"));
        agrees_with_brute_force(&planned, &open, &[None, Some(62.0)]);
    }
}

/// For tests: a loop makes half of its steps. Another function, said to cost 40 dB.
struct HalfTheSteps;

static HALF_THE_STEPS: PassInfo = PassInfo {
    id: "half-the-steps",
    summary: "for tests",
    effect: Effect::Approximate,
    asks: Some(Scope::Pipeline),
    requires: &[],
    establishes: &[],
    example: "",
};

impl Pass<Program> for HalfTheSteps {
    fn info(&self) -> &'static PassInfo {
        &HALF_THE_STEPS
    }

    fn knobs(&self, _: &Program, _: &Machine) -> Vec<Knob> {
        let half = Answer::changing("half", Effect::Approximate, QualityLoss::Literature { noise: Noise::at_least_db(40.0) });
        let one = Answer::changing("one", Effect::Approximate, QualityLoss::Unmeasured);
        let answers = vec![Answer::exact("all"), half, one];
        vec![Knob { id: "pipeline.steps".into(), scope: Scope::Pipeline, answers, about: "for tests".into() }]
    }

    fn run(&self, rw: &mut Rewriter<'_, Program>, cx: &PassCx<'_>) -> Result<()> {
        let divisor = match cx.choices.get("pipeline.steps") {
            Some("half") => 2,
            Some("one") => i64::MAX,
            _ => return Ok(()),
        };
        rw.apply("turns", Some("pipeline.steps"), Why::new("fewer"), |e| {
            let graph = &mut e.pipeline().graph;
            for id in graph.ids().collect::<Vec<_>>() {
                if let PipeOp::Loop(l) = &mut graph.node_mut(id).op {
                    l.steps = (l.steps / divisor).max(1);
                }
            }
            Ok(())
        })
    }
}

/// For tests: what comes out of the linear layers of a segment passes through 16 bits. Rounds, said to cost 50 dB a segment.
struct RoundLinears;

static ROUND_LINEARS: PassInfo = PassInfo {
    id: "round-linears",
    summary: "for tests",
    effect: Effect::Rounding,
    asks: Some(Scope::Segment),
    requires: &[],
    establishes: &[],
    example: "",
};

fn linears(graph: &OpGraph) -> Vec<(NodeId, String)> {
    let wide = |id: &NodeId| graph.node(*id).op == Op::Linear && graph.node(*id).outs[0].dtype == DType::F32;
    let nodes = graph.nodes().into_iter().filter(wide);
    nodes.map(|id| (id, format!("{}.{}.rounding", graph.name, graph.node(id).group))).collect()
}

impl Pass for RoundLinears {
    fn info(&self) -> &'static PassInfo {
        &ROUND_LINEARS
    }

    fn knobs(&self, graph: &OpGraph, _: &Machine) -> Vec<Knob> {
        let ids: BTreeSet<String> = linears(graph).into_iter().map(|(_, id)| id).collect();
        let half = Answer::changing("half", Effect::Rounding, QualityLoss::Literature { noise: Noise::at_least_db(50.0) });
        let knob = |id: String| Knob {
            id: id.into(),
            scope: Scope::Segment,
            answers: vec![Answer::exact("whole"), half.clone()],
            about: "for tests".into(),
        };
        ids.into_iter().map(knob).collect()
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        for (id, knob) in linears(rw.graph()) {
            rw.tag(&[id], &knob);
            if cx.choices.get(&knob) != Some("half") {
                continue;
            }
            rw.apply(id, Some(&knob), Why::new("narrow"), |e| {
                let out = Outlet { node: id, slot: 0 };
                let narrow = e.add_behind(Op::Cast { to: DType::F16 }, &[out], "narrow")?;
                let wide = e.add_behind(Op::Cast { to: DType::F32 }, &[narrow], "wide")?;
                e.redirect(out, wide, &[narrow.node]);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The passes with those of this file.
fn with_test_passes() -> Arc<Passes> {
    let mut passes = Vec::new();
    for pass in order() {
        let id = pass.info().id;
        if id == "guidance" {
            passes.push(Leveled::Pipeline(Box::new(HalfTheSteps)));
        }
        if id == "tile-attention" {
            passes.push(Leveled::Operator(Box::new(RoundLinears)));
        }
        passes.push(pass);
    }
    Arc::new(Passes::of(passes))
}

/// Two models that take turns, A-B-A and then both in one loop, on two pictures at once so that there is something to cut.
const TURNS: &str = "vidc: 1
name: turns
weights: random:1
models:
  enc: { architecture: kl-encoder, weights: vae, config: CONFIG }
  dec: { architecture: temporal-decoder, weights: vae, config: CONFIG }
inputs:
  image: { picture: { height: 16, width: 16 } }
pipeline:
  resized: { resize: { image: image, height: 16, width: 16, filter: lanczos } }
  pixels: { to_tensor: { image: resized } }
  twice: { repeat: { value: pixels, axis: batch, count: 2 } }
  a0: { call: { model: enc, inputs: { image: twice } } }
  l0: { unsqueeze: { value: a0, axis: frames, at: 1 } }
  b0: { call: { model: dec, inputs: { latents: l0 } } }
  p0: { squeeze: { value: b0, axis: frames } }
  a1: { call: { model: enc, inputs: { image: p0 } } }
  turns:
    loop:
      steps: 4
      carry: { x: a1 }
      body:
        l1: { unsqueeze: { value: x, axis: frames, at: 1 } }
        b1: { call: { model: dec, inputs: { latents: l1 } } }
        p1: { squeeze: { value: b1, axis: frames } }
        a2: { call: { model: enc, inputs: { image: p1 } } }
        x: { scale: { value: a2, by: 0.5 } }
  l2: { unsqueeze: { value: x, axis: frames, at: 1 } }
  frames: { call: { model: dec, inputs: { latents: l2 } } }
outputs:
  video: { frames: frames, fps: 7 }
";
const CONFIG: &str = "{ block_out_channels: [32, 32], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], layers_per_block: 1, \
                      in_channels: 3, out_channels: 3, latent_channels: 4, sample_size: 16, scaling_factor: 1.0, force_upcast: true }";

fn turns(key: &str) -> Planned {
    turns_with(key, "")
}

/// The same with further lines at the top of the graph.
fn turns_with(key: &str, lines: &str) -> Planned {
    let text = TURNS.replace("CONFIG", CONFIG).replace("models:\n", &format!("{lines}models:\n"));
    let source = crate::diag::SourceText { name: "turns.yaml".into(), text };
    let program = loaded(&Arc::new(source));
    Planned::with(with_test_passes(), &program, &hwdb::machine_of_case(key), &Debugging::default()).unwrap()
}

#[test]
fn the_search_agrees_with_brute_force_where_models_take_turns() {
    let open = [
        "pipeline.residency",
        "pipeline.steps",
        "enc.guidance",
        "enc.precision",
        "enc.mid.rounding",
        "enc.mid.attention",
        "enc.level0.frames",
        "dec.guidance",
        "dec.precision",
        "dec.level0.temporal-conv",
        "dec.level0.frames",
    ];
    let n = agrees_with_brute_force(&turns("rtx3090/tensorrt"), &open, &[None, Some(39.0), Some(45.0), Some(48.0)]);
    assert!(n >= 10_000, "{n} combinations");
}

#[test]
fn an_answer_that_nobody_measured_is_taken_only_if_asked_for() {
    let planned = turns("rtx3090");
    let fixed = all_fixed_but(&planned, &["pipeline.steps"]);
    let asked = |fixed: &Choices, allow_unmeasured: bool| {
        let outcome = tune(&planned, &Request { fixed: fixed.clone(), allow_unmeasured, ..Request::default() }).unwrap();
        (outcome.choices.get("pipeline.steps").unwrap().to_owned(), outcome.predicted.quality, outcome.predicted.quality_db.is_some())
    };
    assert_eq!(asked(&fixed, false), ("half".into(), QualityFrom::Estimated, true));
    assert_eq!(asked(&fixed, true), ("one".into(), QualityFrom::Unmeasured, false));
    for (named, quality, has_figure) in
        [("one", QualityFrom::Unmeasured, false), ("half", QualityFrom::Estimated, true), ("all", QualityFrom::Exact, false)]
    {
        let mut given = fixed.clone();
        given.set("pipeline.steps", named);
        assert_eq!(asked(&given, false), (named.into(), quality, has_figure));
    }
}

/// A graph gives answers; who runs it gives others; what it gives wrongly is told at its place.
#[test]
fn a_graph_answers_what_nobody_else_does() {
    let planned = turns_with("rtx3090", "choose: { pipeline.steps: one, enc.guidance: serial }\n");
    let e = estimate(&planned, &Choices::default()).unwrap();
    assert_eq!((e.lowered.choices.get("enc.guidance"), e.predicted.quality), (Some("serial"), QualityFrom::Unmeasured));
    let mut user = Choices::default();
    user.set("pipeline.steps", "all");
    let e = estimate(&planned, &user).unwrap();
    assert_eq!((e.lowered.choices.get("pipeline.steps"), e.predicted.quality), (Some("all"), QualityFrom::Exact));
    for (line, code, column) in
        [("choose: { enc.guidence: serial }\n", "tune/unknown-knob", 11), ("choose: { enc.guidance: both }\n", "tune/not-in-domain", 25)]
    {
        let d = estimate(&turns_with("rtx3090", line), &Choices::default()).unwrap_err();
        assert_eq!((d.code, d.labels[0].span.line_column()), (code, (4, column)));
    }
}

/// The search over the whole space of the small pipeline with different budgets.
fn with_budgets(key: &str, check: impl Fn(&Problem, &dyn Fn(Option<u64>) -> Found)) {
    let planned = uncut("svd-tiny", key);
    let space = space_of(&planned, &Choices::default());
    let tables = Tables::of(&space, &planned).unwrap();
    let problem = tables.problem(&space, planned.machine());
    check(&problem, &|peak| search::search(&problem, Objective::Latency, &Limits { peak: peak.map(Bytes), ..Limits::default() }));
}

#[test]
fn more_memory_is_never_slower_and_too_little_names_the_smallest_plan() {
    with_budgets("x86-cpu-2core", |_, search| {
        let free = search(None);
        let smallest = free.least.clone().unwrap();
        let most = free.front.last().unwrap().peak;
        let least = smallest.peak;
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
    let planned = uncut("svd-tiny", "x86-cpu-2core");
    let fixed = all_fixed_but(&planned, &["pipeline.residency", "vae_decoder.level0.frames"]);
    let request = Request { memory: Some(Bytes(1 << 20)), fixed: fixed.clone(), ..Request::default() };
    let e = tune(&planned, &request).unwrap_err();
    assert_eq!((e.code, e.class().exit_status()), ("tune/no-plan-fits", 3));
    assert!(e.message.starts_with("no plan fits into 1.00 MiB; the smallest needs "), "{}", e.message);
    let mut wrong = Choices::default();
    wrong.set("unet.level0.frame", "2");
    assert_eq!(estimate(&planned, &wrong).unwrap_err().code, "tune/unknown-knob");
    let mut wrong = fixed;
    wrong.set("unet.level0.frames", "3");
    assert_eq!(estimate(&planned, &wrong).unwrap_err().code, "tune/not-in-domain");
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let planned = uncut("svd-tiny", "rtx3060-12gb");
    let request = Request { fixed: all_fixed_but(&planned, &["pipeline.residency", "unet.precision"]), ..Request::default() };
    let outcome = tune(&planned, &request).unwrap();
    let record = TuningRecord::new(&planned, &request, &outcome, None);
    let again = TuningRecord::parse("r.yaml", &record.to_yaml()).unwrap();
    assert_eq!(again, record);
    again.check(&planned).unwrap();
    assert_eq!(again.check(&uncut("svd-tiny", "rtx3090")).unwrap_err().code, "tune/stale-record");

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
    let planned = uncut("svd-xt", "rtx3090");
    let machine = planned.machine();
    let outcome = tune(&planned, &Request::default()).unwrap();
    assert!(outcome.certificate.optimal && outcome.certificate.combinations > 1e18, "{:?}", outcome.certificate);
    assert!(outcome.predicted.peak_bytes_hi <= machine.memory.0);
    let unet = outcome.predicted.stages.iter().find(|s| s.model == "unet").unwrap();
    // docs/facts/svd.md: one billion and a half weights, of which the embeddings of frame positions (99 million) become tables;
    // twenty-five steps.
    assert!((2.7e9..3.0e9).contains(&(unet.weight_bytes as f64)), "{unet:?}");
    assert_eq!(unet.executions, 25);
}
