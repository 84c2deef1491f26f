//! Nodes and what is known of their values as text, for tests.
//!
//! A value is `-` (absent), `?` (unknown), or an element type and extents: `f32[2,n,?]`, `i64[3]=1,n,8*u`, `f32*` where the rank is
//! unknown. Element types are names or numbers. Attributes are `name=kind:value` with the kinds `i I f F s S t`. A call is
//! `Op@version{attributes}(inputs)->outputs`, where version, attributes and outputs may be left out.

use super::{Elements, NodeInfo, PartialType, ShapeValue, ValueInfo, infer};
use crate::ir::Dim;
use crate::onnx::build::attr;
use crate::onnx::proto::{AttributeProto, TensorProto};

const NAMES: &[(&str, i32)] =
    &[("f32", 1), ("u8", 2), ("i8", 3), ("i32", 6), ("i64", 7), ("str", 8), ("bool", 9), ("f16", 10), ("f64", 11), ("bf16", 16)];

/// A call that owns its parts.
#[derive(Debug)]
pub(super) struct Owned {
    pub domain: String,
    pub op_type: String,
    pub version: i64,
    pub attributes: Vec<AttributeProto>,
    pub inputs: Vec<Option<ValueInfo>>,
    pub outputs: usize,
}

impl Owned {
    /// Infers, with new symbols `_0`, `_1`, …
    pub(super) fn infer(&self) -> Result<Vec<ValueInfo>, String> {
        let inputs: Vec<Option<&ValueInfo>> = self.inputs.iter().map(Option::as_ref).collect();
        let Self { domain, op_type, version, attributes, outputs, .. } = self;
        let call = NodeInfo { domain, op_type, version: *version, attributes, inputs: &inputs, outputs: *outputs };
        let mut made = 0;
        infer(&call, &mut || {
            made += 1;
            Dim::symbol(&format!("_{}", made - 1))
        })
    }
}

/// A call as text.
pub(super) fn call(text: &str) -> Owned {
    let (head, outputs) = match text.rsplit_once(")->") {
        Some(parts) => parts,
        None => (text.strip_suffix(')').expect("`)`"), "1"),
    };
    let (name, inputs) = head.rsplit_once('(').expect("`(`");
    let (name, attributes) = name.strip_suffix('}').and_then(|n| n.split_once('{')).unwrap_or((name, ""));
    let (name, version) = name.split_once('@').unwrap_or((name, "21"));
    let (domain, op_type) = name.rsplit_once('.').unwrap_or(("", name));
    Owned {
        domain: domain.into(),
        op_type: op_type.into(),
        version: version.parse().expect("a version"),
        attributes: self::attributes(attributes),
        inputs: infos(inputs),
        outputs: outputs.trim().parse().expect("a number of outputs"),
    }
}

/// Several of them, separated by `;`.
pub(super) fn infos(text: &str) -> Vec<Option<ValueInfo>> {
    if text.trim().is_empty() { Vec::new() } else { text.split(';').map(|t| info(t.trim())).collect() }
}

pub(super) fn info(text: &str) -> Option<ValueInfo> {
    match text {
        "-" => return None,
        "?" => return Some(ValueInfo::default()),
        _ => {}
    }
    if let Some(dtype) = text.strip_suffix('*') {
        return Some(ValueInfo { ty: Some(PartialType { dtype: Some(number(dtype)), shape: None }), value: None });
    }
    let (ty, elements) = text.split_once('=').map_or((text, None), |(t, e)| (t, Some(e)));
    let (dtype, extents) = ty.strip_suffix(']').and_then(|t| t.split_once('[')).expect(text);
    let dtype = number(dtype);
    let shape: Vec<Option<Dim>> = list(extents).map(|e| (e != "?").then(|| dim(e))).collect();
    let value = elements.map(|e| {
        let extent = |d: &Option<Dim>| usize::try_from(d.as_ref().and_then(Dim::as_const).expect("a number")).unwrap();
        let float = matches!(dtype, 1 | 10 | 11 | 16);
        let elements = if float { Elements::Numbers(list(e).map(float_of).collect()) } else { Elements::Dims(list(e).map(dim).collect()) };
        ShapeValue { shape: shape.iter().map(extent).collect(), elements }
    });
    Some(ValueInfo { ty: Some(PartialType { dtype: Some(dtype), shape: Some(shape) }), value })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty())
}

