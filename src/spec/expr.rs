//! Expressions over parameters: `height / 8`, `steps + 1`, `1 / 0.18215`.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = factor { ("*" | "/") factor }
//! factor  = "-" factor | number | parameter | "(" sum ")"
//! ```
//! Whole numbers stay whole under `+ - *`, and under `/` when the division leaves nothing; else the result is a float.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use super::decode::{Decode, Number, wrong_type};
use super::yaml::{Kind, Node};
use crate::diag::{Diagnostic, Diagnostics, Span};

/// Deepest nesting of parentheses and signs.
const MAX_DEPTH: usize = 32;
/// Longest expression, in bytes.
const MAX_LEN: usize = 400;

/// An expression as written.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it says.
    pub tree: Tree,
    /// Where it is written.
    pub span: Span,
}

/// The tree of an [`Expr`].
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A number.
    Number(Number),
    /// A parameter.
    Parameter(String),
    /// `-x`.
    Negate(Box<Tree>),
    /// `a op b`.
    Binary(Box<Tree>, Operator, Box<Tree>),
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operator {
    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }

    fn apply(self, a: Number, b: Number) -> Result<Number, EvalError> {
        match (self, a, b) {
            (Self::Divide, _, Number::Int(0)) => Err(EvalError::DivisionByZero),
            (_, Number::Int(a), Number::Int(b)) => self.apply_int(a, b),
            (_, a, b) => finite(self.apply_float(a.as_f64(), b.as_f64())),
        }
    }

    fn apply_int(self, a: i64, b: i64) -> Result<Number, EvalError> {
        let exact = match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide if a.checked_rem(b) != Some(0) => return finite(a as f64 / b as f64),
            Self::Divide => a.checked_div(b),
        };
        exact.map(Number::Int).ok_or(EvalError::Overflow)
    }

    fn apply_float(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
        }
    }
}

fn finite(x: f64) -> Result<Number, EvalError> {
    if x.is_finite() { Ok(Number::Float(x)) } else { Err(EvalError::Overflow) }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A name that is no parameter.
    #[error("there is no parameter `{0}`")]
    Unknown(String),
    /// `x / 0`.
    #[error("division by zero")]
    DivisionByZero,
    /// Beyond 64-bit integers or finite floats.
    #[error("the result is too large for a number")]
    Overflow,
}

impl Tree {
    /// The value, given the value of each parameter.
    pub fn evaluate(&self, parameter: &dyn Fn(&str) -> Option<Number>) -> Result<Number, EvalError> {
        match self {
            Self::Number(n) => Ok(*n),
            Self::Parameter(name) => parameter(name).ok_or_else(|| EvalError::Unknown(name.clone())),
            Self::Negate(x) => Operator::Subtract.apply(Number::Int(0), x.evaluate(parameter)?),
            Self::Binary(a, op, b) => op.apply(a.evaluate(parameter)?, b.evaluate(parameter)?),
        }
    }

    /// The parameters in it, in order.
    pub fn parameters(&self) -> Vec<&str> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::Parameter(name) => vec![name],
            Self::Negate(x) => x.parameters(),
            Self::Binary(a, _, b) => [a.parameters(), b.parameters()].concat(),
        }
    }

    fn strength(&self) -> u8 {
        match self {
            Self::Binary(_, Operator::Add | Operator::Subtract, _) => 0,
            Self::Binary(..) => 1,
            Self::Number(n) if n.as_f64().is_sign_negative() => 2,
            Self::Negate(_) => 2,
            _ => 3,
        }
    }

    fn print(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.strength() < least {
            f.write_str("(")?;
            self.print(f, 0)?;
            return f.write_str(")");
        }
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Parameter(name) => f.write_str(name),
            Self::Negate(x) => {
                f.write_str("-")?;
                x.print(f, 2)
            }
            Self::Binary(a, op, b) => {
                a.print(f, self.strength())?;
                write!(f, " {} ", op.sign())?;
                b.print(f, self.strength() + 1)
            }
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, 0)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tree.fmt(f)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.tree == other.tree
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match &self.tree {
            Tree::Number(n) => n.serialize(s),
            tree => s.collect_str(tree),
        }
    }
}

impl JsonSchema for Expr {
    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["number", "string"],
            "description": "A number, a parameter, or arithmetic on them with + - * / and parentheses: `height / 8`"
        })
    }
}

impl Decode for Expr {
    fn decode(node: &Node, out: &mut Diagnostics) -> Option<Self> {
        let Kind::Scalar { text, plain } = &node.kind else { return wrong_type(node, "a number or an expression", out) };
        match parse(text) {
            Ok(tree) => Some(Self { tree, span: node.span.clone() }),
            Err((at, message)) => {
                // Only in an unquoted text is an offset of the text an offset of the file.
                let whole = !plain || at >= node.span.len;
                let span = if whole { node.span.clone() } else { Span { start: node.span.start + at, len: 1, ..node.span.clone() } };
                let d = Diagnostic::new("spec/expression", message).at(&span, "here");
                out.push(d.help("write a number, a parameter, or + - * / and parentheses on them, such as `height / 8`"));
                None
            }
        }
    }
}

