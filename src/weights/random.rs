//! Weights from a seed: every value is a pure function of seed, model, parameter name and index.
//!
//! Value `i` of a parameter with key `k = fnv1a64("SEED/STAGE/NAME")` is `center + bound * u`, in f32, where `u` in [-1, 1) is
//! the top 24 bits of `splitmix64(k + (i + 1) * 0x9E3779B97F4A7C15)`, scaled by 2^-23, minus 1 (exact in f32). Center and
//! bound keep a network of such weights well behaved: `sqrt(3 / fan_in)` for matrices and kernels, so that variances are kept;
//! a gain of 1.3 on queries and keys, so that the softmax is not uniform; norms 1 ± 0.25, so that a lost gamma or beta shows.
//!
//! The generator is splitmix64 by Steele, Lea and Flood ("Fast splittable pseudorandom number generators", 2014), the hash is
//! FNV-1a by Fowler, Noll and Vo. Stages are named by the folder of a diffusers pipeline: `unet`, `vae`, `image_encoder`.

use rayon::prelude::*;

/// The law of one parameter's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomSpec {
    /// Key of the parameter.
    pub seed: u64,
    /// Middle of the values.
    pub center: f32,
    /// Half the width of the interval that they are uniform in.
    pub bound: f32,
}

/// The law of parameter `name` of `stage` with `shape`, for a user's `seed`.
pub fn random_spec(seed: u64, stage: &str, name: &str, shape: &[u64]) -> RandomSpec {
    let (center, bound) = center_and_bound(stage, name, shape);
    RandomSpec { seed: fnv1a64(&format!("{seed}/{stage}/{name}")), center, bound }
}

/// FNV-1a, 64 bits.
fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

fn center_and_bound(stage: &str, name: &str, shape: &[u64]) -> (f32, f32) {
    let mut parts = name.rsplit('.');
    let last = parts.next().unwrap_or_default();
    let is_norm = parts.next().is_some_and(|owner| owner.contains("norm"));
    match last {
        "mix_factor" => (0.3, 1.2),
        "weight" if is_norm => (1.0, 0.25),
        _ if is_norm => (0.0, 0.15),
        "bias" => (0.0, 0.1),
        "class_embedding" => (0.0, 0.5),
        _ if name.contains("position_embedding") => (0.0, 0.5),
        _ => (0.0, matrix_bound(stage, name, shape)),
    }
}

/// `gain * sqrt(3 / fan_in)`: a uniform law with variance `gain^2 / fan_in`.
fn matrix_bound(stage: &str, name: &str, shape: &[u64]) -> f32 {
    const SHARP: [&str; 4] = ["to_q.weight", "to_k.weight", "q_proj.weight", "k_proj.weight"];
    let fan_in: f64 = shape.iter().skip(1).map(|d| *d as f64).product();
    let gain = match (stage, name) {
        (_, "decoder.conv_out.weight") => 0.9,
        ("unet", "conv_out.weight") => 1.5,
        _ if SHARP.iter().any(|end| name.ends_with(end)) => 1.3,
        _ => 1.0,
    };
    (gain * (3.0 / fan_in).sqrt()) as f32
}

impl RandomSpec {
    /// Value `index`.
    pub fn value(&self, index: u64) -> f32 {
        let mut z = self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // 24 bits: exact in f32, and so is the product with a power of two, and the difference.
        let u = (z >> 40) as f32 * (1.0 / 8_388_608.0) - 1.0;
        self.center + self.bound * u
    }
}

/// Values `start..start + out.len()`. Any range of a tensor gives the same values, on any number of threads.
pub fn fill(spec: &RandomSpec, start: u64, out: &mut [f32]) {
    const BLOCK: usize = 1 << 14;
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let first = start + (block * BLOCK) as u64;
        for (i, value) in values.iter_mut().enumerate() {
            *value = spec.value(first + i as u64);
        }
    });
}

#[cfg(test)]
#[path = "random_tests.rs"]
mod tests;
