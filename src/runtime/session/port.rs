//! Inputs and outputs of a session, and the tensors that are bound to them.

use std::ffi::CString;

use ort::value::{Outlet, ValueType};

use super::super::element;
use super::super::ffi::{Parts, Value};
use super::super::tensor::{self, Tensor, TensorView, TensorViewMut};
use super::errors::run_error;
use crate::diag::{Diagnostic, Result};
use crate::weights::DType;

/// An input or output of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// The type of its elements; `None` if it is no tensor that vidc knows.
    pub dtype: Option<DType>,
    /// Its extents; `None` is one that the model leaves open.
    pub shape: Vec<Option<usize>>,
}

impl Port {
    pub(super) fn of(outlet: &Outlet) -> Self {
        let name = outlet.name().to_owned();
        match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => Self {
                name,
                dtype: element::of_onnx_runtime((*ty).into()),
                shape: shape.iter().map(|d| usize::try_from(*d).ok()).collect(),
            },
            _ => Self { name, dtype: None, shape: vec![] },
        }
    }

    /// A tensor to write it to, if the model says how large it is.
    pub(super) fn allocate(&self) -> Option<Tensor> {
        Tensor::zeros(self.dtype?, &self.shape.iter().copied().collect::<Option<Vec<_>>>()?)
    }

    pub(super) fn accept(&self, dtype: DType, shape: &[usize], bytes: usize) -> Result<()> {
        let fits = self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(|(want, got)| want.is_none_or(|w| w == *got));
        if self.dtype == Some(dtype) && fits && tensor::byte_len(dtype, shape) == Some(bytes) {
            return Ok(());
        }
        Err(Diagnostic::new(
            "runtime/binding",
            format!("`{}` is {:?} {:?}, and was given {dtype:?} {shape:?} in {bytes} bytes", self.name, self.dtype, self.shape),
        )
        .into())
    }
}

pub(super) fn find<'a>(ports: &'a [Port], name: &str) -> Result<&'a Port> {
    ports.iter().find(|p| p.name == name).ok_or_else(|| {
        let known = crate::diag::suggest(name, ports.iter().map(|p| p.name.as_str()));
        Diagnostic::new("runtime/binding", format!("the model has no `{name}`; {known}")).into()
    })
}

fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Diagnostic::new("runtime/binding", format!("`{}` is no name", name.escape_debug())).into())
}

fn dims(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|d| *d as i64).collect()
}

pub(super) fn bind_inputs<'a>(ports: &[Port], inputs: &[(&str, TensorView<'a>)]) -> Result<Vec<(CString, Value<'a>)>> {
    if let Some(port) = ports.iter().find(|p| inputs.iter().all(|(name, _)| *name != p.name)) {
        return Err(Diagnostic::new("runtime/binding", format!("input `{}` was not given", port.name)).into());
    }
    let bind = |(name, t): &(&str, TensorView<'a>)| {
        find(ports, name)?.accept(t.dtype, t.shape, t.bytes.len())?;
        let value = Value::view(t.bytes, t.dtype, &dims(t.shape)).map_err(|e| run_error(&e))?;
        Ok((c_name(name)?, value))
    };
    inputs.iter().map(bind).collect()
}

pub(super) fn bind_output<'a>(ports: &[Port], name: &str, tensor: Option<TensorViewMut<'a>>) -> Result<(CString, Option<Value<'a>>)> {
    let port = find(ports, name)?;
    let Some(t) = tensor else { return Ok((c_name(name)?, None)) };
    port.accept(t.dtype, t.shape, t.bytes.len())?;
    let value = Value::view_mut(t.bytes, t.dtype, &dims(t.shape)).map_err(|e| run_error(&e))?;
    Ok((c_name(name)?, Some(value)))
}

/// A tensor that ONNX Runtime allocated because its shape was not known before.
pub(super) fn copied(value: &Value<'_>) -> Result<Option<Tensor>> {
    let Some(Parts { element, shape, bytes }) = value.tensor().map_err(|e| run_error(&e))? else { return Ok(None) };
    let shape: Vec<usize> = shape.into_iter().map(|d| usize::try_from(d).unwrap_or(0)).collect();
    Ok(Tensor::from_bytes(element, &shape, bytes))
}

pub(super) fn no_tensor(name: &str) -> Diagnostic {
    Diagnostic::new("runtime/binding", format!("output `{name}` is no tensor that vidc knows"))
}
