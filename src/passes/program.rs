//! From a program to what a plan runs, in the three parts into which its passes fall.
//!
//! ```text
//! Program ─ passes that ask nothing ─► Planned ─ pipeline passes that ask ─► Arranged ─ passes over each session ─► Lowered
//! ```
//! Whoever compiles once calls [`compile`](super::compile). A search does the first part once, the second for every arrangement of
//! the calls, and the third for the plan that it finds; it is the same passes in the same order.

use std::ops::Deref;
use std::sync::Arc;

use indexmap::IndexMap;
use rayon::prelude::*;

use super::level::IrLevel;
use super::manager::{Checks, Compiled, Debugging, Run, run_passes};
use super::placement::elsewhere;
use super::{Choices, Knob, Leveled, Pass, PassCx, PassRecord, Trace, order};
use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::pipeline::WHOLE;
use crate::ir::{OpGraph, Program};

/// The passes by level, in their order.
pub struct Passes {
    /// Pipeline passes before the first that asks something.
    fixed: Vec<Box<dyn Pass<Program>>>,
    /// The other pipeline passes.
    asking: Vec<Box<dyn Pass<Program>>>,
    /// Those over the graph of each session.
    operators: Vec<Box<dyn Pass>>,
}

impl std::fmt::Debug for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pipeline = self.fixed.iter().chain(&self.asking).map(|p| p.info().id);
        f.debug_list().entries(pipeline.chain(self.operators.iter().map(|p| p.info().id))).finish()
    }
}

impl Passes {
    /// The passes of an order; those over the pipeline stand before those over operators.
    pub fn of(order: Vec<Leveled>) -> Self {
        let mut passes = Self { fixed: Vec::new(), asking: Vec::new(), operators: Vec::new() };
        for pass in order {
            match pass {
                Leveled::Operator(pass) => passes.operators.push(pass),
                Leveled::Pipeline(pass) if passes.asking.is_empty() && pass.info().asks.is_none() => passes.fixed.push(pass),
                Leveled::Pipeline(pass) => passes.asking.push(pass),
            }
        }
        passes
    }
}

/// A program for a machine after the passes that ask nothing: its models are cut, its calls have sessions.
#[derive(Clone, Debug)]
pub struct Planned {
    program: Program,
    machine: Machine,
    debugging: Debugging,
    records: Vec<PassRecord>,
    passes: Arc<Passes>,
}

impl Planned {
    /// Runs the passes.
    ///
    /// # Errors
    /// A bug of a pass: what it makes is verified.
    pub fn of(program: &Program, machine: &Machine, debugging: &Debugging) -> Result<Self> {
        Self::with(Arc::new(Passes::of(order())), program, machine, debugging)
    }

    /// The same with passes of another order.
    ///
    /// # Errors
    /// As [`Planned::of`].
    pub fn with(passes: Arc<Passes>, program: &Program, machine: &Machine, debugging: &Debugging) -> Result<Self> {
        let mut program = program.clone();
        let choices = Choices::default();
        let cx = PassCx { machine, choices: &choices, debugging };
        let (records, _) = over(&[], &passes.fixed, &mut program, &cx, Checks::Full)?;
        Ok(Self { program, machine: machine.clone(), debugging: debugging.clone(), records, passes })
    }

    /// The answers that the user gives, and those that the graph gives where the user says nothing.
    pub fn given(&self, by_user: &Choices) -> Choices {
        let in_graph = self.program.pipeline.choose.iter().map(|(knob, answer)| (knob.value.as_str().into(), answer.value.clone()));
        Choices(in_graph.collect()).and(by_user)
    }

    /// Checks answers against the knobs on offer; what is wrong in the graph is told at its place.
    ///
    /// # Errors
    /// As [`Choices::check`].
    pub fn check(&self, given: &Choices, knobs: &[Knob]) -> Result<()> {
        let Some((id, d)) = given.wrong(knobs) else { return Ok(()) };
        let written = self
            .program
            .pipeline
            .choose
            .iter()
            .find(|(knob, answer)| knob.value == id.as_str() && given.get(id) == Some(answer.value.as_str()));
        let place = written.map(|(knob, answer)| if d.code == "tune/unknown-knob" { &knob.span } else { &answer.span });
        Err(Box::new(d.maybe_at(place, "chosen here")))
    }

    /// The device.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The passes over the graph of each session.
    pub fn operators(&self) -> &[Box<dyn Pass>] {
        &self.passes.operators
    }

