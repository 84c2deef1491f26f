//! For each invariant a graph that breaks it, and the listing that says so.

use super::*;
use crate::ir::graph::{Order, Outlet, Wire};
use crate::ir::op::{Join, Place, Sliced};
use crate::ir::parse::parse;
use crate::ir::types::DType;

const CHAIN: &str = "
model m(x: f32[4]) -> y: f32[4] = %1
  %0 = Exp(%x) : f32[4]    # a
  %1 = Add(%0, {param m/w: f32[4]}) : f32[4]    # b
";

const CHUNKS: &str = "
model m(x: f32[3, 2]) -> y: f32[3, 2] = %0
  %0 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 1), (1, 3)]}(%x) : f32[3, 2]    # chunks
    1: model m.body(in0: f32[1, 2]) -> out0: f32[1, 2] = %0
      %0 = Exp(%in0) : f32[1, 2]    # e
    2: model m.body(in0: f32[2, 2]) -> out0: f32[2, 2] = %0
      %0 = Exp(%in0) : f32[2, 2]    # e
";

const BRANCH: &str = "
model m(x: f32[2], c: bool[1]) -> y: f32[2] = %0
  %0 = If{domain=\"\"}(%c, %x) : f32[2]    # if
    then_branch captures=1: model t(x: f32[2]) -> y: f32[2] = %0
      %0 = Exp(%x) : f32[2]    # e
";

/// Breaks a good graph and compares its whole listing.
fn check(good: &str, spoil: impl FnOnce(&mut OpGraph), want: &str) {
    let graph = spoilt(good, spoil);
    assert_eq!(listing::whole(&graph, &broken(&graph)), want.trim_start_matches('\n'));
    assert!(verify(&graph).is_err());
}

fn spoilt(good: &str, spoil: impl FnOnce(&mut OpGraph)) -> OpGraph {
    let mut graph = parse(good).unwrap_or_else(|d| panic!("{}: {:?}", d.message, d.notes));
    spoil(&mut graph);
    graph
}

fn named(graph: &OpGraph, name: &str) -> NodeId {
    graph.nodes().into_iter().find(|id| graph.node(*id).name == name).expect("there")
}

fn f32s(dims: &[i64]) -> TensorType {
    TensorType::new(DType::F32, dims.iter().copied())
}

/// Gives the first output of a node another type.
fn retype(graph: &mut OpGraph, name: &str, ty: TensorType) {
    let id = named(graph, name);
    graph.node_mut(id).outs[0] = ty;
}

/// Changes the first body of a node.
fn in_body(graph: &mut OpGraph, name: &str, change: impl FnOnce(&mut OpGraph)) {
    let id = named(graph, name);
    match &mut graph.node_mut(id).op {
        Op::ForChunks(chunks) => change(&mut chunks.bodies[0].1),
        Op::Foreign(foreign) => change(&mut foreign.bodies[0].graph),
        _ => panic!("`{name}` has no bodies"),
    }
}

#[test]
fn a_good_graph_breaks_nothing() {
    for text in [CHAIN, CHUNKS, BRANCH] {
        assert_eq!(broken(&parse(text).expect("good")), []);
    }
}

#[test]
fn types_are_those_that_inference_gives() {
    check(
        CHAIN,
        |g| retype(g, "a", f32s(&[5])),
        "
model m(x: f32[4]) -> y: f32[4] = %1
  %0 = Exp(%x) : f32[5]    # a
  ^ is typed (f32[5]), but its inputs give (f32[4])
  %1 = Add(%0, {param m/w: f32[4]}) : f32[4]    # b
  ^ does not take (f32[5], f32[4]): 5 does not broadcast with 4 on axis 0
",
    );
}

#[test]
fn a_constant_has_the_type_of_its_expression() {
    check(
        CHAIN,
        |g| retype(g, "param m/w", f32s(&[1])),
        "
model m(x: f32[4]) -> y: f32[4] = %1
  %0 = Exp(%x) : f32[4]    # a
  %1 = Add(%0, {param m/w: f32[4]}) : f32[4]    # b
  ^ the constant is typed (f32[1]), but is f32[4]
",
    );
}

#[test]
fn input_slots_have_no_gap() {
    check(
        CHAIN,
        |g| {
            let (a, b) = (named(g, "a"), named(g, "b"));
            g.graph.add_edge(a.0, b.0, Wire { from: 0, to: 3 });
        },
        "
model m(x: f32[4]) -> y: f32[4] = %1
  %0 = Exp(%x) : f32[4]    # a
  %1 = Add(%0, {param m/w: f32[4]}, %0) : f32[4]    # b
  ^ its filled input slots are [0, 1, 3], not 0, 1, …
",
    );
}

#[test]
fn an_edge_leaves_an_output_that_exists() {
    check(
        CHAIN,
        |g| {
            let (a, b) = (named(g, "a"), named(g, "b"));
            let w = g.inputs_of(b)[1];
            g.rewire(b, &[Outlet { node: a, slot: 7 }, w]);
        },
        "
model m(x: f32[4]) -> y: f32[4] = %1
  %0 = Exp(%x) : f32[4]    # a
  %1 = Add(%0.7, {param m/w: f32[4]}) : f32[4]    # b
  ^ input 0 reads output 7 of `a`, which has 1
",
    );
}

#[test]
fn a_producer_runs_before_its_consumers() {
    check(
        CHAIN,
        |g| {
            let a = named(g, "a");
            g.set_order(a, Order(vec![9]));
        },
        "
model m(x: f32[4]) -> y: f32[4] = %0
  %0 = Add(%1, {param m/w: f32[4]}) : f32[4]    # b
  ^ runs before its producer `a`
  %1 = Exp(%x) : f32[4]    # a
",
    );
}

#[test]
fn outputs_are_tensors_of_the_graph() {
    check(
        CHAIN,
        |g| {
            let b = named(g, "b");
            // Before the removals: a new node takes the id of a removed one.
            let w = g.weight(crate::weights::WeightExpr::literal_f32(&[4], &[1.0; 4]).expect("literal"));
            g.output("z", Outlet { node: b, slot: 2 });
            g.remove_node(named(g, "a"));
            let gone = g.add(Op::Unary(crate::ir::op::Unary::Exp), &[Outlet { node: b, slot: 0 }], "c", &"".into()).expect("fits");
            g.output("w", gone);
            g.remove_node(gone.node);
            g.rewire(b, &[w, w]);
        },
        "
model m(x: f32[4]) -> y: f32[4] = %0, z: ? = %0.2, w: ?
^ the output `z` is none of the 1 outputs of `b`
^ the output `w` is no node of the graph
  %0 = Add({literal f32[4] = 1}, {literal f32[4] = 1}) : f32[4]    # b
",
    );
}

#[test]
fn inputs_are_the_input_nodes_each_once() {
    let twice = |g: &mut OpGraph| g.inputs.push(g.inputs[0]);
    check(
        CHAIN,
        twice,
        "
model m(x: f32[4], x: f32[4]) -> y: f32[4] = %1
^ the input `x` is listed more than once
  %0 = Exp(%x) : f32[4]    # a
  %1 = Add(%0, {param m/w: f32[4]}) : f32[4]    # b
",
    );
    check(
        CHAIN,
        |g| g.inputs = vec![named(g, "a")],
        "
model m(a: f32[4]) -> y: f32[4] = %1
^ what is listed as an input is no input node
^ the input node `x` is not listed
  %0 = Exp(%x) : f32[4]    # a
  %1 = Add(%0, {param m/w: f32[4]}) : f32[4]    # b
",
    );
}

#[test]
fn bodies_of_chunks_take_the_pieces() {
    check(
        CHUNKS,
        |g| {
            in_body(g, "chunks", |body| {
                retype(body, "in0", f32s(&[1, 9]));
            });
        },
        "
model m(x: f32[3, 2]) -> y: f32[3, 2] = %0
  %0 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 1), (1, 3)]}(%x) : f32[3, 2]    # chunks
    1: model m.body(in0: f32[1, 9]) -> out0: f32[1, 2] = %0
    ^ the body takes (f32[1, 9]), but its pieces are (f32[1, 2])
      %0 = Exp(%in0) : f32[1, 2]    # e
      ^ is typed (f32[1, 2]), but its inputs give (f32[1, 9])
    2: model m.body(in0: f32[2, 2]) -> out0: f32[2, 2] = %0
      %0 = Exp(%in0) : f32[2, 2]    # e
