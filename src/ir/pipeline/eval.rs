//! The pipeline's primitives, evaluated: the one implementation, for `runtime` between model calls and for `interp`. Arithmetic in f32.

use ndarray::{Array1, Array3, Array4, ArrayD, ArrayView3, ArrayViewD, Axis, Ix1, IxDyn, Slice};

use super::prim::Prim;
use crate::diag::{Diagnostic, Result};
use crate::host::{change, convert, noise, resize, sampler, schedule};
use crate::spec::{Filter, Prediction};

/// A value between the nodes of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An f32 tensor.
    Tensor(ArrayD<f32>),
    /// A picture, `[height, width, 3]`.
    Picture(Array3<u8>),
}

impl Value {
    /// The tensor.
    ///
    /// # Errors
    /// `internal/bug` if it is a picture: the type checker let it through.
    pub fn tensor(&self) -> Result<ArrayViewD<'_, f32>> {
        match self {
            Self::Tensor(t) => Ok(t.view()),
            Self::Picture(_) => Err(mistyped("a picture where a tensor belongs")),
        }
    }

    /// The picture.
    ///
    /// # Errors
    /// `internal/bug` if it is a tensor: the type checker let it through.
    pub fn picture(&self) -> Result<ArrayView3<'_, u8>> {
        match self {
            Self::Picture(p) => Ok(p.view()),
            Self::Tensor(_) => Err(mistyped("a tensor where a picture belongs")),
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Tensor(t) => t.len() as u64 * 4,
            Self::Picture(p) => p.len() as u64,
        }
    }
}

fn mistyped(what: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::new("internal/bug", format!("the pipeline hands on {what}")))
}

/// The value of a primitive.
///
/// # Errors
/// `internal/bug` if the inputs are not what the type checker promised.
pub fn eval_prim(prim: &Prim, inputs: &[&Value]) -> Result<Value> {
    match prim {
        Prim::ClipPreprocess { size, mean, std } => {
            let picture = first(inputs)?.picture()?;
            Ok(four(resize::clip_preprocess(picture, *size as usize, to_f32(mean), to_f32(std))))
        }
        Prim::Resize { height, width, filter: Filter::Lanczos } => {
            Ok(Value::Picture(resize::lanczos(first(inputs)?.picture()?, *height as usize, *width as usize)))
        }
        Prim::ToTensor {} => Ok(four(convert::picture_to_tensor(first(inputs)?.picture()?))),
        _ => {
            let views: Result<Vec<ArrayViewD<'_, f32>>> = inputs.iter().map(|v| v.tensor()).collect();
            tensor(prim, &views?).map(Value::Tensor)
        }
    }
}

fn first<'a>(inputs: &[&'a Value]) -> Result<&'a Value> {
    inputs.first().copied().ok_or_else(|| mistyped("nothing where a value belongs"))
}

fn four(x: Array4<f32>) -> Value {
    Value::Tensor(x.into_dyn())
}

fn to_f32(x: &[f64; 3]) -> [f32; 3] {
    x.map(|v| v as f32)
}

fn extents(shape: &[super::Axis]) -> Vec<usize> {
    shape.iter().map(|a| a.size as usize).collect()
}

