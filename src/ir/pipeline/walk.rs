//! What is in memory while a pipeline runs: one walk over the nodes in their order, which cost, tuner and tests read.
//!
//! ```text
//! load A   run A   unload A   load B   loop { run B }   unload B        two moments: {A}, {B}
//! load A   load B   loop { run A   run B }                              two moments: {A, B}, {A, B}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, PipeGraph, PipeOp, Pipeline, Placement};

/// A call while it runs.
#[derive(Clone, Debug)]
pub struct Moment<'p> {
    /// Name of the node.
    pub node: &'p str,
    /// The call.
    pub call: &'p Call,
    /// What runs it.
    pub placement: &'p Placement,
    /// How often the call is made: the product of the steps of the loops around it.
    pub times: u64,
    /// How often its session is loaded right for it in a run; none if it finds the session loaded by a call before.
    pub loads: u64,
    /// Sessions in memory meanwhile, the call's own among them.
    pub loaded: BTreeSet<&'p str>,
    /// Bytes of values that are alive beside those that the call reads and makes.
    pub beside: u64,
}

/// What happens over a whole run.
#[derive(Clone, Debug, Default)]
pub struct Walk<'p> {
    /// The calls, in the order in which they are first made.
    pub moments: Vec<Moment<'p>>,
    /// Sessions that something unloads. The others are loaded once and stay, for further runs too.
    pub unloaded: BTreeSet<&'p str>,
}

impl Pipeline {
    /// Walks over a pipeline whose calls have sessions; calls without one are left out.
    pub fn walk(&self) -> Walk<'_> {
        let mut walker = Walker { walk: Walk::default(), loaded: BTreeSet::new(), fresh: BTreeMap::new(), beside: self.alive_beside_calls().into_iter() };
        walker.graph(&self.graph, 1);
        walker.walk
    }
}

struct Walker<'p> {
    walk: Walk<'p>,
    loaded: BTreeSet<&'p str>,
    /// Loads that no call has used yet.
    fresh: BTreeMap<&'p str, u64>,
    beside: std::vec::IntoIter<u64>,
}

impl<'p> Walker<'p> {
    fn graph(&mut self, graph: &'p PipeGraph, times: u64) {
        for id in graph.order() {
            let node = graph.node(id);
            match &node.op {
                PipeOp::Load(session) => {
                    self.loaded.insert(session);
                    *self.fresh.entry(session).or_default() += times;
                }
                PipeOp::Unload(session) => {
                    self.loaded.remove(session.as_str());
                    self.walk.unloaded.insert(session);
                }
                PipeOp::Call(call) => {
                    let beside = self.beside.next().unwrap_or(0);
                    let Some(placement) = &call.placement else { continue };
                    let loads = self.fresh.remove(placement.session.as_str()).unwrap_or(0);
                    self.walk.moments.push(Moment { node: &node.name, call, placement, times, loads, loaded: self.loaded.clone(), beside });
                }
                PipeOp::Loop(l) => self.graph(&l.body, times.saturating_mul(l.steps.max(0) as u64)),
                PipeOp::Input { .. } | PipeOp::Argument { .. } | PipeOp::Prim(_) => {}
            }
        }
    }
}
