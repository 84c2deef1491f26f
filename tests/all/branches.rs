//! Branches: the executor of plans against the evaluator of pipelines on generated loops and branches, and against pipelines that are
//! written without them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array3, ArrayD, Axis};
use vidc::diag::SourceText;
use vidc::interp::run_pipeline;
use vidc::passes::manager::Debugging;
use vidc::passes::{Checks, Choices, Planned, RESIDENCY};
use vidc::plan::{self, Provenance};
use vidc::runtime::Run;
use vidc::runtime::progress::SavedLoop;
use vidc::runtime::request::{Event, RunOutcome, RunRequest};
use vidc::runtime::session::Runtime;
use vidc::scenarios::SplitMix64;
use vidc::{hwdb, weights};

use crate::reference::{prepared, run_once, runtime};
use crate::residency::head;

fn planned(text: &str) -> Planned {
    let source = Arc::new(SourceText { name: "branches.yaml".into(), text: text.into() });
    let program = vidc::models::load(&source, &[]).unwrap_or_else(|d| panic!("{:#?}\n{text}", d.0));
    Planned::of(&program, &hwdb::machine("cpu-avx2").unwrap(), &Debugging::default()).unwrap()
}

fn write_plan(program: &Planned, residency: &str, folder: &Path) {
    let mut choices = Choices::default();
    choices.set(RESIDENCY, residency);
    let lowered = program.compile(&choices, Checks::Full).unwrap();
    let provenance = Provenance { weights: "random:1".into(), effects: vec![], predicted: None, device: 0 };
    plan::write(&lowered, program.machine(), &weights::ParamSource::Random { seed: 1 }, provenance, false, folder).unwrap();
}

fn execute(folder: &Path, runtime: &Runtime, request: &RunRequest) -> RunOutcome {
    run_once(&prepared(folder, runtime), request, &mut |_| {})
}

/// Compiles and runs at once.
fn run(text: &str, residency: &str, runtime: &Runtime, request: &RunRequest) -> RunOutcome {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("plan");
    write_plan(&planned(text), residency, &folder);
    execute(&folder, runtime, request)
}

fn picture() -> BTreeMap<String, Array3<u8>> {
    BTreeMap::from([("image".into(), Array3::from_shape_fn((16, 16, 3), |(y, x, c)| (y * 13 + x * 7 + c * 50) as u8))])
}

fn request(dumps: &[&str]) -> RunRequest {
    RunRequest { inputs: picture(), dumps: dumps.iter().map(|d| (*d).to_owned()).collect(), ..RunRequest::default() }
}

fn bits(x: &ArrayD<f32>) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// What a generated pipeline does with its state, frames [1, 1, 3, 2, 2].
enum Item {
    Scale(f64),
    /// Steps, and whether each step has a factor of its own.
    Loop(u64, Vec<Item>),
    /// A limit, and the arms.
    If(f64, Vec<Item>, Vec<Item>),
}

fn items(random: &mut SplitMix64, depth: usize) -> Vec<Item> {
    let count = random.below(3) + usize::from(depth == 0);
    let item = |random: &mut SplitMix64| match random.below(if depth < 3 { 4 } else { 1 }) {
        0 => Item::Scale([0.5, 1.25, -1.0][random.below(3)]),
        1 => Item::Loop(1 + random.below(3) as u64, items(random, depth + 1)),
        _ => Item::If([0.0, 0.3, 0.8, 2.0][random.below(4)], items(random, depth + 1), items(random, depth + 1)),
    };
    (0..count).map(|_| item(random)).collect()
}

