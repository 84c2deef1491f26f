//! `place-views`: lets runs of operators work in the shape that needs the fewest reshapes around it.
//!
//! A `Reshape` moves nothing, but on a CPU each one is dispatched like any kernel, and a lowered transformer had more of them than
//! of all other operators. Legal because elementwise operators, norms and products over the last axis do not look at how the other
//! axes are divided. Operators that hand a tensor of the same division to each other form a *cluster*; its shape is chosen among
//! the shapes that its neighbours have anyway, so that the number of reshapes falls. Transpositions of five and more axes are
//! written over as few axes as they move, because convolutions over frames work on four. Constants that broadcast are
//! reshaped with the cluster. On a card reshapes are free and nothing is done.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edit, Effect, Pass, PassCx, PassInfo, Property, Rewriter, Why};
use crate::diag::Result;
use crate::hwdb::Engine;
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};

pub(super) struct PlaceViews;

/// Shapes are fixed here.
type Shape = Vec<i64>;

static INFO: PassInfo = PassInfo {
    id: "place-views",
    summary: "work in the shape that needs the fewest reshapes",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Bound, Property::Lowered, Property::Flat],
    establishes: &[],
    example: "
before:
model m(x: f32[6, 4]) -> y: f32[6, 5] = %3
  %0 = Reshape{shape=[2, 3, 4]}(%x) : f32[2, 3, 4]
  %1 = Exp(%0) : f32[2, 3, 4]
  %2 = Reshape{shape=[6, 4]}(%1) : f32[6, 4]
  %3 = Gemm{trans_b=true}(%2, {param m/w: f32[5, 4]}) : f32[6, 5]
after:
model m(x: f32[6, 4]) -> y: f32[6, 5] = %1
  %0 = Exp(%x) : f32[6, 4]
  %1 = Gemm{trans_b=true}(%0, {param m/w: f32[5, 4]}) : f32[6, 5]
",
};

impl Pass for PlaceViews {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        if cx.machine.engine != Engine::OnnxRuntimeCpu {
            return Ok(());
        }
        uncopy(rw)?;
        join(rw)?;
        collapse(rw)?;
        join(rw)?;
        // Each change takes reshapes away, so this ends.
        while improve_all(rw)? {
            join(rw)?;
        }
        Ok(())
    }
}

fn dims(graph: &OpGraph, o: Outlet) -> Option<Shape> {
    graph.ty(o).dims().filter(|d| d.iter().all(|x| *x > 0))
}

fn reshape(shape: &[i64]) -> Op {
    Op::Reshape { shape: shape.iter().map(|d| Dim::Const(*d)).collect() }
}

fn out(node: NodeId) -> Outlet {
    Outlet { node, slot: 0 }
}

fn is_view(graph: &OpGraph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Reshape { .. })
}

/// The tensor that a view shows.
fn behind(graph: &OpGraph, mut o: Outlet) -> Outlet {
    while is_view(graph, o.node) {
        o = graph.inputs_of(o.node)[0];
    }
    o
}

/// Makes a view of a view read the first tensor directly, and removes views that keep the shape of that tensor or repeat an earlier view.
fn join(rw: &mut Rewriter<'_>) -> Result<()> {
    let mut seen: BTreeMap<(Outlet, Shape), Outlet> = BTreeMap::new();
    for id in rw.graph().nodes() {
        let graph = rw.graph();
        if !is_view(graph, id) {
            continue;
        }
        let (input, source) = (graph.inputs_of(id)[0], behind(graph, out(id)));
        let Some(shape) = dims(graph, out(id)) else { continue };
        let bare = matches!(graph.node(source.node).op, Op::Input | Op::Weight(_)) || graph.is_output(source);
        let named = graph.is_output(out(id));
        let same = dims(graph, source).as_ref() == Some(&shape) && !(named && bare);
        let known = seen.get(&(source, shape.clone())).copied().filter(|o| !(named && graph.is_output(*o)));
        if let Some(other) = if same { Some(source) } else { known } {
            rw.apply(id, None, Why::new("shown-already"), |e| {
                e.replace(out(id), other)?;
                e.remove(id)
            })?;
            continue;
        }
        if input != source {
            rw.apply(id, None, Why::new("view-of-a-view"), |e| {
                e.rewire_input(id, 0, source);
                Ok(())
            })?;
        }
        seen.entry((source, shape)).or_insert(out(id));
    }
    remove_dead(rw)
}

