//! The order in which ONNX Runtime runs a written model, and what holds it to the planned one.
//!
//! ONNX Runtime walks depth first from the nodes that nobody reads and takes, among what a node reads, the producer with the highest index
//! first (`Graph::ReverseDFSFrom` with `NodeCompare`, 1.31; `docs/facts/ort.md` section 3); a list that is written in reverse lets it run
//! the planned order, as far as a depth-first walk can. Where it cannot, and would need more memory for that, a node is *anchored*: its
//! input is reshaped to the shape that it has, by a list of extents that starts with none of those of the tensor that must be there
//! first. Nothing is computed or copied for that.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::cost::graph::GraphCost;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::{NodeId, Op, OpGraph, schedule, schedule_in};
use crate::onnx::build::{self, attr};
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::target::DeviceKind;
use crate::units::Bytes;

/// Anchors of one model; each is three small nodes.
const MOST_ANCHORS: usize = 128;

/// Sees to it that a written model needs no more memory in ONNX Runtime's order than in the planned one.
///
/// # Errors
/// `plan/order-not-kept` if it needs more than the prediction allows for.
pub(super) fn keep(graph: &OpGraph, machine: &Machine, written: &mut GraphProto) -> Result<()> {
    let figures = &machine.target.figures;
    if !figures.in_order {
        return Ok(());
    }
    let planned = schedule(graph)?.steps;
    let most = transient(graph, &planned, machine)?;
    let mut anchors = 0;
    loop {
        let order = realised(graph, written);
        let needed = transient(graph, &order, machine)?;
        if needed <= most {
            return Ok(());
        }
        let anchored = machine.kind == DeviceKind::Cpu && anchors < MOST_ANCHORS && anchor(graph, written, &planned, &order, anchors);
        if anchored {
            anchors += 1;
            continue;
        }
        let allowed = Bytes(most.0 + most.0 * figures.memory_error.above / 100);
        return if needed <= allowed { Ok(()) } else { Err(Box::new(not_kept(graph, [most, allowed, needed], &planned, &order))) };
    }
}

fn not_kept(graph: &OpGraph, [most, allowed, needed]: [Bytes; 3], planned: &[NodeId], order: &[NodeId]) -> Diagnostic {
    let message = format!(
        "in the order in which ONNX Runtime would run `{}`, {needed} are alive at once; {most} are planned, and up to {allowed} allowed for",
        graph.name
    );
    let d = Diagnostic::new("plan/order-not-kept", message);
    let apart = planned.iter().zip(order).find(|(a, b)| a != b);
    let name = |id: NodeId| graph.node(id).name.clone();
    let d = apart.map_or(d.clone(), |(a, b)| d.note(format!("`{}` would run where `{}` is planned", name(*b), name(*a))));
    d.help("other answers of this model's `.frames` knobs avoid it; or choose a provider whose order vidc can set (the CPU)")
}

/// The most that is alive at one step in this order, with the scratch of kernels.
fn transient(graph: &OpGraph, order: &[NodeId], machine: &Machine) -> Result<Bytes> {
    Ok(GraphCost::scheduled(graph, &schedule_in(graph, order.to_vec())?, machine)?.total.transient)
}

/// The operators in the order in which ONNX Runtime runs a model that was written of them.
fn realised(graph: &OpGraph, written: &GraphProto) -> Vec<NodeId> {
    let names = graph.nodes().into_iter().enumerate().map(|(i, id)| (super::emit::node_name(i, &graph.node(id).name), id));
    let by_name: HashMap<String, NodeId> = names.collect();
    realised_names(written).into_iter().filter_map(|name| by_name.get(name).copied()).collect()
}

/// The names of a graph's nodes in the order in which ONNX Runtime runs them, if it rewrites nothing.
pub fn realised_names(graph: &GraphProto) -> Vec<&str> {
    depth_first(graph).into_iter().map(|i| graph.node[i].name.as_str()).collect()
}

/// The nodes of a written graph, by their places in its list, in the order in which ONNX Runtime runs them.
fn depth_first(graph: &GraphProto) -> Vec<usize> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        producer.extend(node.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), i)));
    }
    let needs: Vec<Vec<usize>> =
        graph.node.iter().map(|n| reads(n).into_iter().filter_map(|r| producer.get(r).copied()).collect()).collect();
    let read: HashSet<usize> = needs.iter().flatten().copied().collect();
    let mut stack: Vec<(usize, bool)> = (0..graph.node.len()).filter(|i| !read.contains(i)).map(|i| (i, false)).collect();
    let (mut visited, mut out) = (vec![false; graph.node.len()], Vec::with_capacity(graph.node.len()));
    while let Some((i, leave)) = stack.pop() {
        if leave {
            out.push(i);
        } else if !std::mem::replace(&mut visited[i], true) {
            stack.push((i, true));
            let mut needed = needs[i].clone();
            needed.sort_unstable();
            stack.extend(needed.into_iter().map(|n| (n, false)));
        }
    }
    out
}

/// What a node reads, its bodies included; names of a body's own tensors are unique and stand for nothing outside.
fn reads(node: &NodeProto) -> Vec<&str> {
    let bodies = node.attribute.iter().flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs));
    let inside = bodies.flat_map(|g| g.output.iter().map(|o| o.name.as_str()).chain(g.node.iter().flat_map(reads)));
    node.input.iter().map(String::as_str).chain(inside).filter(|name| !name.is_empty()).collect()
}

