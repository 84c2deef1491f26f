//! Runs a graph: nodes in execution order, each value freed after its last use, constants loaded at their first.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use ndarray::{ArrayD, Axis, Slice};

use super::float::{Float, Rounding, settle};
use super::{evaluate, fail};
use crate::diag::{Diagnostic, Result, suggest};
use crate::ir::op::{ForChunks, Join};
use crate::ir::{NodeId, Op, OpGraph, Outlet, TensorType};
use crate::weights::WeightExpr;

/// Runs a graph with rounding as [`Float::ROUNDING`] says: f32 rounds to the types of the graph, f64 never rounds.
///
/// `inputs` gives every input of the graph by name; `weights` evaluates a constant (once for each node that holds it, in the
/// order of first use, and once a range inside `ForChunks`). Nodes that nothing reads are not run.
///
/// # Errors
/// `model/evaluate` if a size has no value, an input is missing, unknown or of another shape, or an operator is foreign; what
/// `weights` returns.
pub fn run<T: Float>(
    graph: &OpGraph,
    inputs: &[(&str, ArrayD<T>)],
    weights: &mut dyn FnMut(&WeightExpr) -> Result<ArrayD<T>>,
) -> Result<IndexMap<String, ArrayD<T>>> {
    run_with(graph, inputs, weights, T::ROUNDING)
}

/// [`run`] with a choice of rounding.
///
/// # Errors
/// As [`run`].
pub fn run_with<T: Float>(
    graph: &OpGraph,
    inputs: &[(&str, ArrayD<T>)],
    weights: &mut dyn FnMut(&WeightExpr) -> Result<ArrayD<T>>,
    rounding: Rounding,
) -> Result<IndexMap<String, ArrayD<T>>> {
    let mut machine = Machine { graph, rounding, weights, values: BTreeMap::new(), readers: readers(graph)? };
    machine.feed(inputs)?;
    for id in graph.nodes() {
        machine.step(id).map_err(|mut d| {
            d.notes.push(format!("at `{}` of the model `{}`", graph.node(id).name, graph.name));
            d
        })?;
    }
    graph.outputs().iter().map(|(name, outlet)| Ok((name.clone(), machine.value(*outlet)?.clone()))).collect()
}

/// How often each tensor will be read; outputs of the graph once more, so that they stay.
fn readers(graph: &OpGraph) -> Result<BTreeMap<Outlet, usize>> {
    let mut readers = BTreeMap::new();
    for id in graph.nodes() {
        if let Some(ty) = graph.node(id).outs.iter().find(|ty| ty.dims().is_none()) {
            let d = Diagnostic::new("model/evaluate", format!("`{}` has the type {ty}, whose size is not known", graph.node(id).name));
            return Err(d.help("bind every symbol of the graph before it is evaluated").into());
        }
        graph.inputs_of(id).into_iter().for_each(|o| *readers.entry(o).or_default() += 1);
    }
    graph.outputs().iter().for_each(|(_, o)| *readers.entry(*o).or_default() += 1);
    Ok(readers)
}

/// The state of a run.
struct Machine<'a, T> {
    graph: &'a OpGraph,
    rounding: Rounding,
    weights: &'a mut dyn FnMut(&WeightExpr) -> Result<ArrayD<T>>,
    values: BTreeMap<Outlet, ArrayD<T>>,
    readers: BTreeMap<Outlet, usize>,
}

