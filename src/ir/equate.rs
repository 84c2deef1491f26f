//! Two extents that turn out to be one.

use super::dim::Dim;
use super::graph::OpGraph;
use super::op::Op;

impl OpGraph {
    /// Says that a symbol is worth this dim, everywhere in the graph and in the bodies of its operators.
    pub fn equate(&mut self, symbol: &str, dim: &Dim) {
        let replace = |d: &mut Dim| *d = d.replace(symbol, dim);
        for node in self.graph.node_weights_mut() {
            node.outs.iter_mut().flat_map(|t| &mut t.shape).for_each(replace);
            match &mut node.op {
                Op::Arange { len } => replace(len),
                Op::Reshape { shape } | Op::Expand { shape } => shape.iter_mut().for_each(replace),
                Op::Slice { start, end, .. } => [start, end].into_iter().for_each(replace),
                Op::Foreign(f) => {
                    f.outputs.iter_mut().flat_map(|t| &mut t.shape).for_each(replace);
                    f.bodies.iter_mut().for_each(|b| b.graph.equate(symbol, dim));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse;
    use crate::ir::{text, verify};

    #[test]
    fn types_and_shapes_follow() {
        let mut graph = parse(
            "model m(x: f32[n, 4]) -> y: f32[2, 2*unknown1] = %2
  %0 = NonZero{domain=\"\"}(%x) : f32[2, unknown1]
  %1 = Concat{axis=1}(%0, %0) : f32[2, 2*unknown1]
  %2 = Reshape{shape=[2, 2*unknown1]}(%1) : f32[2, 2*unknown1]
",
        )
        .unwrap();
        graph.equate("unknown1", &(Dim::symbol("n") * 3));
        verify(&graph).unwrap();
        let written = text::canonical(&graph);
        assert!(written.contains("Reshape{shape=[2, 6*n]}") && !written.contains("unknown"), "{written}");
    }
}
