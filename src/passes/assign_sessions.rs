//! `assign-sessions`: gives every call the session that runs it.
//!
//! A session is one compiled form of a model. Calls of a model with equal extents share one, so that its weights are loaded once
//! for all of them; a call with other extents gets its own, named after its node. No knob: another assignment would only load the
//! same weights twice.

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::Result;
use crate::ir::Program;
use crate::ir::pipeline::Placement;

pub(super) struct AssignSessions;

static INFO: PassInfo = PassInfo {
    id: "assign-sessions",
    summary: "give every call the session and the device that run it",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[Property::Placed],
    example: "\
graph: svd-tiny
before:
  %image_embeds = call image_encoder(pixel_values=%clip_pixel_values) : f32[batch=1, 64]
after:
  %image_embeds = call image_encoder(pixel_values=%clip_pixel_values) {session=image_encoder, device=rtx3090} : f32[batch=1, 64]
",
};

impl Pass<Program> for AssignSessions {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_, Program>, cx: &PassCx<'_>) -> Result<()> {
        let sites = rw.graph().calls();
        for (i, site) in sites.iter().enumerate() {
            let shared = sites[..i].iter().any(|earlier| earlier.session == site.session);
            let why = Why::new(if shared { "same-extents" } else { "first-call" }).with("session", site.session.as_str());
            let placement = Placement { session: site.session.clone(), pieces: 1, device: cx.machine.key.clone() };
            rw.apply(&site.node, None, why, |e| {
                e.place(i, placement);
                Ok(())
            })?;
        }
        Ok(())
    }
}
