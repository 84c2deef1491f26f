//! The spatio-temporal transformer: tokens of one frame attend to each other and to the context, then the same pixel of all
//! frames, then both are blended.
//!
//! Tokens over pixels are `[batch·frames, h·w, c]`, tokens over frames `[batch·h·w, frames, c]`.

use super::blocks::{Blend, Video, blend, embedding_mlp, norm, picture_shape, sinusoid};
use super::builder::{Builder, dims};
use crate::diag::Result;
use crate::ir::{Dim, Op, Outlet};

/// Added to the variance in the group norm at the door.
const GROUP_EPS: f32 = 1e-6;
/// Added to the variance in every layer norm.
const LAYER_EPS: f32 = 1e-5;
/// The feed-forward part is this much wider than the tokens.
const WIDENING: i64 = 4;

/// What shapes a transformer besides its input.
#[derive(Clone, Debug)]
pub(super) struct Transformer {
    /// Attention heads.
    pub(super) heads: i64,
    /// Pairs of blocks, one over pixels and one over frames.
    pub(super) layers: i64,
    /// What is attended to.
    pub(super) context: Context,
}

/// The conditioning, in the two forms in which it is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Once a video, `[batch, 1, x]`.
    pub(super) per_video: Outlet,
    /// Repeated over the frames, `[batch·frames, 1, x]`.
    pub(super) per_picture: Outlet,
}

/// `x` and the result are `[batch·frames, c, h, w]`.
pub(super) fn spatio_temporal_transformer(b: &mut Builder, x: Outlet, t: &Transformer, video: &Video) -> Result<Outlet> {
    let [n, c, h, w] = picture_shape(b, x);
    let channels = b.extent(x, 1);
    let tokens = b.group_norm("norm", x, norm(GROUP_EPS))?;
    let tokens = b.transpose("channels_last", tokens, &[0, 2, 3, 1])?;
    let tokens = b.reshape("flatten", tokens, dims![n, &h * &w, c])?;
    let mut tokens = b.linear("proj_in", tokens, channels, true)?;
    let positions = frame_positions(b, channels, &video.frames)?;
    for layer in 0..t.layers {
        let spatial = b.within(format_args!("transformer_blocks.{layer}"), |b| spatial_block(b, tokens, t.heads, t.context.per_picture))?;
        let temporal = over_frames(b, spatial, positions, layer, t, video)?;
        tokens = blend(b, spatial, temporal, Blend::Spatial)?;
    }
    let tokens = b.linear("proj_out", tokens, channels, true)?;
    let tokens = b.reshape("unflatten", tokens, dims![n, h, w, c])?;
    let tokens = b.transpose("channels_first", tokens, &[0, 3, 1, 2])?;
    b.add("residual", tokens, x)
}

/// The learned embedding of each frame's index, `[frames, c]`.
fn frame_positions(b: &mut Builder, channels: i64, frames: &Dim) -> Result<Outlet> {
    let index = b.op("frame_index", Op::Arange { len: frames.clone() }, &[])?;
    let waves = sinusoid(b, "time_proj", index, channels)?;
    embedding_mlp(b, "time_pos_embed", waves, WIDENING * channels, channels)
}

/// The block over frames, between the two changes of layout; `tokens` and the result are `[batch·frames, h·w, c]`.
fn over_frames(b: &mut Builder, tokens: Outlet, positions: Outlet, layer: i64, t: &Transformer, video: &Video) -> Result<Outlet> {
    let (pixels, c) = (b.shape(tokens)[1].clone(), b.shape(tokens)[2].clone());
    let (batch, frames) = (&video.batch, &video.frames);
    let positions = b.reshape("frame_positions", positions, dims![frames, 1, c])?;
    let x = b.reshape("split_frames", tokens, dims![batch, frames, pixels, c])?;
    let x = b.add("add_positions", x, positions)?;
    b.within(format_args!("temporal_transformer_blocks.{layer}"), |b| {
        let x = b.transpose("frames_inward", x, &[0, 2, 1, 3])?;
        let x = b.reshape("join_pixels", x, dims![batch * &pixels, frames, c])?;
        let x = temporal_block(b, x, t, batch, &pixels)?;
        let x = b.reshape("split_pixels", x, dims![batch, pixels, frames, c])?;
        let x = b.transpose("frames_outward", x, &[0, 2, 1, 3])?;
        b.reshape("join_frames", x, dims![video.pictures(), pixels, c])
    })
}

fn spatial_block(b: &mut Builder, x: Outlet, heads: i64, context: Outlet) -> Result<Outlet> {
    let x = self_attention(b, x, heads)?;
    let x = cross_attention(b, x, heads, |_| Ok(context))?;
    feed_forward(b, x, "norm3", "ff")
}

fn temporal_block(b: &mut Builder, x: Outlet, t: &Transformer, batch: &Dim, pixels: &Dim) -> Result<Outlet> {
    let x = feed_forward(b, x, "norm_in", "ff_in")?;
    let x = self_attention(b, x, t.heads)?;
    let x = cross_attention(b, x, t.heads, |b| context_per_pixel(b, t.context.per_video, batch, pixels))?;
    feed_forward(b, x, "norm3", "ff")
}

/// The context of the first frame, which is that of the whole video, for each pixel: `[batch·h·w, 1, x]`.
fn context_per_pixel(b: &mut Builder, context: Outlet, batch: &Dim, pixels: &Dim) -> Result<Outlet> {
    let size = b.shape(context)[2].clone();
    let context = b.expand("context_per_pixel", context, dims![batch, pixels, size])?;
    b.reshape("context_tokens", context, dims![batch * pixels, 1, size])
}

fn self_attention(b: &mut Builder, x: Outlet, heads: i64) -> Result<Outlet> {
    let normed = b.layer_norm("norm1", x, LAYER_EPS)?;
    let y = b.within("attn1", |b| attend(b, normed, normed, heads))?;
    b.add("add_attn1", y, x)
}

fn cross_attention(b: &mut Builder, x: Outlet, heads: i64, context: impl FnOnce(&mut Builder) -> Result<Outlet>) -> Result<Outlet> {
    let normed = b.layer_norm("norm2", x, LAYER_EPS)?;
    let context = context(b)?;
    let y = b.within("attn2", |b| attend(b, normed, context, heads))?;
    b.add("add_attn2", y, x)
}

fn attend(b: &mut Builder, x: Outlet, context: Outlet, heads: i64) -> Result<Outlet> {
    let channels = b.extent(x, 2);
    let q = b.linear("to_q", x, channels, false)?;
    let k = b.linear("to_k", context, channels, false)?;
    let v = b.linear("to_v", context, channels, false)?;
    let y = b.attention("attention", q, k, v, heads)?;
    b.linear("to_out.0", y, channels, true)
}

/// Norm, a gated perceptron, residual.
fn feed_forward(b: &mut Builder, x: Outlet, norm: &str, module: &str) -> Result<Outlet> {
    let channels = b.extent(x, 2);
    let y = b.layer_norm(norm, x, LAYER_EPS)?;
    let y = b.within(module, |b| {
        let y = b.linear("net.0.proj", y, 2 * WIDENING * channels, true)?;
        let y = b.op("net.0", Op::GeGlu, &[y])?;
        b.linear("net.2", y, channels, true)
    })?;
    b.add(&format!("add_{module}"), y, x)
}
