//! The search against brute force: on random instances, and on the small pipeline through full compiles.

use indexmap::IndexMap;

use super::*;
use crate::hwdb;
use crate::ir::pipeline::resolve;
use crate::spec;

/// An embedded pipeline with its models.
fn program(name: &str, set: &[(&str, &str)]) -> Program {
    let (parsed, found) = spec::parse(&spec::builtin(name).unwrap());
    assert_eq!(found.0, []);
    let parsed = parsed.unwrap();
    let component = |name: &str, decl: &spec::ModelDecl| decl.weights.as_ref().map_or(name.to_owned(), |w| w.value.clone());
    let build = |name: &str, decl: &spec::ModelDecl| {
        let config = serde_json::to_value(&decl.config).unwrap();
        crate::models::build(&decl.architecture.value, &config, &component(name, decl), name)
    };
    let set: Vec<(String, String)> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let pipeline = resolve(&parsed, &set, &|decl| build("m", decl).map(|g| g.signature())).map_err(|e| e.0).unwrap();
    let models: IndexMap<String, OpGraph> =
        parsed.models.iter().map(|(k, decl)| (k.value.clone(), build(&k.value, decl).unwrap())).collect();
    Program { pipeline, models }
}

fn choices(pairs: &[(&str, &str)]) -> Choices {
    Choices(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

#[test]
fn timing() {
    let program = program(&std::env::var("GRAPH").unwrap_or("svd-tiny".into()), &[]);
    let stages = Stages::of(&program);
    let machine = hwdb::machine("rtx3090").unwrap();
    let t = Instant::now();
    let space = Space::of(&stages, &machine, &Choices::default()).unwrap();
    eprintln!("space {:?} {}", t.elapsed(), space.combinations());
    for k in space.knobs() {
        eprintln!("{} {:?}", k.id, k.domain);
    }
    let t = Instant::now();
    let tables = Tables::of(&space, &stages, &machine).unwrap();
    eprintln!("tables {:?}", t.elapsed());
    let t = Instant::now();
    let problem = tables.problem(&space, &machine);
    let found = search::search(&problem, Objective::Latency, &Limits { peak: Some(machine.memory), ..Limits::default() });
    eprintln!("search {:?} front {}", t.elapsed(), found.front.len());
    let t = Instant::now();
    let out = tune(&stages, &machine, &Request::default()).unwrap();
    eprintln!("tune {:?} {:?}", t.elapsed(), out.certificate);
    eprintln!("{:#?}", out.predicted);
    eprintln!("{:?}", out.choices);
    for p in &out.front {
        eprintln!("{:.2} s {} {:?}", p.latency_s, Bytes(p.peak_bytes), p.quality_db);
    }
}
