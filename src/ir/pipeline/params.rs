//! Parameters: defaults, `--set`, and the limits that a graph gives them.

use indexmap::IndexMap;

use crate::diag::{Diagnostic, Diagnostics, suggest};
use crate::spec::{Entries, Number, Parameter};

/// The value of each parameter: its default, or what `set` (pairs of name and text) says; the last of several wins.
pub fn parameters(declared: &Entries<Parameter>, set: &[(String, String)], found: &mut Diagnostics) -> IndexMap<String, Number> {
    let mut values = IndexMap::new();
    for (name, parameter) in declared.iter() {
        let default = parameter.default.value;
        if let Some(d) = limits(&name.value, parameter, default) {
            found.push(d.at(&parameter.default.span, "the default"));
        }
        values.insert(name.value.clone(), default);
    }
    for (name, text) in set {
        match one(declared, name, text) {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(d) => found.push(*d),
        }
    }
    values
}

fn one(declared: &Entries<Parameter>, name: &str, text: &str) -> Result<Number, Box<Diagnostic>> {
    let Some(parameter) = declared.get(name) else {
        let d = Diagnostic::new("graph/unknown-parameter", format!("this graph has no parameter `{name}`"));
        return Err(Box::new(d.help(suggest(name, declared.keys()))));
    };
    let value = match (parameter.default.value, Number::parse(text)) {
        (Number::Int(_), Some(n)) if let Some(int) = n.as_i64() => Number::Int(int),
        (Number::Float(_), Some(n)) => Number::Float(n.as_f64()),
        (default, _) => {
            let wanted = if matches!(default, Number::Int(_)) { "a whole number" } else { "a number" };
            let d = Diagnostic::new("graph/parameter-type", format!("`{name}` is {wanted}, not `{text}`"));
            return Err(Box::new(d.at(&parameter.default.span, "declared here").help(format!("for example `--set {name}={default}`"))));
        }
    };
    match limits(name, parameter, value) {
        Some(d) => Err(Box::new(d)),
        None => Ok(value),
    }
}

/// What is wrong with `value`, if anything.
fn limits(name: &str, parameter: &Parameter, value: Number) -> Option<Diagnostic> {
    let x = value.as_f64();
    if let Some(min) = parameter.min.as_ref().filter(|min| x < min.value.as_f64()) {
        let d = Diagnostic::new("graph/parameter-range", format!("`{name}` is at least {}, not {value}", min.value));
        return Some(d.at(&min.span, "the least").help(format!("`--set {name}={}` is the least", min.value)));
    }
    if let Some(max) = parameter.max.as_ref().filter(|max| x > max.value.as_f64()) {
        let d = Diagnostic::new("graph/parameter-range", format!("`{name}` is at most {}, not {value}", max.value));
        return Some(d.at(&max.span, "the most").help(format!("`--set {name}={}` is the most", max.value)));
    }
    let step = parameter.multiple_of.as_ref()?;
    if step.value < 1 {
        let d = Diagnostic::new("graph/parameter-range", format!("nothing is a multiple of {}", step.value));
        return Some(d.at(&step.span, "here").help("write a whole number from 1"));
    }
    let int = value.as_i64().filter(|i| i % step.value == 0);
    if int.is_some() {
        return None;
    }
    let d = Diagnostic::new("graph/parameter-multiple", format!("`{name}` is a multiple of {}, not {value}", step.value));
    Some(d.at(&step.span, "the unit").help(format!("the nearest are {}", nearest(parameter, step.value, x))))
}

/// The multiples around `x` that the limits allow.
fn nearest(parameter: &Parameter, step: i64, x: f64) -> String {
    let below = (x / step as f64).floor();
    let within = |v: &f64| {
        parameter.min.as_ref().is_none_or(|m| *v >= m.value.as_f64()) && parameter.max.as_ref().is_none_or(|m| *v <= m.value.as_f64())
    };
    let both: Vec<String> = [below, below + 1.0].map(|k| k * step as f64).into_iter().filter(within).map(|v| format!("{v:.0}")).collect();
    both.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::pipeline::tests::tiny;

    fn check(set: &str, code: &str, help: &str) {
        let (name, text) = set.split_once('=').expect("name=text");
        let mut found = Diagnostics::default();
        parameters(&tiny().parameters, &[(name.into(), text.into())], &mut found);
        let said: Vec<_> = found.0.iter().map(|d| (d.code, d.help.as_deref().unwrap_or_default())).collect();
        assert_eq!(said, [(code, help)], "{set}");
    }

    #[test]
    fn what_cannot_be_set_says_what_can() {
        check("hieght=128", "graph/unknown-parameter", "did you mean `height`?");
        check("height=100", "graph/parameter-multiple", "the nearest are 64 and 128");
        check("height=4097", "graph/parameter-range", "`--set height=4096` is the most");
        check("steps=2.5", "graph/parameter-type", "for example `--set steps=3`");
        check("steps=many", "graph/parameter-type", "for example `--set steps=3`");
        check("noise_aug_strength=-1", "graph/parameter-range", "`--set noise_aug_strength=0.0` is the least");
    }

    #[test]
    fn the_type_of_the_default_decides() {
        let mut found = Diagnostics::default();
        let set = [("max_guidance_scale".into(), "2".into()), ("steps".into(), "4.0".into())];
        let values = parameters(&tiny().parameters, &set, &mut found);
        assert_eq!(found.0, []);
        assert_eq!((values["max_guidance_scale"], values["steps"]), (Number::Float(2.0), Number::Int(4)));
    }
}
