//! What a plan directory says about itself: `manifest.json`, versioned. The runtime needs it and the files it names, nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::store::WeightsEntry;
use crate::diag::{Diagnostic, Result};
use crate::ir::pipeline::{Prim, ValueType};
use crate::passes::{Answer, Choices, Effect, Knob, QualityLoss};
use crate::spec::Number;
use crate::target::{self, Provider};
use crate::units::Bytes;

/// The version of the format that this vidc writes and reads.
pub const VERSION: u32 = 4;
/// The manifest's file name.
pub const FILE: &str = "manifest.json";

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// Version of vidc that wrote it.
    pub vidc: String,
    /// Name of the graph.
    pub graph: String,
    /// Fingerprint of the pipeline, SHA-256 in hex.
    pub fingerprint: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, Number>,
    /// Key of the hardware profile that it was made for.
    pub hardware: String,
    /// The execution provider that it was made for: the key of its row.
    pub provider: String,
    /// The index of the device on its machine.
    pub device: u32,
    /// Where the weights came from, in words; random ones say so.
    pub weights: String,
    /// The answers that differ from the plain ones, and all that were given.
    pub choices: Choices,
    /// The effects of the answers that are not exact.
    pub effects: Vec<EffectEntry>,
    /// What the cost model said, with the field names of the command line's JSON.
    pub predicted: Option<serde_json::Value>,
    /// One session per model instance.
    pub sessions: Vec<SessionEntry>,
    /// Files of weights.
    pub files: Vec<WeightsEntry>,
    /// Every value; steps name values by index.
    pub values: Vec<ValueEntry>,
    /// Inputs that the user gives.
    pub inputs: Vec<InputEntry>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// What comes out.
    pub outputs: Vec<OutputEntry>,
    /// Plans of the same results that need less memory, the largest first; they lie in the same folder and share its weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ladder: Vec<RungEntry>,
}

/// A smaller plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RungEntry {
    /// The file of its manifest.
    pub manifest: String,
    /// Predicted device memory at the worst moment, bytes.
    pub peak_bytes: u64,
    /// Predicted seconds.
    pub latency_s: f64,
}

/// What a plan was made of, for reports of its runs.
#[derive(Clone, Debug, Serialize)]
pub struct MadeOf {
    /// Name of the graph.
    pub graph: String,
    /// Fingerprint of the pipeline.
    pub fingerprint: String,
    /// Parameters, the seed among them.
    pub parameters: BTreeMap<String, Number>,
    /// The hardware profile that the plan was made for.
    pub hardware: String,
    /// The answers.
    pub choices: Choices,
    /// Answers that are not exact.
    pub effects: Vec<EffectEntry>,
    /// What the cost model said, seconds and bytes by stage.
    pub predicted: Option<serde_json::Value>,
}

/// An answer that changes results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectEntry {
    /// The knob.
    pub knob: String,
    /// Its answer.
    pub answer: String,
    /// What it does.
    pub effect: Effect,
    /// What it costs alone, decibels PSNR against the reference; absent if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_db: Option<f64>,
    /// Where that figure comes from.
    pub source: FigureSource,
}

/// Where a figure of quality comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FigureSource {
    /// Others published it for models of this kind.
    Literature,
    /// It was measured on this model.
    Measured,
    /// There is none.
    Unmeasured,
}

impl FigureSource {
    /// The word for it in texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Literature => "literature",
            Self::Measured => "measured",
            Self::Unmeasured => "unmeasured",
        }
    }
}

impl EffectEntry {
    /// The answers that change results, of all that were given.
    pub fn of(knobs: &[Knob], choices: &Choices) -> Vec<Self> {
        let source = |figure| match figure {
            QualityLoss::Exact => None,
            QualityLoss::Literature { .. } => Some(FigureSource::Literature),
            QualityLoss::Measured { .. } => Some(FigureSource::Measured),
            QualityLoss::Unmeasured => Some(FigureSource::Unmeasured),
        };
        let entry = |(k, a): (&Knob, &Answer)| {
            let source = source(a.quality)?;
            let quality_db = a.quality.noise().db();
            Some(Self { knob: k.id.to_string(), answer: a.name.clone(), effect: a.effect, quality_db, source })
        };
        choices.departures(knobs).into_iter().filter_map(entry).collect()
    }
}