",
    );
}

#[test]
fn ranges_cover_their_axis() {
    check(
        CHUNKS,
        |g| {
            let id = named(g, "chunks");
            let Op::ForChunks(chunks) = &mut g.node_mut(id).op else { panic!("chunks") };
            chunks.ranges[1].0 = 2;
        },
        "
model m(x: f32[3, 2]) -> y: f32[3, 2] = %0
  %0 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 1), (2, 3)]}(%x) : f32[3, 2]    # chunks
  ^ does not take (f32[3, 2]): the range 2..3 leaves a gap, overlaps or is empty
    1: model m.body(in0: f32[1, 2]) -> out0: f32[1, 2] = %0
      %0 = Exp(%in0) : f32[1, 2]    # e
    2: model m.body(in0: f32[2, 2]) -> out0: f32[2, 2] = %0
      %0 = Exp(%in0) : f32[2, 2]    # e
",
    );
}

/// Three rows, two ranges; a body sees one row around its range, and yields a sum over it as well.
const HALO: &str = "
model m(x: f32[3, 2]) -> y: f32[3, 2] = %0, s: f32[2, 2] = %0.1
  %0 = ForChunks{sliced=[0-1+1] joined=[0, +] ranges=[(0, 1), (1, 3)]}(%x) : f32[3, 2], f32[2, 2]    # chunks
    1-0+1: model m.body(in0: f32[2, 2]) -> out0: f32[1, 2] = %0, out1: f32[1, 2] = %1
      %0 = Slice{axis=0 0..1}(%in0) : f32[1, 2]    # own
      %1 = ReduceMean{axes=[0]}(%in0) : f32[1, 2]    # mean
    2-1+0: model m.body(in0: f32[3, 2]) -> out0: f32[2, 2] = %0, out1: f32[1, 2] = %1
      %0 = Slice{axis=0 1..3}(%in0) : f32[2, 2]    # own
      %1 = ReduceMean{axes=[0]}(%in0) : f32[1, 2]    # mean
