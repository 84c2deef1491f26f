//! Diagnostics as people and programs read them.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::{Value, json};

use super::table::table;
use super::{Format, say, to_stdout, versioned};
use vidc::diag::codes::find;
use vidc::diag::{Class, Diagnostic, Diagnostics, Label, SourceText};
use vidc::optimize::inspect::{Made, Peak};
use vidc::units::Bytes;

/// Writes every mistake: as text to stderr, as one JSON document to stdout. Returns the exit status, that of the gravest class.
pub(crate) fn report(found: &Diagnostics, format: Format) -> u8 {
    match format {
        Format::Text => say(found.0.iter().map(text).collect::<Vec<_>>().join("\n").trim_end()),
        Format::Json => to_stdout(&versioned(as_json(found))),
    }
    let gravest = [Class::Bug, Class::Interrupted, Class::Environment];
    let class = gravest.into_iter().find(|c| found.0.iter().any(|d| d.class() == *c)).unwrap_or(Class::Input);
    class.exit_status()
}

fn as_json(found: &Diagnostics) -> Value {
    let mut all = found.0.iter().map(one_json);
    let first = all.next().unwrap_or_default();
    let others: Vec<Value> = all.collect();
    if others.is_empty() { json!({ "error": first }) } else { json!({ "error": first, "others": others }) }
}

fn one_json(d: &Diagnostic) -> Value {
    json!({
        "code": d.code,
        "class": d.class(),
        "message": d.message,
        "places": d.labels.iter().map(place_json).collect::<Vec<_>>(),
        "help": d.help,
        "notes": d.notes,
    })
}

fn place_json(label: &Label) -> Value {
    let (line, column) = label.span.line_column();
    json!({ "file": label.span.source.name, "line": line, "column": column, "text": label.text })
}

/// One mistake with its snippet.
fn text(d: &Diagnostic) -> String {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut out = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false);
    if handler.render_report(&mut out, &Shown::of(d)).is_err() {
        let _ = writeln!(out, "{}: {}", d.code, plain(&d.message));
    }
    for note in &d.notes {
        let _ = writeln!(out, "  note: {}", plain(note).replace('\n', "\n        "));
    }
    if d.class() == Class::Bug {
        let _ = writeln!(out, "{}", please_report());
    }
    out
}

/// A diagnostic in miette's terms: the labels of one source; places in others become lines of the help.
struct Shown<'a> {
    d: &'a Diagnostic,
    message: String,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
    help: Option<String>,
}

impl<'a> Shown<'a> {
    fn of(d: &'a Diagnostic) -> Self {
        let source = d.labels.first().map(|l| l.span.source.clone());
        let here = |l: &&Label| source.as_ref().is_some_and(|s| **s == *l.span.source);
        let elsewhere = d.labels.iter().filter(|l| !here(l)).map(|l| format!("{}: {}", l.span, l.text));
        let help: Vec<String> = d.help.iter().cloned().chain(elsewhere).collect();
        Self {
            d,
            message: plain(&d.message),
            labels: d.labels.iter().filter(here).enumerate().map(|(i, l)| labelled(l, i == 0)).collect(),
            source: source.map(|s| named(&s)),
            help: (!help.is_empty()).then(|| plain(&help.join("\n"))),
        }
    }
}

/// Spans may point at the end of a text; miette wants them inside.
fn labelled(label: &Label, primary: bool) -> LabeledSpan {
    let len = label.span.source.text.len();
    let start = label.span.start.min(len);
    let range = start..start + label.span.len.min(len - start);
    let text = Some(plain(&label.text));
    if primary { LabeledSpan::new_primary_with_span(text, range) } else { LabeledSpan::new_with_span(text, range) }
}

fn named(source: &SourceText) -> NamedSource<String> {
    NamedSource::new(plain(&source.name), plain(&source.text))
}

/// The text without what would steer a terminal; every byte keeps its place.
fn plain(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    if text.chars().all(harmless) {
        return text.into();
    }
    text.chars().flat_map(|c| if harmless(c) { vec![c] } else { vec!['?'; c.len_utf8()] }).collect()
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("error: {}", self.d.code)))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty()).then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan> + '_>)
    }
}

/// What the panic hook saw, for the JSON document.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// The panic hook: says that this is a bug of vidc, and where.
pub(crate) fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let words = payload.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
    let place = info.location().map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
    let message = format!("{}{place}", words.unwrap_or_else(|| "no message".into()));
    say(&format!("vidc broke: {}\n{}", plain(&message), please_report()));
    if let Ok(mut last) = PANIC.lock() {
        *last = Some(message);
    }
}

/// The end of a run that panicked; the hook has said why.
pub(crate) fn bug(format: Format) -> u8 {
    if format == Format::Json {
        let message = PANIC.lock().ok().and_then(|mut m| m.take()).unwrap_or_default();
        to_stdout(&versioned(as_json(&Diagnostic::new("internal/bug", message).help(please_report()).into())));
    }
    Class::Bug.exit_status()
}

fn please_report() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "  this is a bug of vidc, not of yours; please report it with this line: vidc {} on {} {}: vidc {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        plain(&words.join(" "))
    )
}

/// What a code means, as text and as JSON.
pub(crate) fn explain(code: &str) -> Option<(String, Value)> {
    let row = find(code)?;
    let status = row.class.exit_status();
    let who = match row.class {
        Class::Input => "the input is wrong",
        Class::Environment => "something outside is missing, or nothing fits",
        Class::Bug => "vidc is wrong",
        Class::Interrupted => "stopped on request",
    };
    let text = format!("{code}: {who} (exit {status})\n\n{}\n", row.explain);
    Some((text, json!({ "code": code, "class": row.class, "exit": status, "explain": row.explain })))
}

/// Most buffers that are listed for a model.
const BUFFERS: usize = 24;

/// Tensors with who makes them.
pub(crate) fn tensors(made: &[Made]) -> String {
    let row = |b: &Made| vec![Bytes(b.bytes).to_string(), b.made_by.clone(), b.ty.clone(), format!("{}..{}", b.first, b.last)];
    table(&["bytes", "made by", "type", "steps"], &made.iter().map(row).collect::<Vec<_>>())
}

/// The moment at which a model needs most, and who is alive then.
pub(crate) fn peak_text(p: &Peak) -> String {
    let more = p.buffers.len().saturating_sub(BUFFERS);
    let rest = if more > 0 { format!("and {more} smaller ones\n") } else { String::new() };
    format!(
        "{}: {} alive at step {} of {} ({}), beside {} of weights and {} of inputs and outputs\n{}{rest}\n",
        p.model,
        Bytes(p.live_bytes),
        p.at,
        p.steps,
        p.step,
        Bytes(p.weight_bytes),
        Bytes(p.bound_bytes),
        tensors(&p.buffers[..p.buffers.len().min(BUFFERS)])
    )
}

/// Lines that say where files are kept that stood under the names of outputs.
pub(crate) fn kept_text(kept: &[PathBuf]) -> String {
    kept.iter().fold(String::new(), |mut out, k| {
        let _ = writeln!(out, "kept what was there as {}", k.display());
        out
    })
}

/// A line that names the dims that are not bound, if there are some, and one with the passes that were left out for that.
pub(crate) fn open_dims(open: &[String], left_out: &[&str]) -> String {
    let mut out = match open {
        [] => String::new(),
        open => format!("dims left open: {} (bind them with --dim NAME=N)\n", open.join(", ")),
    };
    if !left_out.is_empty() {
        let _ = writeln!(out, "left out because sizes are open: {}", left_out.join(", "));
    }
    out
}
