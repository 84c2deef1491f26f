//! Rows that were copied only to be added to tokens.
//!
//! ```text
//! v [b, 1, c] ─ Expand [b, n, c] ─ Reshape [b·n, 1, c] ─ Add          v [b, 1, c] ─────────────── Add ─ Reshape [b·n, l, c]
//!                                       x [b·n, l, c] ────┘     ─►    x ─ Reshape [b, n·l, c] ─────┘
//! ```

use super::{behind, dims, is_view, out, reshape};
use crate::diag::Result;
use crate::ir::{NodeId, Op, OpGraph, Outlet};
use crate::passes::{Rewriter, Why};

/// Rows that were copied only to be added to tokens broadcast by themselves once the tokens are divided as the copies were:
/// `x + copies` on `[b·n, l, c]` is `x + v` on `[b, n·l, c]` with v `[b, 1, c]`.
pub(super) fn uncopy(rw: &mut Rewriter<'_>) -> Result<()> {
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
