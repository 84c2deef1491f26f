//! Which provider takes each operator of a lowered graph, by the tables of kernels of the target's row.

use crate::diag::{Diagnostic, Result};
use crate::ir::{NodeId, OpGraph};
use crate::target::Target;

/// The nodes that the target has no kernel for and a row behind it has, each with that row.
///
/// # Errors
/// `pass/no-kernel` for one that none of them takes.
pub fn elsewhere(graph: &OpGraph, target: &'static Target) -> Result<Vec<(NodeId, &'static Target)>> {
    let mut found = Vec::new();
    for id in graph.nodes() {
        let node = graph.node(id);
        let Some((domain, op_type)) = node.op.onnx_type() else { continue };
        let first = graph.inputs_of(id).first().map(|o| graph.ty(*o).dtype).or(node.outs.first().map(|t| t.dtype));
        let Some(ty) = first else { continue };
        match target.taker(domain, op_type, ty) {
            Some(row) if row == target => {}
            Some(row) => found.push((id, row)),
            None => {
                let message = format!("`{}` is {op_type} of {ty}, and {} has no kernel for it", node.name, target.name);
                let help = "choose another precision for the model (`--choose MODEL.precision=f32`) or another provider (`--provider`)";
                return Err(Box::new(Diagnostic::new("pass/no-kernel", message).help(help)));
            }
        }
    }
    Ok(found)
}