/// Reads an expression.
///
/// # Errors
/// The byte where it goes wrong, and what is wrong.
pub(super) fn parse(text: &str) -> Result<Tree, (usize, String)> {
    if text.len() > MAX_LEN {
        return Err((0, format!("an expression has at most {MAX_LEN} characters")));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let tree = parser.sum()?;
    match parser.peek() {
        None => Ok(tree),
        Some(c) => Err((parser.at, format!("`{c}` makes no sense here"))),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

type Parsed = Result<Tree, (usize, String)>;

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n']);
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next()
    }

    fn take(&mut self, operators: &[Operator]) -> Option<Operator> {
        let c = self.peek()?;
        let found = operators.iter().copied().find(|o| o.sign() == c)?;
        self.at += 1;
        Some(found)
    }

    fn chain(&mut self, operators: &[Operator], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let mut tree = operand(self)?;
        while let Some(op) = self.take(operators) {
            tree = Tree::Binary(Box::new(tree), op, Box::new(operand(self)?));
        }
        Ok(tree)
    }

    fn sum(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err((self.at, format!("nested more than {MAX_DEPTH} deep")));
        }
        let tree = self.chain(&[Operator::Add, Operator::Subtract], Self::product);
        self.depth -= 1;
        tree
    }

    fn product(&mut self) -> Parsed {
        self.chain(&[Operator::Multiply, Operator::Divide], Self::factor)
    }

    fn factor(&mut self) -> Parsed {
        match self.peek() {
            Some('-') => self.negation(),
            Some('(') => self.parenthesis(),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => Ok(Tree::Parameter(self.word(|c| c.is_ascii_alphanumeric() || c == '_'))),
            Some(c) => Err((self.at, format!("`{c}` makes no sense here"))),
            None => Err((self.at, "the expression ends too early".into())),
        }
    }

    fn negation(&mut self) -> Parsed {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err((self.at, format!("nested more than {MAX_DEPTH} deep")));
        }
        let tree = self.factor()?;
        self.depth -= 1;
        Ok(match tree {
            Tree::Number(Number::Int(i)) if i > 0 => Tree::Number(Number::Int(-i)),
            Tree::Number(Number::Float(f)) if f.is_sign_positive() => Tree::Number(Number::Float(-f)),
            tree => Tree::Negate(Box::new(tree)),
        })
    }

    fn parenthesis(&mut self) -> Parsed {
        let open = self.at;
        self.at += 1;
        let tree = self.sum()?;
        if self.peek() != Some(')') {
            return Err((open, "this parenthesis is never closed".into()));
        }
        self.at += 1;
        Ok(tree)
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word.to_owned()
    }

    fn number(&mut self) -> Parsed {
        let start = self.at;
        let mut text = self.word(|c| c.is_ascii_alphanumeric() || c == '.');
        // `1e-5`: the sign belongs to the exponent.
        if text.ends_with(['e', 'E']) && self.text[self.at..].starts_with(['-', '+']) {
            text.push_str(&self.text[self.at..=self.at]);
            self.at += 1;
            text.push_str(&self.word(|c| c.is_ascii_digit()));
        }
        Number::parse(&text).map(Tree::Number).ok_or_else(|| (start, format!("`{text}` is not a number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Number, EvalError> {
        let known = |name: &str| match name {
            "height" => Some(Number::Int(576)),
            "fps" => Some(Number::Int(7)),
            _ => None,
        };
        parse(text).expect("parses").evaluate(&known)
    }

    #[test]
    fn arithmetic_is_whole_where_it_can_be() {
        assert_eq!(value("height / 8"), Ok(Number::Int(72)));
        assert_eq!(value("fps / 2"), Ok(Number::Float(3.5)));
        assert_eq!(value("1 + 2 * 3 - (4 - 6)"), Ok(Number::Int(9)));
        assert_eq!(value("-fps + 1e-1"), Ok(Number::Float(-6.9)));
        assert_eq!(value("8 - 4 - 2"), Ok(Number::Int(2)));
    }

    #[test]
    fn what_has_no_value_says_why() {
        assert_eq!(value("1 / (fps - 7)"), Err(EvalError::DivisionByZero));
        assert_eq!(value("9223372036854775807 + 1"), Err(EvalError::Overflow));
        assert_eq!(value("hight"), Err(EvalError::Unknown("hight".into())));
    }

    #[test]
    fn mistakes_have_a_place() {
        let check = |text: &str, at: usize| assert_eq!(parse(text).map_err(|e| e.0), Err(at), "{text}");
        check("1 +", 3);
        check("2 * (3", 4);
        check("a b", 2);
        check("1..2", 0);
        check("a % 2", 2);
        check("", 0);
    }

    #[test]
    fn hostile_nesting_is_refused() {
        for text in ["(".repeat(300), "-".repeat(300), "1+".repeat(10_000)] {
            assert!(parse(&text).is_err());
        }
    }

    #[test]
    fn printing_keeps_the_meaning() {
        for text in ["a - (b - c)", "a - b - c", "(a + b) * -c", "-(a + b)", "a / (b * c)", "1 / 0.18215", "-5", "--5", "2 * -5", "-(-a)"] {
            let tree = parse(text).expect("parses");
            assert_eq!(parse(&tree.to_string()), Ok(tree.clone()), "{text} -> {tree}");
        }
    }
}
