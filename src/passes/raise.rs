//! `raise`: recognises what plain operators spell and puts the operator that means it in their place.
//!
//! Exporters write attention, norms and activations as dozens of small operators, each its own way. A pattern is a row of
//! [`table`]: a name, the operators that hint at it (its *anchors*), its spellings in the language of [`pattern`], conditions with
//! names, and what to build. One [`matcher`] finds them all; rearrangements around attention are followed by [`view`].
//!
//! Legal because a pattern computes the same function as what takes its place; constants in it are compared within the rounding
//! of their type (1e-6 in f32), and the raised operator has the exact ones. So in f64 a site written with f32 constants moves by
//! the rounding of these constants (1e-8), not of the operators. An operator inside of a pattern that is read elsewhere as well
//! would be computed twice: then the site is left alone, unless that operator only moves elements. What is no longer read is
//! removed. Patterns are tried until none is found any more, so that one may build on another (attention on rotary embeddings,
//! GEGLU on GELU). It pays by itself (fewer operators) and because later passes see intent. No knob.
//!
//! A site with an anchor that no pattern took is declined, with the pattern that came furthest and what it lacked.

mod attention;
mod build;
mod matcher;
mod pattern;
mod table;
mod view;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::collections::{HashMap, HashSet};

use matcher::{Found, Furthest, Matcher};
use pattern::{Pat, word};

use super::{Edit, Effect, Pass, PassCx, PassInfo, Rewriter, Why};
use crate::diag::Result;
use crate::ir::op::{Binary, Unary};
use crate::ir::{NodeId, Op, OpGraph, Outlet};

pub(super) struct Raise;

/// Rounds over the graph; patterns build on each other three deep.
const MOST_ROUNDS: usize = 8;
/// How far from its anchor a pattern ends at most, in operators.
const FARTHEST_END: usize = 24;

static INFO: PassInfo = PassInfo {
    id: "raise",
    summary: "recognise what plain operators spell",
    effect: Effect::Exact,
    asks: None,
    requires: &[],
    establishes: &[],
    example: "
before:
model m(x: f32[2, 3, 8]) -> y: f32[2, 3, 5] = %3
  %0 = MatMul(%x, {param m/w: f32[8, 5]}) : f32[2, 3, 5]
  %1 = Add({param m/b: f32[5]}, %0) : f32[2, 3, 5]
  %2 = Sigmoid(%1) : f32[2, 3, 5]
  %3 = Mul(%1, %2) : f32[2, 3, 5]
after:
model m(x: f32[2, 3, 8]) -> y: f32[2, 3, 5] = %1
  %0 = Linear(%x, {transpose[1, 0](param m/w: f32[8, 5])}, {param m/b: f32[5]}) : f32[2, 3, 5]
  %1 = Silu(%0) : f32[2, 3, 5]
",
};

/// What must hold of a site, and its name.
type Condition = (&'static str, fn(&Site<'_>) -> bool);

/// One pattern.
pub(super) struct Pattern {
    /// Its name, and that of the rule in remarks.
    name: &'static str,
    /// Operators that hint at it.
    anchors: &'static [&'static str],
    /// Its texts; a later one is a part of an earlier one.
    spellings: &'static [&'static str],
    /// What must hold besides, by name.
    conditions: &'static [Condition],
    /// The tensor that is replaced.
    replaced: fn(&Site<'_>) -> Outlet,
    /// What replaces it.
    build: fn(&SiteInEdit<'_>, &mut Edit<'_>) -> Result<Outlet>,
}

impl Pattern {
    fn root(site: &Site<'_>) -> Outlet {
        site.found.root
    }
}

/// A pattern found in a graph.
struct Site<'a> {
    graph: &'a OpGraph,
    /// Operators on which no output depends.
    dead: &'a HashSet<NodeId>,
    found: &'a Found,
}

/// A pattern found in the graph that an edit is changing.
struct SiteInEdit<'a> {
    dead: &'a HashSet<NodeId>,
    found: &'a Found,
}

impl SiteInEdit<'_> {
    /// The site as the edit sees it.
    fn site<'b>(&'b self, e: &'b Edit<'_>) -> Site<'b> {
        Site { graph: e.graph(), dead: self.dead, found: self.found }
    }
}

