//! A change of a tensor goes into the parameters of what made the tensor, or of all that read it.
//!
//! ```text
//! behind:    producer(W, b) ─ moves ─ site ─ …            producer(W', b') ─ moves ─ …
//! in front:  … ─ site ─ moves ─┬ reader(W)         ─►     … ─ moves ─┬ reader(W')
//!                              └ reader(V)                           └ reader(V')
//! ```
//! Both first say which parameters would change, then whether that is worth it (`worth`), and only then edit ([`Uptake::take_up`]).

use super::carrier::{Carrier, Change, Changed, Params, carrier};
use super::site::Site;
use super::way::{producer, readers};
use super::worth::{allowed, stored};
use super::{Attempt, Miss, Outcome};
use crate::diag::Result;
use crate::ir::{NodeId, OpGraph, Outlet};
use crate::passes::{Edit, Rewriter, Why};

/// All carriers that take a change up together, and the reason.
pub(super) struct Uptake {
    all: Vec<Changed>,
    why: Why,
}

/// The change goes into what made the tensor; `axis` is that of the channels, if they do not all change alike.
pub(super) fn behind(graph: &OpGraph, site: &Site, change: &Change, axis: Option<usize>) -> Attempt<Uptake> {
    let (id, axis) = producer(graph, site.x, axis, change.scales())?;
    let (carrier, old) = carrier(graph, id).ok_or(Miss::Unmet("no-weight"))?;
    if axis.is_some_and(|a| a != carrier.out_axis) {
        return Err(Miss::Unmet("another-axis"));
    }
    let new = carrier.changed_behind(&old, change)?;
    let all = vec![Changed { id, carrier, old, new }];
    allowed(graph, &all, site.out())?;
    let why = Why::new("into-the-producer").with("operator", graph.node(id).op.name()).with("weights", stored(&all));
    Ok(Uptake { all, why })
}

/// The change goes into all that read the tensor.
pub(super) fn in_front(graph: &OpGraph, site: &Site, change: &Change, axis: Option<usize>) -> Attempt<Uptake> {
    let all = changed_readers(graph, site.out(), axis, |carrier, old| carrier.changed_in_front(old, change))?;
    allowed(graph, &all, site.out())?;
    let why = Why::new("into-the-readers").with("readers", all.len() as i64).with("weights", stored(&all));
    Ok(Uptake { all, why })
}

/// Every reader of a tensor with the parameters that `change` gives it.
pub(super) fn changed_readers(
    graph: &OpGraph,
    x: Outlet,
    axis: Option<usize>,
    change: impl Fn(&Carrier, &Params) -> Attempt<Params>,
) -> Attempt<Vec<Changed>> {
    let found = readers(graph, x, axis)?;
    found.into_iter().map(|(id, carrier, old)| Ok(Changed { id, new: change(&carrier, &old)?, carrier, old })).collect()
}

impl Uptake {
    /// Gives the carriers their new parameters and takes the site out.
    pub(super) fn take_up(self, rw: &mut Rewriter<'_>, site: &Site) -> Result<Outcome> {
        let all = self.all;
        rw.apply(site.id, None, self.why, |e| {
            all.iter().try_for_each(|c| set(e, c.id, &c.new))?;
            site.dissolve(e)
        })?;
        Ok(Outcome::Done)
    }
}

/// Gives a carrier other parameters.
pub(super) fn set(e: &mut Edit<'_>, id: NodeId, new: &Params) -> Result<()> {
    let old = e.graph().inputs_of(id);
    let mut inputs = vec![old[0]];
    for (slot, expr) in std::iter::once(&new.weight).chain(&new.bias).enumerate() {
        let kept = old.get(slot + 1).copied().filter(|o| e.graph().as_weight(*o) == Some(expr));
        inputs.push(kept.unwrap_or_else(|| e.weight(expr.clone())));
    }
    e.rewire(id, &inputs)
}