impl<T: Float> Machine<'_, T> {
    fn feed(&mut self, inputs: &[(&str, ArrayD<T>)]) -> Result<()> {
        let names: Vec<&str> = self.graph.inputs().iter().map(|i| self.graph.node(*i).name.as_str()).collect();
        if let Some((name, _)) = inputs.iter().find(|(n, _)| !names.contains(n)) {
            let d = Diagnostic::new("model/evaluate", format!("the model `{}` has no input `{name}`", self.graph.name));
            return Err(d.help(suggest(name, names)).into());
        }
        for id in self.graph.inputs() {
            let node = self.graph.node(*id);
            let value = match (inputs.iter().find(|(n, _)| *n == node.name), self.graph.default_of(&node.name)) {
                (Some((_, value)), _) => value.clone(),
                (None, Some(default)) => (self.weights)(default)?,
                (None, None) => return Err(Diagnostic::new("model/evaluate", format!("the input `{}` was not given", node.name)).into()),
            };
            self.store(Outlet { node: *id, slot: 0 }, value)?;
        }
        Ok(())
    }

    /// Keeps a value if somebody will read it.
    fn store(&mut self, outlet: Outlet, value: ArrayD<T>) -> Result<()> {
        let ty = self.graph.ty(outlet);
        if !fits(ty, value.shape()) {
            let name = &self.graph.node(outlet.node).name;
            return Err(Diagnostic::new("model/evaluate", format!("`{name}` is {ty}, its value is {:?}", value.shape())).into());
        }
        if self.readers.contains_key(&outlet) {
            self.values.insert(outlet, settle(value, ty.dtype, self.rounding));
        }
        Ok(())
    }

    fn step(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        let unread = (0..node.outs.len()).all(|slot| !self.readers.contains_key(&Outlet { node: id, slot: slot as u16 }));
        let inputs = self.graph.inputs_of(id);
        if !matches!(node.op, Op::Input | Op::Weight(_)) && !unread {
            inputs.iter().try_for_each(|o| self.value(*o).map(|_| ()))?;
            let values: Vec<&ArrayD<T>> = inputs.iter().map(|o| &self.values[o]).collect();
            let outs = match &node.op {
                Op::ForChunks(chunks) => for_chunks(chunks, &values, self.weights, self.rounding)?,
                Op::Split { .. } => super::eval_op(&node.op, &values)?,
                op => vec![evaluate(op, &values)?],
            };
            for (slot, value) in outs.into_iter().enumerate() {
                self.store(Outlet { node: id, slot: slot as u16 }, value)?;
            }
        }
        for outlet in inputs {
            self.release(outlet);
        }
        Ok(())
    }

    /// The value of a tensor; a constant is loaded when it is first asked for.
    fn value(&mut self, outlet: Outlet) -> Result<&ArrayD<T>> {
        if let (Op::Weight(expr), false) = (&self.graph.node(outlet.node).op, self.values.contains_key(&outlet)) {
            let value = (self.weights)(expr)?;
            self.store(outlet, value)?;
        }
        let name = &self.graph.node(outlet.node).name;
        self.values.get(&outlet).ok_or_else(|| Diagnostic::new("model/evaluate", format!("`{name}` is read before it was computed")).into())
    }

    fn release(&mut self, outlet: Outlet) {
        if let Some(count) = self.readers.get_mut(&outlet) {
            *count -= 1;
            if *count == 0 {
                self.values.remove(&outlet);
            }
        }
    }
}

fn fits(ty: &TensorType, shape: &[usize]) -> bool {
    ty.dims().is_some_and(|dims| dims.iter().copied().eq(shape.iter().map(|d| *d as i64)))
}

