//! The formulas against measurements: public ones of GPUs, and our own of two CPUs. The bounds are what is reached, so that
//! an edit that makes predictions worse fails here.

#![expect(clippy::float_cmp, reason = "equal figures are meant to be equal to the last bit")]

use super::*;
use crate::cost::latency::{MemoryKind, latency};
use crate::hwdb::{Database, FittedParams};

const OPENXLA: &str = include_str!("../../tests/data/latency/gemm_openxla.csv");
const NEUSIGHT: &str = include_str!("../../tests/data/latency/ops_neusight.csv");
const CPU_POINTS: [(&str, &str); 2] =
    [("cpu-avx2", include_str!("../../hwdb/points/cpu-avx2.csv")), ("cpu-avx512", include_str!("../../hwdb/points/cpu-avx512.csv"))];

fn machine(key: &str) -> Machine {
    Machine::new(&Database::default().load(key).unwrap())
}

fn precision(name: &str) -> Precision {
    serde_json::from_value(serde_json::Value::String(name.into())).unwrap()
}

/// Rows of `text` whose columns begin with `want`; the last five columns are numbers.
fn rows<'a>(text: &'a str, want: &'a [&'a str]) -> impl Iterator<Item = [f64; 5]> + 'a {
    text.lines()
        .map(|l| l.split(',').collect::<Vec<_>>())
        .filter(move |c| c.starts_with(want))
        .map(|c| std::array::from_fn(|i| c[c.len() - 5 + i].parse().unwrap()))
}

fn products(text: &str, want: &[&str], p: Precision) -> Vec<Point> {
    let point = |[b, m, n, k, us]: [f64; 5]| {
        let [b, m, n, k] = [b, m, n, k].map(|x| x as u64);
        Point::new(Work::Gemm { b, m, n, k, extra_bytes: 0 }, p, us * 1e-6)
    };
    rows(text, want).map(point).collect()
}

/// `count` of the points, at even quantiles of FLOP, and the others.
fn split(mut points: Vec<Point>, count: usize) -> (Vec<Point>, Vec<Point>) {
    points.sort_by_key(|p| p.work.flop());
    let chosen: Vec<usize> = (0..count).map(|i| (2 * i + 1) * points.len() / (2 * count)).collect();
    let (a, b): (Vec<_>, Vec<_>) = points.into_iter().enumerate().partition(|(i, _)| chosen.contains(i));
    let strip = |v: Vec<(usize, Point)>| v.into_iter().map(|(_, p)| p).collect();
    (strip(a), strip(b))
}

/// The machine with `family` fitted to `points`; `t0` is the fixed time of the harness that measured.
fn fitted(key: &str, family: Family, points: &[Point], t0: f64) -> Machine {
    let mut m = machine(key);
    let mut prior = *m.params(family, points[0].precision);
    prior.t0 = t0;
    let fit = fit(&m, family, &prior, points);
    m.set_params(family, fit.params);
    m
}

fn check(what: &str, error: f64, most: f64) {
    assert!(error <= most, "{what}: {:.1} % > {:.1} %", error * 100.0, most * 100.0);
    assert!(error > most * 0.6, "{what}: {:.1} % is far below {:.1} %: tighten the bound", error * 100.0, most * 100.0);
}

#[test]
fn tensor_core_products_fit_from_24_points() {
    for (key, name, most) in
        [("h100-sxm", "bf16", 0.06), ("b200", "bf16", 0.07), ("b200", "fp8", 0.07), ("h100-sxm", "fp8", 0.18), ("h100-sxm", "tf32", 0.15)]
    {
        let (few, rest) = split(products(OPENXLA, &[key, name], precision(name)), 24);
        check(&format!("{key} {name}"), mean_error(&rest, &fitted(key, Family::Gemm, &few, 5.6e-6)), most);
    }
}

#[test]
fn a_fit_transfers_to_another_chip() {
    for (from, to, most) in [("h100-sxm", "b200", 0.10), ("b200", "h100-sxm", 0.15)] {
        let (few, _) = split(products(OPENXLA, &[from, "bf16"], Precision::Bf16), 24);
        let source = fitted(from, Family::Gemm, &few, 5.6e-6);
        let mut target = machine(to);
        target.set_params(Family::Gemm, *source.params(Family::Gemm, Precision::Bf16));
        check(&format!("{from} to {to}"), mean_error(&products(OPENXLA, &[to, "bf16"], Precision::Bf16), &target), most);
    }
}

