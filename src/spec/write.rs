//! A [`Spec`] as YAML, in one canonical layout: a map or list is written on one line where it fits, else one entry a line;
//! the sections of the file are always one entry a line. Reading it back gives an equal `Spec`.

use serde_json::Value;

use super::Spec;

/// Longest line that a one-line map may make.
const WIDTH: usize = 120;

/// The canonical text of `spec`.
pub fn write(spec: &Spec) -> String {
    let value = serde_json::to_value(spec).expect("a spec has only string keys and finite numbers");
    let mut out = String::new();
    if let Value::Object(sections) = &value {
        for (key, value) in sections {
            entry(key, value, 0, false, &mut out);
        }
    }
    out
}

fn entry(key: &str, value: &Value, indent: usize, may_inline: bool, out: &mut String) {
    let head = format!("{:indent$}{}:", "", scalar(key));
    let inline = flow(value);
    let must_inline = !matches!(value, Value::Object(m) if !m.is_empty()) && !matches!(value, Value::Array(a) if !a.is_empty());
    out.push_str(&head);
    if must_inline || (may_inline && head.chars().count() + 1 + inline.chars().count() <= WIDTH) {
        out.push(' ');
        out.push_str(&inline);
        out.push('\n');
        return;
    }
    out.push('\n');
    block(value, indent + 2, out);
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| entry(k, v, indent, true, out)),
        Value::Array(items) => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push_str("- ");
                out.push_str(&flow(item));
                out.push('\n');
            }
        }
        other => out.push_str(&flow(other)),
    }
}

/// The value on one line.
fn flow(value: &Value) -> String {
    let list = |items: Vec<String>, open: &str, close: &str| format!("{open}{}{close}", items.join(", "));
    match value {
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => list(map.iter().map(|(k, v)| format!("{}: {}", scalar(k), flow(v))).collect(), "{ ", " }"),
        Value::Array(items) => list(items.iter().map(flow).collect(), "[", "]"),
        Value::String(text) => scalar(text),
        Value::Number(n) => number(n),
        Value::Bool(b) => b.to_string(),
        Value::Null => "null".into(),
    }
}

/// A float keeps its point or exponent, so that it is read as a float again.
fn number(n: &serde_json::Number) -> String {
    match n.as_f64() {
        Some(f) if n.is_f64() => format!("{f:?}"),
        _ => n.to_string(),
    }
}

/// A text without quotes where that is read as the same text, else with them.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '(')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-+*/().:".contains(c))
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && super::yaml::plain_scalar(text).is_string();
    if plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() => out.push(c),
            c => out.push_str(&escape(c)),
        }
    }
    out.push('"');
    out
}

fn escape(c: char) -> String {
    format!("\\U{:08x}", u32::from(c))
}
