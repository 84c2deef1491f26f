//! A plan prepared once and run again and again: what is loaded, what stays, and who may share it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array3, ArrayD, Axis};
use vidc::media::npy::read_npy;
use vidc::passes::{Choices, RESIDENCY};
use vidc::plan::Manifest;
use vidc::runtime::request::{Event, RunOutcome, RunRequest};
use vidc::runtime::{Keep, PrepareOptions, Prepared, Run};

use crate::reference::{prepared, run_once, runtime, write_plan};
use crate::source::root;

fn request(seed: Option<u64>) -> RunRequest {
    let image: ArrayD<u8> = read_npy(&root().join("tests/data/svd_tiny_ref/image.npy")).unwrap();
    let image: Array3<u8> = image.into_dimensionality().unwrap();
    RunRequest { inputs: BTreeMap::from([("image".into(), image)]), seed, ..RunRequest::default() }
}

fn bits(outcome: &RunOutcome) -> Vec<u32> {
    outcome.outputs[0].1.iter().map(|v| v.to_bits()).collect()
}

/// Runs once; the outcome and the names of the sessions that were loaded.
fn run(prepared: &Prepared, request: &RunRequest) -> (RunOutcome, Vec<String>) {
    let mut loaded = Vec::new();
    let outcome = run_once(prepared, request, &mut |event| {
        if let Event::Loading(name) = event {
            loaded.push(name);
        }
    });
    (outcome, loaded)
}

/// `svd-tiny` in a folder, its sessions loaded as `residency` says.
fn plan(residency: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan");
    let mut choices = Choices::default();
    choices.set(RESIDENCY, residency);
    write_plan(&choices, &plan);
    (folder, plan)
}

#[test]
fn a_second_run_loads_nothing_and_gives_the_same_bits() {
    let Some(runtime) = runtime() else { return };
    let (_folder, plan) = plan("all");
    let prepared = prepared(&plan, &runtime);
    assert!(prepared.keeps_all());
    let (first, loaded) = run(&prepared, &request(None));
    assert_eq!(loaded.len(), prepared.manifest().sessions.len());
    assert!(first.load_s() > 0.0);
    let (second, loaded) = run(&prepared, &request(None));
    assert_eq!((loaded, second.load_s()), (vec![], 0.0));
    assert_eq!(bits(&second), bits(&first));
    // Memory that is taken back does not show through.
    let want = bits(&first);
    prepared.reuse(first);
    prepared.reuse(second);
    let (other, loaded) = run(&prepared, &request(Some(5)));
    assert!(loaded.is_empty() && bits(&other) != want);
    prepared.reuse(other);
    assert_eq!(bits(&run(&prepared, &request(Some(4242))).0), want, "4242 is the graph's own seed");
}

#[test]
fn sessions_can_be_loaded_ahead() {
    let Some(runtime) = runtime() else { return };
    let (_folder, plan) = plan("all");
    let prepared = prepared(&plan, &runtime);
    let mut loaded = 0;
    assert!(prepared.load(&mut |event| loaded += usize::from(matches!(event, Event::Loading(_)))).unwrap() > 0.0);
    assert_eq!(loaded, prepared.manifest().sessions.len());
    assert_eq!(run(&prepared, &request(None)).1, Vec::<String>::new());
}

#[test]
fn another_seed_is_the_plan_compiled_with_it() {
    let Some(runtime) = runtime() else { return };
    let (_folder, plan) = plan("all");
    let there = prepared(&plan, &runtime);
    let (shifted, _) = run(&there, &request(Some(7)));
    let seeded = there.manifest().seeded(7).unwrap();
    assert_eq!(seeded.seed(), Some(7));
    let compiled = Prepared::open(&runtime, &plan, seeded, PrepareOptions::default()).unwrap();
    assert_eq!(bits(&run(&compiled, &request(None)).0), bits(&shifted));
    assert_eq!(there.manifest().check_seed(u64::MAX).unwrap_err().code, "run/no-seed");
}

