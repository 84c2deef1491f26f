//! The precisions of kernels.

use serde::{Deserialize, Serialize};

/// What a kernel multiplies and in what it sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// fp32 on the ordinary cores.
    F32,
    /// fp32 in memory, tf32 in the tensor cores: what ONNX Runtime does with fp32 on Ampere and later unless told not to.
    Tf32,
    /// fp16 with sums in fp32.
    F16,
    /// fp16 with sums in fp16; twice as fast on `GeForce` cards, and less exact.
    F16Acc16,
    /// bf16 with sums in fp32.
    Bf16,
    /// int8 with sums in int32.
    Int8,
    /// fp8 with sums in fp32.
    Fp8,
}

impl Precision {
    /// Every precision, in table order.
    pub const ALL: [Self; 7] = [Self::F32, Self::Tf32, Self::F16, Self::F16Acc16, Self::Bf16, Self::Int8, Self::Fp8];

    /// Bytes of one element in memory.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 | Self::Tf32 => 4.0,
            Self::F16 | Self::F16Acc16 | Self::Bf16 => 2.0,
            Self::Int8 | Self::Fp8 => 1.0,
        }
    }

    /// Bytes of one element of a result: 8-bit kernels write 16 bits.
    pub fn result_bytes(self) -> f64 {
        self.bytes().max(2.0)
    }

    /// Elements by which a channel count must divide for the tensor cores to be filled.
    pub fn alignment(self) -> u64 {
        match self {
            Self::F32 => 1,
            Self::Tf32 => 4,
            Self::F16 | Self::F16Acc16 | Self::Bf16 => 8,
            Self::Int8 | Self::Fp8 => 16,
        }
    }

    /// True for the two-byte floats.
    pub fn is_half(self) -> bool {
        matches!(self, Self::F16 | Self::F16Acc16 | Self::Bf16)
    }
}
