//! Tree → types, with every mistake on the way and none of them fatal for its neighbours.
//!
//! [`Decode`] is the one trait; the macro `record!` derives it for a plain struct, `choice!` for an enum written as a map
//! with one key, `word!` for an enum written as a word.

use serde::{Deserialize, Serialize};

use super::yaml::{Kind, Node};
use super::{Entries, Spanned};
use crate::diag::{Diagnostic, Diagnostics, Span, suggest};

/// Something that is written in a graph file.
pub(super) trait Decode: Sized {
    /// Reads it from `node`; `None` means that `out` says why.
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self>;

    /// What stands for it when its key is missing; `None` if it must be there.
    fn absent() -> Option<Self> {
        None
    }

    /// The values of the pipeline that it refers to, in order.
    fn references<'a>(&'a self, _out: &mut Vec<&'a ValueRef>) {}
}

/// A number as written: whole or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Number {
    /// Written without point and exponent.
    Int(i64),
    /// Written with one.
    Float(f64),
}

impl Number {
    /// As a float.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(i) => i as f64,
            Self::Float(f) => f,
        }
    }

    /// As a whole number, if it is one (a float with a whole value is).
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(i),
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 9.0e15 => Some(f as i64),
            Self::Float(_) => None,
        }
    }

    /// Reads `5`, `-0.25`, `1e-5`.
    pub fn parse(text: &str) -> Option<Self> {
        let json = super::yaml::plain_scalar(text.trim());
        json.as_i64().map(Self::Int).or_else(|| json.as_f64().map(Self::Float))
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(x) => write!(f, "{x:?}"),
        }
    }
}

macro_rules! reference {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
        #[schemars(inline)]
        pub struct $name(pub Spanned<String>);

        impl $name {
            /// The name.
            pub fn name(&self) -> &str {
                &self.0.value
            }

            /// Where it is written.
            pub fn span(&self) -> &Span {
                &self.0.span
            }
        }
    };
}
reference!(
    /// The name of a value of the pipeline (or of an input).
    ValueRef
);
reference!(
    /// The name of a model.
    ModelRef
);
reference!(
    /// An axis: its name, or its index from 0.
    AxisRef
);

impl Decode for ValueRef {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        Decode::decode(node, out).map(Self)
    }

    fn references<'a>(&'a self, out: &mut Vec<&'a ValueRef>) {
        out.push(self);
    }
}

impl Decode for ModelRef {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        Decode::decode(node, out).map(Self)
    }
}

impl Decode for AxisRef {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        Decode::decode(node, out).map(Self)
    }
}

impl Decode for String {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, plain } if !(*plain && plain_null(text)) => Some(text.clone()),
            _ => wrong_type(node, "a word or text", out),
        }
    }
}

fn plain_null(text: &str) -> bool {
    super::yaml::plain_scalar(text).is_null()
}

impl Decode for Number {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, plain: true } if let Some(number) = Self::parse(text) => Some(number),
            _ => wrong_type(node, "a number", out),
        }
    }
}

impl Decode for i64 {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, plain: true } if let Some(Number::Int(int)) = Number::parse(text) => Some(int),
            _ => wrong_type(node, "a whole number", out),
        }
    }
}

impl Decode for f64 {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        Number::decode(node, out).map(Number::as_f64)
    }
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        T::decode(node, out).map(|value| Self { value, span: node.span.clone() })
    }

    fn references<'a>(&'a self, out: &mut Vec<&'a ValueRef>) {
        self.value.references(out);
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        T::decode(node, out).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn references<'a>(&'a self, out: &mut Vec<&'a ValueRef>) {
        if let Some(item) = self {
            item.references(out);
        }
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        let Kind::Seq(items) = &node.kind else { return wrong_type(node, "a list", out) };
        // Every item is decoded before the first failure counts, so that all of them are reported.
        let items: Vec<Option<T>> = items.iter().map(|n| T::decode(n, out)).collect();
        items.into_iter().collect()
    }

    fn references<'a>(&'a self, out: &mut Vec<&'a ValueRef>) {
        for item in self {
            item.references(out);
        }
    }
}

impl<T: Decode> Decode for Entries<T> {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else { return wrong_type(node, "a map", out) };
        let entries: Vec<_> = entries.iter().map(|(k, n)| T::decode(n, out).map(|v| (k.clone(), v))).collect();
        entries.into_iter().collect::<Option<Vec<_>>>().map(Self)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn references<'a>(&'a self, out: &mut Vec<&'a ValueRef>) {
        for (_, item) in &self.0 {
            item.references(out);
        }
    }
}

/// Says that `node` is not `wanted`.
pub(super) fn wrong_type<T>(node: &Node, wanted: &str, out: &mut Diagnostics) -> Option<T> {
    let found = node.describe();
    out.push(Diagnostic::new("spec/type", format!("{wanted} is wanted here, not {found}")).at(&node.span, format!("{wanted} is wanted")));
    None
}

/// A field's name as it is written: one that is a word of Rust as well has `r#` before it there.
pub(super) fn key(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// The entries of a map whose keys are known.
pub(super) struct Fields<'a> {
    node: &'a Node,
    entries: &'a [(Spanned<String>, Node)],
}