fn remove_dead(rw: &mut Rewriter<'_>) -> Result<()> {
    for id in rw.graph().nodes().into_iter().rev() {
        let graph = rw.graph();
        if is_view(graph, id) && graph.user_count(out(id)) == 0 && !graph.is_output(out(id)) {
            rw.apply(id, None, Why::new("view-unread"), |e| e.remove(id))?;
        }
    }
    Ok(())
}

/// Rows that were copied only to be added to tokens broadcast by themselves once the tokens are divided as the copies were:
/// `x + copies` on `[b·n, l, c]` is `x + v` on `[b, n·l, c]` with v `[b, 1, c]`.
fn uncopy(rw: &mut Rewriter<'_>) -> Result<()> {
    for id in rw.graph().nodes() {
        let Some((slot, v, batch)) = copied(rw.graph(), id) else { continue };
        let graph = rw.graph();
        let Op::Binary(f) = graph.node(id).op else { continue };
        let (inputs, whole) = (graph.inputs_of(id), graph.node(id).outs[0].shape.clone());
        let Some(width) = dims(graph, out(id)).and_then(|d| d.last().copied()) else { continue };
        let rows = dims(graph, out(id)).map_or(0, |d| d.iter().product::<i64>()) / (batch * width);
        rw.apply(id, None, Why::new("copies-broadcast").with("rows", rows), |e| {
            let tokens = e.add(reshape(&[batch, rows, width]), &[inputs[1 - slot]], "tokens")?;
            let row = e.add(reshape(&[batch, 1, width]), &[v], "row")?;
            let args = if slot == 0 { [row, tokens] } else { [tokens, row] };
            let y = e.add(Op::Binary(f), &args, "")?;
            let y = e.add(Op::Reshape { shape: whole }, &[y], "tokens")?;
            e.replace(out(id), y)?;
            e.remove(id)
        })?;
    }
    Ok(())
}

/// For an elementwise operator over tokens with copied rows: the slot of the copies, what was copied, and how many there were.
fn copied(graph: &OpGraph, id: NodeId) -> Option<(usize, Outlet, i64)> {
    let node = graph.node(id);
    if !matches!(node.op, Op::Binary(_)) || node.knob.is_some() {
        return None;
    }
    let (inputs, full) = (graph.inputs_of(id), dims(graph, out(id))?);
    (0..2).find_map(|slot: usize| {
        let (copies, other) = (inputs[slot], inputs[1 - slot]);
        let expand = behind(graph, copies);
        if !is_view(graph, copies.node) || !matches!(graph.node(expand.node).op, Op::Expand { .. }) || dims(graph, other)? != full {
            return None;
        }
        let v = graph.inputs_of(expand.node)[0];
        let (wide, rows, given) = (dims(graph, expand)?, dims(graph, copies)?, dims(graph, v)?);
        let mut narrow = vec![1; wide.len().checked_sub(given.len())?];
        narrow.extend(given);
        let repeated: Vec<usize> = (0..wide.len()).filter(|i| narrow[*i] != wide[*i]).collect();
        let [axis] = repeated[..] else { return None };
        let (batch, width) = (wide[..axis].iter().product::<i64>(), *full.last()?);
        let one_row_each = wide[axis + 1..].iter().product::<i64>() == width && wide.last() == Some(&width);
        let by_row = rows.len() == full.len() && rows[0] == batch * wide[axis] && rows[0] == full[0] && rows.last() == Some(&width);
        let thin = rows[1..rows.len().saturating_sub(1)].iter().all(|d| *d == 1);
        (full.len() == 3 && one_row_each && by_row && thin).then_some((slot, v, batch))
    })
}

/// Writes transpositions of many axes over as few axes as they move.
fn collapse(rw: &mut Rewriter<'_>) -> Result<()> {
    for id in rw.graph().nodes() {
        let graph = rw.graph();
        let Op::Transpose { perm } = &graph.node(id).op else { continue };
        let source = graph.inputs_of(id)[0];
        let (Some(shape), true) = (dims(graph, source), perm.len() > 4) else { continue };
        let (fewer, moved) = fewest_axes(&shape, perm);
        if fewer.len() == shape.len() {
            continue;
        }
        let whole = graph.node(id).outs[0].shape.clone();
        rw.apply(id, None, Why::new("axes-move-together").with("axes", fewer.len() as i64), |e| {
            let x = e.add(reshape(&fewer), &[source], "axes")?;
            let y = if moved.is_sorted() { x } else { e.add(Op::Transpose { perm: moved }, &[x], "")? };
            let y = e.add(Op::Reshape { shape: whole }, &[y], "axes")?;
            e.replace(out(id), y)?;
            e.remove(id)
        })?;
    }
    Ok(())
}

