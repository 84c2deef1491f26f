//! Calls: values meet the ports of a model.

use std::collections::BTreeMap;

use super::resolve::Resolver;
use super::{Axis, Call, Model, PipeId, PipeOp, ValueId, ValueType};
use crate::diag::{Diagnostic, suggest};
use crate::ir::{Bindings, DType, Mismatch, Signature, TensorType};
use crate::spec::{self, Spanned, ValueRef};

impl Resolver<'_> {
    /// The node of a call, and the names of the model's outputs.
    pub(super) fn call(&mut self, name: &Spanned<String>, call: &spec::Call) -> Option<(PipeId, Vec<String>)> {
        let values: Vec<Option<ValueId>> = call.inputs.iter().map(|(_, r)| self.value(r)).collect();
        let model = self.model(call)?;
        let ports = self.ports(call, &model.signature);
        let values: Vec<ValueId> = values.into_iter().collect::<Option<_>>()?;
        // From the order written to the order of the signature.
        let written = ports?;
        let references: Vec<&ValueRef> = written.iter().map(|i| &call.inputs.0[*i].1).collect();
        let values: Vec<ValueId> = written.iter().map(|i| values[*i]).collect();
        let types: Vec<ValueType> = values.iter().map(|v| self.value_type(*v).clone()).collect();
        let outputs = match call_types(&model.signature, &types) {
            Ok(outputs) => outputs,
            Err(found) => {
                self.mismatches(call, &model, &references, &types, &found);
                return None;
            }
        };
        let names = |ports: &[(String, TensorType)]| ports.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        let op = Call {
            model: call.model.name().to_owned(),
            ports: names(&model.signature.inputs),
            outputs: names(&model.signature.outputs),
            placement: None,
        };
        let node = self.add(name, PipeOp::Call(op), outputs, &values);
        Some((node, names(&model.signature.outputs)))
    }

    fn model(&mut self, call: &spec::Call) -> Option<Model> {
        if let Some(model) = self.models.get(call.model.name()) {
            return model.clone();
        }
        let d =
            Diagnostic::new("graph/unknown-model", format!("there is no model `{}`", call.model.name())).at(call.model.span(), "unknown");
        let d = d.help(suggest(call.model.name(), self.models.keys().map(String::as_str)));
        self.found.push(d);
        None
    }

    /// For each port of the model the entry of the call that fills it.
    fn ports(&mut self, call: &spec::Call, signature: &Signature) -> Option<Vec<usize>> {
        let known: Vec<&str> = signature.inputs.iter().map(|(n, _)| n.as_str()).collect();
        let before = self.found.0.len();
        for (port, _) in call.inputs.iter().filter(|(p, _)| !known.contains(&p.value.as_str())) {
            let d = Diagnostic::new("graph/unknown-port", format!("the model `{}` has no input `{}`", call.model.name(), port.value));
            self.found.push(d.at(&port.span, "unknown").help(suggest(&port.value, known.iter().copied())));
        }
        let place = |port: &&str| call.inputs.iter().position(|(p, _)| p.value == **port);
        for port in known.iter().filter(|p| place(p).is_none()) {
            let d = Diagnostic::new("graph/missing-port", format!("the input `{port}` of the model `{}` gets no value", call.model.name()));
            let d = d.at(call.model.span(), format!("takes {}", known.join(", ")));
            self.found.push(d.help(format!("add `{port}: …` to the inputs of the call")));
        }
        if self.found.0.len() > before {
            return None;
        }
        known.iter().map(place).collect()
    }

    fn mismatches(&mut self, call: &spec::Call, model: &Model, references: &[&ValueRef], types: &[ValueType], found: &[Mismatch]) {
        // That a picture has no axes is said by its kind.
        let picture = |m: &&Mismatch| matches!(types[m.port()], ValueType::Picture { .. }) && !matches!(m, Mismatch::DType { .. });
        for mismatch in found.iter().filter(|m| !picture(m)) {
            let d = self.mismatch(call, model, references, types, mismatch);
            let d = self.made_here(d, references[mismatch.port()]);
            self.found.push(d.maybe_at(model.span.as_ref(), format!("the model: {}", model.signature)));
        }
    }

    fn mismatch(&self, call: &spec::Call, model: &Model, references: &[&ValueRef], types: &[ValueType], m: &Mismatch) -> Diagnostic {
        let port = &model.signature.inputs[m.port()].0;
        let ty = &types[m.port()];
        let who = format!("the input `{port}` of the model `{}`", call.model.name());
        let axis = |axis: usize| ty.axes().get(axis).map_or_else(|| "an axis".into(), ToString::to_string);
        let d = match m {
            Mismatch::DType { wants, .. } if matches!(ty, ValueType::Picture { .. }) => {
                Diagnostic::new("graph/kind", format!("{who} is a tensor of {wants}, not a picture")).help("`resize` it, then `to_tensor`")
            }
            Mismatch::DType { wants, .. } => Diagnostic::new("graph/dtype", format!("{who} is {wants}, not {}", ty.dtype())),
            Mismatch::Rank { wants, .. } => Diagnostic::new("graph/shape", format!("{who} has {wants} axes, not {}", ty.axes().len())),
            Mismatch::Extent { axis: at, wants, .. } => {
                Diagnostic::new("graph/shape", format!("{who} wants {wants} at axis {at}, not {}", axis(*at)))
            }
            Mismatch::Conflict { axis: at, symbol, wants, first, .. } => {
                let other = &model.signature.inputs[first.0].0;
                let message =
                    format!("{who} wants {wants} at axis {at}, not {}: `{symbol}` is said by axis {} of `{other}`", axis(*at), first.1);
                Diagnostic::new("graph/shape", message)
                    .at(references[m.port()].span(), ty.to_string())
                    .at(references[first.0].span(), types[first.0].to_string())
            }
            Mismatch::Form { axis: at, form, nearest, .. } => {
                let message = format!("{who} cannot be {}: it must be of the form {form}", axis(*at));
                Diagnostic::new("graph/model-size", message).help(self.nearest(ty.axes().get(*at), *nearest))
            }
        };
        if d.labels.is_empty() { d.at(references[m.port()].span(), ty.to_string()) } else { d }
    }

    /// The sizes that the model can take, as values of the parameter that the axis seems to come from: the one of its name.
    fn nearest(&self, axis: Option<&Axis>, (below, above): (i64, i64)) -> String {
        let named = axis.and_then(|a| Some((a.name.as_deref()?, a.size)));
        let scaled = named.and_then(|(name, size)| {
            let parameter = self.parameter(name)?;
            (size > 0 && parameter % size == 0).then(|| (name, parameter / size))
        });
        let sizes = [below, above].into_iter().filter(|s| *s > 0);
        let texts: Vec<String> = match scaled {
            Some((name, factor)) => sizes.map(|s| format!("`--set {name}={}`", s * factor)).collect(),
            None => sizes.map(|s| s.to_string()).collect(),
        };
        format!("the nearest that it can take: {}", texts.join(" or "))
    }
}

