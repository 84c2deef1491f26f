//! The order of a graph's nodes in which the most memory at one time is least.
//!
//! Which topological order needs least is NP-hard to say of graphs in general. Those of networks fall apart: where one operator comes
//! after all that stand before it and before all that follow, no order can mix the two sides, and each stretch between two such
//! operators is decided alone. Within a stretch the search is exact, by dynamic programming over the sets of operators that have run
//! (Ahn et al., "Ordering Chaos", `MLSys` 2020): what is alive is a function of the set alone.
//!
//! Operators whose tensors are all below 1/256 of the widest moment are left out of this, and stand before their first reader that is
//! not: a projection of the time embedding can run anywhere, and would tie all blocks together. Those without such a reader take part.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use fixedbitset::FixedBitSet;

use super::graph::{NodeId, OpGraph, Outlet};
use super::schedule::{runs_in_place, schedule};
use crate::diag::Result;
use crate::units::Bytes;

/// More operators than this in one stretch are left as they stand.
const MOST_IN_STRETCH: usize = 64;
/// As is a stretch with more sets than this: a second of search.
const MOST_SETS: usize = 50_000;
/// Tensors below the widest moment by this factor are left out of account.
const LIGHT: u64 = 256;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeastPeak {
    /// The stretches that gain, in their order.
    pub changed: Vec<Stretch>,
    /// Does no order of any stretch need less, as far as the operators go that count?
    pub exact: bool,
}

/// Operators that run one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The operators in their new order; together they have the places that they had.
    pub order: Vec<NodeId>,
    /// The most that is alive at one of them as they stood.
    pub before: Bytes,
    /// The same in the new order.
    pub now: Bytes,
}

/// The order of a bound graph in which the widest moment of every stretch is narrowest. Stretches that gain nothing stay as they are.
///
/// # Errors
/// `model/unbound` if a symbol is left.
pub fn least_peak(graph: &OpGraph) -> Result<LeastPeak> {
    let plain = schedule(graph)?;
    let least = plain.live().into_iter().max().unwrap_or(0) / LIGHT;
    let units = Units::of(graph, &plain.steps, &buffers(graph, &plain.steps), least);
    let mut out = LeastPeak { changed: Vec::new(), exact: true };
    for stretch in units.stretches() {
        let found = if stretch.len() > MOST_IN_STRETCH { None } else { Search::of(&units, &stretch).narrowest() };
        out.exact &= found.is_some();
        if let Some(Some((order, before, now))) = found {
            let order = order.into_iter().flat_map(|u| &units.members[u]).copied().collect();
            out.changed.push(Stretch { order, before: Bytes(before), now: Bytes(now) });
        }
    }
    Ok(out)
}

/// A buffer that the caller does not bind, and the operators that touch it, first the one that makes it.
struct Buffer {
    bytes: u64,
    touched: Vec<NodeId>,
}

/// The buffers if nothing is computed in place; a view has that of what it looks at.
fn buffers(graph: &OpGraph, steps: &[NodeId]) -> Vec<Buffer> {
    let (mut out, mut of): (Vec<Buffer>, HashMap<Outlet, usize>) = (Vec::new(), HashMap::new());
    for id in steps {
        let inputs = graph.inputs_of(*id);
        for buffer in inputs.iter().filter_map(|i| of.get(i)) {
            out[*buffer].touched.push(*id);
        }
        let viewed = inputs.first().filter(|_| graph.node(*id).op.is_view()).and_then(|i| of.get(i).copied());
        let outlets = (0..graph.node(*id).outs.len() as u16).map(|slot| Outlet { node: *id, slot });
        for outlet in outlets.filter(|o| !graph.is_output(*o)) {
            of.insert(outlet, viewed.unwrap_or(out.len()));
            if viewed.is_none() {
                out.push(Buffer { bytes: graph.ty(outlet).bytes().unwrap_or(0), touched: vec![*id] });
            }
        }
    }
    out
}

/// Operators that take part, each with the light ones that go with it.
struct Units {
    /// The operators of each unit, the one that decides last.
    members: Vec<Vec<NodeId>>,
    /// The units that each unit needs, directly or not.
    before: Vec<FixedBitSet>,
    /// The buffers that matter.
    buffers: Vec<Held>,
    /// May that one write into an input that nobody reads later?
    in_place: Vec<bool>,
}

/// May an operator write into one of its inputs, as far as it goes by itself?
fn may_take_over(graph: &OpGraph, id: NodeId) -> bool {
    let inputs = graph.inputs_of(id);
    runs_in_place(&graph.node(id).op) && inputs.iter().collect::<BTreeSet<_>>().len() == inputs.len()
}

