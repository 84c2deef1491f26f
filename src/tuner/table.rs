//! The figures of every answer, from few compiles.
//!
//! A segment knob changes only the nodes that it governs. So a variant is compiled once for each *index* of its longest
//! list of answers, every segment knob at its answer of that index (the last one if it has fewer), and the sums and maxima that
//! [`GraphCost::by_knob`] keeps for a knob in compile `i` are the figures of its `i`-th answer. What no knob governs must come
//! out the same in all compiles; if it does not, a pass broke that rule, and the tuner says so instead of trusting the table.
//!
//! A graph is compiled once for all arrangements that bind it the same way, and the compile in which its knobs were asked for, with
//! plain answers, is the first of its own table.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::search::{Alternatives, AnswerFigures, Plan, Problem, RoundFigures, UnitFigures};
use super::space::{Arrangement, SessionSpace, Space, Variant};
use crate::cost::graph::{Figures, GraphCost, GraphFigures, WeightBytes};
use crate::cost::pipeline::transient;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::Machine;
use crate::ir::{OpGraph, schedule};
use crate::passes::manager::{head, tail};
use crate::passes::{Choices, Knob, Planned};
use crate::units::Bytes;

/// The figures of one segment knob in one variant, one execution each: what its answers cost, in the order of its answers.
#[derive(Clone, Debug)]
pub struct KnobFigures(pub Vec<Figures>);

/// The figures of one variant, one execution.
#[derive(Clone, Debug)]
pub struct VariantTable {
    /// The session's weights.
    pub weights: WeightBytes,
    /// Tensors that the caller binds.
    pub bound: Bytes,
    /// Steps that no knob governs.
    pub base: Figures,
    /// The segment knobs.
    pub knobs: Vec<KnobFigures>,
}

/// The figures of all variants that differ.
pub struct Tables(Vec<(Variant, VariantTable)>);

/// Variants of one graph that share what the passes make of it: they differ only in how products of f32 are taken.
struct Group<'a> {
    /// Each with its position and with whether products are taken in tf32.
    members: Vec<(usize, bool)>,
    variant: &'a Variant,
    head: OpGraph,
    /// Is it the graph that its knobs were asked for?
    plain: bool,
}

/// One compile: every segment knob at one answer, for all variants of a group.
struct Job<'a> {
    group: &'a Group<'a>,
    index: usize,
}

/// What a compile says about one variant.
struct Sample {
    weights: WeightBytes,
    bound: Bytes,
    by_knob: BTreeMap<Option<Arc<str>>, Figures>,
}

impl Tables {
    /// Compiles what is needed, in parallel.
    ///
    /// # Errors
    /// What the passes return; `internal/bug` if an answer changed nodes that its knob does not govern.
    pub fn of(space: &Space, planned: &Planned) -> Result<Self> {
        let mut variants: Vec<Variant> = Vec::new();
        for v in space.arrangements.iter().flat_map(|a| &a.sessions).flat_map(|s| &s.variants) {
            if !variants.iter().any(|known| same(known, v)) {
                variants.push(v.clone());
            }
        }
        let groups = groups(&variants, planned)?;
        let jobs: Vec<Job<'_>> = groups.iter().flat_map(|group| (0..group.samples()).map(move |index| Job { group, index })).collect();
        let samples: Result<Vec<Vec<Sample>>> = jobs.par_iter().map(|j| j.run(planned)).collect();
        let mut of_variant: Vec<Vec<Sample>> = variants.iter().map(|_| Vec::new()).collect();
        for (job, samples) in jobs.iter().zip(samples?) {
            job.group.members.iter().zip(samples).for_each(|((variant, _), sample)| of_variant[*variant].push(sample));
        }
        let table = |(v, samples): (Variant, Vec<Sample>)| {
            let table = variant_table(&v, &samples).map_err(|why| disagree(&v.bound.session, why))?;
            Ok((v, table))
        };
        Ok(Self(variants.into_iter().zip(of_variant).map(table).collect::<Result<_>>()?))
    }

    /// The figures of a variant.
    ///
    /// # Panics
    /// If the variant is not of the space that the tables were made of.
    pub fn table(&self, variant: &Variant) -> &VariantTable {
        let found = self.0.iter().find(|(v, _)| same(v, variant));
        &found.expect("tables hold every variant of their space").1
    }

    /// The numbers alone, for the search.
    pub fn problem(&self, space: &Space, machine: &Machine) -> Problem {
        Problem::new(machine, space.arrangements.iter().map(|a| self.round(a, machine)).collect())
    }

    fn round(&self, a: &Arrangement, machine: &Machine) -> RoundFigures {
        let unit = |s: &SessionSpace| UnitFigures {
            kept: s.kept,
            loads: s.loads,
            variants: s.variants.iter().map(|v| self.alternatives(s, v, machine)).collect(),
        };
        RoundFigures { departures: a.departures, noise: a.noise, units: a.sessions.iter().map(unit).collect() }
    }

    /// A variant over all calls of its session: times add up, the transient is that of the worst call.
    fn alternatives(&self, session: &SessionSpace, v: &Variant, machine: &Machine) -> Alternatives {
        let table = self.table(v);
        let pieces = v.bound.pieces;
        let executions: u64 = session.calls.iter().map(|c| c.times * pieces).sum();
        let worst = session.calls.iter().map(|c| c.beside).max().unwrap_or_default();
        let all = |f: Figures| {
            let figures = GraphFigures { total: f, bound: table.bound, ..GraphFigures::default() };
            ((f.time * executions).0, transient(&figures, pieces, worst, machine).0.0)
        };
        let answers = |(figures, knob): (&KnobFigures, &Knob)| {
            let answer = |(f, a): (&Figures, &crate::passes::Answer)| {
                let (time, transient) = all(*f);
                AnswerFigures { time, transient, nodes: f.nodes.0, noise: a.quality.noise().0, departs: a.name != knob.plain() }
            };
            figures.0.iter().zip(&knob.answers).map(answer).collect()
        };
        let (time, transient) = all(table.base);
        Alternatives {
            time,
            transient,
            nodes: table.base.nodes.0,
            weights: table.weights,
            noise: v.noise,
            departures: v.departures,
            rows: table.knobs.iter().zip(&v.segments).map(answers).collect(),
        }
    }
}

