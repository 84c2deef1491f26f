//! A module uses only modules of a lower layer. The table is the design's; the sources are held to it. Inside of a module its rooms use
//! each other in one direction (`rooms`).

mod paths;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};

use paths::paths;

use crate::source::{SourceFile, root, sources};

/// Every module of the library with its layer, bottom first.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["diag", "files", "units"]),
    (1, &["host", "media", "metrics", "onnx", "spec", "weights"]),
    (2, &["ir", "scenarios", "target"]),
    (3, &["hwdb", "interp", "models"]),
    (4, &["cost"]),
    (5, &["passes"]),
    (6, &["import", "plan"]),
    (7, &["runtime"]),
    (8, &["optimize", "tuner"]),
];

/// Uses that the table forbids and that stay: (module, used module, reason).
const EXCEPTIONS: &[(&str, &str, &str)] = &[("files", "diag", "a file that cannot be read is told as a diagnostic, like everything else")];

fn layers() -> BTreeMap<&'static str, u8> {
    LAYERS.iter().flat_map(|(layer, modules)| modules.iter().map(|m| (*m, *layer))).collect()
}

/// Is a file held to the rules: code of the library that is no test?
fn is_held(file: &SourceFile) -> bool {
    !file.is_test && !file.path.starts_with("src/bin/") && file.path != "src/lib.rs"
}

/// The top-level modules that a file names, with the byte where it does.
fn uses(file: &SourceFile) -> Vec<(usize, String)> {
    paths(file).into_iter().map(|mut p| (p.at, p.names.swap_remove(0))).collect()
}

#[test]
fn modules_use_only_lower_layers() {
    let layers = layers();
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(is_held) {
        let own = file.module()[0].to_owned();
        let Some(layer) = layers.get(own.as_str()) else {
            wrong.push(format!("{}: the module `{own}` has no layer in tests/all/layering.rs", file.path));
            continue;
        };
        for (at, used) in uses(&file) {
            let Some(below) = layers.get(used.as_str()).filter(|_| used != own) else { continue };
            if below >= layer && !EXCEPTIONS.iter().any(|(a, b, _)| *a == own && *b == used) {
                wrong.push(format!("{}:{}: `{own}` (layer {layer}) uses `{used}` (layer {below})", file.path, file.line(at)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// For each module of the library the modules that it uses, tests aside.
fn arrows(files: &[SourceFile]) -> BTreeMap<String, BTreeSet<String>> {
    let layers = layers();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|f| is_held(f)) {
        let own = file.module()[0].to_owned();
        let used = uses(file).into_iter().map(|(_, used)| used).filter(|used| layers.contains_key(used.as_str()) && *used != own);
        arrows.entry(own.clone()).or_default().extend(used);
    }
    arrows
}

/// `docs/modules.md` says which module uses which, and in which order the rooms of each stand. `VIDC_UPDATE=1` rewrites it.
#[test]
fn the_page_of_modules_is_fresh() {
    let files = sources();
    let (layers, arrows) = (layers(), arrows(&files));
    let total: usize = arrows.values().map(BTreeSet::len).sum();
    let mut page = format!(
        "# Which module uses which\n\nGenerated from the sources: `VIDC_UPDATE=1 cargo test` rewrites this page. Tests and the binary aside; \
         {total} arrows.\n\n| layer | module | uses | used by |\n| --- | --- | --- | --- |\n"
    );
    let list = |names: Vec<&str>| if names.is_empty() { "–".to_owned() } else { names.join(", ") };
    let mut modules: Vec<(&str, u8)> = layers.into_iter().collect();
    modules.sort_by_key(|(name, layer)| (*layer, *name));
    for (name, layer) in modules {
        let uses = arrows.get(name).into_iter().flatten().map(String::as_str).collect();
        let used_by = arrows.iter().filter(|(_, uses)| uses.contains(name)).map(|(user, _)| user.as_str()).collect();
        page += &format!("| {layer} | `{name}` | {} | {} |\n", list(uses), list(used_by));
    }
    page += &rooms::table(&files);
    let path = root().join("docs/modules.md");
    if std::env::var_os("VIDC_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == page, "docs/modules.md is stale; VIDC_UPDATE=1 cargo test rewrites it");
}

#[test]
fn exceptions_are_needed() {
    let files = sources();
    for (own, used, reason) in EXCEPTIONS {
        let needed = files.iter().filter(|f| !f.is_test && f.module().first() == Some(own)).flat_map(uses).any(|(_, u)| u == *used);
        assert!(needed, "`{own}` does not use `{used}` any more; strike the exception ({reason})");
    }
}
