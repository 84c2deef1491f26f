//! Finds patterns in a graph.
//!
//! A match is searched from the operator at which the pattern ends, against the edges. All ways in which it fits are tried
//! (operands in either order, products cut into factors in every way); the number of ways is bounded. How far the best attempt
//! came is kept on request: that is what `explain` prints for a site that was not raised.

use std::cell::RefCell;
use std::collections::HashSet;

use super::pattern::{Pat, word};
use crate::interp;
use crate::ir::op::Binary;
use crate::ir::{DType, NodeId, Op, OpGraph, Outlet};
use crate::weights::WeightOp;

/// Ways to cut a product, and ways to match a pattern, that are looked at.
const MOST_WAYS: usize = 64;
/// Nested products that are cut.
const DEEPEST_PRODUCT: usize = 8;
/// Operators deep to which two tensors are compared.
const DEEPEST_TWIN: usize = 3;
/// Longer constants are not looked through for one number.
const LONGEST_UNIFORM: u64 = 1 << 13;

/// A pattern found: what its names stand for.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The tensor that the pattern ends in.
    pub(super) root: Outlet,
    tensors: Vec<(&'static str, Outlet)>,
    numbers: Vec<(&'static str, f64)>,
    /// The operators that it covers.
    pub(super) nodes: Vec<NodeId>,
}

impl Found {
    fn new(root: Outlet) -> Self {
        Self { root, tensors: Vec::new(), numbers: Vec::new(), nodes: Vec::new() }
    }

    /// The tensor of a name that this spelling may lack.
    pub(super) fn find(&self, name: &str) -> Option<Outlet> {
        self.tensors.iter().find(|(n, _)| *n == name).map(|(_, o)| *o)
    }

    /// The tensor of a name that every spelling has.
    pub(super) fn get(&self, name: &str) -> Outlet {
        self.find(name).expect("every spelling of the pattern binds the name")
    }

    /// The number of a name.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }
}

/// How far the best attempt came, and what stopped it.
#[derive(Clone, Debug, Default)]
pub(super) struct Furthest {
    /// Operators that matched; a failed condition counts as more than any.
    pub(super) reached: usize,
    /// What was missing.
    pub(super) failed: String,
}

/// Looks for patterns.
pub(super) struct Matcher<'a> {
    graph: &'a OpGraph,
    /// Operators on which no output depends; they do not count as readers.
    dead: &'a HashSet<NodeId>,
    /// The site whose failure is wanted: attempts that do not come to it do not count.
    explained: Option<(NodeId, RefCell<Furthest>)>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(graph: &'a OpGraph, dead: &'a HashSet<NodeId>) -> Self {
        Self { graph, dead, explained: None }
    }

    /// One that keeps how far attempts came that include a site.
    pub(super) fn explaining(graph: &'a OpGraph, dead: &'a HashSet<NodeId>, site: NodeId) -> Self {
        Self { explained: Some((site, RefCell::default())), ..Self::new(graph, dead) }
    }

    /// How far the attempts came.
    pub(super) fn furthest(self) -> Furthest {
        self.explained.map(|(_, f)| f.into_inner()).unwrap_or_default()
    }

    /// Every way in which the pattern ends in this tensor, best spelling first.
    pub(super) fn all(&self, pat: &Pat, root: Outlet) -> Vec<Found> {
        self.tensor(pat, root, Found::new(root))
    }

    /// Notes that a match failed on something that is not of its structure.
    pub(super) fn failed_condition(&self, found: &Found, condition: &str) {
        self.fail(found, 1000, || condition.into());
    }

    fn fail(&self, at: &Found, bonus: usize, what: impl FnOnce() -> String) {
        let Some((site, furthest)) = &self.explained else { return };
        let reached = at.nodes.len() + bonus;
        if at.nodes.contains(site) && reached > furthest.borrow().reached {
            *furthest.borrow_mut() = Furthest { reached, failed: what() };
        }
    }

    /// The first operator of the match that somebody outside of it reads, though it costs to compute it twice.
    pub(super) fn shared(&self, found: &Found) -> Option<NodeId> {
        let inside: HashSet<NodeId> = found.nodes.iter().copied().collect();
        let outside = |reader: &NodeId| !inside.contains(reader) && !self.dead.contains(reader);
        found.nodes.iter().copied().find(|id| {
            let cheap = matches!(self.graph.node(*id).op, Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Cast { .. });
            let out = Outlet { node: *id, slot: 0 };
            *id != found.root.node && !cheap && (self.graph.is_output(out) || self.graph.users(out).iter().any(|(r, _)| outside(r)))
        })
    }

    fn tensor(&self, pat: &Pat, outlet: Outlet, state: Found) -> Vec<Found> {
        // Nodes passed on the way to an operator belong to what is found; those passed on the way to a name do not.
        let mut covered = state.clone();
        let at = passed(self.graph, outlet, &mut covered.nodes);
        let found = match pat {
            Pat::Any(name) => self.bind(name, at, &state),
            Pat::Constant(name) => self.graph.as_weight(at).and_then(|_| self.bind(name, at, &state)),
            Pat::Number(n) => uniform(self.graph, at).filter(|v| near(*v, *n, self.graph.ty(at).dtype)).map(|_| state.clone()),
            Pat::Scalar(name) => uniform(self.graph, at).and_then(|v| keep(name, v, &state)),
            Pat::Op(word, args) => return self.operator(word, args, at, &covered),
            Pat::Product { number, named, factors } => return self.product(*number, *named, factors, at, &covered),
            Pat::Either(each) => return each.iter().flat_map(|p| self.tensor(p, outlet, state.clone())).take(MOST_WAYS).collect(),
            Pat::Named(name, p) => {
                let inner = self.tensor(p, outlet, state);
                return inner.into_iter().filter_map(|s| self.bind(name, at, &s)).collect();
            }
            Pat::Inverse(_) => None,
        };
        if found.is_none() {
            self.fail(&state, 0, || format!("{} is {}", pat.head(), self.describe(at)));
        }
        found.into_iter().collect()
    }

    fn describe(&self, at: Outlet) -> String {
        match &self.graph.node(at.node).op {
            Op::Weight(_) => format!("a constant {}", self.graph.ty(at)),
            Op::Input => "an input".into(),
            op => op.name().into(),
        }
    }

    /// Keeps a tensor under a name, if the name does not stand for another one.
    fn bind(&self, name: &'static str, at: Outlet, state: &Found) -> Option<Found> {
        match state.find(name) {
            Some(before) if !twins(self.graph, before, at, DEEPEST_TWIN) => None,
            Some(_) => Some(state.clone()),
            None => {
                let mut state = state.clone();
                state.tensors.push((name, at));
                Some(state)
            }
        }
    }

    fn operator(&self, wanted: &'static str, args: &[Pat], at: Outlet, state: &Found) -> Vec<Found> {
        let node = self.graph.node(at.node);
        let inputs = self.graph.inputs_of(at.node);
        if word(&node.op) != wanted || at.slot != 0 || inputs.len() != args.len() {
            self.fail(state, 0, || format!("{wanted} is {}", self.describe(at)));
            return Vec::new();
        }
        let mut state = state.clone();
        state.nodes.push(at.node);
        let pairs = |order: &[Outlet]| args.iter().cloned().zip(order.iter().copied()).collect::<Vec<_>>();
        let mut ways = self.sequence(&pairs(&inputs), state.clone());
        if wanted == "add" {
            ways.extend(self.sequence(&pairs(&[inputs[1], inputs[0]]), state));
        }
        ways.truncate(MOST_WAYS);
        ways
    }

    fn sequence(&self, pairs: &[(Pat, Outlet)], state: Found) -> Vec<Found> {
        pairs.iter().fold(vec![state], |states, (pat, outlet)| {
            states.into_iter().flat_map(|s| self.tensor(pat, *outlet, s)).take(MOST_WAYS).collect()
        })
    }

    fn product(&self, number: f64, named: Option<&'static str>, wanted: &[Pat], at: Outlet, state: &Found) -> Vec<Found> {
        let dtype = self.graph.ty(at).dtype;
        let mut ways = Vec::new();
        for cut in cuts(self.graph, at, wanted.len(), DEEPEST_PRODUCT) {
            let mut state = state.clone();
            state.nodes.extend(&cut.nodes);
            if cut.factors.len() != wanted.len() {
                self.fail(&state, 0, || format!("{} factors are {}", wanted.len(), cut.factors.len()));
                continue;
            }
            let fitting = match named {
                Some(name) => keep(name, cut.number, &state),
                None => near(cut.number, number, dtype).then(|| state.clone()),
            };
            match fitting {
                Some(state) => ways.extend(self.factors(wanted, &cut.factors, state)),
                // Report a number that does not match only where everything else does.
                None if self.explained.is_some() => {
                    for state in self.factors(wanted, &cut.factors, state) {
                        self.fail(&state, 0, || format!("the factor {number} is {}", cut.number));
                    }
                }
                None => {}
            }
        }
        if ways.is_empty() && !matches!(word(&self.graph.node(at.node).op), "mul" | "div" | "pow") {
            self.fail(state, 0, || format!("a product is {}", self.describe(at)));
        }
        ways.truncate(MOST_WAYS);
        ways
    }

    /// Matches factors in every order.
    fn factors(&self, wanted: &[Pat], given: &[Factor], state: Found) -> Vec<Found> {
        let Some((first, rest)) = wanted.split_first() else { return vec![state] };
        let mut ways = Vec::new();
        for (i, factor) in given.iter().enumerate() {
            let others: Vec<Factor> = given.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, f)| *f).collect();
            for state in self.factor(first, *factor, state.clone()) {
                ways.extend(self.factors(rest, &others, state));
            }
            ways.truncate(MOST_WAYS);
        }
        ways
    }

    fn factor(&self, pat: &Pat, factor: Factor, state: Found) -> Vec<Found> {
        match pat {
            Pat::Either(each) => each.iter().flat_map(|p| self.factor(p, factor, state.clone())).collect(),
            Pat::Inverse(p) if factor.inverse => self.tensor(p, factor.of, state),
            Pat::Inverse(_) => Vec::new(),
            _ if factor.inverse => Vec::new(),
            _ => self.tensor(pat, factor.of, state),
        }
    }
}

