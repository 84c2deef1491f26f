//! The language in which patterns are written.
//!
//! | text | matches |
//! | --- | --- |
//! | `x` | any tensor; the same name twice is the same tensor |
//! | `#w` | a constant |
//! | `$s` | a constant of equal elements, or the numbers of a product; the value is kept |
//! | `0.5` | a constant whose elements are all 0.5, within the rounding of its type |
//! | `add(p, q)` | that operator over those inputs; `add` in either order |
//! | `prod(0.5, p, inv(q))` | a product written in any order and association: `Mul`, `Div`, whole powers, reciprocals. The numbers in it multiply to those given (1 if none is), the other factors are p and 1 / q |
//! | `m:mean(p)` | as `mean(p)`, and keeps the tensor under a name |
//! | `{p \| q}` | either |
//! | `std(p)` | a pattern defined in [`DEFINITIONS`] |
//!
//! Operators that change nothing (a cast to the same type, a reshape there and back, times one, plus zero) are looked through
//! everywhere.

use crate::ir::Op;
use crate::ir::op::{Binary, Unary};

/// A pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pat {
    /// A tensor under a name.
    Any(&'static str),
    /// A constant under a name.
    Constant(&'static str),
    /// A number under a name.
    Scalar(&'static str),
    /// This number.
    Number(f64),
    /// An operator over inputs.
    Op(&'static str, Vec<Pat>),
    /// A product: the number it must have (`None`: 1), the name for its number, its factors.
    Product {
        /// The product of the numbers.
        number: f64,
        /// Keeps the numbers under this name instead.
        named: Option<&'static str>,
        /// The other factors.
        factors: Vec<Pat>,
    },
    /// 1 / p; only as a factor.
    Inverse(Box<Pat>),
    /// One of these, in this order.
    Either(Vec<Pat>),
    /// A pattern whose tensor is kept under a name.
    Named(&'static str, Box<Pat>),
}

/// Patterns with a name: name, parameter, text.
pub(super) const DEFINITIONS: [(&str, &str, &str); 6] = [
    ("centred", "y", "sub(y, m:mean(y))"),
    ("variance", "y", "add(v:mean(prod(centred(y), centred(y))), $eps)"),
    ("normalised", "y", "{prod(inv(sqrt(variance(y))), centred(y)) | prod(pow(variance(y), -0.5), centred(y))}"),
    ("silu_of", "y", "{prod(sigmoid(y), y) | prod(inv(add(exp({neg(y) | prod(-1, y)}), 1)), y)}"),
    ("phi", "y", "{prod(0.5, add(erf(prod(0.7071067811865476, y)), 1)) | add(prod(0.5, erf(prod(0.7071067811865476, y))), 0.5)}"),
    (
        "curve",
        "y",
        "tanh({prod(0.7978845608028654, add(y, prod(0.044715, y, y, y))) | prod(0.7978845608028654, y, add(prod(0.044715, y, y), 1)) | add(prod(0.7978845608028654, y), prod(0.035677408136300125, y, y, y))})",
    ),
];

/// Operators by the word that stands for them.
pub(super) fn word(op: &Op) -> &'static str {
    match op {
        Op::Unary(Unary::Sigmoid) => "sigmoid",
        Op::Unary(Unary::Tanh) => "tanh",
        Op::Unary(Unary::Erf) => "erf",
        Op::Unary(Unary::Exp) => "exp",
        Op::Unary(Unary::Sqrt) => "sqrt",
        Op::Unary(Unary::Neg) => "neg",
        Op::Unary(Unary::Sin) => "sin",
        Op::Unary(Unary::Cos) => "cos",
        Op::Binary(Binary::Add) => "add",
        Op::Binary(Binary::Sub) => "sub",
        Op::Binary(Binary::Mul) => "mul",
        Op::Binary(Binary::Div) => "div",
        Op::Binary(Binary::Pow) => "pow",
        Op::MatMul => "matmul",
        Op::Gemm { .. } => "gemm",
        Op::Linear => "linear",
        Op::Conv(_) => "conv",
        Op::Softmax { .. } => "softmax",
        Op::ReduceMean { .. } => "mean",
        Op::InstanceNorm { .. } => "instance_norm",
        Op::GroupNorm(_) => "group_norm",
        Op::Silu => "silu",
        Op::Gelu { .. } => "gelu",
        Op::Reshape { .. } => "reshape",
        Op::Slice { .. } => "slice",
        Op::Concat { .. } => "concat",
        Op::Foreign(f) if f.domain.is_empty() && f.op_type == "Reciprocal" => "reciprocal",
        _ => "",
    }
}

impl Pat {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Where the text is no pattern.
    pub(super) fn parse(text: &'static str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0 };
        let pat = reader.pattern()?;
        if reader.peek().is_some() { Err(reader.wrong("nothing may follow")) } else { Ok(pat) }
    }

    /// The words of operators at which it can end.
    pub(super) fn roots(&self) -> Vec<&'static str> {
        match self {
            Self::Op(word, _) => vec![word],
            Self::Product { .. } => vec!["mul", "div"],
            Self::Either(each) => each.iter().flat_map(Self::roots).collect(),
            Self::Named(_, p) | Self::Inverse(p) => p.roots(),
            Self::Any(_) | Self::Constant(_) | Self::Scalar(_) | Self::Number(_) => Vec::new(),
        }
    }

    /// What it asks for, in a word or two.
    pub(super) fn head(&self) -> String {
        match self {
            Self::Any(name) => (*name).into(),
            Self::Constant(name) => format!("a constant {name}"),
            Self::Scalar(name) => format!("a number {name}"),
            Self::Number(n) => n.to_string(),
            Self::Op(word, _) => (*word).into(),
            Self::Product { factors, .. } => {
                format!("a product of {}", factors.iter().map(Self::head).collect::<Vec<_>>().join(" and "))
            }
            Self::Inverse(p) => format!("1 / {}", p.head()),
            Self::Either(each) => each.iter().map(Self::head).collect::<Vec<_>>().join(" or "),
            Self::Named(_, p) => p.head(),
        }
    }

    /// With a pattern for a name.
    fn substitute(&self, name: &str, by: &Self) -> Self {
        let all = |each: &[Self]| each.iter().map(|p| p.substitute(name, by)).collect();
        match self {
            Self::Any(n) if *n == name => by.clone(),
            Self::Op(word, args) => Self::Op(word, all(args)),
            Self::Product { number, named, factors } => Self::Product { number: *number, named: *named, factors: all(factors) },
            Self::Inverse(p) => Self::Inverse(Box::new(p.substitute(name, by))),
            Self::Either(each) => Self::Either(all(each)),
            Self::Named(n, p) => Self::Named(n, Box::new(p.substitute(name, by))),
            other => other.clone(),
        }
    }
}

struct Reader {
    text: &'static str,
    at: usize,
}

impl Reader {
    fn rest(&self) -> &'static str {
        &self.text[self.at..]
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn wrong(&self, what: &str) -> String {
        format!("at {} of `{}`: {what}", self.at, self.text)
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.eat(c) { Ok(()) } else { Err(self.wrong(&format!("`{c}` is missing"))) }
    }

    fn take(&mut self, of: impl Fn(char) -> bool) -> &'static str {
        let rest = self.rest();
        let end = rest.find(|c| !of(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn name(&mut self) -> Result<&'static str, String> {
        self.peek();
        let name = self.take(|c| c.is_ascii_lowercase() || c == '_');
        if name.is_empty() { Err(self.wrong("a name is missing")) } else { Ok(name) }
    }

    fn list(&mut self, between: char, end: char) -> Result<Vec<Pat>, String> {
        let mut each = vec![self.pattern()?];
        while self.eat(between) {
            each.push(self.pattern()?);
        }
        self.expect(end)?;
        Ok(each)
    }

    fn pattern(&mut self) -> Result<Pat, String> {
        match self.peek() {
            Some('{') => {
                self.at += 1;
                self.list('|', '}').map(Pat::Either)
            }
            Some('#') => {
                self.at += 1;
                self.name().map(Pat::Constant)
            }
            Some('$') => {
                self.at += 1;
                self.name().map(Pat::Scalar)
            }
            Some(c) if c.is_ascii_digit() || c == '-' => {
                let digits = self.take(|c| c.is_ascii_digit() || matches!(c, '-' | '.'));
                digits.parse().map(Pat::Number).map_err(|_| self.wrong("this is no number"))
            }
            _ => self.named(),
        }
    }

    fn named(&mut self) -> Result<Pat, String> {
        let name = self.name()?;
        if self.eat(':') {
            return self.pattern().map(|p| Pat::Named(name, Box::new(p)));
        }
        if !self.eat('(') {
            return Ok(Pat::Any(name));
        }
        let args = self.list(',', ')')?;
        match (name, &args[..]) {
            ("prod", _) => Ok(product(args)),
            ("inv", [p]) => Ok(Pat::Inverse(Box::new(p.clone()))),
            _ => match (DEFINITIONS.iter().find(|(defined, ..)| *defined == name), &args[..]) {
                (Some((_, parameter, text)), [arg]) => Ok(Pat::parse(text)?.substitute(parameter, arg)),
                (Some(_), _) => Err(self.wrong("a definition takes one argument")),
                (None, _) => Ok(Pat::Op(name, args)),
            },
        }
    }
}

fn product(args: Vec<Pat>) -> Pat {
    let (mut number, mut named, mut factors) = (1.0, None, Vec::new());
    for arg in args {
        match arg {
            Pat::Number(n) => number *= n,
            Pat::Scalar(name) => named = Some(name),
            other => factors.push(other),
        }
    }
    Pat::Product { number, named, factors }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &'static str, expect: &Pat) {
        assert_eq!(Pat::parse(text).as_ref(), Ok(expect), "{text}");
    }

    #[test]
    fn patterns_read_as_documented() {
        check("add(x, 1)", &Pat::Op("add", vec![Pat::Any("x"), Pat::Number(1.0)]));
        let factors = vec![Pat::Any("x"), Pat::Inverse(Box::new(Pat::Any("y")))];
        check("prod(0.5, x, inv(y), 2)", &Pat::Product { number: 1.0, named: None, factors });
        check("{#w | $s}", &Pat::Either(vec![Pat::Constant("w"), Pat::Scalar("s")]));
        check("m:mean(x)", &Pat::Named("m", Box::new(Pat::Op("mean", vec![Pat::Any("x")]))));
        let mean = Pat::Named("m", Box::new(Pat::Op("mean", vec![Pat::Any("z")])));
        check("centred(z)", &Pat::Op("sub", vec![Pat::Any("z"), mean]));
    }

    #[test]
    fn what_is_no_pattern_says_where() {
        assert_eq!(Pat::parse("add(x"), Err("at 5 of `add(x`: `)` is missing".into()));
        assert_eq!(Pat::parse("x y"), Err("at 2 of `x y`: nothing may follow".into()));
        assert!(Pat::parse("centred(x, y)").is_err());
        assert!(Pat::parse("").is_err());
        assert!(Pat::parse("1-2").is_err());
    }

    #[test]
    fn definitions_use_earlier_ones_only() {
        for (i, (name, _, text)) in DEFINITIONS.iter().enumerate() {
            assert!(Pat::parse(text).is_ok(), "{name}");
            assert!(DEFINITIONS[i..].iter().all(|(later, ..)| !text.contains(&format!("{later}("))), "{name}");
        }
    }
}
