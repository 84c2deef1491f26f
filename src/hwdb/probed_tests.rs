//! Which profile this machine gets.

use super::*;
use crate::hwdb::{Machine, parse};

fn host() -> Host {
    Host { model: "Some CPU".into(), cores: 2, memory: Some(16 << 30), avx2: true, avx512: false }
}

/// A folder with the profile of a probe of this machine and version, whose products run at a tenth of the peak.
fn folder(machine: &str, engine_version: &str) -> tempfile::TempDir {
    let mut profile = profile_of(&host()).unwrap();
    let calibration = profile.calibration.as_mut().unwrap();
    (calibration.machine, calibration.engine_version) = (machine.into(), engine_version.into());
    calibration.fits.iter_mut().for_each(|f| f.eta = 0.1);
    let mut fields = serde_json::to_value(&profile).unwrap();
    fields.as_object_mut().unwrap().shift_remove("origin");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cpu.yaml"), format!("{PROBED}\n{}", serde_saphyr::to_string(&fields).unwrap())).unwrap();
    folder
}

fn eta(database: &Database) -> f64 {
    let machine = Machine::new(&database.host(&host()).unwrap());
    machine.params(crate::hwdb::Family::Gemm, crate::hwdb::Precision::F32).eta
}

#[test]
fn a_probe_of_this_machine_is_used_and_any_other_is_not() {
    let shipped = eta(&Database::default());
    let check = |machine: &str, version: &str, engine: Option<&str>, fits: bool| {
        let folder = folder(machine, version);
        let mut database = Database::new(Some(folder.path().into()));
        if let Some(engine) = engine {
            database = database.with_engine(engine);
        }
        let probe = database.probe(&host()).unwrap();
        assert_eq!(matches!(probe, Probe::Fits(_)), fits, "{machine} {version} {engine:?}");
        assert_eq!(matches!(probe, Probe::Stale(_)), !fits);
        let expected = if fits { 0.1 } else { shipped };
        assert!((eta(&database) - expected).abs() < 1e-9);
    };
    check("Some CPU, 2 cores", "1.31.1", Some("1.31.1"), true);
    check("Some CPU, 2 cores", "1.31.1", None, true);
    check("Some CPU, 2 cores", "1.31.1", Some("1.32.0"), false);
    check("Some CPU, 4 cores", "1.31.1", Some("1.31.1"), false);
    check("Other CPU, 2 cores", "1.31.1", None, false);
}

#[test]
fn without_a_probe_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(Some(folder.path().into()));
    assert_eq!(database.probe(&host()).unwrap(), Probe::Missing);
    assert_eq!(Database::default().probe(&host()).unwrap(), Probe::Missing);
}

#[test]
fn memory_is_that_of_today() {
    let folder = folder("Some CPU, 2 cores", "1.31.1");
    let database = Database::new(Some(folder.path().into()));
    let small = Host { memory: Some(4 << 30), ..host() };
    let memory = |host: &Host| Machine::new(&database.host(host).unwrap()).memory;
    assert!(memory(&small) < memory(&host()));
}

#[test]
fn a_broken_probe_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cpu.yaml"), "schema: 1\n").unwrap();
    let database = Database::new(Some(folder.path().into()));
    assert!(database.host(&host()).is_err());
    assert!(parse("cpu.yaml", "schema: 1\n").is_err());
}