fn keep(name: &'static str, value: f64, state: &Found) -> Option<Found> {
    if state.number(name).is_some_and(|before| before.to_bits() != value.to_bits()) {
        return None;
    }
    let mut state = state.clone();
    state.numbers.push((name, value));
    Some(state)
}

/// Are two numbers equal but for rounding to this type?
pub(super) fn near(a: f64, b: f64, dtype: DType) -> bool {
    let tolerance = match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 1e-6,
    };
    (a - b).abs() <= tolerance * b.abs()
}

/// The one value of all elements of a literal, if it is so.
pub(super) fn uniform(graph: &OpGraph, at: Outlet) -> Option<f64> {
    let expr = graph.as_weight(at).filter(|e| e.dtype().is_float() && e.elements() <= LONGEST_UNIFORM)?;
    matches!(expr.op(), WeightOp::Literal(_)).then_some(())?;
    let values = interp::literal::<f64>(expr).ok()?;
    let first = *values.first()?;
    values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
}

/// Follows operators that change nothing to the tensor itself, noting what was passed.
pub(super) fn passed(graph: &OpGraph, outlet: Outlet, nodes: &mut Vec<NodeId>) -> Outlet {
    let mut at = outlet;
    while let Some(next) = same_as(graph, at, nodes) {
        at = next;
    }
    at
}

