//! Extents that no dim of a model's inputs gives: a written model reads them off the tensors that have them.
//!
//! An extent that depends on data, or that inference cannot name, is a symbol of its own ([`Dim::unknown`]). It is born as an
//! extent of some operator's output, so a tensor that has it, or has something from which it follows, is always at hand upstream.

use std::collections::BTreeSet;

use super::{Atom, Dim};

/// How the symbols of [`Dim::unknown`] begin.
const UNKNOWN: &str = "unknown";

impl Dim {
    /// The `n`-th extent that depends on data, or that cannot be named. Unlike an extent of an input it may be 0.
    pub fn unknown(n: usize) -> Self {
        Self::symbol(&format!("{UNKNOWN}{n}"))
    }

    /// Is it over extents of inputs alone, as far as names tell? Those are taken to be at least 1.
    pub fn is_named(&self) -> bool {
        self.symbols().iter().all(|s| !s.starts_with(UNKNOWN))
    }

    /// `(symbol, coefficient, constant)` if it is `coefficient * symbol + constant` with a positive coefficient.
    pub fn linear(&self) -> Option<(&str, i64, i64)> {
        let Self::Poly(p) = self else { return None };
        let constant = p.0.iter().find(|(m, _)| m.is_empty()).map_or(0, |(_, c)| *c);
        let mut others = p.0.iter().filter(|(m, _)| !m.is_empty());
        let ((monomial, coefficient), None) = (others.next()?, others.next()) else { return None };
        match &monomial[..] {
            [Atom::Symbol(name)] if *coefficient > 0 => Some((name, *coefficient, constant)),
            _ => None,
        }
    }

    /// Does it follow from symbols that are given and from these extents?
    pub fn follows<'a>(&self, given: impl Fn(&str) -> bool, extents: impl IntoIterator<Item = &'a Self>) -> bool {
        let mut solved = BTreeSet::new();
        for extent in extents {
            if extent == self {
                return true;
            }
            solved.extend(extent.linear().map(|(symbol, ..)| symbol));
        }
        self.symbols().iter().all(|s| given(s) || solved.contains(s.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_extents() {
        let (n, u, v) = (Dim::symbol("n"), Dim::unknown(1), Dim::unknown(2));
        let given = |s: &str| s == "n";
        assert!((n.clone() * 2).follows(given, []));
        assert!(!u.follows(given, []));
        assert!((u.clone() * 3 + n.clone()).follows(given, [&(u.clone() * 2 + 1)]));
        assert!((u.clone() * v.clone()).follows(given, [&(u.clone() * v.clone())]));
        assert!(!u.follows(given, [&(u.clone() * v.clone())]));
        assert!(u.follows(given, [&(u.clone() * v.clone()), &u]));
    }

    #[test]
    fn linear_in_one_symbol() {
        let u = Dim::unknown(7);
        assert_eq!((u.clone() * 4 - 3).linear(), Some(("unknown7", 4, -3)));
        assert_eq!((u.clone() * -1).linear(), None);
        assert_eq!((u.clone() * u).linear(), None);
        assert_eq!(Dim::Const(3).linear(), None);
    }

    #[test]
    fn names_of_inputs_are_no_unknowns() {
        assert!((Dim::symbol("h") * 2).is_named());
        assert!(!(Dim::symbol("h") * Dim::unknown(3)).is_named());
    }
}
