//! The search on random instances against brute force.

use proptest::prelude::*;

use super::*;
use crate::hwdb;

/// What loading one byte costs on a CPU, picoseconds: times in these units make ties between loading and computing.
const UNIT: u64 = 500;

fn answer() -> impl Strategy<Value = AnswerFigures> {
    (0..4_u64, 0..6_u64, 0..3_u64, 0..2_u64, any::<bool>()).prop_map(|(time, transient, nodes, noise, departs)| AnswerFigures {
        time: time * UNIT,
        transient,
        nodes,
        noise,
        departs,
    })
}

fn alternatives() -> impl Strategy<Value = Alternatives> {
    let rows = prop::collection::vec(prop::collection::vec(answer(), 1..4), 0..4);
    (0..4_u64, 0..4_u64, 0..3_u64, weights(), 0..3_u64, 0..3_u32, rows).prop_map(
        |(time, transient, nodes, weights, noise, departures, rows)| Alternatives {
            time: time * UNIT,
            transient,
            nodes,
            weights,
            noise,
            departures,
            rows,
        },
    )
}

fn weights() -> impl Strategy<Value = WeightBytes> {
    let parts = |(stored, spared, more): (u64, u64, u64)| {
        let spared = spared.min(stored);
        WeightBytes { stored: Bytes(stored), packed: Bytes(spared + more), spared: Bytes(spared) }
    };
    (0..4_u64, 0..4_u64, 0..2_u64).prop_map(parts)
}

/// Each unit with how often its weights are loaded where they are not kept.
fn units() -> impl Strategy<Value = Vec<(u64, Vec<Alternatives>)>> {
    prop::collection::vec((0..3_u64, prop::collection::vec(alternatives(), 1..3)), 1..4)
}

/// Everything loaded from the start, and every unit for itself: the second departs and adds noise, as an approximate answer would.
fn rounds(units: &[(u64, Vec<Alternatives>)], noise: u64) -> Vec<RoundFigures> {
    let round = |stage: bool| RoundFigures {
        departures: u32::from(stage),
        noise: if stage { noise } else { 0 },
        units: units
            .iter()
            .map(|(loads, variants)| UnitFigures { kept: !stage, loads: if stage { *loads } else { 0 }, variants: variants.clone() })
            .collect(),
    };
    vec![round(false), round(true)]
}

/// Time, peak, noise, departures of every plan, from the definitions alone.
fn every_plan(rounds: &[RoundFigures], machine: &Machine) -> Vec<Figures> {
    let mut out = Vec::new();
    for round in rounds {
        // time, sum of kept weights, most that a call needs, noise, departures
        let mut partial = vec![(0, 0, 0, round.noise, round.departures)];
        for unit in &round.units {
            let options: Vec<Answered<'_>> = unit.variants.iter().flat_map(every_answer).collect();
            let extend = |p: &(u64, u64, u64, u64, u32)| {
                let p = *p;
                let with = move |(t, [x, nodes], n, a, d): &Answered<'_>| {
                    let w = a.weights;
                    let (keeps, most) = (w.stored.0 - w.spared.0 + w.packed.0 + nodes, w.spared.0.max(*x));
                    let (sum, own) = if unit.kept { (keeps, most) } else { (0, keeps + most) };
                    (p.0 + t + w.stored.0 * unit.loads * UNIT, p.1 + sum, p.2.max(own), p.3 + n, p.4 + d)
                };
                options.iter().map(with).collect::<Vec<_>>()
            };
            partial = partial.iter().flat_map(extend).collect();
        }
        out.extend(partial.iter().map(|p| (p.0, machine.overhead.0 + p.1 + p.2, p.3, p.4)));
    }
    out
}

/// A variant with its knobs answered: time, transient and what nodes keep, noise, the variant, departures.
type Answered<'a> = (u64, [u64; 2], u64, &'a Alternatives, u32);

fn every_answer<'a>(a: &'a Alternatives) -> Vec<Answered<'a>> {
    let root = vec![(a.time, [a.transient, a.nodes], a.noise, a, a.departures)];
    a.rows.iter().fold(root, |partial, row| {
        let with = |(t, x, n, a, d): &Answered<'a>| {
            let (t, [x, nodes], n, a, d) = (*t, *x, *n, *a, *d);
            let with = |r: &AnswerFigures| (t + r.time, [x.max(r.transient), nodes + r.nodes], n + r.noise, a, d + u32::from(r.departs));
            row.iter().map(with).collect::<Vec<_>>()
        };
        partial.iter().flat_map(with).collect()
    })
}

fn limits(machine: &Machine, extra: Option<u64>, noise: Option<u64>) -> Limits {
    Limits { peak: extra.map(|x| Bytes(machine.overhead.0 + x)), noise: noise.map(Noise), ..Limits::default() }
}

/// (time, peak, noise, departures)
pub(in crate::tuner) type Figures = (u64, u64, u64, u32);

