//! Symbolic dimensions: integer polynomials over named symbols, with floor division by a constant.
//!
//! A [`Dim`] is kept in normal form (terms sorted, like terms added), so two dims are equal exactly when their normal forms
//! are. Floor division distributes over terms whose coefficient the divisor divides; what is left becomes an opaque atom.
//! So `(8*u - 1) / 2 + 1 = 4*u`, which is what lets the skips of a U-net join without knowing the size of the picture.
//!
//! The operators `+ - *` saturate at the ends of `i64`: no size that a file can state makes them panic or wrap, and a result
//! at an end is larger than anything that fits a machine. Who must know whether a result is right uses [`Dim::checked_add`]
//! and its like, which also bound the length of the polynomials.

mod carried;
mod checked;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

/// What each symbol is worth.
pub type Bindings = BTreeMap<String, i64>;

/// The extent of one axis.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dim {
    /// A known number.
    Const(i64),
    /// A polynomial with at least one symbol.
    Poly(Arc<Poly>),
}

/// A factor of a term of [`Dim::sum`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Factor {
    /// A symbol.
    Symbol(Arc<str>),
    /// A dim divided by a positive number, rounded down.
    Floor(Dim, i64),
}

/// A sum of terms in normal form: monomials ascending, no zero coefficients, not a constant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Poly(Vec<(Vec<Atom>, i64)>);

/// A factor of a monomial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Atom {
    Symbol(Arc<str>),
    Floor(Arc<Poly>, i64),
}

impl Dim {
    /// The symbol `name`.
    pub fn symbol(name: &str) -> Self {
        Self::from_atom(Atom::Symbol(name.into()))
    }

    /// The number, if there is no symbol in it.
    pub fn as_const(&self) -> Option<i64> {
        match self {
            Self::Const(c) => Some(*c),
            Self::Poly(_) => None,
        }
    }

    /// `floor(self / divisor)`; `divisor` is positive.
    #[must_use]
    pub fn div_floor(&self, divisor: i64) -> Self {
        debug_assert!(divisor > 0);
        let poly = match self {
            Self::Const(c) => return Self::Const(c.div_euclid(divisor)),
            Self::Poly(p) => p,
        };
        let mut whole = BTreeMap::new();
        let mut rest = BTreeMap::new();
        for (monomial, c) in &poly.0 {
            // A constant gives its quotient and leaves 0..divisor behind; another term moves only if it divides evenly.
            let (quotient, remainder) =
                if monomial.is_empty() || c % divisor == 0 { (c.div_euclid(divisor), c.rem_euclid(divisor)) } else { (0, *c) };
            whole.insert(monomial.clone(), quotient);
            rest.insert(monomial.clone(), remainder);
        }
        let whole = Self::from_terms(whole);
        match Self::from_terms(rest) {
            Self::Const(_) => whole, // 0 <= rest < divisor
            Self::Poly(p) => whole + Self::from_atom(Atom::floor(p, divisor)),
        }
    }

    /// `self / divisor` if it divides for every value of the symbols.
    pub fn div_exact(&self, divisor: i64) -> Option<Self> {
        match self {
            Self::Const(c) => (c.checked_rem(divisor)? == 0).then_some(Self::Const(c / divisor)),
            Self::Poly(p) => {
                let whole = p.0.iter().all(|(_, c)| c.checked_rem(divisor) == Some(0));
                whole.then(|| Self::from_terms(p.0.iter().map(|(m, c)| (m.clone(), c / divisor)).collect()))
            }
        }
    }

    /// The dim that times `by` is this one, if there is one as a polynomial: long division by the largest terms.
    pub fn quotient(&self, by: &Self) -> Option<Self> {
        let (divisor, lead_coefficient) = by.largest_term()?;
        let (mut rest, mut quotient) = (self.clone(), Self::Const(0));
        // Each round removes the largest term. Quotients of sizes have few terms, so more rounds are not tried.
        for _ in 0..64 {
            let Some((monomial, c)) = rest.largest_term() else { return Some(quotient) };
            let mut left = monomial;
            for atom in &divisor {
                let at = left.iter().position(|a| a == atom)?;
                left.remove(at);
            }
            (c.checked_rem(lead_coefficient)? == 0).then_some(())?;
            let term = Self::from_terms(BTreeMap::from([(left, c / lead_coefficient)]));
            rest = &rest - &(&term * by);
            quotient = &quotient + &term;
        }
        None
    }

