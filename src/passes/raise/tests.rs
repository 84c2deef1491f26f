//! Properties of raising: orders of operands, symbolic sizes, built models. The spellings themselves are the cases in
//! `tests/cases/passes/raise`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ir::parse::parse;
use crate::ir::{DType, TensorType, text, verify};
use crate::passes::property_tests::{EXACT, close, outputs};
use crate::passes::{Choices, Remark};
use crate::weights::WeightExpr;

fn raised(graph: &OpGraph) -> (OpGraph, Vec<Remark>) {
    let mut out = graph.clone();
    let mut rw = Rewriter::new("m", &mut out);
    let machine = crate::hwdb::machine("x86-cpu-2core").unwrap();
    Raise
        .run(&mut rw, &PassCx { machine: &machine, choices: &Choices::default(), debugging: &crate::passes::Debugging::default() })
        .unwrap();
    let remarks = rw.finish();
    verify(&out).unwrap();
    (out, remarks)
}

/// Operators by name, without those that only move elements.
fn counts(graph: &OpGraph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in graph.nodes() {
        let op = &graph.node(id).op;
        if !matches!(op, Op::Input | Op::Weight(_) | Op::Reshape { .. } | Op::Transpose { .. }) {
            *counts.entry(op.name().to_owned()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn every_row_reads_and_has_a_name_of_its_own() {
    let rows = table::rows();
    let names: HashSet<&str> = rows.iter().map(|r| r.name).collect();
    assert_eq!(names.len(), rows.len());
    for row in &rows {
        for spelling in row.spellings {
            let pat = Pat::parse(spelling).unwrap_or_else(|e| panic!("{}: {e}", row.name));
            assert!(!pat.roots().is_empty(), "{}", row.name);
        }
        assert!(row.conditions.iter().all(|(name, _)| !name.is_empty()));
    }
}

#[test]
fn a_built_model_is_left_as_it_is() {
    let configs: serde_json::Value = serde_json::from_str(include_str!("../../../tests/data/models/svd_tiny_configs.json")).unwrap();
    for (architecture, component) in [
        ("unet-spatio-temporal-condition", "unet"),
        ("temporal-decoder", "vae"),
        ("kl-encoder", "vae"),
        ("clip-vision-with-projection", "image_encoder"),
    ] {
        let graph = crate::models::build(architecture, &configs[component], component, component).unwrap();
        let (after, remarks) = raised(&graph);
        assert_eq!(text::canonical(&after), text::canonical(&graph), "{architecture}");
        assert!(remarks.is_empty(), "{architecture}: {remarks:?}");
    }
}

#[test]
fn sizes_may_be_symbols() {
    let graph = parse(
        "model m(x: f32[b*f, h*w, 8]) -> y: f32[b*f, h*w, 8] = %8
  %0 = Reshape{shape=[b*f, h*w, 2, 4]}(%x) : f32[b*f, h*w, 2, 4]
  %1 = Transpose{perm=[0, 2, 1, 3]}(%0) : f32[b*f, 2, h*w, 4]
  %2 = Transpose{perm=[0, 2, 3, 1]}(%0) : f32[b*f, 2, 4, h*w]
  %3 = Mul(%1, {literal f32[] = 0.5}) : f32[b*f, 2, h*w, 4]
  %4 = MatMul(%3, %2) : f32[b*f, 2, h*w, h*w]
  %5 = Softmax{axis=3}(%4) : f32[b*f, 2, h*w, h*w]
  %6 = MatMul(%5, %1) : f32[b*f, 2, h*w, 4]
  %7 = Transpose{perm=[0, 2, 1, 3]}(%6) : f32[b*f, h*w, 2, 4]
  %8 = Reshape{shape=[b*f, h*w, 8]}(%7) : f32[b*f, h*w, 8]
",
    )
    .unwrap();
    let expect = "model m(x: f32[b*f, h*w, 8]) -> y: f32[b*f, h*w, 8] = %0
  %0 = Attention{heads=2 scale=0.5}(%x, %x, %x) : f32[b*f, h*w, 8]
";
    assert_eq!(text::canonical(&raised(&graph).0), expect);
    let norm = parse(
        "model m(x: f32[n, 6, h, w]) -> y: f32[n, 6, h, w] = %4
  %0 = Reshape{shape=[n, 2, 3*h*w]}(%x) : f32[n, 2, 3*h*w]
  %1 = InstanceNormalization{eps=0.1}(%0, {literal f32[2] = 1}, {literal f32[2] = 0}) : f32[n, 2, 3*h*w]
  %2 = Reshape{shape=[n, 6, h, w]}(%1) : f32[n, 6, h, w]
  %3 = Mul(%2, {param m/s: f32[6, 1, 1]}) : f32[n, 6, h, w]
  %4 = Add(%3, {param m/b: f32[6, 1, 1]}) : f32[n, 6, h, w]
",
    )
    .unwrap();
    assert_eq!(counts(&raised(&norm).0), BTreeMap::from([("GroupNorm".into(), 1)]));
}

/// The one remark about an anchor that was left.
fn left(graph: &str, rule: &str, failed: &str) {
    let (_, remarks) = raised(&parse(graph).unwrap());
    let declined: Vec<(&str, String)> =
        remarks.iter().filter(|r| !r.applied).map(|r| (r.why.rule, r.why.facts["failed"].to_string())).collect();
    assert_eq!(declined, [(rule, failed.to_owned())], "{graph}");
}

#[test]
fn what_was_not_raised_says_which_condition_failed() {
    left(
        "model m(x: f32[2, 3]) -> y: f32[2, 3] = %0\n  %0 = Softmax{axis=1}(%x) : f32[2, 3]\n",
        "attention",
        "nothing that reads it continues the pattern",
    );
    left(
        "model m(q: f32[2, 3], k: f32[3, 4], v: f32[4, 5]) -> y: f32[2, 5] = %2
  %0 = MatMul(%q, %k) : f32[2, 4]
  %1 = Softmax{axis=0}(%0) : f32[2, 4]
  %2 = MatMul(%1, %v) : f32[2, 5]
",
        "attention",
        "softmax over the keys",
    );
    left(
        "model m(x: f32[2, 3]) -> y: f32[2, 3] = %3
  %0 = Div(%x, {literal f32[] = 1.5}) : f32[2, 3]
  %1 = Erf(%0) : f32[2, 3]
  %2 = Add(%1, {literal f32[] = 1}) : f32[2, 3]
  %3 = Mul(%x, %2) : f32[2, 3]
",
        "gelu",
        "the factor 0.7071067811865476 is 0.6666666666666666",
    );
    left(
        "model m(x: f32[2, 3, 4]) -> y: f32[2, 3, 4] = %1
  %0 = InstanceNormalization{eps=0.1}(%x, {literal f32[3] = 1}, {literal f32[3] = 0}) : f32[2, 3, 4]
  %1 = Exp(%0) : f32[2, 3, 4]
",
        "group-norm",
        "nothing that reads it continues the pattern",
    );
}

/// Multiplies in the order and association that the picks say.
fn product(g: &mut OpGraph, mut parts: Vec<Outlet>, picks: &mut impl Iterator<Item = usize>) -> Outlet {
    while parts.len() > 1 {
        let a = parts.swap_remove(picks.next().unwrap() % parts.len());
        let b = parts.swap_remove(picks.next().unwrap() % parts.len());
        parts.push(g.add(Op::Binary(Binary::Mul), &[a, b], "p", &"l".into()).unwrap());
    }
    parts[0]
}

fn number(g: &mut OpGraph, value: f64) -> Outlet {
    g.weight(WeightExpr::literal(DType::F64, &[], &value.to_le_bytes()).unwrap())
}

fn binary(g: &mut OpGraph, op: Binary, a: Outlet, b: Outlet, swap: bool) -> Outlet {
    let order = if swap { [b, a] } else { [a, b] };
    g.add(Op::Binary(op), &order, "b", &"l".into()).unwrap()
}

fn unary(g: &mut OpGraph, op: Unary, x: Outlet) -> Outlet {
    g.add(Op::Unary(op), &[x], "u", &"l".into()).unwrap()
}

/// An activation with its operands in some order.
fn activation(kind: usize, picks: &[usize]) -> (OpGraph, &'static str) {
    let mut g = OpGraph::new("m");
    let x = g.input("x", TensorType::new(DType::F64, [2, 3, 8]));
    let mut picks = picks.iter().copied().cycle();
    let half = number(&mut g, 0.5);
    let one = number(&mut g, 1.0);
    let swap = picks.next().unwrap() % 2 == 0;
    let (factors, name) = match kind % 3 {
        0 => (vec![x, unary(&mut g, Unary::Sigmoid, x)], "Silu"),
        1 => {
            let root = number(&mut g, std::f64::consts::FRAC_1_SQRT_2);
            let inner = product(&mut g, vec![root, x], &mut picks);
            let erf = unary(&mut g, Unary::Erf, inner);
            (vec![half, x, binary(&mut g, Binary::Add, erf, one, swap)], "Gelu")
        }
        _ => {
            let (a, b) = (number(&mut g, 0.044_715), number(&mut g, (2.0 / std::f64::consts::PI).sqrt()));
            let cube = product(&mut g, vec![a, x, x, x], &mut picks);
            let sum = binary(&mut g, Binary::Add, x, cube, swap);
            let inner = product(&mut g, vec![b, sum], &mut picks);
            let tanh = unary(&mut g, Unary::Tanh, inner);
            (vec![half, x, binary(&mut g, Binary::Add, one, tanh, swap)], "Gelu")
        }
    };
    let y = product(&mut g, factors, &mut picks);
    g.output("y", y);
    (g, name)
}

/// Attention over `[b, l, h · d]` with its axes arranged and its scale placed as the picks say.
fn attention_graph(b: i64, lq: i64, lk: i64, heads: i64, picks: &[bool]) -> OpGraph {
    let d = 4;
    let mut g = OpGraph::new("m");
    let group = "l".into();
    let ty = |l: i64| TensorType::new(DType::F64, [b, l, heads * d]);
    let (q, k, v) = (g.input("q", ty(lq)), g.input("k", ty(lk)), g.input("v", ty(lk)));
    let mut pick = picks.iter().copied().cycle();
    let mut pick = || pick.next().unwrap();
    let three = pick();
    let reshape = |dims: &[i64]| Op::Reshape { shape: dims.iter().map(|d| (*d).into()).collect() };
    let mut op = |op: Op, x: &[Outlet]| g.add(op, x, "o", &group).unwrap();
    let transpose = |perm: &[usize]| Op::Transpose { perm: perm.to_vec() };
    let mut apart = |x: Outlet, l: i64| {
        let split = op(reshape(&[b, l, heads, d]), &[x]);
        let turned = op(transpose(&[0, 2, 1, 3]), &[split]);
        if three { op(reshape(&[b * heads, l, d]), &[turned]) } else { turned }
    };
    let (mut q, mut k, v) = (apart(q, lq), apart(k, lk), apart(v, lk));
    let half = number(&mut g, 0.5);
    let mut op = |op: Op, x: &[Outlet]| g.add(op, x, "o", &group).unwrap();
    let (on_q, on_k) = (pick(), pick());
    if on_q {
        q = op(Op::Binary(Binary::Mul), &[half, q]);
    }
    if on_k && pick() {
        k = op(Op::Binary(Binary::Mul), &[k, half]);
    }
    k = match (three, pick()) {
        (true, _) => op(transpose(&[0, 2, 1]), &[k]),
        (false, true) => op(transpose(&[0, 1, 3, 2]), &[k]),
        (false, false) => {
            let flat = op(reshape(&[b * heads, lk, d]), &[k]);
            let turned = op(transpose(&[0, 2, 1]), &[flat]);
            op(reshape(&[b, heads, d, lk]), &[turned])
        }
    };
    let mut scores = op(Op::MatMul, &[q, k]);
    if pick() {
        scores = op(Op::Binary(Binary::Div), &[scores, half]);
    }
    let p = op(Op::Softmax { axis: if three { 2 } else { 3 } }, &[scores]);
    let mut y = op(Op::MatMul, &[p, v]);
    if three {
        y = op(reshape(&[b, heads, lq, d]), &[y]);
    }
    if pick() {
        let back = op(transpose(&[0, 2, 1, 3]), &[y]);
        y = op(reshape(&[b, lq, heads * d]), &[back]);
    }
    g.output("y", y);
    g
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn operands_may_stand_in_any_order(kind in 0_usize..3, picks in proptest::collection::vec(0_usize..24, 9)) {
        let (graph, name) = activation(kind, &picks);
        let (after, _) = raised(&graph);
        prop_assert_eq!(counts(&after), BTreeMap::from([(name.to_owned(), 1)]));
        close(&outputs::<f64>(&after), &outputs::<f64>(&graph), EXACT, name);
    }

    #[test]
    fn attention_is_found_however_its_axes_are_arranged(
        (b, lq, lk, heads) in (1_i64..3, 1_i64..4, 1_i64..4, 1_i64..4), picks in proptest::collection::vec(any::<bool>(), 7)
    ) {
        let graph = attention_graph(b, lq, lk, heads, &picks);
        let (after, _) = raised(&graph);
        let found = counts(&after);
        prop_assert_eq!(found.get("Attention"), Some(&1), "{}", text::canonical(&graph));
        prop_assert_eq!(found.get("Softmax"), None);
        close(&outputs::<f64>(&after), &outputs::<f64>(&graph), EXACT, "attention");
        let again = raised(&after);
        prop_assert_eq!(text::canonical(&again.0), text::canonical(&after));
    }
}
