//! The image encoder: a vision transformer whose class token, projected, is the embedding of the picture.

use super::builder::{Builder, dims};
use super::config::{Config, EXTENT};
use crate::diag::Result;
use crate::ir::op::{Conv, Unary};
use crate::ir::{Dim, Op, Outlet};

/// The most layers that a config may ask for.
const LAYERS: i64 = 256;
/// The most colours a picture may have.
const COLOURS: i64 = 64;
/// The longest side of a patch, in pixels.
const PATCH: i64 = 1024;
/// The longest side of a picture, in pixels.
const SIDE: i64 = 16_384;
/// What `hidden_act` may be; the position decides in [`activation`].
const ACTIVATIONS: [&str; 5] = ["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "silu"];

/// The config, read and checked.
struct Shape {
    colours: i64,
    side: i64,
    patch: i64,
    width: i64,
    hidden: i64,
    layers: i64,
    heads: i64,
    projection: i64,
    eps: f32,
    activation: usize,
}

impl Shape {
    fn read(c: &Config<'_>) -> Result<Self> {
        let (width, heads) = (c.count("hidden_size", EXTENT)?, c.count("num_attention_heads", EXTENT)?);
        c.multiple("hidden_size", width, heads, "its attention heads")?;
        let (side, patch) = (c.count("image_size", SIDE)?, c.count("patch_size", PATCH)?);
        if patch > side {
            return Err(c.unsupported("patch_size", c.get("patch_size")?, "no more than `image_size`").into());
        }
        Ok(Self {
            colours: c.count_or("num_channels", COLOURS, 3)?,
            hidden: c.count("intermediate_size", EXTENT)?,
            layers: c.count("num_hidden_layers", LAYERS)?,
            projection: c.count("projection_dim", EXTENT)?,
            eps: c.positive_or("layer_norm_eps", 1e-5)?,
            activation: c.kind("hidden_act", &ACTIVATIONS)?,
            side,
            patch,
            width,
            heads,
        })
    }

    /// Patches along one side; pixels beyond the last whole patch are not seen.
    fn grid(&self) -> i64 {
        self.side / self.patch
    }
}

/// Builds the graph; see [`super::architectures`] for its inputs and outputs.
pub(super) fn build(b: &mut Builder, config: &Config<'_>) -> Result<()> {
    let shape = Shape::read(config)?;
    let batch = Dim::symbol("batch");
    let pixels = b.input("pixel_values", dims![batch, shape.colours, shape.side, shape.side]);
    b.enter_group("layers");
    let x = b.within("vision_model", |b| {
        let x = b.within("embeddings", |b| embeddings(b, &shape, pixels, &batch))?;
        let mut x = b.layer_norm("pre_layrnorm", x, shape.eps)?; // spelt so in the stored weights
        for i in 0..shape.layers {
            x = b.within(format_args!("encoder.layers.{i}"), |b| layer(b, &shape, x))?;
        }
        let class = b.op("class_token", Op::Slice { axis: 1, start: 0.into(), end: 1.into() }, &[x])?;
        let class = b.reshape("class_vector", class, dims![batch, shape.width])?;
        b.layer_norm("post_layernorm", class, shape.eps)
    })?;
    let x = b.linear("visual_projection", x, shape.projection, false)?;
    b.output("image_embeds", x);
    Ok(())
}

/// One token a patch behind the class token, each with its position: `[batch, 1 + patches, width]`.
fn embeddings(b: &mut Builder, shape: &Shape, pixels: Outlet, batch: &Dim) -> Result<Outlet> {
    let (width, patches) = (shape.width, shape.grid() * shape.grid());
    let x = b.conv("patch_embedding", pixels, width, Conv::square(shape.patch, shape.patch, 0), false)?;
    let x = b.reshape("flatten", x, dims![batch, width, patches])?;
    let x = b.transpose("channels_last", x, &[0, 2, 1])?;
    let class = b.param("class_embedding", &[width]);
    let class = b.expand("class_per_picture", class, dims![batch, 1, width])?;
    let x = b.op("tokens", Op::Concat { axis: 1 }, &[class, x])?;
    let positions = b.param("position_embedding.weight", &[1 + patches, width]);
    b.add("add_positions", x, positions)
}

fn layer(b: &mut Builder, shape: &Shape, x: Outlet) -> Result<Outlet> {
    let y = b.layer_norm("layer_norm1", x, shape.eps)?;
    let y = b.within("self_attn", |b| {
        let q = b.linear("q_proj", y, shape.width, true)?;
        let k = b.linear("k_proj", y, shape.width, true)?;
        let v = b.linear("v_proj", y, shape.width, true)?;
        let y = b.attention("attention", q, k, v, shape.heads)?;
        b.linear("out_proj", y, shape.width, true)
    })?;
    let x = b.add("add_attention", x, y)?;
    let y = b.layer_norm("layer_norm2", x, shape.eps)?;
    let y = b.within("mlp", |b| {
        let y = b.linear("fc1", y, shape.hidden, true)?;
        let y = activation(b, shape.activation, y)?;
        b.linear("fc2", y, shape.width, true)
    })?;
    b.add("add_mlp", x, y)
}

/// The activation at `index` of [`ACTIVATIONS`].
fn activation(b: &mut Builder, index: usize, x: Outlet) -> Result<Outlet> {
    match ACTIVATIONS[index] {
        "gelu" => b.op("act", Op::Gelu { tanh: false }, &[x]),
        "silu" => b.op("act", Op::Silu, &[x]),
        "quick_gelu" => quick_gelu(b, x),
        _ => b.op("act", Op::Gelu { tanh: true }, &[x]),
    }
}

/// `x · sigmoid(1.702 x)`, in standard operators.
fn quick_gelu(b: &mut Builder, x: Outlet) -> Result<Outlet> {
    let alpha = b.literal(&[1.702]);
    let scaled = b.mul("act_scale", x, alpha)?;
    let gate = b.unary("act_gate", Unary::Sigmoid, scaled)?;
    b.mul("act", x, gate)
}
