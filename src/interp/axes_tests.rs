//! Holds `ir::axes` to what operators compute: of every kind of operator, on random shapes, what the table says that an index does
//! not read is changed, and the result there does not change by a bit; and where an axis is independent of all inputs, the pieces of
//! the result are the results of the pieces.

use ndarray::{ArrayD, Axis, Slice};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::arb::wave;
use super::arb_op::{Case, KINDS, Seed, arb_seed, kind};
use super::eval_op;
use crate::ir::axes::{self, Axes, Dependence};
use crate::ir::{DType, Op, TensorType, infer};
use crate::metrics::relative_l2;

type Checked = Result<(), String>;

/// Random operators of a kind.
fn cases(kind: usize, check: impl Fn(&Case) -> Checked) {
    let config = Config { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(kind as u64), ..Config::default() };
    let outcome = TestRunner::new(config).run(&arb_seed(), |seed: Seed| check(&seed.op(kind)).map_err(TestCaseError::fail));
    if let Err(e) = outcome {
        panic!("{e}");
    }
}

/// An operator with values for its inputs, the types of all, and its results.
struct Run<'a> {
    op: &'a Op,
    inputs: Vec<ArrayD<f64>>,
    types: Vec<TensorType>,
    outs: Vec<TensorType>,
    results: Vec<ArrayD<f64>>,
}

fn eval(op: &Op, inputs: &[ArrayD<f64>]) -> Result<Vec<ArrayD<f64>>, String> {
    eval_op(op, &inputs.iter().collect::<Vec<_>>()).map_err(|d| d.message.clone())
}

impl<'a> Run<'a> {
    fn of((op, shapes): &'a Case) -> Result<Self, String> {
        let inputs: Vec<ArrayD<f64>> = shapes.iter().enumerate().map(|(i, s)| wave(i, s)).collect();
        let types: Vec<TensorType> = shapes.iter().map(|s| TensorType::new(DType::F32, s.iter().copied())).collect();
        let outs = infer::infer(op, &types.iter().collect::<Vec<_>>())?;
        let results = eval(op, &inputs)?;
        Ok(Self { op, inputs, types, outs, results })
    }

    fn axes(&self) -> Axes<'_> {
        axes::of(self.op, &self.types.iter().collect::<Vec<_>>(), &self.outs)
    }

    /// Every axis of every result.
    fn everywhere(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.outs.len()).flat_map(|slot| (0..self.outs[slot].rank()).map(move |axis| (slot, axis)))
    }
}

/// The indices that index `at` reads of an axis of the input, as the table says; none if it says nothing of the kind.
fn read(said: &Dependence, at: usize, input: &ArrayD<f64>) -> Option<(usize, Vec<usize>)> {
    match said {
        Dependence::Independent { axis } => Some((*axis, vec![at])),
        Dependence::Window(w) => {
            let indices = w.reads(at as i64, input.shape()[w.axis] as i64)?;
            Some((w.axis, indices.into_iter().map(|i| i as usize).collect()))
        }
        Dependence::Reduced { .. } | Dependence::Broadcast | Dependence::Whole => None,
    }
}

