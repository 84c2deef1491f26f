//! The walk over a model's nodes: names become outlets, operators become typed ones or stay foreign, shape arithmetic is
//! evaluated on the way.

use std::sync::Arc;

use super::functions::{self, Called, not_a_graph};
use super::reader::{Reader, UpgradedNode, fill};
use super::standard::{self, NodeInfo, ValueInfo};
use super::{constants, control, extents, legacy, lift, upgrade};
use crate::diag::{Diagnostic, Result};
use crate::ir::op::{Body, Foreign};
use crate::ir::{Dim, Op, Outlet};
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto};
use crate::weights::WeightExpr;

/// Bodies inside bodies.
const MAX_DEPTH: usize = 20;

impl Reader<'_, '_> {
    /// Stored tensors and nodes of a graph, then its outputs by name.
    pub(super) fn content(&mut self, graph: &GraphProto) -> Result<()> {
        for value in graph.value_info.iter().chain(&graph.output) {
            let info = self.declaration(value, false)?;
            self.declared.insert(value.name.clone(), info);
        }
        for t in &graph.initializer {
            if self.defaulted.remove(&t.name) {
                continue;
            }
            let outlet = self.stored(t)?;
            self.define(&t.name, outlet, ValueInfo::of_tensor(t))?;
        }
        for sparse in &graph.sparse_initializer {
            let node = NodeProto { op_type: "Constant".into(), attribute: vec![attr_sparse(sparse)], ..NodeProto::default() };
            let node = NodeProto { output: vec![constants::sparse_name(sparse).into()], ..node };
            self.node(&Called { node, opsets: 0 })?;
        }
        let nodes = self.shared.functions.inline(graph)?;
        for called in functions::sorted(nodes)? {
            self.node(&called).map_err(|d| Box::new(d.note(format!("at the node `{}` ({})", called.node.name, called.node.op_type))))?;
        }
        Ok(())
    }

