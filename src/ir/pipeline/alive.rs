//! Which values of a pipeline are in memory while a model runs, as the runtime keeps them: outside of loops a value goes when
//! nothing later reads it; what a loop's body makes stays until the loop ends, each value of the step before until it is made anew;
//! what an arm of a branch makes stays until the arm ends, so that two arms are never in memory together.

use std::collections::BTreeMap;

use super::{PipeGraph, PipeOp, Pipeline, ValueId};

impl Pipeline {
    /// Bytes of the values that are alive during each call beside those that the call itself reads and makes; calls in the order
    /// in which they run. A picture as it is read is not counted: its size is not known before.
    pub fn alive_beside_calls(&self) -> Vec<u64> {
        let mut out = Vec::new();
        walk(&self.graph, None, &mut out);
        out
    }
}

/// `all`: in a body or an arm, everything that is alive, the body's own values included.
fn walk(graph: &PipeGraph, all: Option<u64>, out: &mut Vec<u64>) {
    let order = graph.order();
    let place: BTreeMap<_, _> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let values: Vec<ValueId> =
        order.iter().flat_map(|id| (0..graph.node(*id).outputs.len()).map(|slot| ValueId { node: *id, slot })).collect();
    let last = |v: &ValueId| {
        let readers = graph.users(*v).into_iter().map(|(reader, _)| place[&reader]);
        if graph.results.contains(v) { usize::MAX } else { readers.max().unwrap_or(place[&v.node]) }
    };
    let spans: Vec<(usize, usize, u64)> = values.iter().map(|v| (place[&v.node], last(v), bytes(graph, *v))).collect();
    for (i, id) in order.iter().enumerate() {
        let alive = || all.unwrap_or_else(|| spans.iter().filter(|(first, last, _)| (*first..=*last).contains(&i)).map(|s| s.2).sum());
        match &graph.node(*id).op {
            PipeOp::Call(_) => {
                let mut own = graph.inputs(*id);
                own.extend((0..graph.node(*id).outputs.len()).map(|slot| ValueId { node: *id, slot }));
                own.sort_unstable();
                own.dedup();
                out.push(alive().saturating_sub(own.into_iter().map(|v| bytes(graph, v)).sum()));
            }
            PipeOp::Loop(l) => {
                let captured = l.carry.len() + l.each.len();
                // A capture is the value outside, not another one.
                let own = |id: &super::PipeId| !matches!(l.body.node(*id).op, PipeOp::Argument { index } if index >= captured);
                walk(&l.body, Some(alive() + made(&l.body, own)), out);
            }
            PipeOp::Branch(b) => {
                for arm in b.arms() {
                    let own = |id: &super::PipeId| !matches!(arm.node(*id).op, PipeOp::Argument { .. });
                    walk(arm, Some(alive() + made(arm, own)), out);
                }
            }
            _ => {}
        }
    }
}

/// Bytes of the values of the nodes that `own` keeps.
fn made(graph: &PipeGraph, own: impl Fn(&super::PipeId) -> bool) -> u64 {
    graph.ids().filter(own).flat_map(|id| &graph.node(id).outputs).filter_map(super::ValueType::bytes).sum()
}

fn bytes(graph: &PipeGraph, value: ValueId) -> u64 {
    graph.value_type(value).and_then(super::ValueType::bytes).unwrap_or(0)
}
