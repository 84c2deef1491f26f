//! Rooms: the modules inside of a module. Those of one module use each other in one direction.

use std::collections::{BTreeMap, BTreeSet};

use super::is_held;
use super::paths::{declares, paths, taken_in};
use crate::source::{SourceFile, sources};

/// Circles that stay: the module, its rooms that use each other, the reason.
const CIRCLES: &[(&str, &[&str], &str)] = &[(
    "ir",
    &["graph", "infer", "op"],
    "an operator may hold a graph, a graph holds operators and types those that are added, and the types of a loop follow from its body",
)];

/// Of one module: which room uses which, by what names.
pub(super) type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// The arrows between the rooms of every module that has some, tests aside.
fn arrows(files: &[&SourceFile]) -> BTreeMap<Vec<String>, Arrows> {
    let own = |file: &SourceFile| file.module().into_iter().map(str::to_owned).collect::<Vec<String>>();
    let modules: BTreeMap<Vec<String>, &SourceFile> = files.iter().map(|f| (own(f), *f)).collect();
    let mut arrows: BTreeMap<Vec<String>, Arrows> = BTreeMap::new();
    for file in files {
        let from = own(file);
        for path in paths(file) {
            let shared = from.iter().zip(&path.names).take_while(|(a, b)| a == b).count();
            if shared == 0 || shared == from.len() || shared == path.names.len() {
                continue;
            }
            let (parent, rest) = path.names.split_at(shared);
            let user = from[shared].clone();
            let Some(used) = room(&modules, parent, &rest[0]).filter(|used| *used != user) else { continue };
            let name = if rest.len() > 1 && rest[0] == used { rest[1..].join("::") } else { rest[0].clone() };
            arrows.entry(parent.to_vec()).or_default().entry((user, used)).or_default().insert(name);
        }
    }
    arrows
}

/// The room of a module that has a name: the room itself, or the one that the module takes the name from.
fn room(modules: &BTreeMap<Vec<String>, &SourceFile>, parent: &[String], name: &str) -> Option<String> {
    let below = |child: &String| [parent, std::slice::from_ref(child)].concat();
    if modules.contains_key(&below(&name.to_owned())) {
        return Some(name.to_owned());
    }
    let taken = taken_in(modules.get(parent)?);
    let child =
        |path: &[String]| path.strip_prefix(parent).and_then(<[String]>::first).filter(|c| modules.contains_key(&below(c))).cloned();
    let named = taken.iter().filter(|(n, _)| n == name).find_map(|(_, path)| child(path));
    let mut whole = taken.iter().filter(|(n, _)| n == "*").filter_map(|(_, path)| child(path));
    named.or_else(|| whole.find(|c| declares(modules[&below(c)], name)))
}

/// The rooms in an order in which each uses only rooms before it; those that use each other in a circle stand together.
fn order(rooms: &BTreeSet<String>, arrows: &Arrows) -> Vec<BTreeSet<String>> {
    let used = |room: &String| arrows.keys().filter(|(a, _)| a == room).map(|(_, b)| b.clone()).collect::<BTreeSet<String>>();
    let reach = |room: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), used(room));
        while let Some(next) = open.pop_first() {
            open.extend(used(&next).difference(&seen).cloned());
            seen.insert(next);
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = rooms.iter().map(|r| (r, reach(r))).collect();
    let knot = |room: &String| {
        let others = rooms.iter().filter(|r| reached[room].contains(*r) && reached[r].contains(room)).cloned();
        others.chain([room.clone()]).collect::<BTreeSet<String>>()
    };
    let mut left: BTreeSet<BTreeSet<String>> = rooms.iter().map(knot).collect();
    let mut placed: BTreeSet<String> = BTreeSet::new();
    let mut order = Vec::new();
    // Knots have no circle among them, so one of them is always free.
    while let Some(next) = left.iter().find(|k| k.iter().all(|r| used(r).iter().all(|u| placed.contains(u) || k.contains(u)))).cloned() {
        left.remove(&next);
        placed.extend(next.iter().cloned());
        order.push(next);
    }
    order
}

