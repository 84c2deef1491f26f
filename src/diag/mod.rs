//! Diagnostics: the one shape in which vidc says that something is wrong.
//!
//! A [`Diagnostic`] carries a stable code (a row of [`codes::all`], explained by `vidc explain-code`), a message, labelled
//! [`Span`]s into the user's files, and the way out. The code decides the [`Class`], the class decides the exit status. The
//! library never prints and never exits; the binary renders.
//!
//! Front stages collect: they take `&mut Diagnostics` and report every mistake of the stage at once. Later stages return
//! [`Result`].

pub mod codes;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// What a fallible function of vidc returns.
pub type Result<T> = std::result::Result<T, Box<Diagnostic>>;

/// A text that spans point into: a YAML file, by the name that the user gave it.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The path or name as the user wrote it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A place in a [`SourceText`].
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    /// The text.
    pub source: Arc<SourceText>,
    /// First byte.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
}

impl Span {
    /// Line and column, both from 1; the column counts characters.
    pub fn line_column(&self) -> (usize, usize) {
        let text = &self.source.text;
        let mut start = self.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        (line, column)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who can mend it; decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The user's input is wrong: exit 1.
    Input,
    /// Something outside is missing, or no plan fits: exit 3.
    Environment,
    /// vidc is wrong: exit 101.
    Bug,
    /// The user stopped it: exit 130.
    Interrupted,
}

impl Class {
    /// The exit status of the process.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Input => 1,
            Self::Environment => 3,
            Self::Bug => 101,
            Self::Interrupted => 130,
        }
    }
}

/// A span and what to say at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there.
    pub text: String,
}

/// One mistake, said once, with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// A row of [`codes::all`].
    pub code: &'static str,
    /// One sentence, no full stop.
    pub message: String,
    /// Where it is; the first is the primary place, the others are the other side of a mismatch.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub help: Option<String>,
    /// Further facts.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// A diagnostic with a code of [`codes::all`].
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(codes::find(code).is_some(), "diagnostic code `{code}` has no row in diag::codes");
        Self { code, message: message.into(), labels: Vec::new(), help: None, notes: Vec::new() }
    }

    /// Adds a labelled place.
    #[must_use]
    pub fn at(mut self, span: &Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span: span.clone(), text: text.into() });
        self
    }

    /// Adds a labelled place if it is known.
    #[must_use]
    pub fn maybe_at(self, span: Option<&Span>, text: impl Into<String>) -> Self {
        match span {
            Some(span) => self.at(span, text),
            None => self,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// The class that the code's row gives.
    pub fn class(&self) -> Class {
        codes::find(self.code).map_or(Class::Bug, |row| row.class)
    }
}

impl From<Diagnostic> for Vec<Diagnostic> {
    fn from(d: Diagnostic) -> Self {
        vec![d]
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// Every mistake of a stage, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Adds one.
    pub fn push(&mut self, d: Diagnostic) {
        self.0.push(d);
    }

    /// `Ok(value)` if nothing was found.
    ///
    /// # Errors
    /// The mistakes themselves.
    pub fn into_result<T>(self, value: T) -> std::result::Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(d: Box<Diagnostic>) -> Self {
        Self(vec![*d])
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(d: Diagnostic) -> Self {
        Self(vec![d])
    }
}

/// ` (did you mean `x`?)` with the nearest of `known`, or the list of what there is.
pub fn suggest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(wrong, k), *k))
        .min()
        .filter(|(distance, k)| *distance <= (k.len().max(wrong.len()) / 3).max(1));
    match near {
        Some((_, k)) => format!("did you mean `{k}`?"),
        None if known.is_empty() => "there is none to choose from".into(),
        None if known.len() <= 24 => format!("there is: {}", known.join(", ")),
        None => format!("there are {} of them, such as: {}", known.len(), known[..12].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_knows_its_line_and_column() {
        let source = Arc::new(SourceText { name: "g.yaml".into(), text: "ä: 1\nbc: 2\n".into() });
        let span = Span { source, start: 10, len: 1 };
        assert_eq!(span.to_string(), "g.yaml:2:5");
    }

    #[test]
    fn suggestions_name_the_nearest_or_list_all() {
        assert_eq!(suggest("laten", ["latents", "frames"]), "did you mean `latents`?");
        assert_eq!(suggest("zzz", ["latents", "frames"]), "there is: latents, frames");
    }
}
