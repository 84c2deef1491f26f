//! Tests of hoisting: equal results in f64, what moves, what stays and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{ArrayD, Axis as Along, IxDyn, Slice, stack};

use super::batch::{Prepare, batched};
use super::*;
use crate::hwdb;
use crate::interp;
use crate::interp::arb::distance;
use crate::ir::op::{Binary, Unary};
use crate::ir::{CallSite, DType, Dim, Outlet, TensorType};
use crate::passes::trace::Status;
use crate::passes::{Leveled, PassRecord, Passes, Planned, Remark};
use crate::weights::{ParamSource, WeightExpr, evaluate};

fn program(graph: &str, set: &[(&str, &str)]) -> Program {
    let set: Vec<(String, String)> = set.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    crate::models::load(&crate::spec::builtin(graph).unwrap(), &set).unwrap_or_else(|d| panic!("{:?}", d.0))
}

/// A program after the pass, and what it did.
struct Hoisted {
    program: Program,
    records: Vec<PassRecord>,
}

fn hoisted(program: &Program) -> Hoisted {
    let alone = Passes::of(vec![Leveled::Pipeline(Box::new(Hoist))]);
    let planned = Planned::with(Arc::new(alone), program, &hwdb::machine("cpu-avx2").unwrap(), &Debugging::default()).unwrap();
    let records = planned.compile(&Choices::default(), Checks::Fast).unwrap().trace().records;
    Hoisted { program: (*planned).clone(), records }
}

/// Small enough for the evaluator.
const SMALL: [(&str, &str); 4] = [("height", "64"), ("width", "64"), ("frames", "2"), ("steps", "3")];

fn rule(h: &Hoisted, rule: &str) -> Remark {
    let found = h.records.iter().flat_map(|r| &r.remarks).find(|r| r.why.rule == rule);
    found.unwrap_or_else(|| panic!("no {rule} in {:?}", h.records)).clone()
}

/// Numbers without pattern in [-1, 1].
fn numbers(dims: &[i64], seed: u64) -> ArrayD<f64> {
    let shape: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    ArrayD::from_shape_simple_fn(IxDyn(&shape), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
    })
}

fn run(graph: &OpGraph, inputs: &BTreeMap<String, ArrayD<f64>>) -> BTreeMap<String, ArrayD<f64>> {
    let mut weights = |expr: &WeightExpr| {
        let values = evaluate(&expr.bind(&ParamSource::Random { seed: 7 })?)?;
        let shape: Vec<usize> = values.shape.iter().map(|d| *d as usize).collect();
        Ok(ArrayD::from_shape_vec(shape, values.to_f32().into_iter().map(f64::from).collect()).unwrap())
    };
    let names: Vec<String> = graph.inputs().iter().map(|i| graph.node(*i).name.clone()).collect();
    let given: Vec<(&str, ArrayD<f64>)> = names.iter().map(|n| (n.as_str(), inputs[n].clone())).collect();
    interp::run::<f64>(graph, &given, &mut weights).unwrap_or_else(|d| panic!("{d:?}")).into_iter().collect()
}

fn instance(program: &Program, name: &str, pieces: i64) -> OpGraph {
    let site = program.calls().into_iter().find(|s| s.session == name).unwrap();
    program.bound(&CallSite { pieces, ..site }).unwrap()
}

