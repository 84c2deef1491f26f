//! `place-loads`: which sessions are in the device's memory while one of them runs.
//!
//! `all`: every session is loaded at the start and stays; what a run pays for loading, further runs do not. `stage`: each is loaded
//! for its *stays* alone (`stays`): same results, less memory, weights loaded again where models take turns. The pipeline's own knob;
//! its answer stands in the program as loads and unloads, which cost, plan and executor read.

use std::collections::BTreeSet;

use super::stays::{Stay, stays};
use super::{Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::Program;
use crate::ir::pipeline::{PipeGraph, PipeId, PipeNode, PipeOp};

/// The knob.
pub const RESIDENCY: &str = "pipeline.residency";

pub(super) struct PlaceLoads;

static INFO: PassInfo = PassInfo {
    id: "place-loads",
    summary: "decide which sessions are loaded while one of them runs",
    effect: Effect::Exact,
    asks: Some(Scope::Pipeline),
    requires: &[Property::Placed],
    establishes: &[],
    example: "\
graph: svd-tiny
choose: pipeline.residency=stage
before:
  %latents = loop denoise(…
    %unet_out = call unet(…
    yield %latents
  %frames = call vae_decoder(…
after:
  load unet
  %latents = loop denoise(…
    %unet_out = call unet(…
    yield %latents
  unload unet
  load vae_decoder
  %frames = call vae_decoder(…
  unload vae_decoder
",
};

impl Pass<Program> for PlaceLoads {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, _: &Program, _: &Machine) -> Vec<Knob> {
        let about = "every model loaded for the whole run, or only the one that runs";
        vec![Knob::exact(RESIDENCY, Scope::Pipeline, ["all", "stage"], about)]
    }

    fn run(&self, rw: &mut Rewriter<'_, Program>, cx: &PassCx<'_>) -> Result<()> {
        let sessions: Vec<String> = rw.graph().sessions().into_iter().map(|s| s.session).collect();
        let name = rw.graph().pipeline.name.clone();
        let count = sessions.len() as i64;
        if cx.choices.get(RESIDENCY) == Some("stage") {
            let why = Why::new("each-for-its-stays").with("sessions", count);
            return rw.apply(&name, Some(RESIDENCY), why, |e| {
                by_stage(&mut e.pipeline().graph, &sessions);
                Ok(())
            });
        }
        rw.apply(&name, Some(RESIDENCY), Why::new("all-from-the-start").with("sessions", count), |e| {
            let graph = &mut e.pipeline().graph;
            let order = graph.order();
            let loads: Vec<PipeId> = sessions.iter().map(|s| graph.add(moving(PipeOp::Load(s.clone())), &[])).collect();
            graph.fix_order(loads.into_iter().chain(order).collect());
            Ok(())
        })
    }
}

/// A load or an unload as a node: it has no values, so no name of one.
fn moving(op: PipeOp) -> PipeNode {
    PipeNode { name: String::new(), op, outputs: Vec::new(), span: None }
}

/// Puts a load before and an unload behind each stay of a graph, and of the bodies whose sessions take turns.
fn by_stage(graph: &mut PipeGraph, sessions: &[String]) {
    let order = graph.order();
    let uses: Vec<BTreeSet<usize>> = order.iter().map(|id| used(&graph.node(*id).op, sessions)).collect();
    let (mut before, mut behind) = (vec![Vec::new(); order.len()], vec![Vec::new(); order.len()]);
    for stay in stays(&uses) {
        match stay {
            Stay::Session { session, first, last } => {
                before[first].push(graph.add(moving(PipeOp::Load(sessions[session].clone())), &[]));
                behind[last].push(graph.add(moving(PipeOp::Unload(sessions[session].clone())), &[]));
            }
            Stay::Inside(item) => {
                graph.node_mut(order[item]).op.bodies_mut().into_iter().for_each(|body| by_stage(body, sessions));
            }
        }
    }
    let placed = order.into_iter().enumerate().flat_map(|(i, id)| {
        let (before, behind) = (std::mem::take(&mut before[i]), std::mem::take(&mut behind[i]));
        before.into_iter().chain([id]).chain(behind)
    });
    let sequence = placed.collect();
    graph.fix_order(sequence);
}

/// The sessions that a node runs: a call one, a loop those of its body, a branch those of both arms.
fn used(op: &PipeOp, sessions: &[String]) -> BTreeSet<usize> {
    if let PipeOp::Call(call) = op {
        let session = call.placement.as_ref().map(|p| p.session.as_str());
        return sessions.iter().position(|s| Some(s.as_str()) == session).into_iter().collect();
    }
    let inside = |body: &PipeGraph| body.ids().flat_map(|id| used(&body.node(id).op, sessions)).collect::<Vec<_>>();
    op.bodies().into_iter().flat_map(inside).collect()
}