fn same_as(graph: &OpGraph, at: Outlet, nodes: &mut Vec<NodeId>) -> Option<Outlet> {
    let inputs = graph.inputs_of(at.node);
    let source = match (&graph.node(at.node).op, &inputs[..]) {
        (Op::Reshape { .. }, _) => return reshaped_back(graph, at, nodes),
        (Op::Cast { .. } | Op::Expand { .. }, [x]) => *x,
        (Op::Binary(Binary::Mul), [x, one] | [one, x]) if uniform(graph, *one) == Some(1.0) => *x,
        (Op::Binary(Binary::Div), [x, one]) if uniform(graph, *one) == Some(1.0) => *x,
        (Op::Binary(Binary::Add), [x, nil] | [nil, x]) if uniform(graph, *nil) == Some(0.0) => *x,
        (Op::Binary(Binary::Sub), [x, nil]) if uniform(graph, *nil) == Some(0.0) => *x,
        _ => return None,
    };
    (graph.ty(source) == graph.ty(at)).then(|| {
        nodes.push(at.node);
        source
    })
}

/// The tensor of the same shape below a chain of reshapes.
fn reshaped_back(graph: &OpGraph, at: Outlet, nodes: &mut Vec<NodeId>) -> Option<Outlet> {
    let (mut chain, mut below) = (Vec::new(), at);
    while matches!(graph.node(below.node).op, Op::Reshape { .. }) && chain.len() < DEEPEST_PRODUCT {
        chain.push(below.node);
        below = graph.inputs_of(below.node)[0];
        if graph.ty(below) == graph.ty(at) {
            nodes.extend(chain);
            return Some(below);
        }
    }
    None
}

