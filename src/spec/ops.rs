//! The operators of the pipeline language, one struct each, as written.
//!
//! Adding one: a `record!` here, a word in [`Op`], a primitive in `ir::pipeline::prim`, its typing there, its value in `interp`
//! and `runtime`.

use super::decode::{AxisRef, ModelRef, Number, ValueRef, choice, record, words};
use super::{Entries, Expr, Spanned};

words!(
    /// How a picture is resized.
    Filter {
        /// Lanczos with three lobes, antialiased, rounded to 8 bits.
        "lanczos" => Lanczos,
    }
);

words!(
    /// What the denoiser predicts.
    Prediction {
        /// Velocity: x0 = x/(σ²+1) − σ/√(σ²+1)·v.
        "v" => V,
        /// Noise: x0 = x − σ·ε.
        "epsilon" => Epsilon,
    }
);

record!(
    /// A picture → f32 [batch=1, channels=3, height=size, width=size], resized as CLIP's preprocessing of Stable Video Diffusion does it
    /// (antialiased bicubic with aligned corners), then minus mean, over std, per channel.
    ClipPreprocess {
        /// The picture.
        image: ValueRef,
        /// Side of the result in pixels.
        size: Expr,
        /// Subtracted from each channel of [0, 1].
        mean: Vec<Spanned<Number>>,
        /// Divides each channel.
        std: Vec<Spanned<Number>>,
    }
);

record!(
    /// A picture → a picture of the given size.
    Resize {
        /// The picture.
        image: ValueRef,
        /// Rows of the result.
        height: Expr,
        /// Columns of the result.
        width: Expr,
        /// How.
        filter: Spanned<Filter>,
    }
);

record!(
    /// A picture of known size → f32 [batch=1, channels=3, height, width] in [-1, 1].
    ToTensor {
        /// The picture.
        image: ValueRef,
    }
);

record!(
    /// f32 normal noise, a function of the seed, the stream's name and the index of each element.
    Randn {
        /// Name of the stream: two streams of one seed are independent.
        stream: Spanned<String>,
        /// The seed, from 0.
        seed: Expr,
        /// Extent of each axis, by name.
        shape: Entries<Expr>,
    }
);

record!(
    /// value · by.
    Scale {
        /// A tensor.
        value: ValueRef,
        /// A number.
        by: Expr,
    }
);

record!(
    /// The sum of tensors of one shape; an axis of extent 1 is repeated as needed.
    Add {
        /// Two or more tensors.
        values: Vec<ValueRef>,
    }
);

record!(
    /// The product of tensors, element by element; an axis of extent 1 is repeated as needed.
    Mul {
        /// Two or more tensors.
        values: Vec<ValueRef>,
    }
);

record!(
    /// from + (to − from) · weight.
    Lerp {
        /// The tensor at weight 0.
        from: ValueRef,
        /// The tensor at weight 1.
        to: ValueRef,
        /// A number.
        weight: Expr,
    }
);

record!(
    /// Tensors one after the other along an axis.
    Concat {
        /// One or more tensors, alike but for the axis.
        values: Vec<ValueRef>,
        /// The axis.
        axis: AxisRef,
    }
);

record!(
    /// `count` copies along an axis, one after the other.
    Repeat {
        /// A tensor.
        value: ValueRef,
        /// The axis.
        axis: AxisRef,
        /// How many.
        count: Expr,
    }
);

record!(
    /// The elements `start..end` of an axis.
    Slice {
        /// A tensor.
        value: ValueRef,
        /// The axis.
        axis: AxisRef,
        /// First element.
        start: Expr,
        /// One past the last.
        end: Expr,
    }
);

record!(
    /// A new axis of extent 1.
    Unsqueeze {
        /// A tensor.
        value: ValueRef,
        /// Name of the new axis.
        axis: Spanned<String>,
        /// Its index in the result.
        at: Expr,
    }
);

record!(
    /// Removes an axis of extent 1.
    Squeeze {
        /// A tensor.
        value: ValueRef,
        /// The axis.
        axis: AxisRef,
    }
);