/// The denoiser of the small pipeline over three steps, whole and in parts.
fn same_in_f64(pieces: i64) {
    let before = program("svd-tiny", &SMALL);
    let after = hoisted(&before).program;
    let (whole, rest) = (instance(&before, "unet", 1), instance(&after, "unet", pieces));
    let steps = 3;
    let times = ArrayD::from_shape_vec(IxDyn(&[steps]), vec![1.6, 0.3, -1.2]).unwrap();
    let fixed = BTreeMap::from([
        ("encoder_hidden_states".to_owned(), numbers(&[2, 1, 64], 1)),
        ("added_time_ids".to_owned(), ndarray::arr2(&[[6.0, 127.0, 0.02], [6.0, 120.0, 0.1]]).into_dyn()),
    ]);
    let mut early = fixed.clone();
    early.insert("timestep".into(), times.clone().insert_axis(Along(1)));
    let mut ready = run(&instance(&after, "unet.once", 1), &early);
    ready.extend(run(&instance(&after, "unet.schedule", 1), &early));
    for step in 0..steps {
        let sample = numbers(&[2, 2, 8, 8, 8], step as u64 + 2);
        let mut all = fixed.clone();
        all.insert("timestep".into(), times.slice_axis(Along(0), Slice::from(step..=step)).to_owned());
        all.insert("sample".into(), sample.clone());
        let expect = &run(&whole, &all)["out_sample"];
        let mut given = BTreeMap::from([("sample".to_owned(), sample)]);
        for (name, value) in &ready {
            let value = if name.starts_with("schedule") { value.index_axis(Along(0), step).to_owned() } else { value.clone() };
            given.insert(name.clone(), value);
        }
        let piece = |i: usize| -> BTreeMap<String, ArrayD<f64>> {
            let cut = |a: &ArrayD<f64>| if pieces == 1 { a.clone() } else { a.slice_axis(Along(0), Slice::from(i..=i)).to_owned() };
            given.iter().map(|(k, v)| (k.clone(), cut(v))).collect()
        };
        let got: Vec<ArrayD<f64>> = (0..pieces as usize).map(|i| run(&rest, &piece(i))["out_sample"].clone()).collect();
        let got = ndarray::concatenate(Along(0), &got.iter().map(|g| g.view()).collect::<Vec<_>>()).unwrap();
        let off = distance(&got, expect);
        assert!(off <= 1e-10, "step {step}: {off:e}");
    }
}

#[test]
fn a_cut_denoiser_gives_what_the_whole_gives() {
    same_in_f64(1);
}

#[test]
fn a_cut_denoiser_may_be_called_for_half_of_guidance() {
    same_in_f64(2);
}

#[test]
fn the_rest_takes_no_time_and_no_context() {
    let h = hoisted(&program("svd-tiny", &SMALL));
    let ports = |name: &str| h.program.models[name].signature().inputs.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(ports("unet.once"), ["encoder_hidden_states"]);
    assert_eq!(ports("unet.schedule"), ["timestep", "added_time_ids"]);
    let rest = ports("unet");
    assert_eq!(rest[0], "sample");
    assert!(rest[1..].iter().all(|p| p.starts_with("once_") || p.starts_with("schedule_")), "{rest:?}");
    let (last, prepared) = h.records.split_last().unwrap();
    assert_eq!((last.id, last.status), ("hoist", Status::Changed));
    assert!(prepared.iter().any(|r| r.id == "fold-cross-attention" && r.status == Status::Changed));
    // Nobody asks for guidance of a part, and shares of noise are those of one model.
    let calls = h.program.calls();
    let before_the_loop = |c: &CallSite| h.program.pipeline.graph.ids().any(|id| h.program.pipeline.graph.node(id).name == c.node);
    assert!(calls.iter().filter(|c| c.model.contains('.')).all(|c| c.batch == 1 && before_the_loop(c)));
    let shares = |name: &str| h.program.pipeline.models[name].share;
    assert_eq!(shares("unet") + shares("unet.once") + shares("unet.schedule"), 1000);
}

#[test]
fn of_the_full_size_denoiser_a_fifteenth_of_the_weights_leaves_the_loop() {
    let before = program("svd", &[]);
    let h = hoisted(&before);
    let numbers = |p: &Program, name: &str| {
        let g = &p.models[name];
        let of = |id: &NodeId| g.as_weight(Outlet { node: *id, slot: 0 }).map_or(0, WeightExpr::elements);
        g.nodes().iter().map(of).sum::<u64>() as f64
    };
    // Values of attention over one key: to_v and to_out of 32 sites. Time: 44 projections and two embeddings.
    let once = numbers(&h.program, "unet.once");
    let schedule = numbers(&h.program, "unet.schedule");
    assert!((50.0e6..50.7e6).contains(&once), "{once}");
    assert!((51.0e6..58.0e6).contains(&schedule), "{schedule}");
    assert!(numbers(&before, "unet") - numbers(&h.program, "unet") >= once + schedule, "to_q and to_k are dead as well");
    let held = |r: &str| rule(&h, r).why.facts["held"].clone();
    assert_eq!(held("known-for-all-steps"), Bytes(25 * 2 * 40_320 * 4).into());
    assert!(h.program.models["unet"].len() < before.models["unet"].len());
}

