//! The CPU provider: part of every ONNX Runtime.

use super::device::ANY_SYSTEM;
use super::forms::Form as F;
use super::{Attach, DeviceKind, Figures, Fits, Forms, Kernels, Layout, MemoryError, Narrow, Precision, Scratch, Target, TemporalConv};
use crate::units::Bytes;
use crate::weights::DType::{self, F16, F32};

/// The floats for which there are kernels, or for which ONNX Runtime puts casts around those of f32.
const FLOATS: &[DType] = &[F32, F16];

pub(super) static ROW: Target = Target {
    key: "cpu",
    name: "the CPU provider",
    fits: Fits { kind: DeviceKind::Cpu, vendors: &[], not_vendors: &[], capability: None, systems: ANY_SYSTEM, driver_files: &[] },
    attach: Attach::Builtin,
    software: None,
    behind: &[],
    // 16-bit floats run as f32 between casts that ONNX Runtime inserts. It does so for f16 alone: a bf16 convolution is refused.
    kernels: Kernels { text: include_str!("kernels/cpu.txt"), widened: &[F16] },
    forms: Forms {
        // Ratios by which each is faster stand at the passes that make it; all were measured on this provider.
        table: &[
            (F::FusedAttention, FLOATS),
            (F::QuickGelu, FLOATS),
            (F::ProductOfAnyRank, &[F32]),
            (F::BiasGelu, &[F32]),
            (F::ChannelAffine, &[F32]),
            (F::ResidualConv, &[F32]),
            (F::TransposedUpsample, &[F32]),
        ],
        group_norm: None,
        // 0.89 to 0.98 of the time of the three-dimensional kernel at 64 to 256 channels.
        layout: Layout::Planar,
        temporal_conv: TemporalConv::Flat,
        merges_linears: true,
        moves_views: true,
    },
    // fp32 kernels between casts: never faster, so nobody searches them (`docs/facts/ort.md` section 4).
    precisions: &[Narrow { precision: Precision::F16, native: false, searched: false }],
    figures: Figures {
        // A chain of 100 tiny nodes.
        dispatch_s: 0.3e-6,
        engine: "onnxruntime-cpu",
        stands_in: None,
        // 33 MB are pages of the program and its libraries, the rest heap: fitted with `node` to nine plans of two pipelines that have 1,400
        // to 5,600 nodes (`tools/memory/random_plans.py`, `benches/memory`).
        overhead: Bytes(54_000_000),
        scratch: Scratch::Mlas,
        packs_weights: true,
        node: Bytes(9_400),
        memory_error: MemoryError { below: 8, above: 9 },
        in_order: true,
        compile_s_per_node: 0.0,
    },
    options: |_| Vec::new(),
    doubts: None,
    memory_limit: None,
    folders: &[],
    at_run: |_, _| {},
};
