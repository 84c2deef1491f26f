//! Tests of reading and writing graph files.

use std::sync::Arc;

use super::*;

fn source(text: &str) -> Arc<SourceText> {
    Arc::new(SourceText { name: "test.yaml".into(), text: text.into() })
}

fn codes(text: &str) -> Vec<&'static str> {
    parse(&source(text)).1.0.iter().map(|d| d.code).collect()
}

#[test]
fn the_table_of_graphs_is_the_folder() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("graphs/ exists")
        .map(|f| f.expect("listable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut table: Vec<String> = BUILTIN.iter().map(|(name, _)| format!("{name}.yaml")).collect();
    table.sort();
    assert_eq!(names, table);
}

#[test]
fn every_builtin_graph_reads_and_survives_printing() {
    for (name, _) in BUILTIN {
        let (spec, found) = parse(&builtin(name).expect("builtin"));
        assert_eq!(found.0, [], "{name}");
        let spec = spec.expect("complete");
        assert_eq!(spec.name.value, *name);
        let text = write(&spec);
        let (again, found) = parse(&source(&text));
        assert_eq!(found.0, [], "{text}");
        assert_eq!(again.as_ref(), Some(&spec), "{text}");
        assert_eq!(write(&again.expect("read")), text);
    }
}

#[test]
fn an_unknown_graph_names_the_nearest() {
    let e = builtin("graphs/svd-tny.yaml").expect_err("unknown");
    assert_eq!(e.help.as_deref(), Some("did you mean `svd-tiny`?"));
}

#[test]
fn weights_are_a_seed_or_a_folder_with_or_without_a_variant() {
    let check = |written: &str, printed: &str| {
        let text = format!("vidc: 1\nname: t\nweights: {written}\npipeline: {{}}\noutputs: {{}}\n");
        let (spec, found) = parse(&source(&text));
        assert_eq!(found.0, [], "{text}");
        let all = write(&spec.expect("complete"));
        assert_eq!(all.split_once("weights:").and_then(|(_, rest)| rest.split_once("pipeline:")).map(|(w, _)| w), Some(printed));
    };
    check("random:7", " random:7\n");
    check("models/svd xt", " models/svd xt\n");
    check("{ folder: models/svd }", " models/svd\n");
    check("{ folder: models/svd, variant: fp16 }", "\n  folder: models/svd\n  variant: fp16\n");
    // A folder whose name looks like a seed stays a folder.
    check("{ folder: 'random:7' }", "\n  folder: random:7\n");
}

#[test]
fn the_schema_is_fresh() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/graph.schema.json");
    if std::env::var_os("VIDC_UPDATE").is_some() {
        std::fs::write(&path, json_schema()).expect("writable");
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == json_schema(), "schemas/graph.schema.json is stale; VIDC_UPDATE=1 cargo test rewrites it");
}

#[test]
fn every_scalar_knows_its_place() {
    let text = "vidc: 1\nname: t\npipeline:\n  a: { scale: { value: b, by: 1 +* 2 } }\noutputs: {}\n";
    let (_, found) = parse(&source(text));
    let places: Vec<String> = found.0.iter().map(|d| d.labels[0].span.to_string()).collect();
    assert_eq!(places, ["test.yaml:4:34"]);
}

#[test]
fn hostile_files_are_refused_quickly() {
    assert_eq!(codes(&"[".repeat(100_000)), ["spec/too-deep"]);
    assert_eq!(codes(&"- ".repeat(100_000)), ["spec/too-deep"]);
    assert_eq!(codes(&"{a: ".repeat(5_000)), ["spec/too-deep"]);
    assert_eq!(codes(&" ".repeat(MAX_BYTES + 1)), ["spec/too-large"]);
    assert_eq!(codes(&format!("[{}]", "a,".repeat(MAX_NODES + 5))), ["spec/too-large"]);
    assert_eq!(codes("a: &a [x, x]\nb: &b [*a, *a]\n"), ["spec/alias"]);
    assert_eq!(codes("a: *nowhere\n"), ["spec/syntax"]);
    assert_eq!(codes(""), ["spec/syntax"]);
    assert_eq!(codes("\u{0}"), ["spec/syntax"]);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            (0_i64..1_000_000).prop_map(|i| i.to_string()),
            (0.0_f64..1e12).prop_map(|f| format!("{f:?}")),
            "[a-z_][a-z0-9_]{0,8}",
        ];
        leaf.prop_recursive(5, 40, 2, |inner| {
            prop_oneof![
                (inner.clone(), "[-+*/]", inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
                inner.clone().prop_map(|a| format!("({a})")),
                inner.prop_map(|a| format!("-({a})")),
            ]
        })
    }

    /// A graph with given texts in places where any text can stand.
    fn graph(about: &str, expr: &str, key: &str, number: f64) -> String {
        let json = |text: &str| serde_json::to_string(text).expect("a string");
        format!(
            "vidc: 1\nname: {0}\nabout: {0}\nmodels:\n  m: {{ architecture: a, config: {{ {1}: [{0}, {number:?}, null, true] }} }}\npipeline:\n  x: {{ scale: {{ value: {0}, by: {2} }} }}\noutputs: {{}}\n",
            json(about),
            json(key),
            json(expr)
        )
    }

    proptest! {
        #[test]
        fn printing_and_reading_are_inverse(about in "[ -~äöü€]{0,40}", expr in expression(), key in "[ -~]{1,20}", number in -1e9_f64..1e9) {
            let text = graph(&about, &expr, &key, number);
            let (spec, found) = parse(&source(&text));
            prop_assert!(found.0.is_empty(), "{text}\n{:?}", found.0);
            let printed = write(spec.as_ref().expect("complete"));
            let (again, found) = parse(&source(&printed));
            prop_assert!(found.0.is_empty(), "{printed}\n{:?}", found.0);
            prop_assert_eq!(again, spec, "{}", printed);
        }
    }
}
