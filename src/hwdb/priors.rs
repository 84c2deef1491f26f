//! Parameters for devices that nobody has measured, by architecture and family, with where each number comes from.
//!
//! The share of peak is that of the *sustained* peak (rated peak times the profile's `sustained_factor`).

use super::kernel::Family;
use super::params::{ParamOrigin, Params};
use super::profile::ChipFamily::{
    self, Ada, Alchemist, Apple7, Apple8, Apple9, Cdna2, Cdna3, Cpu, Ga10x, Ga100, Gb20x, Gb100, Hopper, Orin, Pascal, Rdna3, Rdna4,
    Turing, Volta,
};
use crate::target::Precision;

/// Share of the sustained peak reached by large work: architecture, gemm, convolution, attention with tensor cores.
///
/// Gemm: the best public matrix products (Machine Learning Engineering, MAMF tables) are 0.869 of the rated peak on A100 SXM,
/// 0.803 on H100 SXM and 0.776 on B200, here divided by the sustained factor 0.9; a fit of the public `OpenXLA` table gives
/// 0.90 and 0.79 of the rated peak for the last two. Convolution: published VAE decodes reach 0.57 (RTX 3090) and 0.47
/// (RTX 4070 Ti) of peak over the whole network, Stable Diffusion steps 0.54 to 0.69 compiled (RTX 3090) and 0.5 (A100);
/// a convolution alone is faster than the network around it. Attention: `FlashAttention`-2, which is what ONNX Runtime ships,
/// reports 0.50 to 0.73 of the A100 peak and at most 335 TFLOP/s (0.34 of the peak) on H100; the same kernels on B200 are taken to
/// reach the same TFLOP/s. Turing, Volta, Orin and Pascal have no public table: older kernels, so lower.
///
/// AMD. Gemm: the MAMF table gives MI300X 0.511 of the rated peak, an earlier edition of it one die of MI250X 0.767; the public
/// table torch-performance-test-data has RX 7900 XTX at 0.74 to 0.86, RX 7900 XT at 0.71 to 0.79 and RX 9070 XT at 0.64 to 0.68 of
/// it; all divided by 0.9. Attention: `FlashAttention`-2 on RX 7900 XTX reaches 0.35 to 0.39 (ROCm/flash-attention issue 27),
/// hand-written kernels on RX 9070 XT 0.45 to 0.53 of the peak (carlushuang/gcnasm pull request 24), which a library does not reach.
/// Convolutions have no public table: RDNA 3 and CDNA 2 are given the 0.50 of Volta and Hopper, RDNA 4 that of GB100, CDNA 3 what
/// Hopper loses from products to convolutions and attention.
///
/// Apple. Gemm: matrix kernels reach 0.80 of the peak on M1 and M2 (metal-benchmarks, fp16 and fp32), on M3 Max 0.91 and on
/// M4 Max 0.92 (torch-performance-test-data, fp16), here divided by 0.9 and rounded down. Convolution: Apple's Stable Diffusion 1.4
/// in Core ML runs at 0.40 to 0.52 of the peak of M1 Max and M1 Ultra over the whole pipeline (ml-stable-diffusion, 50 steps in 18 s
/// and 9 s), about what the A100 does. Attention: metal-flash-attention reaches 0.82 to 0.94 of the peak; the kernels of
/// Core ML, which ONNX Runtime calls, have no public table and are taken to be those of Orin.
const TENSOR_ETA: [(ChipFamily, f64, f64, f64); 19] = [
    (Cpu, 0.90, 0.80, 0.80),
    (Pascal, 0.85, 0.70, 0.40),
    (Volta, 0.80, 0.50, 0.40),
    (Turing, 0.80, 0.60, 0.45),
    (Ga100, 0.95, 0.60, 0.65),
    (Ga10x, 0.92, 0.75, 0.65),
    (Orin, 0.80, 0.55, 0.50),
    (Ada, 0.92, 0.75, 0.65),
    (Hopper, 0.90, 0.50, 0.40),
    (Gb100, 0.86, 0.45, 0.20),
    (Gb20x, 0.90, 0.70, 0.60),
    (Apple7, 0.85, 0.60, 0.50),
    (Apple8, 0.85, 0.60, 0.50),
    (Apple9, 0.95, 0.60, 0.50),
    (Cdna2, 0.85, 0.50, 0.40),
    (Cdna3, 0.57, 0.32, 0.25),
    (Rdna3, 0.88, 0.50, 0.40),
    (Rdna4, 0.70, 0.45, 0.40),
    // Borrowed from the neighbour: nobody has published sweeps of it.
    (Alchemist, 0.70, 0.45, 0.40),
];

/// fp32 where it is not as on NVIDIA's ordinary cores: products, convolution and attention. RDNA rates count two instructions a
/// cycle, which compilers seldom pair: products reach 0.38 to 0.44 of the rated peak on RX 7900 XTX, 0.31 to 0.36 on RX 9070 XT
/// (torch-performance-test-data). CDNA 3 has fp32 in the matrix units, and no public table: its 16-bit share. Apple's products run
/// on the ordinary cores at either width: 0.75 (M1 Max, metal-benchmarks 0.79) and 0.81 to 0.85 of the peak (M3 Max, M4 Max).
const F32_ETA: [(ChipFamily, f64, f64, f64); 6] = [
    (Apple7, 0.85, 0.60, 0.50),
    (Apple8, 0.85, 0.60, 0.50),
    (Apple9, 0.90, 0.60, 0.50),
    (Cdna3, 0.57, 0.32, 0.25),
    (Rdna3, 0.46, 0.42, 0.40),
    (Rdna4, 0.36, 0.33, 0.32),
];