    /// What passes may look at, with these answers.
    pub fn cx<'a>(&'a self, choices: &'a Choices) -> PassCx<'a> {
        PassCx { machine: &self.machine, choices, debugging: &self.debugging }
    }

    /// Runs the pipeline passes that ask something; with what they ask.
    ///
    /// # Errors
    /// A bug of a pass.
    pub fn arranged(&self, choices: &Choices, checks: Checks) -> Result<Arranged> {
        let mut program = self.program.clone();
        let (records, knobs) = over(&self.passes.fixed, &self.passes.asking, &mut program, &self.cx(choices), checks)?;
        Ok(Arranged { program, records, knobs })
    }

    /// Runs all passes that are left.
    ///
    /// # Errors
    /// What a pass or the binding of sizes returns; `pass/no-kernel` for an operator that the provider cannot take.
    pub fn compile(&self, choices: &Choices, checks: Checks) -> Result<Lowered> {
        let arranged = self.arranged(choices, checks)?;
        let session = |(name, graph): (String, OpGraph)| Ok((name, run_passes(self.operators(), &graph, &self.cx(choices), checks)?));
        let sessions: Result<Vec<(String, Compiled)>> = arranged.sessions()?.into_par_iter().map(session).collect();
        let sessions = sessions?;
        sessions.iter().try_for_each(|(_, s)| elsewhere(&s.graph, self.machine.target).map(drop))?;
        let records = self.records.iter().cloned().chain(arranged.records).collect();
        Ok(Lowered { program: arranged.program, sessions: sessions.into_iter().collect(), choices: choices.clone(), records })
    }
}

impl Deref for Planned {
    type Target = Program;
    fn deref(&self) -> &Program {
        &self.program
    }
}

/// A program of which every call has its session, its pieces and its device, and every session its loads.
#[derive(Clone, Debug)]
pub struct Arranged {
    /// The program.
    pub program: Program,
    /// What the passes did.
    pub records: Vec<PassRecord>,
    /// What they asked.
    pub knobs: Vec<Knob>,
}

impl Arranged {
    /// The graph of each session, bound to the sizes of its calls, in the order of the first call.
    ///
    /// # Errors
    /// `graph/model-size` if a model cannot take the sizes.
    pub fn sessions(&self) -> Result<Vec<(String, OpGraph)>> {
        self.program.sessions().into_iter().map(|site| Ok((site.session.clone(), self.program.bound(&site)?))).collect()
    }

    /// A knob of a session as the pipeline sees it: a part of a model that was cut has its share of the model's noise.
    pub fn knob(&self, session: &str, knob: Knob) -> Knob {
        let model = self.program.sessions().into_iter().find(|s| s.session == session).map(|s| s.model);
        let share = model.and_then(|m| self.program.pipeline.models.get(&m)).map_or(WHOLE, |m| m.share);
        knob.of_part(share, WHOLE)
    }
}

/// A program after all passes: what is costed, written and run.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The program; what was decided about its calls stands in it.
    pub program: Program,
    /// The graph of each session, provider operators in their order.
    pub sessions: IndexMap<String, Compiled>,
    /// The answers that were given.
    pub choices: Choices,
    /// What the passes over the pipeline did.
    records: Vec<PassRecord>,
}

impl Lowered {
    /// What all passes did: over the pipeline, then over each session.
    pub fn trace(&self) -> Trace {
        let sessions = self.sessions.values().flat_map(|c| c.trace.records.clone());
        Trace { records: self.records.iter().cloned().chain(sessions).collect() }
    }
}

/// Runs pipeline passes over a program, behind those that are `done`; what they did and what they asked, each of what the passes before
/// it left.
fn over(
    done: &[Box<dyn Pass<Program>>],
    passes: &[Box<dyn Pass<Program>>],
    program: &mut Program,
    cx: &PassCx<'_>,
    checks: Checks,
) -> Result<(Vec<PassRecord>, Vec<Knob>)> {
    let unit = program.pipeline.name.clone();
    let established = done.iter().flat_map(|p| p.info().establishes).copied().collect();
    let mut run = Run::new(&unit, established, cx, checks);
    let mut knobs = Vec::new();
    for pass in passes {
        knobs.extend(pass.knobs(program, cx.machine));
        run.pass(&**pass, program)?;
    }
    program.check()?;
    Ok((run.records, knobs))
}