impl<'a> Fields<'a> {
    /// Opens `node`, which should be a map with no keys but `known`.
    pub(super) fn open(node: &'a Node, known: &[&str], out: &mut Diagnostics) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            return wrong_type(node, &format!("a map with {}", list(known)), out);
        };
        for (key, _) in entries.iter().filter(|(k, _)| !known.contains(&k.value.as_str())) {
            let d = Diagnostic::new("spec/unknown-key", format!("`{}` is not a key here", key.value));
            out.push(d.at(&key.span, "unknown").help(suggest(&key.value, known.iter().copied())));
        }
        Some(Self { node, entries })
    }

    /// The field `key`.
    pub(super) fn take<T: Decode>(&self, key: &str, out: &mut Diagnostics) -> Option<T> {
        if let Some((_, node)) = self.entries.iter().find(|(k, _)| k.value == key) {
            return T::decode(node, out);
        }
        T::absent().or_else(|| {
            let d = Diagnostic::new("spec/missing-key", format!("`{key}` is missing")).at(&self.node.span, format!("needs `{key}`"));
            out.push(d.help(format!("add `{key}: …`")));
            None
        })
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

/// The key and value of a map with exactly one key of `known`.
pub(super) fn one_key<'a>(
    node: &'a Node,
    what: &'static str,
    code: &'static str,
    known: &[&'static str],
    out: &mut Diagnostics,
) -> Option<(&'static str, &'a Node)> {
    let Kind::Map(entries) = &node.kind else { return wrong_type(node, &format!("a map with one key, the {what},"), out) };
    let [(key, value)] = &entries[..] else {
        let d = Diagnostic::new("spec/one-key", format!("one {what} is wanted here, not {}", entries.len()));
        let d = d.at(entries.get(1).map_or(&node.span, |(k, _)| &k.span), if entries.is_empty() { "none" } else { "the second" });
        out.push(d.help(format!("write `{{ {what}: {{ … }} }}`")));
        return None;
    };
    let Some(found) = known.iter().find(|k| **k == key.value) else {
        let d = Diagnostic::new(code, format!("there is no {what} `{}`", key.value)).at(&key.span, "unknown");
        out.push(d.help(suggest(&key.value, known.iter().copied())));
        return None;
    };
    Some((found, value))
}

/// One of a few words.
pub(super) fn word<T: Copy>(node: &Node, words: &[(&'static str, T)], out: &mut Diagnostics) -> Option<T> {
    let text = String::decode(node, out)?;
    let found = words.iter().find(|(w, _)| *w == text).map(|(_, t)| *t);
    if found.is_none() {
        let d = Diagnostic::new("spec/word", format!("`{text}` is not one of the words that can stand here")).at(&node.span, "unknown");
        out.push(d.help(suggest(&text, words.iter().map(|(w, _)| *w))));
    }
    found
}

/// A struct written as a map: decoding, the values it refers to, printing, schema.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident { $( $(#[$field_meta:meta])* $field:ident : $type:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $type, )* }

        impl $crate::spec::decode::Decode for $name {
            fn decode(node: &$crate::spec::yaml::Node, out: &mut $crate::diag::Diagnostics) -> Option<Self> {
                let fields = $crate::spec::decode::Fields::open(node, &[$( $crate::spec::decode::key(stringify!($field)) ),*], out)?;
                $( let $field = fields.take($crate::spec::decode::key(stringify!($field)), out); )*
                Some(Self { $( $field: $field? ),* })
            }

            fn references<'a>(&'a self, out: &mut Vec<&'a $crate::spec::ValueRef>) {
                $( self.$field.references(out); )*
            }
        }
    };
}

/// An enum written as a map with one key.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, $what:literal, $code:literal { $( $(#[$variant_meta:meta])* $word:literal => $variant:ident ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
        pub enum $name { $( $(#[$variant_meta])* #[serde(rename = $word)] $variant($variant), )* }

        impl $name {
            /// The words it can be written with.
            pub const WORDS: &'static [&'static str] = &[$( $word ),*];

            /// The word it is written with.
            pub fn word(&self) -> &'static str {
                match self { $( Self::$variant(_) => $word, )* }
            }
        }

        impl $crate::spec::decode::Decode for $name {
            fn decode(node: &$crate::spec::yaml::Node, out: &mut $crate::diag::Diagnostics) -> Option<Self> {
                let (word, value) = $crate::spec::decode::one_key(node, $what, $code, Self::WORDS, out)?;
                match word {
                    $( $word => $variant::decode(value, out).map(Self::$variant), )*
                    _ => None,
                }
            }

            fn references<'a>(&'a self, out: &mut Vec<&'a $crate::spec::ValueRef>) {
                match self { $( Self::$variant(v) => v.references(out), )* }
            }
        }
    };
}

/// An enum written as a word.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $word:literal => $variant:ident ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name { $( $(#[$variant_meta])* #[serde(rename = $word)] $variant, )* }

        impl $crate::spec::decode::Decode for $name {
            fn decode(node: &$crate::spec::yaml::Node, out: &mut $crate::diag::Diagnostics) -> Option<Self> {
                $crate::spec::decode::word(node, &[$( ($word, Self::$variant) ),*], out)
            }
        }
    };
}

pub(super) use {choice, record, words};
