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
    /// How often the call is made at most: the product of the steps of the loops around it.
    pub times: u64,
    /// How often it is made at least: not at all in an arm of a branch, which may never be taken.
    pub least: u64,
    /// How often its session is loaded right for it in a run, at most; none if it finds the session loaded by a call before.
    pub loads: u64,
    /// The same at least.
    pub least_loads: u64,
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
        let mut walker = Walker {
            walk: Walk::default(),
            loaded: BTreeSet::new(),
            fresh: BTreeMap::new(),
            beside: self.alive_beside_calls().into_iter(),
        };
        walker.graph(&self.graph, Runs { least: 1, most: 1 });
        walker.walk
    }
}

/// How often a graph runs.
#[derive(Clone, Copy, Default)]
struct Runs {
    least: u64,
    most: u64,
}

struct Walker<'p> {
    walk: Walk<'p>,
    loaded: BTreeSet<&'p str>,
    /// Loads that no call has used yet.
    fresh: BTreeMap<&'p str, Runs>,
    beside: std::vec::IntoIter<u64>,
}

impl<'p> Walker<'p> {
    fn graph(&mut self, graph: &'p PipeGraph, runs: Runs) {
        for id in graph.order() {
            let node = graph.node(id);
            match &node.op {
                PipeOp::Load(session) => {
                    self.loaded.insert(session);
                    self.fresh.insert(session, runs);
                }
                PipeOp::Unload(session) => {
                    self.loaded.remove(session.as_str());
                    self.walk.unloaded.insert(session);
                }
                PipeOp::Call(call) => self.call(&node.name, call, runs),
                PipeOp::Loop(l) => {
                    let steps = l.steps.max(0) as u64;
                    self.graph(&l.body, Runs { least: runs.least.saturating_mul(steps), most: runs.most.saturating_mul(steps) });
                }
                PipeOp::Branch(b) => b.arms().into_iter().for_each(|arm| self.graph(arm, Runs { least: 0, ..runs })),
                PipeOp::Input { .. } | PipeOp::Argument { .. } | PipeOp::Prim(_) => {}
            }
        }
    }

    fn call(&mut self, node: &'p str, call: &'p Call, runs: Runs) {
        let beside = self.beside.next().unwrap_or(0);
        let Some(placement) = &call.placement else { return };
        let loads = self.fresh.remove(placement.session.as_str()).unwrap_or_default();
        self.walk.moments.push(Moment {
            node,
            call,
            placement,
            times: runs.most,
            least: runs.least,
            loads: loads.most,
            least_loads: loads.least,
            loaded: self.loaded.clone(),
            beside,
        });
    }
}
