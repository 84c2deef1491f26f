//! The figures of every answer, from few compiles.
//!
//! A segment knob changes only the nodes that it governs. So a variant is compiled once for each *index* of its longest
//! domain, every segment knob at its answer of that index (the last one if it has fewer), and the sums and maxima that
//! [`GraphCost::by_knob`] keeps for a knob in compile `i` are the figures of its `i`-th answer. What no knob governs must come
//! out the same in all compiles; if it does not, a pass broke that rule, and the tuner says so instead of trusting the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::search::{Alternatives, Answer, Pick, Plan, Problem};
use super::space::{ModelSpace, Space, Variant};
use super::{Stage, Stages};
use crate::cost::graph::{Figures, GraphCost};
use crate::cost::pipeline::Residency;
use crate::cost::quality::Noise;
use crate::diag::{Diagnostic, Result};
use crate::hwdb::{Machine, Precision};
use crate::ir::{OpGraph, schedule};
use crate::passes::assign_precision::{knob_id, precision};
use crate::passes::manager::{head, tail};
use crate::passes::{Choices, Knob, RESIDENCY};
use crate::units::Bytes;

/// How products of f32 tensors are computed in a model of this precision.
pub fn f32_as(p: Precision) -> Precision {
    if p == Precision::Tf32 { p } else { Precision::F32 }
}

/// The figures of one segment knob in one variant.
#[derive(Clone, Debug)]
pub struct Row {
    /// The knob.
    pub id: String,
    /// The answer in words, and its figures over all stages of the model: time of all executions, and what its worst step
    /// needs with the bound tensors.
    pub answers: Vec<(String, Figures)>,
}

/// The figures of one variant of a model.
#[derive(Clone, Debug)]
pub struct VariantTable {
    /// The model's weights.
    pub weights: Bytes,
    /// Loads of the model during the run, where it is not kept.
    pub loads: u64,
    /// Noise of its element type.
    pub noise: Noise,
    /// Steps that no knob governs: all executions, worst step with the bound tensors.
    pub base: Figures,
    /// The segment knobs.
    pub rows: Vec<Row>,
}

/// The figures of a pipeline: for each model, for each variant.
#[derive(Clone, Debug)]
pub struct Tables {
    /// In the order of [`Space::models`] and [`ModelSpace::variants`].
    pub models: Vec<Vec<VariantTable>>,
}

/// Variants of one model that share their graphs: they differ only in how f32 is multiplied.
struct Group<'a> {
    model: usize,
    /// One of them.
    variant: &'a Variant,
    /// The global answers that decide the graph.
    globals: Choices,
    /// Each with how it multiplies.
    members: Vec<(usize, Precision)>,
}

/// One compile: every segment knob at one answer, for all variants of a group.
struct Job<'a> {
    model: usize,
    members: &'a [(usize, Precision)],
    /// Position in [`Bound::stages`](super::space::Bound::stages).
    stage: usize,
    head: &'a OpGraph,
    choices: Choices,
}

/// What a compile says about one variant.
struct Sample {
    weights: Bytes,
    bound: Bytes,
    by_knob: BTreeMap<Option<Arc<str>>, Figures>,
}

impl Tables {
    /// Compiles what is needed, in parallel.
    ///
    /// # Errors
    /// What the passes return; `internal/bug` if an answer changed nodes that its knob does not govern.
    pub fn of(space: &Space, stages: &Stages<'_>, machine: &Machine) -> Result<Self> {
        let groups: Vec<Group<'_>> = space.models.iter().enumerate().flat_map(|(i, m)| groups(i, m)).collect();
        let heads: Result<Vec<Vec<OpGraph>>> = groups.par_iter().map(|g| g.heads(machine)).collect();
        let heads = heads?;
        let jobs: Vec<Job<'_>> = groups.iter().zip(&heads).flat_map(|(g, heads)| g.jobs(heads)).collect();
        let samples: Result<Vec<Vec<Sample>>> = jobs.par_iter().map(|j| run(j, machine)).collect();
        let mut by_variant: BTreeMap<(usize, usize), Vec<Vec<Sample>>> = BTreeMap::new();
        for (job, samples) in jobs.iter().zip(samples?) {
            for ((variant, _), sample) in job.members.iter().zip(samples) {
                let of_stage = by_variant.entry((job.model, *variant)).or_default();
                of_stage.resize_with(of_stage.len().max(job.stage + 1), Vec::new);
                of_stage[job.stage].push(sample);
            }
        }
        let table = |(i, m): (usize, &ModelSpace)| -> Result<Vec<VariantTable>> {
            m.variants.iter().enumerate().map(|(v, variant)| variant_table(m, variant, &by_variant[&(i, v)], stages, machine)).collect()
        };
        Ok(Self { models: space.models.iter().enumerate().map(table).collect::<Result<_>>()? })
    }

