//! `keep-layout`: frames become time, and time frames, without turning tensors round in the memory of channels-last convolutions.
//!
//! ```text
//! x [2·14, 64, 32, 32] ─ Reshape [2, 14, 64, 1024] ─ Transpose 0 2 1 3          before: a reshape of pixels that looks at planes
//! x ─ Transpose 0 2 3 1 ─ Reshape [2, 14, 1024, 64] ─ Transpose 0 3 1 2         after: both transpositions only say how x lies already
//! ```
//! A provider that keeps tensors channels-last ([`Layout`]) runs the second for nothing. Legal because in both forms the channels are one
//! axis that stays whole, and all other elements stay in their order. What it is worth: `docs/facts/openvino.md` section 2.

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::Result;
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};
use crate::target::Layout;

pub(super) struct KeepLayout;

static INFO: PassInfo = PassInfo {
    id: "keep-layout",
    summary: "spell moves between frames and time as a provider's memory has them",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Bound, Property::Lowered, Property::Flat],
    establishes: &[],
    example: "
hw: x86-cpu-2core/openvino
before:
model m(x: f32[6, 4, 2, 2]) -> y: f32[2, 4, 3, 4] = %1
  %0 = Reshape{shape=[2, 3, 4, 4]}(%x) : f32[2, 3, 4, 4]
  %1 = Transpose{perm=[0, 2, 1, 3]}(%0) : f32[2, 4, 3, 4]
after:
model m(x: f32[6, 4, 2, 2]) -> y: f32[2, 4, 3, 4] = %2
  %0 = Transpose{perm=[0, 2, 3, 1]}(%x) : f32[6, 2, 2, 4]
  %1 = Reshape{shape=[2, 3, 4, 4]}(%0) : f32[2, 3, 4, 4]
  %2 = Transpose{perm=[0, 3, 1, 2]}(%1) : f32[2, 4, 3, 4]
",
};

impl Pass for KeepLayout {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        if cx.machine.target.forms.layout == Layout::Planar {
            return Ok(());
        }
        for id in rw.graph().nodes() {
            if let Some(chain) = rw.graph().contains(id).then(|| Chain::around(rw.graph(), id)).flatten() {
                chain.respell(rw)?;
            }
        }
        Ok(())
    }
}

/// A transposition with the reshapes before and behind it.
struct Chain {
    source: Outlet,
    from: Vec<i64>,
    /// What shows the result.
    last: NodeId,
    to: Vec<i64>,
}

impl Chain {
    /// The chain around a transposition, if it moves nothing but whole channels, from axis 1 to axis 1.
    fn around(graph: &OpGraph, id: NodeId) -> Option<Self> {
        let Op::Transpose { perm } = &graph.node(id).op else { return None };
        let input = graph.inputs_of(id)[0];
        let source = if reshapes(graph, input.node) { graph.inputs_of(input.node)[0] } else { input };
        let own = Outlet { node: id, slot: 0 };
        let last = match graph.users(own)[..] {
            [(reader, 0)] if reshapes(graph, reader) && !graph.is_output(own) => reader,
            _ => id,
        };
        let shape = |o| graph.ty(o).dims().filter(|d| d.iter().all(|x| *x > 0));
        let (from, to) = (shape(source)?, shape(Outlet { node: last, slot: 0 })?);
        let (a, b) = atoms(&from, &shape(input)?, perm, &to)?;
        let channels = |axes: &[Vec<Atom>]| (axes.len() > 2).then(|| axes[1].clone()).filter(|c| !c.is_empty());
        let others =
            |axes: &[Vec<Atom>]| axes.iter().enumerate().filter(|(axis, _)| *axis != 1).flat_map(|(_, a)| a.clone()).collect::<Vec<_>>();
        (channels(&a)? == channels(&b)? && others(&a) == others(&b)).then_some(Self { source, from, last, to })
    }

    fn respell(self, rw: &mut Rewriter<'_>) -> Result<()> {
        let last_axis =
            |shape: &[i64]| shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(|(_, d)| *d).chain([shape[1]]).collect::<Vec<_>>();
        let rank = self.to.len();
        let out: Vec<usize> = (0..self.from.len()).filter(|axis| *axis != 1).chain([1]).collect();
        let back: Vec<usize> = std::iter::once(0).chain([rank - 1]).chain(1..rank - 1).collect();
        let middle = last_axis(&self.to);
        rw.apply(self.last, None, Why::new("layout-kept").with("channels", self.to[1]), |e| {
            let x = e.add(Op::Transpose { perm: out }, &[self.source], "channels-last")?;
            let x = if middle == last_axis(&self.from) {
                x
            } else {
                e.add(Op::Reshape { shape: middle.iter().map(|d| Dim::Const(*d)).collect() }, &[x], "clips")?
            };
            let y = e.add(Op::Transpose { perm: back }, &[x], "channels-first")?;
            e.replace(Outlet { node: self.last, slot: 0 }, y)?;
            // What others read of the chain stays.
            let mut unread = Some(self.last);
            while let Some(node) = unread {
                let before = e.graph().inputs_of(node)[0].node;
                e.remove(node)?;
                let read_by_others = |o| e.graph().is_output(o) || e.graph().users(o).iter().any(|(user, _)| *user != node);
                unread = (before != self.source.node && !read_by_others(Outlet { node: before, slot: 0 })).then_some(before);
            }
            Ok(())
        })
    }
}

