//! The text of a graph with each broken invariant beneath the line that it belongs to.
//!
//! ```text
//! model m(x: f32[4]) -> y: f32[4] = %1
//!   %0 = Exp(%x) : f32[5]    # e
//!   ^ is typed (f32[5]), but its inputs give (f32[4])
//!   %1 = …
//! ```
//! What concerns inputs, outputs or the graph stands beneath the head of the graph or body. A constant has no line: what is wrong
//! with one stands beneath the first line that reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::graph::{NodeId, OpGraph};
use super::invariant::Broken;
use super::op::Op;
use super::place::{BodyId, Location, Part};
use super::text::{self, Line};

/// An excerpt shows at most this many broken invariants.
pub const MOST_BROKEN: usize = 8;
/// Lines of context before and after each line with a broken invariant.
const CONTEXT: usize = 2;
/// An excerpt cuts lines to this many characters.
const LONGEST_LINE: usize = 200;

/// The whole text, every broken invariant beneath its line.
pub fn whole(graph: &OpGraph, broken: &[Broken]) -> String {
    let listing = Listing::of(graph, broken);
    let mut out = String::new();
    (0..listing.lines.len()).for_each(|at| listing.line(&mut out, at, usize::MAX));
    out
}

/// The lines around the first [`MOST_BROKEN`] of them, the heads and nodes of the bodies around those, and how many more there are.
pub fn excerpt(graph: &OpGraph, broken: &[Broken]) -> String {
    let (shown, rest) = broken.split_at(broken.len().min(MOST_BROKEN));
    let listing = Listing::of(graph, shown);
    let mut out = String::new();
    let mut next = 0;
    for at in listing.chosen() {
        if at > next {
            out.push_str("…\n");
        }
        listing.line(&mut out, at, LONGEST_LINE);
        next = at + 1;
    }
    if next < listing.lines.len() {
        out.push_str("…\n");
    }
    if !rest.is_empty() {
        let _ = writeln!(out, "and {} more", rest.len());
    }
    out.truncate(out.trim_end().len());
    out
}

/// Lines and what stands beneath each.
struct Listing {
    lines: Vec<Line>,
    beneath: BTreeMap<usize, Vec<String>>,
}

impl Listing {
    fn of(graph: &OpGraph, broken: &[Broken]) -> Self {
        let mut listing = Self { lines: text::lines(graph), beneath: BTreeMap::new() };
        for b in broken {
            let at = listing.find(graph, &b.at);
            listing.beneath.entry(at).or_default().push(b.invariant.to_string());
        }
        listing
    }

    /// The line of a place.
    fn find(&self, graph: &OpGraph, place: &Location) -> usize {
        let node = match place.part {
            Part::Node(id) => inside(graph, &place.bodies).and_then(|g| shown_at(g, id)),
            Part::Graph | Part::Input(_) | Part::Output(_) => None,
        };
        self.position(&place.bodies, node).unwrap_or(0)
    }

    fn position(&self, bodies: &[BodyId], node: Option<NodeId>) -> Option<usize> {
        self.lines.iter().position(|l| l.bodies == bodies && l.node == node)
    }

    /// The lines that an excerpt shows.
    fn chosen(&self) -> BTreeSet<usize> {
        let mut chosen = BTreeSet::new();
        for at in self.beneath.keys() {
            chosen.extend(at.saturating_sub(CONTEXT)..self.lines.len().min(at + CONTEXT + 1));
            let bodies = &self.lines[*at].bodies;
            for (depth, body) in bodies.iter().enumerate() {
                chosen.extend(self.position(&bodies[..depth], Some(body.node)));
                chosen.extend(self.position(&bodies[..=depth], None));
            }
        }
        chosen
    }

    /// Writes a line and what stands beneath it.
    fn line(&self, out: &mut String, at: usize, longest: usize) {
        let line = &self.lines[at].text;
        let _ = writeln!(out, "{}", clipped(line, longest));
        let indent = line.len() - line.trim_start().len();
        for sentence in self.beneath.get(&at).into_iter().flatten() {
            let _ = writeln!(out, "{:indent$}^ {}", "", clipped(sentence, longest.saturating_mul(2)));
        }
    }
}

fn clipped(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The body at the end of a path.
fn inside<'g>(graph: &'g OpGraph, bodies: &[BodyId]) -> Option<&'g OpGraph> {
    bodies.iter().try_fold(graph, |g, id| g.contains(id.node).then(|| g.node(id.node).op.bodies())?.get(id.index).map(|(_, body)| *body))
}

/// The node in whose line a node is seen; `None` for the head of the graph.
fn shown_at(graph: &OpGraph, id: NodeId) -> Option<NodeId> {
    match graph.node(id).op {
        Op::Input => None,
        Op::Weight(_) => graph.nodes().into_iter().find(|reader| graph.inputs_of(*reader).iter().any(|o| o.node == id)),
        _ => Some(id),
    }
}
