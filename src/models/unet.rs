//! The denoiser of Stable Video Diffusion: a U-net over pictures whose blocks also look along the frames.
//!
//! Going down, every block keeps what it computed; going up, blocks take it back in reverse order. The epsilon of the residual
//! blocks is uneven in the published model and must stay so: see [`DOWN`] and [`UP`].

use super::blocks::{Blend, ResBlock, Video, conv3, downsample, embedding_mlp, norm_silu, sinusoid, spatio_temporal_resnet, upsample};
use super::builder::{Builder, GROUPS, dims};
use super::config::{Config, EXTENT, REPEATS};
use super::transformer::{Context, Transformer, spatio_temporal_transformer};
use crate::diag::Result;
use crate::ir::{Dim, Op, Outlet};

/// A kind of block: its name in the config, whether its resnets are followed by transformers, the epsilon of its resnets.
struct Kind {
    name: &'static str,
    attends: bool,
    eps: f32,
}

/// Blocks on the way down.
const DOWN: [Kind; 2] = [
    Kind { name: "DownBlockSpatioTemporal", attends: false, eps: 1e-5 },
    Kind { name: "CrossAttnDownBlockSpatioTemporal", attends: true, eps: 1e-6 },
];
/// Blocks on the way up.
const UP: [Kind; 2] = [
    Kind { name: "UpBlockSpatioTemporal", attends: false, eps: 1e-6 },
    Kind { name: "CrossAttnUpBlockSpatioTemporal", attends: true, eps: 1e-6 },
];
/// Added to the variance in the middle and in the last norm.
const EPS: f32 = 1e-5;

/// The config, read and checked.
struct Shape {
    in_channels: i64,
    out_channels: i64,
    channels: Vec<i64>,
    resnets: Vec<i64>,
    heads: Vec<i64>,
    layers: Vec<i64>,
    down: Vec<&'static Kind>,
    up: Vec<&'static Kind>,
    context: i64,
    id_size: i64,
    ids: i64,
}

impl Shape {
    fn read(c: &Config<'_>) -> Result<Self> {
        let channels = c.levels("block_out_channels", EXTENT)?;
        let n = channels.len();
        let heads = c.per_level("num_attention_heads", EXTENT, n)?;
        for (i, (width, heads)) in channels.iter().zip(&heads).enumerate() {
            let key = format!("block_out_channels[{i}]");
            c.multiple(&key, *width, GROUPS, "the groups of a norm")?;
            c.multiple(&key, *width, *heads, "its attention heads")?;
        }
        let contexts = c.per_level("cross_attention_dim", EXTENT, n)?;
        if contexts.iter().any(|x| *x != contexts[0]) {
            return Err(c.unsupported("cross_attention_dim", c.get("cross_attention_dim")?, "one size for all levels").into());
        }
        let id_size = c.count("addition_time_embed_dim", EXTENT)?;
        c.multiple("addition_time_embed_dim", id_size, 2, "a cosine and a sine each")?;
        let ids_size = c.count("projection_class_embeddings_input_dim", EXTENT)?;
        c.multiple("projection_class_embeddings_input_dim", ids_size, id_size, "the embedding of one id")?;
        Ok(Self {
            in_channels: c.count("in_channels", EXTENT)?,
            out_channels: c.count("out_channels", EXTENT)?,
            resnets: c.per_level("layers_per_block", REPEATS, n)?,
            layers: c.per_level("transformer_layers_per_block", REPEATS, n)?,
            down: kinds(c, "down_block_types", &DOWN, n)?,
            up: kinds(c, "up_block_types", &UP, n)?,
            context: contexts[0],
            ids: ids_size / id_size,
            id_size,
            heads,
            channels,
        })
    }

    fn levels(&self) -> usize {
        self.channels.len()
    }
}

fn kinds(c: &Config<'_>, key: &str, table: &'static [Kind; 2], levels: usize) -> Result<Vec<&'static Kind>> {
    let names: Vec<&str> = table.iter().map(|k| k.name).collect();
    Ok(c.kinds(key, &names, levels)?.into_iter().map(|i| &table[i]).collect())
}

/// Builds the graph; see [`super::architectures`] for its inputs and outputs.
pub(super) fn build(b: &mut Builder, config: &Config<'_>) -> Result<()> {
    let shape = Shape::read(config)?;
    let video = Video::symbolic();
    let grid = 1_i64 << (shape.levels() - 1);
    let (height, width) = (Dim::symbol("h") * grid, Dim::symbol("w") * grid);
    let sample = b.input("sample", dims![video.batch, video.frames, shape.in_channels, height, width]);
    let timestep = b.input("timestep", dims![1]);
    let context = b.input("encoder_hidden_states", dims![video.batch, 1, shape.context]);
    let ids = b.input("added_time_ids", dims![video.batch, shape.ids]);

    b.enter_group("io");
    let embedding = time_embedding(b, &shape, timestep, ids, &video)?;
    let context = Context { per_video: context, per_picture: context_per_picture(b, context, &video)? };
    let x = b.reshape("join_frames", sample, dims![video.pictures(), shape.in_channels, height, width])?;
    let x = conv3(b, "conv_in", x, shape.channels[0])?;

    let mut unet = Unet { b, shape: &shape, video: &video, embedding, context, skips: vec![x] };
    let x = unet.down(x)?;
    let x = unet.middle(x)?;
    let x = unet.up(x)?;

    b.enter_group("io");
    let x = b.group_norm("conv_norm_out", x, norm_silu(EPS))?;
    let x = conv3(b, "conv_out", x, shape.out_channels)?;
    let x = b.reshape("split_frames", x, dims![video.batch, video.frames, shape.out_channels, height, width])?;
    b.output("out_sample", x);
    Ok(())
}

