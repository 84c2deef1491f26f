//! Architecture + config → operator graph.
//!
//! A model whose weights lie in a diffusers folder is built from the folder's `config.json` and nothing else: no weights are
//! read, no size is bound. Graphs hold raised operators and parameters by their stored names; the sizes of a call stay symbols:
//! `batch`, `frames`, and `h`, `w` in units of the coarsest level.
//!
//! One file a family (`unet`, `vae`, `clip`), the parts they share in `blocks` and `transformer`. An architecture is a row of
//! [`architectures`]; adding one is a builder function and a row.

mod blocks;
mod builder;
mod clip;
mod config;
mod load;
mod transformer;
mod unet;
mod vae;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use load::{load, program};

use std::collections::BTreeMap;

use serde_json::Value;

use crate::diag::{Diagnostic, Result, suggest};
use crate::ir::{Op, OpGraph};
use crate::weights::WeightOp;

use builder::Builder;
use config::Config;

/// A model that vidc can build from a config.
#[derive(Debug)]
pub struct Architecture {
    /// The name that a pipeline uses.
    pub name: &'static str,
    /// What it computes, with the types of its inputs and outputs.
    pub summary: &'static str,
    build: fn(&mut Builder, &Config<'_>) -> Result<()>,
}

const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "clip-vision-with-projection",
        summary: "embeds a picture: pixel_values[batch, 3, size, size] → image_embeds[batch, projection]",
        build: clip::build,
    },
    Architecture {
        name: "kl-encoder",
        summary: "encodes pictures, mode of the distribution: image[batch, 3, 8·h, 8·w] → image_latents[batch, 4, h, w]",
        build: vae::encoder,
    },
    Architecture {
        name: "temporal-decoder",
        summary: "decodes videos: latents[batch, frames, 4, h, w] → frames_out[batch, frames, 3, 8·h, 8·w]",
        build: vae::temporal_decoder,
    },
    Architecture {
        name: "unet-spatio-temporal-condition",
        summary: "denoises videos: sample[batch, frames, in, 8·h, 8·w], timestep[1], encoder_hidden_states[batch, 1, context], \
                  added_time_ids[batch, ids] → out_sample[batch, frames, out, 8·h, 8·w]",
        build: unet::build,
    },
];

/// Every architecture, by name.
pub fn architectures() -> &'static [Architecture] {
    ARCHITECTURES
}

/// Builds the graph of a model.
///
/// `config` is the component's `config.json`, `component` the weights component whose parameters the graph names (`unet`, `vae`,
/// `image_encoder`), `graph_name` what the graph is called. Keys that do not change the function are ignored.
///
/// # Errors
/// `model/unknown-architecture`; `model/config-missing-key` and `model/config-unsupported` with the path of the key.
pub fn build(architecture: &str, config: &Value, component: &str, graph_name: &str) -> Result<OpGraph> {
    let row = ARCHITECTURES.iter().find(|a| a.name == architecture).ok_or_else(|| unknown(architecture))?;
    let mut b = Builder::new(graph_name, component);
    (row.build)(&mut b, &Config::new(config, component)?)?;
    Ok(b.finish())
}

fn unknown(architecture: &str) -> Diagnostic {
    let shown: String = architecture.chars().take(80).collect();
    let help = suggest(&shown, ARCHITECTURES.iter().map(|a| a.name));
    Diagnostic::new("model/unknown-architecture", format!("there is no architecture `{shown}`")).help(help)
}

/// The distinct parameters of a graph: name in the component's file → shape.
fn parameters(graph: &OpGraph) -> BTreeMap<String, Vec<u64>> {
    let mut found = BTreeMap::new();
    for id in graph.nodes() {
        let Op::Weight(expr) = &graph.node(id).op else { continue };
        if let WeightOp::Param { stage, name } = expr.op() {
            found.insert(format!("{stage}/{name}"), expr.shape().to_vec());
        }
    }
    found
}

/// How many numbers the distinct parameters of a graph hold.
pub fn parameter_count(graph: &OpGraph) -> u64 {
    parameters(graph).values().map(|shape| shape.iter().product::<u64>()).sum()
}
