"""The tiny models that are exported: one function a family, of which each gives the module, the inputs by name at a size, and the open
axes.

Weights are random with a fixed seed. A module takes what a pipeline gives and returns one tensor; what turns a picture into tokens is
part of it, so that the counts of tokens are computed from height, width and frames as pipelines do.
"""

import torch
from torch import nn


class Unet(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, text):
        return self.model(sample, timestep, text, return_dict=False)[0]


class Motion(nn.Module):
    """The text is repeated for each frame, as the pipeline does."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, text):
        text = text[:, None].expand(-1, sample.shape[2], -1, -1).flatten(0, 1)
        return self.model(sample, timestep, text, return_dict=False)[0]


class Ltx(nn.Module):
    """Tokens are made here: [b, c, f, h, w] to [b, f·h·w, c] and back."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, text, mask):
        b, c, f, h, w = sample.shape
        tokens = sample.flatten(2).transpose(1, 2)
        out = self.model(
            tokens, text, timestep, encoder_attention_mask=mask, num_frames=f, height=h, width=w, return_dict=False
        )[0]
        return out.transpose(1, 2).reshape(b, -1, f, h, w)


class Cog(nn.Module):
    """The rotary table over frames, rows and columns is computed from the sizes."""

    def __init__(self, model, head):
        super().__init__()
        self.model, self.head = model, head

    def forward(self, sample, timestep, text):
        _, f, _, h, w = sample.shape
        parts = (self.head // 4, self.head // 8 * 3, self.head // 8 * 3)
        tables = []
        for n, d in zip((f, h // 2, w // 2), parts):
            frequency = 1.0 / (10000.0 ** (torch.arange(0, d, 2, dtype=torch.float32) / d))
            tables.append(torch.outer(torch.arange(n, dtype=torch.float32), frequency).repeat_interleave(2, dim=1))
        t, y, x = tables
        grid = (f, h // 2, w // 2)
        angles = torch.cat(
            [
                t[:, None, None, :].expand(*grid, -1),
                y[None, :, None, :].expand(*grid, -1),
                x[None, None, :, :].expand(*grid, -1),
            ],
            dim=-1,
        ).reshape(f * (h // 2) * (w // 2), -1)
        rotary = (angles.cos(), angles.sin())
        return self.model(sample, text, timestep, image_rotary_emb=rotary, return_dict=False)[0]


class Decoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, latents):
        return self.model.decode(latents, return_dict=False)[0]


def unet():
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        layers_per_block=1,
        sample_size=16,
    )
    shapes = lambda d: {"sample": (d["batch"], 4, d["height"], d["width"]), "timestep": (1,), "text": (d["batch"], 5, 8)}
    axes = {"sample": {0: "batch", 2: "height", 3: "width"}, "text": {0: "batch"}}
    return Unet(model), shapes, axes


def motion():
    from diffusers import UNetMotionModel

    model = UNetMotionModel(
        block_out_channels=(16, 32),
        norm_num_groups=16,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=16,
        num_attention_heads=2,
        layers_per_block=1,
        sample_size=16,
        motion_num_attention_heads=2,
        motion_max_seq_length=16,
    )
    shapes = lambda d: {"sample": (1, 4, d["frames"], d["height"], d["width"]), "timestep": (1,), "text": (1, 5, 16)}
    return Motion(model), shapes, {"sample": {2: "frames", 3: "height", 4: "width"}}


def ltx():
    from diffusers import LTXVideoTransformer3DModel

    model = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=16,
    )
    shapes = lambda d: {
        "sample": (1, 4, d["frames"], d["height"], d["width"]),
        "timestep": (1,),
        "text": (1, 6, 16),
        "mask": (1, 6),
    }
    return Ltx(model), shapes, {"sample": {2: "frames", 3: "height", 4: "width"}}


def wan():
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        rope_max_seq_len=32,
    )
    shapes = lambda d: {"sample": (1, 4, d["frames"], d["height"], d["width"]), "timestep": (1,), "text": (1, 7, 16)}
    return Unet(model), shapes, {"sample": {2: "frames", 3: "height", 4: "width"}}


def cogvideox():
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=8,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=6,
        use_rotary_positional_embeddings=True,
    )
    shapes = lambda d: {"sample": (1, d["frames"], 4, d["height"], d["width"]), "timestep": (1,), "text": (1, 6, 8)}
    return Cog(model, 16), shapes, {"sample": {1: "frames", 3: "height", 4: "width"}}


def kl_decoder():
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )
    shapes = lambda d: {"latents": (d["batch"], 4, d["height"], d["width"])}
    return Decoder(model), shapes, {"latents": {0: "batch", 2: "height", 3: "width"}}


