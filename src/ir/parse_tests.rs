//! `parse` is the inverse of `canonical`, and says where a text is wrong.

use proptest::prelude::*;

use super::*;
use crate::interp::arb::arb_graph;
use crate::ir::text::{annotated, canonical};

fn constants(graph: &OpGraph) -> Vec<WeightExpr> {
    graph.nodes().into_iter().filter_map(|id| graph.as_weight(Outlet { node: id, slot: 0 }).cloned()).collect()
}

/// Reads what is printed, with and without names.
fn there_and_back(graph: &OpGraph) {
    let text = canonical(graph);
    let read = parse_with(&text, &constants(graph)).unwrap_or_else(|d| panic!("{}\n{text}", d.message));
    assert_eq!(canonical(&read), text);
    let text = annotated(graph);
    assert_eq!(annotated(&parse_with(&text, &constants(graph)).unwrap()), text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn printing_and_reading_a_random_graph_gives_it_back(graph in arb_graph()) {
        there_and_back(&graph);
    }
}

/// Reads and prints again.
fn same(text: &str) {
    assert_eq!(canonical(&parse(text).unwrap_or_else(|d| panic!("{}: {:?}", d.message, d.notes))), text);
}

#[test]
fn models_are_read_back_with_their_symbols() {
    let configs: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/models/svd_tiny_configs.json")).unwrap();
    for (architecture, component) in [
        ("clip-vision-with-projection", "image_encoder"),
        ("kl-encoder", "vae"),
        ("temporal-decoder", "vae"),
        ("unet-spatio-temporal-condition", "unet"),
    ] {
        there_and_back(&crate::models::build(architecture, &configs[component], component, component).unwrap());
    }
}

#[test]
fn odd_names_stand_in_quotes() {
    same(
        "model \"a b\"(\"0\": f32[\"batch size\", 3*n_1 - 1]) -> \"y\\\"\": f32[\"batch size\", 3*n_1 - 1] = %0\n  %0 = Exp(%\"0\") : f32[\"batch size\", 3*n_1 - 1]\n",
    );
    same("model m(x: f32[floor((3*u + 1)/2)]) -> y: f32[floor((3*u + 1)/2)] = %0 needs-f32\n  %0 = Neg(%x) : f32[floor((3*u + 1)/2)]\n");
}

#[test]
fn constants_carry_types_and_values() {
    let check = |constant: &str, ty: &str| same(&format!("model m() -> y: {ty} = {{{constant}}}\n"));
    check("param m/w: f32[9, 4]", "f32[9, 4]");
    check("param \"m/onnx::w 1\": f32[1]", "f32[1]");
    check("literal f32[3] = [0.5, -0, 0.00000012]", "f32[3]");
    check("literal f32[3] = [NaN, inf, -inf]", "f32[3]");
    check("literal f16[2, 20] = 0.33325195", "f16[2, 20]");
    check("literal i64[1] = -9007199254740993", "i64[1]");
    check("literal bool[0] = []", "bool[0]");
    check("cast[bf16](transpose[1, 0](param m/w: f32[9, 4]))", "bf16[4, 9]");
    check("reshape[6](slice[0, 1..3](param m/w: f32[3, 3]))", "f32[6]");
    check("concat[0](param m/a: f32[1, 2], scale[0.5](param m/b: f32[2, 2]))", "f32[3, 2]");
    check("add(param m/a: f32[2, 2], matmul(param m/b: f32[2, 1], param m/c: f32[1, 2]))", "f32[2, 2]");
}

#[test]
fn different_literals_have_different_texts() {
    let graph = |values: &[f32]| {
        let mut g = OpGraph::new("m");
        let w = g.weight(WeightExpr::literal_f32(&[values.len() as u64], values).unwrap());
        g.output("y", w);
        g
    };
    assert_ne!(graph(&[1.0, 2.0]), graph(&[1.0, 3.0]));
    let long: Vec<f32> = (0..20_u8).map(f32::from).collect();
    assert_ne!(graph(&long), graph(&long.iter().rev().copied().collect::<Vec<_>>()));
    let d = parse(&canonical(&graph(&long))).unwrap_err();
    assert!(d.message.contains("does not hold the values of `literal f32[20] = sha256:"), "{}", d.message);
}

#[test]
fn foreign_operators_keep_their_attributes() {
    same("model m(x: f32[4]) -> y: i64[2] = %0.1\n  %0 = TopK{domain=\"\" axis=0a04617869731803a00102}(%x) : f32[2], i64[2]\n");
}

#[test]
fn bodies_stand_below_their_node() {
    same(crate::ir::text::canonical(&parse(CHUNKS).unwrap()).as_str());
    same(crate::ir::text::canonical(&parse(HALO).unwrap()).as_str());
}

const HALO: &str = "
model m(x: f32[3, 2], z: f32[3, 2]) -> y: f32[3, 2] = %0
  %0 = ForChunks{sliced=[0-1+0, -] joined=[0] ranges=[(0, 1), (1, 3)]}(%x, %z) : f32[3, 2]
    1: model m.body(in0: f32[1, 2], in1: f32[3, 2]) -> out0: f32[1, 2] = %0
      %0 = Exp(%in0) : f32[1, 2]
    2-1+0: model m.body(in0: f32[3, 2], in1: f32[3, 2]) -> out0: f32[2, 2] = %1
      %0 = Slice{axis=0 1..3}(%in0) : f32[2, 2]
      %1 = Exp(%0) : f32[2, 2]
";

const CHUNKS: &str = "
model m(x: f32[3, 2]) -> y: f32[3, 2] = %0
  %0 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 1), (1, 3)]}(%x) : f32[3, 2]
    1: model m.body(in0: f32[1, 2]) -> out0: f32[1, 2] = %0
      %0 = Mul(%in0, {param m/w: f32[2]}) : f32[1, 2]
    2: model m.body(in0: f32[2, 2]) -> out0: f32[2, 2] = %0
      %0 = Mul(%in0, {param m/w: f32[2]}) : f32[2, 2]
";

#[test]
fn a_wrong_text_says_where() {
    let check = |text: &str, expect: &str| assert_eq!(parse(text).unwrap_err().message, expect);
    check("", "line 1: there is no graph");
    check("model m(x: f32[2]) -> y: f32[2] = %0\n", "line 1: there is no %0.0 above, at column 37 of this line");
    check("model m(x: f32[2]) -> y: f32[2] = %0\n  %0 = Foo(%x) : f32[2]\n", "line 2: `{` is missing, at column 9 of this line");
    check("model m(x: f32[2]) -> y: f32[3] = %0\n  %0 = Exp(%x) : f32[3]\n", "line 2: Exp yields [\"f32[2]\"], at column 22 of this line");
    check(
        "model m(x: f32[2], z: f32[3]) -> y: f32[2] = %0\n  %0 = Add(%x, %z) : f32[2]\n",
        "line 2: `n0`: Add does not take f32[2], f32[3]: 2 does not broadcast with 3 on axis 0, at column 26 of this line",
    );
    check("model m(x: f32[99999999999999]) -> y: f32[1] = %x\n", "line 1: the number is too large, at column 30 of this line");
    let deep = format!("model m() -> y: f32[2] = {{{}", "add(".repeat(1000));
    assert!(parse(&deep).unwrap_err().message.contains("nested too deep"));
}
