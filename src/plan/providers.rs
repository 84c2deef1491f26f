//! The providers of a session and their options, from what was decided about its graph.

use std::collections::{BTreeMap, BTreeSet};

use crate::cost::operator::cost;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::{DType, OpGraph, Outlet};
use crate::passes;
use crate::target::{Asked, Provider};
use crate::units::Bytes;

/// The providers of a session, in the order in which they take nodes.
pub(super) fn of(graph: &OpGraph, machine: &Machine, device: u32) -> Result<Vec<Provider>> {
    let types: BTreeSet<DType> = graph.nodes().into_iter().flat_map(|id| graph.node(id).outs.iter().map(|t| t.dtype)).collect();
    let mut scratch = Bytes(0);
    for id in graph.nodes().into_iter().filter(|id| graph.node(*id).op.onnx_type().is_some()) {
        scratch = scratch.max(cost(graph, id, machine)?.scratch);
    }
    let input = |id| {
        let name = graph.node(id).name.clone();
        let unbound = || Diagnostic::new("model/unbound", format!("the input `{name}` still has a symbolic type"));
        let dims = graph.ty(Outlet { node: id, slot: 0 }).dims().ok_or_else(unbound)?;
        Ok((name, dims))
    };
    let inputs: Result<Vec<(String, Vec<i64>)>> = graph.inputs().iter().map(|id| input(*id)).collect();
    Ok(machine.target.providers(&Asked { device, types: &types, tf32: graph.tf32, scratch, inputs: &inputs? }))
}

/// The nodes, by their names in the file, that another provider than the first takes.
pub(super) fn elsewhere(graph: &OpGraph, machine: &Machine) -> Result<BTreeMap<String, String>> {
    let others: BTreeMap<_, _> = passes::elsewhere(graph, machine.target)?.into_iter().collect();
    let named = |(i, id)| Some((super::emit::node_name(i, &graph.node(id).name), others.get(&id)?.key.to_owned()));
    Ok(graph.nodes().into_iter().enumerate().filter_map(named).collect())
}