/// Memory-bound families on a GPU: share of the memory rate. Fits of the public `NeuSight` measurements: elementwise 0.79 to
/// 0.85 (P100, T4, P4), layer norm 0.45 to 0.75, softmax 0.66 to 0.97. Transposes, copies and resizes are estimates. The
/// arithmetic of all of them hides behind memory: one byte per FLOP is ten times the rate of any cache.
const GPU_MEMORY: [(Family, f64, f64); 7] = [
    (Family::Elementwise, 1.0, 0.82),
    (Family::Activation, 1.0, 0.82),
    (Family::Norm, 1.0, 0.60),
    (Family::Softmax, 1.0, 0.75),
    (Family::Transpose, 1.0, 0.65),
    (Family::Copy, 1.0, 0.80),
    (Family::Resize, 1.0, 0.60),
];

/// The same on a CPU, where arithmetic does not hide: bytes per FLOP of the fp32 peak, share of the memory rate. From the fits
/// of `hwdb/cpu-avx2.yaml`, rounded; resize is an estimate.
const CPU_MEMORY: [(Family, f64, f64); 7] = [
    (Family::Elementwise, 0.70, 1.00),
    (Family::Activation, 0.25, 0.90),
    (Family::Norm, 0.15, 0.60),
    (Family::Softmax, 0.20, 0.80),
    (Family::Transpose, 0.40, 0.40),
    (Family::Copy, 0.90, 1.00),
    (Family::Resize, 0.05, 0.50),
];

/// Fixed time of a tensor-core kernel: 5.1 to 6.1 us fitted on the public `OpenXLA` table (cold launch).
const GPU_T0: f64 = 5.6e-6;
/// Fixed time of a memory-bound kernel: launch about 1 us, ramp-up and drain; an estimate.
const GPU_T0_MEMORY: f64 = 3e-6;
/// Fixed time of an operator on a CPU: waking the second thread.
const CPU_T0: f64 = 3e-6;

/// What predictions from priors miss by: 25 % for GEMM-like operators, 20 % for memory-bound ones.
const SIGMA: (f64, f64) = (0.25, 0.20);
/// The same for GEMM-like operators of a family whose convolutions nobody has published: an estimate.
const SIGMA_BORROWED: f64 = 0.40;

/// The prior of `family` at precision `p` on `architecture`.
pub(super) fn params(architecture: ChipFamily, family: Family, p: Precision) -> Params {
    let row = TENSOR_ETA.iter().find(|row| row.0 == architecture).expect("every architecture has a row, held by a test");
    let provenance = ParamOrigin::Prior(architecture);
    let eta = match family {
        Family::Gemm => row.1,
        Family::Conv => row.2,
        Family::Attention => row.3,
        _ => return memory(architecture, family, provenance),
    };
    if architecture == Cpu {
        return Params::new(eta, 0.7, CPU_T0, 0.0, 1.0, 16.0, SIGMA.0, provenance);
    }
    let sigma = if architecture.has_cuda() { SIGMA.0 } else { SIGMA_BORROWED };
    match p {
        // Ordinary cores: large products reach 0.85 to 0.97 of peak in fits of NeuSight's linear and bmm rows, with a short
        // start-up; direct fp32 convolution and attention lose a little more.
        Precision::F32 => {
            let own = F32_ETA.iter().find(|row| row.0 == architecture);
            let eta = match family {
                Family::Gemm => own.map_or(0.95, |row| row.1),
                Family::Conv => own.map_or(0.85, |row| row.2),
                _ => own.map_or(0.85, |row| row.3),
            };
            Params::new(eta, 0.85, GPU_T0, 0.2, 0.9, 10.0, sigma, provenance)
        }
        // gamma 0.2 to 0.3, rho 0.6 to 1.0, k0 60 to 150 in fits of H100 and B200, bf16 and fp8.
        _ => Params::new(eta, 0.85, GPU_T0, 0.25, 0.8, 100.0, sigma, provenance),
    }
}

fn memory(architecture: ChipFamily, family: Family, provenance: ParamOrigin) -> Params {
    let (table, t0) = if architecture == Cpu { (&CPU_MEMORY, CPU_T0) } else { (&GPU_MEMORY, GPU_T0_MEMORY) };
    let (_, eta, eta_w) = table.iter().find(|row| row.0 == family).expect("every memory-bound family has a row, held by a test");
    Params::new(*eta, *eta_w, t0, 0.0, 1.0, 0.0, SIGMA.1, provenance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_a_row() {
        let nvidia = [Pascal, Volta, Turing, Ga100, Ga10x, Orin, Ada, Hopper, Gb100, Gb20x];
        let others = [Cpu, Apple7, Apple8, Apple9, Cdna2, Cdna3, Rdna3, Rdna4, Alchemist];
        assert!(nvidia.iter().all(|f| f.has_cuda()) && !others.iter().any(|f| f.has_cuda()));
        for architecture in nvidia.into_iter().chain(others) {
            for (family, p) in Family::broad_ones().flat_map(|f| [(f, Precision::F16), (f, Precision::F32)]) {
                let prior = params(architecture, family, p);
                assert!(prior.eta > 0.0 && prior.eta <= 1.0 && prior.eta_w > 0.0, "{architecture:?} {family:?}");
            }
        }
    }
}