#[test]
fn results_that_outweigh_the_weights_stay() {
    let h = hoisted(&program("svd-tiny", &[("steps", "500")]));
    assert!(!rule(&h, "results-outweigh-weights").applied);
    assert!(h.program.models.contains_key("unet.once") && !h.program.models.contains_key("unet.schedule"));
    let signature = h.program.models["unet"].signature();
    assert!(signature.inputs.iter().any(|(n, _)| n == "timestep"));
}

/// The small pipeline whose denoiser stands in an arm.
fn cached() -> Program {
    let text = include_str!("../../../tests/data/graphs/svd-tiny-cached.yaml");
    let source = crate::diag::SourceText { name: "svd-tiny-cached.yaml".into(), text: text.into() };
    crate::models::load(&std::sync::Arc::new(source), &[]).unwrap_or_else(|d| panic!("{:?}", d.0))
}

#[test]
fn what_may_not_run_is_left_alone() {
    let before = cached();
    let h = hoisted(&before);
    assert!(!rule(&h, "in-a-branch").applied);
    assert!(h.records.iter().all(|r| r.status == Status::Unchanged));
    assert_eq!(h.program.pipeline.fingerprint(), before.pipeline.fingerprint());
}

/// A branch in the loop reads what the hoisted call makes, and values of the loop whose places move.
#[test]
fn a_branch_beside_a_hoisted_call_reads_what_it_read() {
    let (_, text) = *crate::spec::BUILTIN.iter().find(|(n, _)| *n == "svd-tiny").unwrap();
    let guided = "        guided: { guidance: { unconditional: unconditional, conditional: conditional, scale: guidance } }\n";
    let branch = "        halves: { relative_change: { from: unconditional, to: conditional } }
        either:
          if:
            value: halves
            below: 0.5
            else:
              far: { guidance: { unconditional: unconditional, conditional: conditional, scale: guidance } }
            gives: { guided: { then: conditional, else: far } }
";
    assert!(text.contains(guided));
    let source = crate::diag::SourceText { name: "t.yaml".into(), text: text.replace(guided, branch) };
    let before = crate::models::load(&std::sync::Arc::new(source), &[]).unwrap_or_else(|d| panic!("{:?}", d.0));
    let after = hoisted(&before).program;
    assert!(after.models.contains_key("unet.schedule"));
    let reads = |p: &Program| {
        let looped = p.pipeline.graph.find("latents").unwrap().node;
        let body = p.pipeline.graph.node(looped).op.bodies()[0].clone();
        let branch = body.find("guided").unwrap().node;
        body.inputs(branch).into_iter().map(|v| body.value_name(v)).collect::<Vec<_>>()
    };
    assert_eq!(reads(&after), reads(&before));
    assert_eq!(reads(&after), ["halves", "conditional", "unconditional", "guidance"]);
}

#[test]
fn hoisting_again_changes_nothing() {
    let once = hoisted(&program("svd-tiny", &SMALL)).program;
    let twice = hoisted(&once);
    assert!(twice.records.iter().all(|r| r.status == Status::Unchanged), "{:?}", twice.records);
}