/// A buffer, by units.
#[derive(Clone)]
struct Held {
    bytes: u64,
    maker: usize,
    touched: BTreeSet<usize>,
}

/// The unit of each operator: heads by their place, and each other one with the first unit that reads it, if one does.
fn units_of(graph: &OpGraph, steps: &[NodeId], heads: &BTreeSet<NodeId>) -> HashMap<NodeId, usize> {
    let mut unit_of: HashMap<NodeId, usize> = steps.iter().filter(|id| heads.contains(id)).enumerate().map(|(u, id)| (*id, u)).collect();
    // From the last one back: a reader may have been given its unit just now.
    for id in steps.iter().rev().filter(|id| !heads.contains(id)) {
        let outs = (0..graph.node(*id).outs.len() as u16).map(|slot| Outlet { node: *id, slot });
        if let Some(first) = outs.flat_map(|o| graph.users(o)).filter_map(|(r, _)| unit_of.get(&r)).min().copied() {
            unit_of.insert(*id, first);
        }
    }
    unit_of
}

impl Units {
    fn of(graph: &OpGraph, steps: &[NodeId], buffers: &[Buffer], least: u64) -> Self {
        let matters: Vec<&Buffer> = buffers.iter().filter(|b| b.bytes > least).collect();
        let mut heads: BTreeSet<NodeId> = matters.iter().flat_map(|b| &b.touched).copied().collect();
        let attached = units_of(graph, steps, &heads);
        // A light one that no heavy one needs goes with none, and must not be left in front of what it needs: it is a unit of its own.
        for id in steps.iter().filter(|id| !attached.contains_key(id)) {
            if graph.inputs_of(*id).iter().any(|o| heads.contains(&o.node) || attached.contains_key(&o.node)) {
                heads.insert(*id);
            }
        }
        let unit_of = units_of(graph, steps, &heads);
        let mut members = vec![Vec::new(); heads.len()];
        for id in steps {
            if let Some(unit) = unit_of.get(id) {
                members[*unit].push(*id);
            }
        }
        let mut before: Vec<FixedBitSet> = Vec::with_capacity(members.len());
        for (unit, nodes) in members.iter().enumerate() {
            let mut needs = FixedBitSet::with_capacity(members.len());
            let inputs = nodes.iter().flat_map(|id| graph.inputs_of(*id));
            for needed in inputs.filter_map(|o| unit_of.get(&o.node)).filter(|u| **u != unit) {
                needs.insert(*needed);
                needs.union_with(&before[*needed]);
            }
            before.push(needs);
        }
        let held = |b: &&Buffer| {
            let touched: BTreeSet<usize> = b.touched.iter().map(|id| unit_of[id]).collect();
            Held { bytes: b.bytes, maker: unit_of[&b.touched[0]], touched }
        };
        let in_place = members.iter().map(|m| m.last().is_some_and(|id| may_take_over(graph, *id))).collect();
        Self { buffers: matters.iter().map(held).collect(), members, before, in_place }
    }

    /// The units in stretches, each but the last ending with one that comes after all before it and before all that follow.
    fn stretches(&self) -> Vec<Range<usize>> {
        let count = self.members.len();
        // How many units need each.
        let mut behind = vec![0; count];
        self.before.iter().flat_map(FixedBitSet::ones).for_each(|u| behind[u] += 1);
        let ends = (0..count).filter(|u| *u + 1 == count || (self.before[*u].count_ones(..) == *u && behind[*u] == count - 1 - u));
        let mut start = 0;
        ends.map(|end| std::mem::replace(&mut start, end + 1)..end + 1).collect()
    }
}

/// The search over one stretch; sets of its units are bits.
struct Search {
    start: usize,
    /// Of each unit, those of the stretch that it needs.
    needs: Vec<u64>,
    in_place: Vec<bool>,
    buffers: Vec<Local>,
    /// The least that the widest moment can be from each set on; 0 for all that stretches before and behind hold.
    known: HashMap<u64, u64>,
}

/// A buffer in a stretch.
struct Local {
    bytes: u64,
    /// The unit that makes it, if it is not there at the start.
    maker: Option<usize>,
    touched: u64,
    /// Is it needed behind the stretch?
    stays: bool,
}

