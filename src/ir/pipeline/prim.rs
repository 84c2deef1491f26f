//! The primitives: resolved, self-contained, and typed by one function.
//!
//! [`Prim::infer`] is the only type checker: `resolve` turns its errors into diagnostics with places, `verify` compares its answer with
//! what a graph claims.

use serde::{Deserialize, Serialize};

use super::{Axis, ValueType};
use crate::ir::DType;
use crate::spec::{Filter, Prediction};

/// Most elements that one value may have: 4 TiB of f32. More is a mistake in a graph, and would overflow later arithmetic.
const MAX_ELEMENTS: u64 = 1 << 40;

/// Most axes of a tensor.
const MAX_RANK: usize = 12;

/// A primitive with all of its numbers. What each computes is said at the operator of the same name in `spec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each field is the argument of the same name of the operator in `spec`, evaluated")]
pub enum Prim {
    /// picture → f32 [1, 3, size, size].
    ClipPreprocess { size: i64, mean: [f64; 3], std: [f64; 3] },
    /// picture → picture.
    Resize { height: i64, width: i64, filter: Filter },
    /// picture → f32 [1, 3, height, width] in [-1, 1].
    ToTensor {},
    /// → f32 normal noise.
    Randn { stream: String, seed: u64, shape: Vec<Axis> },
    /// x · by.
    Scale { by: f64 },
    /// x₀ + x₁ + ….
    Add {},
    /// x₀ · x₁ · ….
    Mul {},
    /// x₀ + (x₁ − x₀) · weight.
    Lerp { weight: f64 },
    /// x₀, x₁, … one after the other.
    Concat { axis: usize },
    /// x, x, … one after the other.
    Repeat { axis: usize, count: i64 },
    /// x[start..end].
    Slice { axis: usize, start: i64, end: i64 },
    /// A new axis of extent 1 at an index of the result.
    Unsqueeze { at: usize, name: String },
    /// Without an axis of extent 1.
    Squeeze { axis: usize },
    /// The same elements, other axes.
    Reshape { shape: Vec<Axis> },
    /// 0 everywhere.
    ZerosLike {},
    /// Given numbers.
    Constant { values: Vec<f64>, shape: Vec<Axis> },
    /// from … to along an axis.
    Linspace { from: f64, to: f64, axis: usize, shape: Vec<Axis> },
    /// → `f32[steps + 1]`.
    KarrasSigmas { sigma_min: f64, sigma_max: f64, rho: f64, steps: i64 },
    /// `f32[steps + 1]` → `f32[steps]`.
    ContinuousTimesteps {},
    /// (noise, sigmas) → noise · √(σ₀² + 1).
    ScaleInitialNoise {},
    /// (sample, sigma) → sample / √(σ² + 1).
    ScaleModelInput {},
    /// (unconditional, conditional, scale) → u + s · (c − u).
    Guidance {},
    /// (sample, `model_output`, sigma, `sigma_next`) → the sample at the next noise level.
    EulerStep { prediction: Prediction },
    /// (from, to) → Σ|to − from| / Σ|from|, `f32[1]`.
    RelativeChange {},
}

/// Why inputs do not fit a primitive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    /// The diagnostic code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The inputs that it is about, the culprit first.
    pub inputs: Vec<usize>,
}

type Inferred = Result<ValueType, TypeError>;

