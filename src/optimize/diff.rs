//! What differs between two models: interface, operators, figures, and where they part.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::inspect::{ModelFigures, Operators, Value, figures, type_of};
use super::model::live;
use crate::diag::Result;
use crate::ir::{NodeId, Op, OpGraph, Outlet};

/// Nodes that are shown from where two models part.
const SHOWN: usize = 5;

/// Two models side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Inputs and outputs that one of them lacks, or has with another type.
    pub interface: Vec<Changed>,
    /// Operators whose number differs, the largest difference first.
    pub operators: Vec<Counts>,
    /// The first.
    pub a: ModelFigures,
    /// The second.
    pub b: ModelFigures,
    /// Where they part; none if every operator is the same one and reads the same.
    pub parting: Option<Parting>,
}

/// An input or output that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// `input` or `output`.
    pub side: &'static str,
    /// Its name.
    pub name: String,
    /// Its type in the first.
    pub a: Option<String>,
    /// Its type in the second.
    pub b: Option<String>,
}

/// How many of a type there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The type.
    pub name: String,
    /// In the first.
    pub a: usize,
    /// In the second.
    pub b: usize,
}

/// The first operators that differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parting {
    /// Operators before.
    pub same: usize,
    /// What follows in the first.
    pub a: Vec<OperatorStep>,
    /// What follows in the second.
    pub b: Vec<OperatorStep>,
}

/// An operator and what it makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorStep {
    /// Its type.
    pub operator: String,
    /// The types of its outputs.
    pub types: Vec<String>,
    /// Its name.
    pub name: String,
}

impl Difference {
    /// Is nothing different that is compared?
    pub fn is_empty(&self) -> bool {
        let figures = |f: &ModelFigures| (f.parameters, f.weight_bytes, f.flop, f.peak.as_ref().map(|p| p.live_bytes));
        self.interface.is_empty() && self.operators.is_empty() && self.parting.is_none() && figures(&self.a) == figures(&self.b)
    }
}

/// Compares two models. Names of operators and values of weights are not compared.
///
/// # Errors
/// As [`figures`].
pub fn diff(a: &OpGraph, b: &OpGraph) -> Result<Difference> {
    let (of_a, of_b) = (figures(a)?, figures(b)?);
    let mut interface = changed("input", &of_a.inputs, &of_b.inputs);
    interface.extend(changed("output", &of_a.outputs, &of_b.outputs));
    Ok(Difference { interface, operators: counts(&of_a.operators, &of_b.operators), parting: parting(a, b), a: of_a, b: of_b })
}

fn changed(side: &'static str, a: &[Value], b: &[Value]) -> Vec<Changed> {
    let mut rows: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
    for v in a {
        rows.entry(&v.name).or_default().0 = Some(&v.ty);
    }
    for v in b {
        rows.entry(&v.name).or_default().1 = Some(&v.ty);
    }
    let differs = rows.into_iter().filter(|(_, (a, b))| a != b);
    differs.map(|(name, (a, b))| Changed { side, name: name.into(), a: a.map(Into::into), b: b.map(Into::into) }).collect()
}

fn counts(a: &[Operators], b: &[Operators]) -> Vec<Counts> {
    let mut rows: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for o in a {
        rows.entry(&o.name).or_default().0 = o.count;
    }
    for o in b {
        rows.entry(&o.name).or_default().1 = o.count;
    }
    let differs = rows.into_iter().filter(|(_, (a, b))| a != b);
    let mut out: Vec<Counts> = differs.map(|(name, (a, b))| Counts { name: name.into(), a, b }).collect();
    out.sort_by_key(|c| std::cmp::Reverse(c.a.abs_diff(c.b)));
    out
}

fn parting(a: &OpGraph, b: &OpGraph) -> Option<Parting> {
    let (in_a, in_b) = (live(a), live(b));
    let (places_a, places_b) = (places(&in_a), places(&in_b));
    let alike = |x: &NodeId, y: &NodeId| {
        let (of_x, of_y) = (a.node(*x), b.node(*y));
        of_x.outs == of_y.outs && of_x.op == of_y.op && sources(a, &places_a, *x) == sources(b, &places_b, *y)
    };
    let same = in_a.iter().zip(&in_b).take_while(|(x, y)| alike(x, y)).count();
    let steps = |g: &OpGraph, ids: &[NodeId]| ids.iter().skip(same).take(SHOWN).map(|id| step(g, *id)).collect::<Vec<_>>();
    (same < in_a.len() || same < in_b.len()).then(|| Parting { same, a: steps(a, &in_a), b: steps(b, &in_b) })
}

fn places(ids: &[NodeId]) -> HashMap<NodeId, usize> {
    ids.iter().enumerate().map(|(i, id)| (*id, i)).collect()
}

/// What an operator reads, in words that mean the same in another graph.
fn sources(graph: &OpGraph, places: &HashMap<NodeId, usize>, id: NodeId) -> Vec<String> {
    let source = |o: Outlet| match places.get(&o.node) {
        Some(place) => format!("%{place}.{}", o.slot),
        None if graph.node(o.node).op == Op::Input => graph.node(o.node).name.clone(),
        None => graph.ty(o).to_string(),
    };
    graph.inputs_of(id).into_iter().map(source).collect()
}

fn step(graph: &OpGraph, id: NodeId) -> OperatorStep {
    let node = graph.node(id);
    OperatorStep { operator: type_of(&node.op), types: node.outs.iter().map(ToString::to_string).collect(), name: node.name.clone() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::ir::op::Unary;
    use crate::ir::{DType, TensorType};

    /// x → each of the functions in turn.
    fn chain(rows: i64, ops: &[Unary]) -> OpGraph {
        let mut g = OpGraph::new("g");
        let mut x = g.input("x", TensorType::new(DType::F32, [rows, 4]));
        for op in ops {
            x = g.add(Op::Unary(*op), &[x], "n", &"".into()).unwrap();
        }
        g.output("y", x);
        g
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let g = chain(2, &[Unary::Exp, Unary::Tanh]);
        assert!(diff(&g, &g).unwrap().is_empty());
    }

    #[test]
    fn models_part_at_the_first_other_operator() {
        let d = diff(&chain(2, &[Unary::Exp, Unary::Tanh]), &chain(2, &[Unary::Exp, Unary::Sqrt, Unary::Sqrt])).unwrap();
        let names: Vec<(&str, usize, usize)> = d.operators.iter().map(|c| (c.name.as_str(), c.a, c.b)).collect();
        assert_eq!(names, [("Sqrt", 0, 2), ("Tanh", 1, 0)]);
        let parting = d.parting.unwrap();
        assert_eq!((parting.same, parting.a.len(), parting.b.len()), (1, 1, 2));
        assert_eq!(parting.a[0].operator, "Tanh");
        assert_eq!(d.interface, []);
    }

    #[test]
    fn another_extent_is_another_interface() {
        let d = diff(&chain(2, &[Unary::Exp]), &chain(3, &[Unary::Exp])).unwrap();
        let rows: Vec<(&str, &str)> = d.interface.iter().map(|c| (c.side, c.name.as_str())).collect();
        assert_eq!(rows, [("input", "x"), ("output", "y")]);
        assert!(d.operators.is_empty() && d.parting.is_some());
    }
}