impl Search {
    fn of(units: &Units, stretch: &Range<usize>) -> Self {
        let bits = |set: &mut dyn Iterator<Item = usize>| set.filter(|u| stretch.contains(u)).fold(0, |m, u| m | 1 << (u - stretch.start));
        let local = |b: &Held| Local {
            bytes: b.bytes,
            maker: stretch.contains(&b.maker).then(|| b.maker - stretch.start),
            touched: bits(&mut b.touched.iter().copied()),
            stays: b.touched.last().is_some_and(|u| *u >= stretch.end),
        };
        let there = |b: &&Held| b.maker < stretch.end && b.touched.last().is_some_and(|u| *u >= stretch.start);
        Self {
            start: stretch.start,
            needs: stretch.clone().map(|u| bits(&mut units.before[u].ones())).collect(),
            in_place: units.in_place[stretch.clone()].to_vec(),
            buffers: units.buffers.iter().filter(there).map(local).collect(),
            known: HashMap::new(),
        }
    }

    /// An order whose widest moment is narrower than that of the order as it stands, with both; `Some(None)` if there is none, and `None`
    /// if there are too many sets to say.
    fn narrowest(mut self) -> Option<Option<(Vec<usize>, u64, u64)>> {
        let count = self.needs.len();
        let before = (0..count).map(|u| self.moment((1 << u) - 1, u)).max().unwrap_or(0);
        let now = self.least(0)?;
        Some((now < before).then(|| (self.order(now), before, now)))
    }

    /// What is alive while a unit runs after the units of a set.
    fn moment(&self, done: u64, unit: usize) -> u64 {
        let after = done | 1 << unit;
        let dies = |b: &Local| !b.stays && b.touched & !after == 0;
        let alive = |b: &&Local| b.maker.is_none_or(|m| done >> m & 1 == 1) && (b.stays || b.touched & !done != 0);
        let made: Vec<&Local> = self.buffers.iter().filter(|b| b.maker == Some(unit)).collect();
        let held: u64 = self.buffers.iter().filter(alive).map(|b| b.bytes).sum();
        let taken_over = |bytes: u64| {
            let input = |b: &Local| b.bytes == bytes && b.touched >> unit & 1 == 1 && dies(b);
            self.in_place[unit] && self.buffers.iter().filter(alive).any(input)
        };
        held + made.iter().map(|b| if taken_over(b.bytes) { 0 } else { b.bytes }).sum::<u64>()
    }

    fn ready(&self, done: u64) -> impl Iterator<Item = usize> + use<> {
        let needs = self.needs.clone();
        (0..needs.len()).filter(move |u| done >> u & 1 == 0 && needs[*u] & !done == 0)
    }

    fn least(&mut self, done: u64) -> Option<u64> {
        if let Some(known) = self.known.get(&done) {
            return Some(*known);
        }
        if self.known.len() >= MOST_SETS {
            return None;
        }
        let mut best = None;
        for unit in self.ready(done) {
            let widest = self.moment(done, unit).max(self.least(done | 1 << unit)?);
            best = Some(best.map_or(widest, |b: u64| b.min(widest)));
        }
        let least = best.unwrap_or(0);
        self.known.insert(done, least);
        Some(least)
    }

