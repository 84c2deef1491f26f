//! The TensorRT-RTX plug-in: GeForce and RTX cards from Ampere on, whose engines are built in seconds. Its plans and options are tested and its
//! libraries are loaded up to the driver; it was never run.

use super::options::switch;
use super::package::wheel;
use super::tensorrt::{LEAST_WORKSPACE, shapes};
use super::{
    Attach, Capabilities, DeviceKind, Figures, Fits, Forms, Kernels, Layout, Library, Narrow, Package, Precision, Software, Target,
    TemporalConv, cuda,
};

/// The folder of a plan that compiled kernels are kept in; they can be carried to another RTX card.
const KERNELS: &str = "kernels";

static SOFTWARE: Software = Software {
    packages: &[&Package {
        name: "onnxruntime-ep-nv-tensorrt-rtx-cu12",
        version: "0.5.0",
        builds: &[wheel!("onnxruntime-ep-nv-tensorrt-rtx-cu12", "linux", "x86_64", "manylinux_2_28_x86_64", 170_534_401)],
    }],
    library: Library::Plugin("libonnxruntime_providers_nv_tensorrt_rtx.so"),
    load_first: &["libcudart.so.12", "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"],
};

pub(super) static ROW: Target = Target {
    key: "tensorrt-rtx",
    name: "the TensorRT-RTX provider",
    fits: Fits {
        kind: DeviceKind::Gpu,
        vendors: &["NVIDIA"],
        not_vendors: &[],
        // The architectures that its option `nv_target_sm` names: sm86, sm89, sm120, sm121.
        capability: Some(Capabilities { exactly: &[(8, 6), (8, 9)], from: (12, 0) }),
        systems: &["linux"],
        driver_files: cuda::DRIVER_FILES,
    },
    attach: Attach::Plugin("NvTensorRTRTXExecutionProvider"),
    software: Some(&SOFTWARE),
    behind: &[],
    // TensorRT-RTX has the parser of TensorRT 10.
    kernels: Kernels { text: include_str!("kernels/tensorrt.txt"), widened: &[] },
    // Its parser knows operators of the standard alone, and nothing stands behind it: what it has no kernel for is an error.
    forms: Forms {
        table: &[],
        group_norm: None,
        layout: Layout::Planar,
        temporal_conv: TemporalConv::Asked,
        merges_linears: false,
        moves_views: false,
    },
    // Networks are strongly typed: an operator is computed in the type that the graph says.
    precisions: &[
        Narrow { precision: Precision::F16, native: true, searched: true },
        Narrow { precision: Precision::Bf16, native: true, searched: true },
    ],
    figures: Figures {
        // The kernels of one engine are launched together.
        dispatch_s: 1e-6,
        engine: "onnxruntime-tensorrt-rtx",
        in_order: false,
        // Its documentation says that engines are built in seconds; a prior, nobody has measured it here.
        compile_s_per_node: 0.01,
        ..cuda::FIGURES
    },
    options: |asked| {
        let shapes = shapes(asked.inputs);
        let mut options = vec![
            ("device_id", asked.device.to_string()),
            ("nv_max_workspace_size", asked.scratch.max(LEAST_WORKSPACE).0.to_string()),
            ("nv_runtime_cache_path", KERNELS.into()),
            // Extents of a session are fixed.
            ("enable_cuda_graph", switch(true)),
        ];
        for bound in ["nv_profile_min_shapes", "nv_profile_opt_shapes", "nv_profile_max_shapes"] {
            options.push((bound, shapes.clone()));
        }
        options
    },
    doubts: Some(
        "the time predicted for TensorRT-RTX is an upper end: it fuses elementwise operators into their neighbours, which the model counts one by one",
    ),
    memory_limit: None,
    folders: &["nv_runtime_cache_path"],
    at_run: |_, _| {},
};