fn reshapes(graph: &OpGraph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Reshape { .. })
}

/// A factor of an axis that no reshape of the chain divides: the axis of the transposition's input, and which of its factors.
type Atom = (usize, usize);

/// The atoms of each axis before and behind a chain `Reshape(from → input), Transpose, Reshape(→ to)`; nothing if the axes have no common factors.
fn atoms(from: &[i64], input: &[i64], perm: &[usize], to: &[i64]) -> Option<(Vec<Vec<Atom>>, Vec<Vec<Atom>>)> {
    let turned: Vec<i64> = perm.iter().map(|p| input[*p]).collect();
    let before = factors(input, from)?;
    let behind = factors(&turned, to)?;
    let mut sizes: Vec<Vec<i64>> = Vec::new();
    for (axis, cuts) in before.iter().enumerate() {
        let at = perm.iter().position(|p| *p == axis)?;
        sizes.push(refine(input[axis], cuts.iter().chain(&behind[at]).copied().collect())?);
    }
    let flat = |order: &mut dyn Iterator<Item = usize>| -> Vec<(Atom, i64)> {
        order.flat_map(|axis| sizes[axis].iter().enumerate().map(move |(i, n)| ((axis, i), *n)).collect::<Vec<_>>()).collect()
    };
    let first = flat(&mut (0..input.len()));
    let second = flat(&mut perm.iter().copied());
    Some((grouped(&first, from)?, grouped(&second, to)?))
}

/// For each axis of `shape`: the products of its last elements at which `other`, another division of the same elements, cuts it.
fn factors(shape: &[i64], other: &[i64]) -> Option<Vec<Vec<i64>>> {
    let suffixes =
        |s: &[i64]| s.iter().rev().scan(1, |n: &mut i64, d| Some(std::mem::replace(n, n.checked_mul(*d)?))).collect::<Vec<i64>>();
    let cuts = suffixes(other);
    let ends = suffixes(shape);
    let of = |(i, d): (usize, &i64)| {
        let end = ends[shape.len() - 1 - i];
        cuts.iter().filter(|c| **c > end && **c < end * d).map(|c| (c % end == 0).then_some(c / end)).collect::<Option<Vec<i64>>>()
    };
    shape.iter().enumerate().map(of).collect()
}

/// The factors of an axis that is cut at these products of its last elements, the first factor first.
fn refine(extent: i64, mut cuts: Vec<i64>) -> Option<Vec<i64>> {
    cuts.extend([1, extent]);
    cuts.sort_unstable();
    cuts.dedup();
    let mut out: Vec<i64> = cuts.windows(2).map(|w| (w[1] % w[0] == 0).then_some(w[1] / w[0])).collect::<Option<_>>()?;
    out.reverse();
    Some(out)
}

/// Atoms in order, an axis of `shape` each.
fn grouped(atoms: &[(Atom, i64)], shape: &[i64]) -> Option<Vec<Vec<Atom>>> {
    let mut rest = atoms.iter();
    let axis = |extent: &i64| {
        let (mut product, mut taken) = (1, Vec::new());
        while product < *extent {
            let (atom, n) = rest.next()?;
            product *= n;
            taken.push(*atom);
        }
        (product == *extent).then_some(taken)
    };
    shape.iter().map(axis).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_divided_where_reshapes_cut_them() {
        // [2·3, 4, 2·2] → [2, 3, 4, 4] → [2, 4, 3, 4]: the channels stay whole.
        let (a, b) = atoms(&[6, 4, 2, 2], &[2, 3, 4, 4], &[0, 2, 1, 3], &[2, 4, 3, 4]).unwrap();
        assert_eq!(a, [vec![(0, 0), (1, 0)], vec![(2, 0)], vec![(3, 0)], vec![(3, 1)]]);
        assert_eq!(b, [vec![(0, 0)], vec![(2, 0)], vec![(1, 0)], vec![(3, 0), (3, 1)]]);
    }

    #[test]
    fn axes_without_common_factors_are_left() {
        assert_eq!(atoms(&[6, 4], &[4, 6], &[1, 0], &[6, 4]), None);
        assert_eq!(refine(12, vec![4, 6]), None);
        assert_eq!(refine(12, vec![6]), Some(vec![2, 6]));
    }
}
