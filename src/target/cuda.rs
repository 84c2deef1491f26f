//! The CUDA provider of ONNX Runtime's GPU build.

use super::forms::Form as F;
use super::options::switch;
use super::{
    Attach, DeviceKind, Figures, Fits, Forms, GroupNormKernel, Kernels, MemoryError, Narrow, Precision, Scratch, Target, TemporalConv,
};
use crate::units::Bytes;
use crate::weights::DType::{self, BF16, F16, F32};

const FLOATS: &[DType] = &[F32, F16, BF16];

/// Files that NVIDIA's driver brings: desktop and server, Jetson, Windows' subsystem for Linux.
pub(super) const DRIVER_FILES: &[&str] = &["/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/dxg"];

pub(super) static ROW: Target = Target {
    key: "cuda",
    name: "the CUDA provider",
    fits: Fits {
        kind: DeviceKind::Gpu,
        vendors: &["NVIDIA"],
        not_vendors: &[],
        // The build for CUDA 12; the one for CUDA 13 takes 7.5 and later.
        capability: Some((6, 0)),
        systems: &["linux", "windows"],
        driver_files: DRIVER_FILES,
    },
    attach: Attach::Cuda,
    behind: &[],
    kernels: Kernels { text: include_str!("kernels/cuda.txt"), widened: &[] },
    forms: Forms {
        table: &[(F::FusedAttention, FLOATS), (F::QuickGelu, FLOATS)],
        // `contrib_ops/cuda/diffusion/group_norm_impl.cu` lists the channel counts.
        group_norm: Some(GroupNormKernel {
            groups: 32,
            channels: &[128, 256, 320, 384, 448, 512, 576, 640, 768, 896, 960, 1024, 1280, 1920, 2048, 2560],
            types: &[F16, F32],
        }),
        temporal_conv: TemporalConv::Asked,
        merges_linears: false,
        moves_views: false,
    },
    precisions: NARROW,
    figures: FIGURES,
    options: |asked| {
        vec![
            ("device_id", asked.device.to_string()),
            ("use_tf32", switch(asked.tf32)),
            // Off, cuDNN may take 32 MiB (`WORKSPACE`), which is what the memory plan counts; on, as much as it likes.
            ("cudnn_conv_use_max_workspace", switch(false)),
        ]
    },
    doubts: None,
    memory_limit: Some("gpu_mem_limit"),
    folders: &[],
};

/// What cuDNN may take for a convolution where `cudnn_conv_use_max_workspace` is off (`docs/facts/tuning.md` B.2).
const WORKSPACE: Bytes = Bytes(32 << 20);

/// Beside the kernels.
pub(super) const FIGURES: Figures = Figures {
    // An eager Stable Diffusion step of about 2,000 nodes takes 18 ms on H100 whatever its FLOP.
    dispatch_s: 8e-6,
    engine: "onnxruntime-cuda",
    // CUDA context 0.30 to 0.55 GB and ONNX Runtime 0.1 GB; the middle of both.
    overhead: Bytes(450_000_000),
    scratch: Scratch::Workspace(WORKSPACE),
    packs_weights: false,
    // In host memory.
    node: Bytes(0),
    // A margin that published peaks keep within (`docs/facts/tuning.md` B.2).
    memory_error: MemoryError { below: 8, above: 8 },
    in_order: true,
    compile_s_per_node: 0.0,
};

/// Half precisions and tf32 where the device has units for them.
pub(super) const NARROW: &[Narrow] = &[
    Narrow { precision: Precision::Tf32, native: true, searched: true },
    Narrow { precision: Precision::F16, native: true, searched: true },
    Narrow { precision: Precision::Bf16, native: true, searched: true },
];
