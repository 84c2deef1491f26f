//! Elements of every type to and from the two types that arithmetic is done in: f64 for floats, i64 for integers.
//!
//! Both hold every value of the types they stand for, so a conversion rounds at most once, to nearest even. From f64 to a
//! 16-bit float the way leads over an f32 that is rounded to odd ([`odd_f32`]): `half`'s own conversion goes over one that is
//! rounded to nearest, or drops low bits, depending on the machine, and so rounds twice.

use half::{bf16, f16};

use super::DType;

/// Calls `$each` with every element of `$bytes` as the array of its bytes.
macro_rules! decode {
    ($bytes:expr, $out:expr, $size:literal, $each:expr) => {
        for (element, value) in $bytes.as_chunks::<$size>().0.iter().zip($out.iter_mut()) {
            *value = $each(*element);
        }
    };
}

macro_rules! encode {
    ($values:expr, $out:expr, $size:literal, $each:expr) => {
        for (value, element) in $values.iter().zip($out.as_chunks_mut::<$size>().0.iter_mut()) {
            *element = $each(*value);
        }
    };
}

/// Little-endian elements to f64. Lengths must agree; integers beyond 2^53 are rounded.
pub(super) fn to_f64(dtype: DType, bytes: &[u8], out: &mut [f64]) {
    match dtype {
        DType::F32 => decode!(bytes, out, 4, |b| f64::from(f32::from_le_bytes(b))),
        DType::F64 => decode!(bytes, out, 8, f64::from_le_bytes),
        DType::F16 => decode!(bytes, out, 2, |b| f64::from(f16::from_le_bytes(b).to_f32())),
        DType::BF16 => decode!(bytes, out, 2, |b| f64::from(bf16::from_le_bytes(b).to_f32())),
        DType::I64 => decode!(bytes, out, 8, |b| i64::from_le_bytes(b) as f64),
        DType::I32 => decode!(bytes, out, 4, |b| f64::from(i32::from_le_bytes(b))),
        DType::U8 => decode!(bytes, out, 1, |b: [u8; 1]| f64::from(b[0])),
        DType::I8 => decode!(bytes, out, 1, |b| f64::from(i8::from_le_bytes(b))),
        DType::Bool => decode!(bytes, out, 1, |b: [u8; 1]| f64::from(u8::from(b[0] != 0))),
        DType::Opaque => unreachable!("no constant is opaque"),
    }
}

/// One little-endian element as f64.
pub(super) fn decode_one(dtype: DType, bytes: &[u8]) -> f64 {
    let mut value = [0.0];
    to_f64(dtype, bytes, &mut value);
    value[0]
}

/// f64 to little-endian elements: floats round to nearest even, integers truncate towards zero and saturate, booleans are
/// whether the value is not zero (as ONNX `Cast` has it where it is defined).
pub(super) fn from_f64(dtype: DType, values: &[f64], out: &mut [u8]) {
    match dtype {
        DType::F32 => encode!(values, out, 4, |v| (v as f32).to_le_bytes()),
        DType::F64 => encode!(values, out, 8, f64::to_le_bytes),
        DType::F16 => encode!(values, out, 2, |v| f16::from_f32(odd_f32(v)).to_le_bytes()),
        DType::BF16 => encode!(values, out, 2, |v| bf16::from_f32(odd_f32(v)).to_le_bytes()),
        DType::I64 => encode!(values, out, 8, |v| (v as i64).to_le_bytes()),
        DType::I32 => encode!(values, out, 4, |v| (v as i32).to_le_bytes()),
        DType::U8 => encode!(values, out, 1, |v| [v as u8]),
        DType::I8 => encode!(values, out, 1, |v| (v as i8).to_le_bytes()),
        DType::Bool => encode!(values, out, 1, |v| [u8::from(v != 0.0)]),
        DType::Opaque => unreachable!("no constant is opaque"),
    }
}

impl DType {
    /// The nearest number that the type holds, ties to even; of floats only, others are as they are.
    pub fn rounded(self, value: f64) -> f64 {
        match self {
            Self::F32 => f64::from(value as f32),
            Self::F16 => f64::from(f16::from_f32(odd_f32(value)).to_f32()),
            Self::BF16 => f64::from(bf16::from_f32(odd_f32(value)).to_f32()),
            _ => value,
        }
    }
}

/// `value` as f32, rounded to odd: if it does not fit, the neighbour with an odd last bit. Rounding that to a format with at
/// least two bits less is rounding `value` once (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
fn odd_f32(value: f64) -> f32 {
    let near = value as f32;
    let wide = f64::from(near);
    if value.is_nan() || wide.to_bits() == value.to_bits() {
        return near;
    }
    // The larger of two neighbours has the larger bits, whatever the sign.
    let towards_zero = near.to_bits() - u32::from(wide.abs() > value.abs());
    f32::from_bits(towards_zero | 1)
}