/// Runs the body for each range on pieces of the inputs and joins what comes out.
pub(super) fn for_chunks<T: Float>(
    chunks: &ForChunks,
    inputs: &[&ArrayD<T>],
    weights: &mut dyn FnMut(&WeightExpr) -> Result<ArrayD<T>>,
    rounding: Rounding,
) -> Result<Vec<ArrayD<T>>> {
    let whole = || Op::ForChunks(Box::new(chunks.clone()));
    let mut parts: Vec<Vec<ArrayD<T>>> = vec![Vec::new(); chunks.joined.len()];
    let total = chunks.total();
    for (range, place) in chunks.placed() {
        let body = chunks.body(place).ok_or_else(|| fail(&whole(), format!("there is no body for {place}")))?;
        if body.inputs().len() != inputs.len() || chunks.sliced.len() != inputs.len() || body.outputs().len() != parts.len() {
            return Err(fail(&whole(), "its body has another number of inputs or outputs"));
        }
        let pieces: Option<Vec<(&str, ArrayD<T>)>> = (body.inputs().iter().zip(inputs).zip(&chunks.sliced))
            .map(|((id, x), sliced)| Some((body.node(*id).name.as_str(), piece(x, sliced.map(|s| (s.axis, s.piece(range, total))))?)))
            .collect();
        let pieces = pieces.ok_or_else(|| fail(&whole(), format!("{range:?} is not inside its input")))?;
        let mut outs = run_with(body, &pieces, weights, rounding)?;
        for ((name, _), part) in body.outputs().iter().zip(&mut parts) {
            part.push(outs.swap_remove(name).ok_or_else(|| fail(&whole(), format!("the output `{name}` stands twice")))?);
        }
    }
    let join = |(part, join): (&Vec<ArrayD<T>>, &Join)| {
        let views: Vec<_> = part.iter().map(|p| p.view()).collect();
        ndarray::concatenate(Axis(join.axis()), &views).map_err(|e| fail(&whole(), e))
    };
    parts.iter().zip(&chunks.joined).map(join).collect()
}