    /// The numbers alone, for the search.
    pub fn problem<'a>(&self, space: &Space, machine: &'a Machine) -> Problem<'a> {
        let alternatives = |t: &VariantTable, v: &Variant| Alternatives {
            time: t.base.time.0,
            transient: t.base.transient.0,
            weights: t.weights.0,
            loads: t.loads,
            noise: t.noise.0,
            departures: v.departures,
            rows: t.rows.iter().zip(&v.segments).map(|(row, knob)| answers(row, knob)).collect(),
        };
        let unit =
            |(tables, m): (&Vec<VariantTable>, &ModelSpace)| tables.iter().zip(&m.variants).map(|(t, v)| alternatives(t, v)).collect();
        Problem::new(machine, space.residencies.clone(), self.models.iter().zip(&space.models).map(unit).collect())
    }

    /// The answers of a plan in words.
    pub fn choices(&self, space: &Space, problem: &Problem<'_>, plan: &Plan) -> Choices {
        let mut out = Choices::default();
        out.set(RESIDENCY, plan.residency.name());
        for (unit, (model, tables)) in space.models.iter().zip(&self.models).enumerate() {
            let Pick { variant, answers } = problem.pick(plan, unit);
            out.0.extend(model.variants[variant].globals.0.clone());
            for (row, answer) in tables[variant].rows.iter().zip(answers) {
                out.set(&row.id, &row.answers[*answer as usize].0);
            }
        }
        debug_assert!(Residency::from_name(out.get(RESIDENCY).unwrap_or_default()).is_some());
        out
    }
}

fn answers(row: &Row, knob: &Knob) -> Vec<Answer> {
    let plain = |text: &str| text == knob.default();
    row.answers.iter().map(|(text, f)| Answer { time: f.time.0, transient: f.transient.0, departs: !plain(text) }).collect()
}

fn groups(model: usize, space: &ModelSpace) -> Vec<Group<'_>> {
    let knob = knob_id(&space.model);
    let mut out: Vec<Group<'_>> = Vec::new();
    for (i, variant) in space.variants.iter().enumerate() {
        let p = precision(variant.globals.get(&knob));
        let mut globals = variant.globals.clone();
        if p == Precision::Tf32 {
            globals.set(&knob, "f32");
        }
        match out.iter_mut().find(|g| Arc::ptr_eq(&g.variant.bound, &variant.bound) && g.globals == globals) {
            Some(g) => g.members.push((i, f32_as(p))),
            None => out.push(Group { model, variant, globals, members: vec![(i, f32_as(p))] }),
        }
    }
    out
}

impl Group<'_> {
    /// What all compiles of the group have in common, a graph a stage.
    fn heads(&self, machine: &Machine) -> Result<Vec<OpGraph>> {
        self.variant.bound.stages.par_iter().map(|(_, graph, _)| head(graph, machine, &self.globals)).collect()
    }

    fn jobs<'a>(&'a self, heads: &'a [OpGraph]) -> Vec<Job<'a>> {
        let segments = &self.variant.segments;
        let longest = segments.iter().map(|k| k.domain.len()).max().unwrap_or(1);
        let job = |stage: usize, i: usize| {
            let mut choices = self.globals.clone();
            for k in segments {
                choices.set(&k.id, &k.domain[i.min(k.domain.len() - 1)]);
            }
            Job { model: self.model, members: &self.members, stage, head: &heads[stage], choices }
        };
        (0..heads.len()).flat_map(|stage| (0..longest).map(move |i| (stage, i))).map(|(stage, i)| job(stage, i)).collect()
    }
}