/// The circles of every module, with what makes them.
fn circles(files: &[&SourceFile]) -> Vec<(String, BTreeSet<String>, String)> {
    let mut found = Vec::new();
    for (parent, arrows) in arrows(files) {
        let rooms = arrows.keys().flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        for knot in order(&rooms, &arrows).into_iter().filter(|k| k.len() > 1) {
            let parent = parent.join("::");
            let mut text = format!("`{parent}`: these rooms use each other in a circle\n");
            for ((user, used), names) in arrows.iter().filter(|((a, b), _)| knot.contains(a) && knot.contains(b)) {
                text += &format!("    {user} uses {used}: {}\n", names.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
            }
            found.push((parent, knot, text));
        }
    }
    found
}

#[test]
fn rooms_use_each_other_in_one_direction() {
    let all = sources();
    let found = circles(&all.iter().filter(|f| is_held(f)).collect::<Vec<_>>());
    let same = |(module, rooms, _): &(&str, &[&str], &str), parent: &String, knot: &BTreeSet<String>| {
        module == parent && rooms.iter().eq(knot.iter())
    };
    let new = found.iter().filter(|(parent, knot, _)| !CIRCLES.iter().any(|c| same(c, parent, knot))).map(|(.., text)| text.clone());
    let gone = CIRCLES.iter().filter(|c| !found.iter().any(|(parent, knot, _)| same(c, parent, knot)));
    let gone = gone.map(|(module, rooms, _)| format!("`{module}`: {} are no circle any more; strike the exception\n", rooms.join(", ")));
    let wrong: String = new.chain(gone).collect();
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The part of `docs/modules.md` about rooms.
pub(super) fn table(all: &[SourceFile]) -> String {
    let files: Vec<&SourceFile> = all.iter().filter(|f| is_held(f)).collect();
    let arrows = arrows(&files);
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let module = file.module();
        let inside = rooms.entry(module[0].to_owned()).or_default();
        inside.extend(module.get(1).map(|room| (*room).to_owned()));
    }
    let mut page = "\n# Rooms\n\nThe modules inside of each module, in an order in which each uses only those before it; in parentheses what uses each \
                    other.\n\n| module | rooms | arrows |\n| --- | --- | --- |\n"
        .to_owned();
    for (module, inside) in rooms.iter().filter(|(_, inside)| !inside.is_empty()) {
        let none = Arrows::new();
        let arrows = arrows.get(std::slice::from_ref(module)).unwrap_or(&none);
        let knots = order(inside, arrows).into_iter().map(|knot| match &knot.into_iter().collect::<Vec<_>>()[..] {
            [one] => one.clone(),
            several => format!("({})", several.join(", ")),
        });
        page += &format!("| `{module}` | {} | {} |\n", knots.collect::<Vec<_>>().join(", "), arrows.len());
    }
    page
}

#[test]
fn a_circle_is_told_with_its_names() {
    let file = |path: &str, text: &str| SourceFile::of(path.into(), text.into());
    let files = [
        file("src/a/mod.rs", "mod b; mod c; mod d; mod e; pub use c::Sea; pub use e::*; struct Own;"),
        file("src/a/b.rs", "use super::{Own, Sea};\nuse super::d::{self, Dee};"),
        file("src/a/c/mod.rs", "mod inner; use crate::a::d;\n#[cfg(test)]\nmod tests { use super::super::b::X; }"),
        file("src/a/c/inner.rs", "fn f() { crate::a::Ease::g() }"),
        file("src/a/d.rs", "use super::e::Ease;"),
        file("src/a/e.rs", "pub enum Ease {}"),
    ];
    let found = |files: &[SourceFile]| circles(&files.iter().collect::<Vec<_>>()).into_iter().map(|(.., text)| text).collect::<String>();
    assert_eq!(found(&files), "");
    let mut files = files;
    files[5] = file("src/a/e.rs", "use super::c::inner::{X, Y};\npub enum Ease {}");
    let expect = "`a`: these rooms use each other in a circle
    c uses d: d
    c uses e: Ease
    d uses e: Ease
    e uses c: inner::X, inner::Y
";
    assert_eq!(found(&files), expect);
}
