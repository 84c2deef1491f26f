//! Noise levels of a sampling schedule and what is derived from them. Computed in f64 with `libm`, rounded once to f32.

/// The schedule of Karras et al. 2022 ("Elucidating the design space of diffusion-based generative models", equation 5):
/// `steps` levels from `sigma_max` down to `sigma_min`, evenly spaced in sigma^(1/rho), and a final 0.
///
/// `steps` is at least 1; a single step starts at `sigma_max`. The result has `steps + 1` elements.
pub fn karras_sigmas(sigma_min: f64, sigma_max: f64, rho: f64, steps: usize) -> Vec<f32> {
    let root = |sigma| libm::pow(sigma, 1.0 / rho);
    let (high, low) = (root(sigma_max), root(sigma_min));
    let level = |ramp: f64| libm::pow(high + ramp * (low - high), rho) as f32;
    ramp(steps).map(level).chain([0.0]).collect()
}

/// What a model trained with continuous noise levels is told: 0.25 ln(sigma), for each level but the final 0.
pub fn continuous_timesteps(sigmas: &[f32]) -> Vec<f32> {
    let levels = sigmas.strip_suffix(&[0.0]).unwrap_or(sigmas);
    levels.iter().map(|s| (0.25 * libm::log(f64::from(*s))) as f32).collect()
}

/// The deviation of the first latents, sqrt(sigma0^2 + 1): signal of unit variance with noise of `sigma0` on it.
pub fn init_noise_scale(sigma0: f32) -> f32 {
    let s = f64::from(sigma0);
    libm::sqrt(s * s + 1.0) as f32
}

/// `n` evenly spaced values from `start` to `end`, both included; one value is `start`.
pub fn linspace(start: f64, end: f64, n: usize) -> Vec<f32> {
    ramp(n).map(|t| (start + t * (end - start)) as f32).collect()
}

/// `n` values from 0 to 1; one value is 0.
fn ramp(n: usize) -> impl Iterator<Item = f64> {
    let last = n.saturating_sub(1).max(1) as f64;
    (0..n).map(move |i| i as f64 / last)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Reference;
    use super::*;

    fn svd(steps: usize) -> Vec<f32> {
        karras_sigmas(0.002, 700.0, 7.0, steps)
    }

    fn check(got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert!((f64::from(*g) - w).abs() <= 5.1e-6_f64.max(w.abs() * 1e-7), "{g} is not {w}");
        }
    }

    #[test]
    fn ten_steps_of_stable_video_diffusion() {
        check(&svd(10), &[700.0, 352.99222, 165.25989, 70.54084, 26.7572, 8.68203, 2.26912, 0.43076, 0.04855, 0.002, 0.0]);
    }

    #[test]
    fn twenty_five_steps_and_their_timesteps() {
        let sigmas = svd(25);
        check(&sigmas[..4], &[700.0, 545.72925, 421.56914, 322.45368]);
        check(&[sigmas[12], sigmas[23], sigmas[24], sigmas[25]], &[15.58997, 0.00788, 0.002, 0.0]);
        let timesteps = continuous_timesteps(&sigmas);
        assert_eq!(timesteps.len(), 25);
        check(&[timesteps[0], timesteps[1], timesteps[12], timesteps[24]], &[1.63777, 1.575_531, 0.686_657, -1.553_652]);
    }

    #[test]
    fn one_step_starts_at_the_top() {
        assert_eq!(svd(1), [700.0, 0.0]);
        assert_eq!(continuous_timesteps(&svd(1)).len(), 1);
    }

    #[test]
    fn the_first_latents_have_nearly_sigma_deviation() {
        check(&[init_noise_scale(700.0)], &[700.000_714]);
        check(&[init_noise_scale(0.0)], &[1.0]);
    }

    #[test]
    fn linspace_includes_both_ends() {
        check(&linspace(1.0, 3.0, 4), &[1.0, 5.0 / 3.0, 7.0 / 3.0, 3.0]);
        assert_eq!(linspace(1.0, 3.0, 1), [1.0]);
        assert!(linspace(1.0, 3.0, 0).is_empty());
    }

    #[test]
    fn the_reference_schedule() {
        let Some(mut reference) = Reference::open("the_reference_schedule") else { return };
        let mut check = |got: Vec<f32>, name: &str| {
            for (g, w) in got.iter().zip(reference.read::<f32>(name).iter()) {
                assert!((g - w).abs() <= w.abs() * 1.2e-7, "{name}: {g} is not {w}");
            }
        };
        check(svd(3), "sigmas");
        check(continuous_timesteps(&svd(3)), "timesteps");
        check(linspace(1.0, 3.0, 4), "guidance");
    }
}