    fn node(&mut self, called: &Called) -> Result<()> {
        let mut node = &called.node;
        let domain = functions::domain(&node.domain);
        let version = self.shared.functions.opsets[called.opsets].get(domain).copied().unwrap_or(1);
        let rank = || self.info(*self.names.get(node.input.first()?)?).ty.as_ref()?.shape.as_ref().map(Vec::len);
        if domain.is_empty()
            && let Some(steps) = legacy::flattened(called, version, rank())
        {
            return steps.iter().try_for_each(|step| self.node(step));
        }
        if node.input.len() > usize::from(u16::MAX) || node.output.len() > usize::from(u16::MAX) {
            return Err(not_a_graph(&format!("`{}` has more inputs or outputs than any operator", node.name)).into());
        }
        let mut inputs: Vec<Option<Outlet>> = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(self.named_value(name)?) });
        }
        let modern;
        let version = if domain.is_empty() && version < legacy::MODERN {
            modern = legacy::modern(self, node, version, &mut inputs)?;
            node = &modern;
            legacy::MODERN
        } else {
            version
        };
        if domain.is_empty() && self.decided(node, &inputs)? {
            return Ok(());
        }
        if domain.is_empty() {
            self.equate(node, &inputs);
        }
        let infos = self.infer(node, domain, version, &inputs)?;
        if let Some(outlets) = self.known(node, &infos) {
            return self.define_all(node, &outlets, infos);
        }
        let mut attributes: Vec<AttributeProto> = node.attribute.iter().filter(|a| a.g.is_none() && a.graphs.is_empty()).cloned().collect();
        let has_bodies = attributes.len() < node.attribute.len();
        if domain.is_empty() {
            upgrade::upgrade(self, &node.op_type, version, &mut attributes, &mut inputs, node.output.len())?;
        }
        let name = if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
        let group = group(&node.name);
        let upgraded = UpgradedNode {
            op_type: &node.op_type,
            version,
            attributes: &attributes,
            inputs: &inputs,
            outputs: &node.output,
            infos: &infos,
            name: &name,
            group,
        };
        let lifted = if has_bodies { None } else { lift::lift(self, domain, &upgraded)? };
        match lifted {
            Some(outlets) => self.define_all(node, &outlets, infos),
            None => self.foreign(node, domain, &upgraded),
        }
    }

    fn infer(&mut self, node: &NodeProto, domain: &str, version: i64, inputs: &[Option<Outlet>]) -> Result<Vec<ValueInfo>> {
        let given: Vec<Option<&ValueInfo>> = inputs.iter().map(|o| o.map(|o| &self.infos[&o])).collect();
        let call =
            NodeInfo { domain, op_type: &node.op_type, version, attributes: &node.attribute, inputs: &given, outputs: node.output.len() };
        let shared = &mut *self.shared;
        let symbols = shared.fresh;
        let mut infos = standard::infer(&call, &mut || shared.fresh()).map_err(|why| {
            Diagnostic::new("onnx/shape", why)
                .help("the file contradicts the ONNX standard, or a dim was bound to a value that it cannot have")
        })?;
        if shared.fresh != symbols
            && let Some(origin) = extents::origin(&call)
        {
            infos.clone_from(shared.origins.entry(origin).or_insert_with(|| infos.clone()));
        }
        shared.cut.extend(extents::cut(&call, &infos));
        for (info, name) in infos.iter_mut().zip(&node.output) {
            if let Some(declared) = self.declared.get(name) {
                fill(info, declared);
            }
        }
        Ok(infos)
    }

    /// What must be equal for a node to run becomes one extent. In bodies extents keep their names: those from around are not theirs.
    fn equate(&mut self, node: &NodeProto, inputs: &[Option<Outlet>]) {
        if self.shared.depth > 0 || self.shared.fresh == 0 {
            return;
        }
        let given: Vec<Option<&ValueInfo>> = inputs.iter().map(|o| o.map(|o| &self.infos[&o])).collect();
        let is_cut = |symbol: &Dim, end: &Dim| symbol.as_symbol().and_then(|s| self.shared.cut.get(s)) == Some(end);
        let mut pairs = extents::must_be_equal(node, &given, is_cut);
        while let Some(pair) = pairs.pop() {
            let Some((symbol, dim)) = extents::replaced(&pair) else { continue };
            self.graph.equate(&symbol, &dim);
            let known = self.infos.values_mut().chain(self.shared.origins.values_mut().flatten());
            known.for_each(|info| extents::equate(info, &symbol, &dim));
            pairs.iter_mut().for_each(|(a, b)| (*a, *b) = (a.replace(&symbol, &dim), b.replace(&symbol, &dim)));
        }
    }

    /// Outputs whose elements are all known numbers are constants.
    fn known(&mut self, node: &NodeProto, infos: &[ValueInfo]) -> Option<Vec<Option<Outlet>>> {
        let literals: Option<Vec<Option<WeightExpr>>> = (node.output.iter().zip(infos))
            .map(|(name, info)| if name.is_empty() { Some(None) } else { constants::literal(info).map(Some) })
            .collect();
        let literals = literals.filter(|l| l.iter().any(Option::is_some))?;
        Some(literals.into_iter().map(|l| l.map(|expr| self.graph.weight(expr))).collect())
    }

    /// An `If` whose condition is known is the branch that it takes.
    fn decided(&mut self, node: &NodeProto, inputs: &[Option<Outlet>]) -> Result<bool> {
        if node.op_type != "If" {
            return Ok(false);
        }
        let truth = inputs.first().copied().flatten().and_then(|o| constants::truth(&self.infos[&o]));
        let Some(truth) = truth else { return Ok(false) };
        let wanted = if truth { "then_branch" } else { "else_branch" };
        let Some(branch) = node.attribute.iter().find(|a| a.name == wanted).and_then(|a| a.g.as_deref()) else { return Ok(false) };
        self.deeper(|r| r.content(branch))?;
        let outlets = self.outputs(branch)?;
        // Names inside of a branch are its own: the next branch may use them again.
        let made = branch.initializer.iter().map(|t| &t.name).chain(branch.node.iter().flat_map(|n| &n.output));
        for name in made {
            self.names.remove(name);
        }
        for (name, outlet) in node.output.iter().zip(outlets).filter(|(name, _)| !name.is_empty()) {
            self.define(name, outlet, ValueInfo::default())?;
        }
        Ok(true)
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.shared.depth >= MAX_DEPTH {
            return Err(Diagnostic::new("onnx/too-deep", format!("bodies are nested more than {MAX_DEPTH} deep")).into());
        }
        self.shared.depth += 1;
        let out = work(self);
        self.shared.depth -= 1;
        out
    }

    /// A node as it is.
    fn foreign(&mut self, node: &NodeProto, domain: &str, upgraded: &UpgradedNode<'_>) -> Result<()> {
        let mut infos = upgraded.infos.to_vec();
        let mut bodies = Vec::new();
        let mut edges: Vec<Outlet> = upgraded.inputs.iter().copied().flatten().collect();
        let formal = control::formal(self, node, upgraded.inputs);
        let mut yields = Vec::new();
        for attribute in node.attribute.iter().filter(|a| a.g.is_some()) {
            let Some(graph) = attribute.g.as_deref() else { continue };
            let (body, captured, types) = self.deeper(|r| r.body(&attribute.name, graph, &formal))?;
            edges.extend(captured);
            bodies.push(body);
            yields.push(types);
        }
        control::yielded(self, node, &yields, &mut infos);
        let absent = |all: &mut dyn Iterator<Item = bool>| all.enumerate().filter(|(_, a)| *a).map(|(i, _)| i as u16).collect::<Vec<_>>();
        let mut outputs = Vec::new();
        for (info, name) in infos.iter().zip(&node.output) {
            if !name.is_empty() {
                outputs.push(self.tensor_type(info));
            }
        }
        let foreign = Foreign {
            domain: domain.into(),
            op_type: node.op_type.clone(),
            attributes: upgraded.attributes.to_vec(),
            bodies,
            absent_inputs: absent(&mut upgraded.inputs.iter().map(Option::is_none)),
            absent_outputs: absent(&mut node.output.iter().map(String::is_empty)),
            outputs,
        };
        let first = self.graph.add(Op::Foreign(Box::new(foreign)), &edges, upgraded.name, &upgraded.group)?;
        let present = node.output.iter().zip(infos).filter(|(name, _)| !name.is_empty());
        for (slot, (name, info)) in present.enumerate() {
            self.define(name, Outlet { node: first.node, slot: slot as u16 }, info)?;
        }
        Ok(())
    }

    /// A body, the values that it captures, and what it yields.
    fn body(&mut self, attribute: &str, graph: &GraphProto, formal: &[ValueInfo]) -> Result<(Body, Vec<Outlet>, Vec<ValueInfo>)> {
        let mut around = Vec::new();
        for name in functions::captures(graph) {
            let outlet = self.named_value(&name)?;
            let info = self.infos[&outlet].clone();
            around.push((name, outlet, self.graph.as_weight(outlet).cloned(), self.graph.ty(outlet).clone(), info));
        }
        let mut inner = Reader::new(&graph.name, &mut *self.shared);
        for (i, input) in graph.input.iter().enumerate() {
            let mut info = inner.declaration(input, false)?;
            if let Some(given) = formal.get(i) {
                fill(&mut info, given);
            }
            inner.declare(&input.name, info)?;
        }
        let mut captured = Vec::new();
        for (name, outlet, weight, ty, info) in around {
            let here = if let Some(expr) = weight {
                inner.graph.weight(expr)
            } else {
                captured.push(outlet);
                inner.graph.input(name.clone(), ty)
            };
            inner.define(&name, here, info)?;
        }
        inner.content(graph)?;
        let outlets = inner.outputs(graph)?;
        let infos = outlets.iter().map(|o| inner.infos[o].clone()).collect();
        for (output, outlet) in graph.output.iter().zip(outlets) {
            inner.graph.output(output.name.clone(), outlet);
        }
        Ok((Body { attribute: attribute.into(), graph: inner.graph, captures: captured.len() }, captured, infos))
    }
}

fn attr_sparse(sparse: &crate::onnx::proto::SparseTensorProto) -> AttributeProto {
    AttributeProto {
        name: "sparse_value".into(),
        r#type: crate::onnx::proto::attribute_type::SPARSE_TENSOR,
        sparse_tensor: Some(Box::new(sparse.clone())),
        ..AttributeProto::default()
    }
}

/// The part of the architecture that a node's path names: its first two parts that are no operator.
fn group(name: &str) -> Arc<str> {
    let parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty()).collect();
    let path = &parts[..parts.len().saturating_sub(1)];
    let first = path.iter().position(|p| p.contains('.')).unwrap_or(0);
    path.get(first).copied().unwrap_or_default().into()
}
