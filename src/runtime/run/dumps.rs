//! Values that a run hands back: what loops make is written one step behind the other into one array, allocated once.

use std::collections::BTreeMap;

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::diag::{Diagnostic, Result};
use crate::plan::Manifest;
use crate::plan::manifest::Step;

/// One value on its way out.
struct Dump {
    name: String,
    dims: Vec<usize>,
    /// Is the value made in a loop, so that the array has a leading axis of steps?
    in_loop: bool,
    data: Vec<f32>,
}

/// The values that a run was asked for, by index.
pub(super) struct Dumps(BTreeMap<usize, Dump>);

impl Dumps {
    /// Places for the named values. Memory is reserved for as many steps as the plan has; the system gives it as it is written.
    pub(super) fn new(manifest: &Manifest, names: BTreeMap<usize, String>) -> Self {
        if names.is_empty() {
            return Self(BTreeMap::new());
        }
        let mut times = vec![0; manifest.values.len()];
        count(&manifest.steps, 1, &mut times);
        let dump = |(index, name): (usize, String)| {
            let entry = &manifest.values[index];
            let dims = entry.extents();
            let whole = dims.iter().product::<usize>().saturating_mul(times[index]);
            let mut data = Vec::new();
            // What cannot be reserved now may still be made piece by piece.
            let _ = data.try_reserve_exact(whole);
            (index, Dump { name, dims, in_loop: entry.loops > 0, data })
        };
        Self(names.into_iter().map(dump).collect())
    }

    /// Keeps a value that was just made, if it is asked for.
    pub(super) fn keep(&mut self, index: usize, value: &ArrayViewD<'_, f32>) {
        let Some(dump) = self.0.get_mut(&index) else { return };
        match value.as_slice() {
            Some(whole) => dump.data.extend_from_slice(whole),
            None => dump.data.extend(value),
        }
    }

    /// Is the value asked for?
    pub(super) fn wants(&self, index: usize) -> bool {
        self.0.contains_key(&index)
    }

    /// Keeps the places of a value that was not made, `times` times: NaN.
    pub(super) fn absent(&mut self, index: usize, times: usize) {
        let Some(dump) = self.0.get_mut(&index) else { return };
        let times = if dump.in_loop { times } else { 1 };
        let len = dump.data.len() + times * dump.dims.iter().product::<usize>();
        dump.data.resize(len, f32::NAN);
    }

    /// The arrays by name. A value that was made several times has a leading axis of steps.
    pub(super) fn finish(self) -> Result<BTreeMap<String, ArrayD<f32>>> {
        let made = self.0.into_values().filter(|d| !d.data.is_empty() || d.dims.contains(&0));
        made.map(|d| {
            let one = d.dims.iter().product::<usize>().max(1);
            let mut shape = d.dims;
            if d.in_loop {
                shape.insert(0, d.data.len() / one);
            }
            let array = ArrayD::from_shape_vec(IxDyn(&shape), d.data);
            Ok((d.name, array.map_err(|e| Diagnostic::new("internal/bug", format!("a value was not dumped whole: {e}")))?))
        })
        .collect()
    }
}

/// How often each value is made, if every arm of a branch ran.
fn count(steps: &[Step], times: usize, out: &mut [usize]) {
    for step in steps {
        match step {
            Step::Loop { steps, body, .. } => count(body, times.saturating_mul(*steps), out),
            Step::Branch { then, otherwise, results, .. } => {
                count(then, times, out);
                count(otherwise, times, out);
                results.iter().for_each(|g| out[g.result] = times);
            }
            step => step.makes().into_iter().for_each(|v| out[v] = times),
        }
    }
}
