//! Tying the parameters of a weight expression to files or to a seed.

use std::collections::BTreeMap;

use super::{Stored, TensorRef, WeightExpr, WeightOp, random_spec};
use crate::diag::{Diagnostic, Result, suggest};

/// Where parameters come from.
#[derive(Clone, Debug)]
pub enum ParamSource {
    /// Files: by stage (`unet`, `vae`, `image_encoder`, …).
    Files(BTreeMap<String, Stored>),
    /// The seeded generator.
    Random {
        /// The user's seed.
        seed: u64,
    },
}

impl ParamSource {
    /// What a parameter is bound to: a stored tensor (cast if it is stored in another float type), or seeded values.
    ///
    /// # Errors
    /// `weights/missing-model`, `weights/missing-tensor`, `weights/shape-mismatch`, `weights/dtype-mismatch`,
    /// `weights/unsupported-dtype`.
    fn resolve(&self, param: &WeightExpr, stage: &str, name: &str) -> Result<WeightExpr> {
        match self {
            Self::Files(stages) => stored(param, stages, stage, name),
            Self::Random { seed } => {
                let spec = random_spec(*seed, stage, name, param.shape());
                WeightExpr::random(&format!("{stage}/{name}"), spec, param.dtype(), param.shape())
            }
        }
    }
}

impl WeightExpr {
    /// The same expression with every parameter replaced by what `source` has for it. Reads nothing.
    ///
    /// # Errors
    /// `weights/missing-model`, `weights/missing-tensor`, `weights/shape-mismatch`, `weights/dtype-mismatch`,
    /// `weights/unsupported-dtype`.
    pub fn bind(&self, source: &ParamSource) -> Result<Self> {
        match self.op() {
            WeightOp::Param { stage, name } => source.resolve(self, stage, name),
            WeightOp::Stored(_) | WeightOp::Random { .. } | WeightOp::Literal(_) => Ok(self.clone()),
            WeightOp::Transpose { of, perm } => of.bind(source)?.transpose(perm),
            WeightOp::Reshape { of } => of.bind(source)?.reshape(self.shape()),
            WeightOp::Concat { parts, axis } => {
                let parts = parts.iter().map(|part| part.bind(source)).collect::<Result<Vec<_>>>()?;
                Self::concat(&parts, *axis)
            }
            WeightOp::Slice { of, axis, start, end } => of.bind(source)?.slice(*axis, *start, *end),
            WeightOp::Scale { of, factor } => of.bind(source)?.scale(*factor),
            WeightOp::Map { function, of } => of.bind(source)?.map(*function),
            WeightOp::Binary { function, left, right } => left.bind(source)?.binary(*function, &right.bind(source)?),
            WeightOp::Expand { of } => of.bind(source)?.expand(self.shape()),
            WeightOp::MatMul { left, right } => left.bind(source)?.matmul(&right.bind(source)?),
            WeightOp::Cast { of } => of.bind(source)?.cast(self.dtype()),
        }
    }

    /// The parameters in the expression, as (stage, name, expression), in order; a parameter used twice comes twice.
    pub fn params(&self) -> Vec<(&str, &str, &Self)> {
        match self.op() {
            WeightOp::Param { stage, name } => vec![(stage, name, self)],
            _ => self.operands().into_iter().flat_map(Self::params).collect(),
        }
    }
}

fn stored(param: &WeightExpr, stages: &BTreeMap<String, Stored>, stage: &str, name: &str) -> Result<WeightExpr> {
    let weights = stages.get(stage).ok_or_else(|| missing_model(stages, stage))?;
    let tensor = weights.get(name)?.ok_or_else(|| missing_tensor(weights, stage, name))?;
    if tensor.shape != param.shape() {
        return Err(wrong_shape(tensor, param, stage, name).into());
    }
    if tensor.dtype.is_float() != param.dtype().is_float() {
        let message = format!("tensor `{name}` of {stage} is stored as {} but the model needs {}", tensor.dtype, param.dtype());
        return Err(Diagnostic::new("weights/dtype-mismatch", message).help("use the weights that belong to this configuration").into());
    }
    WeightExpr::stored(tensor.clone())?.cast(param.dtype())
}

fn missing_model(stages: &BTreeMap<String, Stored>, stage: &str) -> Diagnostic {
    let help = suggest(stage, stages.keys().map(String::as_str));
    Diagnostic::new("weights/missing-model", format!("there are no weights for the model `{stage}`")).help(help)
}

fn missing_tensor(weights: &Stored, stage: &str, name: &str) -> Diagnostic {
    let near = nearest(weights, name, 3);
    let help =
        if near.is_empty() { "the file holds no tensor at all".into() } else { format!("the nearest there are: {}", near.join(", ")) };
    let message = format!("the weights of {stage} lack the tensor `{name}`");
    let files: Vec<String> = weights.files().iter().map(|f| f.path().display().to_string()).collect();
    Diagnostic::new("weights/missing-tensor", message).help(help).note(format!("looked in {}", files.join(", ")))
}

/// The `count` names nearest to `name`, best first.
fn nearest<'w>(weights: &'w Stored, name: &str, count: usize) -> Vec<&'w str> {
    let mut all: Vec<(usize, &str)> = weights.iter().map(|(known, _)| (strsim::levenshtein(name, known), known)).collect();
    all.sort_unstable();
    all.into_iter().take(count).map(|(_, known)| known).collect()
}

fn wrong_shape(tensor: &TensorRef, param: &WeightExpr, stage: &str, name: &str) -> Diagnostic {
    let message = format!("tensor `{name}` of {stage} is stored with shape {:?} but the model needs {:?}", tensor.shape, param.shape());
    Diagnostic::new("weights/shape-mismatch", message)
        .help("use the configuration that belongs to these weights")
        .note(format!("the tensor is in {}", tensor.file.path().display()))
}
