//! Seeded inputs for any model, from what the model says about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use half::{bf16, f16};

use crate::diag::{Diagnostic, Result, suggest};
use crate::onnx::proto::{DimensionValue, ModelProto, TypeValue, ValueInfoProto};
use crate::runtime::tensor::{Element, Tensor};
use crate::weights::{DType, RandomSpec, random_spec};

/// Extents by name: a symbol of the model (`batch`), or an axis of an input that has none (`image.0`).
pub type Dims = BTreeMap<String, u64>;

/// A tensor to make: an input, or memory for an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name in the model.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Values lie in `[low, high)`; integers are rounded down.
    pub range: (f64, f64),
}

/// Floats are as activations are after a norm; integers are small, because they are mostly indices of something.
fn usual_range(dtype: DType) -> (f64, f64) {
    match dtype {
        d if d.is_float() => (-1.0, 1.0),
        DType::Bool => (0.0, 2.0),
        _ => (0.0, 4.0),
    }
}

/// The inputs that a model wants from its caller, in its order; those that it has a value for are left out.
///
/// # Errors
/// `measure/unbound-dim` if an extent has no value, `measure/no-input-type` if an input is no tensor that vidc can make,
/// `measure/input-size` if an extent cannot be.
pub fn input_specs(model: &ModelProto, dims: &Dims) -> Result<Vec<TensorSpec>> {
    let Some(graph) = &model.graph else { return Ok(vec![]) };
    let given = |name: &str| graph.initializer.iter().any(|i| i.name == name);
    graph.input.iter().filter(|i| !given(&i.name)).map(|i| input_spec(i, dims)).collect()
}

