//! A program: a pipeline and the models that it calls. What is compiled, costed and tuned.

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
    /// Each declared model, symbolic, in the order of declaration.
    pub models: IndexMap<String, OpGraph>,
}

/// One place where the pipeline calls a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// The session that serves it: the model's name; a further call with other extents has the node's name behind it.
    pub instance: String,
    /// The model.
    pub model: String,
    /// The node that calls it.
    pub node: String,
    /// Extents of each input.
    pub extents: Vec<Vec<i64>>,
    /// How often it runs at most: the product of the steps of the loops around it. It runs so often where no branch is around it:
    /// `least` ≤ executions ≤ `times`.
    pub times: u64,
    /// How often it runs at least: as often as at most, or 0 in an arm of a branch, which may never be taken, and in loops in one.
    pub least: u64,
    /// Extent of the axis along which the model acts on each item alone, or 1 if there is none.
    pub batch: i64,
}

impl Program {
    /// Every call, in the order in which they run; those of a then-arm before those of the else-arm.
    pub fn calls(&self) -> Vec<CallSite> {
        let mut sites = Vec::new();
        self.collect(&self.pipeline.graph, (1, 1), &mut sites);
        sites
    }

    /// `runs`: how often the graph runs, at least and at most.
    fn collect(&self, graph: &PipeGraph, runs: (u64, u64), sites: &mut Vec<CallSite>) {
        let (least, times) = runs;
        for id in graph.order() {
            match &graph.node(id).op {
                PipeOp::Call(call) => {
                    let extents: Vec<Vec<i64>> =
                        graph.inputs(id).iter().filter_map(|v| graph.value_type(*v)).map(super::pipeline::ValueType::dims).collect();
                    let node = graph.node(id).name.clone();
                    let taken = sites.iter().any(|s| s.instance == call.model && s.extents != extents);
                    let instance = if taken { format!("{}.{node}", call.model) } else { call.model.clone() };
                    let batch = self.batch(call, &extents);
                    sites.push(CallSite { instance, model: call.model.clone(), node, extents, times, least, batch });
                }
                PipeOp::Loop(l) => {
                    let steps = l.steps.max(0) as u64;
                    self.collect(&l.body, (least * steps, times * steps), sites);
                }
                PipeOp::Branch(b) => b.arms().into_iter().for_each(|arm| self.collect(arm, (0, times), sites)),
                _ => {}
            }
        }
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

    /// The graph that serves a call in `pieces` along the batch, bound to its extents and named after its instance.
    ///
    /// # Errors
    /// `graph/model-size` if the model cannot take the extents.
    pub fn instance(&self, site: &CallSite, pieces: i64) -> Result<OpGraph> {
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
                    *first /= pieces;
                }
                (ty.dtype, extents)
            })
            .collect();
        let bindings: Bindings = signature
            .unify(&given)
            .map_err(|mismatches| Diagnostic::new("graph/model-size", format!("`{}` cannot take {given:?}: {mismatches:?}", site.model)))?;
        let mut bound = graph.bind(&bindings)?;
        bound.name.clone_from(&site.instance);
        Ok(bound)
    }
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
