//! Operator graphs as a level that passes edit, and an edit of one, with a journal of what it did.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::level::{IrLevel, Journal};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Node, NodeId, Op, OpGraph, Order, Outlet, TensorType, text, verify};
use crate::weights::WeightExpr;

/// One entry of the journal: how to take a change back.
enum Undo {
    Added(NodeId),
    Redirected { old: Outlet, new: Outlet, edges: Vec<(NodeId, u16)>, outputs: Vec<usize> },
    Retyped(NodeId, Box<Node>),
    Rewired(NodeId, Vec<Outlet>),
    Tf32(bool),
    Moved(Vec<(NodeId, Order)>),
}

/// The changes that one application of a rule makes. New nodes run at the site's place, in the order in which they are added.
pub struct Edit<'a> {
    graph: &'a mut OpGraph,
    order: Order,
    group: Arc<str>,
    knob: Option<Arc<str>>,
    name: String,
    next: u32,
    journal: Vec<Undo>,
    /// Nodes that go when the edit succeeds: a node that is gone could not come back under its id.
    removed: BTreeSet<NodeId>,
}

impl<'a> Edit<'a> {
    /// An edit at a site; `silent`: new nodes get no names.
    fn at(graph: &'a mut OpGraph, site: NodeId, silent: bool) -> Self {
        let node = graph.node(site);
        let name = if silent { String::new() } else { node.name.clone() };
        let (order, group) = (node.order.clone(), node.group.clone());
        // A form that a model's knob asks for keeps the segment's knob that already governs the site.
        let knob = node.knob.clone();
        Self { order, group, knob, name, next: 0, journal: Vec::new(), removed: BTreeSet::new(), graph }
    }
}

impl Edit<'_> {
    /// The graph as it stands.
    pub fn graph(&self) -> &OpGraph {
        self.graph
    }

    /// Adds an operator with one output at the site's place.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit.
    pub fn add(&mut self, op: Op, inputs: &[Outlet], suffix: &str) -> Result<Outlet> {
        self.next += 1;
        let order = self.order.below(self.next);
        let name = if suffix.is_empty() || self.name.is_empty() { self.name.clone() } else { format!("{}/{suffix}", self.name) };
        let node = self.graph.add_at(op, inputs, name, self.group.clone(), order)?;
        self.graph.node_mut(node).knob.clone_from(&self.knob);
        self.journal.push(Undo::Added(node));
        Ok(Outlet { node, slot: 0 })
    }

    /// Adds an operator behind the site, which stays: it runs after whatever the site will be expanded to.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit.
    pub fn add_behind(&mut self, op: Op, inputs: &[Outlet], suffix: &str) -> Result<Outlet> {
        let site = std::mem::take(&mut self.order);
        self.order = site.below(u32::MAX);
        let added = self.add(op, inputs, suffix);
        self.order = site;
        added
    }

    /// Adds a constant.
    pub fn weight(&mut self, expr: WeightExpr) -> Outlet {
        let outlet = self.graph.weight(expr);
        self.journal.push(Undo::Added(outlet.node));
        outlet
    }

    /// Lets every reader of `old` read `new`.
    ///
    /// # Errors
    /// `model/shape` if the types differ.
    pub fn replace(&mut self, old: Outlet, new: Outlet) -> Result<()> {
        let (a, b) = (self.graph.ty(old).clone(), self.graph.ty(new).clone());
        if a != b {
            return Err(Box::new(Diagnostic::new(
                "model/shape",
                format!("`{}` was {a}, its replacement is {b}", self.graph.node(old.node).name),
            )));
        }
        self.redirect(old, new, &[]);
        Ok(())
    }

    /// Lets the readers of `old` read `new`, whose type may differ; the caller retypes what follows.
    pub fn redirect(&mut self, old: Outlet, new: Outlet, except: &[NodeId]) {
        let edges = self.graph.redirect(old, new, except);
        let mut outputs = Vec::new();
        for (i, (_, o)) in self.graph.outputs.iter_mut().enumerate() {
            if *o == old {
                *o = new;
                outputs.push(i);
            }
        }
        if !edges.is_empty() || !outputs.is_empty() {
            self.journal.push(Undo::Redirected { old, new, edges, outputs });
        }
    }

    /// Lets one input of one node read another tensor, whose type may differ; the caller retypes what follows.
    pub fn rewire_input(&mut self, reader: NodeId, slot: u16, to: Outlet) {
        let old = self.graph.inputs_of(reader)[usize::from(slot)];
        if old != to {
            self.graph.move_edges(old, to, &[(reader, slot)]);
            self.journal.push(Undo::Redirected { old, new: to, edges: vec![(reader, slot)], outputs: Vec::new() });
        }
    }

    /// Adds an operator right behind a node that need not be the site, with that node's group and knob.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit.
    pub fn add_after(&mut self, place: NodeId, op: Op, inputs: &[Outlet], suffix: &str) -> Result<Outlet> {
        let node = self.graph.node(place);
        let (order, group, knob) = (node.order.below(u32::MAX), node.group.clone(), node.knob.clone());
        let name = if self.name.is_empty() { String::new() } else { format!("{}/{suffix}", node.name) };
        let node = self.graph.add_at(op, inputs, name, group, order)?;
        self.graph.node_mut(node).knob = knob;
        self.journal.push(Undo::Added(node));
        Ok(Outlet { node, slot: 0 })
    }

    /// Changes an operator in place and infers its types anew from its inputs.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit.
    pub fn set_op(&mut self, id: NodeId, op: Op) -> Result<()> {
        let types: Vec<TensorType> = self.graph.inputs_of(id).iter().map(|i| self.graph.ty(*i).clone()).collect();
        let outs = crate::ir::infer::infer(&op, &types.iter().collect::<Vec<_>>())
            .map_err(|why| Diagnostic::new("model/shape", format!("`{}`: {why}", self.graph.node(id).name)))?;
        let old = self.graph.node(id).clone();
        if old.op != op || old.outs != outs {
            let node = self.graph.node_mut(id);
            node.op = op;
            node.outs = outs;
            self.journal.push(Undo::Retyped(id, Box::new(old)));
        }
        Ok(())
    }

    /// Lets a node read other tensors, more or fewer than before; its outputs keep their types.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit, or yield another type.
    pub fn rewire(&mut self, id: NodeId, inputs: &[Outlet]) -> Result<()> {
        let types: Vec<TensorType> = inputs.iter().map(|i| self.graph.ty(*i).clone()).collect();
        let node = self.graph.node(id);
        let outs = crate::ir::infer::infer(&node.op, &types.iter().collect::<Vec<_>>());
        if outs.as_ref() != Ok(&node.outs) {
            let why = outs.err().unwrap_or_else(|| "it would yield another type".into());
            return Err(Box::new(Diagnostic::new("model/shape", format!("`{}`: {why}", node.name))));
        }
        let old = self.graph.inputs_of(id);
        if old != inputs {
            self.graph.rewire(id, inputs);
            self.journal.push(Undo::Rewired(id, old));
        }
        Ok(())
    }

    /// Lets nodes run in this order, in the places that they have together.
    pub fn reorder(&mut self, order: &[NodeId]) {
        let old: Vec<(NodeId, Order)> = order.iter().map(|id| (*id, self.graph.node(*id).order.clone())).collect();
        let mut places: Vec<Order> = old.iter().map(|(_, place)| place.clone()).collect();
        places.sort_unstable();
        for (id, place) in order.iter().zip(places) {
            self.graph.set_order(*id, place);
        }
        self.journal.push(Undo::Moved(old));
    }

    /// Says whether products of f32 tensors are taken in tf32.
    pub fn set_tf32(&mut self, tf32: bool) {
        if self.graph.tf32 != tf32 {
            self.journal.push(Undo::Tf32(self.graph.tf32));
            self.graph.tf32 = tf32;
        }
    }

    /// Infers the types of a node anew, after its inputs changed.
    ///
    /// # Errors
    /// `model/shape` if the inputs do not fit.
    pub fn reinfer(&mut self, id: NodeId) -> Result<()> {
        let op = self.graph.node(id).op.clone();
        self.set_op(id, op)
    }

    /// Removes a node that nobody reads, apart from nodes removed before. It goes when the edit ends.
    ///
    /// # Errors
    /// `internal/bug` if somebody reads it.
    pub fn remove(&mut self, id: NodeId) -> Result<()> {
        let needed = |o: Outlet| self.graph.is_output(o) || self.graph.users(o).iter().any(|(user, _)| !self.removed.contains(user));
        let read = (0..self.graph.node(id).outs.len() as u16).any(|slot| needed(Outlet { node: id, slot }));
        if read {
            return Err(Box::new(Diagnostic::new(
                "internal/bug",
                format!("a pass removes `{}`, which is still read", self.graph.node(id).name),
            )));
        }
        self.removed.insert(id);
        Ok(())
    }
}

