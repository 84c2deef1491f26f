//! The scheduler: which settings of diffusers' `EulerDiscreteScheduler` the graph expresses.
//!
//! The graph has Karras' noise levels between two given ones, the final level 0, an initial noise of √(σ₀² + 1), the timestep
//! ln σ / 4, and Euler steps of a predicted velocity. Each row of [`MUST`] is one of these; settings that change nothing once
//! the levels are Karras' with given ends (betas, training steps, interpolation, offset) are not looked at.

use serde_json::{Value, json};

use super::SCHEDULER;
use super::folder::{Folder, Json, shorten};
use crate::diag::{Diagnostic, Diagnostics};

/// The noise levels.
pub(super) struct Sampler {
    /// The smallest but the final 0.
    pub(super) sigma_min: f64,
    /// The largest.
    pub(super) sigma_max: f64,
}

/// Key, what diffusers takes where it is missing, what the graph expresses.
const MUST: [(&str, &str, &str); 7] = [
    ("prediction_type", "\"epsilon\"", "\"v_prediction\""),
    ("use_karras_sigmas", "false", "true"),
    ("use_exponential_sigmas", "false", "false"),
    ("use_beta_sigmas", "false", "false"),
    ("timestep_type", "\"discrete\"", "\"continuous\""),
    // Decides the scale of the initial noise.
    ("timestep_spacing", "\"linspace\"", "\"leading\""),
    ("final_sigmas_type", "\"zero\"", "\"zero\""),
];

impl Sampler {
    pub(super) fn read(folder: &Folder, found: &mut Diagnostics) -> Option<Self> {
        let config = folder.json(SCHEDULER, "scheduler_config.json").map_err(|d| found.push(*d)).ok()?;
        if let Some(class) = config.text("_class_name").filter(|c| *c != "EulerDiscreteScheduler") {
            let d = Diagnostic::new("import/unsupported-scheduler", format!("the scheduler is a `{}`", shorten(class)));
            found.push(config.at(d, "_class_name", "here").help("what the graph expresses is EulerDiscreteScheduler"));
            return None;
        }
        for row in &MUST {
            must(&config, row, found);
        }
        let ends = (sigma(&config, "sigma_min", found), sigma(&config, "sigma_max", found));
        let (Some(sigma_min), Some(sigma_max)) = ends else { return None };
        if sigma_min >= sigma_max {
            let message = format!("the scheduler's `sigma_min` is {sigma_min:?}, its `sigma_max` {sigma_max:?}");
            let d = config.at(Diagnostic::new("import/unsupported-scheduler", message), "sigma_min", "the smallest noise level");
            found.push(d.help("the smallest noise level is below the largest"));
        }
        Some(Self { sigma_min, sigma_max })
    }
}

fn must(config: &Json, (key, default, wanted): &(&str, &str, &str), found: &mut Diagnostics) {
    let given = config.get(key).map(Value::to_string);
    let value = given.as_deref().unwrap_or(default);
    if value == *wanted {
        return;
    }
    let missing = if given.is_none() { ", which is meant where the key is missing" } else { "" };
    let message = format!("the scheduler's `{key}` is `{}`{missing}", shorten(value));
    let d = config.at(Diagnostic::new("import/unsupported-scheduler", message), key, "here");
    found.push(d.help(format!("what the graph expresses is `{wanted}`")));
}

fn sigma(config: &Json, key: &str, found: &mut Diagnostics) -> Option<f64> {
    let value = config.get(key).cloned().unwrap_or(json!(null));
    let sigma = value.as_f64().filter(|s| *s > 0.0 && *s < 1e9);
    if sigma.is_none() {
        let message = format!("the scheduler's `{key}` is `{}`", shorten(&value.to_string()));
        let d = config.at(Diagnostic::new("import/unsupported-scheduler", message), key, "here");
        found.push(d.help("what the graph expresses is a number above 0: it does not derive noise levels from betas"));
    }
    sigma
}
