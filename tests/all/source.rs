//! The sources of vidc as text, for the tests that hold the rules of the house.

use std::path::{Path, PathBuf};

/// One file under `src/`.
pub(crate) struct SourceFile {
    /// Path below the repository, with `/`.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
    /// The text without comments and test items; as many lines and bytes as the file.
    pub(crate) code: String,
    /// `code` with the contents of strings blanked as well.
    pub(crate) bare: String,
    /// Does the whole file belong to tests?
    pub(crate) is_test: bool,
}

impl SourceFile {
    fn read(path: &Path) -> Self {
        Self::of(relative(path), std::fs::read_to_string(path).unwrap())
    }

    /// A file of this path and text.
    pub(crate) fn of(path: String, text: String) -> Self {
        let (code, bare) = blank(&text);
        let mut file = Self { path, text, code, bare, is_test: false };
        for (start, end) in test_items(&file.bare) {
            blank_range(&mut file.code, start, end);
            blank_range(&mut file.bare, start, end);
        }
        file
    }

    /// The path of the module below the crate: `["ir", "graph"]` for `src/ir/graph.rs`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inner.split('/').filter(|part| !matches!(*part, "mod" | "lib")).collect()
    }

    /// The 1-based line of a byte.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.bare[..at].matches('\n').count() + 1
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends in `suffix`, sorted.
pub(crate) fn files_below(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, suffix));
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All of `src/`.
pub(crate) fn sources() -> Vec<SourceFile> {
    let mut files: Vec<SourceFile> = files_below(&root().join("src"), ".rs").iter().map(|p| SourceFile::read(p)).collect();
    let test_modules: Vec<String> = files.iter().flat_map(test_modules).collect();
    for file in &mut files {
        let inner = file.path.trim_end_matches(".rs");
        // A test module may lie in a file of another name (`#[path]`); those are called `…tests.rs`.
        file.is_test = inner.ends_with("tests") || test_modules.iter().any(|m| inner == m || inner.starts_with(&format!("{m}/")));
        if file.is_test {
            file.code = blanked(&file.code);
            file.bare = blanked(&file.bare);
        }
    }
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// The files that a source declares as `#[cfg(test)] mod name;`, without `.rs`.
fn test_modules(file: &SourceFile) -> Vec<String> {
    let (_, bare) = blank(&file.text);
    let inner = file.path.trim_end_matches(".rs");
    let folder = inner.strip_suffix("/mod").or(inner.strip_suffix("/lib")).unwrap_or(inner);
    let declared = test_items(&bare).into_iter().filter_map(|(start, end)| {
        let item = bare[start..end].trim_end().strip_suffix(';')?;
        let (_, name) = item.rsplit_once("mod ")?;
        Some(format!("{folder}/{}", name.trim()))
    });
    declared.collect()
}

/// The items behind `#[cfg(test)]`, as byte ranges.
fn test_items(bare: &str) -> Vec<(usize, usize)> {
    let starts = bare.match_indices("#[cfg(test)]").map(|(at, _)| at);
    starts.map(|at| (at, item_end(bare, at + "#[cfg(test)]".len()))).collect()
}

/// The end of the item that begins at `from`: its `;`, or the brace that closes its first block.
pub(crate) fn item_end(bare: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (offset, c) in bare[from..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth -= 1;
                if depth == 0 && c == '}' {
                    return from + offset + 1;
                }
            }
            ';' if depth == 0 => return from + offset + 1,
            _ => {}
        }
    }
    bare.len()
}

/// Does no name go on to the left of a byte?
pub(crate) fn stands_alone(bare: &str, at: usize) -> bool {
    !bare[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The name that a text begins with; empty if it begins with none.
pub(crate) fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// A function that is written out: its name, its first and its last line.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// Every function with a body.
pub(crate) fn functions(file: &SourceFile) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in file.bare.match_indices("fn ") {
        let name = word(&file.bare[at + 3..]).to_owned();
        let end = item_end(&file.bare, at);
        if stands_alone(&file.bare, at) && !name.is_empty() && file.bare[..end].ends_with('}') {
            found.push(Function { name, first: file.line(at), last: file.line(end) });
        }
    }
    found
}

/// The string literals of a file with their lines; no raw strings.
pub(crate) fn literals(file: &SourceFile) -> Vec<(usize, String)> {
    let quotes: Vec<usize> = file.bare.match_indices('"').map(|(at, _)| at).collect();
    quotes.chunks_exact(2).map(|q| (file.line(q[0]), file.code[q[0] + 1..q[1]].to_owned())).collect()
}

fn blanked(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c.to_string() } else { " ".repeat(c.len_utf8()) }).collect()
}

