//! Bytes, seconds and FLOP as types, so that a figure says what it is and is printed one way.
//!
//! Latency is kept in whole picoseconds: sums are then associative, and the figure that the search proves is the figure
//! that `estimate` prints, to the last digit, whatever order the additions happened in.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bytes(pub u64);

/// A span of time in whole picoseconds (up to 213 days).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Time(pub u64);

/// A number of floating-point operations; a multiply-add counts as two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Flop(pub u64);

macro_rules! quantity {
    ($name:ident) => {
        impl Add for $name {
            type Output = Self;
            fn add(self, rhs: Self) -> Self {
                Self(self.0.saturating_add(rhs.0))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, rhs: Self) {
                *self = *self + rhs;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, rhs: Self) -> Self {
                Self(self.0.saturating_sub(rhs.0))
            }
        }
        impl Mul<u64> for $name {
            type Output = Self;
            fn mul(self, rhs: u64) -> Self {
                Self(self.0.saturating_mul(rhs))
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self(0), Add::add)
            }
        }
    };
}
quantity!(Bytes);
quantity!(Time);
quantity!(Flop);

impl Time {
    /// From seconds; negative and non-finite values become zero or the maximum.
    pub fn from_secs(s: f64) -> Self {
        Self((s * 1e12).round() as u64)
    }

    /// In seconds.
    pub fn secs(self) -> f64 {
        self.0 as f64 * 1e-12
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (unit, size) in UNITS {
            if self.0 >= size {
                return write!(f, "{:.2} {unit}", self.0 as f64 / size as f64);
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.secs();
        match s {
            _ if s >= 120.0 => write!(f, "{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
            _ if s >= 1.0 => write!(f, "{s:.2} s"),
            _ if s >= 1e-3 => write!(f, "{:.2} ms", s * 1e3),
            _ => write!(f, "{:.2} us", s * 1e6),
        }
    }
}

impl fmt::Display for Flop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = self.0 as f64;
        match x {
            _ if x >= 1e12 => write!(f, "{:.2} TFLOP", x / 1e12),
            _ if x >= 1e9 => write!(f, "{:.2} GFLOP", x / 1e9),
            _ => write!(f, "{:.2} MFLOP", x / 1e6),
        }
    }
}

/// Reads `12GiB`, `8GB`, `512MiB`, `4096` (bytes). GiB = 2^30, GB = 10^9.
///
/// # Errors
/// A sentence that says what is wrong and which units there are.
pub fn parse_bytes(text: &str) -> Result<Bytes, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is not a size; write for example 12GiB or 800MB"))?;
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        other => {
            return Err(format!("`{other}` is not a unit of size; use KiB, MiB, GiB (2^10, 2^20, 2^30) or kB, MB, GB (10^3, 10^6, 10^9)"));
        }
    };
    let bytes = number * scale;
    if !bytes.is_finite() || bytes >= 1.8e19 {
        return Err(format!("`{text}` is larger than any memory"));
    }
    Ok(Bytes(bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print() {
        for (text, want) in [("12GiB", 12 << 30), ("8 GB", 8_000_000_000), ("1.5MiB", 1_572_864), ("77", 77)] {
            assert_eq!(parse_bytes(text), Ok(Bytes(want)), "{text}");
        }
        assert!(parse_bytes("12 gallons").is_err());
        assert!(parse_bytes("GiB").is_err());
        assert_eq!(Bytes(12 << 30).to_string(), "12.00 GiB");
        assert_eq!(Time::from_secs(0.0123).to_string(), "12.30 ms");
    }
}