/// The extents of runs of axes that stay together under `perm`, and the permutation of the runs.
fn fewest_axes(shape: &[i64], perm: &[usize]) -> (Shape, Vec<usize>) {
    let perm: Vec<usize> = perm.iter().copied().filter(|p| shape[*p] != 1).collect();
    let rank = |axis: usize| (0..axis).filter(|i| shape[*i] != 1).count();
    let mut runs: Vec<(usize, i64)> = Vec::new();
    let mut last = None;
    for p in perm {
        match (runs.last_mut(), last) {
            (Some((_, extent)), Some(before)) if rank(p) == before + 1 => *extent *= shape[p],
            _ => runs.push((rank(p), shape[p])),
        }
        last = Some(rank(p));
    }
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|i| runs[*i].0);
    let moved = runs.iter().map(|(first, _)| order.iter().position(|i| runs[*i].0 == *first).unwrap_or(0)).collect();
    (order.iter().map(|i| runs[*i].1).collect(), moved)
}

/// How an operator may be divided differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freedom {
    /// In any way.
    Any,
    /// The last axis stays.
    Last,
    /// The first two axes stay.
    FirstTwo,
}

/// The inputs of an operator that have its division, those that broadcast, and its freedom.
struct Flexible {
    full: Vec<u16>,
    broadcast: Vec<u16>,
    freedom: Freedom,
}

/// What may be divided differently, and how; `None` for all other operators.
fn flexible(graph: &OpGraph, id: NodeId) -> Option<Flexible> {
    let node = graph.node(id);
    dims(graph, out(id))?;
    let inputs = graph.inputs_of(id);
    let constants = |from: usize| inputs[from..].iter().all(|w| graph.as_weight(*w).is_some());
    let first = |freedom| Some(Flexible { full: vec![0], broadcast: vec![], freedom });
    match &node.op {
        Op::Unary(_) | Op::QuickGelu { .. } => first(Freedom::Any),
        Op::LayerNorm { .. } | Op::BiasGelu | Op::FusedMatMul if constants(1) => first(Freedom::Last),
        Op::ChannelAffine if constants(1) => first(Freedom::FirstTwo),
        Op::Binary(_) => {
            let whole = |slot: &u16| graph.ty(inputs[usize::from(*slot)]) == &node.outs[0];
            let (full, broadcast): (Vec<u16>, Vec<u16>) = (0..2).partition(whole);
            let both_constant = inputs.iter().all(|i| graph.as_weight(*i).is_some());
            (!full.is_empty() && !both_constant).then_some(Flexible { full, broadcast, freedom: Freedom::Any })
        }
        _ => None,
    }
}

/// Operators that share a division of their axes.
struct Cluster {
    /// In execution order.
    nodes: Vec<NodeId>,
    /// Does the last axis stay?
    last: bool,
}

fn clusters(graph: &OpGraph) -> Vec<Cluster> {
    let nodes: Vec<(NodeId, Flexible)> = graph.nodes().into_iter().filter_map(|id| Some((id, flexible(graph, id)?))).collect();
    let place: BTreeMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
    // A tensor that broadcasts ties its operator to its own shape; a norm's readers may divide its output as they like.
    let alone = |f: &Flexible, id: NodeId| {
        let inputs = graph.inputs_of(id);
        f.broadcast.iter().any(|s| graph.as_weight(inputs[usize::from(*s)]).is_none())
    };
    let mut of: Vec<usize> = (0..nodes.len()).collect();
    for (i, (id, f)) in nodes.iter().enumerate() {
        let inputs = graph.inputs_of(*id);
        for input in f.full.iter().map(|s| inputs[usize::from(*s)]) {
            let Some(j) = place.get(&input.node).copied() else { continue };
            let cut = alone(f, *id) || alone(&nodes[j].1, input.node) || matches!(graph.node(input.node).op, Op::LayerNorm { .. });
            if !cut {
                let (a, b) = (root(&mut of, i), root(&mut of, j));
                of[a.max(b)] = a.min(b);
            }
        }
    }
    let mut groups: BTreeMap<usize, Cluster> = BTreeMap::new();
    for (i, (id, f)) in nodes.iter().enumerate() {
        let cluster = groups.entry(root(&mut of, i)).or_insert_with(|| Cluster { nodes: Vec::new(), last: false });
        cluster.nodes.push(*id);
        cluster.last |= f.freedom == Freedom::Last;
    }
    groups.into_values().collect()
}

