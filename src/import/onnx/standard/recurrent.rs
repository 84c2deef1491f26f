//! Recurrent layers.

use super::NodeInfo;
use super::call::{Extents, Outputs, tensor};
use super::extent::number;
use crate::ir::Dim;

/// `RNN`, `GRU`, `LSTM`: all states and the last one; `LSTM` also the last cell. `gates` rows of the recurrence weight are one of the hidden size.
pub(super) fn recurrent(call: &NodeInfo<'_>, cells: usize) -> Outputs {
    let directions = match call.text("direction") {
        Some("bidirectional") => 2,
        _ => 1,
    };
    let hidden = call.int("hidden_size").map(Dim::Const).or_else(|| call.extent(2, 2));
    if call.rank(0).is_some_and(|n| n != 3) {
        return Err("the input has not 3 axes".into());
    }
    let by_batch = call.flag("layout", false);
    let (length, batch) = if by_batch { (call.extent(0, 1), call.extent(0, 0)) } else { (call.extent(0, 0), call.extent(0, 1)) };
    let (all, last): (Extents, Extents) = if by_batch {
        (vec![batch.clone(), length, number(directions), hidden.clone()], vec![batch, number(directions), hidden])
    } else {
        (vec![length, number(directions), batch.clone(), hidden.clone()], vec![number(directions), batch, hidden])
    };
    let mut out = vec![tensor(call.dtype(0), Some(all))];
    out.extend((0..cells).map(|_| tensor(call.dtype(0), Some(last.clone()))));
    Ok(out)
}
