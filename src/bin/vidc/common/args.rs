//! Arguments that several subcommands take.

use std::path::PathBuf;

use vidc::passes::Choices;
use vidc::units::{Bytes, parse_bytes};

/// `name=value`.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// Before the first `=`.
    pub(crate) name: String,
    /// Behind it.
    pub(crate) value: String,
}

impl Pair {
    /// The value as a path.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(&self.value)
    }
}

/// Reads `name=value`.
pub(crate) fn pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(Pair { name: name.into(), value: value.into() }),
        _ => Err("name=value is wanted".into()),
    }
}

/// Reads a size. A few bytes without a unit are a unit forgotten.
pub(crate) fn size(text: &str) -> Result<Bytes, String> {
    const SMALLEST: Bytes = Bytes(1 << 20);
    let size = parse_bytes(text)?;
    let bare = text.trim().ends_with(|c: char| c.is_ascii_digit());
    if bare && size < SMALLEST {
        let text = text.trim();
        return Err(format!("`{text}` without a unit is {size}; did you mean {text}GiB?"));
    }
    Ok(size)
}

/// Reads a time in seconds.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    const LONGEST: f64 = 86_400.0;
    let seconds = text.trim().parse::<f64>().ok().filter(|s| (1.0..=LONGEST).contains(s));
    seconds.ok_or_else(|| format!("a time is a number of seconds from 1 to {LONGEST}"))
}

/// A budget of memory as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// So much.
    Size(Bytes),
    /// What is free on this machine now.
    Free,
}

/// Reads `12GiB` or `auto`.
pub(crate) fn budget(text: &str) -> Result<Budget, String> {
    if text.trim() == "auto" { Ok(Budget::Free) } else { size(text).map(Budget::Size) }
}

/// Reads the name of a pass over models.
pub(crate) fn pass(text: &str) -> Result<String, String> {
    one_of(text, vidc::passes::operators().iter().map(|p| p.info().id).collect())
}

/// Reads the name of any pass.
pub(crate) fn any_pass(text: &str) -> Result<String, String> {
    one_of(text, vidc::passes::order().iter().map(|p| p.info().id).collect())
}

fn one_of(text: &str, known: Vec<&str>) -> Result<String, String> {
    if known.contains(&text) { Ok(text.into()) } else { Err(format!("there is no such pass; {}", vidc::diag::suggest(text, known))) }
}

/// A graph and its parameters.
#[derive(clap::Args, Debug)]
pub(crate) struct GraphArgs {
    /// A graph file, or the name of a graph inside vidc: svd, svd-xt, svd-mini, svd-tiny.
    pub(crate) graph: String,
    /// Set a parameter of the graph.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) set: Vec<Pair>,
}

/// Parameters as the library takes them.
pub(crate) fn settings(set: &[Pair]) -> Vec<(String, String)> {
    set.iter().map(|p| (p.name.clone(), p.value.clone())).collect()
}

/// What runs the operators.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ProviderArgs {
    /// The execution provider: cpu, openvino, cuda, tensorrt-rtx, tensorrt (`vidc hw show KEY` lists those of a device); the device's usual one if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
}

/// What a search may take into account.
#[derive(clap::Args, Debug)]
pub(crate) struct SearchArgs {
    /// Among plans within this share of the best time (or memory), take the one with less loss of quality, then less memory; 1% if
    /// not given.
    #[arg(long, value_name = "SHARE%", value_parser = share)]
    pub(crate) tolerance: Option<f64>,
    /// Let the search take answers of which nobody has measured what they cost in quality.
    #[arg(long)]
    pub(crate) allow_unmeasured: bool,
}

impl SearchArgs {
    /// What was given, or the usual.
    pub(crate) fn share(&self) -> f64 {
        self.tolerance.unwrap_or(vidc::tuner::TOLERANCE)
    }
}

/// Reads `1%` as 0.01.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
    let share = percent.map(|n| n / 100.0).filter(|s| (0.0..=1.0).contains(s));
    share.ok_or_else(|| "a share between 0% and 100% is wanted, such as 1%".into())
}

/// Answers that the user gives.
#[derive(clap::Args, Debug)]
pub(crate) struct ChooseArgs {
    /// Give the answer to a knob; `vidc explain GRAPH --hw KEY` lists them.
    #[arg(long = "choose", value_name = "KNOB=ANSWER", value_parser = pair)]
    pub(crate) choose: Vec<Pair>,
}

impl ChooseArgs {
    /// The answers.
    pub(crate) fn choices(&self) -> Choices {
        let mut choices = Choices::default();
        for p in &self.choose {
            choices.set(&p.name, p.value.clone());
        }
        choices
    }
}

/// Sizes of a model that its file leaves open.
#[derive(clap::Args, Debug)]
pub(crate) struct DimArgs {
    /// Bind an extent that the model leaves open, by its name in the file, or INPUT.AXIS where it has none.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim)]
    pub(crate) dims: Vec<(String, i64)>,
}

impl DimArgs {
    /// The extents by name.
    pub(crate) fn bindings(&self) -> vidc::ir::Bindings {
        self.dims.iter().cloned().collect()
    }
}

/// Reads `name=extent`.
fn dim(text: &str) -> Result<(String, i64), String> {
    let p = pair(text)?;
    match p.value.parse() {
        Ok(n) if (1..=1 << 40).contains(&n) => Ok((p.name, n)),
        _ => Err("an extent is a whole number from 1 to 2^40".into()),
    }
}

/// Where weights come from.
#[derive(clap::Args, Debug)]
pub(crate) struct WeightsArgs {
    /// A folder with one folder of safetensors a model, or `random:SEED`; else what the graph says.
    #[arg(long, value_name = "DIR|random:SEED")]
    pub(crate) weights: Option<String>,
    /// Which of several sets of files in the folder, such as fp16.
    #[arg(long, value_name = "NAME", requires = "weights")]
    pub(crate) variant: Option<String>,
}