";

/// Breaks the chunks of [`HALO`] and compares what is said of them.
fn check_chunks(spoil: impl FnOnce(&mut ForChunks), want: &[&str]) {
    let graph = spoilt(HALO, |g| {
        let id = named(g, "chunks");
        let Op::ForChunks(chunks) = &mut g.node_mut(id).op else { panic!("chunks") };
        spoil(chunks);
    });
    let listing = listing::whole(&graph, &broken(&graph));
    let said: Vec<&str> = listing.lines().filter_map(|line| line.trim_start().strip_prefix("^ ")).collect();
    assert_eq!(said, want);
}

#[test]
fn halos_are_part_of_the_pieces() {
    check_chunks(|_| {}, &[]);
    check_chunks(
        |c| c.sliced[0] = Some(Sliced { axis: 0, before: 1, after: 0 }),
        &[
            "does not take (f32[3, 2]): there is no body for 1, the place of 0..1",
            "the body takes (f32[2, 2]), but its pieces are (f32[1, 2])",
        ],
    );
    check_chunks(|c| c.sliced[0] = Some(Sliced { axis: 0, before: 2, after: 1 }), &[]);
    check_chunks(
        |c| c.sliced[0] = Some(Sliced { axis: 0, before: -1, after: 1 }),
        &[
            "does not take (f32[3, 2]): a halo is less than nothing",
            "the body takes (f32[2, 2]), but its pieces are (f32[1, 2])",
            "the body takes (f32[3, 2]), but its pieces are (f32[1, 2])",
        ],
    );
}

#[test]
fn ranges_with_a_halo_cover_their_axis_all_the_same() {
    let refused = |range: &str| format!("does not take (f32[3, 2]): the range {range} leaves a gap, overlaps or is empty");
    check_chunks(|c| c.ranges[1].0 = 2, &[&refused("2..3")]);
    check_chunks(|c| c.ranges[0].1 = 2, &[&refused("1..3")]);
    check_chunks(|c| c.ranges[1].1 = 4, &["does not take (f32[3, 2]): there is no body for 3-1+0, the place of 1..4"]);
}

#[test]
fn what_is_stacked_has_one_entry_a_range() {
    let wider = |c: &mut ForChunks| {
        for (_, body) in &mut c.bodies {
            let own = body.outputs[0].1;
            body.outputs[1].1 = own;
        }
    };
    check_chunks(wider, &["does not take (f32[3, 2]): axis 0 of `out1` (f32[2, 2]) is not 1"]);
    check_chunks(|c| c.joined[1] = Join::Along(0), &["does not take (f32[3, 2]): axis 0 of `out1` (f32[1, 2]) is not 2"]);
    check(
        HALO,
        |g| {
            let id = named(g, "chunks");
            g.node_mut(id).outs[1] = f32s(&[3, 2]);
        },
        &HALO
            .replace(
                "f32[2, 2]    # chunks",
                "f32[3, 2]    # chunks\n  ^ is typed (f32[3, 2], f32[3, 2]), but its inputs give (f32[3, 2], f32[2, 2])",
            )
            .replace("s: f32[2, 2]", "s: f32[3, 2]"),
    );
}

