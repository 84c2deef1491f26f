//! Gives each cluster the division that leaves the fewest reshapes around it.
//!
//! ```text
//! a [6, 4] ─ Reshape [2, 3, 4] ─ Add ─ LayerNorm ─ Reshape [6, 4] ─ …          two reshapes
//! a [6, 4] ─────────────────────── Add ─ LayerNorm ─ …                         none: the neighbours' division
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::border::{Border, border, view_of};
use super::cluster::{Cluster, Freedom, clusters, flexible};
use super::division::Division;
use super::join::join;
use super::{Shape, behind, dims, is_view, out, reshape};
use crate::diag::Result;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::passes::{Edit, Rewriter, Why};

/// Improves the clusters one after the other; was there anything to improve?
pub(super) fn round(rw: &mut Rewriter<'_>) -> Result<bool> {
    let mut changed = false;
    for cluster in clusters(rw.graph()) {
        let Some(better) = better(rw.graph(), &cluster) else { continue };
        let why = Why::new("fewer-reshapes").with("before", better.before as i64).with("after", better.border.cost as i64);
        rw.apply(cluster.nodes[0], None, why, |e| redivide(e, &cluster, &better))?;
        join(rw)?;
        changed = true;
    }
    Ok(changed)
}

/// A division of a cluster with fewer reshapes around it.
struct Better {
    division: Division,
    border: Border,
    /// Reshapes around the cluster as it is.
    before: usize,
}

fn better(graph: &OpGraph, cluster: &Cluster) -> Option<Better> {
    let now = Division::of(&dims(graph, out(cluster.nodes[0]))?, cluster.last)?;
    let before = border(graph, cluster, &now)?.cost;
    if before == 0 {
        return None;
    }
    let others = candidates(graph, cluster).into_iter().filter_map(|d| border(graph, cluster, &d).map(|b| (d, b)));
    let (division, border) = others.min_by(|x, y| (x.1.cost, &x.0).cmp(&(y.1.cost, &y.0)))?;
    (border.cost < before).then_some(Better { division, border, before })
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

/// Divides a cluster anew.
fn redivide(e: &mut Edit<'_>, cluster: &Cluster, better: &Better) -> Result<()> {
    better.border.shown.iter().try_for_each(|tensor| show(e, cluster, *tensor))?;
    read(e, &better.border)?;
    reshape_constants(e, &better.border)?;
    cluster.nodes.iter().try_for_each(|id| e.reinfer(*id))?;
    let divided = |id: &NodeId| dims(e.graph(), out(*id)).is_some_and(|s| better.division.shape(&s) == Some(s));
    debug_assert!(cluster.nodes.iter().all(divided));
    Ok(())
}

/// The readers outside of a tensor that leaves the cluster get a view in the old shape.
fn show(e: &mut Edit<'_>, cluster: &Cluster, tensor: Outlet) -> Result<()> {
    let shape = e.graph().ty(tensor).shape.clone();
    let readers: Vec<NodeId> = e.graph().users(tensor).into_iter().map(|(n, _)| n).collect();
    let stay: Vec<NodeId> = readers.into_iter().filter(|n| cluster.nodes.contains(n) || is_view(e.graph(), *n)).collect();
    let view = e.add_after(tensor.node, Op::Reshape { shape }, &[tensor], "view")?;
    e.redirect(tensor, view, &[stay, vec![view.node]].concat());
    Ok(())
}

/// The operands from outside are read in the new division.
fn read(e: &mut Edit<'_>, border: &Border) -> Result<()> {
    let mut views: BTreeMap<(Outlet, Shape), Outlet> = BTreeMap::new();
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
    Ok(())
}

/// Constants that broadcast follow the division.
fn reshape_constants(e: &mut Edit<'_>, border: &Border) -> Result<()> {
    for (reader, slot, shape) in &border.constants {
        let old = e.graph().inputs_of(*reader)[usize::from(*slot)];
        let Some(expr) = e.graph().as_weight(old).cloned() else { continue };
        let extents: Vec<u64> = shape.iter().map(|d| *d as u64).collect();
        if expr.shape() != extents {
            let new = e.weight(expr.reshape(&extents)?);
            e.rewire_input(*reader, *slot, new);
        }
    }
    Ok(())
}