/// The answers of a plan in words.
pub fn choices(space: &Space, problem: &Problem, plan: &Plan) -> Choices {
    let arrangement = &space.arrangements[plan.round];
    let mut out = arrangement.choices.clone();
    for (unit, session) in arrangement.sessions.iter().enumerate() {
        let pick = problem.pick(plan, unit);
        let variant = &session.variants[pick.variant];
        out = out.and(&variant.globals);
        for (knob, answer) in variant.segments.iter().zip(pick.answers) {
            out.set(knob.id.clone(), &knob.answers[usize::from(*answer)].name);
        }
    }
    out
}

/// Do two variants have the same figures?
fn same(a: &Variant, b: &Variant) -> bool {
    Arc::ptr_eq(&a.bound, &b.bound) && a.globals == b.globals
}

fn groups<'a>(variants: &'a [Variant], planned: &Planned) -> Result<Vec<Group<'a>>> {
    let made: Result<Vec<(OpGraph, bool)>> = variants.par_iter().map(|v| head_of(v, planned)).collect();
    let mut out: Vec<Group<'a>> = Vec::new();
    for (i, (variant, (mut head, plain))) in variants.iter().zip(made?).enumerate() {
        // How products are taken changes figures and no node.
        let tf32 = std::mem::take(&mut head.tf32);
        let shared = |g: &&mut Group<'a>| Arc::ptr_eq(&g.variant.bound, &variant.bound) && g.head.is_copy_of(&head);
        match out.iter_mut().find(shared) {
            Some(group) => group.members.push((i, tf32)),
            None => out.push(Group { members: vec![(i, tf32)], variant, head, plain }),
        }
    }
    Ok(out)
}

/// The graph of a variant before the answers of its segments, and whether it is the plain one.
fn head_of(v: &Variant, planned: &Planned) -> Result<(OpGraph, bool)> {
    let offered = &v.bound.offered;
    let plain = offered.knobs.iter().all(|k| v.globals.get(&k.id).is_none_or(|a| a == k.plain()));
    let head = if plain { offered.head.clone() } else { head(planned.operators(), &v.bound.offered.stem, &planned.cx(&v.globals))? };
    Ok((head, plain))
}

impl Group<'_> {
    /// How many compiles it takes.
    fn samples(&self) -> usize {
        self.variant.segments.iter().map(|k| k.answers.len()).max().unwrap_or(1)
    }
}

impl Job<'_> {
    fn run(&self, planned: &Planned) -> Result<Vec<Sample>> {
        let mut choices = self.group.variant.globals.clone();
        let mut plain = self.group.plain;
        for k in &self.group.variant.segments {
            let answer = &k.answers[self.index.min(k.answers.len() - 1)].name;
            plain &= self.group.variant.bound.offered.knobs.iter().any(|asked| asked.id == k.id && asked.plain() == answer);
            choices.set(k.id.clone(), answer);
        }
        let mut graph = if plain {
            self.group.variant.bound.offered.plain.clone()
        } else {
            tail(planned.operators(), &self.group.head, &planned.cx(&choices))?
        };
        let schedule = schedule(&graph)?;
        let sample = |(_, tf32): &(usize, bool)| {
            graph.tf32 = *tf32;
            let cost = GraphCost::scheduled(&graph, &schedule, planned.machine())?;
            Ok(Sample { weights: cost.weights, bound: cost.bound, by_knob: cost.by_knob })
        };
        self.group.members.iter().map(sample).collect()
    }
}

fn disagree(session: &str, why: &str) -> Diagnostic {
    let message = format!("a segment knob of `{session}` changes {why}, which it does not govern");
    Diagnostic::new("internal/bug", message).note("in the tuner")
}

fn variant_table(variant: &Variant, samples: &[Sample]) -> std::result::Result<VariantTable, &'static str> {
    let first = base(&samples[0], variant);
    if samples.iter().any(|s| s.weights != samples[0].weights) {
        return Err("the weights");
    }
    if samples.iter().any(|s| s.bound != samples[0].bound || base(s, variant) != first) {
        return Err("the cost of nodes");
    }
    let governed = |s: &Sample, k: &Knob| s.by_knob.get(&Some(Arc::from(k.id.as_str()))).copied().unwrap_or_default();
    let figures = |k: &Knob| KnobFigures((0..k.answers.len()).map(|i| governed(&samples[i], k)).collect());
    Ok(VariantTable {
        weights: samples[0].weights,
        bound: samples[0].bound,
        base: first,
        knobs: variant.segments.iter().map(figures).collect(),
    })
}

/// The steps that none of the variant's segment knobs governs.
fn base(sample: &Sample, variant: &Variant) -> Figures {
    let governed = |knob: &Option<Arc<str>>| knob.as_deref().is_some_and(|id| variant.segments.iter().any(|k| k.id == id));
    let mut sum = Figures::default();
    for (_, f) in sample.by_knob.iter().filter(|(knob, _)| !governed(knob)) {
        sum.time += f.time;
        sum.transient = sum.transient.max(f.transient);
        sum.nodes += f.nodes;
    }
    sum
}