record!(
    /// The same elements in the same order with other axes.
    Reshape {
        /// A tensor.
        value: ValueRef,
        /// Extent of each axis, by name.
        shape: Entries<Expr>,
    }
);

record!(
    /// Zeros of the same type and shape.
    ZerosLike {
        /// A tensor.
        value: ValueRef,
    }
);

record!(
    /// Given numbers, f32.
    Constant {
        /// The numbers, last axis fastest.
        values: Vec<Expr>,
        /// Extent of each axis, by name.
        shape: Entries<Expr>,
    }
);

record!(
    /// `from … to` in equal steps along an axis, equal along the others, f32.
    Linspace {
        /// The first.
        from: Expr,
        /// The last.
        to: Expr,
        /// The axis along which it grows.
        axis: AxisRef,
        /// Extent of each axis, by name.
        shape: Entries<Expr>,
    }
);

record!(
    /// The noise levels of Karras et al. 2022 (equation 5), largest first, then 0: `f32[steps + 1]`.
    KarrasSigmas {
        /// Smallest level but the final 0.
        sigma_min: Expr,
        /// Largest level.
        sigma_max: Expr,
        /// Exponent.
        rho: Expr,
        /// Number of steps.
        steps: Expr,
    }
);

record!(
    /// What the denoiser is told about the noise level of each step: ln σ / 4, `f32[steps]`, without the final 0.
    ContinuousTimesteps {
        /// The noise levels, f32 [steps + 1].
        sigmas: ValueRef,
    }
);

record!(
    /// noise · √(σ₀² + 1).
    ScaleInitialNoise {
        /// Normal noise.
        noise: ValueRef,
        /// The noise levels.
        sigmas: ValueRef,
    }
);

record!(
    /// sample / √(σ² + 1).
    ScaleModelInput {
        /// The noisy sample.
        sample: ValueRef,
        /// The noise level of this step, one element.
        sigma: ValueRef,
    }
);

record!(
    /// Classifier-free guidance: unconditional + scale · (conditional − unconditional).
    Guidance {
        /// What the denoiser says without the condition.
        unconditional: ValueRef,
        /// What it says with it.
        conditional: ValueRef,
        /// How far to go; an axis of extent 1 is repeated as needed.
        scale: ValueRef,
    }
);

record!(
    /// One Euler step from σ to the next σ: x + (x − x0)/σ · (σ' − σ).
    EulerStep {
        /// The noisy sample x.
        sample: ValueRef,
        /// What the denoiser says.
        model_output: ValueRef,
        /// The noise level of this step, one element.
        sigma: ValueRef,
        /// The noise level after it, one element.
        sigma_next: ValueRef,
        /// What the denoiser predicts.
        prediction: Spanned<Prediction>,
    }
);

record!(
    /// How far `to` is from `from`, one number: Σ|to − from| / Σ|from| over all elements, `f32[1]`. Where both sums are 0 it is 0, where
    /// only `from` is 0 it is infinite. What a branch decides by.
    RelativeChange {
        /// The tensor before, to which the change is relative.
        from: ValueRef,
        /// The tensor after, of the same shape.
        to: ValueRef,
    }
);

record!(
    /// Runs a model. The value is its output; of a model with several outputs, `value.output` is one of them.
    Call {
        /// The model.
        model: ModelRef,
        /// A value for each input of the model.
        inputs: Entries<ValueRef>,
    }
);

record!(
    /// Runs the body `steps` times. After it, the carried values are values of the pipeline.
    Loop {
        /// How many times.
        steps: Expr,
        /// What goes from one step to the next: name and first value. The body assigns each of them anew.
        carry: Entries<ValueRef>,
        /// What differs between the steps: in step i, elements i..i+1 of the first axis.
        #[serde(skip_serializing_if = "Entries::is_empty")]
        #[schemars(default)]
        each: Entries<ValueRef>,
        /// The values of one step, in order. Values from outside the loop can be used.
        body: Entries<Spanned<Op>>,
    }
);

