//! Where only the model that runs is in memory, the plan loads what the cost counts: generated pipelines in which two models take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ndarray::Array3;
use vidc::cost::graph::GraphCost;
use vidc::diag::SourceText;
use vidc::hwdb::{self, Machine};
use vidc::passes::manager::Debugging;
use vidc::passes::{Checks, Choices, Lowered, Planned, RESIDENCY};
use vidc::plan::{self, Provenance, Step};
use vidc::runtime::request::{Event, RunRequest};
use vidc::runtime::session::Runtime;
use vidc::scenarios::SplitMix64;
use vidc::weights;

use crate::reference::{prepared, run_once, runtime};

/// The configuration of both models, of two levels: pictures of 16x16, latents of 8x8.
const CONFIG: &str = "{ block_out_channels: [32, 32], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], layers_per_block: 1, \
                      in_channels: 3, out_channels: 3, latent_channels: 4, sample_size: 16, scaling_factor: 1.0, force_upcast: true }";

/// What stands before the generated steps: an encoder, a decoder, and the first state.
pub(crate) fn head() -> String {
    format!(
        "vidc: 1
name: turns
weights: random:1
models:
  enc: {{ architecture: kl-encoder, weights: vae, config: {CONFIG} }}
  dec: {{ architecture: temporal-decoder, weights: vae, config: {CONFIG} }}
inputs:
  image: {{ picture: {{ height: 16, width: 16 }} }}
pipeline:
  resized: {{ resize: {{ image: image, height: 16, width: 16, filter: lanczos }} }}
  pixels: {{ to_tensor: {{ image: resized }} }}
  frames: {{ unsqueeze: {{ value: pixels, axis: frames, at: 1 }} }}
"
    )
}

/// What a generated pipeline does with its state, frames [1, 1, 3, 16, 16].
enum Item {
    /// Encodes the frames and decodes that.
    Both,
    /// Encodes the frames; what comes out joins the state as a number too small to matter, so that order is kept.
    Encode,
    /// As `Encode`, then decodes twice from it.
    DecodeTwice,
    /// A loop.
    Loop(u64, Vec<Item>),
    /// A branch that always takes the one arm, or always the other.
    If(bool, Vec<Item>, Vec<Item>),
}

fn items(random: &mut SplitMix64, depth: usize) -> Vec<Item> {
    let item = |random: &mut SplitMix64| match random.below(if depth < 2 { 7 } else { 3 }) {
        0 => Item::Both,
        1 => Item::Encode,
        2 => Item::DecodeTwice,
        3 | 4 => Item::Loop(1 + random.below(3) as u64, items(random, depth + 1)),
        _ => {
            let other = if random.below(2) == 0 { Vec::new() } else { items(random, depth + 1) };
            Item::If(random.below(2) == 0, items(random, depth + 1), other)
        }
    };
    (0..=random.below(3)).map(|_| item(random)).collect()
}