/// A model to load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEntry {
    /// The instance's name.
    pub name: String,
    /// The model's file in the plan.
    pub file: String,
    /// SHA-256 of that file in hex.
    pub sha256: String,
    /// Locations of the weights that it reads.
    pub weights: Vec<String>,
    /// Bytes of its weights while it is loaded, as the cost model counts them: not those below 256 bytes.
    pub weight_bytes: u64,
    /// What one run takes beside weights, inputs and outputs, as predicted.
    pub transient_bytes: u64,
    /// Its execution providers, the one that takes what it can first; each with its options.
    pub providers: Vec<Provider>,
    /// The nodes that the first provider has no kernel for, each with the provider that takes it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, String>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueEntry {
    /// Its name for `--feed` and `--dump`.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
    /// How many loops are around the step that makes it.
    pub loops: usize,
    /// How many arms of branches are around that step: in one, it may not be made.
    pub arms: usize,
}

/// A picture that the user gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputEntry {
    /// Its name for `--input`.
    pub name: String,
    /// The value that takes it.
    pub value: usize,
    /// (height, width) that `--fit` fits it to.
    pub fit: (i64, i64),
}

/// A video that comes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputEntry {
    /// Its name.
    pub name: String,
    /// The value that holds the frames, f32 [batch, frames, 3, height, width].
    pub value: usize,
    /// Frames a second.
    pub fps: f64,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Makes a session ready.
    Load {
        /// Index of the session.
        session: usize,
    },
    /// Frees a session.
    Unload {
        /// Index of the session.
        session: usize,
    },
    /// Computes a primitive on the host.
    Host {
        /// The primitive.
        prim: Prim,
        /// Values that it reads.
        inputs: Vec<usize>,
        /// The value that it makes.
        output: usize,
    },
    /// Runs a session once.
    Run {
        /// Index of the session.
        session: usize,
        /// Port and value of each input.
        inputs: Vec<(String, usize)>,
        /// Port and value of each output.
        outputs: Vec<(String, usize)>,
    },
    /// Runs a session once per piece of the first axis, one piece after the other, and joins the outputs along it.
    ForChunks {
        /// Index of the session.
        session: usize,
        /// The pieces, covering the axis without gap or overlap.
        ranges: Vec<(usize, usize)>,
        /// Port, value and whether each piece sees only its part.
        inputs: Vec<(String, usize, bool)>,
        /// Port and value of each output.
        outputs: Vec<(String, usize)>,
    },
    /// Runs a body again and again.
    Loop {
        /// The loop's name, for progress.
        name: String,
        /// How often.
        steps: usize,
        /// State handed from one step to the next.
        carry: Vec<Carry>,
        /// Arrays of which step i sees element i: (array, what the body sees).
        each: Vec<(usize, usize)>,
        /// The body.
        body: Vec<Step>,
    },
    /// Runs one of two arms.
    Branch {
        /// The branch's name.
        name: String,
        /// The value that decides, one element.
        value: usize,
        /// `then` runs where the value is less than this; `otherwise` where it is not, or is no number.
        below: f64,
        /// The one arm.
        then: Vec<Step>,
        /// The other.
        otherwise: Vec<Step>,
        /// What comes out.
        results: Vec<Given>,
    },
}

/// A value that a branch gives: that of the arm that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The value of the then-arm, or one from outside.
    pub then: usize,
    /// The value of the else-arm, or one from outside.
    pub otherwise: usize,
    /// After the branch.
    pub result: usize,
}

/// A carried value: four names for one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carry {
    /// Before the first step.
    pub init: usize,
    /// What a step sees.
    pub before: usize,
    /// What a step makes.
    pub after: usize,
    /// After the last step.
    pub result: usize,
}

impl ValueEntry {
    /// The extents of its type.
    pub fn extents(&self) -> Vec<usize> {
        // Types were checked: an extent fits.
        self.ty.dims().iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect()
    }
}

/// The parameter that noise is drawn with, by the convention of graphs.
const SEED: &str = "seed";

impl Manifest {
    /// The value of the parameter `seed`, if the plan has one and draws noise with it.
    pub fn seed(&self) -> Option<u64> {
        let seed = u64::try_from(self.parameters.get(SEED)?.as_i64()?).ok()?;
        let drawn = self.steps.iter().any(|s| s.any(&mut |prim| matches!(prim, Prim::Randn { seed: s, .. } if *s == seed)));
        drawn.then_some(seed)
    }