impl Pass for Raise {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        let rows: Vec<(Pattern, Vec<Pat>)> = table::rows().into_iter().map(read).collect();
        let mut gone = dead(rw.graph());
        for _ in 0..MOST_ROUNDS {
            if !round(rw, &rows, &mut gone)? {
                break;
            }
        }
        explain(rw, &rows, &gone);
        Ok(())
    }
}

fn read(row: Pattern) -> (Pattern, Vec<Pat>) {
    let spellings = row.spellings.iter().map(|text| Pat::parse(text).expect("a test reads every row")).collect();
    (row, spellings)
}

/// Operators on which no output depends.
fn dead(graph: &OpGraph) -> HashSet<NodeId> {
    let mut stack: Vec<NodeId> = graph.outputs().iter().map(|(_, o)| o.node).collect();
    let mut live = HashSet::new();
    while let Some(id) = stack.pop() {
        if live.insert(id) {
            stack.extend(graph.inputs_of(id).iter().map(|o| o.node));
        }
    }
    graph.nodes().into_iter().filter(|id| !live.contains(id)).collect()
}

/// Raises what patterns find among the operators that are there now; was there something?
fn round(rw: &mut Rewriter<'_>, rows: &[(Pattern, Vec<Pat>)], gone: &mut HashSet<NodeId>) -> Result<bool> {
    let mut ends: HashMap<&'static str, Vec<NodeId>> = HashMap::new();
    for id in rw.graph().nodes() {
        ends.entry(word(&rw.graph().node(id).op)).or_default().push(id);
    }
    let mut changed = false;
    for (row, spellings) in rows {
        for spelling in spellings {
            let of_root = spelling.roots().into_iter().collect::<std::collections::BTreeSet<_>>();
            for id in of_root.into_iter().filter_map(|root| ends.get(root)).flatten() {
                changed |= visit(rw, row, spelling, *id, gone)?;
            }
        }
    }
    Ok(changed)
}

/// Raises what ends at an operator, if the pattern does.
fn visit(rw: &mut Rewriter<'_>, row: &Pattern, spelling: &Pat, end: NodeId, gone: &mut HashSet<NodeId>) -> Result<bool> {
    if gone.contains(&end) || !rw.graph().contains(end) {
        return Ok(false);
    }
    let matcher = Matcher::new(rw.graph(), gone);
    let Some(found) = first_fitting(rw.graph(), gone, &matcher, row, spelling, end) else { return Ok(false) };
    let old = (row.replaced)(&Site { graph: rw.graph(), dead: gone, found: &found });
    let why = Why::new(row.name).with("operators", found.nodes.len() as i64);
    rw.apply(old.node, None, why, |e| {
        let new = (row.build)(&SiteInEdit { dead: gone, found: &found }, e)?;
        e.replace(old, new)?;
        remove_unread(e, old.node, gone)
    })?;
    Ok(true)
}

/// The first way in which a spelling ends at an operator and its conditions hold.
fn first_fitting(
    graph: &OpGraph,
    dead: &HashSet<NodeId>,
    matcher: &Matcher<'_>,
    row: &Pattern,
    spelling: &Pat,
    end: NodeId,
) -> Option<Found> {
    let ways = matcher.all(spelling, Outlet { node: end, slot: 0 });
    ways.into_iter().find(|found| match failed(graph, dead, matcher, row, found) {
        Some(condition) => {
            matcher.failed_condition(found, &condition);
            false
        }
        None => true,
    })
}

/// The condition that does not hold.
fn failed(graph: &OpGraph, dead: &HashSet<NodeId>, matcher: &Matcher<'_>, row: &Pattern, found: &Found) -> Option<String> {
    let site = Site { graph, dead, found };
    if let Some((name, _)) = row.conditions.iter().find(|(_, holds)| !holds(&site)) {
        return Some((*name).into());
    }
    matcher.shared(found).map(|id| format!("{} is read elsewhere", graph.node(id).op.name()))
}

