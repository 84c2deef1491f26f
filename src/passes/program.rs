//! The passes over a whole program: what is decided before a model is looked at alone.
//!
//! The tuner and the plan take a [`Planned`] program and nothing else, so that what is costed, compiled and tested is what the
//! command line runs.

use std::ops::Deref;

use super::manager::Debugging;
use super::{PassRecord, hoist};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::Program;

/// A program after the passes over programs.
#[derive(Clone, Debug)]
pub struct Planned {
    program: Program,
    records: Vec<PassRecord>,
}

impl Planned {
    /// Runs the passes.
    ///
    /// # Errors
    /// A bug of a pass: what it makes is verified.
    pub fn of(program: &Program, machine: &Machine, debugging: &Debugging) -> Result<Self> {
        let mut planned = Self { program: program.clone(), records: Vec::new() };
        // What loops need not repeat stands before them, whatever is answered later.
        planned.records.extend(hoist::run(&mut planned.program, machine, &debugging.disable)?);
        Ok(planned)
    }

    /// What the passes did.
    pub fn records(&self) -> &[PassRecord] {
        &self.records
    }
}

impl Deref for Planned {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}