/// Writes the steps of `items` behind the state `from`; the name of the state after them.
fn write(items: &[Item], from: &str, indent: usize, next: &mut usize, out: &mut String) -> String {
    let mut state = from.to_owned();
    let pad = " ".repeat(indent);
    for item in items {
        *next += 1;
        let n = *next;
        match item {
            Item::Scale(by) => {
                let _ = writeln!(out, "{pad}s{n}: {{ scale: {{ value: {state}, by: {by:?} }} }}");
            }
            Item::Loop(steps, body) => {
                let _ = write!(
                    out,
                    "{pad}loop{n}:\n{pad}  loop:\n{pad}    steps: {steps}\n{pad}    carry: {{ s{n}: {state} }}\n{pad}    each: {{ f{n}: factors }}\n{pad}    body:\n\
                     {pad}      g{n}: {{ reshape: {{ value: f{n}, shape: {{ batch: 1, frames: 1, channels: 1, height: 1, width: 1 }} }} }}\n\
                     {pad}      m{n}: {{ mul: {{ values: [s{n}, g{n}] }} }}\n"
                );
                let last = write(body, &format!("m{n}"), indent + 6, next, out);
                let _ = writeln!(out, "{pad}      s{n}: {{ scale: {{ value: {last}, by: 1 }} }}");
            }
            Item::If(below, then, otherwise) => {
                let _ = write!(
                    out,
                    "{pad}c{n}: {{ relative_change: {{ from: start, to: {state} }} }}\n{pad}if{n}:\n{pad}  if:\n{pad}    value: c{n}\n{pad}    below: {below:?}\n"
                );
                let mut arm = |word: &str, items: &[Item], out: &mut String| {
                    let mut inner = String::new();
                    let last = write(items, &state, indent + 6, next, &mut inner);
                    if !inner.is_empty() {
                        let _ = write!(out, "{pad}    {word}:\n{inner}");
                    }
                    last
                };
                let (first, second) = (arm("then", then, out), arm("else", otherwise, out));
                let _ = writeln!(out, "{pad}    gives: {{ s{n}: {{ then: {first}, else: {second} }} }}");
            }
        }
        state = format!("s{n}");
    }
    state
}

fn generated(items: &[Item]) -> String {
    let mut text = String::from(
        "vidc: 1\nname: branches\npipeline:\n  start: { randn: { stream: a, seed: 7, shape: { batch: 1, frames: 1, channels: 3, height: 2, width: 2 } } }\n  \
         factors: { constant: { values: [1.0, 0.6, 1.9], shape: { steps: 3 } } }\n",
    );
    let last = write(items, "start", 2, &mut 0, &mut text);
    let _ = write!(text, "outputs:\n  video: {{ frames: {last}, fps: 7 }}\n");
    text
}

/// How often a value is made where every arm runs, if it is in a loop.
fn most(program: &Planned, name: &str) -> Option<usize> {
    let at = program.pipeline.locate(name).unwrap();
    let mut graph = &program.pipeline.graph;
    let mut times = 1;
    for within in &at.within {
        let (node, body) = match within {
            vidc::ir::pipeline::Within::Loop(node) => (*node, 0),
            vidc::ir::pipeline::Within::Arm { branch, arm } => (*branch, *arm),
        };
        if let vidc::ir::pipeline::PipeOp::Loop(l) = &graph.node(node).op {
            times *= l.steps as usize;
        }
        graph = graph.node(node).op.bodies()[body];
    }
    (at.loops() > 0).then_some(times)
}

#[test]
fn the_executor_runs_what_the_evaluator_runs() {
    let Some(runtime) = runtime() else { return };
    let mut random = SplitMix64::new(21);
    let (mut whole, mut gaps) = (0, 0);
    for _ in 0..150 {
        let text = generated(&items(&mut random, 0));
        let program = planned(&text);
        let (outputs, made) = run_pipeline(&program.pipeline, &BTreeMap::new(), &mut |_, _| panic!("no calls")).unwrap();
        let names: Vec<String> = program.pipeline.values().into_iter().map(|(n, _)| n).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("plan");
        write_plan(&program, "all", &folder);
        let outcome = execute(&folder, &runtime, &RunRequest { inputs: BTreeMap::new(), ..request(&names) });
        assert_eq!(bits(&outcome.outputs[0].1), bits(&outputs[0].tensor().unwrap().to_owned()), "{text}");
        for name in names {
            let dump = &outcome.dumps[name];
            let rows: Vec<ArrayD<f32>> = match most(&program, name) {
                Some(times) => {
                    assert_eq!(dump.shape()[0], times, "{name} in\n{text}");
                    dump.axis_iter(Axis(0)).map(|row| row.to_owned()).collect()
                }
                None => vec![dump.clone()],
            };
            let there: Vec<Vec<u32>> = rows.iter().filter(|r| !r.iter().all(|v| v.is_nan())).map(bits).collect();
            let want: Vec<Vec<u32>> = made.get(name).into_iter().flatten().map(|v| bits(&v.tensor().unwrap().to_owned())).collect();
            assert_eq!(there, want, "{name} in\n{text}");
            let some = !there.is_empty() && there.len() < rows.len();
            whole += usize::from(there.len() == rows.len());
            gaps += usize::from(some);
        }
    }
    // Both arms of one branch in different steps.
    assert!(gaps > 20 && whole > 100, "{gaps} values were made in some steps, {whole} in all");
}

