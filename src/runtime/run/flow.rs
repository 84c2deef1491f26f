//! Loops and branches of a plan: which steps run, how often, and what of them stays.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ndarray::{ArrayD, Axis, Slice};

use super::super::progress::SavedLoop;
use super::{Event, Run, bug, stopped};
use crate::diag::Result;
use crate::ir::pipeline::{Branch, Value};
use crate::plan::manifest::{Carry, Given, Step};

impl Run<'_> {
    /// Runs a body again and again. Only a loop with no loop around it is saved and resumed: what is carried says all about it, and
    /// branches in it are decided anew by what it carries.
    pub(super) fn looped(&mut self, name: &str, steps: usize, carry: &[Carry], each: &[(usize, usize)], body: &[Step]) -> Result<()> {
        let mut first = 0;
        for c in carry {
            let init = self.values[c.init].clone();
            self.values[c.before] = init;
        }
        let outermost = self.loops == 0;
        if let Some(saved) = self.request.resume.as_ref().filter(|s| outermost && s.name == name) {
            first = saved.done.min(steps);
            for (c, state) in carry.iter().zip(&saved.state) {
                self.values[c.before] = Some(Arc::new(Value::Tensor(state.clone())));
            }
        }
        self.loops += 1;
        for i in first..steps {
            if self.stop.load(Ordering::Relaxed) {
                let done = format!("after step {i} of {steps} of `{name}`");
                return Err(stopped(&done, self.request.save.as_deref()));
            }
            for (array, seen) in each {
                let slice = self.value(*array)?.tensor()?.slice_axis(Axis(0), Slice::from(i..=i)).to_owned();
                self.values[*seen] = Some(Arc::new(Value::Tensor(slice)));
            }
            self.steps(body, i)?;
            for c in carry {
                self.values[c.before] = self.values[c.after].clone();
            }
            if outermost {
                self.save(name, i + 1, carry)?;
            }
            (self.events)(Event::Step(name.into(), i + 1, steps));
        }
        self.loops -= 1;
        for c in carry {
            let last = self.values[c.before].clone();
            self.values[c.result] = last;
        }
        Ok(())
    }

    fn save(&self, name: &str, done: usize, carry: &[Carry]) -> Result<()> {
        let Some(path) = &self.request.save else { return Ok(()) };
        let state: Result<Vec<ArrayD<f32>>> = carry.iter().map(|c| Ok(self.value(c.before)?.tensor()?.to_owned())).collect();
        SavedLoop { plan: self.identity.clone(), name: name.into(), done, state: state? }.write(path)
    }

    /// Runs the arm that `value` decides on and hands on what it gives; what else the arm made goes.
    pub(super) fn branch(
        &mut self,
        (value, below): (usize, f64),
        arms: (&[Step], &[Step]),
        results: &[Given],
        iteration: usize,
    ) -> Result<()> {
        let then = Branch::takes_then(self.number(value)?, below);
        let (taken, other) = if then { arms } else { (arms.1, arms.0) };
        self.steps(taken, iteration)?;
        self.absent(other, 1);
        for given in results {
            let from = if then { given.then } else { given.otherwise };
            let shared = self.values[from].clone().ok_or_else(|| self.unmade(from))?;
            self.share(given.result, shared, iteration)?;
        }
        for made in taken.iter().flat_map(Step::makes) {
            self.free(made);
        }
        Ok(())
    }

    /// The one element of a value.
    fn number(&self, index: usize) -> Result<f32> {
        let first = self.value(index)?.tensor()?.first().copied();
        first.ok_or_else(|| bug("a branch is decided by a value without elements"))
    }

    /// Keeps the places of what steps that do not run would have made `times` times: NaN in what is dumped.
    fn absent(&mut self, steps: &[Step], times: usize) {
        for step in steps {
            match step {
                Step::Loop { steps, body, .. } => self.absent(body, times * steps),
                Step::Branch { then, otherwise, results, .. } => {
                    self.absent(then, times);
                    self.absent(otherwise, times);
                    results.iter().for_each(|g| self.dumps.absent(g.result, times));
                }
                step => step.makes().into_iter().for_each(|v| self.dumps.absent(v, times)),
            }
        }
    }
}