/// Not a blind test: the priors were chosen with these measurements in view.
#[test]
fn priors_alone_predict_products() {
    for (key, name, most) in
        [("h100-sxm", "bf16", 0.09), ("b200", "bf16", 0.07), ("h100-sxm", "fp8", 0.27), ("b200", "fp8", 0.08), ("h100-sxm", "tf32", 0.20)]
    {
        check(&format!("{key} {name}"), mean_error(&products(OPENXLA, &[key, name], precision(name)), &machine(key)), most);
    }
}

/// The error of the priors of `key` when only the fixed time is that of the harness that measured.
fn prior_error(key: &str, family: Family, points: &[Point]) -> f64 {
    let mut m = machine(key);
    let mut params = *m.params(family, Precision::F32);
    params.t0 = 3.5e-5;
    m.set_params(family, params);
    mean_error(points, &m)
}

#[test]
fn priors_alone_predict_fp32_products() {
    for (operator, most) in [("bmm", [0.19, 0.22, 0.14, 0.15]), ("linear", [0.08, 0.11, 0.17, 0.12])] {
        for (key, most) in ["a100-pcie-80gb", "a100-pcie-40gb", "h100-sxm", "v100-pcie"].into_iter().zip(most) {
            let points = products(NEUSIGHT, &[key, operator], Precision::F32);
            check(&format!("{key} {operator}"), prior_error(key, Family::Gemm, &points), most);
        }
    }
}

#[test]
fn batched_fp32_products_fit_from_24_points() {
    for (key, most) in [("a100-pcie-80gb", 0.025), ("a100-pcie-40gb", 0.06), ("h100-sxm", 0.07), ("v100-pcie", 0.13)] {
        let (few, rest) = split(products(NEUSIGHT, &[key, "bmm"], Precision::F32), 24);
        check(key, mean_error(&rest, &fitted(key, Family::Gemm, &few, 3e-5)), most);
    }
}

#[test]
fn linear_fp32_products_fit_from_24_points() {
    for (key, most) in [("a100-pcie-80gb", 0.08), ("a100-pcie-40gb", 0.11), ("h100-sxm", 0.10), ("v100-pcie", 0.09)] {
        let (few, rest) = split(products(NEUSIGHT, &[key, "linear"], Precision::F32), 24);
        check(key, mean_error(&rest, &fitted(key, Family::Gemm, &few, 4e-5)), most);
    }
}

fn memory_points(key: &str, operator: &str, kind: MemoryKind) -> Vec<Point> {
    let tensors = if operator == "add" { 2.0 } else { 1.0 };
    let point = |[_, m, n, _, us]: [f64; 5]| {
        let bytes = 4.0 * m * n;
        let work = Work::Memory { kind, read: (tensors * bytes) as u64, written: bytes as u64 };
        Point::new(work, Precision::F32, us * 1e-6)
    };
    rows(NEUSIGHT, &[key, operator]).map(point).collect()
}