fn blank_range(text: &mut String, start: usize, end: usize) {
    let blank = blanked(&text[start..end]);
    text.replace_range(start..end, &blank);
}

/// The text without comments, and without the contents of strings as well.
fn blank(text: &str) -> (String, String) {
    let (mut code, mut bare) = (text.to_owned(), text.to_owned());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(len) = comment(rest) {
            blank_range(&mut code, at, at + len);
            blank_range(&mut bare, at, at + len);
            at += len;
        } else if let Some((open, inner, close)) = string(rest) {
            blank_range(&mut bare, at + open, at + open + inner);
            at += open + inner + close;
        } else {
            // A word is stepped over whole, so that the `r` of `for"` never opens a raw string.
            let word = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum::<usize>();
            at += if word > 0 { word } else { rest.chars().next().map_or(1, char::len_utf8) };
        }
    }
    (code, bare)
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    rest.starts_with("/*").then(|| rest.find("*/").map_or(rest.len(), |end| end + 2))
}

/// Bytes of the opening, the contents and the closing of a string or character literal.
fn string(rest: &str) -> Option<(usize, usize, usize)> {
    let prefix = ["br", "b", "r", "c"].into_iter().find(|p| rest.starts_with(&format!("{p}\"")) || rest.starts_with(&format!("{p}#")));
    let prefix = prefix.map_or(0, str::len);
    let raw = rest[..prefix].contains('r');
    let body = &rest[prefix..];
    if raw {
        let hashes = body.bytes().take_while(|b| *b == b'#').count();
        let open = prefix + hashes + 1;
        body[hashes..].starts_with('"').then_some(())?;
        let inner = rest[open..].find(&format!("\"{}", "#".repeat(hashes)))?;
        return Some((open, inner, 1 + hashes));
    }
    if let Some(inner) = body.strip_prefix('"') {
        return Some((prefix + 1, escaped(inner, '"')?, 1));
    }
    // A quote is a character only if one character or escape stands before the next quote; else it begins a lifetime.
    let inner = body.strip_prefix('\'')?;
    let len = if inner.starts_with('\\') { escaped(inner, '\'')? } else { inner.chars().next()?.len_utf8() };
    inner[len..].starts_with('\'').then_some((prefix + 1, len, 1))
}

fn escaped(inner: &str, quote: char) -> Option<usize> {
    let mut skip = false;
    inner.char_indices().find_map(|(at, c)| {
        let ends = c == quote && !skip;
        skip = c == '\\' && !skip;
        ends.then_some(at)
    })
}

#[test]
fn blanking_keeps_code_and_drops_the_rest() {
    let check = |text: &str, code: &str, bare: &str| {
        let found = blank(text);
        assert_eq!((found.0.trim_end(), found.1.trim_end()), (code, bare), "{text}");
    };
    check("a // b", "a", "a");
    check("a /* b */ c", "a         c", "a         c");
    check(r#"f("x // y") // z"#, r#"f("x // y")"#, r#"f("      ")"#);
    check(r#"f("a\"b")"#, r#"f("a\"b")"#, r#"f("    ")"#);
    check(r##"f(r#"a"b"#)"##, r##"f(r#"a"b"#)"##, r##"f(r#"   "#)"##);
    check("f('\"', '\\'', &'a x)", "f('\"', '\\'', &'a x)", "f(' ', '  ', &'a x)");
}

#[test]
fn items_of_tests_are_found() {
    let text = "a();\n#[cfg(test)]\nmod tests {\n fn x() {}\n}\nb();\n#[cfg(test)]\nmod more;\n";
    let found: Vec<&str> = test_items(text).into_iter().map(|(s, e)| &text[s..e]).collect();
    assert_eq!(found, ["#[cfg(test)]\nmod tests {\n fn x() {}\n}", "#[cfg(test)]\nmod more;"]);
}
