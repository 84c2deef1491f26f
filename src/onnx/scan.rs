//! A walk over the bytes of a model before they are decoded.
//!
//! Protobuf amplifies: an empty message takes two bytes on the wire and hundreds in memory, a packed integer one and eight.
//! The walk follows the schema's fields, allocates nothing, and bounds depth, messages and numbers, so that decoding
//! afterwards needs memory in proportion to the file plus a constant. It also says at which byte a damaged file goes wrong.

use crate::diag::{Diagnostic, Result};

/// Messages and repeated strings a file may hold; the largest network of SVD has about 1e5.
const MAX_PARTS: u64 = 4 << 20;
/// Integers that are not raw bytes.
const MAX_NUMBERS: u64 = 64 << 20;
/// Messages inside messages. A graph in a graph costs three (node, attribute, graph): room for about twenty.
pub(super) const MAX_DEPTH: usize = 64;

/// The messages of the schema that hold others or repeat something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Training,
    Graph,
    Annotation,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    /// The element type of a sequence or an optional.
    Element,
    Map,
    Shape,
    Function,
    /// A message without messages: an entry, a dimension, an operator set.
    Leaf,
    /// A repeated string.
    Text,
    /// Repeated integers, packed or not.
    Integers,
}

use Kind::{
    Annotation, Attribute, Element, Function, Graph, Integers, Leaf, Map, Model, Node, Shape, Sparse, Tensor, TensorType, Text, Training,
    Type, ValueInfo,
};

/// (message, its fields that matter here). What is not listed is one string, number or run of bytes, which costs in memory
/// what it costs on the wire.
const FIELDS: [(Kind, &[(u32, Kind)]); 15] = [
    (Model, &[(7, Graph), (8, Leaf), (14, Leaf), (20, Training), (25, Function), (26, Text)]),
    (Training, &[(1, Graph), (2, Graph), (3, Leaf), (4, Leaf)]),
    (Graph, &[(1, Node), (5, Tensor), (11, ValueInfo), (12, ValueInfo), (13, ValueInfo), (14, Annotation), (15, Sparse), (16, Leaf)]),
    (Annotation, &[(2, Leaf)]),
    (Node, &[(1, Text), (2, Text), (5, Attribute), (9, Leaf), (10, Text)]),
    (
        Attribute,
        &[(5, Tensor), (6, Graph), (8, Integers), (9, Text), (10, Tensor), (11, Graph), (14, Type), (15, Type), (22, Sparse), (23, Sparse)],
    ),
    (Tensor, &[(1, Integers), (3, Leaf), (5, Integers), (6, Text), (7, Integers), (11, Integers), (13, Leaf), (16, Leaf)]),
    (Sparse, &[(1, Tensor), (2, Tensor), (3, Integers)]),
    (ValueInfo, &[(2, Type), (4, Leaf)]),
    (Type, &[(1, TensorType), (4, Element), (5, Map), (7, Leaf), (8, TensorType), (9, Element)]),
    (TensorType, &[(2, Shape)]),
    (Element, &[(1, Type)]),
    (Map, &[(2, Type)]),
    (Shape, &[(1, Leaf)]),
    (Function, &[(4, Text), (5, Text), (6, Text), (7, Node), (9, Leaf), (11, Attribute), (12, ValueInfo), (14, Leaf)]),
];

fn child(kind: Kind, field: u32) -> Option<Kind> {
    let fields = FIELDS.iter().find(|row| row.0 == kind)?.1;
    fields.iter().find(|row| row.0 == field).map(|row| row.1)
}

/// Checks the wire form of a whole model.
///
/// # Errors
/// `onnx/not-a-model`, `onnx/too-deep`, `onnx/too-many-parts`.
pub(super) fn scan(bytes: &[u8]) -> Result<()> {
    let mut scan = Scan { whole: bytes, parts: 0, numbers: 0 };
    scan.message(Model, 0, bytes.len(), 0)
}

struct Scan<'a> {
    whole: &'a [u8],
    parts: u64,
    numbers: u64,
}

impl Scan<'_> {
    /// Walks the message of `kind` in bytes `at..end`.
    fn message(&mut self, kind: Kind, mut at: usize, end: usize, depth: usize) -> Result<()> {
        self.count(1, 0)?;
        if depth > MAX_DEPTH {
            return Err(too_deep().into());
        }
        while at < end {
            let start = at;
            let key = self.varint(&mut at, end)?;
            let field = u32::try_from(key >> 3).ok().filter(|f| *f > 0).ok_or_else(|| malformed(start))?;
            match key & 7 {
                0 => {
                    self.varint(&mut at, end)?;
                    self.count(0, u64::from(child(kind, field) == Some(Integers)))?;
                }
                1 => at = skip(at, 8, end)?,
                2 => {
                    let len = usize::try_from(self.varint(&mut at, end)?).map_err(|_| malformed(start))?;
                    let stop = skip(at, len, end)?;
                    self.delimited(child(kind, field), at, stop, depth)?;
                    at = stop;
                }
                5 => at = skip(at, 4, end)?,
                _ => return Err(malformed(start).into()),
            }
        }
        Ok(())
    }

    fn delimited(&mut self, kind: Option<Kind>, at: usize, end: usize, depth: usize) -> Result<()> {
        match kind {
            None => Ok(()),
            Some(Text) => self.count(1, 0),
            Some(Integers) => {
                // A varint ends with a byte whose highest bit is clear.
                let numbers = self.whole[at..end].iter().filter(|b| **b < 0x80).count();
                self.count(0, numbers as u64)
            }
            Some(kind) => self.message(kind, at, end, depth + 1),
        }
    }

    fn count(&mut self, parts: u64, numbers: u64) -> Result<()> {
        self.parts += parts;
        self.numbers += numbers;
        if self.parts > MAX_PARTS || self.numbers > MAX_NUMBERS {
            return Err(Diagnostic::new(
                "onnx/too-many-parts",
                format!("the model holds more than {MAX_PARTS} messages and names, or more than {MAX_NUMBERS} integers outside raw data"),
            )
            .help("store tensors as raw or external data when exporting")
            .into());
        }
        Ok(())
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64> {
        let start = *at;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.whole[..end].get(*at).ok_or_else(|| malformed(start))?;
            *at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed(start).into())
    }
}

fn skip(at: usize, len: usize, end: usize) -> Result<usize> {
    at.checked_add(len).filter(|stop| *stop <= end).ok_or_else(|| malformed(at).into())
}

fn malformed(at: usize) -> Diagnostic {
    Diagnostic::new("onnx/not-a-model", format!("the bytes stop making sense as an ONNX model at byte {at}"))
        .help("the file is truncated, damaged or of another format; fetch or export it again")
}

pub(super) fn too_deep() -> Diagnostic {
    Diagnostic::new("onnx/too-deep", "graphs are nested too deep in the model")
        .help("no exporter writes such a model; do not trust its source")
}