/// Writes the steps of `items` behind the state `from`; the name of the state after them.
fn write(items: &[Item], from: &str, indent: usize, next: &mut usize, out: &mut String) -> String {
    let mut state = from.to_owned();
    let pad = " ".repeat(indent);
    for item in items {
        *next += 1;
        let n = *next;
        let encoded = format!(
            "{pad}p{n}: {{ squeeze: {{ value: {state}, axis: frames }} }}\n{pad}z{n}: {{ call: {{ model: enc, inputs: {{ image: p{n} }} }} }}\n\
             {pad}l{n}: {{ unsqueeze: {{ value: z{n}, axis: frames, at: 1 }} }}\n"
        );
        let decode = |name: &str| format!("{pad}{name}: {{ call: {{ model: dec, inputs: {{ latents: l{n} }} }} }}\n");
        match item {
            Item::Both => *out += &(encoded + &decode(&format!("s{n}"))),
            Item::Encode => {
                // The latents are as many numbers as a quarter of the frames' rows: 4 x 8 x 8 of 3 x 16 x 16.
                *out += &encoded;
                let _ = write!(
                    out,
                    "{pad}r{n}: {{ reshape: {{ value: l{n}, shape: {{ batch: 1, frames: 1, channels: 1, height: 16, width: 16 }} }} }}\n\
                     {pad}q{n}: {{ repeat: {{ value: r{n}, axis: channels, count: 3 }} }}\n{pad}s{n}: {{ lerp: {{ from: {state}, to: q{n}, weight: 0.001 }} }}\n"
                );
            }
            Item::DecodeTwice => {
                *out += &(encoded + &decode(&format!("a{n}")) + &decode(&format!("b{n}")));
                let _ = writeln!(out, "{pad}s{n}: {{ add: {{ values: [a{n}, b{n}] }} }}");
            }
            Item::Loop(steps, body) => {
                let _ = write!(
                    out,
                    "{pad}loop{n}:\n{pad}  loop:\n{pad}    steps: {steps}\n{pad}    carry: {{ s{n}: {state} }}\n{pad}    body:\n"
                );
                let mut inner = String::new();
                let last = write(body, &format!("s{n}"), indent + 6, next, &mut inner);
                let _ = writeln!(out, "{inner}{pad}      s{n}: {{ scale: {{ value: {last}, by: 0.5 }} }}");
            }
            Item::If(first, then, otherwise) => {
                // A value is 0 from itself: below 1, not below 0.
                let below = u8::from(*first);
                let _ = write!(
                    out,
                    "{pad}c{n}: {{ relative_change: {{ from: {state}, to: {state} }} }}\n{pad}if{n}:\n{pad}  if:\n{pad}    value: c{n}\n{pad}    below: {below}\n"
                );
                let mut arm = |word: &str, items: &[Item], out: &mut String| {
                    let mut inner = String::new();
                    let last = write(items, &state, indent + 6, next, &mut inner);
                    let _ = write!(out, "{}", if inner.is_empty() { String::new() } else { format!("{pad}    {word}:\n{inner}") });
                    last
                };
                let (a, b) = (arm("then", then, out), arm("else", otherwise, out));
                let _ = writeln!(out, "{pad}    gives: {{ s{n}: {{ then: {a}, else: {b} }} }}");
            }
        }
        state = format!("s{n}");
    }
    state
}

fn program(items: &[Item]) -> Planned {
    let mut text = head();
    let last = write(items, "frames", 2, &mut 0, &mut text);
    let _ = write!(text, "outputs:\n  video: {{ frames: {last}, fps: 7 }}\n");
    let source = Arc::new(SourceText { name: "turns.yaml".into(), text });
    let program = vidc::models::load(&source, &[]).unwrap_or_else(|d| panic!("{:#?}\n{}", d.0, source.text));
    Planned::of(&program, &hwdb::machine("cpu-avx2").unwrap(), &Debugging::default()).unwrap()
}

type Loads = BTreeMap<String, u64>;

/// A call: its session, the sessions that are loaded meanwhile, and the bytes of their weights.
type Call = (String, BTreeSet<String>, u64);

/// What a run did.
struct Ran {
    /// Loads of each session, as the executor says.
    loads: Loads,
    /// Those of the plan's steps, with both arms of a branch.
    both: Loads,
    /// The same with the arm that is taken.
    taken: Loads,
    /// The most sessions that the plan holds at once.
    most: usize,
    /// How often each call was made, as the executor says.
    calls: BTreeMap<Call, u64>,
}

fn lowered(program: &Planned, residency: &str) -> Lowered {
    let mut choices = Choices::default();
    choices.set(RESIDENCY, residency);
    program.compile(&choices, Checks::Full).unwrap()
}

fn run(program: &Planned, lowered: &Lowered, runtime: &Runtime) -> Ran {
    let provenance = Provenance { weights: "random:1".into(), effects: vec![], predicted: None, device: 0 };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("plan");
    let manifest = plan::write(lowered, program.machine(), &weights::ParamSource::Random { seed: 1 }, provenance, false, &folder).unwrap();
    let request = RunRequest { inputs: BTreeMap::from([("image".into(), Array3::from_elem((16, 16, 3), 90))]), ..RunRequest::default() };
    let (mut loads, mut calls) = (BTreeMap::new(), BTreeMap::new());
    let mut count = |event: Event| match event {
        Event::Loading(name) => *loads.entry(name).or_insert(0) += 1,
        Event::Call(session, loaded, bytes) => *calls.entry((session, loaded.into_iter().collect(), bytes)).or_insert(0) += 1,
        Event::Stage(_) | Event::Step(..) => {}
    };
    run_once(&prepared(&folder, runtime), &request, &mut count);
    let name = |loads: BTreeMap<usize, u64>| loads.into_iter().map(|(s, n)| (manifest.sessions[s].name.clone(), n)).collect();
    let (mut both, mut taken) = (BTreeMap::new(), BTreeMap::new());
    written(&manifest.steps, 1, true, &mut both);
    written(&manifest.steps, 1, false, &mut taken);
    Ran { loads, both: name(both), taken: name(taken), most: most_held(&manifest.steps, &mut 0), calls }
}