    /// The largest term by degree, then by symbols: an order that products keep.
    fn largest_term(&self) -> Option<(Vec<Atom>, i64)> {
        self.terms().into_iter().filter(|(_, c)| *c != 0).max_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)))
    }

    /// The symbol, if it is one and nothing more.
    pub fn as_symbol(&self) -> Option<&str> {
        let Self::Poly(p) = self else { return None };
        match &p.0[..] {
            [(monomial, 1)] => match &monomial[..] {
                [Atom::Symbol(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The sum that it is: coefficient and factors of each term; a number is one term without factors.
    pub fn sum(&self) -> Vec<(i64, Vec<Factor>)> {
        let factor = |atom: Atom| match atom {
            Atom::Symbol(name) => Factor::Symbol(name),
            Atom::Floor(p, divisor) => Factor::Floor(Self::Poly(p), divisor),
        };
        self.terms().into_iter().map(|(monomial, c)| (c, monomial.into_iter().map(factor).collect())).collect()
    }

    /// Replaces symbols by numbers; those without a binding stay.
    #[must_use]
    pub fn bind(&self, bindings: &Bindings) -> Self {
        self.with(&|name| bindings.get(name).map(|v| Self::Const(*v)))
    }

    /// Replaces one symbol.
    #[must_use]
    pub fn replace(&self, symbol: &str, by: &Self) -> Self {
        self.with(&|name| (name == symbol).then(|| by.clone()))
    }

    fn with(&self, worth: &dyn Fn(&str) -> Option<Self>) -> Self {
        let Self::Poly(p) = self else { return self.clone() };
        p.0.iter().fold(Self::Const(0), |sum, (monomial, c)| {
            sum + monomial.iter().fold(Self::Const(*c), |product, atom| &product * &atom.with(worth))
        })
    }

    /// Finds the value of the one symbol of `coefficient * symbol + constant = value`.
    ///
    /// # Errors
    /// The two nearest values that the form can take, if `value` is none of them; `None` inside if the form is not linear in one symbol.
    pub fn solve(&self, value: i64) -> Result<Option<(String, i64)>, (i64, i64)> {
        let Self::Poly(p) = self else { return Ok(None) };
        let constant = p.0.iter().find(|(m, _)| m.is_empty()).map_or(0, |(_, c)| *c);
        let linear: Vec<_> = p.0.iter().filter(|(m, _)| !m.is_empty()).collect();
        let [(monomial, coefficient)] = linear[..] else { return Ok(None) };
        let [Atom::Symbol(name)] = &monomial[..] else { return Ok(None) };
        let (constant, coefficient) = (i128::from(constant), i128::from(*coefficient));
        let below = (i128::from(value) - constant).div_euclid(coefficient);
        let at = |n: i128| clamp(n * coefficient + constant);
        if below * coefficient + constant == i128::from(value) {
            return Ok(Some((name.to_string(), clamp(below))));
        }
        Err((at(below), at(below + 1)))
    }

    /// The symbols in it, in order.
    pub fn symbols(&self) -> Vec<String> {
        let mut out = std::collections::BTreeSet::new();
        if let Self::Poly(p) = self {
            p.collect_symbols(&mut out);
        }
        out.into_iter().collect()
    }

    fn from_atom(atom: Atom) -> Self {
        Self::from_terms(BTreeMap::from([(vec![atom], 1)]))
    }

    fn terms(&self) -> BTreeMap<Vec<Atom>, i64> {
        match self {
            Self::Const(c) => BTreeMap::from([(Vec::new(), *c)]),
            Self::Poly(p) => p.0.iter().cloned().collect(),
        }
    }

    fn from_terms(mut terms: BTreeMap<Vec<Atom>, i64>) -> Self {
        terms.retain(|_, c| *c != 0);
        match terms.len() {
            0 => Self::Const(0),
            1 if terms.contains_key(&Vec::new()) => Self::Const(terms[&Vec::new()]),
            _ => Self::Poly(Arc::new(Poly(terms.into_iter().collect()))),
        }
    }
}

/// The nearest number that fits.
fn clamp(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

impl Atom {
    /// `floor(p / divisor)` in normal form: `floor(floor(x / a) / b) = floor(x / (a*b))`, and a factor that all terms share with the
    /// divisor is cancelled. So sizes that two chains of strided layers give are equal where they must be.
    fn floor(p: Arc<Poly>, divisor: i64) -> Self {
        if let Some((inner, a, constant)) = p.as_floor_plus_constant()
            && let (Some(product), Some(shift)) = (a.checked_mul(divisor), a.checked_mul(constant))
            && let Some(Dim::Poly(flat)) = Dim::Poly(inner).checked_add(&Dim::Const(shift))
        {
            return Self::floor(flat, product);
        }
        let symbols = p.0.iter().filter(|(m, _)| !m.is_empty());
        let common = symbols.fold(divisor, |g, (_, c)| gcd(g, *c));
        if common <= 1 {
            return Self::Floor(p, divisor);
        }
        let terms = p.0.iter().map(|(m, c)| (m.clone(), c.div_euclid(common))).collect();
        match Dim::from_terms(terms) {
            Dim::Poly(p) => Self::Floor(p, divisor / common),
            Dim::Const(_) => Self::Floor(p, divisor),
        }
    }

    fn with(&self, worth: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        match self {
            Self::Symbol(name) => worth(name).unwrap_or_else(|| Dim::symbol(name)),
            Self::Floor(p, divisor) => Dim::Poly(p.clone()).with(worth).div_floor(*divisor),
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a.checked_rem(b).unwrap_or(0)).saturating_abs() }
}

impl Poly {
    /// `(p, a, c)` if this is `floor(p / a) + c`.
    fn as_floor_plus_constant(&self) -> Option<(Arc<Self>, i64, i64)> {
        let mut floors = self.0.iter().filter(|(m, _)| !m.is_empty());
        let (monomial, 1) = floors.next()? else { return None };
        let [Atom::Floor(p, a)] = &monomial[..] else { return None };
        let constant = self.0.iter().find(|(m, _)| m.is_empty()).map_or(0, |(_, c)| *c);
        floors.next().is_none().then(|| (p.clone(), *a, constant))
    }

    fn collect_symbols(&self, out: &mut std::collections::BTreeSet<String>) {
        for atom in self.0.iter().flat_map(|(m, _)| m) {
            match atom {
                Atom::Symbol(name) => {
                    out.insert(name.to_string());
                }
                Atom::Floor(p, _) => p.collect_symbols(out),
            }
        }
    }
}

/// The product of all dims.
pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
    dims.into_iter().fold(Dim::Const(1), |p, d| &p * d)
}

impl From<i64> for Dim {
    fn from(c: i64) -> Self {
        Self::Const(c)
    }
}

impl From<usize> for Dim {
    fn from(c: usize) -> Self {
        Self::Const(i64::try_from(c).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Dim {
    fn from(c: u64) -> Self {
        Self::Const(i64::try_from(c).unwrap_or(i64::MAX))
    }
}

impl From<i32> for Dim {
    fn from(c: i32) -> Self {
        Self::Const(i64::from(c))
    }
}

impl Add<&Dim> for &Dim {
    type Output = Dim;
    fn add(self, rhs: &Dim) -> Dim {
        self.add_with(rhs, |a, b| Some(a.saturating_add(b))).expect("saturating arithmetic always has a result")
    }
}

impl Mul<&Dim> for &Dim {
    type Output = Dim;
    fn mul(self, rhs: &Dim) -> Dim {
        self.mul_with(rhs, |a, b| Some(a.saturating_mul(b)), |a, b| Some(a.saturating_add(b)))
            .expect("saturating arithmetic always has a result")
    }
}

impl Sub<&Dim> for &Dim {
    type Output = Dim;
    fn sub(self, rhs: &Dim) -> Dim {
        self + &(rhs * &Dim::Const(-1))
    }
}

macro_rules! owned {
    ($trait:ident, $method:ident) => {
        impl<T: Into<Dim>> $trait<T> for Dim {
            type Output = Dim;
            fn $method(self, rhs: T) -> Dim {
                (&self).$method(&rhs.into())
            }
        }
    };
}
owned!(Add, add);
owned!(Sub, sub);
owned!(Mul, mul);

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Const(c) => write!(f, "{c}"),
            Self::Poly(p) => fmt::Display::fmt(p, f),
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Poly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Symbols first, the constant last, as people write it.
        let ordered = self.0.iter().filter(|(m, _)| !m.is_empty()).chain(self.0.iter().filter(|(m, _)| m.is_empty()));
        for (i, (monomial, c)) in ordered.enumerate() {
            let sign = match (i, *c < 0) {
                (0, true) => "-",
                (0, false) => "",
                (_, true) => " - ",
                (_, false) => " + ",
            };
            let factors: Vec<String> = monomial.iter().map(ToString::to_string).collect();
            match (c.unsigned_abs(), factors.is_empty()) {
                (1, false) => write!(f, "{sign}{}", factors.join("*"))?,
                (c, true) => write!(f, "{sign}{c}")?,
                (c, false) => write!(f, "{sign}{c}*{}", factors.join("*"))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Files may call a dim anything; what is no plain word stands in quotes.
            Self::Symbol(name)
                if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                f.write_str(name)
            }
            Self::Symbol(name) => write!(f, "{name:?}"),
            Self::Floor(p, divisor) => write!(f, "floor(({p})/{divisor})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unet_level_comes_back_to_its_size() {
        let h = Dim::symbol("u") * 8;
        let down = (h.clone() + 2 - 3).div_floor(2) + 1; // convolution: kernel 3, stride 2, padding 1
        assert_eq!(down.to_string(), "4*u");
        assert_eq!(down * 2, h);
    }

    #[test]
    fn polynomials_have_one_normal_form() {
        let (a, b) = (Dim::symbol("a"), Dim::symbol("b"));
        assert_eq!((a.clone() + 1) * (b.clone() - 2), a.clone() * b.clone() - a.clone() * 2 + b - 2);
        assert_eq!((a.clone() - a.clone()).as_const(), Some(0));
        assert_eq!((a + 1).div_floor(3).bind(&Bindings::from([("a".into(), 7)])).as_const(), Some(2));
    }

    #[test]
    fn floors_have_one_normal_form() {
        let n = || Dim::symbol("n");
        assert_eq!((n().div_floor(2) + 3).div_floor(2), (n() + 6).div_floor(4));
        assert_eq!((n() * 2 + 1).div_floor(4), n().div_floor(2));
        assert_eq!((n() * 6 + 4).div_floor(4).to_string(), "floor((3*n)/2) + 1");
    }

    #[test]
    fn operators_saturate() {
        let most = Dim::Const(i64::MAX);
        assert_eq!((most.clone() + 1, most.clone() * 2), (most.clone(), most.clone()));
        assert_eq!(Dim::Const(i64::MIN) - 1, Dim::Const(i64::MIN));
        assert_eq!((Dim::symbol("a") * i64::MAX) + Dim::symbol("a"), Dim::symbol("a") * i64::MAX);
        assert_eq!((Dim::symbol("a") * i64::MIN).to_string(), "-9223372036854775808*a");
        assert_eq!(Dim::from(u64::MAX), most);
        assert_eq!((Dim::symbol("a") * 2).solve(i64::MIN), Ok(Some(("a".into(), i64::MIN / 2))));
    }

    #[test]
    fn a_product_divides_by_its_factors() {
        let (a, b) = (Dim::symbol("a"), Dim::symbol("b"));
        let product = (a.clone() * 2 + 1) * b.clone();
        assert_eq!(product.quotient(&b), Some(a.clone() * 2 + 1));
        assert_eq!(product.quotient(&(a.clone() * 2 + 1)), Some(b.clone()));
        assert_eq!((a.clone() * 6).quotient(&Dim::Const(3)), Some(a.clone() * 2));
        assert_eq!((a.clone() + 1).quotient(&b), None);
        assert_eq!(Dim::Const(7).quotient(&Dim::Const(2)), None);
        assert_eq!(a.quotient(&Dim::Const(0)), None);
    }

    #[test]
    fn solving_names_the_nearest_sizes() {
        let eight = Dim::symbol("u") * 8;
        assert_eq!(eight.solve(72), Ok(Some(("u".into(), 9))));
        assert_eq!(eight.solve(70), Err((64, 72)));
        assert_eq!((Dim::symbol("u") * Dim::symbol("v")).solve(70), Ok(None));
    }
}