/// What the search must choose among these, by the words of the design.
pub(in crate::tuner) fn chosen(plans: &[Figures], objective: Objective, tolerance: f64) -> Option<Figures> {
    let within = |least: u64| least + (least as f64 * tolerance) as u64;
    let time = |plans: &[Figures]| Some(within(plans.iter().map(|p| p.0).min()?));
    let most = match objective {
        Objective::Latency | Objective::Throughput => (time(plans)?, u64::MAX),
        Objective::Memory => {
            let peak = within(plans.iter().map(|p| p.1).min()?);
            let small: Vec<Figures> = plans.iter().filter(|p| p.1 <= peak).copied().collect();
            (time(&small)?, peak)
        }
    };
    plans.iter().filter(|p| p.0 <= most.0 && p.1 <= most.1).min_by_key(|p| (p.2, p.1, p.3, p.0)).copied()
}

fn within(plans: &[(u64, u64, u64, u32)], limits: &Limits) -> Vec<(u64, u64, u64, u32)> {
    let fits = |p: &&(u64, u64, u64, u32)| limits.fits(p.1) && limits.noise.is_none_or(|n| p.2 <= n.0);
    plans.iter().filter(fits).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_best_plan_is_the_best_of_all(units in units(), added in 0..2_u64, extra in prop::option::of(0..14_u64), noise in prop::option::of(0..5_u64), memory: bool, tolerance in 0..4_u8) {
        let machine = hwdb::machine("x86-cpu-2core").unwrap();
        let limits = Limits { tolerance: f64::from(tolerance) * 0.2, ..limits(&machine, extra, noise) };
        let rounds = rounds(&units, added);
        let plans = every_plan(&rounds, &machine);
        let objective = if memory { Objective::Memory } else { Objective::Latency };
        let want = chosen(&within(&plans, &limits), objective, limits.tolerance);
        let problem = Problem::new(&machine, rounds);
        let found = search(&problem, objective, &limits);
        prop_assert_eq!(found.best.as_ref().map(|p| (p.time, p.peak, p.noise, p.departures)), want);
        prop_assert!(found.complete && found.gap == 0.0);
        let least = within(&plans, &limits).iter().map(|p| if memory { (p.1, p.0) } else { (p.0, p.1) }).min();
        prop_assert_eq!(found.first.as_ref().map(|p| if memory { (p.peak, p.time) } else { (p.time, p.peak) }), least);
        let noise_only = within(&plans, &Limits { peak: None, ..limits });
        prop_assert_eq!(found.least.map(|p| p.peak), noise_only.iter().map(|p| p.1).min());
        let efficient = |p: &(u64, u64, u64, u32)| !noise_only.iter().any(|o| (o.0 <= p.0 && o.1 < p.1) || (o.0 < p.0 && o.1 <= p.1));
        let mut front: Vec<(u64, u64)> = noise_only.iter().filter(|p| efficient(p)).map(|p| (p.1, p.0)).collect();
        front.sort_unstable();
        front.dedup();
        prop_assert_eq!(found.front.iter().map(|p| (p.peak, p.time)).collect::<Vec<_>>(), front);
    }

    #[test]
    fn a_deadline_leaves_a_plan_that_fits_and_a_gap_that_holds(units in units(), added in 0..2_u64, extra in prop::option::of(0..14_u64), noise in prop::option::of(0..5_u64), memory: bool) {
        let machine = hwdb::machine("x86-cpu-2core").unwrap();
        let exact = limits(&machine, extra, noise);
        let rounds = rounds(&units, added);
        let plans = within(&every_plan(&rounds, &machine), &exact);
        let objective = if memory { Objective::Memory } else { Objective::Latency };
        let problem = Problem::new(&machine, rounds);
        let found = search(&problem, objective, &Limits { deadline: Some(Instant::now()), ..exact });
        prop_assert!(!found.complete);
        if let Some(best) = found.best {
            prop_assert!(plans.contains(&(best.time, best.peak, best.noise, best.departures)));
            let figure = |time: u64, peak: u64| if memory { peak } else { time } as f64;
            let optimum = plans.iter().map(|p| figure(p.0, p.1)).fold(f64::INFINITY, f64::min);
            let had = figure(best.time, best.peak);
            prop_assert!(had * (1.0 - found.gap) <= optimum * (1.0 + 1e-12) && (0.0..=1.0).contains(&found.gap));
        }
    }
}

#[test]
fn without_a_limit_a_deadline_always_leaves_a_plan() {
    let machine = hwdb::machine("x86-cpu-2core").unwrap();
    let one = Alternatives {
        time: 7,
        transient: 3,
        nodes: 0,
        weights: WeightBytes { stored: Bytes(2), ..WeightBytes::default() },
        noise: 0,
        departures: 0,
        rows: vec![vec![AnswerFigures { time: 1, transient: 9, nodes: 0, noise: 0, departs: false }]],
    };
    let problem = Problem::new(&machine, rounds(&[(1, vec![one.clone()]), (1, vec![one])], 0));
    let found = search(&problem, Objective::Latency, &Limits { deadline: Some(Instant::now()), ..Limits::default() });
    assert_eq!(found.best.map(|b| (b.time, b.peak)), Some((16, machine.overhead.0 + 13)));
}
