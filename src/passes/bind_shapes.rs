//! Binding shapes: what a call gives a model decides the model's symbolic dims. Not a pass of the order: it makes the graph that
//! the passes start from.

use crate::diag::{Diagnostic, Result};
use crate::ir::{Bindings, Op, OpGraph};

/// The graph for inputs of these extents, given in the order of the graph's inputs.
///
/// # Errors
/// `graph/model-size` if the model cannot take the extents, with the nearest that it can.
pub fn bind(graph: &OpGraph, extents: &[Vec<i64>]) -> Result<OpGraph> {
    let mut bindings = Bindings::new();
    for (input, dims) in graph.inputs().iter().zip(extents) {
        let node = graph.node(*input);
        for (dim, extent) in node.outs[0].shape.iter().zip(dims) {
            let dim = dim.bind(&bindings);
            match dim.solve(*extent) {
                Ok(Some((symbol, value))) => {
                    bindings.insert(symbol, value);
                }
                Ok(None) if dim.as_const() == Some(*extent) => {}
                Ok(None) => return Err(Box::new(refuse(graph, &node.name, dims, &format!("{extent} where it takes {dim}")))),
                Err((below, above)) => {
                    return Err(Box::new(refuse(
                        graph,
                        &node.name,
                        dims,
                        &format!("{extent} where it takes {dim}; the nearest are {below} and {above}"),
                    )));
                }
            }
        }
    }
    debug_assert!(graph.inputs().iter().all(|i| graph.node(*i).op == Op::Input));
    graph.bind(&bindings)
}

fn refuse(graph: &OpGraph, input: &str, dims: &[i64], why: &str) -> Diagnostic {
    Diagnostic::new("graph/model-size", format!("`{}` cannot take {dims:?} as `{input}`: {why}", graph.name))
}
