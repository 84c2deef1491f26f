//! Tensors as rearrangements of others.
//!
//! A chain of reshapes, transpositions and selections is followed by *atoms*: the pieces into which reshapes split the axes of
//! the source. An axis of the result is a list of atoms, so that `[b, l, h·d] → [b, l, h, d] → [b, h, l, d] → [b·h, l, d]` is
//! `[[b, h], [l], [d]]` over the source `[b, l, h, d]`, however it is spelled. Extents may be symbolic; they are compared by
//! their normal forms.

use super::matcher::uniform;
use crate::ir::op::Binary;
use crate::ir::{Dim, Op, OpGraph, Outlet};

/// Operators that are followed; exporters write at most five.
const LONGEST_CHAIN: usize = 12;

/// One operator of a chain.
#[derive(Clone, Debug)]
enum Step {
    Reshape(Vec<Dim>),
    Transpose(Vec<usize>),
    /// One index of an axis, which stays with extent 1.
    Select(usize, i64),
    /// Times a number.
    Scale(f64),
    /// Nothing.
    Still,
}

/// A piece of an axis of the source.
#[derive(Clone, Debug)]
struct Atom {
    extent: Dim,
    /// The axis of the source that it is a piece of.
    axis: usize,
    /// The index, if the view shows one alone.
    at: Option<i64>,
}

/// A tensor as a rearrangement of a source.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The source.
    pub(super) source: Outlet,
    /// The factor on its values.
    pub(super) scale: f64,
    /// Transpositions that stand before the source and are not part of the view; they stay in the graph.
    pub(super) transposes_before: usize,
    atoms: Vec<Atom>,
    /// Atoms in the order of the source.
    order: Vec<usize>,
    axes: Vec<Vec<usize>>,
}

impl View {
    /// A source seen as it is.
    pub(super) fn whole(source: Outlet, shape: &[Dim]) -> Self {
        let mut view = Self { source, scale: 1.0, transposes_before: 0, atoms: Vec::new(), order: Vec::new(), axes: Vec::new() };
        for (axis, extent) in shape.iter().enumerate() {
            let ids: Vec<usize> = if *extent == Dim::Const(1) { Vec::new() } else { vec![view.atoms.len()] };
            view.order.extend(&ids);
            view.atoms.extend(ids.iter().map(|_| Atom { extent: extent.clone(), axis, at: None }));
            view.axes.push(ids);
        }
        view
    }

    /// The tensor as a view of each tensor of the chain that leads to it, the furthest first; the last is the tensor itself.
    pub(super) fn all(graph: &OpGraph, tensor: Outlet) -> Vec<Self> {
        let (mut steps, mut sources) = (Vec::new(), vec![tensor]);
        while steps.len() < LONGEST_CHAIN {
            let Some((step, source)) = step(graph, sources[sources.len() - 1]) else { break };
            steps.push(step);
            sources.push(source);
        }
        let transposes = |steps: &[Step]| steps.iter().filter(|s| matches!(s, Step::Transpose(_))).count();
        let view = |n: usize| {
            let mut view = Self::whole(sources[n], &graph.ty(sources[n]).shape);
            view.transposes_before = transposes(&steps[n..]);
            steps[..n].iter().rev().try_for_each(|s| view.take(s))?;
            Some(view)
        };
        (0..sources.len()).rev().filter_map(view).collect()
    }

    /// The view after one more operator that reads the tensor, and the operator's output, if it only moves elements.
    pub(super) fn then(&self, graph: &OpGraph, out: Outlet) -> Option<Self> {
        let step = step(graph, out)?.0;
        matches!(step, Step::Reshape(_) | Step::Transpose(_) | Step::Still).then_some(())?;
        let mut view = self.clone();
        view.transposes_before += usize::from(matches!(step, Step::Transpose(_)));
        view.take(&step)?;
        Some(view)
    }

