//! Places in an operator graph: its parts, and the path of bodies that leads to one.

use super::graph::NodeId;

/// A place in a graph or in a body of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The bodies around it, from the outside in; none in the graph itself.
    pub bodies: Vec<BodyId>,
    /// The part of that graph.
    pub part: Part,
}

/// A body: the node that has it and which of its bodies it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyId {
    /// The node, in the graph around the body.
    pub node: NodeId,
    /// Which of the node's bodies.
    pub index: usize,
}

/// A part of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The graph as a whole.
    Graph,
    /// The input listed at this position.
    Input(usize),
    /// The output listed at this position.
    Output(usize),
    /// A node.
    Node(NodeId),
}