/// Operator, its kind, and for A100, L4, T4 and V100 the error of the priors and of a fit to 12 points; zeros where there is no data.
type MemoryRow = (&'static str, MemoryKind, [(f64, f64); 4]);
const MEMORY: [MemoryRow; 4] = [
    ("add", MemoryKind::Elementwise, [(0.11, 0.013), (0.05, 0.009), (0.07, 0.006), (0.16, 0.005)]),
    ("gelu", MemoryKind::Activation, [(0.0, 0.0), (0.05, 0.007), (0.10, 0.005), (0.14, 0.006)]),
    ("ln", MemoryKind::Norm, [(0.19, 0.16), (0.30, 0.10), (0.15, 0.11), (0.04, 0.035)]),
    ("softmax", MemoryKind::Softmax, [(0.15, 0.14), (0.10, 0.05), (0.18, 0.18), (0.21, 0.19)]),
];

#[test]
fn memory_bound_operators_are_predicted_by_priors_and_fit_from_12_points() {
    for (operator, kind, rows) in MEMORY {
        for (key, (prior, fit)) in ["a100-pcie-80gb", "l4", "t4", "v100-pcie"].into_iter().zip(rows) {
            let points = memory_points(key, operator, kind);
            if points.is_empty() {
                assert_eq!((prior, fit), (0.0, 0.0), "{key} {operator}");
                continue;
            }
            check(&format!("{key} {operator}, prior"), prior_error(key, kind_family(kind), &points), prior);
            let (few, rest) = split(points, 12);
            check(&format!("{key} {operator}, fit"), mean_error(&rest, &fitted(key, kind_family(kind), &few, 3e-5)), fit);
        }
    }
}

fn kind_family(kind: MemoryKind) -> Family {
    Work::Memory { kind, read: 0, written: 0 }.family().unwrap()
}

fn conv_points(key: &str) -> Vec<Point> {
    let point = |[b, cin, cout, side, us]: [f64; 5]| {
        let [batch, cin, cout, side] = [b, cin, cout, side].map(|x| x as u64);
        let in_elems = batch * cin * side * side;
        let work = Work::Conv { batch, cin, cout, groups: 1, kernel: [1, 3, 3], out: [1, side, side], in_elems, extra_bytes: 0 };
        Point::new(work, Precision::F32, us * 1e-6)
    };
    rows(NEUSIGHT, &[key, "conv"]).map(point).collect()
}

/// The choice of algorithm decides, which the formula does not know: the bound says how wide the interval has to be.
#[test]
fn fp32_convolutions_with_odd_channels_fit_roughly() {
    for (key, most) in [("a100-pcie-80gb", 0.40), ("v100-pcie", 0.40), ("t4", 0.46)] {
        let (few, rest) = split(conv_points(key), 24);
        check(key, mean_error(&rest, &fitted(key, Family::Conv, &few, 4e-5)), most);
    }
}

/// The work of one row of a CPU profile's raw points; chains and anything else measure the dispatch.
fn cpu_work(family: &str, shape: &str, bytes: u64) -> Option<Work> {
    let s: Vec<u64> = shape.split(|c: char| !c.is_ascii_digit()).filter_map(|x| x.parse().ok()).collect();
    let memory = |kind| Work::Memory { kind, read: bytes / 2, written: bytes - bytes / 2 };
    Some(match family {
        "gemm" | "bmm" => Work::Gemm { b: s[0], m: s[1], n: s[2], k: s[3], extra_bytes: 0 },
        "conv" => Work::Conv {
            batch: s[0],
            cin: s[1],
            cout: s[2],
            groups: 1,
            kernel: [1, s[5], s[6]],
            out: [1, s[3], s[4]],
            in_elems: s[0] * s[1] * s[3] * s[4],
            extra_bytes: 0,
        },
        "attention" => Work::Attention { b: s[0], h: s[1], lq: s[2], lk: s[3], dh: s[4], fused: true, q_tiles: 1 },
        "elementwise" if shape.starts_with("sigmoid") => memory(MemoryKind::Activation),
        "elementwise" => memory(MemoryKind::Elementwise),
        "norm" => memory(MemoryKind::Norm),
        "softmax" => memory(MemoryKind::Softmax),
        "transpose" if shape.ends_with(">0213") => memory(MemoryKind::Copy),
        "transpose" => memory(MemoryKind::Transpose),
        "copy" => memory(MemoryKind::Copy),
        _ => return None,
    })
}

/// Points of one CPU without the floor of an empty session run, which is not part of an operator. What is not a microsecond
/// above the floor cannot be told from it.
fn cpu_points(text: &str) -> Vec<Point> {
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|l| l.split(',').collect()).collect();
    let number = |c: &Vec<&str>, i: usize| c[i].parse::<f64>().unwrap();
    let floor = rows.iter().find(|c| c[2] == "chain 1").map_or(0.0, |c| number(c, 5));
    let point = |c: &Vec<&str>| {
        let work = cpu_work(c[0], c[2], number(c, 4) as u64)?;
        let us = number(c, 5) - floor;
        (us > 1.0).then(|| Point::new(work, precision(c[1]), us * 1e-6))
    };
    rows.iter().filter_map(point).collect()
}