record!(
    /// A value that a branch gives: one of each arm, of one type. Either is a value of its arm or one from above the branch.
    Given {
        /// Its value where `then` ran.
        then: ValueRef,
        /// Its value where `else` ran.
        r#else: ValueRef,
    }
);

record!(
    /// Runs one of two arms. After it, what it gives are values of the pipeline; what else the arms make is theirs alone.
    If {
        /// What decides, one element: `then` runs where it is less than `below`, `else` where it is not, or is no number.
        value: ValueRef,
        /// A number.
        below: Expr,
        /// The values of one arm, in order. Values from above the branch can be used.
        #[serde(skip_serializing_if = "Entries::is_empty")]
        #[schemars(default)]
        then: Entries<Spanned<Op>>,
        /// The values of the other arm.
        #[serde(skip_serializing_if = "Entries::is_empty")]
        #[schemars(default)]
        r#else: Entries<Spanned<Op>>,
        /// What comes out: name, and the value of either arm.
        gives: Entries<Given>,
    }
);

choice!(
    /// How a value is made: a map with one key, the operator.
    Op, "operator", "spec/unknown-operator" {
        /// A picture as CLIP wants it.
        "clip_preprocess" => ClipPreprocess,
        /// A picture of another size.
        "resize" => Resize,
        /// A picture as numbers.
        "to_tensor" => ToTensor,
        /// Normal noise.
        "randn" => Randn,
        /// Times a number.
        "scale" => Scale,
        /// The sum.
        "add" => Add,
        /// The product.
        "mul" => Mul,
        /// Between two tensors.
        "lerp" => Lerp,
        /// One after the other along an axis.
        "concat" => Concat,
        /// Copies along an axis.
        "repeat" => Repeat,
        /// Part of an axis.
        "slice" => Slice,
        /// A new axis of extent 1.
        "unsqueeze" => Unsqueeze,
        /// Without an axis of extent 1.
        "squeeze" => Squeeze,
        /// Other axes, the same elements.
        "reshape" => Reshape,
        /// Zeros.
        "zeros_like" => ZerosLike,
        /// Given numbers.
        "constant" => Constant,
        /// Equal steps along an axis.
        "linspace" => Linspace,
        /// The noise levels of the steps.
        "karras_sigmas" => KarrasSigmas,
        /// What the denoiser is told about the noise levels.
        "continuous_timesteps" => ContinuousTimesteps,
        /// Noise at the first noise level.
        "scale_initial_noise" => ScaleInitialNoise,
        /// The sample as the denoiser wants it.
        "scale_model_input" => ScaleModelInput,
        /// Classifier-free guidance.
        "guidance" => Guidance,
        /// One step of the sampler.
        "euler_step" => EulerStep,
        /// How far one tensor is from another.
        "relative_change" => RelativeChange,
        /// Runs a model.
        "call" => Call,
        /// Runs a body again and again.
        "loop" => Loop,
        /// Runs one of two arms.
        "if" => If,
    }
);

impl Op {
    /// The values it refers to, the loop's inits and arrays, what decides a branch, and whatever bodies and arms use included.
    pub fn references(&self) -> Vec<&ValueRef> {
        let mut out = Vec::new();
        super::decode::Decode::references(self, &mut out);
        out
    }

    /// The names that it gives to the values around it, with their places, where they are not its own: what a loop carries, what a
    /// branch gives.
    pub fn given(&self) -> Option<Vec<&Spanned<String>>> {
        match self {
            Self::Loop(l) => Some(l.carry.iter().map(|(k, _)| k).collect()),
            Self::If(b) => Some(b.gives.iter().map(|(k, _)| k).collect()),
            _ => None,
        }
    }

    /// The operators inside of it: of a loop's body, of a branch's arms.
    pub fn inside(&self) -> Vec<&Entries<Spanned<Self>>> {
        match self {
            Self::Loop(l) => vec![&l.body],
            Self::If(b) => vec![&b.then, &b.r#else],
            _ => Vec::new(),
        }
    }
}
