//! Chains of products, norms and constants compute the same before and after, and what is too large for its gain is left.

use std::sync::Arc;

use proptest::prelude::*;

use super::blend::complementary;
use super::*;
use crate::hwdb;
use crate::interp::arb::inputs;
use crate::ir::op::{Binary, Conv, GroupNorm};
use crate::ir::{DType, OpGraph, Outlet, TensorType, parse, text, verify};
use crate::passes::property_tests::{EXACT, close, outputs};
use crate::passes::{Choices, Remark};
use crate::weights::{Arithmetic, WeightExpr};

const CHANNELS: i64 = 6;

fn run(graph: &mut OpGraph) -> Vec<Remark> {
    let machine = hwdb::machine("x86-cpu-2core").unwrap();
    let choices = Choices::default();
    let name = graph.name.clone();
    let mut rw = Rewriter::new(&name, graph);
    FoldAffine
        .run(&mut rw, &PassCx { machine: &machine, choices: &choices, debugging: &crate::passes::Debugging::default() })
        .unwrap_or_else(|d| panic!("{}", d.message));
    rw.finish()
}

/// A chain over pictures `[2, c, 3, 4]` or tokens `[2, 12, c]`.
struct Chain {
    graph: OpGraph,
    at: Outlet,
    group: Arc<str>,
    made: usize,
}

impl Chain {
    fn add(&mut self, op: Op, rest: &[Outlet]) {
        let args: Vec<Outlet> = std::iter::once(self.at).chain(rest.iter().copied()).collect();
        self.at = self.op(op, &args);
    }

    fn op(&mut self, op: Op, args: &[Outlet]) -> Outlet {
        self.made += 1;
        self.graph.add(op, args, format!("n{}", self.made), &self.group.clone()).unwrap()
    }

    /// A parameter with seeded values.
    fn param(&mut self, shape: &[u64]) -> Outlet {
        self.made += 1;
        self.graph.weight(WeightExpr::param("m", &format!("p{}.weight", self.made), DType::F32, shape).unwrap())
    }

    fn pictures(&self) -> bool {
        self.graph.ty(self.at).rank() == 4
    }

    /// One value, or one per channel, where the channels lie now.
    fn constant(&mut self, one: bool) -> Outlet {
        let shape: &[u64] = match (one, self.pictures()) {
            (true, _) => &[1],
            (false, true) => &[6, 1, 1],
            (false, false) => &[6],
        };
        self.param(shape)
    }

    fn step(&mut self, kind: u8, detail: u8) {
        let c = CHANNELS as u64;
        match kind % 9 {
            0 if self.pictures() => {
                let (k, groups) = ([1, 3][usize::from(detail % 2)], [1, 2][usize::from(detail / 2 % 2)]);
                let mut rest = vec![self.param(&[c, c / groups, k, k])];
                if (detail / 4).is_multiple_of(2) {
                    rest.push(self.param(&[c]));
                }
                self.add(Op::Conv(Conv { groups: groups as i64, ..Conv::square(k as i64, 1, k as i64 / 2) }), &rest);
            }
            0 | 1 if !self.pictures() => {
                let mut rest = vec![self.param(&[c, c])];
                if detail.is_multiple_of(3) {
                    return self.add(Op::MatMul, &rest);
                }
                if detail % 3 == 1 {
                    rest.push(self.param(&[c]));
                }
                self.add(Op::Linear, &rest);
            }
            2 if self.pictures() => {
                self.add(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[]);
                self.add(Op::Reshape { shape: vec![2.into(), 12.into(), CHANNELS.into()] }, &[]);
            }
            2 => {
                self.add(Op::Reshape { shape: vec![2.into(), 3.into(), 4.into(), CHANNELS.into()] }, &[]);
                self.add(Op::Transpose { perm: vec![0, 3, 1, 2] }, &[]);
            }
            3 => {
                let rest = [self.param(&[c]), self.param(&[c])];
                let norm = GroupNorm { groups: 2, eps: 0.1, silu: false };
                match (self.pictures(), detail % 2) {
                    (true, _) => self.add(Op::GroupNorm(norm), &rest),
                    (false, 0) => self.add(Op::LayerNorm { eps: 0.1 }, &rest),
                    (false, _) => self.add(Op::RmsNorm { eps: 0.1 }, &rest[..1]),
                }
            }
            4 => self.add(Op::Unary(Unary::Neg), &[]),
            // A kink that nothing is moved across.
            5 if detail.is_multiple_of(4) => self.add(Op::Silu, &[]),
            _ => self.combine(kind, detail),
        }
    }