def ltx_decoder():
    from diffusers import AutoencoderKLLTXVideo

    model = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=1,
        patch_size_t=1,
    )
    shapes = lambda d: {"latents": (1, 8, d["frames"], d["height"], d["width"])}
    return Decoder(model), shapes, {"latents": {2: "frames", 3: "height", 4: "width"}}


def wan_decoder():
    from diffusers import AutoencoderKLWan

    model = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )
    # It walks over the frames in Python, so their number is part of the file.
    shapes = lambda d: {"latents": (1, 4, 2, d["height"], d["width"])}
    return Decoder(model), shapes, {"latents": {3: "height", 4: "width"}}


def cogvideox_decoder():
    from diffusers import AutoencoderKLCogVideoX

    model = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    # As above.
    shapes = lambda d: {"latents": (1, 4, 2, d["height"], d["width"])}
    return Decoder(model), shapes, {"latents": {3: "height", 4: "width"}}


# Family: what makes it, and the two sizes at which it is compared. The first is the one that it is exported at.
IMAGE = [{"batch": 2, "height": 16, "width": 12}, {"batch": 1, "height": 8, "width": 20}]
VIDEO = [{"frames": 4, "height": 8, "width": 12}, {"frames": 3, "height": 16, "width": 6}]
FAMILIES = {
    "UNet2DConditionModel": (unet, IMAGE),
    "UNetMotionModel": (motion, [{"frames": 4, "height": 8, "width": 12}, {"frames": 3, "height": 16, "width": 6}]),
    "LTXVideoTransformer3DModel": (ltx, VIDEO),
    "WanTransformer3DModel": (wan, VIDEO),
    "CogVideoXTransformer3DModel": (cogvideox, VIDEO),
    "AutoencoderKL": (kl_decoder, [{"batch": 2, "height": 8, "width": 6}, {"batch": 1, "height": 5, "width": 9}]),
    "AutoencoderKLLTXVideo": (ltx_decoder, [{"frames": 3, "height": 4, "width": 6}, {"frames": 2, "height": 5, "width": 3}]),
    "AutoencoderKLWan": (wan_decoder, [{"height": 4, "width": 6}, {"height": 5, "width": 3}]),
    "AutoencoderKLCogVideoX": (cogvideox_decoder, [{"height": 4, "width": 6}, {"height": 6, "width": 3}]),
}


def module(family):
    """The module with seeded weights, the shapes of its inputs at a size, its open axes."""
    torch.manual_seed(0)
    model, shapes, axes = FAMILIES[family][0]()
    return model.eval(), shapes, axes


def plain_rms_norm(x, normalized_shape, weight=None, eps=None):
    """What `torch.nn.functional.rms_norm` computes, in operators that the legacy exporter has."""
    scaled = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    return scaled if weight is None else scaled * weight


def make_plain(module):
    """The same in operators that the legacy exporter has."""
    torch.nn.functional.rms_norm = plain_rms_norm
    for part in module.modules():
        # By whole factors both copy.
        if isinstance(part, nn.Upsample) and part.mode == "nearest-exact":
            part.mode = "nearest"


def inputs(shapes, size):
    """Seeded inputs at a size, by name."""
    generator = torch.Generator().manual_seed(1)
    out = {}
    for name, shape in shapes(size).items():
        if name == "mask":
            out[name] = torch.ones(shape)
            out[name][:, -2:] = 0.0
        elif name == "timestep":
            out[name] = torch.full(shape, 321.0)
        else:
            out[name] = torch.randn(shape, generator=generator)
    return out