fn piece<T: Float>(x: &ArrayD<T>, cut: Option<(usize, (i64, i64))>) -> Option<ArrayD<T>> {
    let Some((axis, (start, end))) = cut else { return Some(x.clone()) };
    let extent = *x.shape().get(axis)? as i64;
    let inside = 0 <= start && start <= end && end <= extent;
    inside.then(|| x.slice_axis(Axis(axis), Slice::from(start as isize..end as isize)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::literal;
    use crate::ir::op::{Binary, Place, Sliced, Unary};
    use crate::ir::{DType, Dim};

    /// `y = (x + x) * x`, with `x` of this type and `x + x` cast to `middle`.
    fn graph(ty: TensorType, middle: DType) -> OpGraph {
        let (group, dtype) = ("".into(), ty.dtype);
        let mut g = OpGraph::new("m");
        let x = g.input("x", ty);
        let sum = g.add(Op::Binary(Binary::Add), &[x, x], "sum", &group).expect("adds");
        let low = g.add(Op::Cast { to: middle }, &[sum], "low", &group).expect("casts");
        let high = g.add(Op::Cast { to: dtype }, &[low], "high", &group).expect("casts");
        g.add(Op::Unary(Unary::Exp), &[x], "unread", &group).expect("adds");
        let y = g.add(Op::Binary(Binary::Mul), &[high, x], "y", &group).expect("multiplies");
        g.output("y", y);
        g
    }

    fn check(rounding: Rounding, x: f64, expect: f64) {
        let g = graph(TensorType::new(DType::F32, [1]), DType::F16);
        let out = run_with(&g, &[("x", ArrayD::from_elem(vec![1], x))], &mut literal, rounding).expect("runs");
        assert!((out["y"][0] - expect).abs() < 1e-9, "{x} gives {}", out["y"][0]);
    }

    #[test]
    fn precision_follows_the_types_only_when_asked() {
        check(Rounding::None, 1024.75, 2049.5 * 1024.75);
        check(Rounding::AsTyped, 1024.75, 2050.0 * 1024.75); // f16 has a step of 2 from 2048 on
    }

    /// `y = x * w` over chunks of x's axis 1, of which every body sees the whole `w`.
    fn scaled_in_chunks(ranges: Vec<(i64, i64)>) -> Result<OpGraph> {
        let row = |n: i64| TensorType::new(DType::F32, [2, n]);
        let body = |n: i64| {
            let mut g = OpGraph::new("body");
            let (x, w) = (g.input("piece", row(n)), g.input("whole", row(1)));
            let y = g.add(Op::Binary(Binary::Mul), &[x, w], "y", &"".into())?;
            g.output("y", y);
            Ok((Place::alone(n), g))
        };
        let bodies = [1, 2].into_iter().map(body).collect::<Result<_>>()?;
        let mut g = OpGraph::new("m");
        let (x, w) = (g.input("x", row(3)), g.input("w", row(1)));
        let chunks = ForChunks { sliced: vec![Some(Sliced::plain(1)), None], joined: vec![Join::Along(1)], ranges, bodies };
        let y = g.add(Op::ForChunks(Box::new(chunks)), &[x, w], "chunks", &"".into())?;
        g.output("y", y);
        Ok(g)
    }

    /// Each row plus the one in front of it.
    #[test]
    fn a_halo_ends_at_the_edges() {
        let text = "
model m(x: f32[4]) -> y: f32[4] = %0
  %0 = ForChunks{sliced=[0-1+0] joined=[0] ranges=[(0, 1), (1, 4)]}(%x) : f32[4]
    1: model m.body(in0: f32[1]) -> out0: f32[1] = %in0
    3-1+0: model m.body(in0: f32[4]) -> out0: f32[3] = %2
      %0 = Slice{axis=0 0..3}(%in0) : f32[3]
      %1 = Slice{axis=0 1..4}(%in0) : f32[3]
      %2 = Add(%0, %1) : f32[3]
";
        let graph = crate::ir::parse::parse(text).expect("a graph");
        let out = run::<f64>(&graph, &[("x", ndarray::arr1(&[1.0, 2.0, 4.0, 8.0]).into_dyn())], &mut literal).expect("runs");
        assert_eq!(out["y"], ndarray::arr1(&[1.0, 3.0, 6.0, 12.0]).into_dyn());
    }

    #[test]
    fn chunks_see_their_piece_and_join_in_order() {
        for ranges in [vec![(0, 2), (2, 3)], vec![(0, 1), (1, 3)], vec![(0, 1), (1, 2), (2, 3)]] {
            let g = scaled_in_chunks(ranges).expect("valid");
            let (x, w) = (ndarray::arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), ndarray::arr2(&[[10.0], [100.0]]));
            let out = run::<f64>(&g, &[("x", x.into_dyn()), ("w", w.into_dyn())], &mut literal).expect("runs");
            assert_eq!(out["y"], ndarray::arr2(&[[10.0, 20.0, 30.0], [400.0, 500.0, 600.0]]).into_dyn());
        }
    }

    fn refuse(ty: TensorType, input: (&str, usize), expect: &str) {
        let got = run::<f64>(&graph(ty, DType::F32), &[(input.0, ArrayD::zeros(vec![input.1]))], &mut literal);
        assert_eq!(got.expect_err("it cannot run").message, expect);
    }

    #[test]
    fn inputs_are_checked_by_name_and_shape() {
        let ty = TensorType::new(DType::F32, [2]);
        refuse(ty.clone(), ("z", 2), "the model `m` has no input `z`");
        refuse(ty, ("x", 3), "`x` is f32[2], its value is [3]");
        refuse(TensorType::new(DType::F32, [Dim::symbol("n")]), ("x", 3), "`x` has the type f32[n], whose size is not known");
        let missing = run::<f64>(&graph(TensorType::new(DType::F32, [2]), DType::F32), &[], &mut literal);
        assert_eq!(missing.expect_err("nothing was given").message, "the input `x` was not given");
    }

    #[test]
    fn a_value_is_freed_after_its_last_use() {
        let g = graph(TensorType::new(DType::F32, [2]), DType::F32);
        let mut machine = Machine::<f64> {
            graph: &g,
            rounding: Rounding::None,
            weights: &mut literal,
            values: BTreeMap::new(),
            readers: readers(&g).expect("bound"),
        };
        machine.feed(&[("x", ArrayD::zeros(vec![2]))]).expect("fits");
        let alive: Vec<usize> = g
            .nodes()
            .into_iter()
            .map(|id| {
                machine.step(id).expect("runs");
                machine.values.len()
            })
            .collect();
        assert_eq!(alive, [1, 2, 2, 2, 2, 1]); // x; sum; low; high; unread; y alone
    }
}
