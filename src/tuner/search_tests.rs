//! The search on random instances against brute force.

use proptest::prelude::*;

use super::*;
use crate::hwdb;

/// What loading one byte costs on a CPU, picoseconds: times in these units make ties between loading and computing.
const UNIT: u64 = 500;

fn answer() -> impl Strategy<Value = Answer> {
    (0..4_u64, 0..6_u64, any::<bool>()).prop_map(|(time, transient, departs)| Answer { time: time * UNIT, transient, departs })
}

fn alternatives() -> impl Strategy<Value = Alternatives> {
    let rows = prop::collection::vec(prop::collection::vec(answer(), 1..4), 0..4);
    (0..4_u64, 0..4_u64, 0..4_u64, 0..3_u64, 0..3_u64, 0..3_u32, rows).prop_map(
        |(time, transient, weights, loads, noise, departures, rows)| Alternatives {
            time: time * UNIT,
            transient,
            weights,
            loads,
            noise,
            departures,
            rows,
        },
    )
}

fn units() -> impl Strategy<Value = Vec<Vec<Alternatives>>> {
    prop::collection::vec(prop::collection::vec(alternatives(), 1..3), 1..4)
}

/// Time, peak, noise, departures of every plan, from the definitions alone.
fn every_plan(units: &[Vec<Alternatives>], machine: &Machine) -> Vec<(u64, u64, u64, u32)> {
    let mut out = Vec::new();
    for stage in [false, true] {
        // time, sum of weights, most transient, most weights and transient together, noise, departures
        let mut partial = vec![(0, 0, 0, 0, 0, u32::from(stage))];
        for unit in units {
            let options: Vec<(u64, u64, &Alternatives, u32)> = unit.iter().flat_map(every_answer).collect();
            let extend = |p: &(u64, u64, u64, u64, u64, u32)| {
                let p = *p;
                let with = move |(t, x, a, d): &(u64, u64, &Alternatives, u32)| {
                    let load = if stage { a.weights * a.loads * UNIT } else { 0 };
                    (p.0 + t + load, p.1 + a.weights, p.2.max(*x), p.3.max(a.weights + x), p.4 + a.noise, p.5 + d)
                };
                options.iter().map(with).collect::<Vec<_>>()
            };
            partial = partial.iter().flat_map(extend).collect();
        }
        let peak = |p: &(u64, u64, u64, u64, u64, u32)| machine.overhead.0 + if stage { p.3 } else { p.1 + p.2 };
        out.extend(partial.iter().map(|p| (p.0, peak(p), p.4, p.5)));
    }
    out
}

fn every_answer(a: &Alternatives) -> Vec<(u64, u64, &Alternatives, u32)> {
    let root = vec![(a.time, a.transient, a, a.departures)];
    a.rows.iter().fold(root, |partial, row| {
        let with = |(t, x, a, d): &(u64, u64, _, u32)| {
            let (t, x, a, d) = (*t, *x, *a, *d);
            row.iter().map(move |r| (t + r.time, x.max(r.transient), a, d + u32::from(r.departs))).collect::<Vec<_>>()
        };
        partial.iter().flat_map(with).collect()
    })
}

fn limits(machine: &Machine, extra: Option<u64>, noise: Option<u64>) -> Limits {
    Limits { peak: extra.map(|x| upper(Bytes(machine.overhead.0 + x))), noise: noise.map(Noise), ..Limits::default() }
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
    fn the_best_plan_is_the_best_of_all(units in units(), extra in prop::option::of(0..14_u64), noise in prop::option::of(0..5_u64), memory: bool, tolerance in 0..4_u8) {
        let machine = hwdb::machine("x86-cpu-2core").unwrap();
        let limits = Limits { tolerance: f64::from(tolerance) * 0.2, ..limits(&machine, extra, noise) };
        let plans = every_plan(&units, &machine);
        let objective = if memory { Objective::Memory } else { Objective::Latency };
        let want = chosen(&within(&plans, &limits), objective, limits.tolerance);
        let problem = Problem::new(&machine, Residency::ALL.to_vec(), units);
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
    fn a_deadline_leaves_a_plan_that_fits_and_a_gap_that_holds(units in units(), extra in prop::option::of(0..14_u64), noise in prop::option::of(0..5_u64), memory: bool) {
        let machine = hwdb::machine("x86-cpu-2core").unwrap();
        let exact = limits(&machine, extra, noise);
        let plans = within(&every_plan(&units, &machine), &exact);
        let objective = if memory { Objective::Memory } else { Objective::Latency };
        let problem = Problem::new(&machine, Residency::ALL.to_vec(), units);
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
        weights: 2,
        loads: 1,
        noise: 0,
        departures: 0,
        rows: vec![vec![Answer { time: 1, transient: 9, departs: false }]],
    };
    let problem = Problem::new(&machine, Residency::ALL.to_vec(), vec![vec![one.clone()], vec![one]]);
    let found = search(&problem, Objective::Latency, &Limits { deadline: Some(Instant::now()), ..Limits::default() });
    assert_eq!(found.best.map(|b| (b.time, b.peak)), Some((16, machine.overhead.0 + 13)));
}
