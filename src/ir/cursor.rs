//! A place in one line of canonical text, and the small things that are read there: numbers, names, dims, types, lists.

use super::dim::Dim;
use super::text;
use super::types::{DType, TensorType};

/// What was read, or the line and what is wrong there.
pub(super) type Fallible<T> = Result<T, (usize, String)>;

/// Extents beyond this are refused, so that their arithmetic does not overflow soon.
const LARGEST: i64 = 1 << 40;
/// Nested floors of a dim.
const DEEPEST_DIM: usize = 16;

/// A place in a line.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, line: usize) -> Self {
        Self { text: text.trim_end(), at: 0, line, depth: 0 }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn fail<T>(&self, what: &str) -> Fallible<T> {
        Err((self.line, format!("{what}, at column {} of this line", self.at + 1)))
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    pub(super) fn expect(&mut self, token: &str) -> Fallible<()> {
        if self.eat(token) { Ok(()) } else { self.fail(&format!("`{token}` is missing")) }
    }

    pub(super) fn end(&self) -> Fallible<()> {
        if self.is_done() { Ok(()) } else { self.fail("the line should end") }
    }

    pub(super) fn peek(&self, what: impl Fn(char) -> bool) -> bool {
        self.rest().starts_with(what)
    }

    pub(super) fn skip(&mut self, what: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !what(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Letters and digits.
    pub(super) fn word(&mut self) -> &'a str {
        self.skip(|c| c.is_ascii_alphanumeric())
    }

    /// The characters of a decimal.
    pub(super) fn decimal(&mut self) -> &'a str {
        self.skip(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
    }

    /// What stands in `[…]`, without them.
    pub(super) fn bracketed(&mut self) -> Fallible<&'a str> {
        self.expect("[")?;
        let inner = self.skip(|c| c != ']');
        self.expect("]")?;
        Ok(inner)
    }

    /// A plain name, or one in quotes with Rust's escapes.
    pub(super) fn name(&mut self) -> Fallible<String> {
        if !self.eat("\"") {
            let name = self.skip(text::is_plain);
            return if name.is_empty() { self.fail("a name is missing") } else { Ok(name.into()) };
        }
        let mut name = String::new();
        while let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(name),
                '\\' => name.push(self.escape()?),
                c => name.push(c),
            }
        }
        self.fail("a quote is missing")
    }

    fn escape(&mut self) -> Fallible<char> {
        for (token, c) in [("n", '\n'), ("t", '\t'), ("r", '\r'), ("0", '\0'), ("\\", '\\'), ("\"", '"'), ("'", '\'')] {
            if self.eat(token) {
                return Ok(c);
            }
        }
        self.expect("u{")?;
        let c = u32::from_str_radix(self.skip(|c| c.is_ascii_hexdigit()), 16).ok().and_then(char::from_u32);
        self.expect("}")?;
        c.map_or_else(|| self.fail("there is no such character"), Ok)
    }

    pub(super) fn int(&mut self) -> Fallible<i64> {
        let sign = if self.eat("-") { -1 } else { 1 };
        match self.skip(|c| c.is_ascii_digit()).parse::<i64>() {
            Ok(n) if n <= LARGEST => Ok(sign * n),
            Ok(_) => self.fail("the number is too large"),
            Err(_) => self.fail("a number is missing"),
        }
    }

    pub(super) fn index(&mut self) -> Fallible<usize> {
        let n = self.int()?;
        usize::try_from(n).or_else(|_| self.fail("a number below 0 stands where there is none"))
    }

    pub(super) fn float(&mut self) -> Fallible<f32> {
        self.decimal().parse().or_else(|_| self.fail("a number is missing"))
    }

    pub(super) fn bool(&mut self) -> Fallible<bool> {
        self.word().parse().or_else(|_| self.fail("true or false is missing"))
    }

    pub(super) fn hex(&mut self) -> Fallible<Vec<u8>> {
        let digits = self.word();
        let pairs: Option<Vec<u8>> =
            digits.as_bytes().chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok()).collect();
        pairs.filter(|_| digits.len().is_multiple_of(2)).map_or_else(|| self.fail("the bytes are not in hex"), Ok)
    }

    pub(super) fn dtype(&mut self) -> Fallible<DType> {
        use DType::{BF16, Bool, F16, F32, F64, I8, I32, I64, U8};
        let word = self.word();
        let found = [F32, F16, BF16, F64, I64, I32, U8, I8, Bool].into_iter().find(|t| t.name() == word);
        found.map_or_else(|| self.fail("an element type is missing"), Ok)
    }

    /// `f32[1, 4*u]`
    pub(super) fn ty(&mut self) -> Fallible<TensorType> {
        Ok(TensorType { dtype: self.dtype()?, shape: self.dims()? })
    }

    /// `: f32[2]`
    pub(super) fn colon_type(&mut self) -> Fallible<TensorType> {
        self.expect(": ")?;
        self.ty()
    }

    pub(super) fn list<T>(&mut self, open: &str, close: &str, mut item: impl FnMut(&mut Self) -> Fallible<T>) -> Fallible<Vec<T>> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.eat(close) {
            if !items.is_empty() {
                self.expect(", ")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(super) fn braced<T>(&mut self, inner: impl FnOnce(&mut Self) -> Fallible<T>) -> Fallible<T> {
        self.expect("{")?;
        let out = inner(self)?;
        self.expect("}")?;
        Ok(out)
    }

    pub(super) fn key<T>(&mut self, key: &str, value: impl FnOnce(&mut Self) -> Fallible<T>) -> Fallible<T> {
        self.expect(key)?;
        value(self)
    }

    pub(super) fn ints(&mut self) -> Fallible<Vec<i64>> {
        self.list("[", "]", Self::int)
    }

    pub(super) fn indices(&mut self) -> Fallible<Vec<usize>> {
        self.list("[", "]", Self::index)
    }

    pub(super) fn dims(&mut self) -> Fallible<Vec<Dim>> {
        self.list("[", "]", Self::dim)
    }

    pub(super) fn pairs(&mut self) -> Fallible<Vec<(i64, i64)>> {
        self.list("[", "]", |c| {
            let pair = c.list("(", ")", Self::int)?;
            if let [a, b] = pair[..] { Ok((a, b)) } else { c.fail("a pair has two numbers") }
        })
    }

    /// A sum of products of numbers, symbols and floors.
    pub(super) fn dim(&mut self) -> Fallible<Dim> {
        let mut sum = if self.eat("-") { self.term()? * -1 } else { self.term()? };
        loop {
            if self.eat(" + ") {
                sum = sum + self.term()?;
            } else if self.eat(" - ") {
                sum = sum - self.term()?;
            } else {
                return Ok(sum);
            }
        }
    }

    fn term(&mut self) -> Fallible<Dim> {
        let mut product = self.factor()?;
        while self.eat("*") {
            product = product * self.factor()?;
        }
        Ok(product)
    }

    fn factor(&mut self) -> Fallible<Dim> {
        if self.peek(|c| c.is_ascii_digit()) {
            return self.int().map(Dim::Const);
        }
        if !self.eat("floor((") {
            let name = if self.peek(|c| c == '"') { self.name()? } else { self.skip(|c| c.is_ascii_alphanumeric() || c == '_').into() };
            return if name.is_empty() { self.fail("an extent is missing") } else { Ok(Dim::symbol(&name)) };
        }
        self.depth += 1;
        if self.depth > DEEPEST_DIM {
            return self.fail("the extent is nested too deep");
        }
        let inner = self.dim()?;
        self.depth -= 1;
        self.expect(")/")?;
        let divisor = self.int()?;
        self.expect(")")?;
        if divisor > 0 { Ok(inner.div_floor(divisor)) } else { self.fail("a divisor is positive") }
    }
}
