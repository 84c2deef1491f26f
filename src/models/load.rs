//! From a graph file to a program: parse, build the models, resolve.

use std::sync::Arc;

use indexmap::IndexMap;

use super::build;
use crate::diag::{Diagnostic, Diagnostics, Result, SourceText};
use crate::ir::pipeline::{self, resolve};
use crate::ir::{OpGraph, Program, Signature};
use crate::spec::{self, ModelDecl, Spec};

/// Reads a graph and builds its models; `set` overrides parameters.
///
/// # Errors
/// Every mistake of the stage that fails: the text, the models, the names and types.
pub fn load(source: &Arc<SourceText>, set: &[(String, String)]) -> std::result::Result<Program, Diagnostics> {
    let (spec, found) = spec::parse(source);
    let Some(spec) = spec else { return Err(found) };
    if !found.0.is_empty() {
        return Err(found);
    }
    program(&spec, set)
}

/// Builds the models of a graph and resolves it.
///
/// # Errors
/// Every mistake of the models, or of the names and types.
pub fn program(spec: &Spec, set: &[(String, String)]) -> std::result::Result<Program, Diagnostics> {
    let mut models = IndexMap::new();
    let mut found = Diagnostics::default();
    for (name, decl) in spec.models.iter() {
        match model(&name.value, decl) {
            Ok(graph) => {
                models.insert(name.value.clone(), graph);
            }
            Err(d) => found.push(d.maybe_at(Some(&decl.architecture.span), "this model")),
        }
    }
    found.into_result(())?;
    let pipeline = resolve(spec, set, &|decl: &ModelDecl| signature(&models, spec, decl))?;
    pipeline::verify(&pipeline)?;
    Ok(Program { pipeline, models: models.into_iter().map(|(name, graph)| (name, Arc::new(graph))).collect() })
}

fn model(name: &str, decl: &ModelDecl) -> Result<OpGraph> {
    let component = decl.weights.as_ref().map_or(name, |w| w.value.as_str());
    build(&decl.architecture.value, &decl.config.0.to_json(), component, name)
}

fn signature(models: &IndexMap<String, OpGraph>, spec: &Spec, decl: &ModelDecl) -> Result<Signature> {
    let name = spec.models.iter().find(|(_, d)| std::ptr::eq(*d, decl) || *d == decl).map(|(n, _)| n.value.as_str());
    let graph = name.and_then(|n| models.get(n));
    graph.map(OpGraph::signature).ok_or_else(|| Box::new(Diagnostic::new("internal/bug", "a declared model was not built")))
}
