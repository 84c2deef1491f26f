//! The search space: every knob of a pipeline with its answers.
//!
//! A *pipeline* knob (residency) changes who runs and who is loaded when, so each combination of their answers is an
//! [`Arrangement`] of its own. Within one, a model's own knobs (guidance, element type) change tensors everywhere in the model, and
//! guidance even changes which segment knobs there are and what they can answer (a batch of 50 images can be cut otherwise than one
//! of 25). So the space of a session is a list of [`Variant`]s, one for each combination of its model's answers, each with its own
//! segment knobs. Sessions do not see each other.

use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use crate::diag::{Diagnostic, Result};
use crate::ir::CallSite;
use crate::ir::pipeline::Moment;
use crate::passes::manager::{Offered, offered};
use crate::passes::{Arranged, Checks, Choices, Knob, Planned, Scope};
use crate::units::Bytes;

/// A session's graph for one binding of sizes, with what its passes offer: shared by every arrangement that binds it so.
pub struct Bound {
    /// The session.
    pub session: String,
    /// Pieces of a call.
    pub pieces: u64,
    /// The graph with plain answers, and the knobs of model and segments.
    pub offered: Offered,
    /// Extents that the calls give, and the model: what decides the graph.
    key: (String, Vec<Vec<i64>>),
}

/// One combination of a model's answers.
#[derive(Clone)]
pub struct Variant {
    /// The answers.
    pub globals: Choices,
    /// How many of them are not the plain one.
    pub departures: u32,
    /// Their noise.
    pub noise: u64,
    /// The graph.
    pub bound: Arc<Bound>,
    /// The segment knobs, with the answers that a search tries.
    pub segments: Vec<Knob>,
}

/// A call of a session, as far as its figures go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFigures {
    /// How often it is made.
    pub times: u64,
    /// Values of the pipeline that wait meanwhile.
    pub beside: Bytes,
}

/// The space of one session in one arrangement.
#[derive(Clone)]
pub struct SessionSpace {
    /// The session.
    pub session: String,
    /// What is left of the variants once answers that were given are taken out.
    pub variants: Vec<Variant>,
    /// Its calls.
    pub calls: Vec<CallFigures>,
    /// How often a run loads it.
    pub loads: u64,
    /// Is it loaded during the calls of all others too?
    pub kept: bool,
}

/// One combination of answers to the pipeline's knobs.
#[derive(Clone)]
pub struct Arrangement {
    /// The answers.
    pub choices: Choices,
    /// How many of them are not the plain one.
    pub departures: u32,
    /// Their noise.
    pub noise: u64,
    /// The sessions in the order of their first call.
    pub sessions: Vec<SessionSpace>,
}

/// The space of a pipeline.
pub struct Space {
    /// What is left of the arrangements once answers that were given are taken out.
    pub arrangements: Vec<Arrangement>,
    /// Every knob with all of its answers: the pipeline's own first, then those of each session.
    pub knobs: Vec<Knob>,
}

/// What is asked of a space.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Answers that are given.
    pub fixed: &'a Choices,
    /// May answers be taken of which nobody knows what they cost?
    pub unmeasured: bool,
}

impl Space {
    /// The space that is left when some answers are given.
    ///
    /// # Errors
    /// `tune/unknown-knob` and `tune/not-in-domain` for given answers; what binding and the passes return.
    pub fn of(planned: &Planned, wanted: Wanted<'_>) -> Result<Self> {
        let plain = planned.arranged(&Choices::default(), Checks::Fast)?;
        let asked: Vec<Knob> = plain.knobs.into_iter().filter(|k| k.scope == Scope::Pipeline).collect();
        let maker = Maker { planned, wanted, bounds: Mutex::new(Vec::new()) };
        let searched: Vec<Knob> = asked.iter().map(|k| maker.searched(k.clone())).collect();
        let mut space = Self { arrangements: Vec::new(), knobs: asked.clone() };
        for choices in combinations(&searched) {
            let (arrangement, knobs) = maker.arrangement(choices, &asked)?;
            space.arrangements.extend(arrangement);
            knobs.into_iter().for_each(|k| unite(&mut space.knobs, k));
        }
        planned.check(wanted.fixed, &space.knobs)?;
        if space.arrangements.is_empty() {
            let d = Diagnostic::new("tune/not-in-domain", "the given answers exclude each other");
            let help = "which answers a segment's knob has depends on the answers of its model; leave one of them open";
            return Err(Box::new(d.help(help)));
        }
        Ok(space)
    }