/// `op` over three steps at once equals three times `op` on one.
fn check_batched(op: &Op, shapes: &[&[i64]], varies: &[bool]) {
    const STEPS: usize = 3;
    let types: Vec<TensorType> = shapes.iter().map(|s| TensorType::new(DType::F64, s.iter().copied())).collect();
    let types: Vec<&TensorType> = types.iter().collect();
    let out = crate::ir::infer::infer(op, &types).unwrap().remove(0);
    let (new, prepare) = batched(op, &types, &out, varies, STEPS as i64).unwrap_or_else(|| panic!("{op:?} has no form"));
    let one = |i: usize, step: usize| numbers(shapes[i], (i * 10 + if varies[i] { step } else { 0 }) as u64 + 1);
    let eval = |op: &Op, inputs: &[ArrayD<f64>]| interp::eval_op(op, &inputs.iter().collect::<Vec<_>>()).unwrap().remove(0);
    let each: Vec<ArrayD<f64>> = (0..STEPS).map(|s| eval(op, &(0..shapes.len()).map(|i| one(i, s)).collect::<Vec<_>>())).collect();
    let all: Vec<ArrayD<f64>> = (0..shapes.len())
        .map(|i| {
            let steps: Vec<ArrayD<f64>> = (0..STEPS).map(|s| one(i, s)).collect();
            let x = if varies[i] { stack(Along(0), &steps.iter().map(|s| s.view()).collect::<Vec<_>>()).unwrap() } else { one(i, 0) };
            match &prepare[i] {
                Prepare::AsIs => x,
                Prepare::Reshape(shape) => eval(&Op::Reshape { shape: shape.clone() }, &[x]),
                Prepare::Expand(shape) => eval(&Op::Expand { shape: shape.clone() }, &[x]),
            }
        })
        .collect();
    let expect = stack(Along(0), &each.iter().map(|e| e.view()).collect::<Vec<_>>()).unwrap();
    let got = eval(&new, &all);
    assert_eq!(got.shape(), expect.shape(), "{op:?}");
    assert!(distance(&got, &expect) < 1e-12, "{op:?}");
}

#[test]
fn operators_over_all_steps_at_once() {
    let dims = |d: &[i64]| d.iter().map(|x| Dim::Const(*x)).collect::<Vec<_>>();
    for op in [Op::Unary(Unary::Cos), Op::Silu, Op::Gelu { tanh: false }, Op::QuickGelu { alpha: 1.5 }, Op::GeGlu] {
        check_batched(&op, &[&[2, 4]], &[true]);
    }
    check_batched(&Op::Linear, &[&[2, 4], &[5, 4], &[5]], &[true, false, false]);
    check_batched(&Op::Linear, &[&[4], &[5, 4]], &[true, false]);
    check_batched(&Op::LayerNorm { eps: 1e-5 }, &[&[2, 4], &[4], &[4]], &[true, false, false]);
    check_batched(&Op::MatMul, &[&[2, 4], &[4, 3]], &[true, false]);
    // The timestep has fewer axes than what it meets; so has a constant.
    check_batched(&Op::Binary(Binary::Mul), &[&[1, 1], &[4]], &[true, false]);
    check_batched(&Op::Binary(Binary::Add), &[&[4], &[2, 3, 4]], &[true, false]);
    check_batched(&Op::Binary(Binary::Sub), &[&[2, 3, 4], &[4]], &[true, true]);
    check_batched(&Op::Binary(Binary::Add), &[&[1, 4], &[2, 4]], &[true, false]);
    check_batched(&Op::Concat { axis: 1 }, &[&[2, 3], &[2, 1]], &[true, false]);
    check_batched(&Op::Reshape { shape: dims(&[3, 2]) }, &[&[2, 3]], &[true]);
    check_batched(&Op::Expand { shape: dims(&[2, 5, 3]) }, &[&[5, 1]], &[true]);
    check_batched(&Op::Transpose { perm: vec![1, 0] }, &[&[2, 3]], &[true]);
    check_batched(&Op::Slice { axis: 1, start: 1.into(), end: 3.into() }, &[&[2, 3]], &[true]);
    check_batched(&Op::Softmax { axis: 1 }, &[&[2, 3]], &[true]);
    check_batched(&Op::ReduceMean { axes: vec![1] }, &[&[2, 3]], &[true]);
}

#[test]
fn what_acts_across_leading_axes_has_no_form() {
    let types: Vec<TensorType> =
        [&[1_i64, 4, 8][..], &[1, 4, 8], &[1, 4, 8]].iter().map(|s| TensorType::new(DType::F32, s.iter().copied())).collect();
    let op = Op::Attention(crate::ir::op::Attention { heads: 2, scale: 1.0 });
    let types: Vec<&TensorType> = types.iter().collect();
    assert_eq!(batched(&op, &types, types[0], &[true, true, true], 3), None);
    assert_eq!(batched(&Op::Linear, &types[..2], types[0], &[false, true], 3), None);
}
