//! As written → as resolved: names become edges, expressions numbers, shapes concrete. Every mistake is reported at once; what
//! depends on a mistake is left out in silence.
//!
//! One [`Scope`] for the pipeline and one for each loop and arm around the current operator. A name that an inner scope lacks is looked
//! up outside and becomes a capture. Names of values are unique in the whole file (they are what `--feed` and `--dump`
//! address); only a carried value is named twice, where the body assigns it anew.

mod branch;

use std::collections::HashMap;

use indexmap::IndexMap;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Axis, Loop, Model, Output, PipeGraph, PipeId, PipeNode, PipeOp, Pipeline, Prim, TypeError, ValueId, ValueType, params};
use crate::diag::{self, Diagnostic, Diagnostics, Span, suggest};
use crate::ir::Signature;
use crate::spec::{self, Entries, EvalError, Expr, InputDecl, ModelDecl, Number, Op, Spanned, Spec, ValueRef};

/// Gives the ports of a declared model; it knows the architectures, this module does not.
pub type Signatures<'a> = &'a dyn Fn(&ModelDecl) -> diag::Result<Signature>;

/// Resolves `spec` at its defaults changed by `set` (pairs of parameter and text).
///
/// # Errors
/// Every mistake, in the order of the file; those of `set` first.
pub fn resolve(spec: &Spec, set: &[(String, String)], signatures: Signatures<'_>) -> Result<Pipeline, Diagnostics> {
    let mut resolver = Resolver::new(spec, set, signatures);
    let inputs = resolver.inputs(&spec.inputs);
    resolver.scopes[0].cyclic(&spec.pipeline, &[], &mut resolver.found);
    for (name, op) in spec.pipeline.iter() {
        resolver.step(name, op);
    }
    let outputs = resolver.outputs(&spec.outputs);
    resolver.finish(spec, inputs, outputs)
}

/// Members of a cycle that a diagnostic shows.
const MAX_SHOWN: usize = 12;
/// Mistakes after which no nearest names are looked for, which would take time with the square of a hostile file.
const MAX_SUGGESTIONS: usize = 100;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The value; `None` if its making failed and was reported.
    value: Option<ValueId>,
    /// Where it is made.
    span: Span,
}

/// The names and nodes of the pipeline, of the body of a loop, or of an arm of a branch.
#[derive(Default)]
struct Scope {
    graph: PipeGraph,
    names: IndexMap<String, Known>,
    /// Names that the rest of this scope will define.
    later: HashMap<String, Span>,
    /// In a body: what each carried name was assigned.
    carry: IndexMap<String, Option<Known>>,
    /// In a body or an arm: values of the scope outside that it uses, and the arguments that stand for them.
    captures: Vec<(String, ValueId, Known)>,
    /// In a body or an arm: number of arguments beside captures so far.
    arguments: usize,
}

impl Scope {
    /// Reports cycles among `ops` and poisons their members, so that each cycle is said once. `own` are names that the scope
    /// defines by itself (carried values), which are no dependency on an operator.
    fn cyclic(&mut self, ops: &Entries<Spanned<Op>>, own: &[&str], found: &mut Diagnostics) {
        for members in cycles(ops, own) {
            let names: Vec<&Spanned<String>> = members.iter().map(|i| &ops.0[*i].0).collect();
            let path: Vec<&str> = names.iter().take(MAX_SHOWN).map(|n| n.value.as_str()).collect();
            let d = Diagnostic::new("graph/cycle", format!("these values need each other: {}", path.join(", ")));
            let d = names.iter().take(MAX_SHOWN).fold(d, |d, n| d.at(&n.span, "on the cycle"));
            found.push(d.help("what goes around is a loop: give it to `carry` of a `loop`"));
            for (name, span) in members.iter().flat_map(|i| provided(&ops.0[*i].0, &ops.0[*i].1.value)) {
                self.names.insert(name, Known { value: None, span });
            }
        }
    }
}

