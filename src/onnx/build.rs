//! Short ways to make the parts of a model.

use prost::bytes::Bytes;

use super::proto::{
    DimensionProto, DimensionValue, EXTERNAL, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto,
};

/// The version of the format that vidc writes: what ONNX Runtime 1.20 and later read.
pub const IR_VERSION: i64 = 10;

/// Attributes, one function a kind.
pub mod attr {
    use super::super::proto::{AttributeProto, GraphProto, TensorProto, attribute_type};

    fn named(name: &str, kind: i32) -> AttributeProto {
        AttributeProto { name: name.into(), r#type: kind, ..AttributeProto::default() }
    }

    /// An integer.
    pub fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto { i: Some(value), ..named(name, attribute_type::INT) }
    }

    /// A float.
    pub fn float(name: &str, value: f32) -> AttributeProto {
        AttributeProto { f: Some(value), ..named(name, attribute_type::FLOAT) }
    }

    /// A string.
    pub fn string(name: &str, value: &str) -> AttributeProto {
        AttributeProto { s: Some(value.as_bytes().to_vec()), ..named(name, attribute_type::STRING) }
    }

    /// Integers.
    pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
        AttributeProto { ints: values.to_vec(), ..named(name, attribute_type::INTS) }
    }

    /// Floats.
    pub fn floats(name: &str, values: &[f32]) -> AttributeProto {
        AttributeProto { floats: values.to_vec(), ..named(name, attribute_type::FLOATS) }
    }

    /// Strings.
    pub fn strings(name: &str, values: &[&str]) -> AttributeProto {
        let strings = values.iter().map(|v| v.as_bytes().to_vec()).collect();
        AttributeProto { strings, ..named(name, attribute_type::STRINGS) }
    }

    /// A tensor.
    pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
        AttributeProto { t: Some(Box::new(value)), ..named(name, attribute_type::TENSOR) }
    }

    /// A graph: the body of `If`, `Loop`, `Scan`.
    pub fn graph(name: &str, value: GraphProto) -> AttributeProto {
        AttributeProto { g: Some(Box::new(value)), ..named(name, attribute_type::GRAPH) }
    }
}

/// What models that vidc writes call their producer.
pub const PRODUCER: &str = "vidc";

/// A model of one graph for the operator set `opset` of ONNX, written by vidc. Further domains: push to `opset_import`.
pub fn model(graph: GraphProto, opset: i64) -> ModelProto {
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: PRODUCER.into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: vec![self::opset("", opset)],
        ..ModelProto::default()
    }
}

/// An operator set; the domain of ONNX itself is empty, that of ONNX Runtime's own operators is `com.microsoft`.
pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version }
}

/// A node of ONNX's own domain without attributes; set `domain` and `attribute` by struct update.
pub fn node(op_type: &str, name: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    NodeProto { op_type: op_type.into(), name: name.into(), input: owned(input), output: owned(output), ..NodeProto::default() }
}

/// A tensor in the model: little-endian values in row-major order.
pub fn tensor(name: &str, data_type: i32, dims: &[i64], raw: impl Into<Bytes>) -> TensorProto {
    TensorProto { name: name.into(), data_type, dims: dims.to_vec(), raw_data: Some(raw.into()), ..TensorProto::default() }
}

/// A tensor whose values lie in the file `location` beside the model, `length` bytes from `offset`.
pub fn external_tensor(name: &str, data_type: i32, dims: &[i64], location: &str, offset: u64, length: u64) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type,
        dims: dims.to_vec(),
        data_location: Some(EXTERNAL),
        external_data: vec![entry("location", location), entry("offset", &offset.to_string()), entry("length", &length.to_string())],
        ..TensorProto::default()
    }
}

/// A key and a value.
pub fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value: value.into() }
}

/// An extent of a declared value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A number.
    Known(i64),
    /// A name.
    Named(String),
    /// Neither.
    Unknown,
}

impl From<i64> for Extent {
    fn from(extent: i64) -> Self {
        Self::Known(extent)
    }
}

impl From<&str> for Extent {
    fn from(name: &str) -> Self {
        Self::Named(name.into())
    }
}

/// A declared value: an input, an output, or one in between.
pub fn value_info(name: &str, elem_type: i32, shape: &[Extent]) -> ValueInfoProto {
    let dim = shape.iter().map(dimension).collect();
    let tensor = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

fn dimension(extent: &Extent) -> DimensionProto {
    let value = match extent {
        Extent::Known(n) => Some(DimensionValue::Value(*n)),
        Extent::Named(name) => Some(DimensionValue::Param(name.clone())),
        Extent::Unknown => None,
    };
    DimensionProto { value, ..DimensionProto::default() }
}
