//! YAML text → a tree whose every node knows its place.
//!
//! The tree is built from parser events, not through serde: serde stops at the first mistake and loses places in several
//! of its representations, a graph file deserves all of its mistakes at once. What a hostile file could blow up is refused
//! here: size, depth, number of nodes, anchors and aliases (so there is nothing to expand), tags, directives, several documents.

use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span as YamlSpan, StructureStyle, Tag};

use super::Spanned;
use crate::diag::{Diagnostic, Diagnostics, Result, SourceText, Span};

/// Largest file read, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting of maps and lists.
pub const MAX_DEPTH: usize = 64;
/// Most nodes (scalars, lists, maps) in a file.
pub const MAX_NODES: usize = 100_000;

/// A value in a YAML file.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is there.
    pub kind: Kind,
    /// Where: a scalar or a `{…}`/`[…]` whole; a block map or list by its first line.
    pub span: Span,
}

/// A key and its value.
pub type Entry = (Spanned<String>, Node);

/// What a [`Node`] is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A scalar: its text after unescaping, and whether it was written without quotes.
    Scalar {
        /// The text.
        text: String,
        /// Written without quotes, so that `5` is a number and `true` a boolean.
        plain: bool,
    },
    /// A list.
    Seq(Vec<Node>),
    /// A map, in the order written, keys unique.
    Map(Vec<Entry>),
}

impl Node {
    /// What it is, as a person would say it.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar { text, plain: true } if plain_scalar(text).is_null() => "nothing".into(),
            Kind::Scalar { text, .. } if text.chars().count() > 40 => "a long text".into(),
            Kind::Scalar { text, .. } => format!("`{text}`"),
            Kind::Seq(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
        }
    }

    /// The value under `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k.value == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The value that `json` is, as if all of it were written at `span`. The inverse of [`Self::to_json`].
    pub fn from_json(json: &serde_json::Value, span: &Span) -> Self {
        use serde_json::Value;
        let scalar = |text: String, plain| Kind::Scalar { text, plain };
        let kind = match json {
            Value::Null => scalar("null".into(), true),
            Value::Bool(b) => scalar(b.to_string(), true),
            Value::Number(n) => scalar(n.to_string(), true),
            Value::String(text) => scalar(text.clone(), false),
            Value::Array(items) => Kind::Seq(items.iter().map(|i| Self::from_json(i, span)).collect()),
            Value::Object(map) => {
                let key = |k: &String| Spanned { value: k.clone(), span: span.clone() };
                Kind::Map(map.iter().map(|(k, v)| (key(k), Self::from_json(v, span))).collect())
            }
        };
        Self { kind, span: span.clone() }
    }

    /// The same value as JSON; unquoted scalars are null, booleans, numbers as YAML 1.2's core schema reads them.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Scalar { text, plain: true } => plain_scalar(text),
            Kind::Scalar { text, .. } => text.clone().into(),
            Kind::Seq(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => serde_json::Value::Object(entries.iter().map(|(k, v)| (k.value.clone(), v.to_json())).collect()),
        }
    }
}

/// YAML 1.2 core schema, without octal and hexadecimal numbers and without infinities, which no graph needs.
pub(super) fn plain_scalar(text: &str) -> serde_json::Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return serde_json::Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    if let Ok(int) = text.parse::<i64>() {
        return int.into();
    }
    let looks_numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(float) if looks_numeric && float.is_finite() => float.into(),
        _ => text.into(),
    }
}

/// Reads the one document of `source`.
///
/// # Errors
/// Nothing is returned beside the mistakes when the text is not YAML or breaks a limit; a tree is returned beside duplicate keys.
pub(super) fn read(source: &Arc<SourceText>) -> (Option<Node>, Diagnostics) {
    let mut reader = Reader::new(source);
    let root = match reader.document() {
        Ok(node) => Some(node),
        Err(d) => {
            reader.found.push(*d);
            None
        }
    };
    (root, reader.found)
}

struct Reader<'s> {
    source: &'s Arc<SourceText>,
    parser: Parser<'s, serde_saphyr::granit_parser::StrInput<'s>>,
    nodes: usize,
    found: Diagnostics,
}

impl<'s> Reader<'s> {
    fn new(source: &'s Arc<SourceText>) -> Self {
        let mut options = Options::default();
        options.disallow_directives = true;
        options.emit_comments = false;
        options.flow_nesting_limit = MAX_DEPTH;
        options.block_nesting_limit = MAX_DEPTH;
        let parser = Parser::new_from_str_with_options(&source.text, options);
        Self { source, parser, nodes: 0, found: Diagnostics::default() }
    }

