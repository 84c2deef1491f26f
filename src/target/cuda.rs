//! The CUDA provider of ONNX Runtime's GPU build.

use super::forms::Form as F;
use super::options::switch;
use super::package::wheel;
use super::{
    Attach, Build, Capabilities, DeviceKind, Figures, Fits, Forms, GroupNormKernel, Kernels, Layout, Library, MemoryError, Narrow, Package,
    Precision, Scratch, Software, Target, TemporalConv,
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
        // A build for CUDA 12, which the user names; the published one is for CUDA 13 and takes 7.5 and later.
        capability: Some(Capabilities::from((6, 0))),
        systems: &["linux", "windows"],
        driver_files: DRIVER_FILES,
    },
    attach: Attach::Cuda,
    software: Some(&SOFTWARE),
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
        layout: Layout::Planar,
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
    at_run: |_, _| {},
};

/// ONNX Runtime's GPU build, for CUDA 13, with the libraries that its provider is linked to. cuDNN loads its own parts from beside it.
static SOFTWARE: Software = Software {
    packages: &[
        &Package {
            name: "onnxruntime-gpu",
            version: "1.31.1",
            builds: &[wheel!("onnxruntime-gpu", "linux", "x86_64", "manylinux_2_28_x86_64", 255_569_273)],
        },
        &nvidia("nvidia-cuda-runtime", "13.5.37", &[wheel!("nvidia-cuda-runtime", "linux", "x86_64", "manylinux_2_17_x86_64", 2_504_024)]),
        &nvidia("nvidia-cublas", "13.10.0.20", &[wheel!("nvidia-cublas", "linux", "x86_64", "manylinux1_x86_64", 444_289_903)]),
        &nvidia("nvidia-cuda-nvrtc", "13.5.37", &[wheel!("nvidia-cuda-nvrtc", "linux", "x86_64", "manylinux_2_12_x86_64", 58_185_930)]),
        &nvidia("nvidia-cufft", "12.5.0.14", &[wheel!("nvidia-cufft", "linux", "x86_64", "manylinux_2_17_x86_64", 165_072_555)]),
        &nvidia("nvidia-curand", "10.4.5.25", &[wheel!("nvidia-curand", "linux", "x86_64", "manylinux_2_27_x86_64", 77_113_015)]),
        &nvidia("nvidia-cudnn-cu13", "9.28.1.4", &[wheel!("nvidia-cudnn-cu13", "linux", "x86_64", "manylinux_2_27_x86_64", 516_817_937)]),
    ],
    library: Library::Runtime("libonnxruntime.so.1.31.1"),
    load_first: &[
        "libcudart.so.13",
        "libcublasLt.so.13",
        "libcublas.so.13",
        "libnvrtc.so.13",
        "libcurand.so.10",
        "libcufft.so.12",
        "libcudnn.so.9",
    ],
};

const fn nvidia(name: &'static str, version: &'static str, builds: &'static [Build]) -> Package {
    Package { name, version, builds }
}

/// What cuDNN may take for a convolution where `cudnn_conv_use_max_workspace` is off (`docs/facts/tuning.md` B.2).
const WORKSPACE: Bytes = Bytes(32 << 20);

/// Beside the kernels.
pub(super) const FIGURES: Figures = Figures {
    // An eager Stable Diffusion step of about 2,000 nodes takes 18 ms on H100 whatever its FLOP.
    dispatch_s: 8e-6,
    engine: "onnxruntime-cuda",
    stands_in: None,
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