impl Prim {
    /// The word it is written with.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ClipPreprocess { .. } => "clip_preprocess",
            Self::Resize { .. } => "resize",
            Self::ToTensor {} => "to_tensor",
            Self::Randn { .. } => "randn",
            Self::Scale { .. } => "scale",
            Self::Add {} => "add",
            Self::Mul {} => "mul",
            Self::Lerp { .. } => "lerp",
            Self::Concat { .. } => "concat",
            Self::Repeat { .. } => "repeat",
            Self::Slice { .. } => "slice",
            Self::Unsqueeze { .. } => "unsqueeze",
            Self::Squeeze { .. } => "squeeze",
            Self::Reshape { .. } => "reshape",
            Self::ZerosLike {} => "zeros_like",
            Self::Constant { .. } => "constant",
            Self::Linspace { .. } => "linspace",
            Self::KarrasSigmas { .. } => "karras_sigmas",
            Self::ContinuousTimesteps {} => "continuous_timesteps",
            Self::ScaleInitialNoise {} => "scale_initial_noise",
            Self::ScaleModelInput {} => "scale_model_input",
            Self::Guidance {} => "guidance",
            Self::EulerStep { .. } => "euler_step",
            Self::RelativeChange {} => "relative_change",
        }
    }

    /// How many inputs it takes: least and most.
    pub fn arity(&self) -> (usize, usize) {
        match self {
            Self::Randn { .. } | Self::Constant { .. } | Self::Linspace { .. } | Self::KarrasSigmas { .. } => (0, 0),
            Self::Add {} | Self::Mul {} | Self::Concat { .. } => (1, usize::MAX),
            Self::Lerp { .. } | Self::ScaleInitialNoise {} | Self::ScaleModelInput {} | Self::RelativeChange {} => (2, 2),
            Self::Guidance {} => (3, 3),
            Self::EulerStep { .. } => (4, 4),
            _ => (1, 1),
        }
    }

    /// The type of the result.
    ///
    /// # Errors
    /// Which inputs do not fit and why.
    pub fn infer(&self, inputs: &[ValueType]) -> Inferred {
        let (least, most) = self.arity();
        if inputs.len() < least || inputs.len() > most {
            return err("graph/arity", format!("{} takes {least} or more values, not {}", self.word(), inputs.len()), []);
        }
        let found = self.result(inputs)?;
        match found.numel() {
            Some(n) if n > MAX_ELEMENTS => err("graph/too-large", format!("{n} elements are more than vidc handles in one value"), []),
            None if matches!(found, ValueType::Tensor { .. }) => {
                err("graph/too-large", "the value is larger than a number can say".into(), [])
            }
            _ => Ok(found),
        }
    }

    fn result(&self, inputs: &[ValueType]) -> Inferred {
        match self {
            Self::ClipPreprocess { size, .. } => picture(inputs, 0).map(|_| pixels(*size, *size)),
            Self::Resize { height, width, .. } => picture(inputs, 0).map(|_| ValueType::Picture { size: Some((*height, *width)) }),
            Self::ToTensor {} => to_tensor(inputs),
            Self::Randn { shape, .. } => tensor_of(shape),
            Self::Scale { .. } | Self::ZerosLike {} => tensor(inputs, 0).map(|_| inputs[0].clone()),
            Self::Add {} | Self::Mul {} | Self::Lerp { .. } | Self::Guidance {} => broadcast(inputs),
            Self::Concat { axis } => concat(inputs, *axis),
            Self::Repeat { axis, count } => repeat(inputs, *axis, *count),
            Self::Slice { axis, start, end } => slice(inputs, *axis, *start, *end),
            Self::Unsqueeze { at, name } => unsqueeze(inputs, *at, name),
            Self::Squeeze { axis } => squeeze(inputs, *axis),
            Self::Reshape { shape } => reshape(inputs, shape),
            Self::Constant { values, shape } => constant(values.len(), shape),
            Self::Linspace { axis, shape, .. } => linspace(*axis, shape),
            Self::KarrasSigmas { steps, .. } => Ok(ValueType::f32([("steps", steps.saturating_add(1))])),
            Self::ContinuousTimesteps {} => timesteps(inputs),
            Self::ScaleInitialNoise {} => vector(inputs, 1).and_then(|_| tensor(inputs, 0)).map(|_| inputs[0].clone()),
            Self::ScaleModelInput {} => scalar(inputs, 1).and_then(|()| tensor(inputs, 0)).map(|_| inputs[0].clone()),
            Self::EulerStep { .. } => euler(inputs),
            Self::RelativeChange {} => relative_change(inputs),
        }
    }
}

fn err<T>(code: &'static str, message: String, inputs: impl IntoIterator<Item = usize>) -> Result<T, TypeError> {
    Err(TypeError { code, message, inputs: inputs.into_iter().collect() })
}

fn picture(inputs: &[ValueType], i: usize) -> Result<Option<(i64, i64)>, TypeError> {
    match &inputs[i] {
        ValueType::Picture { size } => Ok(*size),
        other @ ValueType::Tensor { .. } => err("graph/kind", format!("a picture is wanted, not {other}"), [i]),
    }
}

fn tensor(inputs: &[ValueType], i: usize) -> Result<&[Axis], TypeError> {
    match &inputs[i] {
        ValueType::Tensor { dtype: DType::F32, axes } => Ok(axes),
        ValueType::Tensor { dtype, .. } => err("graph/dtype", format!("f32 is wanted, not {dtype}"), [i]),
        ValueType::Picture { .. } => err("graph/kind", "a tensor is wanted, not a picture; `to_tensor` makes one of it".into(), [i]),
    }
}

