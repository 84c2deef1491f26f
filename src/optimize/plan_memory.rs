//! The memory of a run of a plan, measured where it is: in a process of its own that does nothing else.
//!
//! What the system counts (`VmHWM`) is taken anew for each part of the run: loading a session, each call, what lies between. Beside it stand
//! the bytes that ONNX Runtime's kernels asked for, which are counted exactly, and what the plan predicts.
//!
//! Some systems page out what a process has not looked at for a second, such as weights of a session that waits for its turn. What a
//! run needs where nobody does that is counted with it: between two loads nothing in the run gives pages of files back, so what of
//! them was there in one call and is gone in a later one was taken by the system.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::peak::{high_water_mark, resident, resident_of_files};
use crate::diag::Result;
use crate::plan::Manifest;
use crate::runtime::ffi::PoolCounts;
use crate::runtime::request::{Event, Measured, RunRequest};
use crate::runtime::session::Runtime;
use crate::runtime::{PrepareOptions, Prepared, Run};
use crate::units::Bytes;

/// What a run needed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanMemory {
    /// Resident before the plan was opened: program and library.
    pub empty: Bytes,
    /// The most that was resident at once, with what the system had paged out.
    pub needed: Bytes,
    /// The most that was resident at once.
    pub resident: Bytes,
    /// The parts of the run in order. A part that follows itself is one.
    pub parts: Vec<Part>,
    /// By session, bytes that kernels asked for.
    pub sessions: BTreeMap<String, SessionMemory>,
    /// What the memory of runs counted.
    pub pool: PoolCounts,
}

/// A part of a run: loading a session, or calls of it with what lies between.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// The most that was resident in it.
    pub most: Bytes,
    /// What was resident when it ended.
    pub after: Bytes,
    /// Of that, pages of files: weights, the program and its libraries.
    pub of_files: Bytes,
}

/// What one session asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionMemory {
    /// Its weights, as the plan says.
    pub weights: Bytes,
    /// Weights in the layout of kernels.
    pub kept: Bytes,
    /// The most of activations and scratch at once.
    pub activations: Bytes,
}

/// Runs a plan once, with grey pictures, and says what it needed. To be called by a process that has done nothing else yet.
///
/// # Errors
/// Those of opening and running a plan; `measure/child` where the system does not count.
pub fn measure(library: &Path, folder: &Path) -> Result<PlanMemory> {
    let runtime = Runtime::load(library)?;
    let manifest = Manifest::read(folder)?;
    let empty = high_water_mark()?;
    let grey = manifest.inputs.iter().map(|i| (i.name.clone(), Array3::from_elem((i.fit.0 as usize, i.fit.1 as usize, 3), 128)));
    let request = RunRequest { inputs: grey.collect(), ..RunRequest::default() };
    let weights: BTreeMap<String, u64> = manifest.sessions.iter().map(|s| (s.name.clone(), s.weight_bytes)).collect();
    let prepared = Prepared::open(&runtime, folder, manifest, PrepareOptions::default())?;
    let part = |name| Part { name, most: Bytes(0), after: Bytes(0), of_files: Bytes(0) };
    let mut parts = vec![part("opening".to_owned())];
    let stop = AtomicBool::new(false);
    let mut note = |event: Event| {
        let name = match event {
            Event::Loading(session) => format!("{LOADING}{session}"),
            Event::Call(session, ..) => session,
            Event::Stage(_) | Event::Step(..) => return,
        };
        close(&mut parts);
        if parts.last().is_none_or(|last| last.name != name) {
            parts.push(part(name));
        }
    };
    let outcome = Run::new(&prepared, &request, &stop, &mut note)?.finish()?;
    close(&mut parts);
    let session = |(name, m): (&String, &Measured)| {
        let weights = Bytes(weights.get(name).copied().unwrap_or(0));
        (name.clone(), SessionMemory { weights, kept: m.kept_bytes, activations: m.activation_bytes })
    };
    let sessions = outcome.measured.iter().map(session).collect();
    let resident = parts.iter().map(|p| p.most).max().unwrap_or_default().max(empty);
    let needed = needed(&parts).max(empty);
    Ok(PlanMemory { empty, needed, resident, parts, sessions, pool: runtime.pool().counts() })
}

/// The most of a part, with the pages of files that were there in a call since the last load.
fn needed(parts: &[Part]) -> Bytes {
    let (mut most, mut of_files) = (Bytes(0), Bytes(0));
    for p in parts {
        of_files = if p.name.starts_with(LOADING) { p.of_files } else { of_files.max(p.of_files) };
        most = most.max(p.most + of_files - p.of_files);
    }
    most
}

/// What the name of a part begins with in which a session is loaded.
const LOADING: &str = "loading ";

/// Ends a part: what was resident since the one before counts for it, and the system counts anew.
fn close(parts: &mut [Part]) {
    if let (Some(last), Ok(mark)) = (parts.last_mut(), high_water_mark()) {
        last.most = last.most.max(mark);
        (last.after, last.of_files) = (resident().unwrap_or_default(), resident_of_files().unwrap_or_default());
    }
    // "5" sets the mark to what is resident now (proc(5)). Where that is not allowed marks only grow, and the whole is still right.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_paged_out_counts_until_the_next_load() {
        let part = |name: &str, most, of_files| Part { name: name.into(), most: Bytes(most), after: Bytes(0), of_files: Bytes(of_files) };
        let all = [part("loading a", 90, 50), part("a", 100, 60), part("b", 120, 35), part("loading c", 110, 10), part("c", 125, 12)];
        assert_eq!(needed(&all[..2]), Bytes(100));
        assert_eq!(needed(&all), Bytes(145));
        assert_eq!(needed(&all[3..]), Bytes(125));
    }
}
