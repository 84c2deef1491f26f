//! Weight expressions as text and as a fingerprint.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{TensorRef, WeightExpr, WeightOp};

impl fmt::Display for WeightExpr {
    /// `transpose[1,0](param unet/conv_in.weight)`; names files without their folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op() {
            WeightOp::Param { stage, name } => write!(f, "param {stage}/{name}"),
            WeightOp::Stored(t) => write!(f, "stored {}@{}+{}", t.file.name(), t.offset, t.len),
            WeightOp::Random { name, .. } => write!(f, "random {name}"),
            WeightOp::Literal(_) => write!(f, "literal {}[{}]", self.dtype(), commas(self.shape())),
            WeightOp::Transpose { of, perm } => write!(f, "transpose[{}]({of})", commas(perm)),
            WeightOp::Reshape { of } => write!(f, "reshape[{}]({of})", commas(self.shape())),
            WeightOp::Concat { parts, axis } => {
                write!(f, "concat[{axis}](")?;
                for (i, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            WeightOp::Slice { of, axis, start, end } => write!(f, "slice[{axis}, {start}..{end}]({of})"),
            WeightOp::Scale { of, factor } => write!(f, "scale[{factor}]({of})"),
            WeightOp::Map { function, of } => write!(f, "{}({of})", function.name()),
            WeightOp::Binary { function, left, right } => write!(f, "{}({left}, {right})", function.name()),
            WeightOp::Expand { of } => write!(f, "expand[{}]({of})", commas(self.shape())),
            WeightOp::MatMul { left, right } => write!(f, "matmul({left}, {right})"),
            WeightOp::Cast { of } => write!(f, "cast[{}]({of})", self.dtype()),
        }
    }
}

fn commas<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl WeightExpr {
    /// Adds everything that decides the values to a hash: length-prefixed fields, operands in order. Files count by their
    /// header's hash (by name and length where there is none), not by the folder they lie in.
    pub fn fingerprint(&self, hash: &mut Sha256) {
        field(hash, self.dtype().name().as_bytes());
        numbers(hash, self.shape());
        match self.op() {
            WeightOp::Param { stage, name } => fields(hash, "param", &[stage.as_bytes(), name.as_bytes()]),
            WeightOp::Stored(tensor) => stored(hash, tensor),
            WeightOp::Random { spec, .. } => {
                fields(hash, "random", &[&spec.seed.to_le_bytes(), &spec.center.to_le_bytes(), &spec.bound.to_le_bytes()]);
            }
            WeightOp::Literal(bytes) => fields(hash, "literal", &[bytes]),
            WeightOp::Transpose { perm, .. } => {
                field(hash, b"transpose");
                numbers(hash, &perm.iter().map(|axis| *axis as u64).collect::<Vec<_>>());
            }
            WeightOp::Reshape { .. } => field(hash, b"reshape"),
            WeightOp::Concat { axis, .. } => fields(hash, "concat", &[&(*axis as u64).to_le_bytes()]),
            WeightOp::Slice { axis, start, end, .. } => {
                field(hash, b"slice");
                numbers(hash, &[*axis as u64, *start, *end]);
            }
            WeightOp::Scale { factor, .. } => fields(hash, "scale", &[&factor.to_le_bytes()]),
            WeightOp::Map { function, .. } => fields(hash, "map", &[function.name().as_bytes()]),
            WeightOp::Binary { function, .. } => fields(hash, "binary", &[function.name().as_bytes()]),
            WeightOp::Expand { .. } => field(hash, b"expand"),
            WeightOp::MatMul { .. } => field(hash, b"matmul"),
            WeightOp::Cast { .. } => field(hash, b"cast"),
        }
        let operands = self.operands();
        hash.update((operands.len() as u64).to_le_bytes());
        for operand in operands {
            operand.fingerprint(hash);
        }
    }
}

fn stored(hash: &mut Sha256, tensor: &TensorRef) {
    let place = [tensor.offset.to_le_bytes(), tensor.len.to_le_bytes()].concat();
    match tensor.file.header_sha256() {
        Some(header) => fields(hash, "safetensors", &[&header, &place]),
        None => fields(hash, "raw", &[tensor.file.name().as_bytes(), &tensor.file.len().to_le_bytes(), &place]),
    }
}

fn fields(hash: &mut Sha256, tag: &str, parts: &[&[u8]]) {
    field(hash, tag.as_bytes());
    for part in parts {
        field(hash, part);
    }
}

fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn numbers(hash: &mut Sha256, values: &[u64]) {
    hash.update((values.len() as u64).to_le_bytes());
    for value in values {
        hash.update(value.to_le_bytes());
    }
}
