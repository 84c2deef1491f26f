//! Temporal runs of any make, in all the tiles that they are offered.

mod spatial;

use proptest::prelude::*;

use super::*;
use crate::hwdb;
use crate::ir::op::{Binary, GroupNorm};
use crate::ir::{DType, TensorType};
use crate::passes::property_tests::{EXACT, close, outputs};
use crate::passes::{Checks, Choices, Debugging, compile_graph, offered_knobs};
use crate::weights::WeightExpr;

/// What a graph is made from.
#[derive(Clone, Debug)]
struct Recipe {
    /// Batch, channels, frames, rows and columns.
    shape: [i64; 5],
    /// One operator each.
    steps: Vec<u8>,
    /// Is there a spatial run in front, and do transpositions lead in and out?
    led: bool,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let shape = (1..=2i64, 1..=2i64, 1..=3i64, 4..=9i64, 1..=2i64).prop_map(|(b, c, f, h, w)| [b, 2 * c, f, h, w]);
    (shape, proptest::collection::vec(0..6u8, 1..=6), any::<bool>()).prop_map(|(shape, steps, led)| Recipe { shape, steps, led })
}

struct Builder {
    graph: OpGraph,
    constants: usize,
}

impl Builder {
    fn add(&mut self, op: Op, inputs: &[Outlet]) -> Outlet {
        self.graph.add(op, inputs, "n", &"l".into()).unwrap()
    }

    fn constant(&mut self, shape: &[u64]) -> Outlet {
        self.constants += 1;
        let expr = WeightExpr::param("m", &format!("p{}.weight", self.constants), DType::F32, shape).unwrap();
        self.graph.weight(expr)
    }

    fn step(&mut self, step: u8, x: Outlet, first: Outlet, channels: i64) -> Outlet {
        let c = channels as u64;
        match step {
            0..=2 => {
                let (weight, bias) = (self.constant(&[c, c, 3, 1, 1]), self.constant(&[c]));
                self.add(Op::TemporalConv, &[x, weight, bias])
            }
            3 | 4 => {
                let (scale, bias) = (self.constant(&[c]), self.constant(&[c]));
                let (groups, silu) = if step == 3 { (1, false) } else { (2, true) };
                self.add(Op::GroupNorm(GroupNorm { groups, eps: 0.1, silu }), &[x, scale, bias])
            }
            _ => self.add(Op::Binary(Binary::Add), &[x, first]),
        }
    }
}

fn graph(recipe: &Recipe) -> OpGraph {
    let [b, c, f, h, w] = recipe.shape;
    let mut g = Builder { graph: OpGraph::new("m"), constants: 0 };
    let dims = |shape: &[i64]| shape.iter().map(|d| (*d).into()).collect();
    let mut x = if recipe.led {
        let x = g.graph.input("x", TensorType::new(DType::F32, [b * f, c, h, w]));
        let x = g.add(Op::Silu, &[x]);
        let kernel = g.constant(&[c as u64, c as u64, 3, 3]);
        let x = g.add(Op::Conv(crate::ir::op::Conv::square(3, 1, 1)), &[x, kernel]);
        let x = g.add(Op::Reshape { shape: dims(&[b, f, c, h, w]) }, &[x]);
        g.add(Op::Transpose { perm: vec![0, 2, 1, 3, 4] }, &[x])
    } else {
        g.graph.input("x", TensorType::new(DType::F32, [b, c, f, h, w]))
    };
    let first = x;
    for step in &recipe.steps {
        x = g.step(*step, x, first, c);
    }
    if recipe.led {
        let back = g.add(Op::Transpose { perm: vec![0, 2, 1, 3, 4] }, &[x]);
        x = g.add(Op::Reshape { shape: dims(&[b * f, c, h, w]) }, &[back]);
    }
    let y = g.add(Op::Silu, &[x]);
    g.graph.output("y", y);
    g.graph
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_answer_computes_the_same(recipe in recipe(), gpu in any::<bool>()) {
        same_in_all_answers(&graph(&recipe), if gpu { "rtx3090" } else { "x86-cpu-2core" });
    }
}

/// Compiles a graph with each answer of its level and compares what it computes; returns the answers.
fn same_in_all_answers(graph: &OpGraph, machine: &str) -> Vec<String> {
    let offered = offered_knobs(graph, &hwdb::machine(machine).unwrap()).unwrap();
    let levels = offered.into_iter().filter(|k| k.id.ends_with(LEVELS));
    let answers: Vec<(String, String)> = levels.flat_map(|k| k.answers.into_iter().map(move |a| (k.id.to_string(), a.name))).collect();
    same_in(graph, machine, &answers);
    answers.into_iter().map(|(_, name)| name).collect()
}

/// Compiles a graph with one answer after the other, each with its knob, and compares what it computes.
fn same_in(graph: &OpGraph, machine: &str, answers: &[(String, String)]) {
    let machine = hwdb::machine(machine).unwrap();
    let expect = outputs::<f64>(graph);
    for (knob, answer) in answers {
        let mut choices = Choices::default();
        choices.set(knob.clone(), answer);
        let made = compile_graph(graph, &machine, &choices, Checks::Full, &Debugging::default());
        let made = made.unwrap_or_else(|d| panic!("{answer}: {}: {:?}", d.message, d.notes));
        close(&outputs::<f64>(&made.graph), &expect, EXACT, answer);
    }
}

/// Counts that no knob offers too, most of which cut unevenly.
#[test]
fn every_count_of_frames_and_rows_computes_the_same() {
    let graph = graph(&Recipe { shape: [1, 2, 14, 7, 2], steps: vec![4, 0, 4, 0, 5], led: true });
    let tiles = |count, again| (count > 1).then_some(Tiles { count, again });
    let counts = (1..=14).flat_map(|frames| (1..=4).map(move |rows| (frames, rows)));
    let answer = |(frames, rows)| Answer { frames, rows: tiles(rows, frames % 2 == 0), halo: tiles(5 - rows, false) }.to_string();
    same_in(&graph, "x86-cpu-2core", &counts.map(|c| ("m.l.frames".to_owned(), answer(c))).collect::<Vec<_>>());
}

/// Bytes that a graph holds at once, at most.
fn live(graph: &OpGraph, answer: &str) -> u64 {
    let mut choices = Choices::default();
    choices.set("m.l.frames", answer);
    let machine = hwdb::machine("rtx3090").unwrap();
    let made = compile_graph(graph, &machine, &choices, Checks::Full, &Debugging::default()).unwrap();
    crate::ir::schedule(&made.graph).unwrap().live().into_iter().max().unwrap()
}

/// What a run in tiles holds at once: the whole of what goes in or out, and one tile of all else.
#[test]
fn tiles_take_less_memory() {
    let recipe = Recipe { shape: [1, 4, 3, 64, 16], steps: vec![4, 0, 4, 0, 5], led: true };
    let graph = graph(&recipe);
    let tensor = 4 * 3 * 64 * 16 * 4;
    let figures = ["1", "3.rows-4", "3.rows-16", "3.rows-16.again"].map(|answer| live(&graph, answer));
    assert!(figures.is_sorted_by(|a, b| a > b) && figures[0] >= 3 * tensor, "{figures:?} of {tensor}");
    assert!(figures[3] <= tensor + tensor / 2, "{figures:?} of {tensor}");
}