/// A picture brighter from step to step; frames are encoded and decoded where they changed by a tenth since that was last done.
fn cached() -> String {
    format!(
        "{}  factors: {{ constant: {{ values: [1.0, 1.02, 2.0, 2.1, 1.0], shape: {{ steps: 5 }} }} }}
  nothing: {{ zeros_like: {{ value: frames }} }}
  work:
    loop:
      steps: 5
      carry: {{ x: frames, seen: nothing, said: nothing }}
      each: {{ factor: factors }}
      body:
        bright: {{ reshape: {{ value: factor, shape: {{ batch: 1, frames: 1, channels: 1, height: 1, width: 1 }} }} }}
        now: {{ mul: {{ values: [frames, bright] }} }}
        change: {{ relative_change: {{ from: seen, to: now }} }}
        reuse:
          if:
            value: change
            below: 1 / 10
            else:
              plain: {{ squeeze: {{ value: now, axis: frames }} }}
              latent: {{ call: {{ model: enc, inputs: {{ image: plain }} }} }}
              latents: {{ unsqueeze: {{ value: latent, axis: frames, at: 1 }} }}
              fresh: {{ call: {{ model: dec, inputs: {{ latents: latents }} }} }}
            gives:
              seen: {{ then: seen, else: now }}
              said: {{ then: said, else: fresh }}
        x: {{ lerp: {{ from: x, to: said, weight: 0.5 }} }}
outputs:
  video: {{ frames: x, fps: 7 }}
",
        head()
    )
}

/// The same, step by step, by hand: steps 0, 2 and 4 run the models.
fn by_hand() -> String {
    let mut text = head();
    let mut x = "frames".to_owned();
    for (step, (factor, fresh)) in [(1.0, true), (1.02, false), (2.0, true), (2.1, false), (1.0, true)].into_iter().enumerate() {
        let said = if fresh { step } else { step - 1 };
        if fresh {
            let _ = write!(
                text,
                "  now{step}: {{ scale: {{ value: frames, by: {factor:?} }} }}\n  plain{step}: {{ squeeze: {{ value: now{step}, axis: frames }} }}\n  \
                 latent{step}: {{ call: {{ model: enc, inputs: {{ image: plain{step} }} }} }}\n  \
                 latents{step}: {{ unsqueeze: {{ value: latent{step}, axis: frames, at: 1 }} }}\n  \
                 fresh{step}: {{ call: {{ model: dec, inputs: {{ latents: latents{step} }} }} }}\n"
            );
        }
        let _ = writeln!(text, "  x{step}: {{ lerp: {{ from: {x}, to: fresh{said}, weight: 0.5 }} }}");
        x = format!("x{step}");
    }
    text + &format!("outputs:\n  video: {{ frames: {x}, fps: 7 }}\n")
}

#[test]
fn a_cached_step_uses_what_was_said_before() {
    let Some(runtime) = runtime() else { return };
    let want = run(&by_hand(), "all", &runtime, &request(&["fresh0", "fresh2", "fresh4"]));
    for residency in ["all", "stage"] {
        let got = run(&cached(), residency, &runtime, &request(&["fresh", "said", "change"]));
        assert_eq!(bits(&got.outputs[0].1), bits(&want.outputs[0].1), "{residency}");
        assert_eq!((got.measured["enc"].runs, got.measured["dec"].runs), (3, 3));
        let (fresh, said, change) = (&got.dumps["fresh"], &got.dumps["said"], &got.dumps["change"]);
        assert_eq!((fresh.shape()[0], said.shape()[0], change.len()), (5, 5, 5));
        assert_eq!(change[[0, 0]], f32::INFINITY);
        for step in 0..5 {
            let row = |x: &ArrayD<f32>| x.index_axis(Axis(0), step).to_owned();
            assert_eq!(bits(&row(said)), bits(&want.dumps[&format!("fresh{}", step / 2 * 2)]), "step {step}");
            assert!(row(fresh).iter().all(|v| v.is_nan() == (step % 2 == 1)), "step {step}");
        }
    }
}

#[test]
fn what_was_dumped_can_be_fed_again() {
    let Some(runtime) = runtime() else { return };
    let first = run(&cached(), "all", &runtime, &request(&["fresh"]));
    let feeds = BTreeMap::from([("fresh".to_owned(), first.dumps["fresh"].clone())]);
    let again = run(&cached(), "all", &runtime, &RunRequest { feeds, ..request(&[]) });
    assert_eq!(bits(&again.outputs[0].1), bits(&first.outputs[0].1));
    assert!(again.measured.get("dec").is_none_or(|m| m.runs == 0), "what is fed is not computed");
    // What a branch gives can be fed as well.
    let said = ArrayD::zeros(ndarray::IxDyn(&[5, 1, 1, 3, 16, 16]));
    let fed = run(&cached(), "all", &runtime, &RunRequest { feeds: BTreeMap::from([("said".into(), said)]), ..request(&["x"]) });
    let x = &fed.dumps["x"];
    assert!(x.index_axis(Axis(0), 1).iter().zip(x.index_axis(Axis(0), 0)).all(|(b, a)| *b == a * 0.5));
}

