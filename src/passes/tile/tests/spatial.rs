//! Spatial runs of any make, cut over images and over rows inside of them.

use super::*;
use crate::ir::op::Conv;

/// What a graph is made from.
#[derive(Clone, Debug)]
struct Recipe {
    /// Images, channels, rows and columns.
    shape: [i64; 4],
    /// One operator each.
    steps: Vec<u8>,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let shape = (2..=3i64, 1..=2i64, 4..=11i64, 1..=2i64).prop_map(|(n, c, h, w)| [n, 2 * c, h, w]);
    (shape, proptest::collection::vec(0..9u8, 2..=7)).prop_map(|(shape, steps)| Recipe { shape, steps })
}

/// The kernel over several rows that a step stands for: one that looks one row back and two on, and the usual one.
fn kernel(step: u8) -> Conv {
    let uneven = Conv { kernel: vec![4, 1], strides: vec![1, 1], pads: vec![(1, 2), (0, 0)], groups: 1 };
    if step == 0 { uneven } else { Conv::square(3, 1, 1) }
}

impl Builder {
    fn conv(&mut self, conv: Conv, x: Outlet, channels: i64) -> Outlet {
        let c = channels as u64;
        let weight = self.constant(&[c, c, conv.kernel[0] as u64, conv.kernel[1] as u64]);
        let bias = self.constant(&[c]);
        self.add(Op::Conv(conv), &[x, weight, bias])
    }

    fn spatial(&mut self, step: u8, x: Outlet, first: Outlet) -> Outlet {
        let shape = self.graph.ty(x).dims().unwrap();
        match step {
            0..=2 => self.conv(kernel(step), x, shape[1]),
            3 => self.conv(Conv::square(1, 1, 0), x, shape[1]),
            4 | 5 => self.step(step - 1, x, first, shape[1]),
            6 => self.add(Op::Upsample { factors: vec![1, 1, 2, 1] }, &[x]),
            7 if shape[2] > 3 => self.conv(Conv::square(3, 2, 1), x, shape[1]),
            _ if self.graph.ty(first) == self.graph.ty(x) => self.add(Op::Binary(Binary::Add), &[x, first]),
            _ => self.add(Op::Silu, &[x]),
        }
    }
}

fn graph(recipe: &Recipe) -> OpGraph {
    let mut g = Builder { graph: OpGraph::new("m"), constants: 0 };
    let x = g.graph.input("x", TensorType::new(DType::F32, recipe.shape));
    let first = g.add(Op::Silu, &[x]);
    let y = recipe.steps.iter().fold(first, |x, step| g.spatial(*step, x, first));
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

/// A residual block: what two convolutions read around their tiles adds up where both are in one sweep.
const BLOCK: [u8; 5] = [5, 1, 4, 2, 8];

#[test]
fn a_residual_block_computes_the_same_in_any_tiles() {
    for rows in [4, 9, 16] {
        let graph = graph(&Recipe { shape: [3, 4, rows, 2], steps: BLOCK.to_vec() });
        let answers = same_in_all_answers(&graph, "rtx3090");
        let most = if rows < 8 { 1 } else { 2 };
        let halos = ["3.halo-4", "3.halo-4.again", "3.halo-8", "3.halo-8.again"];
        assert_eq!(answers, [&["1", "2", "3"][..], &halos[..2 * most]].concat());
    }
}

/// Levels that hold little, and those without a convolution over rows, are not offered tiles of them.
#[test]
fn tiles_are_offered_where_they_may_help() {
    let alone = graph(&Recipe { shape: [2, 2, 8, 2], steps: vec![3, 4, 3] });
    assert_eq!(same_in_all_answers(&alone, "rtx3090"), ["1", "2"]);
    let mut small = graph(&Recipe { shape: [2, 2, 8, 2], steps: BLOCK.to_vec() });
    let wide = small.input("wide", TensorType::new(DType::F32, [1000]));
    small.output("same", wide);
    assert_eq!(same_in_all_answers(&small, "rtx3090"), ["1", "2"]);
}

#[test]
fn tiles_inside_of_images_take_less_memory() {
    let graph = graph(&Recipe { shape: [2, 8, 64, 16], steps: BLOCK.to_vec() });
    let figures = ["1", "2", "2.halo-4", "2.halo-8", "2.halo-8.again"].map(|answer| live(&graph, answer));
    assert!(figures.is_sorted_by(|a, b| a > b), "{figures:?} of {}", 2 * 8 * 64 * 16 * 4);
}