    /// Can the noise of this plan be drawn with another seed?
    ///
    /// # Errors
    /// `run/no-seed` if the plan has no parameter `seed`, draws nothing with it, or the seed is beyond 2^63 - 1.
    pub fn check_seed(&self, seed: u64) -> Result<()> {
        let why = match (self.seed(), i64::try_from(seed)) {
            (Some(_), Ok(_)) => return Ok(()),
            (None, _) => format!("the graph `{}` draws no noise with a parameter `{SEED}`", self.graph),
            (_, Err(_)) => format!("{seed} is no seed: the largest is 2^63 - 1"),
        };
        Err(Diagnostic::new("run/no-seed", why).help("leave out --seed and --repeat, or name the parameter with --set").into())
    }

    /// The same plan at another seed: what compiling with `--set seed=N` gives, where the graph draws noise with the parameter as it
    /// is. Noise with a number of its own stays.
    ///
    /// # Errors
    /// Those of [`Self::check_seed`].
    pub fn seeded(&self, seed: u64) -> Result<Self> {
        self.check_seed(seed)?;
        let mut out = self.clone();
        out.parameters.insert(SEED.into(), Number::Int(i64::try_from(seed).unwrap_or(i64::MAX)));
        let own = self.seed();
        out.steps.iter_mut().for_each(|s| s.reseed(own, seed));
        Ok(out)
    }

    /// Reads and checks the manifest of a plan directory.
    ///
    /// # Errors
    /// `plan/not-a-plan`, `plan/version`, `plan/broken` if an index leads nowhere or a file name leaves the folder.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_file(folder, FILE)
    }

    /// The plan of a rung of [`Self::ladder`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_rung(folder: &Path, rung: &RungEntry) -> Result<Self> {
        Self::read_file(folder, &rung.manifest)
    }

    fn read_file(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Diagnostic::new("plan/not-a-plan", format!("`{}` is no plan: {e}", folder.display()))
                .help("`vidc compile GRAPH --hw KEY -o PLANDIR` makes one")
        })?;
        let broken = |e: String| Diagnostic::new("plan/broken", format!("`{}` is no manifest of this version: {e}", path.display()));
        let raw: serde_json::Value = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        match raw.get("version").and_then(serde_json::Value::as_u64) {
            Some(v) if v == u64::from(VERSION) => {}
            found => {
                let found = found.map_or("none".into(), |v| v.to_string());
                let d = Diagnostic::new("plan/version", format!("the plan has version {found}, this vidc reads {VERSION}"));
                return Err(Box::new(d.help(format!("make it anew: `{}`", remaking(&raw, folder)))));
            }
        }
        let manifest: Self = serde_json::from_value(raw).map_err(|e| broken(e.to_string()))?;
        manifest.check().map_err(|e| Box::new(broken(e)))?;
        Ok(manifest)
    }

    /// A figure of the prediction in bytes, by the name that it has in vidc's JSON.
    pub fn predicted_bytes(&self, name: &str) -> Option<Bytes> {
        self.predicted.as_ref()?.get(name)?.as_u64().map(Bytes)
    }

    /// The file that an entry names.
    pub fn weights_path(folder: &Path, entry: &WeightsEntry) -> PathBuf {
        if entry.path.is_absolute() { entry.path.clone() } else { folder.join(&entry.path) }
    }

    /// What the plan was made of.
    pub fn made_of(&self) -> MadeOf {
        MadeOf {
            graph: self.graph.clone(),
            fingerprint: self.fingerprint.clone(),
            parameters: self.parameters.clone(),
            hardware: self.hardware.clone(),
            choices: self.choices.clone(),
            effects: self.effects.clone(),
            predicted: self.predicted.clone(),
        }
    }

    /// Does any weight come from a generator?
    pub fn is_random(&self) -> bool {
        self.weights.starts_with("random:")
    }

    fn check(&self) -> std::result::Result<(), String> {
        let bare = crate::files::is_bare;
        if let Some(s) = self.sessions.iter().find(|s| !bare(&s.file)) {
            return Err(format!("the file `{}` leaves the folder", s.file));
        }
        if let Some(f) = self.files.iter().find(|f| !f.path.is_absolute() && !f.path.to_str().is_some_and(bare)) {
            return Err(format!("the file `{}` leaves the folder", f.path.display()));
        }
        if let Some(r) = self.ladder.iter().find(|r| !bare(&r.manifest)) {
            return Err(format!("the file `{}` leaves the folder", r.manifest));
        }
        let providers = self.sessions.iter().flat_map(|s| &s.providers);
        for p in providers {
            let row = target::row(&p.provider).map_err(|d| d.message)?;
            row.wrong_option(&p.options).map_or(Ok(()), Err)?;
        }
        let outer = self.inputs.iter().map(|i| i.value).chain(self.outputs.iter().map(|o| o.value));
        if let Some(v) = outer.chain(self.steps.iter().flat_map(Step::values)).find(|v| *v >= self.values.len()) {
            return Err(format!("there is no value {v}"));
        }
        if let Some(s) = self.steps.iter().flat_map(Step::sessions).find(|s| *s >= self.sessions.len()) {
            return Err(format!("there is no session {s}"));
        }
        Ok(())
    }
}

