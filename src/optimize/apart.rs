//! How far outputs of two forms of one model are apart.

use half::{bf16, f16};
use ndarray::ArrayView1;

use crate::diag::{Diagnostic, Result};
use crate::metrics::relative_l2;
use crate::runtime::tensor::{Element, Tensor};
use crate::weights::DType;

/// The worst relative error of the outputs.
///
/// # Errors
/// `measure/outputs-differ` if they cannot be those of two forms of one model.
pub(super) fn difference(want: &[(String, Tensor)], got: &[(String, Tensor)]) -> Result<f64> {
    let differ = |what: String| Diagnostic::new("measure/outputs-differ", what).help("measure two forms of one model");
    let mut worst = 0.0f64;
    for (name, tensor) in want {
        let (_, other) = got.iter().find(|(n, _)| n == name).ok_or_else(|| differ(format!("one model has no output `{name}`")))?;
        if (other.shape(), other.dtype()) != (tensor.shape(), tensor.dtype()) {
            let types = format!("{:?}{:?} and {:?}{:?}", tensor.dtype(), tensor.shape(), other.dtype(), other.shape());
            return Err(differ(format!("output `{name}` is {types}")).into());
        }
        worst = worst.max(apart(tensor, other));
    }
    Ok(worst)
}

/// How far one tensor is from the wanted one, relative to that, over all elements; 0 where both are zero everywhere, infinite where
/// one has a value that is no number and the other has not.
fn apart(want: &Tensor, got: &Tensor) -> f64 {
    // What is no finite number in both, and the same, is as good as equal numbers.
    let same = |w: f64, g: f64| w.is_nan() && g.is_nan() || w.to_bits() == g.to_bits();
    let compared = |(w, g): (f64, f64)| if same(w, g) && !w.is_finite() { (0.0, 0.0) } else { (w, g) };
    let (want, got): (Vec<f64>, Vec<f64>) = numbers(want).into_iter().zip(numbers(got)).map(compared).unzip();
    let ratio = relative_l2(ArrayView1::from(&got), ArrayView1::from(&want));
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

fn numbers(t: &Tensor) -> Vec<f64> {
    fn all<T: Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
        t.as_slice::<T>().unwrap_or_default().iter().map(|v| f(*v)).collect()
    }
    match t.dtype() {
        DType::F32 => all(t, |v: f32| v.into()),
        DType::F64 => all(t, |v: f64| v),
        DType::F16 => all(t, |v: f16| v.into()),
        DType::BF16 => all(t, |v: bf16| v.into()),
        DType::I64 => all(t, |v: i64| v as f64),
        DType::I32 => all(t, |v: i32| v.into()),
        DType::I8 => all(t, |v: i8| v.into()),
        DType::U8 => all(t, |v: u8| v.into()),
        DType::Bool | DType::Opaque => t.bytes().iter().map(|v| f64::from(*v)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_error_of_outputs() {
        let check = |want: &[f32], got: &[f32], expect: f64| {
            let tensor = |v: &[f32]| Tensor::from_slice(&[v.len()], v).unwrap();
            let found = apart(&tensor(want), &tensor(got));
            assert!((found - expect).abs() < 1e-9 || found.to_bits() == expect.to_bits(), "{want:?} {got:?}: {found}");
        };
        check(&[3.0, 4.0], &[3.0, 4.0], 0.0);
        check(&[3.0, 4.0], &[3.0, 4.5], 0.1);
        check(&[0.0], &[0.0], 0.0);
        check(&[0.0], &[1.0], f64::INFINITY);
        check(&[f32::NAN, 1.0], &[f32::NAN, 1.0], 0.0);
        check(&[f32::NAN, 1.0], &[0.0, 1.0], f64::INFINITY);
        check(&[f32::INFINITY], &[f32::INFINITY], 0.0);
    }
}