    fn document(&mut self) -> Result<Node> {
        if self.source.text.len() > MAX_BYTES {
            let message = format!("the file has {} bytes, more than the {MAX_BYTES} that a graph may have", self.source.text.len());
            return Err(Box::new(Diagnostic::new("spec/too-large", message).help("a graph names its weights, it does not contain them")));
        }
        let root = loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd => {
                    return Err(Box::new(Diagnostic::new("spec/syntax", "the file is empty").help("start with `vidc: 1` and `name: …`")));
                }
                event => break self.node(event, span, 0)?,
            }
        };
        self.end_of_document()?;
        Ok(root)
    }

    fn end_of_document(&mut self) -> Result<()> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(..) => {
                    let d = Diagnostic::new("spec/documents", "a graph file holds one document")
                        .at(&self.span(span), "a second one starts here");
                    return Err(Box::new(d.help("remove the `---`, or put the second graph into a file of its own")));
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'s>, YamlSpan)> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => Err(Box::new(self.syntax(&e))),
            None => Ok((Event::StreamEnd, YamlSpan::default())),
        }
    }

    fn syntax(&self, error: &serde_saphyr::granit_parser::ScanError) -> Diagnostic {
        let span = self.span(YamlSpan::empty(*error.marker()));
        if matches!(error.kind(), serde_saphyr::granit_parser::ErrorKind::RecursionLimitExceeded) {
            return too_deep(&span);
        }
        Diagnostic::new("spec/syntax", format!("this is not YAML: {}", error.info())).at(&span, "here")
    }

    fn span(&self, span: YamlSpan) -> Span {
        let range = span.byte_range().unwrap_or(0..0);
        Span { source: Arc::clone(self.source), start: range.start, len: range.len() }
    }

    /// The node that `event` begins.
    fn node(&mut self, event: Event<'s>, at: YamlSpan, depth: usize) -> Result<Node> {
        let mut span = self.span(at);
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let d =
                Diagnostic::new("spec/too-large", format!("more than {MAX_NODES} values in one file")).at(&span, "this one is too many");
            return Err(Box::new(d.help("a graph has some hundred; is this the right file?")));
        }
        if depth > MAX_DEPTH {
            return Err(Box::new(too_deep(&span)));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse(anchor, tag.as_deref(), &span)?;
                Ok(Node { kind: Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, span })
            }
            Event::SequenceStart(style, anchor, tag) => {
                refuse(anchor, tag.as_deref(), &span)?;
                let (items, end) = self.items(depth)?;
                close(&mut span, style, &end, items.first().map(|n| &n.span));
                Ok(Node { kind: Kind::Seq(items), span })
            }
            Event::MappingStart(style, anchor, tag) => {
                refuse(anchor, tag.as_deref(), &span)?;
                let (entries, end) = self.entries(depth)?;
                close(&mut span, style, &end, entries.first().map(|(k, _)| &k.span));
                Ok(Node { kind: Kind::Map(entries), span })
            }
            _ => Err(Box::new(alias(&span))),
        }
    }

    fn items(&mut self, depth: usize) -> Result<(Vec<Node>, Span)> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((items, self.span(span))),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Result<(Vec<Entry>, Span)> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, span) => return Ok((entries, self.span(span))),
                (event, span) => self.key(event, span, depth)?,
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if let Some(first) = seen.get(&key.value) {
                self.found.push(duplicate(&key, first));
            } else {
                seen.insert(key.value.clone(), key.span.clone());
                entries.push((key, value));
            }
        }
    }

    fn key(&mut self, event: Event<'s>, span: YamlSpan, depth: usize) -> Result<Spanned<String>> {
        let node = self.node(event, span, depth + 1)?;
        if let Kind::Scalar { text, .. } = node.kind {
            return Ok(Spanned { value: text, span: node.span });
        }
        let d = Diagnostic::new("spec/syntax", "the key of an entry is a plain word").at(&node.span, "this is a list or a map");
        Err(Box::new(d.help("write `name: value`")))
    }
}

/// A flow collection is shown whole, a block collection by its first entry.
fn close(span: &mut Span, style: StructureStyle, end: &Span, first: Option<&Span>) {
    match (style, first) {
        (StructureStyle::Flow, _) => span.len = (end.start + end.len).saturating_sub(span.start),
        (StructureStyle::Block, Some(first)) => *span = first.clone(),
        (StructureStyle::Block, None) => {}
    }
}

fn refuse(anchor: usize, tag: Option<&Tag>, span: &Span) -> Result<()> {
    if anchor != 0 {
        return Err(Box::new(alias(span)));
    }
    if let Some(tag) = tag {
        let d = Diagnostic::new("spec/tag", format!("the tag `{}` means nothing in a graph", tag.original())).at(span, "tagged");
        return Err(Box::new(d.help("remove the tag; a text that looks like a number is written in quotes")));
    }
    Ok(())
}

fn alias(span: &Span) -> Diagnostic {
    Diagnostic::new("spec/alias", "anchors and aliases are not part of the language")
        .at(span, "`&name` or `*name`")
        .help("write the value out; a value of the pipeline is used again by its name")
}

fn too_deep(span: &Span) -> Diagnostic {
    Diagnostic::new("spec/too-deep", format!("nested more than {MAX_DEPTH} deep"))
        .at(span, "here")
        .help("a graph nests some eight levels deep")
}

fn duplicate(key: &Spanned<String>, first: &Span) -> Diagnostic {
    Diagnostic::new("spec/duplicate-key", format!("`{}` is written twice in the same map", key.value))
        .at(&key.span, "again here")
        .at(first, "first here")
        .help("remove one of them or give it another name")
}
