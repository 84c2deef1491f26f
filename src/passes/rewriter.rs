//! The Rewriter: the only way in which a graph changes.
//!
//! [`Rewriter::apply`] demands a [`Why`]; edits go to a journal that is undone when the edit fails, so an edit costs what it
//! touches and a failed one leaves the graph as it was. [`Rewriter::decline`] records what was considered and not done. The same
//! for both levels of the IR ([`IrLevel`]): operator graphs and whole programs.

use std::sync::Arc;

use super::level::{IrLevel, Journal};
use super::remark::{Remark, Why};
use super::trace::PassRecord;
use crate::diag::Result;
use crate::ir::{NodeId, OpGraph};

/// Gives passes what they look at, an operator graph or a program, and takes their edits.
pub struct Rewriter<'a, L: IrLevel = OpGraph> {
    graph: &'a mut L,
    unit: &'a str,
    remarks: Vec<Remark>,
    /// Records of passes that this pass ran itself.
    inner: Vec<PassRecord>,
    /// Keeps no remarks and gives no names.
    silent: bool,
}

impl<'a, L: IrLevel> Rewriter<'a, L> {
    /// A rewriter of one unit.
    pub fn new(unit: &'a str, graph: &'a mut L) -> Self {
        Self { graph, unit, remarks: Vec::new(), inner: Vec::new(), silent: false }
    }

    /// A rewriter that keeps no remarks and gives new nodes no names: for the hundreds of compiles of a search, of which only
    /// figures are read.
    pub fn silent(unit: &'a str, graph: &'a mut L) -> Self {
        Self { silent: true, ..Self::new(unit, graph) }
    }

    /// The graph as it stands.
    pub fn graph(&self) -> &L {
        self.graph
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        self.unit
    }

    /// Runs an edit at a site. An edit that changes nothing leaves no remark; one that fails is undone.
    ///
    /// # Errors
    /// Whatever the edit returns.
    pub fn apply(
        &mut self,
        site: L::Site<'_>,
        knob: Option<&str>,
        why: Why,
        edit: impl FnOnce(&mut L::Edit<'_>) -> Result<()>,
    ) -> Result<()> {
        let remark = (!self.silent).then(|| self.remark(true, site, knob, why));
        let mut e = self.graph.edit(site, self.silent);
        match edit(&mut e) {
            Ok(()) => {
                if e.commit() {
                    self.remarks.extend(remark);
                }
                Ok(())
            }
            Err(d) => {
                e.undo();
                Err(d)
            }
        }
    }

    /// Records that something was considered at a site and not done.
    pub fn decline(&mut self, site: L::Site<'_>, knob: Option<&str>, why: Why) {
        if !self.silent {
            self.remarks.push(self.remark(false, site, knob, why));
        }
    }

    fn remark(&self, applied: bool, site: L::Site<'_>, knob: Option<&str>, why: Why) -> Remark {
        let unit = self.graph.unit_at(site).unwrap_or_else(|| self.unit.into());
        Remark { applied, unit, site: self.graph.name_of(site), knob: knob.map(Into::into), why }
    }

    /// Takes over the remarks of a rewriter of a body.
    pub fn extend(&mut self, remarks: Vec<Remark>) {
        self.remarks.extend(remarks);
    }

    /// Takes over the records of passes that this pass ran over a part.
    pub fn ran(&mut self, records: Vec<PassRecord>) {
        self.inner.extend(records);
    }

    /// The remarks so far; ends the rewriter.
    pub fn finish(self) -> Vec<Remark> {
        self.remarks
    }

    /// The records of passes that this pass ran itself, and its remarks; ends the rewriter.
    pub(super) fn finish_all(self) -> (Vec<PassRecord>, Vec<Remark>) {
        (self.inner, self.remarks)
    }
}

impl Rewriter<'_> {
    /// A rewriter of a body, as silent as this one.
    pub(super) fn of_body<'b>(&self, unit: &'b str, body: &'b mut OpGraph) -> Rewriter<'b> {
        Rewriter { silent: self.silent, ..Rewriter::new(unit, body) }
    }

    /// Notes which knob decides the form of these nodes, whatever its answer: the cost of a form is charged to its knob.
    pub fn tag(&mut self, nodes: &[NodeId], knob: &str) {
        let knob: Arc<str> = knob.into();
        for id in nodes {
            self.graph.node_mut(*id).knob = Some(knob.clone());
        }
    }
}