fn tensors(inputs: &[ValueType]) -> Result<Vec<&[Axis]>, TypeError> {
    (0..inputs.len()).map(|i| tensor(inputs, i)).collect()
}

fn vector(inputs: &[ValueType], i: usize) -> Result<&Axis, TypeError> {
    match tensor(inputs, i)? {
        [axis] => Ok(axis),
        _ => err("graph/shape", format!("a list of noise levels with one axis is wanted, not {}", inputs[i]), [i]),
    }
}

fn scalar(inputs: &[ValueType], i: usize) -> Result<(), TypeError> {
    tensor(inputs, i)?;
    if inputs[i].numel() == Some(1) {
        return Ok(());
    }
    err("graph/shape", format!("one noise level is wanted, not {}; `each` of a loop gives one a step", inputs[i]), [i])
}

fn pixels(height: i64, width: i64) -> ValueType {
    ValueType::f32([("batch", 1), ("channels", 3), ("height", height), ("width", width)])
}

fn tensor_of(shape: &[Axis]) -> Inferred {
    if shape.len() > MAX_RANK {
        return err("graph/shape", format!("{} axes are more than the {MAX_RANK} that a tensor can have", shape.len()), []);
    }
    for (i, axis) in shape.iter().enumerate() {
        if axis.name.is_some() && shape[..i].iter().any(|a| a.name == axis.name) {
            return err("graph/duplicate-axis", format!("two axes are named `{}`", axis.name.as_deref().unwrap_or_default()), []);
        }
    }
    Ok(ValueType::Tensor { dtype: DType::F32, axes: shape.to_vec() })
}

fn to_tensor(inputs: &[ValueType]) -> Inferred {
    match picture(inputs, 0)? {
        Some((height, width)) => Ok(pixels(height, width)),
        None => err("graph/picture-size", "the size of this picture is not known before the file is read; `resize` it first".into(), [0]),
    }
}

/// Takes over the name of `new` if `have` has none; false if both have one and they differ.
fn agree(have: &mut Axis, new: &Axis) -> bool {
    if have.name.is_none() {
        have.name.clone_from(&new.name);
    }
    new.name.is_none() || have.name == new.name
}

fn same_rank(inputs: &[ValueType], shapes: &[&[Axis]]) -> Result<(), TypeError> {
    match shapes.iter().position(|s| s.len() != shapes[0].len()) {
        Some(i) => err("graph/shape", format!("{} and {} have different numbers of axes", inputs[0], inputs[i]), [i, 0]),
        None => Ok(()),
    }
}

fn clash(inputs: &[ValueType], i: usize, axis: usize) -> TypeError {
    let (a, b) = (&inputs[0].axes()[axis], &inputs[i].axes()[axis]);
    let message = format!("axis {axis} is {a} in one and {b} in the other: {} and {}", inputs[0], inputs[i]);
    TypeError { code: "graph/shape", message, inputs: vec![i, 0] }
}

/// Shapes of equal rank whose extents are equal or 1.
fn broadcast(inputs: &[ValueType]) -> Inferred {
    let shapes = tensors(inputs)?;
    same_rank(inputs, &shapes)?;
    let mut axes = shapes[0].to_vec();
    for (i, shape) in shapes.iter().enumerate().skip(1) {
        for (at, (have, new)) in axes.iter_mut().zip(*shape).enumerate() {
            let fits = have.size == new.size || have.size == 1 || new.size == 1;
            if !fits || !agree(have, new) {
                return Err(clash(inputs, i, at));
            }
            have.size = have.size.max(new.size);
        }
    }
    Ok(ValueType::Tensor { dtype: DType::F32, axes })
}

fn in_rank(inputs: &[ValueType], axis: usize) -> Result<(), TypeError> {
    if axis < inputs[0].axes().len() {
        return Ok(());
    }
    err("graph/unknown-axis", format!("{} has no axis {axis}", inputs[0]), [0])
}

fn concat(inputs: &[ValueType], axis: usize) -> Inferred {
    let shapes = tensors(inputs)?;
    same_rank(inputs, &shapes)?;
    in_rank(inputs, axis)?;
    let mut axes = shapes[0].to_vec();
    for (i, shape) in shapes.iter().enumerate().skip(1) {
        for (at, (have, new)) in axes.iter_mut().zip(*shape).enumerate() {
            let fits = at == axis || have.size == new.size;
            if !fits || !agree(have, new) {
                return Err(clash(inputs, i, at));
            }
            if at == axis {
                have.size = have.size.saturating_add(new.size);
            }
        }
    }
    Ok(ValueType::Tensor { dtype: DType::F32, axes })
}

