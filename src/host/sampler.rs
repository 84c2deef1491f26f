//! The arithmetic of one denoising step: Euler's method on the probability-flow equation of Karras et al. 2022, without churn.
//!
//! Written once for f32 (what runs) and f64 (the oracle of exactness). The order of the operations is part of the contract: it is
//! the order of the reference loop, so that f32 results agree to the last bits.

use ndarray::{ArrayD, ArrayViewD, NdFloat, Zip};
use serde::{Deserialize, Serialize};

/// What the model's output stands for. `sigma` is the noise level, `x` the latents as they are (not scaled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// Velocity: x0 = x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1) (Salimans and Ho 2022).
    V,
    /// The noise: x0 = x - sigma epsilon.
    Epsilon,
    /// The clean sample itself.
    Sample,
}

impl Prediction {
    /// The clean sample that one element of the model's output implies.
    fn clean<T: NdFloat>(self, x: T, output: T, sigma: T) -> T {
        let squared = sigma * sigma + T::one();
        match self {
            Self::V => output * (-sigma / squared.sqrt()) + x / squared,
            Self::Epsilon => x - sigma * output,
            Self::Sample => output,
        }
    }
}

/// What the model is shown: x / sqrt(sigma^2 + 1), of unit variance at every noise level.
pub fn scale_model_input<T: NdFloat>(x: ArrayViewD<'_, T>, sigma: T) -> ArrayD<T> {
    let scale = (sigma * sigma + T::one()).sqrt();
    x.mapv(|v| v / scale)
}

/// The latents at `sigma_next`: x + (x - x0) / sigma (`sigma_next` - sigma). `x` and `output` have one shape; `sigma` is not 0.
pub fn euler_step<T: NdFloat>(
    x: ArrayViewD<'_, T>,
    output: ArrayViewD<'_, T>,
    sigma: T,
    sigma_next: T,
    prediction: Prediction,
) -> ArrayD<T> {
    let step = sigma_next - sigma;
    Zip::from(x).and(output).map_collect(|&x, &output| {
        let slope = (x - prediction.clean(x, output, sigma)) / sigma;
        x + slope * step
    })
}

/// Classifier-free guidance: u + g (c - u). `uncond` and `cond` have one shape, to which `scale` broadcasts (a scalar as `[1]`, one
/// value a frame as `[1, frames, 1, 1, 1]`). Where the scale is 1, this is the conditional output up to rounding.
pub fn guidance<T: NdFloat>(uncond: ArrayViewD<'_, T>, cond: ArrayViewD<'_, T>, scale: ArrayViewD<'_, T>) -> ArrayD<T> {
    let scale = scale.broadcast(uncond.raw_dim()).expect("shape inference has checked that the scale broadcasts");
    Zip::from(&uncond).and(&cond).and(&scale).map_collect(|&u, &c, &g| u + g * (c - u))
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, Slice, array};

    use super::super::schedule::init_noise_scale;
    use super::super::testing::Reference;
    use super::*;
    use crate::metrics::relative_l2;

    /// The expectations come from numpy in float32, in the order of the reference loop.
    #[test]
    fn one_step_of_each_prediction() {
        let x = array![1.5_f32, -2.25, 0.125, 700.0].into_dyn();
        let output = array![0.3_f32, -0.7, 1.1, -0.9].into_dyn();
        let check = |prediction, want: [f32; 4]| {
            let got = euler_step(x.view(), output.view(), 352.992_22_f32, 165.259_89, prediction);
            assert!(relative_l2(got.view(), array![want[0], want[1], want[2], want[3]].into_dyn().view()) < 1e-7, "{prediction:?} {got}");
        };
        check(Prediction::V, [0.542_710_54, -0.681_108_6, -0.526_490_57, 328.199_7]);
        check(Prediction::Epsilon, [-54.819_702, 129.162_63, -206.380_57, 868.959_1]);
        check(Prediction::Sample, [0.861_802_34, -1.425_661_4, 0.643_535_6, 327.239_38]);
        let input = scale_model_input(x.view(), 352.992_22_f32);
        assert!(
            relative_l2(input.view(), array![0.004_249_369_f32, -0.006_374_053, 0.000_354_114_05, 1.983_038_7].into_dyn().view()) < 1e-7
        );
    }

    #[test]
    fn the_last_step_lands_on_the_clean_sample() {
        let x = array![1.5_f64, -2.25].into_dyn();
        let clean = array![0.25_f64, 1.0].into_dyn();
        let got = euler_step(x.view(), clean.view(), 0.002, 0.0, Prediction::Sample);
        assert!((got - clean).iter().all(|d| d.abs() < 1e-12));
    }

    #[test]
    fn the_three_predictions_agree_on_what_they_mean() {
        let (x, x0, sigma) = (1.75_f64, -0.5_f64, 3.0_f64);
        let root = (sigma * sigma + 1.0).sqrt();
        let velocity = (x / (sigma * sigma + 1.0) - x0) * root / sigma;
        for (prediction, output) in [(Prediction::V, velocity), (Prediction::Epsilon, (x - x0) / sigma), (Prediction::Sample, x0)] {
            assert!((prediction.clean(x, output, sigma) - x0).abs() < 1e-12, "{prediction:?}");
        }
    }

    #[test]
    fn guidance_broadcasts_one_scale_a_frame() {
        let uncond = array![[1.0_f32, 2.0], [3.0, 4.0]].into_dyn();
        let cond = array![[2.0_f32, 4.0], [5.0, 8.0]].into_dyn();
        let got = guidance(uncond.view(), cond.view(), array![[1.0_f32], [3.0]].into_dyn().view());
        assert_eq!(got, array![[2.0_f32, 4.0], [9.0, 16.0]].into_dyn());
    }

    /// Steps 0 and 2 of the reference loop from the recorded outputs of the model; step 1 is not recorded.
    #[test]
    fn the_reference_loop() {
        let Some(mut reference) = Reference::open("the_reference_loop") else { return };
        let sigmas = reference.read::<f32>("sigmas");
        let scale = reference.read::<f32>("guidance").into_shape_with_order(vec![1, 4, 1, 1, 1]).unwrap();
        let start = reference.read::<f32>("init_noise") * init_noise_scale(sigmas[0]);
        let before_last = reference.read::<f32>("latents_1");
        for (i, x) in [(0, start), (2, before_last)] {
            let sample = reference.read::<f32>(&format!("unet_sample_{i}"));
            let scaled = scale_model_input(x.view(), sigmas[i]);
            let shown = sample.slice_axis(Axis(2), Slice::from(0..4)).slice_axis(Axis(0), Slice::from(0..1)).to_owned();
            assert!(relative_l2(scaled.view(), shown.view()) < 1e-7);
            let output = reference.read::<f32>(&format!("unet_out_{i}"));
            let (uncond, cond) = output.view().split_at(Axis(0), 1);
            let guided = guidance(uncond, cond, scale.view());
            let got = euler_step(x.view(), guided.view(), sigmas[i], sigmas[i + 1], Prediction::V);
            assert!(relative_l2(got.view(), reference.read::<f32>(&format!("latents_{i}")).view()) < 2e-7, "step {i}");
        }
    }
}
