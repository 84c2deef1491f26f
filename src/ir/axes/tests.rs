//! Some rows of the table as text; `interp` holds all of them to what is computed.

use super::*;
use crate::ir::infer::infer;
use crate::ir::op::{Attention, Binary, Conv, GroupNorm};
use crate::ir::types::DType;

fn f32s(dims: &[Dim]) -> TensorType {
    TensorType::new(DType::F32, dims.iter().cloned())
}

fn word(d: &Dependence) -> String {
    match d {
        Dependence::Independent { axis } => axis.to_string(),
        Dependence::Window(w) => {
            format!("{}[{} by {}, {} apart from -({}), spread {}]", w.axis, w.kernel, w.stride, w.dilation, w.before, w.spread)
        }
        Dependence::Reduced { axis } => format!("sum {axis}"),
        Dependence::Broadcast => "-".into(),
        Dependence::Whole => "?".into(),
    }
}

/// One word an axis of the output, one part an input.
fn check(op: &Op, inputs: &[TensorType], expect: &str) {
    let inputs: Vec<&TensorType> = inputs.iter().collect();
    let outs = infer(op, &inputs).unwrap_or_else(|e| panic!("{}: {e}", op.name()));
    let axes = of(op, &inputs, &outs);
    let row = |input| (0..outs[0].rank()).map(|a| word(&axes.along(0, a, input))).collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = (0..inputs.len()).map(row).collect();
    assert_eq!(rows.join("; "), expect, "{}", op.name());
}

macro_rules! ty {
    ($($d:expr),*) => { f32s(&[$(dim($d)),*]) };
}

fn dim(word: &str) -> Dim {
    word.parse::<i64>().map_or_else(|_| Dim::symbol(word), Dim::Const)
}

#[test]
fn extents_may_be_symbols() {
    check(&Op::Linear, &[ty!["b", "l", "8"], ty!["6", "8"], ty!["6"]], "0 1 -; - - 0; - - 0");
    check(&Op::Binary(Binary::Add), &[ty!["b", "l", "8"], ty!["1", "8"]], "0 1 2; - - 1");
    check(&Op::MatMul, &[ty!["b", "h", "l", "8"], ty!["h", "8", "l"]], "0 1 2 -; - 0 - 2");
    let merged = dim("b") * dim("f");
    let reshape = Op::Reshape { shape: vec![merged, dim("c"), dim("1"), dim("h")] };
    check(&reshape, &[ty!["b", "f", "c", "h"]], "? 2 ? 3");
    check(&Op::Slice { axis: 1, start: dim("s"), end: dim("l") }, &[ty!["b", "l"]], "0 1[1 by 1, 1 apart from -(-s), spread 1]");
    check(
        &Op::Concat { axis: 0 },
        &[ty!["n", "2"], ty!["m", "2"]],
        "0[1 by 1, 1 apart from -(0), spread 1] 1; 0[1 by 1, 1 apart from -(n), spread 1] 1",
    );
}

#[test]
fn what_combines_channels_follows_no_channel() {
    let conv = Conv::square(3, 2, 1);
    let x = || ty!["n", "4", "h", "8"];
    let moving = "2[3 by 2, 1 apart from -(1), spread 1] 3[3 by 2, 1 apart from -(1), spread 1]";
    check(&Op::Conv(conv.clone()), &[x(), ty!["6", "4", "3", "3"]], &format!("0 - {moving}; - 0 - -"));
    let depthwise = Conv { groups: 4, ..conv.clone() };
    check(&Op::Conv(depthwise), &[x(), ty!["4", "1", "3", "3"]], &format!("0 1 {moving}; - 0 - -"));
    check(&Op::Conv(Conv { groups: 2, ..conv }), &[x(), ty!["4", "2", "3", "3"]], &format!("0 ? {moving}; - 0 - -"));
    check(&Op::Conv(Conv::square(1, 1, 0)), &[x(), ty!["6", "4", "1", "1"]], "0 - 2 3; - 0 - -");
    let norm = |groups| Op::GroupNorm(GroupNorm { groups, eps: 0.1, silu: false });
    check(&norm(2), &[x(), ty!["4"], ty!["4"]], "0 ? ? ?; - 0 - -; - 0 - -");
    check(&norm(4), &[x(), ty!["4"], ty!["4"]], "0 1 ? ?; - 0 - -; - 0 - -");
    let heads = Op::Attention(Attention { heads: 2, scale: 1.0 });
    let (q, k) = (ty!["b", "l", "4"], ty!["b", "m", "4"]);
    check(&heads, &[q.clone(), k.clone(), k, ty!["1", "2", "l", "m"]], "0 1 ?; 0 - ?; 0 - 2; - 2 ?");
    check(&Op::GeGlu, &[ty!["b", "8"]], "0 1[2 by 1, 4 apart from -(0), spread 1]");
    check(&Op::ReduceMean { axes: vec![1] }, &[q], "0 sum 1 2");
}

#[test]
fn an_enlargement_reads_the_element_below() {
    let (before, after) = (Dim::Const(2), Dim::Const(2));
    let w = Window { axis: 0, kernel: 3, stride: 1, dilation: Dim::Const(1), before, after, spread: 3 };
    assert_eq!((0..6).map(|i| w.reads(i, 2).unwrap_or_default()).collect::<Vec<_>>(), [[0], [0], [0], [1], [1], [1]]);
}