fn run(job: &Job<'_>, machine: &Machine) -> Result<Vec<Sample>> {
    let graph = tail(job.head, machine, &job.choices)?;
    let schedule = schedule(&graph)?;
    let sample = |(_, p): &(usize, Precision)| {
        let cost = GraphCost::scheduled(&graph, &schedule, *p, machine)?;
        Ok(Sample { weights: cost.weights, bound: cost.bound, by_knob: cost.by_knob })
    };
    job.members.iter().map(sample).collect()
}

fn variant_table(
    space: &ModelSpace,
    variant: &Variant,
    samples: &[Vec<Sample>],
    stages: &Stages<'_>,
    machine: &Machine,
) -> Result<VariantTable> {
    let p = precision(variant.globals.get(&knob_id(&space.model)));
    let empty = |k: &Knob| Row { id: k.id.clone(), answers: k.domain.iter().map(|d| (d.clone(), Figures::default())).collect() };
    let mut out = VariantTable {
        weights: Bytes(0),
        loads: 0,
        noise: Noise(0),
        base: Figures::default(),
        rows: variant.segments.iter().map(empty).collect(),
    };
    for ((index, _, pieces), samples) in variant.bound.stages.iter().zip(samples) {
        let stage: &Stage = &stages.stages[*index];
        out.loads += stage.loads;
        out.weights = out.weights.max(samples[0].weights);
        out.noise = out.noise.max(stages.noise(stage, p));
        let runs = Runs { executions: stage.site.times * pieces, pieces: *pieces, beside: stage.on_device(machine) };
        add_stage(&mut out, variant, samples, &runs).map_err(|why| disagree(space, stage, why))?;
    }
    Ok(out)
}

fn disagree(space: &ModelSpace, stage: &Stage, why: &str) -> Diagnostic {
    let message = format!("a segment knob of the model `{}` changes {why}, which it does not govern", space.model);
    Diagnostic::new("internal/bug", message).note(format!("in the tuner, inputs {:?}", stage.site.extents))
}

/// How a stage runs its model, and what else is in the device's memory meanwhile.
struct Runs {
    executions: u64,
    pieces: u64,
    beside: Bytes,
}

fn add_stage(out: &mut VariantTable, variant: &Variant, samples: &[Sample], runs: &Runs) -> std::result::Result<(), &'static str> {
    let first = base(&samples[0], variant);
    if samples.iter().any(|s| s.weights != samples[0].weights) {
        return Err("the weights");
    }
    if samples.iter().any(|s| s.bound != samples[0].bound || base(s, variant) != first) {
        return Err("the cost of nodes");
    }
    let all =
        |f: Figures| Figures { time: f.time * runs.executions, transient: samples[0].bound * runs.pieces + f.transient + runs.beside };
    join(&mut out.base, all(first));
    for row in &mut out.rows {
        for (i, (_, figures)) in row.answers.iter_mut().enumerate() {
            let governed = samples[i].by_knob.get(&Some(Arc::from(row.id.as_str()))).copied().unwrap_or_default();
            join(figures, all(governed));
        }
    }
    Ok(())
}

fn join(to: &mut Figures, more: Figures) {
    to.time += more.time;
    to.transient = to.transient.max(more.transient);
}

/// The steps that none of the variant's segment knobs governs.
fn base(sample: &Sample, variant: &Variant) -> Figures {
    let governed = |knob: &Option<Arc<str>>| knob.as_deref().is_some_and(|id| variant.segments.iter().any(|k| k.id == id));
    let mut sum = Figures::default();
    sample.by_knob.iter().filter(|(knob, _)| !governed(knob)).for_each(|(_, f)| join(&mut sum, *f));
    sum
}
