//! Numbers of a folder into the template: parameters, models, and the operators that hold a model's numbers.
//!
//! Operators are found by what they are, and by the names that DESIGN gives the values where a graph could hold several.

use super::models::{Geometry, Models};
use super::pictures::Pictures;
use super::sampler::Sampler;
use crate::spec::{Config, Entries, Expr, Number, Op, Operator, Parameter, Spanned, Spec, Tree, WeightsFolder, WeightsSource};

/// The largest side of a video that the templates allow, in pixels.
const MAX_SIDE: i64 = 4096;

/// The configurations of the models.
pub(super) fn models(spec: &mut Spec, models: &Models) {
    for (name, decl) in &mut spec.models.0 {
        if let Some(config) = models.config(&name.value, decl) {
            decl.config = Config::from_json(&config, &name.span);
        }
    }
}

/// The noise levels.
pub(super) fn sampler(spec: &mut Spec, sampler: &Sampler) {
    each_op(&mut spec.pipeline, &mut |_, op| {
        if let Op::KarrasSigmas(k) = op {
            k.sigma_min.tree = float(sampler.sigma_min);
            k.sigma_max.tree = float(sampler.sigma_max);
        }
    });
}

/// What the image encoder sees.
pub(super) fn pictures(spec: &mut Spec, pictures: &Pictures) {
    each_op(&mut spec.pipeline, &mut |_, op| {
        if let Op::ClipPreprocess(clip) = op {
            clip.size.tree = int(pictures.size);
            set_numbers(&mut clip.mean, &pictures.mean);
            set_numbers(&mut clip.std, &pictures.std);
        }
    });
}

fn set_numbers(to: &mut [Spanned<Number>], from: &[f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        to.value = Number::Float(*from);
    }
}

/// Sizes of videos and latents.
pub(super) fn geometry(spec: &mut Spec, g: &Geometry) {
    for (name, default) in [("height", g.height), ("width", g.width)] {
        let side = parameter(spec, name);
        side.default.value = Number::Int(default);
        set(&mut side.min, Number::Int(g.unit));
        set(&mut side.max, Number::Int(MAX_SIDE.max(default) / g.unit * g.unit));
        set(&mut side.multiple_of, g.unit);
    }
    let frames = parameter(spec, "frames");
    frames.default.value = Number::Int(g.frames);
    let most = frames.max.as_ref().map_or(0.0, |m| m.value.as_f64());
    if g.frames as f64 > most {
        set(&mut frames.max, Number::Int(g.frames));
    }
    each_op(&mut spec.pipeline, &mut |name, op| latents(name, op, g));
}

fn latents(name: &str, op: &mut Op, g: &Geometry) {
    match op {
        Op::Scale(scale) if name == "scaled_latents" => scale.by.tree = divide(int(1), float(g.scaling)),
        Op::Randn(noise) if name == "init_noise" => {
            extent(&mut noise.shape, "channels", int(g.latent_channels));
            for side in ["height", "width"] {
                extent(&mut noise.shape, side, divide(Tree::Parameter(side.into()), int(g.factor)));
            }
        }
        _ => {}
    }
}

fn extent(shape: &mut Entries<Expr>, axis: &str, tree: Tree) {
    if let Some((_, extent)) = shape.0.iter_mut().find(|(k, _)| k.value == axis) {
        extent.tree = tree;
    }
}

/// What the graph is called, what it does, where its weights are.
pub(super) fn names(spec: &mut Spec, name: &str, about: &str, weights: WeightsFolder) {
    let span = spec.name.span.clone();
    name.clone_into(&mut spec.name.value);
    spec.about = Some(Spanned { value: about.to_owned(), span: span.clone() });
    spec.weights = Some(Spanned { value: WeightsSource::Folder(weights), span });
}

fn parameter<'s>(spec: &'s mut Spec, name: &str) -> &'s mut Parameter {
    let found = spec.parameters.0.iter_mut().find(|(k, _)| k.value == name).map(|(_, p)| p);
    found.expect("the templates have the parameters of their recipes; a test fills each")
}

/// Changes a limit that the template gives, and gives none that it does not.
fn set<T>(limit: &mut Option<Spanned<T>>, value: T) {
    if let Some(limit) = limit {
        limit.value = value;
    }
}

fn each_op(ops: &mut Entries<Spanned<Op>>, change: &mut impl FnMut(&str, &mut Op)) {
    for (name, op) in &mut ops.0 {
        change(&name.value, &mut op.value);
        if let Op::Loop(l) = &mut op.value {
            each_op(&mut l.body, change);
        }
    }
}

fn int(value: i64) -> Tree {
    Tree::Number(Number::Int(value))
}

fn float(value: f64) -> Tree {
    Tree::Number(Number::Float(value))
}

fn divide(a: Tree, b: Tree) -> Tree {
    Tree::Binary(Box::new(a), Operator::Divide, Box::new(b))
}