/// The activated embedding of the timestep and the added ids, `[batch, e]`. Every block starts by activating it, so that is
/// done here, once.
fn time_embedding(b: &mut Builder, shape: &Shape, timestep: Outlet, ids: Outlet, video: &Video) -> Result<Outlet> {
    let (base, wide) = (shape.channels[0], 4 * shape.channels[0]);
    let time = sinusoid(b, "time_proj", timestep, base)?;
    let time = embedding_mlp(b, "time_embedding", time, wide, wide)?;
    let ids = sinusoid(b, "add_time_proj", ids, shape.id_size)?;
    let ids = b.reshape("join_ids", ids, dims![video.batch, shape.ids * shape.id_size])?;
    let ids = embedding_mlp(b, "add_embedding", ids, wide, wide)?;
    let sum = b.add("embedding", time, ids)?;
    b.op("embedding_silu", Op::Silu, &[sum])
}

/// `[batch, 1, x]` to `[batch·frames, 1, x]`.
fn context_per_picture(b: &mut Builder, context: Outlet, video: &Video) -> Result<Outlet> {
    let size = b.shape(context)[2].clone();
    let context = b.expand("context_per_frame", context, dims![video.batch, video.frames, size])?;
    b.reshape("context_tokens", context, dims![video.pictures(), 1, size])
}

/// The state of the walk down and up the U-net.
struct Unet<'a> {
    b: &'a mut Builder,
    shape: &'a Shape,
    video: &'a Video,
    embedding: Outlet,
    context: Context,
    skips: Vec<Outlet>,
}

impl Unet<'_> {
    fn down(&mut self, mut x: Outlet) -> Result<Outlet> {
        for level in 0..self.shape.levels() {
            self.b.enter_level(level);
            let kind = self.shape.down[level];
            for i in 0..self.shape.resnets[level] {
                x = self.layer(x, &format!("down_blocks.{level}"), i, level, kind)?;
                self.skips.push(x);
            }
            if level + 1 < self.shape.levels() {
                x = self.b.within(format_args!("down_blocks.{level}"), |b| downsample(b, x, (1, 1)))?;
                self.skips.push(x);
            }
        }
        Ok(x)
    }

    fn middle(&mut self, x: Outlet) -> Result<Outlet> {
        self.b.enter_group("mid");
        let level = self.shape.levels() - 1;
        let x = self.resnet(x, "mid_block", 0, level, EPS)?;
        let x = self.transformer(x, "mid_block", 0, level)?;
        self.resnet(x, "mid_block", 1, level, EPS)
    }

    fn up(&mut self, mut x: Outlet) -> Result<Outlet> {
        for (block, level) in (0..self.shape.levels()).rev().enumerate() {
            self.b.enter_level(level);
            let (path, kind) = (format!("up_blocks.{block}"), self.shape.up[block]);
            for i in 0..=self.shape.resnets[level] {
                let skip = self.skips.pop().expect("a level going up takes what the levels going down kept");
                x = self.b.within(&path, |b| b.op("skip", Op::Concat { axis: 1 }, &[x, skip]))?;
                x = self.layer(x, &path, i, level, kind)?;
            }
            if level > 0 {
                self.b.enter_level(level - 1); // what it yields is as large as the next level
                x = self.b.within(&path, |b| upsample(b, x))?;
            }
        }
        Ok(x)
    }

    /// A resnet and, if the kind of block says so, a transformer.
    fn layer(&mut self, x: Outlet, block: &str, i: i64, level: usize, kind: &Kind) -> Result<Outlet> {
        let x = self.resnet(x, block, i, level, kind.eps)?;
        if kind.attends { self.transformer(x, block, i, level) } else { Ok(x) }
    }

    fn resnet(&mut self, x: Outlet, block: &str, i: i64, level: usize, eps: f32) -> Result<Outlet> {
        let out = self.shape.channels[level];
        let block_shape = ResBlock { out, eps, temporal_eps: eps, embedding: Some(self.embedding), blend: Blend::Spatial };
        self.b.within(format_args!("{block}.resnets.{i}"), |b| spatio_temporal_resnet(b, x, &block_shape, self.video))
    }

    fn transformer(&mut self, x: Outlet, block: &str, i: i64, level: usize) -> Result<Outlet> {
        let t = Transformer { heads: self.shape.heads[level], layers: self.shape.layers[level], context: self.context };
        self.b.within(format_args!("{block}.attentions.{i}"), |b| spatio_temporal_transformer(b, x, &t, self.video))
    }
}