fn input_spec(input: &ValueInfoProto, dims: &Dims) -> Result<TensorSpec> {
    let no_type = |what: &str| {
        Diagnostic::new("measure/no-input-type", format!("no values can be made for input `{}`: {what}", input.name))
            .help("only models whose inputs are tensors of a number type and known rank can be measured")
    };
    let Some(TypeValue::Tensor(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(no_type("it is no tensor").into());
    };
    let dtype = DType::from_onnx(tensor.elem_type)
        .filter(|d| *d != DType::Opaque)
        .ok_or_else(|| no_type(&format!("element type {}", tensor.elem_type)))?;
    let shape = tensor.shape.as_ref().ok_or_else(|| no_type("its rank is not known"))?;
    let extent = |(axis, dim): (usize, &crate::onnx::proto::DimensionProto)| match &dim.value {
        Some(DimensionValue::Value(n)) => usize::try_from(*n).map_err(|_| Box::new(no_type(&format!("extent {n}")))),
        Some(DimensionValue::Param(symbol)) if !symbol.is_empty() => bound(&input.name, axis, symbol, dims),
        _ => bound(&input.name, axis, &format!("{}.{axis}", input.name), dims),
    };
    let shape = shape.dim.iter().enumerate().map(extent).collect::<Result<Vec<_>>>()?;
    Ok(TensorSpec { name: input.name.clone(), dtype, shape, range: usual_range(dtype) })
}

fn bound(input: &str, axis: usize, name: &str, dims: &Dims) -> Result<usize> {
    // An axis can be named directly too: symbols of exporters are sometimes equal where extents are not.
    let value = dims.get(&format!("{input}.{axis}")).or_else(|| dims.get(name));
    value.and_then(|n| usize::try_from(*n).ok()).ok_or_else(|| {
        Diagnostic::new("measure/unbound-dim", format!("axis {axis} of input `{input}` has no extent"))
            .help(format!("say `--dim {name}=N`"))
            .into()
    })
}

/// The symbols of a model's inputs, in order of first use; an extent without one is `INPUT.AXIS`.
pub fn symbols(model: &ModelProto) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for input in model.graph.iter().flat_map(|g| &g.input) {
        let Some(TypeValue::Tensor(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else { continue };
        for (axis, dim) in tensor.shape.iter().flat_map(|s| &s.dim).enumerate() {
            let symbol = match &dim.value {
                Some(DimensionValue::Value(_)) => continue,
                Some(DimensionValue::Param(symbol)) if !symbol.is_empty() => symbol.clone(),
                _ => format!("{}.{axis}", input.name),
            };
            if !found.contains(&symbol) {
                found.push(symbol);
            }
        }
    }
    found
}

/// Refuses extents for names that none of the models has.
///
/// # Errors
/// `measure/unknown-dim`.
pub fn check_dims(dims: &Dims, known: &[String]) -> Result<()> {
    let is_axis = |name: &str| name.rsplit_once('.').is_some_and(|(_, axis)| axis.parse::<usize>().is_ok());
    match dims.keys().find(|name| !known.contains(name) && !is_axis(name)) {
        None => Ok(()),
        Some(name) => Err(Diagnostic::new("measure/unknown-dim", format!("no input has an extent `{name}`"))
            .help(suggest(name, known.iter().map(String::as_str)))
            .into()),
    }
}

/// The seeded values of an input: the same on every machine.
///
/// # Errors
/// `measure/input-size` if its bytes cannot be counted.
pub fn random(spec: &TensorSpec, seed: u64) -> Result<Tensor> {
    let mut tensor = zeros(spec)?;
    let law = RandomSpec { seed: random_spec(seed, "input", &spec.name, &[]).seed, center: 0.5, bound: 0.5 };
    let (low, high) = spec.range;
    let value = |i: usize| low + (high - low) * f64::from(law.value(i as u64));
    match spec.dtype {
        DType::F32 => fill(&mut tensor, |i| value(i) as f32),
        DType::F64 => fill(&mut tensor, value),
        DType::F16 => fill(&mut tensor, |i| f16::from_f64(value(i))),
        DType::BF16 => fill(&mut tensor, |i| bf16::from_f64(value(i))),
        DType::I64 => fill(&mut tensor, |i| value(i).floor() as i64),
        DType::I32 => fill(&mut tensor, |i| value(i).floor() as i32),
        DType::I8 => fill(&mut tensor, |i| value(i).floor() as i8),
        DType::U8 => fill(&mut tensor, |i| value(i).floor() as u8),
        DType::Opaque => return Err(too_large(spec).into()),
        DType::Bool => {
            let bytes: Vec<u8> = (0..tensor.bytes().len()).map(|i| u8::from(value(i) >= 1.0)).collect();
            tensor = Tensor::from_bytes(DType::Bool, &spec.shape, &bytes).ok_or_else(|| too_large(spec))?;
        }
    }
    Ok(tensor)
}

fn fill<T: Element>(tensor: &mut Tensor, value: impl Fn(usize) -> T) {
    let values = tensor.as_mut_slice::<T>().expect("the tensor was made of this type");
    values.iter_mut().enumerate().for_each(|(i, v)| *v = value(i));
}

/// Memory for a tensor.
///
/// # Errors
/// `measure/input-size` if its bytes cannot be counted.
pub fn zeros(spec: &TensorSpec) -> Result<Tensor> {
    Tensor::zeros(spec.dtype, &spec.shape).ok_or_else(|| too_large(spec).into())
}

fn too_large(spec: &TensorSpec) -> Diagnostic {
    Diagnostic::new("measure/input-size", format!("`{}` of {:?} is larger than memory can be", spec.name, spec.shape))
        .help("give smaller extents with --dim")
}

/// All inputs of a model, by name.
///
/// # Errors
/// Those of [`random`].
pub fn random_inputs(specs: &[TensorSpec], seed: u64) -> Result<Vec<(String, Tensor)>> {
    specs.iter().map(|s| Ok((s.name.clone(), random(s, seed)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::build::{self, Extent};
    use crate::onnx::proto::GraphProto;

    fn model(inputs: Vec<ValueInfoProto>) -> ModelProto {
        build::model(GraphProto { input: inputs, ..GraphProto::default() }, 21)
    }

    fn dims(pairs: &[(&str, u64)]) -> Dims {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect()
    }

    #[test]
    fn names_are_bound_and_numbers_stay() {
        let m = model(vec![build::value_info("x", 1, &["n".into(), 3.into(), Extent::Unknown])]);
        assert_eq!(symbols(&m), ["n", "x.2"]);
        let specs = input_specs(&m, &dims(&[("n", 2), ("x.2", 5)])).unwrap();
        assert_eq!((specs[0].shape.as_slice(), specs[0].dtype), (&[2, 3, 5][..], DType::F32));
    }

    #[test]
    fn an_extent_without_a_value_is_named_with_the_way_out() {
        let m = model(vec![build::value_info("x", 1, &["frames".into()])]);
        let d = input_specs(&m, &Dims::new()).unwrap_err();
        assert_eq!((d.code, d.help.as_deref()), ("measure/unbound-dim", Some("say `--dim frames=N`")));
        assert_eq!(check_dims(&dims(&[("frame", 1)]), &symbols(&m)).unwrap_err().code, "measure/unknown-dim");
    }

    #[test]
    fn inputs_that_cannot_be_made_are_refused() {
        let check = |m: ModelProto, code: &str| assert_eq!(input_specs(&m, &Dims::new()).unwrap_err().code, code);
        check(model(vec![ValueInfoProto { name: "x".into(), ..ValueInfoProto::default() }]), "measure/no-input-type");
        check(model(vec![build::value_info("x", 8, &[])]), "measure/no-input-type");
        check(model(vec![build::value_info("x", 1, &[Extent::Known(-1)])]), "measure/no-input-type");
        let spec = TensorSpec { name: "x".into(), dtype: DType::F32, shape: vec![usize::MAX, 2], range: (0.0, 1.0) };
        assert_eq!(random(&spec, 1).unwrap_err().code, "measure/input-size");
    }

    #[test]
    fn values_are_seeded_and_within_their_range() {
        let spec = |dtype, range| TensorSpec { name: "x".into(), dtype, shape: vec![1000], range };
        let floats = random(&spec(DType::F32, (-1.0, 1.0)), 7).unwrap();
        let values = floats.as_slice::<f32>().unwrap();
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        assert!(values.iter().any(|v| *v < -0.9) && values.iter().any(|v| *v > 0.9));
        assert_eq!(floats.bytes(), random(&spec(DType::F32, (-1.0, 1.0)), 7).unwrap().bytes());
        assert_ne!(floats.bytes(), random(&spec(DType::F32, (-1.0, 1.0)), 8).unwrap().bytes());
        let ints = random(&spec(DType::I64, (0.0, 4.0)), 7).unwrap();
        let mut seen = ints.as_slice::<i64>().unwrap().to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 1, 2, 3]);
        let bools = random(&spec(DType::Bool, (0.0, 2.0)), 7).unwrap();
        assert!(bools.bytes().contains(&0) && bools.bytes().contains(&1) && bools.bytes().iter().all(|b| *b < 2));
    }
}
