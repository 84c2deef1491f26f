//! The parts that a U-net and an auto-encoder share: residual blocks over pixels and over frames, their blend, the change of
//! resolution, and sinusoidal embeddings of numbers.
//!
//! Pictures are `[n, c, h, w]` with n = batch·frames; what works over frames sees `[batch, c, frames, h, w]`.

use super::builder::{Builder, GROUPS, dims};
use crate::diag::Result;
use crate::ir::op::{Binary, Conv, GroupNorm, Unary};
use crate::ir::{Dim, Op, Outlet};

/// Group normalisation with the usual number of groups.
pub(super) fn norm(eps: f32) -> GroupNorm {
    GroupNorm { groups: GROUPS, eps, silu: false }
}

/// Group normalisation directly followed by `x · sigmoid(x)`.
pub(super) fn norm_silu(eps: f32) -> GroupNorm {
    GroupNorm { silu: true, ..norm(eps) }
}

/// A 3×3 convolution that keeps the size.
pub(super) fn conv3(b: &mut Builder, name: &str, x: Outlet, out: i64) -> Result<Outlet> {
    b.conv(name, x, out, Conv::square(3, 1, 1), true)
}

/// The outer axes of a video.
#[derive(Clone, Debug)]
pub(super) struct Video {
    pub(super) batch: Dim,
    pub(super) frames: Dim,
}

impl Video {
    /// The two axes by their symbols.
    pub(super) fn symbolic() -> Self {
        Self { batch: Dim::symbol("batch"), frames: Dim::symbol("frames") }
    }

    /// Pictures in a batch of videos.
    pub(super) fn pictures(&self) -> Dim {
        &self.batch * &self.frames
    }

    /// `[batch·frames, c, h, w]` to `[batch, c, frames, h, w]`.
    pub(super) fn to_volume(&self, b: &mut Builder, x: Outlet) -> Result<Outlet> {
        let [_, c, h, w] = picture_shape(b, x);
        let x = b.reshape("split_frames", x, dims![self.batch, self.frames, c, h, w])?;
        b.transpose("frames_inward", x, &[0, 2, 1, 3, 4])
    }

    /// `[batch, c, frames, h, w]` to `[batch·frames, c, h, w]`.
    pub(super) fn to_pictures(&self, b: &mut Builder, x: Outlet) -> Result<Outlet> {
        let (c, h, w) = (b.shape(x)[1].clone(), b.shape(x)[3].clone(), b.shape(x)[4].clone());
        let x = b.transpose("frames_outward", x, &[0, 2, 1, 3, 4])?;
        b.reshape("join_frames", x, dims![self.pictures(), c, h, w])
    }
}

/// The shape of a batch of pictures. Only called on what these builders made, which has four axes.
pub(super) fn picture_shape(b: &Builder, x: Outlet) -> [Dim; 4] {
    b.shape(x).to_vec().try_into().expect("a batch of pictures has four axes")
}

/// What shapes a residual block besides its input.
#[derive(Clone, Debug)]
pub(super) struct ResBlock {
    /// Channels it yields.
    pub(super) out: i64,
    /// Added to the variance in the norms over pixels.
    pub(super) eps: f32,
    /// Added to the variance in the norms over frames.
    pub(super) temporal_eps: f32,
    /// The activated time embedding `[batch, e]`, if blocks are told the time.
    pub(super) embedding: Option<Outlet>,
    /// Which half does the learned factor weigh?
    pub(super) blend: Blend,
}

/// Which half of a blend is weighed by sigmoid(factor); the other gets 1 minus that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blend {
    /// The half over pixels: the denoiser.
    Spatial,
    /// The half over frames: the decoder.
    Temporal,
}

/// A residual block over pixels; `x` and the result are `[n, c, h, w]`. With an embedding, n = batch·frames of `video`.
pub(super) fn resnet(b: &mut Builder, x: Outlet, block: &ResBlock, video: Option<&Video>) -> Result<Outlet> {
    let h = b.group_norm("norm1", x, norm_silu(block.eps))?;
    let mut h = conv3(b, "conv1", h, block.out)?;
    if let (Some(embedding), Some(video)) = (block.embedding, video) {
        h = add_to_pictures(b, h, embedding, video)?;
    }
    let h = b.group_norm("norm2", h, norm_silu(block.eps))?;
    let h = conv3(b, "conv2", h, block.out)?;
    let widens = b.extent(x, 1) != block.out;
    let shortcut = if widens { b.conv("conv_shortcut", x, block.out, Conv::square(1, 1, 0), true)? } else { x };
    b.add("residual", shortcut, h)
}

/// All frames of a video share its embedding, so it is projected once a video and added through a view that has the frames
/// as an axis.
fn add_to_pictures(b: &mut Builder, h: Outlet, embedding: Outlet, video: &Video) -> Result<Outlet> {
    let [n, c, height, width] = picture_shape(b, h);
    let projected = b.linear("time_emb_proj", embedding, b.extent(h, 1), true)?;
    let projected = b.reshape("time_emb_view", projected, dims![video.batch, 1, c, 1, 1])?;
    let view = b.reshape("split_frames", h, dims![video.batch, video.frames, c, height, width])?;
    let sum = b.add("add_time_emb", view, projected)?;
    b.reshape("join_frames", sum, dims![n, c, height, width])
}

