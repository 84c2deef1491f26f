//! Tests: signatures, and times of a small product.

use super::*;
use crate::ir::{DType, TensorType};
use crate::runtime::session::tests::test_runtime;

/// `y = x · w` for `[m, k] x [k, n]`, under some names.
fn product(names: [&str; 3], [m, k, n]: [i64; 3]) -> OpGraph {
    let mut g = OpGraph::new(names[0]);
    let x = g.input(names[1], TensorType::new(DType::F32, [m, k]));
    let w = g.weight(WeightExpr::param("unet", names[2], DType::F32, &[k as u64, n as u64]).unwrap());
    let y = g.add(Op::MatMul, &[x, w], "product", &"".into()).unwrap();
    g.output("out", y);
    g
}

#[test]
fn the_signature_knows_types_and_no_names() {
    let one = signature(&product(["a", "x", "to_q.weight"], [4, 8, 16])).unwrap();
    assert_eq!(one, signature(&product(["b", "hidden", "to_k.weight"], [4, 8, 16])).unwrap());
    assert_ne!(one, signature(&product(["a", "x", "to_q.weight"], [4, 8, 17])).unwrap());
}

#[test]
fn a_larger_product_takes_longer() {
    let Some(runtime) = test_runtime() else { return };
    let (small, large) = (product(["a", "x", "w"], [8, 32, 32]), product(["a", "x", "w"], [256, 512, 512]));
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    let budget = Budget { seconds: 0.05, rounds: 5, sample: 1e-3 };
    let sites = [&small, &large].map(|graph| TimedGraph { graph, options: &options });
    let times = measure_graphs(&runtime, &sites, budget).unwrap();
    assert!(times[1].seconds > times[0].seconds, "{times:?}");
    assert_eq!(times[0].runs, 5);
}

#[test]
fn a_graph_with_open_extents_is_refused() {
    let Some(runtime) = test_runtime() else { return };
    let mut g = OpGraph::new("open");
    let x = g.input("x", TensorType::new(DType::F32, [crate::ir::Dim::symbol("n")]));
    let y = g.add(Op::Silu, &[x], "y", &"".into()).unwrap();
    g.output("y", y);
    let refused = measure_graph(&runtime, &g, &SessionOptions::default(), Budget::default()).unwrap_err();
    assert_eq!(refused.code, "model/unbound");
}