    fn combine(&mut self, kind: u8, detail: u8) {
        let constant = self.constant(detail.is_multiple_of(3));
        match kind.wrapping_add(detail) % 5 {
            0 | 1 => self.add(Op::Binary(Binary::Mul), &[constant]),
            2 => self.add(Op::Binary(Binary::Sub), &[constant]),
            3 => {
                let (left, right) = (constant, self.at);
                self.at = self.op(Op::Binary(Binary::Add), &[left, right]);
            }
            _ => {
                let half = self.graph.weight(WeightExpr::literal_f32(&[1], &[2.0]).unwrap());
                self.add(Op::Binary(Binary::Div), &[half]);
            }
        }
    }
}

fn chain(steps: &[(u8, u8)], tokens: bool) -> OpGraph {
    let mut graph = OpGraph::new("chain");
    let shape: &[i64] = if tokens { &[2, 12, CHANNELS] } else { &[2, CHANNELS, 3, 4] };
    let at = graph.input("x", TensorType::new(DType::F32, shape.iter().copied()));
    let mut chain = Chain { graph, at, group: "g".into(), made: 0 };
    for (kind, detail) in steps {
        chain.step(*kind, *detail);
    }
    chain.add(Op::Unary(Unary::Tanh), &[]);
    chain.graph.output("y", chain.at);
    chain.graph
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn chains_compute_the_same(steps in proptest::collection::vec(any::<(u8, u8)>(), 1..=10), tokens in any::<bool>()) {
        let before = chain(&steps, tokens);
        prop_assert_eq!(inputs::<f64>(&before).len(), 1);
        let mut after = before.clone();
        let applied = run(&mut after).iter().filter(|r| r.applied).count();
        verify(&after).map_err(|d| TestCaseError::fail(format!("{d:?}")))?;
        close(&outputs::<f64>(&after), &outputs::<f64>(&before), EXACT, &text::canonical(&after));
        prop_assert_eq!(applied > 0, text::canonical(&after) != text::canonical(&before));
        prop_assert!(run(&mut after).iter().all(|r| !r.applied));
    }
}

/// Rules with whether they were applied.
fn check(graph: &str, expect: &[(&str, bool)]) {
    let mut graph = parse::parse(graph).unwrap_or_else(|d| panic!("{}: {:?}", d.message, d.notes));
    let got: Vec<(&str, bool)> = run(&mut graph).iter().map(|r| (r.why.rule, r.applied)).collect();
    assert_eq!(got, expect);
}

#[test]
fn a_large_weight_is_not_copied_for_a_small_operator() {
    let graph = |rows: i64| {
        format!(
            "model m(x: f32[{rows}, 8192]) -> y: f32[{rows}, 4096] = %1\n  \
             %0 = Linear(%x, {{param m/w: f32[4096, 8192]}}) : f32[{rows}, 4096]\n  \
             %1 = Mul(%0, {{param m/s: f32[4096]}}) : f32[{rows}, 4096]\n"
        )
    };
    check(&graph(2), &[("a-constant-stays", false)]);
    check(&graph(1024), &[("into-the-producer", true)]);
}

#[test]
fn constants_that_complement_each_other_are_seen() {
    let one = WeightExpr::literal_f32(&[1], &[1.0]).unwrap();
    let s = WeightExpr::param("m", "s", DType::F32, &[1]).unwrap();
    let rest = one.binary(Arithmetic::Sub, &s).unwrap();
    let literal = |v: f32| WeightExpr::literal_f32(&[1], &[v]).unwrap();
    assert!(complementary(&s, &rest) && complementary(&rest, &s));
    assert!(complementary(&one.binary(Arithmetic::Sub, &rest).unwrap(), &rest));
    assert!(complementary(&literal(0.3), &literal(1.0 - 0.3)));
    assert!(!complementary(&s, &s) && !complementary(&literal(0.3), &literal(0.6)) && !complementary(&s, &one));
}