fn root(of: &mut [usize], mut i: usize) -> usize {
    while of[i] != i {
        of[i] = of[of[i]];
        i = of[i];
    }
    i
}

/// A division of a cluster's axes: whole shapes, or all axes but the last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Division {
    axes: Shape,
    last: bool,
}

impl Division {
    fn of(shape: &[i64], last: bool) -> Option<Self> {
        let axes = if last { shape.split_last()?.1 } else { shape };
        Some(Self { axes: axes.to_vec(), last })
    }

    /// A tensor's shape under this division, if it has as many elements.
    fn shape(&self, of: &[i64]) -> Option<Shape> {
        let mut shape = self.axes.clone();
        if self.last {
            shape.push(*of.last()?);
        }
        let count = |s: &[i64]| s.iter().product::<i64>();
        (count(&shape) == count(of)).then_some(shape)
    }
}

/// A change of the tensors around a cluster: what each operand reads, and in which shapes others read what it yields.
struct Border {
    /// Reader, slot, the tensor behind, the shape that is needed.
    reads: Vec<(NodeId, u16, Outlet, Shape)>,
    /// Constants that broadcast: reader, slot, new shape.
    constants: Vec<(NodeId, u16, Shape)>,
    /// Tensors that others read in their old shape.
    shown: Vec<Outlet>,
    /// Reshapes that remain.
    cost: usize,
}

/// The border of a cluster under a division; `None` if an operator cannot work so.
fn border(graph: &OpGraph, cluster: &Cluster, division: &Division) -> Option<Border> {
    let inside: BTreeSet<NodeId> = cluster.nodes.iter().copied().collect();
    let mut b = Border { reads: Vec::new(), constants: Vec::new(), shown: Vec::new(), cost: 0 };
    let mut needed: BTreeSet<(Outlet, Shape)> = BTreeSet::new();
    for id in &cluster.nodes {
        let f = flexible(graph, *id)?;
        let inputs = graph.inputs_of(*id);
        let old = dims(graph, out(*id))?;
        let new = division.shape(&old)?;
        if f.freedom == Freedom::FirstTwo && new.get(..2) != old.get(..2) {
            return None;
        }
        for slot in f.full.iter().chain(&f.broadcast) {
            let input = inputs[usize::from(*slot)];
            if inside.contains(&input.node) && f.full.contains(slot) {
                continue;
            }
            let have = dims(graph, input)?;
            let shape = if f.full.contains(slot) { division.shape(&have)? } else { rebroadcast(&have, &old, &new)? };
            if graph.as_weight(input).is_some() {
                b.constants.push((*id, *slot, shape));
                continue;
            }
            let source = behind(graph, input);
            if dims(graph, source)? != shape && !survives(graph, source, &shape, &inside, *id) {
                needed.insert((source, shape.clone()));
            }
            b.reads.push((*id, *slot, source, shape));
        }
        b.cost += outward(graph, *id, &inside, &old, &new, &mut b.shown);
    }
    b.cost += needed.len();
    Some(b)
}

/// Reshapes behind a tensor of a cluster for those who read it outside.
fn outward(graph: &OpGraph, id: NodeId, inside: &BTreeSet<NodeId>, old: &[i64], new: &[i64], shown: &mut Vec<Outlet>) -> usize {
    let readers: Vec<NodeId> = graph.users(out(id)).into_iter().map(|(n, _)| n).filter(|n| !inside.contains(n)).collect();
    let mut shapes: BTreeSet<Shape> = readers.iter().filter(|r| is_view(graph, **r)).filter_map(|r| dims(graph, out(*r))).collect();
    if graph.is_output(out(id)) || readers.iter().any(|r| !is_view(graph, *r)) || reads_as_broadcast(graph, id, inside) {
        shapes.insert(old.to_vec());
        if old != new {
            shown.push(out(id));
        }
    }
    shapes.remove(new);
    shapes.len()
}