/// Little-endian integers to i64. Only for integer types.
fn to_i64(dtype: DType, bytes: &[u8], out: &mut [i64]) {
    match dtype {
        DType::I64 => decode!(bytes, out, 8, i64::from_le_bytes),
        DType::I32 => decode!(bytes, out, 4, |b| i64::from(i32::from_le_bytes(b))),
        DType::U8 => decode!(bytes, out, 1, |b: [u8; 1]| i64::from(b[0])),
        DType::I8 => decode!(bytes, out, 1, |b| i64::from(i8::from_le_bytes(b))),
        DType::Bool => decode!(bytes, out, 1, |b: [u8; 1]| i64::from(b[0] != 0)),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Opaque => unreachable!("floats are cast through f64"),
    }
}

/// i64 to little-endian elements: integers keep their low bits.
fn from_i64(dtype: DType, values: &[i64], out: &mut [u8]) {
    match dtype {
        DType::I64 => encode!(values, out, 8, i64::to_le_bytes),
        DType::I32 => encode!(values, out, 4, |v| (v as i32).to_le_bytes()),
        DType::U8 | DType::I8 => encode!(values, out, 1, |v| [v as u8]),
        DType::Bool => encode!(values, out, 1, |v| [u8::from(v != 0)]),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Opaque => unreachable!("floats are cast through f64"),
    }
}

/// Elements a block of the functions below; two buffers of it stay in the first-level cache.
pub(super) const BLOCK: usize = 2048;

/// Converts one run of at most [`BLOCK`] elements from one type to another.
pub(super) fn cast_block(from: DType, bytes: &[u8], to: DType, out: &mut [u8]) {
    let n = bytes.len() / from.size() as usize;
    if from.is_float() || to.is_float() {
        let mut values = [0.0; BLOCK];
        to_f64(from, bytes, &mut values[..n]);
        from_f64(to, &values[..n], out);
    } else {
        let mut values = [0; BLOCK];
        to_i64(from, bytes, &mut values[..n]);
        from_i64(to, &values[..n], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dtype: DType, value: f64, expect: &[u8]) {
        let mut bytes = vec![0; dtype.size() as usize];
        from_f64(dtype, &[value], &mut bytes);
        assert_eq!(bytes, expect, "{value} as {dtype}");
    }

    #[test]
    fn rounding_is_to_nearest_even_and_happens_once() {
        check(DType::F16, 1.0, &[0x00, 0x3c]);
        check(DType::F16, 65_520.0, &[0x00, 0x7c]); // halfway to the next: infinity
        check(DType::F16, 65_519.99, &[0xff, 0x7b]);
        // Just above halfway between 1 and the next f16, but exactly halfway once rounded to f32.
        check(DType::F16, 1.0 + 2_f64.powi(-11) + 2_f64.powi(-40), &[0x01, 0x3c]);
        check(DType::BF16, 1.0 + 2_f64.powi(-8) + 2_f64.powi(-40), &[0x81, 0x3f]);
        check(DType::BF16, 1.0 + 2_f64.powi(-8), &[0x80, 0x3f]);
        check(DType::F16, 6e-8, &[0x01, 0x00]); // subnormal
        check(DType::I8, -200.7, &[0x80]);
        check(DType::U8, 3.9, &[3]);
        check(DType::Bool, 0.5, &[1]);
        check(DType::I32, f64::NAN, &[0; 4]);
    }

    #[test]
    fn integers_keep_their_low_bits() {
        let mut out = [0; 4];
        cast_block(DType::I64, &(i64::MAX - 1).to_le_bytes(), DType::I32, &mut out);
        assert_eq!(i32::from_le_bytes(out), -2);
        let mut out = [0; 8];
        cast_block(DType::I64, &(i64::MAX - 1).to_le_bytes(), DType::I64, &mut out);
        assert_eq!(i64::from_le_bytes(out), i64::MAX - 1);
    }

    #[test]
    fn every_value_of_the_16_bit_floats_survives_the_way_there_and_back() {
        for dtype in [DType::F16, DType::BF16] {
            for bits in 0..=u16::MAX {
                let mut value = [0.0];
                let mut back = [0; 2];
                to_f64(dtype, &bits.to_le_bytes(), &mut value);
                from_f64(dtype, &value, &mut back);
                assert!(value[0].is_nan() || u16::from_le_bytes(back) == bits, "{dtype} {bits:#x}");
            }
        }
    }
}
