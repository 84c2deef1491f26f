//! Values by name, wherever they are: what `--feed`, `--dump` and `vidc check` address.
//!
//! Names of values are unique in the whole file, so a name and its way through loops and arms say the same. Two exceptions, both by
//! one rule (the innermost is meant): a value that a loop carries is the loop's output and what a step makes; what a branch gives
//! may be what the loop around it carries.

use super::{PipeGraph, PipeId, PipeOp, Pipeline, ValueId};

/// A value and what is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Loops and arms from the outside in, each a node of the graph that the one before leads into.
    pub within: Vec<Within>,
    /// The value, in the graph that the last of them leads into.
    pub value: ValueId,
}

/// A way into a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Into the body of this loop.
    Loop(PipeId),
    /// Into an arm of this branch.
    Arm {
        /// The branch.
        branch: PipeId,
        /// 0 for the then-arm, 1 for the else-arm.
        arm: usize,
    },
}

impl Within {
    /// The way into a body of this node, by its place in [`PipeOp::bodies`].
    pub(super) fn of(graph: &PipeGraph, node: PipeId, body: usize) -> Self {
        if matches!(graph.node(node).op, PipeOp::Loop(_)) { Self::Loop(node) } else { Self::Arm { branch: node, arm: body } }
    }

    /// The graph that it leads into.
    pub(super) fn enter(self, graph: &PipeGraph) -> Option<&PipeGraph> {
        let (node, body) = match self {
            Self::Loop(node) => (node, 0),
            Self::Arm { branch, arm } => (branch, arm),
        };
        graph.get(node)?.op.bodies().get(body).copied()
    }
}

impl Located {
    /// How many loops are around it: more than none, and it is made once a step.
    pub fn loops(&self) -> usize {
        self.within.iter().filter(|w| matches!(w, Within::Loop(_))).count()
    }

    /// How many arms are around it: more than none, and it may not be made.
    pub fn arms(&self) -> usize {
        self.within.len() - self.loops()
    }
}

impl Pipeline {
    /// The value that `--feed` and `--dump` mean by `name`. A carried value is found inside of its loop (where it is what a step makes).
    pub fn locate(&self, name: &str) -> Option<Located> {
        self.values().into_iter().find(|(n, _)| n == name).map(|(_, at)| at)
    }

    /// The graph that a value is in.
    pub fn graph_of(&self, at: &Located) -> Option<&PipeGraph> {
        at.within.iter().try_fold(&self.graph, |graph, within| within.enter(graph))
    }

    /// Every value that has a name of its own: bodies and arms first, arguments left out.
    pub fn values(&self) -> Vec<(String, Located)> {
        let mut out = Vec::new();
        values(&self.graph, &mut Vec::new(), &mut out);
        out
    }
}

fn values(graph: &PipeGraph, within: &mut Vec<Within>, out: &mut Vec<(String, Located)>) {
    for node in graph.order() {
        let op = &graph.node(node).op;
        for (arm, body) in op.bodies().into_iter().enumerate() {
            within.push(Within::of(graph, node, arm));
            values(body, within, out);
            within.pop();
        }
    }
    for node in graph.order().into_iter().filter(|n| !matches!(graph.node(*n).op, PipeOp::Argument { .. })) {
        for slot in 0..graph.node(node).outputs.len() {
            let value = ValueId { node, slot };
            out.push((graph.value_name(value), Located { within: within.clone(), value }));
        }
    }
}
