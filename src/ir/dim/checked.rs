//! Arithmetic on dims that says when it has no answer: overflow, polynomials that grow without end, division that leaves a rest,
//! order that depends on the symbols.

use std::collections::BTreeMap;

use super::{Atom, Dim, Poly};

/// Atoms of a polynomial, nested ones included, above which checked arithmetic gives up: no real model comes near it, and a file
/// made to exhaust memory stops here.
const MAX_ATOMS: usize = 256;
/// Polynomials that the search for a bound looks at before it gives up.
const MAX_STEPS: usize = 64;

type Terms = BTreeMap<Vec<Atom>, i64>;

impl Dim {
    pub(super) fn add_with(&self, rhs: &Self, plus: impl Fn(i64, i64) -> Option<i64>) -> Option<Self> {
        if let (Self::Const(a), Self::Const(b)) = (self, rhs) {
            return plus(*a, *b).map(Self::Const);
        }
        let mut terms = self.terms();
        for (monomial, c) in rhs.terms() {
            let sum = terms.entry(monomial).or_default();
            *sum = plus(*sum, c)?;
        }
        Some(Self::from_terms(terms))
    }

    pub(super) fn mul_with(
        &self,
        rhs: &Self,
        times: impl Fn(i64, i64) -> Option<i64>,
        plus: impl Fn(i64, i64) -> Option<i64>,
    ) -> Option<Self> {
        if let (Self::Const(a), Self::Const(b)) = (self, rhs) {
            return times(*a, *b).map(Self::Const);
        }
        let mut terms = Terms::new();
        for (ma, ca) in self.terms() {
            for (mb, cb) in rhs.terms() {
                let mut monomial: Vec<Atom> = ma.iter().chain(&mb).cloned().collect();
                monomial.sort();
                let sum = terms.entry(monomial).or_default();
                *sum = plus(*sum, times(ca, cb)?)?;
            }
        }
        Some(Self::from_terms(terms))
    }

    /// `self + rhs`; none on overflow or if the polynomial becomes too long.
    pub fn checked_add(&self, rhs: &Self) -> Option<Self> {
        self.add_with(rhs, i64::checked_add)?.bounded()
    }

    /// `self - rhs`, as [`Self::checked_add`].
    pub fn checked_sub(&self, rhs: &Self) -> Option<Self> {
        self.checked_add(&rhs.checked_mul(&Self::Const(-1))?)
    }

    /// `self * rhs`, as [`Self::checked_add`].
    pub fn checked_mul(&self, rhs: &Self) -> Option<Self> {
        // Before the product is made: its terms are at most as many as the factors' multiplied.
        if self.atoms().saturating_mul(rhs.atoms()) > MAX_ATOMS * MAX_ATOMS {
            return None;
        }
        self.mul_with(rhs, i64::checked_mul, i64::checked_add)?.bounded()
    }

    /// `floor(self / divisor)`; none for a divisor below 1.
    pub fn checked_div_floor(&self, divisor: i64) -> Option<Self> {
        if divisor < 1 { None } else { self.div_floor(divisor).bounded() }
    }

    /// `ceil(self / divisor)`; none for a divisor below 1 or on overflow.
    pub fn checked_div_ceil(&self, divisor: i64) -> Option<Self> {
        self.checked_add(&Self::Const(divisor.checked_sub(1)?))?.checked_div_floor(divisor)
    }

