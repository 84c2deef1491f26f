//! Shapes in a written model: constants where they are numbers, the tricks of `Reshape` and `Expand` where these suffice, and
//! otherwise the integer arithmetic that computes them from the extents of the graph's inputs. An extent that no input gives is read off
//! a tensor that has it.

use std::collections::BTreeMap;

use super::{Emitter, Form};
use crate::diag::{Diagnostic, Result};
use crate::ir::dim::Factor;
use crate::ir::{DType, Dim, NodeId, Op, OpGraph, TensorType};
use crate::onnx::build::{self, attr};
use crate::onnx::proto::{AttributeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto};

/// The input and axis that gives each symbol: the first whose extent is the symbol itself.
pub(super) fn symbols(graph: &OpGraph) -> BTreeMap<String, (String, usize)> {
    let mut out = BTreeMap::new();
    for input in graph.inputs() {
        let node = graph.node(*input);
        for (axis, dim) in node.outs[0].shape.iter().enumerate() {
            if let Some(name) = dim.as_symbol() {
                out.entry(name.to_string()).or_insert_with(|| (node.name.clone(), axis));
            }
        }
    }
    out
}

/// Extents that no input gives, each with the name and axis of a tensor that has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    whole: BTreeMap<Dim, (String, usize)>,
    /// Symbols that follow from an extent that is linear in them.
    solved: BTreeMap<String, Dim>,
}

/// A declaration without extents.
pub(super) fn of_element_type(name: &str, dtype: DType) -> ValueInfoProto {
    let tensor = TensorTypeProto { elem_type: dtype.onnx(), shape: None };
    let ty = (dtype != DType::Opaque).then(|| TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type: ty, ..ValueInfoProto::default() }
}

/// The diagnostic that an operator cannot be written.
#[expect(clippy::unnecessary_box_returns, reason = "`Result` carries diagnostics in a box")]
pub(super) fn no_form(op: &Op) -> Box<Diagnostic> {
    Box::new(Diagnostic::new("pass/not-lowered", format!("{} has no ONNX form", op.name())))
}

