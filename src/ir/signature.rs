//! What a model takes and gives: named ports with symbolic shapes, and how concrete shapes meet them.

use std::collections::BTreeMap;
use std::fmt;

use super::dim::{Bindings, Dim};
use super::types::{DType, TensorType};

/// The ports of a model, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Name and type of each input.
    pub inputs: Vec<(String, TensorType)>,
    /// Name and type of each output; its symbols are symbols of the inputs.
    pub outputs: Vec<(String, TensorType)>,
}

/// One place where a concrete type does not meet a port. `port` indexes [`Signature::inputs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Another element type.
    DType {
        /// The port.
        port: usize,
        /// What the model wants.
        wants: DType,
    },
    /// Another number of axes.
    Rank {
        /// The port.
        port: usize,
        /// What the model wants.
        wants: usize,
    },
    /// An axis whose extent is fixed, or follows from the other ports.
    Extent {
        /// The port.
        port: usize,
        /// The axis.
        axis: usize,
        /// What the model wants.
        wants: i64,
    },
    /// An axis whose extent must have a form, such as `8*h`.
    Form {
        /// The port.
        port: usize,
        /// The axis.
        axis: usize,
        /// The form.
        form: Dim,
        /// The nearest extents of that form, below and above.
        nearest: (i64, i64),
    },
    /// Two axes that must agree on a symbol.
    Conflict {
        /// The port.
        port: usize,
        /// The axis.
        axis: usize,
        /// The symbol.
        symbol: String,
        /// What the axis would have to be.
        wants: i64,
        /// Port and axis that gave the symbol its value.
        first: (usize, usize),
    },
}

impl Mismatch {
    /// The port that does not fit.
    pub fn port(&self) -> usize {
        match self {
            Self::DType { port, .. }
            | Self::Rank { port, .. }
            | Self::Extent { port, .. }
            | Self::Form { port, .. }
            | Self::Conflict { port, .. } => *port,
        }
    }
}

impl Signature {
    /// Gives each symbol its value from the concrete element types and extents of the inputs, in the order of the ports.
    ///
    /// # Errors
    /// Every place that does not fit.
    pub fn unify(&self, given: &[(DType, Vec<i64>)]) -> Result<Bindings, Vec<Mismatch>> {
        let mut unifier = Unifier::default();
        for (port, ((_, wants), (dtype, dims))) in self.inputs.iter().zip(given).enumerate() {
            unifier.port(port, wants, *dtype, dims);
        }
        unifier.finish()
    }

    /// The type of each output under `bindings`.
    pub fn output_types(&self, bindings: &Bindings) -> Vec<TensorType> {
        self.outputs.iter().map(|(_, t)| t.bind(bindings)).collect()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ports: &[(String, TensorType)]| ports.iter().map(|(n, t)| format!("{n}: {t}")).collect::<Vec<_>>().join(", ");
        write!(f, "({}) -> ({})", list(&self.inputs), list(&self.outputs))
    }
}

#[derive(Default)]
struct Unifier {
    bound: BTreeMap<String, (i64, (usize, usize))>,
    /// Axes that speak of several symbols; checked when all are known.
    later: Vec<(usize, usize, Dim, i64)>,
    found: Vec<Mismatch>,
}

impl Unifier {
    fn port(&mut self, port: usize, wants: &TensorType, dtype: DType, dims: &[i64]) {
        if wants.dtype != dtype {
            self.found.push(Mismatch::DType { port, wants: wants.dtype });
        }
        if wants.rank() != dims.len() {
            self.found.push(Mismatch::Rank { port, wants: wants.rank() });
            return;
        }
        for (axis, (form, got)) in wants.shape.iter().zip(dims).enumerate() {
            self.axis(port, axis, form, *got);
        }
    }

    fn axis(&mut self, port: usize, axis: usize, form: &Dim, got: i64) {
        match (form, form.solve(got)) {
            (Dim::Const(wants), _) if *wants != got => self.found.push(Mismatch::Extent { port, axis, wants: *wants }),
            (Dim::Const(_), _) => {}
            (_, Ok(Some((symbol, value)))) => self.bind(port, axis, form, symbol, value),
            (_, Ok(None)) => self.later.push((port, axis, form.clone(), got)),
            (_, Err(nearest)) => self.found.push(Mismatch::Form { port, axis, form: form.clone(), nearest }),
        }
    }

    fn bind(&mut self, port: usize, axis: usize, form: &Dim, symbol: String, value: i64) {
        match self.bound.get(&symbol) {
            Some((known, _)) if *known == value => {}
            Some((known, first)) => {
                let wants = form.bind(&Bindings::from([(symbol.clone(), *known)])).as_const().unwrap_or(*known);
                self.found.push(Mismatch::Conflict { port, axis, symbol, wants, first: *first });
            }
            None => {
                self.bound.insert(symbol, (value, (port, axis)));
            }
        }
    }

    fn finish(mut self) -> Result<Bindings, Vec<Mismatch>> {
        let bindings: Bindings = self.bound.into_iter().map(|(s, (v, _))| (s, v)).collect();
        for (port, axis, form, got) in self.later {
            // A symbol without a value can only be missing because its own axis is already reported.
            if let Some(wants) = form.bind(&bindings).as_const().filter(|w| *w != got) {
                self.found.push(Mismatch::Extent { port, axis, wants });
            }
        }
        if self.found.is_empty() { Ok(bindings) } else { Err(self.found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vae() -> Signature {
        let side = |s: &str| Dim::symbol(s) * 8;
        let image = TensorType::new(DType::F32, [Dim::symbol("batch"), 3.into(), side("h"), side("w")]);
        let latents = TensorType::new(DType::F32, [Dim::symbol("batch"), 4.into(), Dim::symbol("h"), Dim::symbol("w")]);
        Signature { inputs: vec![("image".into(), image)], outputs: vec![("latents".into(), latents)] }
    }

    #[test]
    fn sizes_that_fit_give_the_outputs() {
        let bindings = vae().unify(&[(DType::F32, vec![1, 3, 64, 128])]).expect("fits");
        assert_eq!(vae().output_types(&bindings)[0].to_string(), "f32[1, 4, 8, 16]");
    }

    #[test]
    fn every_mismatch_is_reported() {
        let check = |dtype, dims: &[i64], want: Vec<Mismatch>| assert_eq!(vae().unify(&[(dtype, dims.to_vec())]), Err(want), "{dims:?}");
        check(DType::F16, &[1, 3, 64], vec![Mismatch::DType { port: 0, wants: DType::F32 }, Mismatch::Rank { port: 0, wants: 4 }]);
        let form = Mismatch::Form { port: 0, axis: 2, form: Dim::symbol("h") * 8, nearest: (64, 72) };
        check(DType::F32, &[1, 4, 70, 64], vec![Mismatch::Extent { port: 0, axis: 1, wants: 3 }, form]);
    }

    #[test]
    fn ports_agree_on_symbols() {
        let t = |s: &[Dim]| TensorType::new(DType::F32, s.to_vec());
        let b = || Dim::symbol("batch");
        let signature = Signature { inputs: vec![("a".into(), t(&[b()])), ("b".into(), t(&[b() * 2]))], outputs: vec![] };
        let conflict = Mismatch::Conflict { port: 1, axis: 0, symbol: "batch".into(), wants: 6, first: (0, 0) };
        assert_eq!(signature.unify(&[(DType::F32, vec![3]), (DType::F32, vec![8])]), Err(vec![conflict]));
    }
}