    /// The product of all dims; none on overflow.
    pub fn checked_product<'a>(dims: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        dims.into_iter().try_fold(Self::Const(1), |p, d| p.checked_mul(d))
    }

    /// `self / divisor` if the division leaves no rest for any value of the symbols that does not make the divisor 0.
    ///
    /// Long division of polynomials in graded order (Cox, Little, O'Shea, *Ideals, Varieties, and Algorithms*, section 2.3); floors
    /// are symbols here.
    pub fn checked_div_exact(&self, divisor: &Self) -> Option<Self> {
        if let Self::Const(d) = divisor {
            return if *d == 0 { None } else { self.div_exact(*d).filter(|_| *d != -1) };
        }
        let (lead, lead_c) = divisor.leading_term()?;
        let mut rest = self.clone();
        let mut quotient = Self::Const(0);
        for _ in 0..MAX_ATOMS {
            if rest == Self::Const(0) {
                return Some(quotient);
            }
            let (monomial, c) = rest.leading_term()?;
            let term = Self::from_terms(BTreeMap::from([(without(&monomial, &lead)?, exact(c, lead_c)?)]));
            quotient = quotient.checked_add(&term)?;
            rest = rest.checked_sub(&term.checked_mul(divisor)?)?;
        }
        None
    }

    /// A number that `self` is never below while every symbol is at least `least` (and `least` is not negative); none if none was found.
    pub fn lower_bound(&self, least: i64) -> Option<i64> {
        self.lower(least, &mut { MAX_STEPS })
    }

    /// Whether `self <= rhs` for all values of the symbols from `least` on: `Some(false)` if it never holds, none if it depends.
    pub fn at_most(&self, rhs: &Self, least: i64) -> Option<bool> {
        if let (Self::Const(a), Self::Const(b)) = (self, rhs) {
            return Some(a <= b);
        }
        if rhs.checked_sub(self)?.lower_bound(least).is_some_and(|n| n >= 0) {
            return Some(true);
        }
        self.checked_sub(rhs)?.lower_bound(least).is_some_and(|n| n > 0).then_some(false)
    }

    /// The smaller one, if it is the same for all values of the symbols from `least` on.
    pub fn decided_min<'a>(&'a self, rhs: &'a Self, least: i64) -> Option<&'a Self> {
        match (self.at_most(rhs, least), rhs.at_most(self, least)) {
            (Some(true), _) => Some(self),
            (_, Some(true)) => Some(rhs),
            _ => None,
        }
    }

    /// The larger one, if it is the same for all values of the symbols from `least` on.
    pub fn decided_max<'a>(&'a self, rhs: &'a Self, least: i64) -> Option<&'a Self> {
        let smaller = self.decided_min(rhs, least)?;
        Some(if smaller == self { rhs } else { self })
    }

    fn lower(&self, least: i64, steps: &mut usize) -> Option<i64> {
        let Self::Poly(p) = self else { return self.as_const() };
        *steps = steps.checked_sub(1)?;
        p.sum_of_lower_bounds(least, steps).or_else(|| self.lower_without_floor(p, least, steps))
    }

    /// With one floor replaced by a bound of it: `x - d + 1 <= d*floor(x/d) <= x`.
    fn lower_without_floor(&self, p: &Poly, least: i64, steps: &mut usize) -> Option<i64> {
        let (monomial, c, inner, d) = p.0.iter().find_map(|(m, c)| match &m[..] {
            [Atom::Floor(inner, d)] => Some((m, *c, inner, *d)),
            _ => None,
        })?;
        let term = Self::from_terms(BTreeMap::from([(monomial.clone(), c)]));
        let mut replaced = Self::Poly(inner.clone());
        if c > 0 {
            replaced = replaced.checked_sub(&Self::Const(d - 1))?;
        }
        let scaled = self.checked_sub(&term)?.checked_mul(&Self::Const(d))?;
        let bound = scaled.checked_add(&replaced.checked_mul(&Self::Const(c))?)?.lower(least, steps)?;
        Some(bound.div_euclid(d) + i64::from(bound.rem_euclid(d) > 0))
    }

    fn leading_term(&self) -> Option<(Vec<Atom>, i64)> {
        let key = |m: &Vec<Atom>| (m.len(), m.clone());
        match self {
            Self::Const(0) => None,
            Self::Const(c) => Some((Vec::new(), *c)),
            Self::Poly(p) => p.0.iter().max_by_key(|(m, _)| key(m)).cloned(),
        }
    }

    fn atoms(&self) -> usize {
        match self {
            Self::Const(_) => 1,
            Self::Poly(p) => p.atoms(),
        }
    }

    fn bounded(self) -> Option<Self> {
        (self.atoms() <= MAX_ATOMS).then_some(self)
    }
}

/// `monomial / factor` if it divides.
fn without(monomial: &[Atom], factor: &[Atom]) -> Option<Vec<Atom>> {
    let mut rest = monomial.to_vec();
    for atom in factor {
        let at = rest.iter().position(|a| a == atom)?;
        rest.remove(at);
    }
    Some(rest)
}

fn exact(c: i64, d: i64) -> Option<i64> {
    if c.checked_rem(d)? == 0 { c.checked_div(d) } else { None }
}