fn cpu_fit(key: &str, family: Family, p: Precision, points: &[Point]) -> Option<FittedParams> {
    let points: Vec<Point> = points.iter().copied().filter(|x| x.work.family() == Some(family) && x.precision == p).collect();
    if points.len() < 3 {
        return None;
    }
    let found = fit(&machine(key), family, machine("x86-cpu-8core-avx2").params(family, p), &points);
    let round = |x: f64| (x * 1e4).round() / 1e4;
    let q = found.params;
    let [eta, eta_w, t0_us, gamma, rho, k0] = [q.eta, q.eta_w, q.t0 * 1e6, q.gamma, q.rho, q.k0].map(round);
    Some(FittedParams {
        family,
        precision: None,
        eta,
        eta_w,
        t0_us,
        gamma,
        rho,
        k0,
        points: points.len() as u32,
        error: round(found.error),
    })
}

/// The fits of the CPU profiles are what their raw points give. `VIDC_UPDATE=1` rewrites them.
#[test]
fn cpu_profiles_hold_the_fits_of_their_points() {
    let update = std::env::var_os("VIDC_UPDATE").is_some();
    for (key, text) in CPU_POINTS {
        let points = cpu_points(text);
        let want: Vec<FittedParams> = Family::broad_ones().filter_map(|family| cpu_fit(key, family, Precision::F32, &points)).collect();
        let have = Database::default().load(key).unwrap().calibration.unwrap().fits;
        if have == want {
            continue;
        }
        assert!(update, "hwdb/{key}.yaml is stale; VIDC_UPDATE=1 rewrites its fits\n{want:#?}");
        let path = format!("{}/hwdb/{key}.yaml", env!("CARGO_MANIFEST_DIR"));
        let old = std::fs::read_to_string(&path).unwrap();
        let kept = old.lines().filter(|l| !l.starts_with("    - {family:")).map(|l| format!("{l}\n"));
        let new = want.iter().map(|f| {
            let json = serde_json::to_string(f).unwrap().replace('"', "").replace(':', ": ").replace(',', ", ");
            format!("    - {json}\n")
        });
        std::fs::write(&path, kept.chain(new).collect::<String>()).unwrap();
    }
}

#[test]
fn cpu_fits_are_close_to_their_points() {
    for key in ["cpu-avx2", "cpu-avx512"] {
        for fit in Database::default().load(key).unwrap().calibration.unwrap().fits {
            let most = if key == "cpu-avx2" { 0.30 } else { 0.40 };
            assert!(fit.error < most, "{key} {:?}: {}", fit.family, fit.error);
        }
    }
}

#[test]
fn a_fit_recovers_the_parameters_that_made_the_points() {
    let mut m = machine("rtx3090");
    let mut truth = *m.params(Family::Gemm, Precision::F16);
    (truth.eta, truth.t0) = (0.7, 9e-6);
    m.set_params(Family::Gemm, Params::new(truth.eta, truth.eta_w, truth.t0, truth.gamma, truth.rho, truth.k0, 0.1, ParamOrigin::Measured));
    let sizes = [64, 256, 640, 1280, 4096];
    let works = sizes.iter().flat_map(|m| sizes.iter().map(move |k| Work::Gemm { b: 1, m: *m, n: 1280, k: *k, extra_bytes: 0 }));
    let points: Vec<Point> = works.map(|work| Point::new(work, Precision::F16, latency(&work, Precision::F16, &m).time.secs())).collect();
    let found = fit(&machine("rtx3090"), Family::Gemm, machine("rtx3090").params(Family::Gemm, Precision::F16), &points);
    assert!(found.error < 0.01 && (found.params.eta / 0.7 - 1.0).abs() < 0.05, "{found:?}");
    assert_eq!(
        found.params,
        fit(&machine("rtx3090"), Family::Gemm, machine("rtx3090").params(Family::Gemm, Precision::F16), &points).params
    );
}

#[test]
fn broken_points_are_ignored() {
    let m = machine("rtx3090");
    let prior = m.params(Family::Gemm, Precision::F16);
    let point = |seconds| Point::new(Work::Gemm { b: 1, m: 64, n: 64, k: 64, extra_bytes: 0 }, Precision::F16, seconds);
    let found = fit(&m, Family::Gemm, prior, &[point(f64::NAN), point(0.0), point(-1.0), point(f64::INFINITY)]);
    assert_eq!(found.error, 0.0);
    assert!((found.params.eta - prior.eta).abs() < 1e-3);
}
