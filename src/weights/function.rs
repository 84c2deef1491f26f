//! Elementwise functions of weight expressions: a table each, from the word in texts to what is computed.
//!
//! Floats are computed in f64 and whole numbers in i64, both by one function for all element types; `interp` computes the same
//! in f64, which a test holds.

/// An elementwise function of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; the table says what is computed")]
pub enum Function {
    Sigmoid,
    Tanh,
    Erf,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Sin,
    Cos,
    Neg,
    Abs,
    Relu,
    Floor,
    Ceil,
    Silu,
    /// With erf.
    Gelu,
    /// With the tanh approximation.
    GeluTanh,
}

/// (function, word, meaning)
type FunctionRow = (Function, &'static str, fn(f64) -> f64);

/// In the order of the enum. Words are the ONNX operator types in lower case where there is one.
const FUNCTIONS: [FunctionRow; 17] = [
    (Function::Sigmoid, "sigmoid", sigmoid),
    (Function::Tanh, "tanh", f64::tanh),
    (Function::Erf, "erf", libm::erf),
    (Function::Exp, "exp", f64::exp),
    (Function::Log, "log", f64::ln),
    (Function::Sqrt, "sqrt", f64::sqrt),
    (Function::Reciprocal, "reciprocal", f64::recip),
    (Function::Sin, "sin", f64::sin),
    (Function::Cos, "cos", f64::cos),
    (Function::Neg, "neg", |x| -x),
    (Function::Abs, "abs", f64::abs),
    (Function::Relu, "relu", |x| if x < 0.0 { 0.0 } else { x }),
    (Function::Floor, "floor", f64::floor),
    (Function::Ceil, "ceil", f64::ceil),
    (Function::Silu, "silu", |x| x * sigmoid(x)),
    (Function::Gelu, "gelu", |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))),
    (Function::GeluTanh, "gelutanh", |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())),
];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Function {
    fn row(self) -> &'static FunctionRow {
        &FUNCTIONS[self as usize]
    }

    /// The word in texts: `sigmoid`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The function with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// What it computes.
    pub(super) fn of_float(self) -> fn(f64) -> f64 {
        self.row().2
    }

    /// What it computes of whole numbers, which wrap around, where it is defined for them.
    pub(super) fn of_whole(self) -> Option<fn(i64) -> i64> {
        match self {
            Self::Neg => Some(i64::wrapping_neg),
            Self::Abs => Some(i64::wrapping_abs),
            Self::Relu => Some(|x| x.max(0)),
            _ => None,
        }
    }
}

/// An elementwise function of two tensors that broadcast as in numpy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
}

/// (function, word, of floats, of whole numbers)
type Pair = (Arithmetic, &'static str, fn(f64, f64) -> f64, fn(i64, i64) -> i64);

/// In the order of the enum. Whole numbers wrap around; division cuts towards zero.
const ARITHMETIC: [Pair; 5] = [
    (Arithmetic::Add, "add", |a, b| a + b, i64::wrapping_add),
    (Arithmetic::Sub, "sub", |a, b| a - b, i64::wrapping_sub),
    (Arithmetic::Mul, "mul", |a, b| a * b, i64::wrapping_mul),
    (Arithmetic::Div, "div", |a, b| a / b, i64::wrapping_div),
    (Arithmetic::Pow, "pow", f64::powf, |a, b| a.wrapping_pow(u32::try_from(b).unwrap_or(u32::MAX))),
];

impl Arithmetic {
    fn row(self) -> &'static Pair {
        &ARITHMETIC[self as usize]
    }

    /// The word in texts: `add`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The function with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        ARITHMETIC.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// What it computes.
    pub(super) fn of_float(self) -> fn(f64, f64) -> f64 {
        self.row().2
    }

    /// What it computes of whole numbers; see [`Self::defined`].
    pub(super) fn of_whole(self) -> fn(i64, i64) -> i64 {
        self.row().3
    }

    /// Is it defined for this right operand, a whole number?
    pub(super) fn defined(self, right: i64) -> bool {
        match self {
            Self::Div => right != 0,
            Self::Pow => u32::try_from(right).is_ok(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_the_order_of_their_enums() {
        for row in &FUNCTIONS {
            assert_eq!((row.0.row().1, Function::from_name(row.1)), (row.1, Some(row.0)));
        }
        for row in &ARITHMETIC {
            assert_eq!((row.0.row().1, Arithmetic::from_name(row.1)), (row.1, Some(row.0)));
        }
    }

    /// Values from a table of functions to 15 digits.
    #[test]
    fn functions_have_their_values() {
        let check = |f: Function, x: f64, expect: f64| {
            let got = f.of_float()(x);
            assert!((got - expect).abs() <= 1e-15 * expect.abs().max(1.0), "{f:?}({x}) = {got}");
        };
        check(Function::Sigmoid, 1.0, 0.731_058_578_630_004_9);
        check(Function::Silu, 1.0, 0.731_058_578_630_004_9);
        check(Function::Gelu, 1.0, 0.841_344_746_068_542_9);
        check(Function::GeluTanh, 1.0, 0.841_191_990_608_276_8);
        check(Function::Erf, 0.5, 0.520_499_877_813_046_5);
        check(Function::Relu, -1.0, 0.0);
        check(Function::Log, 2.0, std::f64::consts::LN_2);
        assert_eq!(Arithmetic::Pow.of_whole()(3, 4), 81);
        assert!(!Arithmetic::Div.defined(0) && !Arithmetic::Pow.defined(-1) && Arithmetic::Mul.defined(0));
    }
}