impl Emitter<'_> {
    /// Remembers the extents of a tensor that stands in the model now.
    pub(super) fn carries(&mut self, name: &str, ty: &TensorType) {
        for (axis, dim) in ty.shape.iter().enumerate() {
            if dim.follows(|s| self.symbols.contains_key(s), []) {
                continue;
            }
            self.carried.whole.entry(dim.clone()).or_insert_with(|| (name.into(), axis));
            if let Some((symbol, ..)) = dim.linear() {
                self.carried.solved.entry(symbol.into()).or_insert_with(|| dim.clone());
            }
        }
    }

    /// Operators whose shapes are inputs.
    pub(super) fn shaped_form(&mut self, id: NodeId) -> Result<Form> {
        let node = self.graph.node(id);
        let read = self.graph.inputs_of(id).first().map(|o| self.graph.ty(*o).clone());
        Ok(match (&node.op, &read) {
            (Op::Reshape { shape }, Some(x)) => self.reshape(x, shape)?,
            (Op::Split { axis, sizes }, _) => Form::of(vec![attr::int("axis", *axis as i64)]).with([self.integers(sizes)]),
            (Op::Expand { shape }, Some(x)) => {
                let shape = kept(x, shape);
                Form::of(vec![]).with([self.dims(&shape)?])
            }
            (Op::Slice { axis, start, end }, _) => {
                let (start, end) = (self.dims(std::slice::from_ref(start))?, self.dims(std::slice::from_ref(end))?);
                Form::of(vec![]).with([start, end, self.integers(&[*axis as i64])])
            }
            (Op::Pad { before, after }, _) => {
                let pads: Vec<i64> = before.iter().chain(after).copied().collect();
                Form::of(vec![]).with([self.integers(&pads)])
            }
            (Op::Upsample { factors }, _) => {
                let attributes = vec![
                    attr::string("mode", "nearest"),
                    attr::string("coordinate_transformation_mode", "asymmetric"),
                    attr::string("nearest_mode", "floor"),
                ];
                Form::of(attributes).with([String::new(), self.factors(factors)])
            }
            (other, _) => return Err(no_form(other)),
        })
    }

    /// `0` keeps an extent, `-1` is what remains; with these most symbolic shapes need no arithmetic.
    fn reshape(&mut self, x: &TensorType, shape: &[Dim]) -> Result<Form> {
        let numbers: Option<Vec<i64>> = shape.iter().map(Dim::as_const).collect();
        if let Some(numbers) = numbers {
            let empty = numbers.contains(&0);
            let attributes = if empty { vec![attr::int("allowzero", 1)] } else { vec![] };
            return Ok(Form::of(attributes).with([self.target(&numbers)]));
        }
        let entry = |(i, d): (usize, &Dim)| d.as_const().filter(|n| *n > 0).or_else(|| (x.shape.get(i) == Some(d)).then_some(0));
        let entries: Vec<Option<i64>> = shape.iter().enumerate().map(entry).collect();
        let name = if entries.iter().filter(|e| e.is_none()).count() <= 1 {
            self.integers(&entries.into_iter().map(|e| e.unwrap_or(-1)).collect::<Vec<_>>())
        } else {
            self.dims(shape)?
        };
        Ok(Form::of(vec![]).with([name]))
    }

    /// The name of the shape that a `Reshape` gives.
    fn target(&mut self, shape: &[i64]) -> String {
        if !self.style.hides_shapes || !self.prefix.is_empty() || shape.is_empty() {
            return self.integers(shape);
        }
        let name = hidden_name(shape);
        if self.made.insert(name.clone()) {
            self.hidden.push(shape.to_vec());
        }
        name
    }

    /// Puts in front the `Split` that gives all hidden shapes: type inference does not look through it.
    pub(super) fn give_hidden_shapes(&mut self) {
        let shapes = std::mem::take(&mut self.hidden);
        if shapes.is_empty() {
            return;
        }
        let all: Vec<i64> = shapes.concat();
        let bytes = all.iter().flat_map(|v| v.to_le_bytes()).collect();
        let all = self.constant("shapes", DType::I64, all.len(), bytes);
        let lengths = self.integers(&shapes.iter().map(|s| s.len() as i64).collect::<Vec<_>>());
        let names: Vec<String> = shapes.iter().map(|s| hidden_name(s)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.proto.node.insert(0, build::node("Split", "shapes", &[&all, &lengths], &names));
    }

    /// The name of an i64 vector of dims.
    fn dims(&mut self, dims: &[Dim]) -> Result<String> {
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
        if let Some(numbers) = numbers {
            return Ok(self.integers(&numbers));
        }
        let parts: Vec<String> = dims.iter().map(|d| self.dim(d)).collect::<Result<_>>()?;
        if let [one] = &parts[..] {
            return Ok(one.clone());
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.compute("Concat", &format!("dims{dims:?}"), &parts, vec![attr::int("axis", 0)]))
    }

    /// The name of an i64 vector with one element: the dim's value.
    fn dim(&mut self, dim: &Dim) -> Result<String> {
        if let Some(n) = dim.as_const() {
            return Ok(self.integers(&[n]));
        }
        if let Some((tensor, axis)) = self.carried.whole.get(dim).cloned() {
            return Ok(self.extent(&tensor, axis, &format!("{dim}")));
        }
        let mut sum: Option<(String, String)> = None;
        for (coefficient, factors) in dim.sum() {
            let (label, product) = self.term(coefficient, &factors)?;
            sum = Some(match sum {
                None => (label, product),
                Some((before, s)) => {
                    let label = format!("{before}+{label}");
                    let total = self.compute("Add", &format!("dim({label})"), &[&s, &product], vec![]);
                    (label, total)
                }
            });
        }
        sum.map(|(_, name)| name).ok_or_else(|| Diagnostic::new("model/unbound", "an empty sum is no dim").into())
    }

    /// A product; its label, for the names of what is computed, and the name of its value.
    fn term(&mut self, coefficient: i64, factors: &[Factor]) -> Result<(String, String)> {
        let start = (coefficient != 1 || factors.is_empty()).then(|| self.integers(&[coefficient]));
        let (mut label, mut product) = (coefficient.to_string(), start);
        for factor in factors {
            let (name, value) = self.factor(factor)?;
            label = format!("{label}*{name}");
            product = Some(match product {
                None => value,
                Some(p) => self.compute("Mul", &format!("dim({label})"), &[&p, &value], vec![]),
            });
        }
        product.map(|p| (label, p)).ok_or_else(|| Diagnostic::new("model/unbound", "an empty product is no dim").into())
    }

    /// The label and the name of the value of a factor.
    fn factor(&mut self, factor: &Factor) -> Result<(String, String)> {
        match factor {
            Factor::Symbol(symbol) => Ok((symbol.to_string(), self.symbol(symbol)?)),
            Factor::Floor(of, divisor) => {
                // Extents are not negative, so truncation is the floor.
                let (value, by) = (self.dim(of)?, self.integers(&[*divisor]));
                let label = format!("({of}/{divisor})");
                let name = self.compute("Div", &format!("dim{label}"), &[&value, &by], vec![]);
                Ok((label, name))
            }
        }
    }

    /// The name of a symbol's value: an extent of an input, or what follows from the extent of another tensor.
    fn symbol(&mut self, symbol: &str) -> Result<String> {
        if let Some((input, axis)) = self.symbols.get(symbol).cloned() {
            return Ok(self.extent(&input, axis, symbol));
        }
        let from = self.carried.solved.get(symbol).and_then(|d| Some((d.clone(), d.linear()?.1, d.linear()?.2)));
        let Some((extent, coefficient, constant)) = from else {
            let message = format!("no tensor of `{}` has the extent `{symbol}`", self.graph.name);
            return Err(Diagnostic::new("model/unbound", message).help("bind the dims of the inputs with --dim NAME=N").into());
        };
        let mut value = self.dim(&extent)?;
        if constant != 0 {
            let constant = self.integers(&[constant]);
            value = self.compute("Sub", &format!("dim({symbol}*{coefficient})"), &[&value, &constant], vec![]);
        }
        if coefficient != 1 {
            let coefficient = self.integers(&[coefficient]);
            value = self.compute("Div", &format!("dim({symbol})"), &[&value, &coefficient], vec![]);
        }
        Ok(value)
    }

    /// The name of an extent of a tensor.
    fn extent(&mut self, tensor: &str, axis: usize, label: &str) -> String {
        let bounds = vec![attr::int("start", axis as i64), attr::int("end", axis as i64 + 1)];
        self.compute("Shape", &format!("dim({label})"), &[tensor], bounds)
    }

    /// A small integer node, made once.
    fn compute(&mut self, op_type: &str, name: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = format!("{}{name}", self.prefix);
        if self.made.insert(name.clone()) {
            let mut node = build::node(op_type, &name, inputs, &[&name]);
            node.attribute = attributes;
            self.proto.node.push(node);
        }
        name
    }

    /// The name of an i64 vector.
    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(&format!("i64{values:?}"), DType::I64, values.len(), bytes)
    }

    /// The name of an f32 vector of whole factors.
    fn factors(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
        self.constant(&format!("f32{values:?}"), DType::F32, values.len(), bytes)
    }

    pub(super) fn constant(&mut self, name: &str, dtype: DType, len: usize, bytes: Vec<u8>) -> String {
        let name = format!("{}{name}", self.prefix);
        if self.made.insert(name.clone()) {
            self.proto.initializer.push(build::tensor(&name, dtype.onnx(), &[len as i64], bytes));
        }
        name
    }
}

fn hidden_name(shape: &[i64]) -> String {
    format!("shape{shape:?}")
}

/// `Expand` broadcasts both ways, so an extent that stays may be written as 1.
fn kept(x: &TensorType, shape: &[Dim]) -> Vec<Dim> {
    let lead = shape.len() - x.rank().min(shape.len());
    let same = |i: usize, d: &Dim| i.checked_sub(lead).and_then(|j| x.shape.get(j)) == Some(d);
    shape.iter().enumerate().map(|(i, d)| if d.as_const().is_none() && same(i, d) { Dim::Const(1) } else { d.clone() }).collect()
}
