//! A factor on all queries or all keys goes into the scale of attention where that holds the product exactly.

use super::carrier::Change;
use super::site::Site;
use crate::diag::Result;
use crate::ir::op::Attention;
use crate::ir::{NodeId, Op, OpGraph};
use crate::passes::{Fact, Rewriter, Why};
use crate::weights::Arithmetic;

/// Attention with the scale that takes a factor up.
pub(super) struct Scale {
    reader: NodeId,
    attention: Attention,
    factor: f64,
    /// What was scaled.
    side: &'static str,
}

/// The attention that alone reads a site, as queries or keys, if it can take up the change.
pub(super) fn at(graph: &OpGraph, site: &Site, change: &Change) -> Option<Scale> {
    let [(reader, slot @ (0 | 1))] = graph.users(site.out())[..] else { return None };
    let Op::Attention(a) = &graph.node(reader).op else { return None };
    let factor = change.by.splat().filter(|_| change.scales() && !graph.is_output(site.out()))?;
    let scale = if change.how == Arithmetic::Mul { f64::from(a.scale) * factor } else { f64::from(a.scale) / factor };
    let exact = scale.is_finite() && f64::from(scale as f32).to_bits() == scale.to_bits();
    let attention = Attention { scale: scale as f32, ..*a };
    exact.then_some(Scale { reader, attention, factor, side: if slot == 0 { "queries" } else { "keys" } })
}

impl Scale {
    pub(super) fn take_up(self, rw: &mut Rewriter<'_>, site: &Site) -> Result<()> {
        let why = Why::new("into-the-scale-of-attention").with("of", self.side).with("factor", Fact::Ratio(self.factor));
        rw.apply(site.id, None, why, |e| {
            e.set_op(self.reader, Op::Attention(self.attention))?;
            site.dissolve(e)
        })
    }
}
