//! Named streams of normal numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
//! and Box-Muller.
//!
//! The construction, fixed for good, since a seed in a run report must give the same video in ten years:
//!
//! 1. key64 = mix(seed xor fnv1a64(stream)), where mix is the finaliser of splitmix64 and fnv1a64 hashes the UTF-8 bytes of the
//!    stream's name. Key words: low half, high half.
//! 2. Block b (0, 1, 2, …) is Philox with counter words (low half of b, high half of b, 0, 0): four 32-bit words w0..w3. Elements
//!    4b..4b+3 of the array in C order come from block b; what a last, partial block has too much is dropped.
//! 3. A word becomes u = (w + 1) / 2^32, which lies in (0, 1] and is exact in f64.
//! 4. (u0, u1) gives r = sqrt(-2 ln u0): elements r cos(2 pi u1), then r sin(2 pi u1); (u2, u3) gives the next two. All in f64
//!    with `libm`, each rounded once to f32.
//!
//! An element depends on nothing but seed, stream and its own index, so any number of threads gives equal arrays.

use std::f64::consts::TAU;

use ndarray::ArrayD;
use rayon::prelude::*;

/// Elements filled by one task: small enough to balance, a multiple of the four of a block.
const TASK: usize = 1 << 14;

/// Standard normal numbers of `shape` from the stream called `stream` under `seed`.
pub fn normal(seed: u64, stream: &str, shape: &[usize]) -> ArrayD<f32> {
    let key = key(seed, stream);
    let mut out = ArrayD::zeros(shape);
    let slice = out.as_slice_mut().expect("a fresh array is contiguous");
    slice.par_chunks_mut(TASK).enumerate().for_each(|(task, part)| {
        let first = (task * TASK / 4) as u64;
        for (block, four) in (first..).zip(part.chunks_mut(4)) {
            four.copy_from_slice(&normals(block, key)[..four.len()]);
        }
    });
    out
}

/// The key words of a stream: step 1 of the module doc.
fn key(seed: u64, stream: &str) -> [u32; 2] {
    halves(mix(seed ^ fnv1a64(stream)))
}

/// Steps 2 to 4: the four normals of a block.
fn normals(block: u64, key: [u32; 2]) -> [f32; 4] {
    let [low, high] = halves(block);
    let [a, b, c, d] = philox([low, high, 0, 0], key).map(|w| (f64::from(w) + 1.0) / 4_294_967_296.0);
    let [x, y] = box_muller(a, b);
    let [z, w] = box_muller(c, d);
    [x, y, z, w]
}

fn box_muller(u: f64, v: f64) -> [f32; 2] {
    let r = libm::sqrt(-2.0 * libm::log(u));
    let angle = TAU * v;
    [(r * libm::cos(angle)) as f32, (r * libm::sin(angle)) as f32]
}

/// Philox4x32 with ten rounds; the constants are those of the paper.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let [low0, high0] = halves(0xD251_1F53 * u64::from(c[0]));
        let [low1, high1] = halves(0xCD9E_8D57 * u64::from(c[2]));
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// Low half, high half.
fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a, 64 bits, of the UTF-8 bytes.
fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors of Philox publish (`kat_vectors` of Random123).
    #[test]
    fn philox_gives_the_published_answers() {
        let check = |counter, key, want| assert_eq!(philox(counter, key), want, "{counter:x?} {key:x?}");
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    /// Bits from a Python program written from the module doc, not from this code.
    #[test]
    fn normals_are_frozen() {
        let check = |seed, stream, want: [u32; 6]| {
            let got: Vec<u32> = normal(seed, stream, &[2, 3]).iter().map(|v| v.to_bits()).collect();
            assert_eq!(got, want, "{seed} {stream}");
        };
        check(42, "init_noise", [0xbfeb_8ea3, 0xbec6_8893, 0xbfb2_c21b, 0xbfa4_1237, 0x3f57_c9a9, 0x3fd7_94c6]);
        check(42, "noise_aug_noise", [0xbe0d_bbac, 0x3ee1_070b, 0x3fd3_806b, 0xbf33_7450, 0x3fa9_b9ed, 0xbf9d_f84c]);
        check(0, "", [0xbf14_611e, 0x3d93_677c, 0xbfce_e86a, 0xbf43_193a, 0x3d1d_798a, 0x3e96_d707]);
    }

    #[test]
    fn the_moments_are_those_of_a_normal() {
        let x = normal(7, "moments", &[400_000]);
        let mean_of = |f: &dyn Fn(f64) -> f64| x.iter().map(|v| f(f64::from(*v))).sum::<f64>() / x.len() as f64;
        // Four standard errors of each estimate.
        assert!(mean_of(&|v| v).abs() < 4.0 / 632.0);
        assert!((mean_of(&|v| v * v) - 1.0).abs() < 4.0 * 1.42 / 632.0);
        assert!((mean_of(&|v| v.powi(4)) - 3.0).abs() < 4.0 * 9.8 / 632.0);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let fill = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| normal(3, "latents", &[5, 7, 1031]))
        };
        assert_eq!(fill(1), fill(4));
    }

    #[test]
    fn a_longer_array_begins_with_the_shorter_one_and_streams_differ() {
        let long = normal(1, "a", &[2 * TASK + 5]);
        assert_eq!(long.iter().take(7).collect::<Vec<_>>(), normal(1, "a", &[7]).iter().collect::<Vec<_>>());
        assert_ne!(normal(1, "a", &[4]), normal(1, "b", &[4]));
        assert_ne!(normal(1, "a", &[4]), normal(2, "a", &[4]));
        assert_eq!(normal(1, "a", &[3, 0]).len(), 0);
    }
}
