//! Programs as a level that passes edit, and an edit of one.

use std::sync::Arc;

use super::level::{IrLevel, Journal};
use crate::diag::Result;
use crate::ir::pipeline::{PipeGraph, PipeOp, Pipeline, Placement};
use crate::ir::{OpGraph, Program, pipeline};

/// The name of a node of the pipeline, or of the pipeline where the whole of it is meant.
type Place<'s> = &'s str;

impl IrLevel for Program {
    type Site<'s> = Place<'s>;
    type Edit<'e> = ProgramEdit<'e>;

    fn name_of(&self, site: Place<'_>) -> String {
        site.into()
    }

    fn unit_at(&self, site: Place<'_>) -> Option<String> {
        model_at(&self.pipeline.graph, site)
    }

    fn edit(&mut self, _: Place<'_>, _: bool) -> ProgramEdit<'_> {
        ProgramEdit { before: self.clone(), program: self }
    }

    fn size(&self) -> usize {
        fn nodes(graph: &PipeGraph) -> usize {
            graph.ids().map(|id| 1 + graph.node(id).op.bodies().into_iter().map(nodes).sum::<usize>()).sum()
        }
        nodes(&self.pipeline.graph)
    }

    fn canonical(&self) -> String {
        // A model changes only by being replaced, so where it is in memory says whether it is still the same.
        let models: Vec<String> =
            self.models.iter().map(|(name, graph)| format!("{name} {} {:p}", graph.len(), Arc::as_ptr(graph))).collect();
        format!("{}{}", self.pipeline, models.join("\n"))
    }

    fn interface(&self) -> Vec<(String, String)> {
        let p = &self.pipeline;
        let inputs = p.inputs.iter().map(|id| (p.graph.node(*id).name.clone(), format!("{:?}", p.graph.node(*id).op)));
        let types = p.graph.results.iter().map(|v| p.graph.value_type(*v).map_or_else(String::new, ToString::to_string));
        inputs.chain(p.outputs.iter().map(|o| o.name.clone()).zip(types)).collect()
    }

    fn check(&self) -> Result<()> {
        pipeline::verify(&self.pipeline)?;
        self.models.values().try_for_each(|graph| graph.check())
    }
}

/// The session, or else the model, of the call with this name.
fn model_at(graph: &PipeGraph, name: &str) -> Option<String> {
    graph.ids().find_map(|id| match &graph.node(id).op {
        PipeOp::Call(call) if graph.node(id).name == name => Some(call.placement.as_ref().map_or(&call.model, |p| &p.session).clone()),
        op => op.bodies().into_iter().find_map(|body| model_at(body, name)),
    })
}

/// An edit of a program. A pipeline has tens of nodes and models are shared, so its journal is what there was before.
pub struct ProgramEdit<'a> {
    program: &'a mut Program,
    before: Program,
}

impl ProgramEdit<'_> {
    /// The program as it stands.
    pub fn program(&self) -> &Program {
        self.program
    }

    /// The dataflow, to change.
    pub fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.program.pipeline
    }

    /// Says what runs the call of this number, in the order of [`Program::calls`].
    pub fn place(&mut self, call: usize, placement: Placement) {
        let mut placement = Some(placement);
        self.program.for_each_call(&mut |i, c| {
            if i == call {
                c.placement = placement.take();
            }
        });
    }

    /// Puts a model in, or another in its place.
    pub fn set_model(&mut self, name: impl Into<String>, graph: OpGraph) {
        self.program.models.insert(name.into(), Arc::new(graph));
    }
}

impl Journal for ProgramEdit<'_> {
    fn commit(self) -> bool {
        self.program.canonical() != self.before.canonical()
    }

    fn undo(self) {
        *self.program = self.before;
    }
}