/// What is said of an axis of a result and an input.
type Table<'a> = &'a dyn Fn(&Axes<'_>, usize, usize, usize) -> Dependence;

/// What is said not to be read does not matter.
fn others_do_not_matter(table: Table<'_>, case: &Case) -> Checked {
    let run = Run::of(case)?;
    for (slot, axis) in run.everywhere() {
        for input in 0..run.inputs.len() {
            let said = table(&run.axes(), slot, axis, input);
            for at in 0..run.results[slot].shape()[axis] {
                let Some((of, indices)) = read(&said, at, &run.inputs[input]) else { continue };
                let mut changed = run.inputs.clone();
                for (i, mut part) in changed[input].axis_iter_mut(Axis(of)).enumerate().filter(|(i, _)| !indices.contains(i)) {
                    part.mapv_inplace(|v| 1.7 - 3.0 * v + i as f64);
                }
                let after = eval(run.op, &changed)?;
                let (before, after) = (run.results[slot].index_axis(Axis(axis), at), after[slot].index_axis(Axis(axis), at));
                if before.iter().zip(&after).any(|(x, y)| x.to_bits() != y.to_bits()) {
                    return Err(format!("{case:?}: index {at} of axis {axis} reads more of input {input} than {said:?}"));
                }
            }
        }
    }
    Ok(())
}

/// How each input is handed to a piece of the result along an axis, if it can be computed in pieces: cut along an axis, or whole.
fn cuts(run: &Run<'_>, slot: usize, axis: usize) -> Option<Vec<Option<usize>>> {
    let cut = |input| match run.axes().along(slot, axis, input) {
        Dependence::Independent { axis } => Some(Some(axis)),
        Dependence::Broadcast => Some(None),
        Dependence::Window(_) | Dependence::Reduced { .. } | Dependence::Whole => None,
    };
    (0..run.inputs.len()).map(cut).collect::<Option<Vec<_>>>().filter(|c| c.iter().any(Option::is_some))
}

/// Pieces along an independent axis are pieces of the whole.
fn pieces_make_the_whole(case: &Case) -> Checked {
    let run = Run::of(case)?;
    for (slot, axis) in run.everywhere() {
        let Some(cuts) = cuts(&run, slot, axis) else { continue };
        let extent = run.results[slot].shape()[axis];
        for at in 1..extent {
            for (start, end) in [(0, at), (at, extent)] {
                let piece = |(x, cut): (&ArrayD<f64>, &Option<usize>)| match cut {
                    Some(axis) => x.slice_axis(Axis(*axis), Slice::from(start..end)).to_owned(),
                    None => x.clone(),
                };
                let inputs: Vec<ArrayD<f64>> = run.inputs.iter().zip(&cuts).map(piece).collect();
                let got = eval(&axes::piece(run.op, axis, (end - start) as i64), &inputs)?;
                let expect = run.results[slot].slice_axis(Axis(axis), Slice::from(start..end)).to_owned();
                // A product of fewer rows may be blocked differently.
                if got[slot].shape() != expect.shape() || relative_l2(got[slot].view(), expect.view()) > 1e-14 {
                    return Err(format!("{case:?}: {start}..{end} of axis {axis} is not computed from its pieces"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_kind_of_operator_is_tried() {
    for number in 0..KINDS {
        cases(number, |(op, _)| if kind(op) == Some(number) { Ok(()) } else { Err(format!("{} is not kind {number}", op.name())) });
    }
}

#[test]
fn what_the_table_says_is_not_read_does_not_matter() {
    (0..KINDS).for_each(|kind| cases(kind, |case| others_do_not_matter(&|axes, slot, axis, input| axes.along(slot, axis, input), case)));
}

#[test]
fn pieces_along_an_independent_axis_make_the_whole() {
    (0..KINDS).for_each(|kind| cases(kind, pieces_make_the_whole));
}

/// Does some operator of a kind show that a table is wrong?
fn caught(table: Table<'_>, kind: usize) -> bool {
    let wrong = std::cell::Cell::new(false);
    cases(kind, |case| {
        wrong.set(wrong.get() || others_do_not_matter(table, case).is_err());
        Ok(())
    });
    wrong.get()
}

#[test]
fn a_wrong_table_is_found() {
    let alone: Table<'_> = &|axes, slot, axis, input| match axes.along(slot, axis, input) {
        Dependence::Whole => Dependence::Independent { axis },
        said => said,
    };
    let narrow: Table<'_> = &|axes, slot, axis, input| match axes.along(slot, axis, input) {
        Dependence::Window(w) => Dependence::Window(axes::Window { kernel: w.kernel - 1, ..w }),
        said => said,
    };
    let operator = |name: &str, table: Table<'_>, op: &Op| {
        let kind = kind(op).unwrap_or_else(|| panic!("{name} is not evaluated"));
        assert!(caught(table, kind), "nothing shows that the table is wrong of {name}");
    };
    let conv = crate::ir::op::Conv::square(1, 1, 0);
    operator("softmax", alone, &Op::Softmax { axis: 0 });
    operator("layer norm", alone, &Op::LayerNorm { eps: 0.0 });
    operator("instance norm", alone, &Op::InstanceNorm { eps: 0.0 });
    operator("attention", alone, &Op::Attention(crate::ir::op::Attention { heads: 1, scale: 1.0 }));
    operator("rotary embedding", alone, &Op::RotaryEmbedding { heads: 1 });
    operator("convolution", narrow, &Op::Conv(conv.clone()));
    operator("transposed convolution", narrow, &Op::ConvTranspose(conv));
    operator("convolution over frames", narrow, &Op::TemporalConv);
    operator("enlargement", narrow, &Op::Upsample { factors: vec![] });
    operator("gated unit", narrow, &Op::GeGlu);
    operator("slice", narrow, &Op::Slice { axis: 0, start: 0.into(), end: 0.into() });
    operator("join", narrow, &Op::Concat { axis: 0 });
}