/// Lets the first operator that runs too early wait for the one that is planned right before it; whether that can be.
fn anchor(graph: &OpGraph, written: &mut GraphProto, planned: &[NodeId], order: &[NodeId], count: usize) -> bool {
    let Some((_, early)) = planned.iter().zip(order).find(|(a, b)| a != b) else { return false };
    let place: HashMap<NodeId, usize> = planned.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let before = planned[place[early].saturating_sub(1)];
    let names: BTreeMap<NodeId, String> =
        graph.nodes().into_iter().enumerate().map(|(i, id)| (id, super::emit::node_name(i, &graph.node(id).name))).collect();
    let at = |id: NodeId| written.node.iter().position(|n| n.name == names[&id]);
    let (Some(reader), Some(first)) = (at(*early), at(before)) else { return false };
    let inputs = graph.inputs_of(*early);
    let slot = inputs.iter().position(|o| !matches!(graph.node(o.node).op, Op::Weight(_)));
    let Some((slot, dims)) = slot.and_then(|s| Some((s, graph.ty(inputs[s]).dims()?))) else { return false };
    let given = written.node[reader].input[slot].clone();
    let awaited = written.node[first].output[0].clone();
    if given == awaited {
        return false;
    }
    let name = |part: &str| format!("anchor{count}/{part}");
    let values: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
    written.initializer.push(build::tensor(&name("extents"), crate::weights::DType::I64.onnx(), &[dims.len() as i64], values));
    let mut nothing = build::node("Shape", &name("wait"), &[&awaited], &[&name("nothing")]);
    nothing.attribute = vec![attr::int("start", 0), attr::int("end", 0)];
    let mut shape = build::node("Concat", &name("join"), &[&name("nothing"), &name("extents")], &[&name("shape")]);
    shape.attribute = vec![attr::int("axis", 0)];
    let same = build::node("Reshape", &name("same"), &[&given, &name("shape")], &[&name("input")]);
    written.node[reader].input[slot] = name("input");
    // The list is in reverse: what stands behind the reader runs before it.
    let behind = written.node.split_off(reader + 1);
    written.node.extend([same, shape, nothing].into_iter().chain(behind));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwdb;
    use crate::ir::{parse, verify};
    use crate::onnx::Style;
    use crate::plan::emit::{Placed, emit};

    /// Two wide tensors, of which two things each are asked for: apart, a walk from the outputs takes the first thing of both first.
    const TWO_THINGS: &str = "model m(x: f32[1, 64]) -> y: f32[1, 64] = %9, z: f32[64, 1] = %10
  %0 = Exp(%x) : f32[1, 64]
  %1 = Expand{shape=[6400, 64]}(%0) : f32[6400, 64]
  %2 = ReduceMean{axes=[0]}(%1) : f32[1, 64]
  %3 = Transpose{perm=[1, 0]}(%1) : f32[64, 6400]
  %4 = ReduceMean{axes=[1]}(%3) : f32[64, 1]
  %5 = Expand{shape=[6400, 64]}(%0) : f32[6400, 64]
  %6 = ReduceMean{axes=[0]}(%5) : f32[1, 64]
  %7 = Transpose{perm=[1, 0]}(%5) : f32[64, 6400]
  %8 = ReduceMean{axes=[1]}(%7) : f32[64, 1]
  %9 = Add(%2, %6) : f32[1, 64]
  %10 = Add(%4, %8) : f32[64, 1]
";

    fn written(graph: &OpGraph) -> GraphProto {
        emit(verify(graph).unwrap(), &Style::default(), &mut |_| Ok(Placed::Embedded(Vec::new()))).unwrap().graph.unwrap()
    }

    fn machine() -> Machine {
        hwdb::machine("x86-cpu-2core").unwrap()
    }

    #[test]
    fn a_model_that_a_walk_runs_as_planned_is_left_alone() {
        let text = "model m(x: f32[4, 8]) -> y: f32[4, 8] = %2
  %0 = Exp(%x) : f32[4, 8]
  %1 = Sigmoid(%x) : f32[4, 8]
  %2 = Add(%0, %1) : f32[4, 8]
";
        let graph = parse::parse(text).unwrap();
        let plain = written(&graph);
        let mut kept = plain.clone();
        keep(&graph, &machine(), &mut kept).unwrap();
        assert_eq!(kept, plain);
        assert_eq!(realised(&graph, &kept), schedule(&graph).unwrap().steps);
    }

    #[test]
    fn an_operator_that_a_walk_would_run_too_early_waits() {
        let graph = parse::parse(TWO_THINGS).unwrap();
        let mut model = written(&graph);
        let machine = machine();
        let most = transient(&graph, &schedule(&graph).unwrap().steps, &machine).unwrap();
        assert!(transient(&graph, &realised(&graph, &model), &machine).unwrap() > most);
        keep(&graph, &machine, &mut model).unwrap();
        assert!(transient(&graph, &realised(&graph, &model), &machine).unwrap() <= most);
        assert!(model.node.iter().any(|n| n.name.starts_with("anchor")));
    }

    #[test]
    fn where_nothing_can_wait_a_plan_that_needs_more_is_refused() {
        let graph = parse::parse(TWO_THINGS).unwrap();
        let error = keep(&graph, &hwdb::machine("rtx3060-12gb").unwrap(), &mut written(&graph)).unwrap_err();
        assert_eq!(error.code, "plan/order-not-kept");
    }
}