    /// The order that stays within a bound and is otherwise as it stands.
    fn order(&self, bound: u64) -> Vec<usize> {
        let (mut done, mut out) = (0, Vec::new());
        let fits =
            |done: u64, unit: usize| self.moment(done, unit) <= bound && self.known.get(&(done | 1 << unit)).is_some_and(|b| *b <= bound);
        while let Some(next) = self.ready(done).find(|u| fits(done, *u)) {
            done |= 1 << next;
            out.push(self.start + next);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::op::{Op, Unary};
    use super::super::parse::parse;
    use super::super::schedule::schedule_in;
    use super::super::types::{DType, TensorType};
    use super::super::verify;
    use super::*;

    /// The most alive at one step after all stretches are put in their order, bytes.
    fn widest(graph: &OpGraph, found: &LeastPeak) -> u64 {
        schedule(&reordered(graph, found)).unwrap().live().into_iter().max().unwrap()
    }

    fn reordered(graph: &OpGraph, found: &LeastPeak) -> OpGraph {
        let mut graph = graph.clone();
        for stretch in &found.changed {
            let mut places: Vec<_> = stretch.order.iter().map(|id| graph.node(*id).order.clone()).collect();
            places.sort();
            stretch.order.iter().zip(places).for_each(|(id, place)| graph.set_order(*id, place));
        }
        graph
    }

    #[test]
    fn an_order_that_cannot_be_narrower_stays() {
        let graph = parse(
            "model m(x: f32[8, 8]) -> y: f32[8, 8] = %3
  %0 = Softmax{axis=1}(%x) : f32[8, 8]
  %1 = Transpose{perm=[1, 0]}(%0) : f32[8, 8]
  %2 = Exp(%0) : f32[8, 8]
  %3 = Add(%1, %2) : f32[8, 8]
",
        )
        .unwrap();
        let found = least_peak(&graph).unwrap();
        assert!(found.exact && found.changed.is_empty());
    }

    /// A graph of halves, exponentials and concatenations over tensors of 64 columns, from numbers, of means too where there are many rows;
    /// what nobody reads is an output.
    fn drawn(numbers: &[(u8, u8, u8)], rows: i64) -> OpGraph {
        let mut g = OpGraph::new("m");
        let mut tensors = vec![g.input("x", TensorType::new(DType::F32, [rows, 64]))];
        let many = 1024;
        for (i, (kind, a, b)) in numbers.iter().enumerate() {
            let pick = |n: &u8| tensors[usize::from(*n) % tensors.len()];
            let rows = g.ty(pick(a)).shape[0].as_const().unwrap();
            let (op, inputs) = match kind % 3 {
                _ if rows >= many && kind % 2 == 0 => (Op::ReduceMean { axes: vec![0] }, vec![pick(a)]),
                0 if rows > 4 => (Op::Slice { axis: 0, start: 0.into(), end: (rows / 2).into() }, vec![pick(a)]),
                1 if pick(a) != pick(b) => (Op::Concat { axis: 0 }, vec![pick(a), pick(b)]),
                _ => (Op::Unary(Unary::Exp), vec![pick(a)]),
            };
            tensors.push(g.add(op, &inputs, format!("n{i}"), &"".into()).unwrap());
        }
        let unread: Vec<Outlet> = tensors.into_iter().skip(1).filter(|o| g.user_count(*o) == 0).collect();
        for (i, outlet) in unread.into_iter().enumerate() {
            g.output(format!("y{i}"), outlet);
        }
        g
    }

    /// The least widest moment over all orders, one after the other.
    fn least_of_all(graph: &OpGraph, order: &mut Vec<NodeId>, left: &BTreeSet<NodeId>) -> u64 {
        if left.is_empty() {
            return schedule_in(graph, order.clone()).unwrap().live().into_iter().max().unwrap();
        }
        let ready = left.iter().filter(|id| graph.inputs_of(**id).iter().all(|o| !left.contains(&o.node)));
        let each = ready.map(|id| {
            order.push(*id);
            let least = least_of_all(graph, order, &left.iter().copied().filter(|l| l != id).collect());
            order.pop();
            least
        });
        each.min().unwrap()
    }

    /// The first wide tensor is made after the second, and so is %2, which nobody but the caller needs.
    #[test]
    fn what_only_the_caller_needs_moves_with_what_it_needs() {
        let graph = parse(
            "model m(x: f32[1, 64]) -> y: f32[1, 64] = %6, n: f32[1, 64] = %2
  %0 = Expand{shape=[512, 64]}(%x) : f32[512, 64]
  %1 = ReduceMean{axes=[0]}(%0) : f32[1, 64]
  %2 = Exp(%1) : f32[1, 64]
  %3 = Expand{shape=[1024, 64]}(%x) : f32[1024, 64]
  %4 = ReduceMean{axes=[0]}(%3) : f32[1, 64]
  %5 = Mul(%0, %4) : f32[512, 64]
  %6 = ReduceMean{axes=[0]}(%5) : f32[1, 64]
",
        )
        .unwrap();
        let found = least_peak(&graph).unwrap();
        assert!(found.exact && !found.changed.is_empty());
        let reordered = reordered(&graph, &found);
        verify(&reordered).unwrap();
        assert!(schedule(&reordered).unwrap().live().into_iter().max().unwrap() < 1030 * 64 * 4);
    }

    proptest! {
        /// Narrow operators among the wide ones: an order in which producers stand first, and as narrow as their tensors let it be.
        #[test]
        fn narrow_operators_keep_their_place_among_the_wide(numbers in prop::collection::vec(any::<(u8, u8, u8)>(), 2..8)) {
            let graph = drawn(&numbers, 2048);
            let found = least_peak(&graph).unwrap();
            let reordered = reordered(&graph, &found);
            prop_assert!(verify(&reordered).is_ok());
            let before = schedule(&graph).unwrap().live().into_iter().max().unwrap();
            let slack = before / LIGHT * numbers.len() as u64;
            prop_assert!(widest(&graph, &found) <= before + slack);
        }

        #[test]
        fn no_order_is_narrower(numbers in prop::collection::vec(any::<(u8, u8, u8)>(), 2..8)) {
            let graph = drawn(&numbers, 16);
            let found = least_peak(&graph).unwrap();
            let all: BTreeSet<NodeId> = schedule(&graph).unwrap().steps.into_iter().collect();
            prop_assert!(found.exact);
            prop_assert_eq!(widest(&graph, &found), least_of_all(&graph, &mut Vec::new(), &all));
        }
    }
}
