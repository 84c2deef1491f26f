//! The auto-encoder of Stable Video Diffusion: an encoder of single pictures and a decoder that also looks along the frames.
//!
//! Both are stored in one file: the encoder's parameters below `encoder` and `quant_conv`, the decoder's below `decoder`.

use serde_json::json;

use super::blocks::{Blend, ResBlock, Video, conv3, downsample, norm_silu, picture_attention, resnet, spatio_temporal_resnet, upsample};
use super::builder::{Builder, GROUPS, dims};
use super::config::{Config, EXTENT, REPEATS};
use crate::diag::Result;
use crate::ir::op::Conv;
use crate::ir::{Dim, Op, Outlet};

/// Added to the variance in every norm over pixels.
const EPS: f32 = 1e-6;
/// Added to the variance in the decoder's norms over frames.
const TEMPORAL_EPS: f32 = 1e-5;

/// The config, read and checked.
struct Shape {
    channels: Vec<i64>,
    latent: i64,
    resnets: i64,
}

impl Shape {
    fn read(c: &Config<'_>) -> Result<Self> {
        for (key, only) in [("act_fn", json!("silu")), ("norm_num_groups", json!(GROUPS)), ("mid_block_add_attention", json!(true))] {
            c.fixed(key, &only)?;
        }
        let channels = c.levels("block_out_channels", EXTENT)?;
        for (i, width) in channels.iter().enumerate() {
            c.multiple(&format!("block_out_channels[{i}]"), *width, GROUPS, "the groups of a norm")?;
        }
        Ok(Self { channels, latent: c.count("latent_channels", EXTENT)?, resnets: c.count("layers_per_block", REPEATS)? })
    }

    /// The coarsest level, where the latents are.
    fn last(&self) -> usize {
        self.channels.len() - 1
    }

    /// The sides of a picture, and of its latents.
    fn sides(&self) -> ([Dim; 2], [Dim; 2]) {
        let latent = [Dim::symbol("h"), Dim::symbol("w")];
        (latent.clone().map(|d| d * (1_i64 << self.last())), latent)
    }
}

/// A residual block of the auto-encoder, which is told no time.
fn res_block(out: i64) -> ResBlock {
    ResBlock { out, eps: EPS, temporal_eps: TEMPORAL_EPS, embedding: None, blend: Blend::Temporal }
}

/// Builds the encoder; its result is the mode of the latents' distribution, not scaled.
pub(super) fn encoder(b: &mut Builder, config: &Config<'_>) -> Result<()> {
    let shape = Shape::read(config)?;
    config.kinds("down_block_types", &["DownEncoderBlock2D"], shape.channels.len())?;
    config.fixed("use_quant_conv", &json!(true))?;
    b.needs_f32(config.get("force_upcast").is_ok_and(|v| v == &json!(true)));
    let pictures = config.count("in_channels", EXTENT)?;
    let ([height, width], _) = shape.sides();
    let image = b.input("image", dims![Dim::symbol("batch"), pictures, height, width]);
    let moments = b.within("encoder", |b| encode(b, &shape, image))?;
    // Mean and logarithm of the variance, side by side on the channels.
    let moments = b.conv("quant_conv", moments, 2 * shape.latent, Conv::square(1, 1, 0), true)?;
    let mode = b.op("mode", Op::Slice { axis: 1, start: 0.into(), end: shape.latent.into() }, &[moments])?;
    b.output("image_latents", mode);
    Ok(())
}

fn encode(b: &mut Builder, shape: &Shape, image: Outlet) -> Result<Outlet> {
    b.enter_level(0);
    let mut x = conv3(b, "conv_in", image, shape.channels[0])?;
    for (level, out) in shape.channels.iter().enumerate() {
        b.enter_level(level);
        x = b.within(format_args!("down_blocks.{level}"), |b| {
            for i in 0..shape.resnets {
                x = b.within(format_args!("resnets.{i}"), |b| resnet(b, x, &res_block(*out), None))?;
            }
            // Zeros only below and to the right: the published model was trained with them.
            if level < shape.last() { downsample(b, x, (0, 1)) } else { Ok(x) }
        })?;
    }
    b.enter_group("mid");
    x = b.within("mid_block", |b| middle(b, x, 2, |b, x| resnet(b, x, &res_block(b.extent(x, 1)), None)))?;
    b.enter_level(shape.last());
    x = b.group_norm("conv_norm_out", x, norm_silu(EPS))?;
    conv3(b, "conv_out", x, 2 * shape.latent)
}

/// Up to two residual blocks with attention between them. There is one attention whatever the number of blocks, and no block
/// runs behind the second.
fn middle(b: &mut Builder, x: Outlet, blocks: i64, block: impl Fn(&mut Builder, Outlet) -> Result<Outlet>) -> Result<Outlet> {
    let x = b.within("resnets.0", |b| block(b, x))?;
    if blocks < 2 {
        return Ok(x);
    }
    let x = b.within("attentions.0", |b| picture_attention(b, x, EPS))?;
    b.within("resnets.1", |b| block(b, x))
}

/// Builds the decoder; it takes latents already divided by the scaling factor.
pub(super) fn temporal_decoder(b: &mut Builder, config: &Config<'_>) -> Result<()> {
    let shape = Shape::read(config)?;
    let pictures = config.count("out_channels", EXTENT)?;
    let video = Video::symbolic();
    let ([height, width], [h, w]) = shape.sides();
    let latents = b.input("latents", dims![video.batch, video.frames, shape.latent, h, w]);
    b.enter_level(shape.last());
    let x = b.reshape("join_frames", latents, dims![video.pictures(), shape.latent, h, w])?;
    let x = b.within("decoder", |b| decode(b, &shape, x, pictures, &video))?;
    let x = b.reshape("split_frames", x, dims![video.batch, video.frames, pictures, height, width])?;
    b.output("frames_out", x);
    Ok(())
}

fn decode(b: &mut Builder, shape: &Shape, x: Outlet, pictures: i64, video: &Video) -> Result<Outlet> {
    let widest = shape.channels[shape.last()];
    let mut x = conv3(b, "conv_in", x, widest)?;
    b.enter_group("mid");
    let block = |b: &mut Builder, x: Outlet| spatio_temporal_resnet(b, x, &res_block(widest), video);
    x = b.within("mid_block", |b| middle(b, x, shape.resnets, block))?;
    for (i, level) in (0..shape.channels.len()).rev().enumerate() {
        x = b.within(format_args!("up_blocks.{i}"), |b| decoder_level(b, shape, x, level, video))?;
    }
    b.enter_level(0);
    x = b.group_norm("conv_norm_out", x, norm_silu(EPS))?;
    x = conv3(b, "conv_out", x, pictures)?;
    x = video.to_volume(b, x)?;
    x = b.temporal_conv("time_conv_out", x, pictures)?;
    video.to_pictures(b, x)
}

fn decoder_level(b: &mut Builder, shape: &Shape, mut x: Outlet, level: usize, video: &Video) -> Result<Outlet> {
    b.enter_level(level);
    for i in 0..=shape.resnets {
        let block = res_block(shape.channels[level]);
        x = b.within(format_args!("resnets.{i}"), |b| spatio_temporal_resnet(b, x, &block, video))?;
    }
    if level == 0 {
        return Ok(x);
    }
    b.enter_level(level - 1); // what it yields is as large as the next level
    upsample(b, x)
}
