//! A program: a pipeline and the models that it calls. What is compiled, costed and tuned.

use std::sync::Arc;

use indexmap::IndexMap;

use super::dim::Bindings;
use super::graph::OpGraph;
use super::pipeline::{Call, PipeGraph, PipeOp, Pipeline};
use super::signature::Signature;
use crate::diag::{Diagnostic, Result};

/// A pipeline and its models.
#[derive(Clone, Debug)]
pub struct Program {
    /// The dataflow.
    pub pipeline: Pipeline,
    /// Each model, symbolic: those declared, and what passes made of them. Shared, as a program is copied for every arrangement of
    /// its calls that a search looks at.
    pub models: IndexMap<String, Arc<OpGraph>>,
}

/// One place where the pipeline calls a model; how often it does is what [`Pipeline::walk`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// The session that serves it, as the call says; where it does not yet, the model's name, and for a further call with other
    /// extents the node's name behind it.
    pub session: String,
    /// The model.
    pub model: String,
    /// The node that calls it.
    pub node: String,
    /// Extents of each input.
    pub extents: Vec<Vec<i64>>,
    /// Extent of the axis along which the model acts on each item alone, or 1 if there is none.
    pub batch: i64,
    /// Pieces along that axis into which the call is cut.
    pub pieces: i64,
}

impl Program {
    /// Every call, in the order in which they run; those of a then-arm before those of the else-arm.
    pub fn calls(&self) -> Vec<CallSite> {
        let mut sites = Vec::new();
        self.collect(&self.pipeline.graph, &mut sites);
        sites
    }

    fn collect(&self, graph: &PipeGraph, sites: &mut Vec<CallSite>) {
        for id in graph.order() {
            match &graph.node(id).op {
                PipeOp::Call(call) => {
                    let extents: Vec<Vec<i64>> =
                        graph.inputs(id).iter().filter_map(|v| graph.value_type(*v)).map(super::pipeline::ValueType::dims).collect();
                    let node = graph.node(id).name.clone();
                    let session =
                        call.placement.as_ref().map_or_else(|| name_of(sites, &call.model, &node, &extents), |p| p.session.clone());
                    let pieces = call.placement.as_ref().map_or(1, |p| p.pieces);
                    let batch = self.batch(call, &extents);
                    sites.push(CallSite { session, model: call.model.clone(), node, extents, batch, pieces });
                }
                op => op.bodies().into_iter().for_each(|body| self.collect(body, sites)),
            }
        }
    }

    /// Changes every call, in the order of [`Program::calls`].
    pub fn for_each_call(&mut self, change: &mut dyn FnMut(usize, &mut Call)) {
        fn visit(graph: &mut PipeGraph, next: &mut usize, change: &mut dyn FnMut(usize, &mut Call)) {
            for id in graph.order() {
                match &mut graph.node_mut(id).op {
                    PipeOp::Call(call) => {
                        change(*next, call);
                        *next += 1;
                    }
                    op => op.bodies_mut().into_iter().for_each(|body| visit(body, next, change)),
                }
            }
        }
        visit(&mut self.pipeline.graph, &mut 0, change);
    }

    /// The first call of each session, in the order in which they run.
    pub fn sessions(&self) -> Vec<CallSite> {
        let mut first: Vec<CallSite> = Vec::new();
        for site in self.calls() {
            if first.iter().all(|s| s.session != site.session) {
                first.push(site);
            }
        }
        first
    }

    /// The extent of the symbol that leads the model's first input, where it leads the first output as well: such a model acts on
    /// each item alone, by the contract of the builders (`models`).
    fn batch(&self, call: &Call, extents: &[Vec<i64>]) -> i64 {
        let leads = |t: &super::types::TensorType| t.shape.first().map(super::dim::Dim::symbols);
        let Some(graph) = self.models.get(&call.model) else { return 1 };
        let signature = graph.signature();
        match (signature.inputs.first(), signature.outputs.first()) {
            (Some((_, i)), Some((_, o))) if leads(i) == leads(o) && leads(i).is_some_and(|s| s == ["batch"]) => {
                extents.first().and_then(|e| e.first()).copied().unwrap_or(1)
            }
            _ => 1,
        }
    }

    /// The graph that serves one piece of a call, bound to its extents and named after its session.
    ///
    /// # Errors
    /// `graph/model-size` if the model cannot take the extents.
    pub fn bound(&self, site: &CallSite) -> Result<OpGraph> {
        let graph = self.models.get(&site.model).ok_or_else(|| {
            Diagnostic::new("internal/bug", format!("the call `{}` names the model `{}`, which is not there", site.node, site.model))
        })?;
        let signature = graph.signature();
        let given: Vec<_> = signature
            .inputs
            .iter()
            .zip(&site.extents)
            .map(|((_, ty), extents)| {
                let mut extents = extents.clone();
                if let (Some(first), true) = (extents.first_mut(), cut(ty)) {
                    *first /= site.pieces;
                }
                (ty.dtype, extents)
            })
            .collect();
        let bindings: Bindings = signature
            .unify(&given)
            .map_err(|mismatches| Diagnostic::new("graph/model-size", format!("`{}` cannot take {given:?}: {mismatches:?}", site.model)))?;
        let mut bound = graph.bind(&bindings)?;
        bound.name.clone_from(&site.session);
        Ok(bound)
    }
}

/// The session of a call that has none yet: that of an earlier call of the model with the same extents, or a name that is free.
fn name_of(sites: &[CallSite], model: &str, node: &str, extents: &[Vec<i64>]) -> String {
    if let Some(same) = sites.iter().find(|s| s.model == model && s.extents == extents) {
        return same.session.clone();
    }
    let further = (2..).map(|n| format!("{model}.{node}.{n}"));
    let mut names = [model.to_owned(), format!("{model}.{node}")].into_iter().chain(further);
    names.find(|name| sites.iter().all(|s| s.session != *name)).unwrap_or_default()
}

/// Does each piece of a call along the batch see only its part of this input?
pub fn cut(ty: &super::types::TensorType) -> bool {
    ty.shape.first().is_some_and(|d| d.symbols() == ["batch"])
}

impl OpGraph {
    /// The ports.
    pub fn signature(&self) -> Signature {
        Signature {
            inputs: self.inputs().iter().map(|i| (self.node(*i).name.clone(), self.node(*i).outs[0].clone())).collect(),
            outputs: self.outputs().iter().map(|(n, o)| (n.clone(), self.ty(*o).clone())).collect(),
        }
    }
}
