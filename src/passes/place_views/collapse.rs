//! Transpositions of many axes, written over as few axes as they move.
//!
//! ```text
//! x [2, 3, 4, 5, 6] ─ Transpose 0 2 1 3 4          x ─ Reshape [2, 3, 4, 30] ─ Transpose 0 2 1 3 ─ Reshape [2, 4, 3, 5, 6]
//! ```

use super::{Shape, dims, out, reshape};
use crate::diag::Result;
use crate::ir::Op;
use crate::passes::{Rewriter, Why};

/// Writes transpositions of many axes over as few axes as they move.
pub(super) fn collapse(rw: &mut Rewriter<'_>) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