impl Poly {
    fn atoms(&self) -> usize {
        self.0.iter().map(|(m, _)| 1 + m.iter().map(Atom::atoms).sum::<usize>()).sum()
    }

    fn sum_of_lower_bounds(&self, least: i64, steps: &mut usize) -> Option<i64> {
        self.0.iter().try_fold(0_i64, |sum, (monomial, c)| {
            let bound = if monomial.is_empty() { *c } else { term_lower_bound(monomial, *c, least, steps)? };
            sum.checked_add(bound)
        })
    }
}

fn term_lower_bound(monomial: &[Atom], c: i64, least: i64, steps: &mut usize) -> Option<i64> {
    let bounds: Vec<i64> = monomial.iter().map(|a| a.lower_bound(least, steps)).collect::<Option<_>>()?;
    // A product of several is bounded by the product of the bounds only if none of them can be negative.
    let usable = c > 0 && (bounds.len() == 1 || bounds.iter().all(|b| *b >= 0));
    if usable { bounds.iter().try_fold(c, |p, b| p.checked_mul(*b)) } else { None }
}

impl Atom {
    fn atoms(&self) -> usize {
        match self {
            Self::Symbol(_) => 1,
            Self::Floor(p, _) => 1 + p.atoms(),
        }
    }

    fn lower_bound(&self, least: i64, steps: &mut usize) -> Option<i64> {
        match self {
            Self::Symbol(_) => Some(least),
            Self::Floor(p, d) => Some(Dim::Poly(p.clone()).lower(least, steps)?.div_euclid(*d)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(name: &str) -> Dim {
        Dim::symbol(name)
    }

    #[test]
    fn overflow_is_no_answer() {
        let most = Dim::Const(i64::MAX);
        assert_eq!(most.checked_add(&Dim::Const(1)), None);
        assert_eq!(most.checked_mul(&Dim::Const(2)), None);
        assert_eq!((s("a") * i64::MAX).checked_add(&s("a")), None);
        assert_eq!(Dim::Const(0).checked_sub(&Dim::Const(i64::MIN)), None);
        assert_eq!(Dim::Const(7).checked_div_floor(0), None);
        assert_eq!(Dim::Const(7).checked_div_ceil(2), Some(Dim::Const(4)));
    }

    #[test]
    fn polynomials_stay_short() {
        let mut long = s("x0") + 1;
        for i in 1..64 {
            match long.checked_mul(&(s(&format!("x{i}")) + 1)) {
                Some(longer) => long = longer,
                None => return,
            }
        }
        panic!("2^64 terms");
    }

    #[test]
    fn exact_division() {
        let (b, f, c) = (s("b"), s("f"), s("c"));
        let check = |n: &Dim, d: &Dim, expect: Option<Dim>| assert_eq!(n.checked_div_exact(d), expect, "{n} / {d}");
        check(&(b.clone() * f.clone() * c.clone()), &(b.clone() * f.clone()), Some(c.clone()));
        check(&(b.clone() * 64), &Dim::Const(8), Some(b.clone() * 8));
        let (sum, difference) = (b.clone() + f.clone(), b.clone() - f.clone());
        check(&(sum.clone() * difference.clone()), &sum, Some(difference.clone()));
        check(&(sum.clone() * sum.clone() * c.clone()), &sum, Some(sum.clone() * c.clone()));
        check(&(b.clone() * f.div_floor(2)), &b, Some(f.div_floor(2)));
        check(&(b.clone() + 1), &b, None);
        check(&b, &Dim::Const(2), None);
        check(&b, &Dim::Const(0), None);
    }

    #[test]
    fn order_of_symbols() {
        let n = s("n");
        let check = |a: &Dim, b: &Dim, least: i64, expect: Option<bool>| assert_eq!(a.at_most(b, least), expect, "{a} <= {b}");
        check(&n, &(n.clone() + 1), 0, Some(true));
        check(&(n.clone() + 1), &n, 0, Some(false));
        check(&Dim::Const(1), &n, 0, None);
        check(&Dim::Const(1), &n, 1, Some(true));
        check(&(n.clone() + 1).div_floor(2), &n, 1, Some(true));
        check(&(n.clone() * 2), &n, 0, None);
        check(&n.div_floor(3), &n, 0, Some(true));
        check(&Dim::Const(0), &((n.clone() - 1).div_floor(2) + 1), 0, Some(true));
        check(&s("m"), &n, 0, None);
    }
}