/// Memory demands that sessions go: they do, unless the caller says otherwise.
#[test]
fn a_plan_that_unloads_loads_again() {
    let Some(runtime) = runtime() else { return };
    let (_folder, plan) = plan("stage");
    let there = prepared(&plan, &runtime);
    let sessions = there.manifest().sessions.len();
    assert!((0..sessions).all(|s| !there.keeps(s)));
    let mut most = 0;
    let mut loads = 0;
    let mut counted = |event: Event| match event {
        Event::Call(_, loaded, _) => most = most.max(loaded.len()),
        Event::Loading(_) => loads += 1,
        _ => {}
    };
    let first = run_once(&there, &request(None), &mut counted);
    let second = run_once(&there, &request(None), &mut counted);
    assert_eq!((most, loads), (1, 2 * sessions), "one session at a time, in each run anew");
    assert_eq!(bits(&first), bits(&second));
    let manifest = Manifest::read(&plan).unwrap();
    let options = PrepareOptions { keep: Keep::Everything, ..PrepareOptions::default() };
    let kept = Prepared::open(&runtime, &plan, manifest, options).unwrap();
    assert_eq!(run(&kept, &request(None)).1.len(), sessions);
    let (third, loaded) = run(&kept, &request(None));
    assert!(loaded.is_empty());
    assert_eq!(bits(&third), bits(&first));
}

/// Threads share one plan: sessions have locks, values are each run's own. Under either residency.
#[test]
fn threads_share_a_prepared_plan() {
    fn shared<T: Send + Sync>(_: &T) {}
    let Some(runtime) = runtime() else { return };
    for residency in ["all", "stage"] {
        let (_folder, plan) = plan(residency);
        let prepared = Arc::new(prepared(&plan, &runtime));
        shared(&prepared);
        let want: Vec<Vec<u32>> = (1..4).map(|seed| bits(&run(&prepared, &request(Some(seed))).0)).collect();
        std::thread::scope(|s| {
            for seed in 1..4 {
                let (prepared, want) = (prepared.clone(), &want);
                s.spawn(move || {
                    for _ in 0..2 {
                        let (outcome, _) = run(&prepared, &request(Some(seed)));
                        assert!(bits(&outcome) == want[seed as usize - 1], "{residency} {seed}");
                        prepared.reuse(outcome);
                    }
                });
            }
        });
    }
}

/// A flag stops its own run, and nothing of the plan is the worse for it.
#[test]
fn a_stopped_run_leaves_the_plan_as_it_was() {
    let Some(runtime) = runtime() else { return };
    for residency in ["all", "stage"] {
        let (_folder, plan) = plan(residency);
        let there = prepared(&plan, &runtime);
        let want = bits(&run(&there, &request(None)).0);
        let stop = AtomicBool::new(false);
        let mut events = |event| stop.store(matches!(event, Event::Step(..)), Ordering::Relaxed);
        let asked = request(None);
        let stopped = Run::new(&there, &asked, &stop, &mut events).and_then(Run::finish);
        assert_eq!(stopped.unwrap_err().code, "run/interrupted");
        assert_eq!(bits(&run(&there, &asked).0), want);
    }
}

/// What a loop makes is one array, step behind step, also where a run was fed.
#[test]
fn dumps_of_loops_have_an_axis_of_steps() {
    let Some(runtime) = runtime() else { return };
    let (_folder, plan) = plan("all");
    let there = prepared(&plan, &runtime);
    let asked = RunRequest { dumps: vec!["latents".into(), "image_latents".into()], ..request(None) };
    let (first, _) = run(&there, &asked);
    let latents = &first.dumps["latents"];
    assert_eq!(latents.len_of(Axis(0)), 3);
    assert!(latents.index_axis(Axis(0), 0) != latents.index_axis(Axis(0), 1));
    let feeds = BTreeMap::from([("latents".into(), latents.clone())]);
    let (fed, _) = run(&there, &RunRequest { feeds, ..asked });
    assert_eq!(&fed.dumps["latents"], latents);
    assert_eq!(bits(&fed), bits(&first));
}

#[test]
fn a_plan_whose_weights_are_gone_is_not_prepared() {
    let Some(runtime) = runtime() else { return };
    let (_folder, plan) = plan("all");
    let open = |manifest: Manifest, folder: &Path| Prepared::open(&runtime, folder, manifest, PrepareOptions::default()).map(drop);
    let mut manifest = Manifest::read(&plan).unwrap();
    manifest.sessions[0].weights.push("nowhere.bin".into());
    assert_eq!(open(manifest, &plan).unwrap_err().code, "plan/broken");
    let manifest = Manifest::read(&plan).unwrap();
    for file in &manifest.files {
        std::fs::remove_file(Manifest::weights_path(&plan, file)).unwrap();
    }
    assert_eq!(open(manifest, &plan).unwrap_err().code, "plan/weights-changed");
}
