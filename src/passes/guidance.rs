//! `guidance`: runs the halves of classifier-free guidance in one call or one after the other.
//!
//! A call whose model acts on each batch item alone may be cut along the batch axis: same result, half the activations, the
//! weights read twice (`docs/facts/svd.md` 2.7, rewrite 3). It decides the batch that a session's graph is bound to. One knob for
//! each session: it changes every tensor of the model.

use super::{Effect, Knob, Pass, PassCx, PassInfo, Property, Rewriter, Scope, Why};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::Program;
use crate::ir::pipeline::Placement;

pub(super) struct Guidance;

static INFO: PassInfo = PassInfo {
    id: "guidance",
    summary: "run the halves of guidance in one call, or one after the other",
    effect: Effect::Exact,
    asks: Some(Scope::Model),
    requires: &[Property::Placed],
    establishes: &[],
    example: "\
graph: svd-tiny
choose: unet.guidance=serial
before:
    %unet_out = call unet(sample=%unet_sample, …) {session=unet, device=rtx3090} : …
after:
    %unet_out = call unet(sample=%unet_sample, …) {session=unet, device=rtx3090, pieces=2} : …
",
};

fn knob_id(session: &str) -> String {
    format!("{session}.guidance")
}

impl Pass<Program> for Guidance {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn knobs(&self, program: &Program, _: &Machine) -> Vec<Knob> {
        let about = "the halves of guidance in one call, or one after the other";
        let cut = program.sessions().into_iter().filter(|s| s.batch > 1);
        cut.map(|s| Knob::exact(knob_id(&s.session), Scope::Model, ["batched", "serial"], about)).collect()
    }

    fn run(&self, rw: &mut Rewriter<'_, Program>, cx: &PassCx<'_>) -> Result<()> {
        for (i, site) in rw.graph().calls().into_iter().enumerate().filter(|(_, s)| s.batch > 1) {
            let knob = knob_id(&site.session);
            if cx.choices.get(&knob) != Some("serial") {
                continue;
            }
            let why = Why::new("one-after-the-other").with("pieces", site.batch);
            let placement = Placement { session: site.session, pieces: site.batch, device: cx.machine.key.clone() };
            rw.apply(&site.node, Some(&knob), why, |e| {
                e.place(i, placement);
                Ok(())
            })?;
        }
        Ok(())
    }
}