fn with_size(inputs: &[ValueType], axis: usize, size: impl Fn(i64) -> i64) -> Inferred {
    let mut axes = tensor(inputs, 0)?.to_vec();
    in_rank(inputs, axis)?;
    axes[axis].size = size(axes[axis].size);
    Ok(ValueType::Tensor { dtype: DType::F32, axes })
}

fn repeat(inputs: &[ValueType], axis: usize, count: i64) -> Inferred {
    if count < 1 {
        return err("graph/range", format!("{count} copies make no tensor"), []);
    }
    with_size(inputs, axis, |n| n.saturating_mul(count))
}

fn slice(inputs: &[ValueType], axis: usize, start: i64, end: i64) -> Inferred {
    tensor(inputs, 0)?;
    in_rank(inputs, axis)?;
    let have = &inputs[0].axes()[axis];
    if start < 0 || end <= start || end > have.size {
        return err("graph/range", format!("{start}..{end} is not a part of 0..{} ({have})", have.size), [0]);
    }
    with_size(inputs, axis, |_| end - start)
}

fn unsqueeze(inputs: &[ValueType], at: usize, name: &str) -> Inferred {
    let mut axes = tensor(inputs, 0)?.to_vec();
    if at > axes.len() {
        return err("graph/range", format!("{} has {} axes, so a new one cannot be at {at}", inputs[0], axes.len()), [0]);
    }
    if axes.iter().any(|a| a.name.as_deref() == Some(name)) {
        return err("graph/duplicate-axis", format!("{} has an axis `{name}` already", inputs[0]), [0]);
    }
    axes.insert(at, Axis { name: Some(name.to_owned()), size: 1 });
    Ok(ValueType::Tensor { dtype: DType::F32, axes })
}

fn squeeze(inputs: &[ValueType], axis: usize) -> Inferred {
    let mut axes = tensor(inputs, 0)?.to_vec();
    in_rank(inputs, axis)?;
    let gone = axes.remove(axis);
    if gone.size == 1 {
        return Ok(ValueType::Tensor { dtype: DType::F32, axes });
    }
    err("graph/shape", format!("only an axis of extent 1 can be squeezed away, not {gone}"), [0])
}

fn reshape(inputs: &[ValueType], shape: &[Axis]) -> Inferred {
    tensor(inputs, 0)?;
    let wanted = tensor_of(shape)?;
    if wanted.numel() == inputs[0].numel() {
        return Ok(wanted);
    }
    err("graph/shape", format!("{} cannot become {wanted}: the numbers of elements differ", inputs[0]), [0])
}

fn constant(values: usize, shape: &[Axis]) -> Inferred {
    let wanted = tensor_of(shape)?;
    if wanted.numel() == Some(values as u64) {
        return Ok(wanted);
    }
    err("graph/shape", format!("{values} numbers do not fill {wanted}"), [])
}

fn linspace(axis: usize, shape: &[Axis]) -> Inferred {
    if axis < shape.len() {
        return tensor_of(shape);
    }
    err("graph/unknown-axis", format!("the shape has no axis {axis}"), [])
}

fn timesteps(inputs: &[ValueType]) -> Inferred {
    let axis = vector(inputs, 0)?;
    if axis.size < 2 {
        return err("graph/shape", "at least one noise level and the final 0 are wanted".into(), [0]);
    }
    Ok(ValueType::Tensor { dtype: DType::F32, axes: vec![Axis { size: axis.size - 1, ..axis.clone() }] })
}

fn euler(inputs: &[ValueType]) -> Inferred {
    scalar(inputs, 2)?;
    scalar(inputs, 3)?;
    tensor(inputs, 0)?;
    tensor(inputs, 1)?;
    let both = broadcast(&inputs[..2])?;
    if both.same_shape(&inputs[0]) && both.same_shape(&inputs[1]) {
        return Ok(both);
    }
    err("graph/shape", format!("the sample is {} and the model's output {}", inputs[0], inputs[1]), [1, 0])
}

fn relative_change(inputs: &[ValueType]) -> Inferred {
    let both = broadcast(inputs)?;
    if both.same_shape(&inputs[0]) && both.same_shape(&inputs[1]) {
        return Ok(ValueType::f32([("", 1)]));
    }
    err("graph/shape", format!("the tensors differ in shape: {} and {}", inputs[0], inputs[1]), [1, 0])
}
