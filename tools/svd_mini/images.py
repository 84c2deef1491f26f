"""The image encoder, CLIP's class with seeded random weights that are not trained, and what the U-net is given of a clip.

Its embedding is one vector a picture, a random feature of it; the U-net gets what it needs from the first frame's latents.
Stable Video Diffusion has this input, so that a compiler's test model needs it too.
"""

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

import codec
from data import NOISE_AUG, mean_difference, time_ids

SEED = 20250


def build_image_encoder() -> CLIPVisionModelWithProjection:
    """224x224 pictures to 64 numbers, 3 layers of width 64, the same weights every time."""
    config = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, projection_dim=64,
        image_size=224, patch_size=16, hidden_act="gelu",
    )  # fmt: skip
    state = torch.random.get_rng_state()
    torch.manual_seed(SEED)
    model = CLIPVisionModelWithProjection(config)
    with torch.no_grad():
        # The class's own initial deviations (0.02) would give every picture the same embedding.
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    torch.random.set_rng_state(state)
    return model.half().float()


def build_processor() -> CLIPImageProcessor:
    """CLIP's own mean and deviation; the pipeline resizes by itself."""
    return CLIPImageProcessor(crop_size={"height": 224, "width": 224}, size={"shortest_edge": 224})


@torch.no_grad()
def embed(model: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures [n, 3, h, w] in [-1, 1] to contexts [n, 1, 64], as the pipeline prepares them."""
    processor = build_processor()
    resized = (_resize_with_antialiasing(pictures, (224, 224)) + 1) / 2
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    return model((resized - mean) / deviation).image_embeds[:, None]


def condition(clips: torch.Tensor, encoder: nn.Module, rng: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Clips [n, f, 3, h, w] to (latents, first frames' latents over all frames, context [n, 1, 64], time ids [n, 3])."""
    count, frames = clips.shape[:2]
    latents = codec.encode(clips.flatten(0, 1)).unflatten(0, (count, frames))
    first = clips[:, 0]
    noisy = first + NOISE_AUG * torch.randn(first.shape, generator=rng)
    image = codec.encode(noisy)[:, None].expand(-1, frames, -1, -1, -1)
    return latents, image, embed(encoder, first), time_ids(mean_difference(clips))