/// Does an operator of the cluster read this tensor of the cluster as one that broadcasts?
fn reads_as_broadcast(graph: &OpGraph, id: NodeId, inside: &BTreeSet<NodeId>) -> bool {
    let broadcasts = |n: NodeId, slot: u16| flexible(graph, n).is_some_and(|f| f.broadcast.contains(&slot));
    graph.users(out(id)).into_iter().any(|(n, slot)| inside.contains(&n) && broadcasts(n, slot))
}

/// Is there a view of this tensor in this shape that others need anyway, early enough?
fn survives(graph: &OpGraph, source: Outlet, shape: &[i64], inside: &BTreeSet<NodeId>, reader: NodeId) -> bool {
    view_of(graph, source, shape, reader).is_some_and(|v| graph.is_output(v) || graph.users(v).iter().any(|(n, _)| !inside.contains(n)))
}

fn view_of(graph: &OpGraph, source: Outlet, shape: &[i64], reader: NodeId) -> Option<Outlet> {
    let early = |n: &NodeId| graph.node(*n).order < graph.node(reader).order;
    let shows = |n: &NodeId| is_view(graph, *n) && dims(graph, out(*n)).as_deref() == Some(shape);
    graph.users(source).into_iter().map(|(n, _)| n).find(|n| shows(n) && early(n)).map(out)
}

/// The shape in which a tensor broadcasts to `new` as it did to `old`: runs of axes that are divided differently must be all its
/// own or not at all.
fn rebroadcast(small: &[i64], old: &[i64], new: &[i64]) -> Option<Shape> {
    let mut wide = vec![1; old.len().checked_sub(small.len())?];
    wide.extend_from_slice(small);
    let (mut i, mut j, mut shape) = (0, 0, Vec::with_capacity(new.len()));
    while i < old.len() || j < new.len() {
        let (from, to) = (i, j);
        let (mut a, mut b) = (1_i64, 1_i64);
        loop {
            if a <= b && i < old.len() && (a < b || i == from) {
                a *= old[i];
                i += 1;
            } else if b <= a && j < new.len() && (b < a || j == to) {
                b *= new[j];
                j += 1;
            } else {
                break;
            }
        }
        if a != b {
            return None;
        }
        if wide[from..i].iter().all(|d| *d == 1) {
            shape.extend(std::iter::repeat_n(1, j - to));
        } else if wide[from..i] == old[from..i] {
            shape.extend_from_slice(&new[to..j]);
        } else {
            return None;
        }
    }
    let ones = shape.iter().take_while(|d| **d == 1).count().min(shape.len().saturating_sub(1));
    Some(shape.split_off(ones))
}

/// The divisions that the neighbours of a cluster have.
fn candidates(graph: &OpGraph, cluster: &Cluster) -> BTreeSet<Division> {
    let inside: BTreeSet<NodeId> = cluster.nodes.iter().copied().collect();
    let mut shapes = BTreeSet::new();
    for id in &cluster.nodes {
        let old = dims(graph, out(*id)).unwrap_or_default();
        let Some(f) = flexible(graph, *id) else { continue };
        let inputs = graph.inputs_of(*id);
        let sources = f.full.iter().map(|s| behind(graph, inputs[usize::from(*s)])).filter(|o| !inside.contains(&o.node));
        let views = graph.users(out(*id)).into_iter().map(|(n, _)| n).filter(|n| is_view(graph, *n)).map(out);
        for shape in sources.chain(views).filter_map(|o| dims(graph, o)) {
            // Under a division that keeps the last axis it must be there.
            if !cluster.last || shape.last() == old.last() || f.freedom == Freedom::Last {
                shapes.extend(Division::of(&shape, cluster.last));
            }
        }
    }
    shapes
}

/// Improves the clusters one after the other; was there anything to improve?
fn improve_all(rw: &mut Rewriter<'_>) -> Result<bool> {
    let mut changed = false;
    for cluster in clusters(rw.graph()) {
        let graph = rw.graph();
        let Some(now) = dims(graph, out(cluster.nodes[0])).and_then(|s| Division::of(&s, cluster.last)) else { continue };
        let Some(plain) = border(graph, &cluster, &now) else { continue };
        if plain.cost == 0 {
            continue;
        }
        let others = candidates(graph, &cluster).into_iter().filter_map(|d| border(graph, &cluster, &d).map(|b| (b.cost, d, b)));
        let Some((cost, division, best)) = others.min_by(|x, y| (x.0, &x.1).cmp(&(y.0, &y.1))) else { continue };
        if cost < plain.cost {
            let why = Why::new("fewer-reshapes").with("before", plain.cost as i64).with("after", cost as i64);
            rw.apply(cluster.nodes[0], None, why, |e| redivide(e, &cluster, &division, &best))?;
            join(rw)?;
            changed = true;
        }
    }
    Ok(changed)
}

