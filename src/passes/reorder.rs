//! `reorder`: runs operators in the order in which the most memory at one time is least.
//!
//! Legal because every order in which producers stand before their readers computes the same. Before types and forms are chosen: which
//! order is best then is no matter of knobs, and each of these stays a choice of its own. What a site becomes later stands in its place.
//! Stretches in which no order needs less stay as the architecture has them ([`crate::ir::least_peak`] says how they are searched).

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::Result;
use crate::ir::least_peak::{Stretch, least_peak};

pub(super) struct Reorder;

static INFO: PassInfo = PassInfo {
    id: "reorder",
    summary: "run operators in the order that needs the least memory at one time",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Bound],
    establishes: &[],
    example: "
before:
model m(x: f32[1, 64]) -> y: f32[1, 64] = %5
  %0 = Exp(%x) : f32[1, 64]
  %1 = Expand{shape=[64, 64]}(%0) : f32[64, 64]
  %2 = Expand{shape=[64, 64]}(%0) : f32[64, 64]
  %3 = ReduceMean{axes=[0]}(%1) : f32[1, 64]
  %4 = ReduceMean{axes=[0]}(%2) : f32[1, 64]
  %5 = Add(%3, %4) : f32[1, 64]
after:
model m(x: f32[1, 64]) -> y: f32[1, 64] = %5
  %0 = Exp(%x) : f32[1, 64]
  %1 = Expand{shape=[64, 64]}(%0) : f32[64, 64]
  %2 = ReduceMean{axes=[0]}(%1) : f32[1, 64]
  %3 = Expand{shape=[64, 64]}(%0) : f32[64, 64]
  %4 = ReduceMean{axes=[0]}(%3) : f32[1, 64]
  %5 = Add(%2, %4) : f32[1, 64]
",
};

impl Pass for Reorder {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        for Stretch { order, before, now } in least_peak(rw.graph())?.changed {
            let why = Why::new("needs-less-at-once").with("before", before).with("now", now);
            rw.apply(order[0], None, why, |e| {
                e.reorder(&order);
                Ok(())
            })?;
        }
        Ok(())
    }
}
