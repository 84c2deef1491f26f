//! Views that need not be there.
//!
//! ```text
//! x ─ Reshape a ─ Reshape b ─ …            x ─ Reshape b ─ …
//! x ─┬ Reshape b ─ …                 ─►    x ─ Reshape b ─┬ …
//!    └ Reshape b ─ …                                      └ …
//! ```

use std::collections::BTreeMap;

use super::{Shape, behind, dims, is_view, out};
use crate::diag::Result;
use crate::ir::{Op, Outlet};
use crate::passes::{Rewriter, Why};

/// Makes a view of a view read the first tensor directly, and removes views that keep the shape of that tensor or repeat an earlier view.
pub(super) fn join(rw: &mut Rewriter<'_>) -> Result<()> {
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