/// The types of a call's outputs. An axis of an output gets the name of the input axis that has the same symbol.
pub(super) fn call_types(signature: &Signature, types: &[ValueType]) -> Result<Vec<ValueType>, Vec<Mismatch>> {
    let given: Vec<(DType, Vec<i64>)> = types.iter().map(|t| (t.dtype(), t.dims())).collect();
    let bindings = signature.unify(&given)?;
    let names = axis_names(signature, types);
    Ok(signature.outputs.iter().map(|(_, t)| named(t, &bindings, &names)).collect())
}

fn axis_names(signature: &Signature, types: &[ValueType]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for ((_, port), ty) in signature.inputs.iter().zip(types) {
        for (dim, axis) in port.shape.iter().zip(ty.axes()) {
            if let ([symbol], Some(name)) = (&dim.symbols()[..], &axis.name) {
                names.entry(symbol.clone()).or_insert_with(|| name.clone());
            }
        }
    }
    names
}

fn named(t: &TensorType, bindings: &Bindings, names: &BTreeMap<String, String>) -> ValueType {
    let mut axes: Vec<Axis> = Vec::new();
    for dim in &t.shape {
        let name = match &dim.symbols()[..] {
            [symbol] => names.get(symbol).cloned(),
            _ => None,
        };
        // Two axes of one symbol cannot both have its name.
        let name = name.filter(|n| axes.iter().all(|a| a.name.as_ref() != Some(n)));
        // An output that speaks of a symbol of no input is a mistake of the model's builder; verify reports it as extent -1.
        axes.push(Axis { name, size: dim.bind(bindings).as_const().unwrap_or(-1) });
    }
    ValueType::Tensor { dtype: t.dtype, axes }
}