/// The command that makes a plan of another version anew, with what it says about itself where that can be read.
fn remaking(raw: &serde_json::Value, folder: &Path) -> String {
    let word = |key: &str| {
        let text = raw.get(key)?.as_str()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(plain)).then_some(text)
    };
    let (graph, hardware) = (word("graph").unwrap_or("GRAPH"), word("hardware").unwrap_or("KEY"));
    format!("vidc compile {graph} --hw {hardware} -o {}", folder.display())
}

impl Step {
    /// Does `wanted` hold of a primitive of the step, its body or arms included?
    fn any(&self, wanted: &mut dyn FnMut(&Prim) -> bool) -> bool {
        match self {
            Self::Host { prim, .. } => wanted(prim),
            Self::Loop { body, .. } => body.iter().any(|s| s.any(wanted)),
            Self::Branch { then, otherwise, .. } => then.iter().chain(otherwise).any(|s| s.any(wanted)),
            Self::Load { .. } | Self::Unload { .. } | Self::Run { .. } | Self::ForChunks { .. } => false,
        }
    }

    fn reseed(&mut self, own: Option<u64>, to: u64) {
        match self {
            Self::Host { prim: Prim::Randn { seed, .. }, .. } if Some(*seed) == own => *seed = to,
            Self::Loop { body, .. } => body.iter_mut().for_each(|s| s.reseed(own, to)),
            Self::Branch { then, otherwise, .. } => then.iter_mut().chain(otherwise).for_each(|s| s.reseed(own, to)),
            _ => {}
        }
    }

    /// Every value that the step names, its body or arms included.
    pub fn values(&self) -> Vec<usize> {
        match self {
            Self::Load { .. } | Self::Unload { .. } => Vec::new(),
            Self::Host { inputs, output, .. } => inputs.iter().copied().chain([*output]).collect(),
            Self::Run { inputs, outputs, .. } => inputs.iter().chain(outputs).map(|(_, v)| *v).collect(),
            Self::ForChunks { inputs, outputs, .. } => inputs.iter().map(|(_, v, _)| *v).chain(outputs.iter().map(|(_, v)| *v)).collect(),
            Self::Loop { carry, each, body, .. } => {
                let state = carry.iter().flat_map(|c| [c.init, c.before, c.after, c.result]).chain(each.iter().flat_map(|(a, b)| [*a, *b]));
                state.chain(body.iter().flat_map(Self::values)).collect()
            }
            Self::Branch { value, then, otherwise, results, .. } => {
                let given = results.iter().flat_map(|g| [g.then, g.otherwise, g.result]);
                [*value].into_iter().chain(given).chain(then.iter().chain(otherwise).flat_map(Self::values)).collect()
            }
        }
    }

    /// Every value that the step makes; inside of it as well.
    pub fn makes(&self) -> Vec<usize> {
        match self {
            Self::Load { .. } | Self::Unload { .. } => Vec::new(),
            Self::Host { output, .. } => vec![*output],
            Self::Run { outputs, .. } | Self::ForChunks { outputs, .. } => outputs.iter().map(|(_, v)| *v).collect(),
            Self::Loop { carry, each, body, .. } => {
                let seen = carry.iter().flat_map(|c| [c.before, c.result]).chain(each.iter().map(|(_, seen)| *seen));
                seen.chain(body.iter().flat_map(Self::makes)).collect()
            }
            Self::Branch { then, otherwise, results, .. } => {
                results.iter().map(|g| g.result).chain(then.iter().chain(otherwise).flat_map(Self::makes)).collect()
            }
        }
    }

    /// Every session that the step names, its body or arms included.
    pub fn sessions(&self) -> Vec<usize> {
        match self {
            Self::Load { session } | Self::Unload { session } | Self::Run { session, .. } | Self::ForChunks { session, .. } => {
                vec![*session]
            }
            Self::Host { .. } => Vec::new(),
            Self::Loop { body, .. } => body.iter().flat_map(Self::sessions).collect(),
            Self::Branch { then, otherwise, .. } => then.iter().chain(otherwise).flat_map(Self::sessions).collect(),
        }
    }
}