/// A residual block over frames; `x` and the result are `[batch, c, frames, h, w]`.
fn temporal_resnet(b: &mut Builder, x: Outlet, block: &ResBlock, video: &Video) -> Result<Outlet> {
    let h = b.group_norm("norm1", x, norm_silu(block.temporal_eps))?;
    let mut h = b.temporal_conv("conv1", h, block.out)?;
    if let Some(embedding) = block.embedding {
        let projected = b.linear("time_emb_proj", embedding, block.out, true)?;
        let projected = b.reshape("time_emb_view", projected, dims![video.batch, block.out, 1, 1, 1])?;
        h = b.add("add_time_emb", h, projected)?;
    }
    let h = b.group_norm("norm2", h, norm_silu(block.temporal_eps))?;
    let h = b.temporal_conv("conv2", h, block.out)?;
    b.add("residual", x, h)
}

/// A residual block over pixels, then one over frames, then their blend.
pub(super) fn spatio_temporal_resnet(b: &mut Builder, x: Outlet, block: &ResBlock, video: &Video) -> Result<Outlet> {
    let x = b.within("spatial_res_block", |b| resnet(b, x, block, Some(video)))?;
    let spatial = video.to_volume(b, x)?;
    let temporal = b.within("temporal_res_block", |b| temporal_resnet(b, spatial, block, video))?;
    let x = blend(b, spatial, temporal, block.blend)?;
    video.to_pictures(b, x)
}

/// `s·x + (1 - s)·y` with s = sigmoid(the module's factor).
pub(super) fn blend(b: &mut Builder, spatial: Outlet, temporal: Outlet, weighed: Blend) -> Result<Outlet> {
    b.within("time_mixer", |b| {
        let factor = b.param("mix_factor", &[1]);
        let s = b.unary("weight", Unary::Sigmoid, factor)?;
        let one = b.literal(&[1.0]);
        let rest = b.binary("rest", Binary::Sub, one, s)?;
        let (for_spatial, for_temporal) = match weighed {
            Blend::Spatial => (s, rest),
            Blend::Temporal => (rest, s),
        };
        let spatial = b.mul("spatial", for_spatial, spatial)?;
        let temporal = b.mul("temporal", for_temporal, temporal)?;
        b.add("blend", spatial, temporal)
    })
}

/// Half the resolution by a strided convolution. `pads` are the zeros around the picture: (1, 1) in the denoiser, (0, 1) in
/// the encoder.
pub(super) fn downsample(b: &mut Builder, x: Outlet, pads: (i64, i64)) -> Result<Outlet> {
    let conv = Conv { pads: vec![pads; 2], ..Conv::square(3, 2, 0) };
    let out = b.extent(x, 1);
    b.within("downsamplers.0", |b| b.conv("conv", x, out, conv, true))
}

/// Twice the resolution: each pixel becomes four, then a convolution.
pub(super) fn upsample(b: &mut Builder, x: Outlet) -> Result<Outlet> {
    let out = b.extent(x, 1);
    b.within("upsamplers.0", |b| {
        let x = b.op("nearest", Op::Upsample { factors: vec![1, 1, 2, 2] }, &[x])?;
        conv3(b, "conv", x, out)
    })
}

/// Numbers as waves: `[…]` to `[…, size]`, cosines first, then sines, of x·10000^(-i / half) for i in 0..half.
pub(super) fn sinusoid(b: &mut Builder, name: &str, x: Outlet, size: i64) -> Result<Outlet> {
    let half = size / 2;
    let frequencies: Vec<f32> = (0..half).map(|i| libm::exp(-libm::log(10_000.0) * i as f64 / half as f64) as f32).collect();
    let mut shape = b.shape(x).to_vec();
    shape.push(1.into());
    b.within(name, |b| {
        let x = b.reshape("column", x, shape)?;
        let frequencies = b.literal(&frequencies);
        let angles = b.mul("angles", x, frequencies)?;
        let cos = b.unary("cos", Unary::Cos, angles)?;
        let sin = b.unary("sin", Unary::Sin, angles)?;
        let axis = b.shape(angles).len() - 1;
        b.op("waves", Op::Concat { axis }, &[cos, sin])
    })
}

/// The two-layer perceptron behind every sinusoid.
pub(super) fn embedding_mlp(b: &mut Builder, name: &str, x: Outlet, hidden: i64, out: i64) -> Result<Outlet> {
    b.within(name, |b| {
        let x = b.linear("linear_1", x, hidden, true)?;
        let x = b.op("silu", Op::Silu, &[x])?;
        b.linear("linear_2", x, out, true)
    })
}

/// Attention of the pixels of a picture among themselves, one head as wide as the picture has channels.
pub(super) fn picture_attention(b: &mut Builder, x: Outlet, eps: f32) -> Result<Outlet> {
    let [n, c, h, w] = picture_shape(b, x);
    let channels = b.extent(x, 1);
    let tokens = b.group_norm("group_norm", x, norm(eps))?;
    let tokens = b.reshape("flatten", tokens, dims![n, c, &h * &w])?;
    let tokens = b.transpose("channels_last", tokens, &[0, 2, 1])?;
    let q = b.linear("to_q", tokens, channels, true)?;
    let k = b.linear("to_k", tokens, channels, true)?;
    let v = b.linear("to_v", tokens, channels, true)?;
    let tokens = b.attention("attention", q, k, v, 1)?;
    let tokens = b.linear("to_out.0", tokens, channels, true)?;
    let tokens = b.transpose("channels_first", tokens, &[0, 2, 1])?;
    let tokens = b.reshape("unflatten", tokens, vec![n, c, h, w])?;
    b.add("residual", tokens, x)
}
