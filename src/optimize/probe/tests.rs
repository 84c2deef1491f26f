//! Points that are made up are fitted again, and what is written is read back.

use super::*;
use crate::cost::latency::latency_as;
use crate::hwdb::{Database, Machine, Params, parse};
use crate::optimize::probe::calibrate::calibrate;

fn host() -> Host {
    Host { model: "Some CPU".into(), cores: 2, memory: Some(16 << 30), avx2: true, avx512: false }
}

fn machine() -> Machine {
    Machine::new(&Database::default().load("cpu-avx2").unwrap())
}

/// Products, convolutions of two classes and copies, which take what a machine with known parameters predicts.
fn made_up() -> (Machine, Measurements) {
    let mut machine = machine();
    let with = |p: &Params, eta: f64, t0: f64| Params::new(eta, p.eta_w, t0, p.gamma, p.rho, p.k0, p.sigma, p.provenance);
    for (class, eta, t0) in
        [(Family::Gemm, 0.9, 5e-6), (Family::Conv, 0.6, 8e-6), (Family::ConvThin, 0.15, 4e-6), (Family::Copy, 0.8, 2e-6)]
    {
        let params = with(machine.params(class, Precision::F32), eta, t0);
        machine.set_params(class, params);
    }
    let sizes = [16_u64, 64, 160, 320, 640, 1024];
    let works = sizes.iter().flat_map(|m| {
        let conv = |cin: u64| Work::Conv {
            batch: 1,
            cin,
            cout: 64,
            groups: 1,
            kernel: [3, 3, 1],
            out: [*m, 16, 1],
            in_elems: cin * m * 16,
            extra_bytes: 256,
        };
        sizes.map(|k| (Family::Gemm, Work::Gemm { b: 1, m: *m, n: 320, k, extra_bytes: 0 })).into_iter().chain([
            (Family::Conv, conv(64)),
            (Family::ConvThin, conv(4)),
            (Family::Copy, Work::Memory { kind: MemoryKind::Copy, read: m * m * m, written: m * m * m }),
        ])
    });
    let point = |(class, work): (Family, Work)| {
        let seconds = latency_as(class, &work, Precision::F32, &machine).time.secs();
        Measured { case: "made up".into(), op: "Op".into(), point: Point { class, work, precision: Precision::F32, seconds } }
    };
    let kernels = works.map(point).collect();
    (machine, Measurements { kernels, dispatch: 1e-6 })
}

#[test]
fn fits_predict_the_points_that_they_were_made_of() {
    let (_, measured) = made_up();
    let calibrated = calibrate(&machine(), &measured);
    for fit in &calibrated.fits {
        assert!(fit.error < 0.06, "{:?} is off by {:.1} %", fit.family, fit.error * 100.0);
    }
    let rows: Vec<Family> = calibrated.fits.iter().map(|f| f.family).collect();
    assert!(rows.contains(&Family::ConvThin) && rows.contains(&Family::Conv) && !rows.contains(&Family::Softmax), "{rows:?}");
}

#[test]
fn what_is_written_is_read_back_and_fits_its_host() {
    let (_, measured) = made_up();
    let calibrated = calibrate(&machine(), &measured);
    let detected = crate::hwdb::detect::profile_of(&host()).unwrap();
    let about = About {
        engine_version: "1.31.1".into(),
        engine: "onnxruntime-cpu".into(),
        date: "2026-12-01".into(),
        command: "vidc hw probe".into(),
        points: "cpu.csv".into(),
    };
    let profile = profile_of(&detected, &host(), &calibrated, &about);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cpu.yaml");
    write(&profile, (&points(&measured), &points_path(&path)), &path).unwrap();
    assert!(ours(&path).is_ok() && ours(&points_path(&path)).is_ok());
    let read = parse("cpu.yaml", &std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(read.calibration, profile.calibration);
    assert_eq!((Machine::new(&read).dram, Machine::new(&read).l2), (Machine::new(&profile).dram, Machine::new(&profile).l2));
    let database = Database::new(Some(folder.path().into())).with_engine("1.31.1");
    assert!(matches!(database.probe(&host()).unwrap(), crate::hwdb::Probe::Fits(_)));
    // The raw points are whole: fitted again they give the same profile.
    let again = Measurements { kernels: read_points(&std::fs::read_to_string(points_path(&path)).unwrap()), ..measured };
    assert_eq!(again.kernels.len(), made_up().1.kernels.len());
    assert!(again.kernels.iter().zip(&made_up().1.kernels).all(|(a, b)| a.point.work == b.point.work && a.point.class == b.point.class));
}

#[test]
fn a_file_of_somebody_else_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cpu.yaml");
    std::fs::write(&path, "schema: 1\n").unwrap();
    assert!(ours(&path).is_err());
}

#[test]
fn kernels_of_a_small_graph_are_timed() {
    let Some(runtime) = crate::runtime::session::tests::test_runtime() else { return };
    let case = super::super::cases::cases().unwrap().into_iter().next().unwrap();
    let options = crate::runtime::session::SessionOptions { threads: 1, ..Default::default() };
    let found = super::super::measure::measure_case(&runtime, &machine(), &case, &options, 0.05).unwrap();
    let classes: std::collections::BTreeSet<Family> = found.iter().map(|m| m.point.class).collect();
    assert!(found.iter().all(|m| m.point.seconds > 0.0));
    assert!(classes.contains(&Family::Conv) && classes.contains(&Family::InstanceNorm), "{classes:?}");
}