    fn take(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Reshape(shape) => return self.reshape(shape),
            Step::Transpose(perm) => self.axes = perm.iter().map(|p| self.axes[*p].clone()).collect(),
            Step::Select(axis, index) => {
                // Only a whole atom may be left behind.
                let [atom] = self.axes[*axis][..] else { return None };
                self.atoms[atom].at = Some(*index);
                self.axes[*axis].clear();
            }
            Step::Scale(s) => self.scale *= s,
            Step::Still => {}
        }
        Some(())
    }

    /// Regroups atoms, splitting them where the new shape does; `None` where it cuts across them.
    pub(super) fn reshape(&mut self, shape: &[Dim]) -> Option<()> {
        let mut flat: std::collections::VecDeque<usize> = self.axes.concat().into();
        let mut axes = Vec::new();
        for extent in shape {
            let (mut axis, mut wanted) = (Vec::new(), extent.clone());
            while wanted != Dim::Const(1) {
                let next = flat.pop_front()?;
                let size = self.atoms[next].extent.clone();
                if let Some(rest) = wanted.quotient(&size) {
                    wanted = rest;
                } else {
                    let rest = size.quotient(&wanted)?;
                    flat.push_front(self.split(next, wanted, rest));
                    wanted = Dim::Const(1);
                }
                axis.push(next);
            }
            axes.push(axis);
        }
        self.axes = axes;
        flat.is_empty().then_some(())
    }

    /// Splits an atom in two and gives the second.
    fn split(&mut self, id: usize, first: Dim, second: Dim) -> usize {
        let new = self.atoms.len();
        let axis = self.atoms[id].axis;
        self.atoms[id].extent = first;
        self.atoms.push(Atom { extent: second, axis, at: None });
        let place = self.order.iter().position(|o| *o == id).unwrap_or(self.order.len());
        self.order.insert((place + 1).min(self.order.len()), new);
        new
    }

    /// The atoms of some axes, one after the other.
    pub(super) fn atoms_of(&self, axes: impl IntoIterator<Item = usize>) -> Vec<usize> {
        axes.into_iter().flat_map(|a| self.axes[a].clone()).collect()
    }

    /// The atoms that come from an axis of the source, in order.
    pub(super) fn atoms_from(&self, axis: usize) -> Vec<usize> {
        self.order.iter().copied().filter(|a| self.atoms[*a].axis == axis && self.atoms[*a].at.is_none()).collect()
    }

    /// Number of axes of the tensor.
    pub(super) fn rank(&self) -> usize {
        self.axes.len()
    }

    /// How many elements some atoms span.
    pub(super) fn extent(&self, atoms: &[usize]) -> Dim {
        crate::ir::dim::product(atoms.iter().map(|a| &self.atoms[*a].extent))
    }

    /// Are these the atoms of the source in its own order? Then the source holds them as they are wanted. Selected atoms give
    /// the range of their axis, at most one: they must lead it.
    pub(super) fn in_order(&self, wanted: &[usize]) -> Option<Vec<(usize, Dim, Dim)>> {
        let seen: Vec<usize> = self.order.iter().copied().filter(|a| self.atoms[*a].at.is_none()).collect();
        (seen == wanted).then_some(())?;
        let mut selected = self.order.iter().filter(|a| self.atoms[**a].at.is_some());
        let Some(first) = selected.next() else { return Some(Vec::new()) };
        selected.next().is_none().then_some(())?;
        let (axis, index) = (self.atoms[*first].axis, self.atoms[*first].at?);
        let mut of_axis = self.order.iter().copied().filter(|a| self.atoms[*a].axis == axis);
        (of_axis.next() == Some(*first)).then_some(())?;
        let width = self.extent(&of_axis.collect::<Vec<_>>());
        Some(vec![(axis, &width * &Dim::Const(index), &width * &Dim::Const(index + 1))])
    }
}

/// What an operator does to the elements of its first input, and that input.
fn step(graph: &OpGraph, at: Outlet) -> Option<(Step, Outlet)> {
    let inputs = graph.inputs_of(at.node);
    let shape = &graph.ty(at).shape;
    let same = |x: &Outlet| graph.ty(*x) == graph.ty(at);
    Some(match (&graph.node(at.node).op, &inputs[..]) {
        (Op::Reshape { shape }, [x]) => (Step::Reshape(shape.clone()), *x),
        (Op::Transpose { perm }, [x]) => (Step::Transpose(perm.clone()), *x),
        (Op::Slice { axis, start, .. }, [x]) if shape[*axis] == Dim::Const(1) => (Step::Select(*axis, start.as_const()?), *x),
        (Op::Binary(Binary::Mul), [x, s] | [s, x]) if same(x) && uniform(graph, *s).is_some() => (Step::Scale(uniform(graph, *s)?), *x),
        (Op::Binary(Binary::Div), [x, s]) if same(x) && uniform(graph, *s).is_some() => (Step::Scale(uniform(graph, *s)?.recip()), *x),
        (Op::Cast { .. } | Op::Expand { .. }, [x]) if same(x) => (Step::Still, *x),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse;

    /// The axes of the output as atoms over the furthest source, or `?`.
    fn check(lines: &str, expect: &str) {
        let text = format!("model m(x: f32[b, 6, 8]) -> y: {}\n{lines}", lines.lines().last().unwrap_or_default().trim());
        let (head, ty) = text.split_once(" -> y: ").map(|(h, _)| (h, lines.trim_end().rsplit(" : ").next().unwrap_or_default())).unwrap();
        let last = lines.lines().filter(|l| l.trim().starts_with('%')).count() - 1;
        let graph = parse(&format!("{head} -> y: {ty} = %{last}\n{lines}")).unwrap();
        let views = View::all(&graph, graph.outputs()[0].1);
        let of = |v: &View| {
            v.axes
                .iter()
                .map(|a| a.iter().map(|i| v.atoms[*i].extent.to_string()).collect::<Vec<_>>().join("·"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let best = views.iter().find(|v| graph.node(v.source.node).op == Op::Input);
        assert_eq!(best.map_or("?".into(), of), expect);
    }

    #[test]
    fn axes_are_followed_however_they_are_spelled() {
        check(
            "  %0 = Reshape{shape=[b, 6, 2, 4]}(%x) : f32[b, 6, 2, 4]\n  %1 = Transpose{perm=[0, 2, 1, 3]}(%0) : f32[b, 2, 6, 4]\n  %2 = Reshape{shape=[2*b, 6, 4]}(%1) : f32[2*b, 6, 4]\n",
            "b·2, 6, 4",
        );
        check(
            "  %0 = Reshape{shape=[b, 2, 3, 8]}(%x) : f32[b, 2, 3, 8]\n  %1 = Reshape{shape=[2*b, 1, 24]}(%0) : f32[2*b, 1, 24]\n",
            "b·2, , 3·8",
        );
        check("  %0 = Reshape{shape=[6, b, 8]}(%x) : f32[6, b, 8]\n", "?");
    }
}