/// The groups of operators that depend on each other, each in the order of the file.
fn cycles(ops: &Entries<Spanned<Op>>, own: &[&str]) -> Vec<Vec<usize>> {
    let mut providers: HashMap<&str, usize> = HashMap::new();
    for (i, (name, op)) in ops.iter().enumerate() {
        let names: Vec<&str> =
            op.value.given().map_or_else(|| vec![name.value.as_str()], |all| all.iter().map(|n| n.value.as_str()).collect());
        providers.extend(names.into_iter().filter(|n| !own.contains(n)).map(|n| (n, i)));
    }
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    let nodes: Vec<NodeIndex> = ops.0.iter().map(|_| graph.add_node(())).collect();
    for (i, (_, op)) in ops.iter().enumerate() {
        // A loop's body or an arm sees its own names first, so references to them say nothing about the outside.
        let inside = inner_names(&op.value);
        for r in outer_references(&op.value, &inside) {
            if let Some(from) = providers.get(r) {
                graph.update_edge(nodes[*from], nodes[i], ());
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = tarjan_scc(&graph)
        .into_iter()
        .filter(|g| g.len() > 1 || graph.contains_edge(g[0], g[0]))
        .map(|g| g.into_iter().map(NodeIndex::index).collect())
        .collect();
    for group in &mut groups {
        group.sort_unstable();
    }
    groups.sort();
    groups
}

fn inner_names(op: &Op) -> Vec<&str> {
    match op {
        Op::Loop(l) => l.carry.keys().chain(l.each.keys()).chain(l.body.keys()).collect(),
        Op::If(b) => b.then.keys().chain(b.r#else.keys()).collect(),
        _ => Vec::new(),
    }
}

fn outer_references<'a>(op: &'a Op, inside: &[&str]) -> Vec<&'a str> {
    let Op::Loop(l) = op else {
        return op.references().into_iter().map(ValueRef::name).filter(|n| !inside.contains(n)).collect();
    };
    let given = l.carry.iter().chain(l.each.iter()).map(|(_, r)| r.name());
    let body = l.body.iter().flat_map(|(_, op)| op.value.references()).map(ValueRef::name);
    given.chain(body.filter(|n| !inside.contains(n))).collect()
}

pub(super) struct Resolver<'s> {
    spec: &'s Spec,
    params: IndexMap<String, Number>,
    pub(super) models: IndexMap<String, Option<Model>>,
    scopes: Vec<Scope>,
    /// Every name that has been defined, in any scope.
    defined: HashMap<String, Span>,
    /// Names inside bodies and arms → the loop or branch.
    hidden: HashMap<&'s str, (&'s str, &'s Op)>,
    pub(super) found: Diagnostics,
}

impl<'s> Resolver<'s> {
    fn new(spec: &'s Spec, set: &[(String, String)], signatures: Signatures<'_>) -> Self {
        let mut found = Diagnostics::default();
        let params = params::parameters(&spec.parameters, set, &mut found);
        let models = spec.models.iter().map(|(name, decl)| (name.value.clone(), model(name, decl, signatures, &mut found))).collect();
        let later = spec.pipeline.iter().flat_map(|(k, op)| provided(k, &op.value)).collect();
        let mut hidden = HashMap::new();
        hide(&spec.pipeline, &mut hidden);
        let scopes = vec![Scope { later, ..Scope::default() }];
        Self { spec, params, models, scopes, defined: HashMap::new(), hidden, found }
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("the scope of the pipeline is never popped")
    }

    fn inputs(&mut self, inputs: &Entries<Spanned<InputDecl>>) -> Vec<PipeId> {
        let mut nodes = Vec::new();
        for (name, input) in inputs.iter() {
            let InputDecl::Picture(picture) = &input.value;
            let size = (self.int(&picture.height, 1), self.int(&picture.width, 1));
            let node = if let (Some(height), Some(width)) = size {
                let op = PipeOp::Input { fit: (height, width) };
                Some(self.add(name, op, vec![ValueType::Picture { size: None }], &[]))
            } else {
                None
            };
            nodes.extend(node);
            self.define(name, node.map(ValueId::from));
        }
        nodes
    }

    fn outputs(&mut self, outputs: &Entries<spec::OutputDecl>) -> Vec<Output> {
        let mut out = Vec::new();
        for (name, output) in outputs.iter() {
            let (frames, fps) = (self.value(&output.frames), self.float(&output.fps));
            let (Some(frames), Some(fps)) = (frames, fps) else { continue };
            let ty = self.value_type(frames).clone();
            if !is_video(&ty) {
                let message = format!("a video is f32[batch, frames, 3, height, width], not {ty}");
                let d = Diagnostic::new("graph/output-type", message).at(output.frames.span(), format!("{ty}"));
                self.found.push(self.made_here(d, &output.frames));
            }
            if fps <= 0.0 {
                let d = Diagnostic::new("graph/range", format!("a video cannot play {fps} frames a second"));
                self.found.push(d.at(&output.fps.span, format!("{fps}")));
            }
            self.scope().graph.results.push(frames);
            out.push(Output { name: name.value.clone(), fps });
        }
        if outputs.is_empty() {
            let d = Diagnostic::new("graph/no-output", "the graph has no output, so nothing would come of it");
            self.found.push(d.at(&self.spec.name.span, "this graph").help("add `outputs: { video: { frames: …, fps: … } }`"));
        }
        out
    }

    fn finish(mut self, spec: &Spec, inputs: Vec<PipeId>, outputs: Vec<Output>) -> Result<Pipeline, Diagnostics> {
        // In the order of the file; what has no place (`--set`) comes first.
        self.found.0.sort_by_key(|d| d.labels.first().map_or(0, |l| l.span.start));
        let graph = self.scopes.pop().expect("the scope of the pipeline is never popped").graph;
        let models = self.models.into_iter().filter_map(|(k, m)| Some((k, m?))).collect();
        let weights = spec.weights.as_ref().map(|w| w.value.beside(&w.span.source.name));
        let choose = spec.choose.iter().map(|(knob, answer)| (knob.clone(), answer.clone())).collect();
        let pipeline = Pipeline { name: spec.name.value.clone(), params: self.params, graph, inputs, models, outputs, weights, choose };
        self.found.into_result(pipeline)
    }

    /// One operator of the current scope.
    fn step(&mut self, name: &Spanned<String>, op: &Spanned<Op>) {
        for (provided, _) in provided(name, &op.value) {
            self.scope().later.remove(&provided);
        }
        match &op.value {
            Op::Loop(l) => self.looped(name, l),
            Op::If(b) => self.branch(name, b),
            Op::Call(call) => {
                let values = self.call(name, call);
                self.define_call(name, values);
            }
            op => {
                let value = self.primitive(name, op);
                self.define(name, value);
            }
        }
    }

    /// A model with several outputs makes `name.output` for each.
    fn define_call(&mut self, name: &Spanned<String>, values: Option<(PipeId, Vec<String>)>) {
        match values {
            Some((node, outputs)) if outputs.len() > 1 => {
                for (slot, output) in outputs.iter().enumerate() {
                    let full = Spanned { value: format!("{}.{output}", name.value), span: name.span.clone() };
                    self.define(&full, Some(ValueId { node, slot }));
                }
            }
            values => self.define(name, values.map(|(node, _)| node.into())),
        }
    }

    fn primitive(&mut self, name: &Spanned<String>, op: &Op) -> Option<ValueId> {
        let references = op.references();
        let values: Vec<Option<ValueId>> = references.iter().map(|r| self.value(r)).collect();
        let prim = self.lower(op);
        let values: Vec<ValueId> = values.into_iter().collect::<Option<_>>()?;
        let types: Vec<ValueType> = values.iter().map(|v| self.value_type(*v).clone()).collect();
        let prim = prim?;
        match prim.infer(&types) {
            Ok(ty) => Some(self.add(name, PipeOp::Prim(prim), vec![ty], &values).into()),
            Err(e) => {
                let d = self.type_error(name, &prim, &e, &references, &types);
                self.found.push(d);
                None
            }
        }
    }

    /// The mistake at the operator, with both ends of it: where each value is used and where it is made.
    fn type_error(&self, name: &Spanned<String>, prim: &Prim, e: &TypeError, references: &[&ValueRef], types: &[ValueType]) -> Diagnostic {
        let mut d = Diagnostic::new(e.code, format!("`{}` cannot be made by {}: {}", name.value, prim.word(), e.message));
        if e.inputs.is_empty() {
            d = d.at(&name.span, "this value");
        }
        for i in &e.inputs {
            d = d.at(references[*i].span(), format!("{}", types[*i]));
        }
        for i in &e.inputs {
            d = self.made_here(d, references[*i]);
        }
        d
    }

    pub(super) fn made_here(&self, d: Diagnostic, r: &ValueRef) -> Diagnostic {
        d.maybe_at(self.known(r.name()).map(|k| &k.span), format!("`{}` is made here", r.name()))
    }

    pub(super) fn add(&mut self, name: &Spanned<String>, op: PipeOp, outputs: Vec<ValueType>, inputs: &[ValueId]) -> PipeId {
        let node = PipeNode { name: name.value.clone(), op, outputs, span: Some(name.span.clone()) };
        self.scope().graph.add(node, inputs)
    }

    /// Gives `name` to a value of the current scope.
    fn define(&mut self, name: &Spanned<String>, value: Option<ValueId>) {
        let known = Known { value, span: name.span.clone() };
        if let Some(carried) = self.scope().carry.get_mut(&name.value)
            && carried.is_none()
        {
            *carried = Some(known.clone());
            self.scope().names.insert(name.value.clone(), known);
            return;
        }
        if let Some(first) = self.defined.get(&name.value) {
            let d = Diagnostic::new("graph/duplicate-value", format!("two values are named `{}`", name.value));
            let d = d.at(&name.span, "again here").at(first, "first here");
            self.found.push(d.help("values are fed and dumped by name, so each needs its own, inside loops as well"));
            return;
        }
        self.defined.insert(name.value.clone(), name.span.clone());
        // A member of a cycle stays poisoned.
        self.scope().names.entry(name.value.clone()).or_insert(known);
    }

    fn known(&self, name: &str) -> Option<&Known> {
        self.scopes.iter().rev().find_map(|s| s.names.get(name))
    }

    pub(super) fn value_type(&self, value: ValueId) -> &ValueType {
        let scope = self.scopes.last().expect("the scope of the pipeline is never popped");
        scope.graph.value_type(value).expect("a value in scope is an output of a node of the scope")
    }

    /// The value that `r` names, as the current scope sees it.
    pub(super) fn value(&mut self, r: &ValueRef) -> Option<ValueId> {
        // A call that failed has no outputs; its name stands for all of them.
        let owner = r.name().split_once('.').map_or(r.name(), |(owner, _)| owner);
        if let Some(known) = self.lookup(r.name()).or_else(|| self.lookup(owner).filter(|k| k.value.is_none())) {
            return known.value;
        }
        let d = self.unknown(r);
        self.found.push(d);
        None
    }

    /// Like [`Self::value`], without a report.
    pub(super) fn peek(&mut self, r: &ValueRef) -> Option<ValueId> {
        self.lookup(r.name()).and_then(|k| k.value)
    }

    fn lookup(&mut self, name: &str) -> Option<Known> {
        let at = self.scopes.iter().rposition(|s| s.names.contains_key(name))?;
        let mut known = self.scopes[at].names.get(name)?.clone();
        for inner in at + 1..self.scopes.len() {
            known = self.capture(inner, name, known);
        }
        Some(known)
    }

    /// Makes a value of scope `at - 1` visible in scope `at`.
    fn capture(&mut self, at: usize, name: &str, outer: Known) -> Known {
        let Some(value) = outer.value else { return outer };
        let ty = self.scopes[at - 1].graph.value_type(value).cloned().into_iter().collect();
        let scope = &mut self.scopes[at];
        let node = PipeNode {
            name: name.to_owned(),
            op: PipeOp::Argument { index: scope.arguments + scope.captures.len() },
            outputs: ty,
            span: Some(outer.span.clone()),
        };
        let known = Known { value: Some(scope.graph.add(node, &[]).into()), span: outer.span };
        scope.captures.push((name.to_owned(), value, known.clone()));
        scope.names.insert(name.to_owned(), known.clone());
        known
    }

    fn unknown(&self, r: &ValueRef) -> Diagnostic {
        let name = r.name();
        if let Some(later) = self.scopes.iter().rev().find_map(|s| s.later.get(name)) {
            let d = Diagnostic::new("graph/use-before-definition", format!("`{name}` is used before it is made"));
            return d
                .at(r.span(), "used here")
                .at(later, "made here")
                .help("values stand in the order in which they are made: move one of the two");
        }
        let d = Diagnostic::new("graph/unknown-value", format!("there is no value `{name}`")).at(r.span(), "unknown");
        if let Some((owner, op)) = self.hidden.get(name) {
            let (kind, does, names) = outcome(op);
            return d.help(format!("`{name}` lives inside the {kind} `{owner}`; what comes out of it is what it {does}: {names}"));
        }
        if let Some(op) = self.spec.pipeline.get(name).map(|op| &op.value).filter(|op| op.given().is_some()) {
            let (kind, does, names) = outcome(op);
            return d.help(format!("a {kind} is used by the names it {does}: {names}"));
        }
        if self.spec.parameters.get(name).is_some() {
            return d.help(format!("`{name}` is a parameter; parameters stand in arithmetic only, and `constant` makes a value of them"));
        }
        if self.found.0.len() > MAX_SUGGESTIONS {
            return d;
        }
        let visible: Vec<&str> = self.scopes.iter().rev().flat_map(|s| s.names.keys()).map(String::as_str).collect();
        d.help(suggest(name, visible))
    }

    /// A loop: its body is resolved in a scope of its own.
    fn looped(&mut self, name: &Spanned<String>, l: &spec::Loop) {
        let steps = self.int(&l.steps, 1);
        let inits: Vec<Option<ValueId>> = l.carry.iter().map(|(_, r)| self.value(r)).collect();
        let each: Vec<Option<ValueId>> = l.each.iter().map(|(_, r)| self.per_step(r, steps)).collect();
        let init_types: Vec<Option<ValueType>> = inits.iter().map(|v| v.map(|v| self.value_type(v).clone())).collect();
        let each_types: Vec<Option<ValueType>> = each.iter().map(|v| v.map(|v| one_step(self.value_type(v)))).collect();

        let later = l.body.iter().flat_map(|(k, op)| provided(k, &op.value)).filter(|(k, _)| l.carry.get(k).is_none()).collect();
        self.scopes.push(Scope { later, ..Scope::default() });
        for ((name, _), ty) in l.carry.iter().zip(init_types.clone()) {
            self.argument(name, ty, true);
        }
        for ((name, _), ty) in l.each.iter().zip(each_types) {
            self.argument(name, ty, false);
        }
        self.scope().carry = l.carry.keys().map(|k| (k.to_owned(), None)).collect();
        let own: Vec<&str> = l.carry.keys().collect();
        self.scopes.last_mut().expect("just pushed").cyclic(&l.body, &own, &mut self.found);
        for (name, op) in l.body.iter() {
            self.step(name, op);
        }
        let body = self.scopes.pop().expect("just pushed");

        let (results, types) = self.carried(l, &body, &init_types);
        let made = self.loop_node(name, l, body, steps, inits.into_iter().chain(each).collect(), results.zip(Some(types)));
        for (slot, (name, _)) in l.carry.iter().enumerate() {
            let known = Known { value: made.map(|node| ValueId { node, slot }), span: name.span.clone() };
            self.scope().names.entry(name.value.clone()).or_insert(known);
        }
        self.defined.entry(name.value.clone()).or_insert_with(|| name.span.clone());
    }

    /// The argument of a body for `name`; each takes an index even if its value is missing, so that the others keep theirs.
    /// A carried one is `name.before`, because `name` is what the body makes of it.
    fn argument(&mut self, name: &Spanned<String>, ty: Option<ValueType>, carried: bool) {
        let index = self.scope().arguments;
        self.scope().arguments += 1;
        let node = ty.map(|ty| self.add(name, PipeOp::Argument { index }, vec![ty], &[]));
        if let Some(node) = node.filter(|_| carried) {
            self.scope().graph.node_mut(node).name = format!("{}.before", name.value);
        }
        self.define(name, node.map(ValueId::from));
    }

    /// The array of a per-step value: a tensor whose first axis has an element for each step.
    fn per_step(&mut self, r: &ValueRef, steps: Option<i64>) -> Option<ValueId> {
        let value = self.value(r)?;
        let ty = self.value_type(value).clone();
        let wrong = match ty.axes().first() {
            None => Some("a tensor with an axis for the steps is wanted".to_owned()),
            Some(axis) => steps.filter(|s| axis.size < *s).map(|s| format!("the loop has {s} steps, {axis} has too few elements")),
        };
        let Some(message) = wrong else { return Some(value) };
        let d = Diagnostic::new("graph/each-too-short", format!("`{}` cannot feed the loop step by step: {message}", r.name()));
        let d = self.made_here(d.at(r.span(), format!("{ty}")), r);
        self.found.push(d.help("give it at least as many elements as the loop has steps"));
        None
    }

    /// What the body makes of each carried value; it must be there and of the type of its init.
    fn carried(&mut self, l: &spec::Loop, body: &Scope, inits: &[Option<ValueType>]) -> (Option<Vec<ValueId>>, Vec<ValueType>) {
        let mut results = Vec::new();
        for ((name, init), ty) in l.carry.iter().zip(inits) {
            let Some(Some(known)) = body.carry.get(&name.value) else {
                let d = Diagnostic::new("graph/carry-unassigned", format!("the body of the loop never assigns `{}` anew", name.value));
                let d = d.at(&name.span, "carried from step to step");
                self.found.push(d.help(format!("name one of the body's values `{}`", name.value)));
                results.push(None);
                continue;
            };
            let made = known.value.and_then(|v| body.graph.value_type(v));
            if let (Some(made), Some(first)) = (made, ty)
                && !made.same_shape(first)
            {
                let d = Diagnostic::new("graph/carry-type", format!("`{}` begins as {first} and the body makes it {made}", name.value));
                let d = d.at(&known.span, format!("{made}")).at(init.span(), format!("{first}"));
                self.found.push(d.help("what a loop carries keeps its type"));
            }
            results.push(known.value);
        }
        (results.into_iter().collect(), inits.iter().flatten().cloned().collect())
    }

    fn loop_node(
        &mut self,
        name: &Spanned<String>,
        l: &spec::Loop,
        body: Scope,
        steps: Option<i64>,
        given: Vec<Option<ValueId>>,
        results: Option<(Vec<ValueId>, Vec<ValueType>)>,
    ) -> Option<PipeId> {
        let mut inputs: Vec<ValueId> = given.into_iter().collect::<Option<_>>()?;
        let (results, types) = results?;
        inputs.extend(body.captures.iter().map(|(_, outer, _)| *outer));
        let captures = body.captures.iter().map(|(name, ..)| name.clone()).collect();
        let owned = |names: &Entries<ValueRef>| names.keys().map(str::to_owned).collect();
        let graph = PipeGraph { results, ..body.graph };
        let op = Loop { steps: steps?, carry: owned(&l.carry), each: owned(&l.each), captures, body: graph };
        Some(self.add(name, PipeOp::Loop(Box::new(op)), types, &inputs))
    }

    /// The value of an expression.
    fn number(&mut self, e: &Expr) -> Option<Number> {
        let params = &self.params;
        let error = match e.tree.evaluate(&|name| params.get(name).copied()) {
            Ok(number) => return Some(number),
            Err(error) => error,
        };
        let d = match &error {
            EvalError::Unknown(name) if self.known(name).is_some() => {
                let d = Diagnostic::new("graph/unknown-parameter", error.to_string());
                d.help(format!("`{name}` is a value; arithmetic is done on parameters, and `mul` and `add` on values"))
            }
            EvalError::Unknown(name) => {
                Diagnostic::new("graph/unknown-parameter", error.to_string()).help(suggest(name, self.spec.parameters.keys()))
            }
            _ => Diagnostic::new("graph/arithmetic", format!("`{e}` has no value: {error}")),
        };
        self.found.push(d.at(&e.span, "here"));
        None
    }

    pub(super) fn float(&mut self, e: &Expr) -> Option<f64> {
        self.number(e).map(Number::as_f64)
    }

    /// A whole number from `least`.
    pub(super) fn int(&mut self, e: &Expr, least: i64) -> Option<i64> {
        let number = self.number(e)?;
        let Some(int) = number.as_i64() else {
            let d = Diagnostic::new("graph/not-whole", format!("`{e}` is {number}, and a whole number is wanted"))
                .at(&e.span, format!("{number}"));
            let names = e.tree.parameters().join("`, `");
            self.found.push(if names.is_empty() { d } else { d.help(format!("set `{names}` so that it divides evenly")) });
            return None;
        };
        if int >= least {
            return Some(int);
        }
        let d = Diagnostic::new("graph/range", format!("at least {least} is wanted, not {int}"));
        self.found.push(d.at(&e.span, format!("{int}")));
        None
    }

    /// Named axes with their extents.
    pub(super) fn shape(&mut self, shape: &Entries<Expr>) -> Option<Vec<Axis>> {
        let axes: Vec<Option<Axis>> =
            shape.iter().map(|(name, e)| self.int(e, 1).map(|size| Axis { name: Some(name.value.clone()), size })).collect();
        axes.into_iter().collect()
    }

    pub(super) fn parameter(&self, name: &str) -> Option<i64> {
        self.params.get(name).and_then(|n| n.as_i64())
    }
}

fn model(name: &Spanned<String>, decl: &ModelDecl, signatures: Signatures<'_>, found: &mut Diagnostics) -> Option<Model> {
    match signatures(decl) {
        Ok(signature) => {
            let component = decl.weights.as_ref().map_or_else(|| name.value.clone(), |w| w.value.clone());
            Some(Model { decl: decl.clone(), component, signature, share: super::WHOLE, span: Some(name.span.clone()) })
        }
        Err(d) => {
            found.push(*d);
            None
        }
    }
}

/// The names that an operator gives to its scope.
fn provided(name: &Spanned<String>, op: &Op) -> Vec<(String, Span)> {
    let own = |name: &Spanned<String>| (name.value.clone(), name.span.clone());
    op.given().map_or_else(|| vec![own(name)], |names| names.into_iter().map(own).collect())
}

/// What kind of operator hides names, what it does with those that come out, and which they are.
fn outcome(op: &Op) -> (&'static str, &'static str, String) {
    let names: Vec<&str> = op.given().unwrap_or_default().into_iter().map(|n| n.value.as_str()).collect();
    let (kind, does) = if matches!(op, Op::Loop(_)) { ("loop", "carries") } else { ("branch", "gives") };
    (kind, does, names.join(", "))
}

fn hide<'s>(ops: &'s Entries<Spanned<Op>>, hidden: &mut HashMap<&'s str, (&'s str, &'s Op)>) {
    for (name, op) in ops.iter() {
        let outside: Vec<&str> = op.value.given().unwrap_or_default().into_iter().map(|n| n.value.as_str()).collect();
        for inner in inner_names(&op.value).into_iter().filter(|k| !outside.contains(k)) {
            hidden.insert(inner, (&name.value, &op.value));
        }
        for ops in op.value.inside() {
            hide(ops, hidden);
        }
    }
}

/// Can a branch be decided by it: one f32?
pub(super) fn decides(ty: &ValueType) -> bool {
    matches!(ty, ValueType::Tensor { dtype: crate::ir::DType::F32, .. }) && ty.numel() == Some(1)
}

/// What the body sees of a per-step array: one element of the first axis, the axis kept.
pub(super) fn one_step(array: &ValueType) -> ValueType {
    let mut one = array.clone();
    if let ValueType::Tensor { axes, .. } = &mut one
        && let Some(first) = axes.first_mut()
    {
        first.size = 1;
    }
    one
}

/// f32 [batch, frames, 3, height, width]?
pub(super) fn is_video(ty: &ValueType) -> bool {
    matches!(ty.dims()[..], [_, _, 3, _, _]) && ty.dtype() == crate::ir::DType::F32
}
