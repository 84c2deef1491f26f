//! The paths that a file names, from the crate's root.

use std::collections::BTreeMap;

use crate::source::{SourceFile, item_end, stands_alone, word};

/// A path in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Path {
    /// The byte where it begins.
    pub(super) at: usize,
    /// Its names from the crate's root.
    pub(super) names: Vec<String>,
    /// What it is called from here on, if a `use` says so.
    alias: Option<String>,
}

/// What begins with `crate`, `super` or `self`.
pub(super) fn paths(file: &SourceFile) -> Vec<Path> {
    let inline = inline_modules(file);
    let begins = ["crate::", "super::", "self::"].iter().flat_map(|head| file.bare.match_indices(head)).map(|(at, _)| at);
    let alone = begins.filter(|at| stands_alone(&file.bare, *at) && !file.bare[..*at].ends_with([':', '$']));
    alone.flat_map(|at| tree(&file.bare, at).0.into_iter().filter_map(|p| rooted(file, &inline, p)).collect::<Vec<_>>()).collect()
}

/// What a module takes in by `use` can be named through it: the name, and the path from the crate's root that it stands for.
/// A `*` stands for itself; of several all are kept.
pub(super) fn taken_in(file: &SourceFile) -> Vec<(String, Vec<String>)> {
    let mut taken = Vec::new();
    for (at, _) in file.bare.match_indices("use ").filter(|(at, _)| stands_alone(&file.bare, *at)) {
        for mut path in tree(&file.bare, at + "use ".len()).0 {
            // Without a head it begins at a child, or at a crate from outside, which no child is called like.
            if !path.names.first().is_some_and(|n| matches!(n.as_str(), "crate" | "super" | "self")) {
                path.names.insert(0, "self".into());
            }
            let alias = path.alias.take();
            let Some(path) = rooted(file, &[], path) else { continue };
            taken.extend(path.names.last().map(|last| (alias.unwrap_or_else(|| last.clone()), path.names.clone())));
        }
    }
    taken
}

/// Modules written out in the file: their ranges and names, outer ones first.
fn inline_modules(file: &SourceFile) -> Vec<(std::ops::Range<usize>, String)> {
    let mut found = Vec::new();
    for (at, _) in file.bare.match_indices("mod ").filter(|(at, _)| stands_alone(&file.bare, *at)) {
        let name = word(&file.bare[at + "mod ".len()..]);
        let end = item_end(&file.bare, at);
        if file.bare[..end].ends_with('}') {
            found.push((at..end, name.to_owned()));
        }
    }
    found
}

/// A path from the crate's root instead of from `crate`, `super` or `self`; none if nothing is left of it.
fn rooted(file: &SourceFile, inline: &[(std::ops::Range<usize>, String)], path: Path) -> Option<Path> {
    let mut own: Vec<String> = file.module().into_iter().map(str::to_owned).collect();
    own.extend(inline.iter().filter(|(range, _)| range.contains(&path.at)).map(|(_, name)| name.clone()));
    let mut names = Vec::new();
    for (i, name) in path.names.into_iter().enumerate() {
        match (name.as_str(), i) {
            ("crate", 0) => {}
            ("self", 0) => names.clone_from(&own),
            ("super", 0) => names = own[..own.len().checked_sub(1)?].to_vec(),
            ("super", _) => drop(names.pop()?),
            // `a::{self, b}`
            ("self", _) => {}
            _ => names.push(name),
        }
    }
    (!names.is_empty()).then_some(Path { at: path.at, names, alias: path.alias })
}

/// The paths of a path or of a group of them, and where they end: `{a::{b, c as d}, e}` gives `a::b`, `a::c` and `e`.
fn tree(bare: &str, from: usize) -> (Vec<Path>, usize) {
    let skip = |at: usize| at + (bare[at..].len() - bare[at..].trim_start().len());
    let mut at = skip(from);
    if bare[at..].starts_with('{') {
        let mut all = Vec::new();
        at = skip(at + 1);
        while at < bare.len() && !bare[at..].starts_with('}') {
            let (paths, end) = tree(bare, at);
            all.extend(paths);
            // What is no path, a comma at least, is stepped over.
            let step = if end > at { 0 } else { bare[end..].chars().next().map_or(1, char::len_utf8) };
            at = skip(end + step);
        }
        return (all, bare.len().min(at + 1));
    }
    let name = if bare[at..].starts_with('*') { "*" } else { word(&bare[at..]) };
    let (begin, mut end) = (at, at + name.len());
    if name.is_empty() {
        return (Vec::new(), end);
    }
    let deeper = skip(end) + "::".len();
    if bare[skip(end)..].starts_with("::") {
        let (inner, inner_end) = tree(bare, deeper);
        if !inner.is_empty() {
            let prefixed = inner.into_iter().map(|p| Path { names: [vec![name.to_owned()], p.names].concat(), ..p });
            return (prefixed.collect(), inner_end);
        }
    }
    let mut alias = None;
    if let Some(rest) = bare[skip(end)..].strip_prefix("as ") {
        alias = Some(word(rest).to_owned());
        end = skip(end) + "as ".len() + word(rest).len();
    }
    (vec![Path { at: begin, names: vec![name.to_owned()], alias }], end)
}

/// The names that a file declares as items.
pub(super) fn declares(file: &SourceFile, name: &str) -> bool {
    let kinds = ["struct ", "enum ", "union ", "trait ", "type ", "const ", "static ", "fn "];
    kinds.iter().flat_map(|kind| file.bare.match_indices(kind)).any(|(at, kind)| word(&file.bare[at + kind.len()..]) == name)
}

#[test]
fn paths_are_from_the_root() {
    let check = |text: &str, expect: &[&str]| {
        let file = SourceFile::of("src/a/b.rs".into(), text.into());
        let found: Vec<String> = paths(&file).iter().map(|p| p.names.join("::")).collect();
        assert_eq!(found, expect, "{text}");
    };
    check("use crate::diag::Result;", &["diag::Result"]);
    check("use crate::{diag::{A, B as C}, ir, units::Bytes};", &["diag::A", "diag::B", "ir", "units::Bytes"]);
    check("use super::c::{self, D};\nfn f() { super::super::e::g::<u8>() }", &["a::c", "a::c::D", "e::g"]);
    check("use super::*; use outside::x; fn f() { $crate::y() } struct S(self::T);", &["a::*", "a::b::T"]);
    check("mod inner { use super::x; }", &["a::b::x"]);
}

#[test]
fn what_is_taken_in() {
    let file = SourceFile::of("src/a/mod.rs".into(), "mod b;\npub use b::{C, D as E};\nuse self::f::G;\npub use h::*;".into());
    let found: BTreeMap<String, String> = taken_in(&file).into_iter().map(|(name, path)| (name, path.join("::"))).collect();
    let expect = [("*", "a::h::*"), ("C", "a::b::C"), ("E", "a::b::D"), ("G", "a::f::G")];
    assert_eq!(found, expect.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}