/// Counts the loads that stand in steps that run `times` times.
fn written(steps: &[Step], times: u64, both: bool, loads: &mut BTreeMap<usize, u64>) {
    for step in steps {
        match step {
            Step::Load { session } => *loads.entry(*session).or_insert(0) += times,
            Step::Loop { steps, body, .. } => written(body, times * *steps as u64, both, loads),
            Step::Branch { below, then, otherwise, .. } => {
                for arm in [(then, *below > 0.0), (otherwise, *below <= 0.0)] {
                    if both || arm.1 {
                        written(arm.0, times, both, loads);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The most sessions in memory while the steps run.
fn most_held(steps: &[Step], held: &mut usize) -> usize {
    let mut most = *held;
    for step in steps {
        match step {
            Step::Load { .. } => *held += 1,
            Step::Unload { .. } => *held -= 1,
            Step::Loop { body, .. } => most = most.max(most_held(body, held)),
            Step::Branch { then, otherwise, .. } => {
                let before = *held;
                most = most.max(most_held(then, held)).max(most_held(otherwise, held));
                assert_eq!(*held, before, "an arm leaves nothing behind");
            }
            _ => {}
        }
        most = most.max(*held);
    }
    most
}

/// What the cost says of each call: how often it is made at least and at most.
fn costed(lowered: &Lowered, machine: &Machine) -> BTreeMap<Call, (u64, u64)> {
    let weights = |session: &str| GraphCost::of(&lowered.sessions[session].graph, machine).unwrap().weights.stored.0;
    let mut out = BTreeMap::new();
    for m in &lowered.program.pipeline.walk().moments {
        let loaded: BTreeSet<String> = m.loaded.iter().map(|s| (*s).to_owned()).collect();
        let bytes = loaded.iter().map(|s| weights(s)).sum();
        let (least, most) = out.entry((m.placement.session.clone(), loaded, bytes)).or_insert((0, 0));
        (*least, *most) = (*least + m.least, *most + m.times);
    }
    out
}

/// Loads, sessions in memory and their bytes at every call are what the cost counts, on generated pipelines under both residencies.
#[test]
fn a_plan_loads_and_holds_what_the_cost_counts() {
    let Some(runtime) = runtime() else { return };
    let mut random = SplitMix64::new(16);
    let (mut turns, mut fewer, mut calls) = (0, 0, 0);
    for _ in 0..50 {
        let program = program(&items(&mut random, 0));
        let text = || program.pipeline.text_with_places();
        for residency in ["stage", "all"] {
            let lowered = lowered(&program, residency);
            let ran = run(&program, &lowered, &runtime);
            let costed = costed(&lowered, program.machine());
            let made: u64 = ran.calls.values().sum();
            assert!(ran.calls.keys().all(|call| costed.contains_key(call)), "{:?} {costed:?} {}", ran.calls, text());
            for (call, (least, most)) in &costed {
                let times = ran.calls.get(call).copied().unwrap_or(0);
                assert!((*least..=*most).contains(&times), "{call:?} is made {times} times, not {least} to {most}: {}", text());
            }
            calls += made;
            if residency == "all" {
                assert!(ran.loads.values().all(|n| *n == 1), "{:?} {}", ran.loads, text());
                continue;
            }
            let mut counted = BTreeMap::new();
            for m in &lowered.program.pipeline.walk().moments {
                *counted.entry(m.placement.session.clone()).or_insert(0) += m.loads;
            }
            assert_eq!(ran.both, counted, "{}", text());
            assert_eq!(ran.loads, ran.taken, "{}", text());
            fewer += usize::from(ran.loads != counted);
            assert!(ran.most <= 1, "{}", text());
            turns += usize::from(counted.values().any(|n| *n > 1));
        }
    }
    assert!(turns > 20 && fewer > 5, "only {turns} pipelines load a model again, {fewer} leave out an arm's loads");
    eprintln!("{calls} calls on 50 pipelines, each under two residencies");
}