fn float_of(text: &str) -> f64 {
    f64::from(text.parse::<f32>().expect(text))
}

fn number(name: &str) -> i32 {
    NAMES.iter().find(|(n, _)| *n == name).map_or_else(|| name.parse().expect(name), |(_, number)| *number)
}

/// A product of numbers and symbols.
fn dim(text: &str) -> Dim {
    text.split('*').fold(Dim::Const(1), |p, f| p * f.parse::<i64>().map_or_else(|_| Dim::symbol(f), Dim::Const))
}

pub(super) fn attributes(text: &str) -> Vec<AttributeProto> {
    text.split(';').map(str::trim).filter(|t| !t.is_empty()).map(attribute).collect()
}

fn attribute(text: &str) -> AttributeProto {
    let (name, value) = text.split_once('=').expect(text);
    let (kind, value) = value.split_once(':').expect(text);
    let ints = || list(value).map(|n| n.parse().expect(text)).collect::<Vec<i64>>();
    match kind {
        "i" => attr::int(name, value.parse().expect(text)),
        "I" => attr::ints(name, &ints()),
        "f" => attr::float(name, value.parse().expect(text)),
        "F" => attr::floats(name, &list(value).map(|f| f.parse().expect(text)).collect::<Vec<f32>>()),
        "s" => attr::string(name, value),
        "S" => attr::strings(name, &list(value).collect::<Vec<_>>()),
        "t" => attr::tensor(name, stored(&info(value).expect(text))),
        _ => panic!("{text}"),
    }
}

/// A tensor of a type whose values are all numbers.
fn stored(info: &ValueInfo) -> TensorProto {
    let (ty, value) = (info.ty.as_ref().unwrap(), info.value.as_ref().unwrap());
    let dims = value.shape.iter().map(|n| *n as i64).collect();
    let mut tensor = TensorProto { dims, data_type: ty.dtype.unwrap(), ..TensorProto::default() };
    match &value.elements {
        Elements::Numbers(n) if tensor.data_type == 11 => tensor.double_data.clone_from(n),
        Elements::Numbers(n) => tensor.float_data = n.iter().map(|x| *x as f32).collect(),
        Elements::Dims(d) if tensor.data_type == 7 => tensor.int64_data = d.iter().map(|d| d.as_const().unwrap()).collect(),
        Elements::Dims(d) if matches!(tensor.data_type, 12 | 13) => {
            tensor.uint64_data = d.iter().map(|d| d.as_const().unwrap() as u64).collect();
        }
        Elements::Dims(d) => tensor.int32_data = d.iter().map(|d| d.as_const().unwrap() as i32).collect(),
    }
    tensor
}

/// What is known of a value, as text.
pub(super) fn render(info: &ValueInfo) -> String {
    let Some(ty) = &info.ty else { return "?".into() };
    let dtype = ty.dtype.map_or("?".into(), |d| NAMES.iter().find(|(_, n)| *n == d).map_or_else(|| d.to_string(), |(n, _)| (*n).into()));
    let Some(shape) = &ty.shape else { return format!("{dtype}*") };
    let extents: Vec<String> = shape.iter().map(|e| e.as_ref().map_or("?".into(), ToString::to_string)).collect();
    let elements = info.value.as_ref().map(|v| match &v.elements {
        Elements::Dims(d) => d.iter().map(ToString::to_string).collect::<Vec<_>>(),
        Elements::Numbers(n) => n.iter().map(ToString::to_string).collect(),
    });
    let elements = elements.map_or(String::new(), |e| format!("={}", e.join(",")));
    format!("{dtype}[{}]{elements}", extents.join(","))
}

/// The outputs of a call as text, or why there are none.
pub(super) fn check(call: &str, expect: &str) {
    let got = match self::call(call).infer() {
        Ok(infos) => infos.iter().map(render).collect::<Vec<_>>().join("; "),
        Err(why) => format!("error: {why}"),
    };
    assert_eq!(got, expect, "{call}");
}
