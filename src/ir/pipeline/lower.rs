//! Operators as written → primitives with all of their numbers. Types are checked afterwards by `Prim::infer`.

use super::resolve::Resolver;
use super::{Axis, Prim};
use crate::diag::{Diagnostic, suggest};
use crate::spec::{self, AxisRef, Number, Op, Spanned, ValueRef};

impl Resolver<'_> {
    /// The primitive that `op` is; `None` if one of its arguments has no value (reported), or if it is no primitive.
    pub(super) fn lower(&mut self, op: &Op) -> Option<Prim> {
        Some(match op {
            Op::ClipPreprocess(o) => self.clip_preprocess(o)?,
            Op::Resize(o) => {
                let (height, width) = (self.int(&o.height, 1), self.int(&o.width, 1));
                Prim::Resize { height: height?, width: width?, filter: o.filter.value }
            }
            Op::ToTensor(_) => Prim::ToTensor {},
            Op::Randn(o) => {
                let (seed, shape) = (self.int(&o.seed, 0), self.shape(&o.shape));
                Prim::Randn { stream: o.stream.value.clone(), seed: seed? as u64, shape: shape? }
            }
            Op::Scale(o) => Prim::Scale { by: self.float(&o.by)? },
            Op::Add(_) => Prim::Add {},
            Op::Mul(_) => Prim::Mul {},
            Op::Lerp(o) => Prim::Lerp { weight: self.float(&o.weight)? },
            Op::Concat(o) => Prim::Concat { axis: self.axis(&o.axis, &o.values)? },
            Op::Repeat(o) => {
                let (axis, count) = (self.axis_of(&o.axis, &o.value), self.int(&o.count, 1));
                Prim::Repeat { axis: axis?, count: count? }
            }
            Op::Slice(o) => {
                let (axis, start, end) = (self.axis_of(&o.axis, &o.value), self.int(&o.start, 0), self.int(&o.end, 1));
                Prim::Slice { axis: axis?, start: start?, end: end? }
            }
            Op::Unsqueeze(o) => Prim::Unsqueeze { at: self.int(&o.at, 0)? as usize, name: o.axis.value.clone() },
            Op::Squeeze(o) => Prim::Squeeze { axis: self.axis_of(&o.axis, &o.value)? },
            Op::Reshape(o) => Prim::Reshape { shape: self.shape(&o.shape)? },
            Op::ZerosLike(_) => Prim::ZerosLike {},
            Op::Constant(o) => {
                let values: Vec<Option<f64>> = o.values.iter().map(|e| self.float(e)).collect();
                let shape = self.shape(&o.shape);
                Prim::Constant { values: values.into_iter().collect::<Option<_>>()?, shape: shape? }
            }
            Op::Linspace(o) => self.linspace(o)?,
            Op::KarrasSigmas(o) => self.karras(o)?,
            Op::ContinuousTimesteps(_) => Prim::ContinuousTimesteps {},
            Op::ScaleInitialNoise(_) => Prim::ScaleInitialNoise {},
            Op::ScaleModelInput(_) => Prim::ScaleModelInput {},
            Op::Guidance(_) => Prim::Guidance {},
            Op::EulerStep(o) => Prim::EulerStep { prediction: o.prediction.value },
            Op::RelativeChange(_) => Prim::RelativeChange {},
            Op::Call(_) | Op::Loop(_) | Op::If(_) => return None,
        })
    }

    fn clip_preprocess(&mut self, o: &spec::ClipPreprocess) -> Option<Prim> {
        let (size, mean, std) = (self.int(&o.size, 1), self.three(&o.mean, &o.size.span), self.three(&o.std, &o.size.span));
        let std = std.filter(|std| {
            let bad = o.std.iter().find(|s| s.value.as_f64() <= 0.0);
            if let Some(bad) = bad {
                self.found.push(
                    Diagnostic::new("graph/range", format!("a standard deviation is above 0, not {}", bad.value)).at(&bad.span, "here"),
                );
            }
            std.iter().all(|s| *s > 0.0)
        });
        Some(Prim::ClipPreprocess { size: size?, mean: mean?, std: std? })
    }

    /// One number for each colour channel.
    fn three(&mut self, numbers: &[Spanned<Number>], place: &crate::diag::Span) -> Option<[f64; 3]> {
        let values: Vec<f64> = numbers.iter().map(|n| n.value.as_f64()).collect();
        let three = values.try_into().ok();
        if three.is_none() {
            let d = Diagnostic::new(
                "graph/shape",
                format!("three numbers are wanted, one for each of red, green, blue, not {}", numbers.len()),
            );
            self.found.push(d.at(numbers.first().map_or(place, |n| &n.span), "here"));
        }
        three
    }

    fn linspace(&mut self, o: &spec::Linspace) -> Option<Prim> {
        let (from, to, shape) = (self.float(&o.from), self.float(&o.to), self.shape(&o.shape));
        let names: Vec<Option<&str>> = o.shape.keys().map(Some).collect();
        let axis = find_axis(o.axis.name(), &names);
        if axis.is_none() {
            self.found.push(no_axis(&o.axis, "the shape", &names));
        }
        Some(Prim::Linspace { from: from?, to: to?, axis: axis?, shape: shape? })
    }

    fn karras(&mut self, o: &spec::KarrasSigmas) -> Option<Prim> {
        let (low, high) = (self.float(&o.sigma_min), self.float(&o.sigma_max));
        let (rho, steps) = (self.float(&o.rho), self.int(&o.steps, 1));
        let (sigma_min, sigma_max, rho) = (low?, high?, rho?);
        if sigma_min <= 0.0 || sigma_max < sigma_min || rho <= 0.0 {
            let message = format!("0 < sigma_min <= sigma_max and 0 < rho are wanted; here they are {sigma_min}, {sigma_max} and {rho}");
            self.found.push(Diagnostic::new("graph/range", message).at(&o.sigma_min.span, "here"));
            return None;
        }
        Some(Prim::KarrasSigmas { sigma_min, sigma_max, rho, steps: steps? })
    }

    fn axis_of(&mut self, axis: &AxisRef, value: &ValueRef) -> Option<usize> {
        self.axis(axis, std::slice::from_ref(value))
    }

    /// The index of `axis`, which may be named by any of `values`. If one of them has no value, nothing is known and nothing is said.
    fn axis(&mut self, axis: &AxisRef, values: &[ValueRef]) -> Option<usize> {
        let ids: Vec<_> = values.iter().map(|v| self.peek(v)).collect::<Option<_>>()?;
        let shapes: Vec<Vec<Axis>> = ids.into_iter().map(|v| self.value_type(v).axes().to_vec()).collect();
        let names = |shape: &'_ [Axis]| -> Vec<Option<String>> { shape.iter().map(|a| a.name.clone()).collect() };
        let found = shapes.iter().find_map(|s| find_axis(axis.name(), &borrow(&names(s))));
        if found.is_none() {
            let (first, owner) = (shapes.first().map(|s| names(s)).unwrap_or_default(), values.first().map_or("nothing", ValueRef::name));
            self.found.push(no_axis(axis, &format!("`{owner}`"), &borrow(&first)));
        }
        found
    }
}

fn borrow(names: &[Option<String>]) -> Vec<Option<&str>> {
    names.iter().map(Option::as_deref).collect()
}

/// By name, else by index from 0.
fn find_axis(wanted: &str, names: &[Option<&str>]) -> Option<usize> {
    names.iter().position(|n| *n == Some(wanted)).or_else(|| wanted.parse().ok().filter(|i| *i < names.len()))
}

fn no_axis(axis: &AxisRef, owner: &str, names: &[Option<&str>]) -> Diagnostic {
    let d = Diagnostic::new("graph/unknown-axis", format!("{owner} has no axis `{}`", axis.name())).at(axis.span(), "unknown");
    d.help(suggest(axis.name(), names.iter().flatten().copied()))
        .note(format!("an axis can also be given by its index, from 0 to {}", names.len().saturating_sub(1)))
}