/// Do two tensors hold the same: one tensor, or equal operators over the same tensors?
fn twins(graph: &OpGraph, a: Outlet, b: Outlet, depth: usize) -> bool {
    if a == b {
        return true;
    }
    let (left, right) = (graph.node(a.node), graph.node(b.node));
    if depth == 0 || a.slot != b.slot || matches!(left.op, Op::Input | Op::Foreign(_) | Op::ForChunks(_)) || left.op != right.op {
        return false;
    }
    let (x, y) = (graph.inputs_of(a.node), graph.inputs_of(b.node));
    x.len() == y.len() && x.iter().zip(&y).all(|(x, y)| twins(graph, *x, *y, depth - 1))
}

/// A factor of a product.
#[derive(Clone, Copy, Debug)]
struct Factor {
    of: Outlet,
    inverse: bool,
}

/// A product cut into factors.
#[derive(Clone, Debug)]
struct Cut {
    number: f64,
    factors: Vec<Factor>,
    nodes: Vec<NodeId>,
}

impl Cut {
    fn times(mut self, other: Self) -> Self {
        self.number *= other.number;
        self.factors.extend(other.factors);
        self.nodes.extend(other.nodes);
        self
    }

    fn inverted(mut self) -> Self {
        self.number = self.number.recip();
        self.factors.iter_mut().for_each(|f| f.inverse = !f.inverse);
        self
    }
}

/// The ways to read a tensor as a product of at most so many factors: finest last, the tensor itself first.
fn cuts(graph: &OpGraph, at: Outlet, most: usize, depth: usize) -> Vec<Cut> {
    let mut nodes = Vec::new();
    let at = passed(graph, at, &mut nodes);
    if let Some(number) = uniform(graph, at) {
        return vec![Cut { number, factors: Vec::new(), nodes }];
    }
    let whole = Cut { number: 1.0, factors: vec![Factor { of: at, inverse: false }], nodes: nodes.clone() };
    let mut ways = vec![whole];
    if depth == 0 {
        return ways;
    }
    nodes.push(at.node);
    let below = |x: Outlet| cuts(graph, x, most, depth - 1);
    let inputs = graph.inputs_of(at.node);
    let pairs: Vec<Cut> = match (word(&graph.node(at.node).op), &inputs[..]) {
        ("mul", [a, b]) => joined(&below(*a), &below(*b)),
        ("div", [a, b]) => joined(&below(*a), &below(*b).into_iter().map(Cut::inverted).collect::<Vec<_>>()),
        ("reciprocal", [a]) => below(*a).into_iter().map(Cut::inverted).collect(),
        ("pow", [a, n]) => {
            let whole = [2, 3].into_iter().find(|power| uniform(graph, *n) == Some(f64::from(*power)));
            whole.map(|n| power(*a, n as usize)).into_iter().collect()
        }
        _ => Vec::new(),
    };
    let fits = |c: &Cut| c.factors.len() <= most;
    ways.extend(pairs.into_iter().filter(fits).map(|c| Cut { nodes: nodes.iter().chain(&c.nodes).copied().collect(), ..c }));
    ways.truncate(MOST_WAYS);
    ways
}

fn power(of: Outlet, n: usize) -> Cut {
    Cut { number: 1.0, factors: vec![Factor { of, inverse: false }; n], nodes: Vec::new() }
}

fn joined(a: &[Cut], b: &[Cut]) -> Vec<Cut> {
    a.iter().flat_map(|x| b.iter().map(|y| x.clone().times(y.clone()))).take(MOST_WAYS * MOST_WAYS).collect()
}