impl IrLevel for OpGraph {
    type Site<'s> = NodeId;
    type Edit<'e> = Edit<'e>;

    fn name_of(&self, site: NodeId) -> String {
        self.node(site).name.clone()
    }

    fn unit_at(&self, _: NodeId) -> Option<String> {
        None
    }

    fn edit(&mut self, site: NodeId, silent: bool) -> Edit<'_> {
        Edit::at(self, site, silent)
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn canonical(&self) -> String {
        text::canonical(self)
    }

    fn interface(&self) -> Vec<(String, String)> {
        let inputs = self.inputs().iter().map(|i| (self.node(*i).name.clone(), self.node(*i).outs[0].to_string()));
        inputs.chain(self.outputs().iter().map(|(n, o)| (n.clone(), self.ty(*o).to_string()))).collect()
    }

    fn check(&self) -> Result<()> {
        verify(self).map(|_| ())
    }
}

impl Journal for Edit<'_> {
    fn commit(self) -> bool {
        for id in &self.removed {
            self.graph.remove_node(*id);
        }
        !self.journal.is_empty() || !self.removed.is_empty()
    }

    fn undo(self) {
        for entry in self.journal.into_iter().rev() {
            match entry {
                Undo::Added(id) => {
                    self.graph.remove_node(id);
                }
                Undo::Tf32(old) => self.graph.tf32 = old,
                Undo::Moved(old) => old.into_iter().for_each(|(id, place)| self.graph.set_order(id, place)),
                Undo::Rewired(id, inputs) => self.graph.rewire(id, &inputs),
                Undo::Retyped(id, node) => *self.graph.node_mut(id) = *node,
                Undo::Redirected { old, new, edges, outputs } => {
                    self.graph.move_edges(new, old, &edges);
                    for i in outputs {
                        self.graph.outputs[i].1 = old;
                    }
                }
            }
        }
    }
}
