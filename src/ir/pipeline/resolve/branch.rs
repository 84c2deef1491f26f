//! Branches: each arm is resolved in a scope of its own, then both see the outside through the inputs of one node.

use super::super::Branch;
use super::{
    Diagnostic, Entries, Op, PipeGraph, PipeId, PipeOp, Resolver, Scope, Spanned, ValueId, ValueRef, ValueType, decides, provided, spec,
};

/// An arm after its operators.
struct Arm {
    scope: Scope,
    /// Its value of each name that the branch gives; `None` if its making failed and was reported.
    results: Vec<Option<ValueId>>,
}

impl Arm {
    fn result_type(&self, at: usize) -> Option<&ValueType> {
        self.results[at].and_then(|v| self.scope.graph.value_type(v))
    }
}

impl Resolver<'_> {
    /// A branch. The arms are looked at even if what decides is wrong, so that their mistakes are said as well.
    pub(super) fn branch(&mut self, name: &Spanned<String>, b: &spec::If) {
        let (condition, below) = (self.condition(&b.value), self.float(&b.below));
        let then = self.arm(&b.then, b.gives.iter().map(|(_, g)| &g.then));
        let otherwise = self.arm(&b.r#else, b.gives.iter().map(|(_, g)| &g.r#else));
        if b.gives.is_empty() {
            let d =
                Diagnostic::new("graph/gives-nothing", format!("the branch `{}` gives no value, so nothing would come of it", name.value));
            self.found.push(d.at(&name.span, "this branch").help("add `gives: { NAME: { then: …, else: … } }`"));
        }
        let types = self.given_types(b, &then, &otherwise);
        let made = condition
            .zip(below)
            .zip(types)
            .and_then(|((condition, below), types)| self.branch_node(name, b, condition, below, [then, otherwise], types));
        for (slot, (given, _)) in b.gives.iter().enumerate() {
            self.define(given, made.map(|node| ValueId { node, slot }));
        }
        self.defined.entry(name.value.clone()).or_insert_with(|| name.span.clone());
    }

    /// What decides: a value with one element.
    fn condition(&mut self, r: &ValueRef) -> Option<ValueId> {
        let value = self.value(r)?;
        let ty = self.value_type(value).clone();
        if decides(&ty) {
            return Some(value);
        }
        let d = Diagnostic::new(
            "graph/condition",
            format!("`{}` cannot decide a branch: one number is wanted, f32 with one element", r.name()),
        );
        let d = self.made_here(d.at(r.span(), format!("{ty}")), r);
        self.found.push(d.help("`relative_change` makes one number of two tensors; `slice` takes one element out of an axis"));
        None
    }

    fn arm<'r>(&mut self, ops: &Entries<Spanned<Op>>, gives: impl Iterator<Item = &'r ValueRef>) -> Arm {
        let later = ops.iter().flat_map(|(k, op)| provided(k, &op.value)).collect();
        // Input 0 of the node is what decides; captures come after it.
        self.scopes.push(Scope { later, arguments: 1, ..Scope::default() });
        self.scopes.last_mut().expect("just pushed").cyclic(ops, &[], &mut self.found);
        for (name, op) in ops.iter() {
            self.step(name, op);
        }
        let results = gives.map(|r| self.value(r)).collect();
        Arm { scope: self.scopes.pop().expect("just pushed"), results }
    }

    /// The type of each value that the branch gives; both arms must agree on it.
    fn given_types(&mut self, b: &spec::If, then: &Arm, otherwise: &Arm) -> Option<Vec<ValueType>> {
        let mut types = Vec::new();
        for (i, (name, given)) in b.gives.iter().enumerate() {
            let (Some(first), Some(second)) = (then.result_type(i), otherwise.result_type(i)) else {
                types.push(None);
                continue;
            };
            if !first.same_shape(second) {
                let message = format!("`{}` is {first} where `then` runs and {second} where `else` does", name.value);
                let d = Diagnostic::new("graph/arms-differ", message);
                let d = d.at(given.then.span(), format!("{first}")).at(given.r#else.span(), format!("{second}"));
                self.found.push(d.help("what follows needs one type whichever arm ran: give values of one type and shape"));
            }
            types.push(Some(common(first, second)));
        }
        types.into_iter().collect()
    }

    fn branch_node(
        &mut self,
        name: &Spanned<String>,
        b: &spec::If,
        condition: ValueId,
        below: f64,
        arms: [Arm; 2],
        types: Vec<ValueType>,
    ) -> Option<PipeId> {
        let mut inputs = vec![condition];
        let [then, otherwise] = arms.map(|arm| finished(arm, &mut inputs));
        let op = Branch { below, gives: b.gives.keys().map(str::to_owned).collect(), then: then?, otherwise: otherwise? };
        Some(self.add(name, PipeOp::Branch(Box::new(op)), types, &inputs))
    }
}

/// The graph of an arm, its arguments numbered as inputs of the node: what both arms read is one input.
fn finished(arm: Arm, inputs: &mut Vec<ValueId>) -> Option<PipeGraph> {
    let Scope { mut graph, captures, .. } = arm.scope;
    for (_, outer, known) in captures {
        let index = inputs.iter().position(|v| *v == outer).unwrap_or_else(|| {
            inputs.push(outer);
            inputs.len() - 1
        });
        if let Some(argument) = known.value {
            graph.node_mut(argument.node).op = PipeOp::Argument { index };
        }
    }
    graph.results = arm.results.into_iter().collect::<Option<_>>()?;
    Some(graph)
}

/// The type of both, with the names of axes on which they agree: whatever ran, a name must be right.
fn common(a: &ValueType, b: &ValueType) -> ValueType {
    let mut common = a.clone();
    if let ValueType::Tensor { axes, .. } = &mut common {
        for (axis, other) in axes.iter_mut().zip(b.axes()) {
            if axis.name != other.name {
                // An axis without a name on one side takes the other's, as everywhere.
                axis.name = match (axis.name.take(), &other.name) {
                    (Some(_), Some(_)) => None,
                    (one, two) => one.or_else(|| two.clone()),
                };
            }
        }
    }
    common
}
