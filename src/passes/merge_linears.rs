//! `merge-linears`: linear layers over the same few rows become one product and a cut.
//!
//! Legal because each column of a product depends on its own row of the weight alone. A denoiser projects the time embedding once
//! a block and the context once an attention: dozens of products of a few rows, each of which costs little more than its dispatch.
//! Their weights are stacked, the result is cut by one `Split`. Only where the rows are few: over many rows the cut would copy as
//! much as the product computes. Only on the CPU so far, where it was measured.

use std::collections::BTreeMap;

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::Result;
use crate::hwdb::Engine;
use crate::ir::dim::product;
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet};
use crate::weights::WeightExpr;

pub(super) struct MergeLinears;

/// Above this many rows the copy of the cut is not hidden in the dispatches that are saved.
const MOST_ROWS: i64 = 128;

static INFO: PassInfo = PassInfo {
    id: "merge-linears",
    summary: "compute linear layers over the same few rows as one",
    effect: Effect::Exact,
    requires: &[Property::Bound, Property::Typed],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 3]) -> y: f32[2, 4] = %0, z: f32[2, 5] = %1
  %0 = Linear(%x, {param m/a: f32[4, 3]}) : f32[2, 4]
  %1 = Linear(%x, {param m/b: f32[5, 3]}) : f32[2, 5]
after:
model m(x: f32[2, 3]) -> y: f32[2, 4] = %1, z: f32[2, 5] = %1.1
  %0 = Linear(%x, {concat[0](param m/a: f32[4, 3], param m/b: f32[5, 3])}) : f32[2, 9]
  %1 = Split{axis=1 sizes=[4, 5]}(%0) : f32[2, 4], f32[2, 5]
",
};

impl Pass for MergeLinears {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        if cx.machine.engine != Engine::OnnxRuntimeCpu {
            return Ok(());
        }
        for (x, layers) in sites(rw.graph()) {
            let why = Why::new("same-few-rows").with("layers", layers.len() as i64);
            rw.apply(layers[0], None, why, |e| merge(e, x, &layers))?;
        }
        Ok(())
    }
}

/// Linear layers with constant weights by what they read, in execution order; two and more.
fn sites(graph: &OpGraph) -> Vec<(Outlet, Vec<NodeId>)> {
    let mut by_input: BTreeMap<(Outlet, usize), Vec<NodeId>> = BTreeMap::new();
    for id in graph.nodes().into_iter().filter(|id| graph.node(*id).op == Op::Linear) {
        let inputs = graph.inputs_of(id);
        let ty = graph.ty(inputs[0]);
        let rows = product(&ty.shape[..ty.rank() - 1]).as_const();
        let constant = inputs[1..].iter().all(|w| graph.as_weight(*w).is_some());
        let gated = graph.users(Outlet { node: id, slot: 0 }).iter().any(|(n, _)| graph.node(*n).op == Op::GeGlu);
        if constant && !gated && ty.dtype == DType::F32 && rows.is_some_and(|r| r <= MOST_ROWS) && graph.node(id).knob.is_none() {
            by_input.entry((inputs[0], inputs.len())).or_default().push(id);
        }
    }
    by_input.into_iter().filter(|(_, layers)| layers.len() > 1).map(|((x, _), layers)| (x, layers)).collect()
}

fn merge(e: &mut super::Edit<'_>, x: Outlet, layers: &[NodeId]) -> Result<()> {
    let inputs: Vec<Vec<Outlet>> = layers.iter().map(|id| e.graph().inputs_of(*id)).collect();
    let mut args = vec![x];
    for slot in 1..inputs[0].len() {
        let parts: Vec<WeightExpr> = inputs.iter().filter_map(|i| e.graph().as_weight(i[slot]).cloned()).collect();
        args.push(e.weight(WeightExpr::concat(&parts, 0)?));
    }
    let sizes = layers.iter().map(|id| e.graph().node(*id).outs[0].shape.last().and_then(crate::ir::Dim::as_const).unwrap_or(0)).collect();
    let axis = e.graph().ty(x).rank() - 1;
    let all = e.add(Op::Linear, &args, "merged")?;
    let pieces = e.add(Op::Split { axis, sizes }, &[all], "cut")?;
    for (slot, id) in layers.iter().enumerate() {
        e.replace(Outlet { node: *id, slot: 0 }, Outlet { node: pieces.node, slot: slot as u16 })?;
        e.remove(*id)?;
    }
    Ok(())
}
