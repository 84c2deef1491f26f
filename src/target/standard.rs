//! A stand-in for GPUs whose provider vidc has no row for yet: operators of the ONNX standard, CUDA's figures beside the kernels.
//! Plans for it are costed and compared, as far as the model goes; they cannot be run.

use super::device::ANY_SYSTEM;
use super::{Attach, DeviceKind, Figures, Fits, Forms, Kernels, Target, cuda};

pub(super) static ROW: Target = Target {
    key: "standard",
    name: "a provider that vidc cannot start yet",
    fits: Fits {
        kind: DeviceKind::Gpu,
        vendors: &[],
        not_vendors: &["NVIDIA", "Intel"],
        capability: None,
        systems: ANY_SYSTEM,
        driver_files: &[],
    },
    attach: Attach::Missing(
        "vidc has no row for this device's execution provider yet (MIGraphX or WebGPU on AMD, CoreML, MLX or WebGPU on Apple): \
         its times and bytes are modelled with operators of the ONNX standard and fused attention, and nothing can be run",
    ),
    software: None,
    behind: &[],
    // What most providers take: the kernels of CUDA.
    kernels: Kernels { text: include_str!("kernels/cuda.txt"), widened: &[] },
    forms: Forms::STANDARD,
    precisions: cuda::NARROW,
    figures: Figures { engine: "none", ..cuda::FIGURES },
    options: |_| Vec::new(),
    doubts: None,
    memory_limit: None,
    folders: &[],
    at_run: |_, _| {},
};