fn tensor(prim: &Prim, x: &[ArrayViewD<'_, f32>]) -> Result<ArrayD<f32>> {
    Ok(match (prim, x) {
        (Prim::Randn { stream, seed, shape }, []) => noise::normal(*seed, stream, &extents(shape)),
        (Prim::Constant { values, shape }, []) => constant(values, &extents(shape))?,
        (Prim::Linspace { from, to, axis, shape }, []) => linspace(*from, *to, *axis, &extents(shape)),
        (Prim::KarrasSigmas { sigma_min, sigma_max, rho, steps }, []) => {
            Array1::from(schedule::karras_sigmas(*sigma_min, *sigma_max, *rho, *steps as usize)).into_dyn()
        }
        (Prim::ContinuousTimesteps {}, [sigmas]) => Array1::from(schedule::continuous_timesteps(&flat(sigmas))).into_dyn(),
        (Prim::ScaleInitialNoise {}, [noise, sigmas]) => noise.to_owned() * schedule::init_noise_scale(scalar(sigmas)?),
        (Prim::ScaleModelInput {}, [sample, sigma]) => sampler::scale_model_input(sample.view(), scalar(sigma)?),
        (Prim::Guidance {}, [u, c, scale]) => sampler::guidance(u.view(), c.view(), scale.view()),
        (Prim::EulerStep { prediction }, [sample, output, sigma, next]) => {
            sampler::euler_step(sample.view(), output.view(), scalar(sigma)?, scalar(next)?, kind(*prediction))
        }
        (Prim::RelativeChange {}, [from, to]) => ArrayD::from_elem(IxDyn(&[1]), change::relative(from.view(), to.view())),
        (Prim::Lerp { weight }, [a, b]) => a + &((b - a) * (*weight as f32)),
        (Prim::Add {}, [head, rest @ ..]) => rest.iter().fold(head.to_owned(), |sum, t| &sum + t),
        (Prim::Mul {}, [head, rest @ ..]) => rest.iter().fold(head.to_owned(), |product, t| &product * t),
        (Prim::Scale { by }, [t]) => t.to_owned() * (*by as f32),
        (Prim::Concat { axis }, parts) => join(*axis, parts)?,
        (Prim::Repeat { axis, count }, [t]) => join(*axis, &vec![t.view(); *count as usize])?,
        (Prim::Slice { axis, start, end }, [t]) => t.slice_axis(Axis(*axis), Slice::from(*start as isize..*end as isize)).to_owned(),
        (Prim::Unsqueeze { at, .. }, [t]) => t.to_owned().insert_axis(Axis(*at)),
        (Prim::Squeeze { axis }, [t]) => t.to_owned().remove_axis(Axis(*axis)),
        (Prim::Reshape { shape }, [t]) => reshape(t, &extents(shape))?,
        (Prim::ZerosLike {}, [t]) => ArrayD::zeros(t.raw_dim()),
        (other, _) => return Err(mistyped(&format!("{} values to {}", x.len(), other.word()))),
    })
}

fn kind(p: Prediction) -> sampler::Prediction {
    match p {
        Prediction::V => sampler::Prediction::V,
        Prediction::Epsilon => sampler::Prediction::Epsilon,
    }
}

fn flat(x: &ArrayViewD<'_, f32>) -> Vec<f32> {
    x.iter().copied().collect()
}

/// The first element: a sigma, whatever axes it stands on.
fn scalar(x: &ArrayViewD<'_, f32>) -> Result<f32> {
    x.iter().next().copied().ok_or_else(|| mistyped("an empty tensor where a number belongs"))
}

fn join(axis: usize, parts: &[ArrayViewD<'_, f32>]) -> Result<ArrayD<f32>> {
    let joined = ndarray::concatenate(Axis(axis), parts).map_err(|e| mistyped(&format!("tensors that do not join: {e}")))?;
    Ok(joined.as_standard_layout().into_owned())
}

fn reshape(x: &ArrayViewD<'_, f32>, shape: &[usize]) -> Result<ArrayD<f32>> {
    ArrayD::from_shape_vec(IxDyn(shape), flat(x)).map_err(|e| mistyped(&format!("elements that do not make a shape: {e}")))
}

/// The values once, or repeated over the leading axes where the shape has more elements.
fn constant(values: &[f64], shape: &[usize]) -> Result<ArrayD<f32>> {
    let count = shape.iter().product();
    let all = values.iter().map(|v| *v as f32).cycle().take(count).collect();
    ArrayD::from_shape_vec(IxDyn(shape), all).map_err(|e| mistyped(&format!("constants that do not make a shape: {e}")))
}

fn linspace(from: f64, to: f64, axis: usize, shape: &[usize]) -> ArrayD<f32> {
    let line = schedule::linspace(from, to, shape[axis]);
    let mut one = vec![1; shape.len()];
    one[axis] = shape[axis];
    let line = Array1::from(line).into_dimensionality::<Ix1>().expect("a vector has one axis");
    let line = line.into_shape_with_order(IxDyn(&one)).expect("one axis has the line's extent, the others 1");
    line.broadcast(IxDyn(shape)).expect("the other extents are 1").to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Axis as Named;
    use super::*;

    fn shape(extents: &[i64]) -> Vec<Named> {
        extents.iter().map(|size| Named { name: None, size: *size }).collect()
    }

    fn values(prim: &Prim, inputs: &[&Value]) -> Vec<f32> {
        let value = eval_prim(prim, inputs).unwrap();
        value.tensor().unwrap().iter().copied().collect()
    }

    #[test]
    fn constants_lines_and_repeats_by_hand() {
        assert_eq!(values(&Prim::Constant { values: vec![1.0, 2.0], shape: shape(&[2, 2]) }, &[]), [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(values(&Prim::Linspace { from: 0.0, to: 1.0, axis: 1, shape: shape(&[1, 3]) }, &[]), [0.0, 0.5, 1.0]);
        let x = Value::Tensor(ArrayD::from_elem(IxDyn(&[1, 2]), 3.0));
        assert_eq!(values(&Prim::Repeat { axis: 0, count: 2 }, &[&x]), [3.0; 4]);
        assert_eq!(values(&Prim::Add {}, &[&x, &x]), [6.0; 2]);
    }

    #[test]
    fn what_the_type_checker_would_not_pass_is_a_bug_and_no_panic() {
        let picture = Value::Picture(Array3::zeros((1, 1, 3)));
        for (prim, inputs) in [(Prim::Add {}, vec![&picture]), (Prim::ToTensor {}, vec![]), (Prim::ZerosLike {}, vec![])] {
            assert_eq!(eval_prim(&prim, &inputs).unwrap_err().code, "internal/bug");
        }
    }
}