    /// How many combinations of answers are left.
    pub fn combinations(&self) -> u128 {
        let segments = |v: &Variant| v.segments.iter().fold(1, |n: u128, k| n.saturating_mul(k.answers.len() as u128));
        let session = |s: &SessionSpace| s.variants.iter().map(segments).fold(0, u128::saturating_add);
        let arrangement = |a: &Arrangement| a.sessions.iter().map(session).fold(1, u128::saturating_mul);
        self.arrangements.iter().map(arrangement).fold(0, u128::saturating_add)
    }
}

struct Maker<'a> {
    planned: &'a Planned,
    wanted: Wanted<'a>,
    /// Every graph that was bound so far.
    bounds: Mutex<Vec<Arc<Bound>>>,
}

impl Maker<'_> {
    /// The answers of a knob that are searched. An answer that is given and not known stays to be told about.
    fn searched(&self, knob: Knob) -> Knob {
        let known = self.wanted.fixed.get(&knob.id).is_none_or(|name| knob.answer(name).is_some());
        if known { knob.searched(self.wanted.fixed, self.wanted.unmeasured) } else { knob }
    }

    /// The arrangement of these answers, if any variant of each session is left; and the knobs of its sessions.
    fn arrangement(&self, choices: Choices, asked: &[Knob]) -> Result<(Option<Arrangement>, Vec<Knob>)> {
        let plain = self.planned.arranged(&choices, Checks::Fast)?;
        let names: Vec<String> = plain.program.sessions().into_iter().map(|s| s.session).collect();
        let session = |name: &String| self.session(name, &choices, &plain);
        let parts: Result<Vec<(SessionSpace, Vec<Knob>)>> = names.par_iter().map(session).collect();
        let (sessions, knobs): (Vec<SessionSpace>, Vec<Vec<Knob>>) = parts?.into_iter().unzip();
        let whole = sessions.iter().all(|s| !s.variants.is_empty());
        let (departures, noise) = weight(&choices, asked);
        let arrangement = Arrangement { choices, departures, noise, sessions };
        Ok((whole.then_some(arrangement), knobs.into_iter().flatten().collect()))
    }

    /// The space of one session, and its knobs.
    fn session(&self, name: &str, choices: &Choices, plain: &Arranged) -> Result<(SessionSpace, Vec<Knob>)> {
        let asked: Vec<Knob> = plain.knobs.iter().filter(|k| k.model() == Some(name)).cloned().collect();
        let searched: Vec<Knob> = asked.iter().map(|k| self.searched(k.clone())).collect();
        let under = |own: Choices| {
            let arranged = self.planned.arranged(&choices.clone().and(&own), Checks::Fast)?;
            let bound = self.bound(name, &arranged)?;
            let offered: Vec<Knob> = bound.offered.knobs.iter().map(|k| arranged.knob(name, k.clone())).collect();
            Ok((self.variants(&own, &asked, &offered, &bound), offered))
        };
        let parts: Result<Vec<(Vec<Variant>, Vec<Knob>)>> = combinations(&searched).into_par_iter().map(under).collect();
        let mut knobs = asked.clone();
        let mut variants = Vec::new();
        for (of_part, offered) in parts? {
            variants.extend(of_part);
            offered.into_iter().for_each(|k| unite(&mut knobs, k));
        }
        let walk = plain.program.pipeline.walk();
        let mine: Vec<&Moment<'_>> = walk.moments.iter().filter(|m| m.placement.session == name).collect();
        let loads = if walk.unloaded.contains(name) { mine.iter().map(|m| m.loads).sum() } else { 0 };
        let calls = mine.iter().map(|m| CallFigures { times: m.times, beside: Bytes(m.beside) }).collect();
        let kept = walk.moments.iter().all(|m| m.loaded.contains(name));
        Ok((SessionSpace { session: name.into(), variants, calls, loads, kept }, knobs))
    }

    /// A variant for each combination of the answers of the operator passes that concern the whole model.
    fn variants(&self, own: &Choices, asked: &[Knob], offered: &[Knob], bound: &Arc<Bound>) -> Vec<Variant> {
        let searched: Vec<Knob> = offered.iter().map(|k| self.searched(k.clone())).collect();
        let (globals, segments): (Vec<Knob>, Vec<Knob>) = searched.into_iter().partition(|k| k.scope != Scope::Segment);
        if segments.iter().any(|k| k.answers.is_empty()) {
            return Vec::new();
        }
        let knobs: Vec<Knob> = asked.iter().chain(offered).cloned().collect();
        let variant = |answers: Choices| {
            let globals = answers.and(own);
            let (departures, noise) = weight(&globals, &knobs);
            Variant { globals, departures, noise, bound: bound.clone(), segments: segments.clone() }
        };
        combinations(&globals).into_iter().map(variant).collect()
    }

    /// The graph of a session in an arrangement, made once for all that bind it the same way.
    fn bound(&self, session: &str, arranged: &Arranged) -> Result<Arc<Bound>> {
        let missing = || Diagnostic::new("internal/bug", format!("an answer takes the session `{session}` away"));
        let site: CallSite = arranged.program.sessions().into_iter().find(|s| s.session == session).ok_or_else(missing)?;
        let key = (site.model.clone(), site.extents.clone());
        let pieces = site.pieces.max(1) as u64;
        let known = |b: &&Arc<Bound>| b.session == session && b.pieces == pieces && b.key == key;
        if let Some(found) = self.lock().iter().find(known) {
            return Ok(found.clone());
        }
        let graph = arranged.program.bound(&site)?;
        let plain = Choices::default();
        let offered = offered(self.planned.operators(), &graph, &self.planned.cx(&plain))?;
        let bound = Arc::new(Bound { session: session.into(), pieces, offered, key });
        self.lock().push(bound.clone());
        Ok(bound)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Bound>>> {
        self.bounds.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How many answers are not the plain ones, and the noise of all of them.
fn weight(choices: &Choices, knobs: &[Knob]) -> (u32, u64) {
    let departures = choices.departures(knobs);
    let noise = departures.iter().map(|(_, a)| a.quality.noise()).sum::<crate::cost::quality::Noise>();
    (departures.len() as u32, noise.0)
}

/// Adds a knob, or the answers that a knob of the same name does not have yet.
fn unite(knobs: &mut Vec<Knob>, knob: Knob) {
    match knobs.iter_mut().find(|k| k.id == knob.id) {
        Some(old) => {
            let new: Vec<_> = knob.answers.into_iter().filter(|a| old.answer(&a.name).is_none()).collect();
            old.answers.extend(new);
        }
        None => knobs.push(knob),
    }
}

/// Every combination of answers.
fn combinations(knobs: &[Knob]) -> Vec<Choices> {
    let extend = |partial: Vec<Choices>, knob: &Knob| {
        let with = |c: &Choices, answer: &str| {
            let mut c = c.clone();
            c.set(knob.id.clone(), answer);
            c
        };
        partial.iter().flat_map(|c| knob.answers.iter().map(move |a| with(c, &a.name))).collect()
    };
    knobs.iter().fold(vec![Choices::default()], extend)
}