#[test]
fn what_a_body_captures_has_one_type() {
    check(
        BRANCH,
        |g| in_body(g, "if", |body| retype(body, "x", f32s(&[3]))),
        "
model m(x: f32[2], c: bool[1]) -> y: f32[2] = %0
  %0 = If{domain=\"\"}(%c, %x) : f32[2]    # if
    then_branch captures=1: model t(x: f32[3]) -> y: f32[2] = %0
    ^ the body captures (f32[2]), but its inputs end otherwise: (f32[3])
      %0 = Exp(%x) : f32[2]    # e
      ^ is typed (f32[2]), but its inputs give (f32[3])
",
    );
}

#[test]
fn what_bodies_capture_is_given() {
    check(
        BRANCH,
        |g| {
            let id = named(g, "if");
            let Op::Foreign(foreign) = &mut g.node_mut(id).op else { panic!("foreign") };
            foreign.bodies[0].captures = 3;
        },
        "
model m(x: f32[2], c: bool[1]) -> y: f32[2] = %0
  %0 = If{domain=\"\"}(%c, %x) : f32[2]    # if
  ^ its bodies capture 3 values, but it has 2 inputs
    then_branch captures=3: model t(x: f32[2]) -> y: f32[2] = %0
      %0 = Exp(%x) : f32[2]    # e
",
    );
}

/// A chain of `Exp`, of which those at `wrong` are mistyped.
fn long_chain(length: usize, wrong: impl Fn(usize) -> bool) -> OpGraph {
    let mut g = OpGraph::new("long");
    let mut x = g.input("x", f32s(&[2]));
    for i in 0..length {
        x = g.add(Op::Unary(crate::ir::op::Unary::Exp), &[x], format!("e{i}"), &"".into()).expect("fits");
    }
    g.output("y", x);
    (0..length).filter(|i| wrong(*i)).for_each(|i| retype(&mut g, &format!("e{i}"), TensorType::new(DType::F16, [2])));
    g
}

#[test]
fn the_diagnostic_shows_the_neighbourhood() {
    let d = verify(&long_chain(20, |i| i == 9)).expect_err("e9 is mistyped");
    assert_eq!((d.code, d.message.as_str()), ("model/invalid", "the operator graph `long` breaks its rules in 2 places"));
    let [note] = &d.notes[..] else { panic!("{:?}", d.notes) };
    let want = "…
  %7 = Exp(%6) : f32[2]    # e7
  %8 = Exp(%7) : f32[2]    # e8
  %9 = Exp(%8) : f16[2]    # e9
  ^ is typed (f16[2]), but its inputs give (f32[2])
  %10 = Exp(%9) : f32[2]    # e10
  ^ is typed (f32[2]), but its inputs give (f16[2])
  %11 = Exp(%10) : f32[2]    # e11
  %12 = Exp(%11) : f32[2]    # e12
…";
    assert_eq!(note, want);
}

#[test]
fn an_excerpt_is_bounded() {
    let graph = long_chain(400, |i| i % 2 == 0);
    let broken = broken(&graph);
    let text = listing::excerpt(&graph, &broken);
    assert_eq!(text.matches("^ ").count(), listing::MOST_BROKEN);
    assert!(text.ends_with(&format!("and {} more", broken.len() - listing::MOST_BROKEN)), "{text}");
}

#[test]
fn a_mistake_in_a_body_is_shown_with_what_is_around_it() {
    let mut graph = long_chain(30, |_| false);
    let x = graph.outputs[0].1;
    let bodies = vec![(Place::alone(2), long_chain(9, |i| i == 8))];
    let chunks = ForChunks { sliced: vec![Some(Sliced::plain(0))], joined: vec![Join::Along(0)], ranges: vec![(0, 2)], bodies };
    // The type of the body's output is wrong, so the node is inserted as it is.
    let node = graph.node(x.node).clone();
    graph.insert(crate::ir::Node { op: Op::ForChunks(Box::new(chunks)), order: Order(vec![99]), name: "chunks".into(), ..node }, &[x]);
    let want = "…
  %28 = Exp(%27) : f32[2]    # e28
  %29 = Exp(%28) : f32[2]    # e29
  %30 = ForChunks{sliced=[0] joined=[0] ranges=[(0, 2)]}(%29) : f32[2]    # chunks
  ^ is typed (f32[2]), but its inputs give (f16[2])
    2: model long(x: f32[2]) -> y: f16[2] = %8
      %0 = Exp(%x) : f32[2]    # e0
…
      %6 = Exp(%5) : f32[2]    # e6
      %7 = Exp(%6) : f32[2]    # e7
      %8 = Exp(%7) : f16[2]    # e8
      ^ is typed (f16[2]), but its inputs give (f32[2])";
    assert_eq!(listing::excerpt(&graph, &broken(&graph)), want);
}