fn redivide(e: &mut Edit<'_>, cluster: &Cluster, division: &Division, border: &Border) -> Result<()> {
    let mut views: BTreeMap<(Outlet, Shape), Outlet> = BTreeMap::new();
    // First the tensors that leave the cluster: their readers outside get a view in the old shape.
    for tensor in &border.shown {
        let shape = e.graph().ty(*tensor).shape.clone();
        let readers: Vec<NodeId> = e.graph().users(*tensor).into_iter().map(|(n, _)| n).collect();
        let stay: Vec<NodeId> = readers.into_iter().filter(|n| cluster.nodes.contains(n) || is_view(e.graph(), *n)).collect();
        let view = e.add_after(tensor.node, Op::Reshape { shape }, &[*tensor], "view")?;
        e.redirect(*tensor, view, &[stay, vec![view.node]].concat());
    }
    for (reader, slot, source, shape) in &border.reads {
        let same = dims(e.graph(), *source).as_ref() == Some(shape);
        let key = (*source, shape.clone());
        let known = views.get(&key).copied().or_else(|| view_of(e.graph(), *source, shape, *reader));
        let view = match known {
            _ if same => *source,
            Some(view) => view,
            None => e.add_after(source.node, reshape(shape), &[*source], "view")?,
        };
        views.insert(key, view);
        e.rewire_input(*reader, *slot, view);
    }
    for (reader, slot, shape) in &border.constants {
        let old = e.graph().inputs_of(*reader)[usize::from(*slot)];
        let Some(expr) = e.graph().as_weight(old).cloned() else { continue };
        let extents: Vec<u64> = shape.iter().map(|d| *d as u64).collect();
        if expr.shape() != extents {
            let new = e.weight(expr.reshape(&extents)?);
            e.rewire_input(*reader, *slot, new);
        }
    }
    cluster.nodes.iter().try_for_each(|id| e.reinfer(*id))?;
    debug_assert!(cluster.nodes.iter().all(|id| dims(e.graph(), out(*id)).is_some_and(|s| division.shape(&s) == Some(s))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(small: &[i64], old: &[i64], new: &[i64], expect: Option<&[i64]>) {
        assert_eq!(rebroadcast(small, old, new).as_deref(), expect, "{small:?} over {old:?} as {new:?}");
    }

    #[test]
    fn what_broadcasts_follows_if_its_axes_stay_whole() {
        check(&[8, 1, 1], &[2, 8, 4, 4], &[2, 8, 16], Some(&[8, 1]));
        check(&[8], &[2, 3, 8], &[6, 8], Some(&[8]));
        check(&[2, 1, 8], &[2, 3, 8], &[6, 8], None);
        check(&[2, 1, 8], &[2, 12, 8], &[2, 3, 4, 8], Some(&[2, 1, 1, 8]));
        check(&[1], &[2, 3], &[6], Some(&[1]));
        check(&[3, 4], &[2, 3, 4], &[2, 12], Some(&[12]));
        check(&[4], &[2, 3, 4], &[2, 12], None);
    }

    #[test]
    fn transpositions_need_as_many_axes_as_they_have_runs() {
        let check = |shape: &[i64], perm: &[usize], expect: (&[i64], &[usize])| {
            let (axes, moved) = fewest_axes(shape, perm);
            assert_eq!((&axes[..], &moved[..]), expect, "{shape:?} {perm:?}");
        };
        check(&[2, 3, 4, 5, 6], &[0, 2, 1, 3, 4], (&[2, 3, 4, 30], &[0, 2, 1, 3]));
        check(&[1, 3, 4, 5, 6], &[0, 2, 1, 3, 4], (&[3, 4, 30], &[1, 0, 2]));
        check(&[2, 3, 1, 5, 6], &[0, 2, 1, 3, 4], (&[180], &[0]));
    }
}