#[test]
fn a_stopped_loop_with_a_branch_goes_on() {
    let Some(runtime) = runtime() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (plan, save) = (folder.path().join("plan"), folder.path().join("progress"));
    write_plan(&planned(&cached()), "stage", &plan);
    let want = execute(&plan, &runtime, &request(&[]));
    // Behind each step: the one before a cached step, a cached one, the one before another.
    for stop_after in 1..5 {
        let stop = AtomicBool::new(false);
        let prepared = prepared(&plan, &runtime);
        let started = RunRequest { save: Some(save.clone()), ..request(&[]) };
        let mut events = |event| {
            if matches!(event, Event::Step(_, done, _) if done == stop_after) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let stopped = Run::new(&prepared, &started, &stop, &mut events).and_then(Run::finish);
        assert_eq!(stopped.unwrap_err().code, "run/interrupted");
        let saved = SavedLoop::read(&save, prepared.manifest()).unwrap();
        assert_eq!((saved.done, saved.state.len()), (stop_after, 3));
        let got = execute(&plan, &runtime, &RunRequest { resume: Some(saved), ..request(&[]) });
        assert_eq!(bits(&got.outputs[0].1), bits(&want.outputs[0].1), "stopped after {stop_after}");
    }
}

/// Only the outer of two loops is saved: the inner one's state belongs to one step of it.
#[test]
fn a_stopped_loop_in_a_loop_goes_on() {
    let Some(runtime) = runtime() else { return };
    let body = |n: u64| vec![Item::If(0.8, vec![Item::Loop(n, vec![Item::Scale(1.25)])], vec![Item::Scale(0.5)])];
    let text = generated(&[Item::Loop(3, body(3))]);
    let folder = tempfile::tempdir().unwrap();
    let (plan, save) = (folder.path().join("plan"), folder.path().join("progress"));
    write_plan(&planned(&text), "all", &plan);
    let request = RunRequest::default();
    let want = execute(&plan, &runtime, &request);
    let stop = AtomicBool::new(false);
    let prepared = prepared(&plan, &runtime);
    let mut steps = 0;
    let started = RunRequest { save: Some(save.clone()), ..request.clone() };
    let mut events = |event| {
        steps += usize::from(matches!(event, Event::Step(..)));
        // Three steps of the inner loop, one of the outer, then inner ones again if that arm runs.
        stop.store(steps >= 5, Ordering::Relaxed);
    };
    let stopped = Run::new(&prepared, &started, &stop, &mut events).and_then(Run::finish);
    assert_eq!(stopped.unwrap_err().code, "run/interrupted");
    let saved = SavedLoop::read(&save, prepared.manifest()).unwrap();
    assert_eq!(saved.name, "loop1");
    let got = execute(&plan, &runtime, &RunRequest { resume: Some(saved), ..request });
    assert_eq!(bits(&got.outputs[0].1), bits(&want.outputs[0].1));
}

#[test]
fn a_call_in_an_arm_may_never_run() {
    let text = include_str!("../data/graphs/svd-tiny-cached.yaml").into();
    let program = vidc::models::load(&Arc::new(SourceText { name: "t.yaml".into(), text }), &[]).unwrap_or_else(|d| panic!("{:?}", d.0));
    let debugging = Debugging { disable: vec!["hoist".into()], ..Debugging::default() };
    let planned = Planned::of(&program, &hwdb::machine("cpu-avx2").unwrap(), &debugging).unwrap();
    let mut choices = Choices::default();
    choices.set(RESIDENCY, "stage");
    let arranged = planned.arranged(&choices, Checks::Full).unwrap();
    let walk = arranged.program.pipeline.walk();
    let runs: Vec<_> = walk.moments.iter().map(|m| (m.call.model.as_str(), m.least, m.times)).collect();
    assert_eq!(runs, [("image_encoder", 1, 1), ("vae_encoder", 1, 1), ("unet", 0, 3), ("vae_decoder", 1, 1)]);
    let loads: Vec<u64> = walk.moments.iter().map(|m| m.loads).collect();
    assert_eq!(loads, [1, 1, 1, 1], "a branch with one model is one stay, and so is the loop around it");
}
