//! The TensorRT provider of ONNX Runtime's GPU build, with CUDA behind it. Its plans and options are tested, it was never run.

use super::options::switch;
use super::{Attach, Capabilities, DeviceKind, Figures, Fits, Forms, Kernels, Target, cuda};
use crate::units::Bytes;
use crate::weights::DType::{BF16, F16};

/// The folder of a plan that built engines and timings of kernels are kept in.
const ENGINES: &str = "engines";

pub(super) static ROW: Target = Target {
    key: "tensorrt",
    name: "the TensorRT provider",
    fits: Fits {
        kind: DeviceKind::Gpu,
        vendors: &["NVIDIA"],
        not_vendors: &[],
        // TensorRT 10 supports Turing and later.
        capability: Some(Capabilities::from((7, 5))),
        systems: &["linux", "windows"],
        driver_files: cuda::DRIVER_FILES,
    },
    attach: Attach::TensorRt,
    // Its libraries come from NVIDIA alone; ONNX Runtime finds them on the loader's path.
    software: None,
    behind: &[&cuda::ROW],
    kernels: Kernels { text: include_str!("kernels/tensorrt.txt"), widened: &[] },
    // TensorRT's parser knows operators of the standard alone. Attention is the exception on purpose: written out, its scores are
    // materialised wherever TensorRT does not recognise the pattern, which asks for 86 GB at the size of SVD (NVIDIA/TensorRT issue
    // 4254). CUDA's fused kernel behind it never writes them; tiles keep attention inside the engine (knob `attention`).
    forms: Forms::STANDARD,
    precisions: cuda::NARROW,
    figures: Figures {
        // The kernels of one engine are launched together.
        dispatch_s: 1e-6,
        engine: "onnxruntime-tensorrt",
        // ONNX Runtime's pull request 14767 measures builds of 35 and 109 s of models of some hundred nodes; a prior.
        in_order: false,
        compile_s_per_node: 0.1,
        ..cuda::FIGURES
    },
    options: |asked| {
        let half = asked.types.contains(&F16);
        let shapes = shapes(asked.inputs);
        // With its permission TensorRT takes 16-bit kernels for f32 nodes too, so it has it only where the plan has such tensors.
        let mut options = vec![
            ("device_id", asked.device.to_string()),
            ("trt_fp16_enable", switch(half)),
            ("trt_bf16_enable", switch(asked.types.contains(&BF16))),
            ("trt_layer_norm_fp32_fallback", switch(half)),
            ("trt_max_workspace_size", asked.scratch.max(LEAST_WORKSPACE).0.to_string()),
            ("trt_engine_cache_enable", switch(true)),
            ("trt_engine_cache_path", ENGINES.into()),
            ("trt_timing_cache_enable", switch(true)),
            ("trt_timing_cache_path", ENGINES.into()),
        ];
        for bound in ["trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"] {
            options.push((bound, shapes.clone()));
        }
        options
    },
    doubts: Some(
        "the time predicted for TensorRT is an upper end: it fuses elementwise operators into their neighbours, which the model counts one by one",
    ),
    memory_limit: None,
    folders: &["trt_engine_cache_path", "trt_timing_cache_path"],
    at_run: |_, _| {},
};

/// Below this TensorRT finds no kernel for many layers.
pub(super) const LEAST_WORKSPACE: Bytes = Bytes(32 << 20);

/// `name:1x2x3,other:4`: extents of a session are fixed, so the least, usual and largest shapes are the same.
pub(super) fn shapes(inputs: &[(String, Vec<i64>)]) -> String {
    let one = |(name, dims): &(String, Vec<i64>)| format!("{name}:{}", dims.iter().map(i64::to_string).collect::<Vec<_>>().join("x"));
    inputs.iter().map(one).collect::<Vec<_>>().join(",")
}