/// Removes an operator that nobody needs any more, and what only it needed. What dead operators still read stays for
/// `eliminate`, as dead as they.
fn remove_unread(e: &mut Edit<'_>, first: NodeId, gone: &mut HashSet<NodeId>) -> Result<()> {
    let (mut stack, mut removed) = (vec![first], HashSet::new());
    while let Some(id) = stack.pop() {
        let graph = e.graph();
        let outlets = || (0..graph.node(id).outs.len() as u16).map(|slot| Outlet { node: id, slot });
        let readers: Vec<NodeId> = outlets().flat_map(|o| graph.users(o)).map(|(reader, _)| reader).collect();
        let needed = outlets().any(|o| graph.is_output(o)) || readers.iter().any(|r| !removed.contains(r) && !gone.contains(r));
        if needed || graph.node(id).op == Op::Input || removed.contains(&id) || gone.contains(&id) {
            continue;
        }
        stack.extend(graph.inputs_of(id).iter().map(|o| o.node));
        if readers.iter().all(|r| removed.contains(r)) {
            e.remove(id)?;
            removed.insert(id);
        } else {
            gone.insert(id);
        }
    }
    Ok(())
}

/// For each operator that hints at a pattern and became part of none: declines with the pattern of which most
/// matched, and the first thing that did not match.
fn explain(rw: &mut Rewriter<'_>, rows: &[(Pattern, Vec<Pat>)], gone: &HashSet<NodeId>) {
    for id in rw.graph().nodes() {
        let Some(anchor) = anchor(rw.graph(), id).filter(|_| !gone.contains(&id)) else { continue };
        let graph = rw.graph();
        let hinted: Vec<&(Pattern, Vec<Pat>)> = rows.iter().filter(|(row, _)| row.anchors.contains(&anchor)).collect();
        let furthest = hinted.iter().map(|(row, spellings)| (row.name, attempt(graph, gone, row, spellings, id)));
        let Some((name, furthest)) = furthest.reduce(|best, next| if next.1.reached > best.1.reached { next } else { best }) else {
            continue;
        };
        let what = if furthest.failed.is_empty() { "nothing that reads it continues the pattern" } else { &furthest.failed };
        let why = Why::new(name).with("failed", what);
        rw.decline(id, None, why);
    }
}

/// The word of an operator that hints at a pattern.
fn anchor(graph: &OpGraph, id: NodeId) -> Option<&'static str> {
    let inputs = graph.inputs_of(id);
    let hints = match &graph.node(id).op {
        Op::Softmax { .. } | Op::InstanceNorm { .. } | Op::Unary(Unary::Erf) => true,
        Op::Unary(Unary::Tanh) => scaled(graph, *inputs.first()?),
        Op::ReduceMean { .. } => build::squares(graph, *inputs.first()?),
        _ => false,
    };
    hints.then(|| word(&graph.node(id).op))
}

/// Is a tensor something times a number?
fn scaled(graph: &OpGraph, at: Outlet) -> bool {
    let by_number = graph.inputs_of(at.node).iter().any(|x| matcher::uniform(graph, *x).is_some());
    matches!(graph.node(at.node).op, Op::Binary(Binary::Mul | Binary::Div)) && by_number
}

/// How far a pattern comes at the operators that an anchor leads to.
fn attempt(graph: &OpGraph, gone: &HashSet<NodeId>, row: &Pattern, spellings: &[Pat], id: NodeId) -> Furthest {
    let matcher = Matcher::explaining(graph, gone, id);
    for end in ahead(graph, id) {
        for spelling in spellings.iter().filter(|s| s.roots().contains(&word(&graph.node(end).op))) {
            first_fitting(graph, gone, &matcher, row, spelling, end);
        }
    }
    matcher.furthest()
}

/// Operators that depend on this one, nearest first.
fn ahead(graph: &OpGraph, id: NodeId) -> Vec<NodeId> {
    let (mut out, mut next) = (vec![id], 0);
    while next < out.len() && out.len() < FARTHEST_END {
        for (reader, _) in graph.users(Outlet { node: out[next], slot: 0 }) {
            if !out.contains(&reader) {
                out.push(reader);
            }
        }
        next += 1;
    }
    out
}
