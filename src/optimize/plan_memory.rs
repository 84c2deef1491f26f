//! The memory of a run of a plan, measured where it is: in a process of its own that does nothing else.
//!
//! What the system counts (`VmHWM`) is taken anew for each part of the run: loading a session, each call, what lies between. Beside it stand
//! the bytes that ONNX Runtime's kernels asked for, which are counted exactly, and what the plan predicts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::peak::high_water_mark;
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
    /// The most that was resident at once.
    pub resident: Bytes,
    /// The parts of the run in order, each with the most that was resident in it. A part that follows itself is one.
    pub parts: Vec<(String, Bytes)>,
    /// By session, bytes that kernels asked for.
    pub sessions: BTreeMap<String, SessionMemory>,
    /// What the memory of runs counted.
    pub pool: PoolCounts,
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
    let mut parts: Vec<(String, Bytes)> = vec![("opening".into(), Bytes(0))];
    let stop = AtomicBool::new(false);
    let mut note = |event: Event| {
        let name = match event {
            Event::Loading(session) => format!("loading {session}"),
            Event::Call(session, ..) => session,
            Event::Stage(_) | Event::Step(..) => return,
        };
        close(&mut parts);
        if parts.last().is_none_or(|(last, _)| *last != name) {
            parts.push((name, Bytes(0)));
        }
    };
    let outcome = Run::new(&prepared, &request, &stop, &mut note)?.finish()?;
    close(&mut parts);
    let session = |(name, m): (&String, &Measured)| {
        let weights = Bytes(weights.get(name).copied().unwrap_or(0));
        (name.clone(), SessionMemory { weights, kept: m.kept_bytes, activations: m.activation_bytes })
    };
    let sessions = outcome.measured.iter().map(session).collect();
    let resident = parts.iter().map(|(_, most)| *most).max().unwrap_or_default().max(empty);
    Ok(PlanMemory { empty, resident, parts, sessions, pool: runtime.pool().counts() })
}

/// Ends a part: what was resident since the one before counts for it, and the system counts anew.
fn close(parts: &mut [(String, Bytes)]) {
    if let (Some(last), Ok(mark)) = (parts.last_mut(), high_water_mark()) {
        last.1 = last.1.max(mark);
    }
    // "5" sets the mark to what is resident now (proc(5)). Where that is not allowed marks only grow, and the whole is still right.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
