"""The sampler of the pipeline (Euler over Karras sigmas), and a strip of frames to look at.

`python sample.py MODEL CLIPS OUT.png` samples some held-out clips with the diffusers folder MODEL; each pair of rows is the
true clip and the sample from its first frame.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from PIL import Image
from torch import nn

import codec
from data import Clips
from images import build_image_encoder, condition

SIGMA_MAX, SIGMA_MIN, RHO = 80.0, 0.002, 7.0


def karras(steps: int) -> torch.Tensor:
    """The scheduler's sigmas, [steps + 1] with a zero at the end."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    ends = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return torch.cat([(ends[0] + ramp * (ends[1] - ends[0])) ** RHO, torch.zeros(1, dtype=torch.float64)]).float()


@torch.no_grad()
def sample(unet: nn.Module, given: tuple[torch.Tensor, ...], steps: int, guidance: float, seed: int) -> torch.Tensor:
    """Latents [n, frames, 8, h, w] for (image latents over all frames, context, time ids), as the pipeline makes them.

    Guidance rises from 1 at the first frame to `guidance` at the last; at 1 the unconditional half is not computed.
    """
    image, context, ids = given
    generator = torch.Generator().manual_seed(seed)
    sigmas = karras(steps)
    latents = torch.randn(image.shape, generator=generator).to(image.device) * (sigmas[0] ** 2 + 1).sqrt()
    scale = torch.linspace(1, guidance, image.shape[1], device=image.device)[:, None, None, None]
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        root = (sigma**2 + 1).sqrt()
        time = (0.25 * sigma.log()).expand(len(image)).to(image.device)
        v = unet(torch.cat([latents / root, image], dim=2), time, context, ids).sample
        if guidance > 1:
            blank = unet(torch.cat([latents / root, 0 * image], dim=2), time, 0 * context, ids).sample
            v = blank + scale * (v - blank)
        clean = latents / root**2 - v * sigma / root
        latents = latents + (latents - clean) / sigma * (after - sigma)
    return latents


@torch.no_grad()
def decode(vae: AutoencoderKLTemporalDecoder, latents: torch.Tensor) -> torch.Tensor:
    """Latents [n, frames, 8, h, w] to clips [n, frames, rgb, 8 h, 8 w] in [-1, 1], a clip at a time."""
    return torch.stack([vae.decode(clip, num_frames=len(clip)).sample.clamp(-1, 1) for clip in latents])


def load(model: Path) -> tuple[AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel]:
    """Autoencoder and U-net of a diffusers folder, in float32."""
    vae = AutoencoderKLTemporalDecoder.from_pretrained(model, subfolder="vae", variant="fp16").float().eval()
    unet = UNetSpatioTemporalConditionModel.from_pretrained(model, subfolder="unet", variant="fp16").float().eval()
    return vae, unet


def strip(rows: list[torch.Tensor]) -> Image.Image:
    """Clips [frames, rgb, h, w] below each other, their frames side by side."""
    lines = [torch.cat(list(clip), dim=-1) for clip in rows]
    pixels = ((torch.cat(lines, dim=-2) + 1) * 127.5).round().byte().permute(1, 2, 0)
    return Image.fromarray(pixels.numpy())


def look(unet: nn.Module, clips: Clips, encoder: nn.Module, out: Path) -> None:
    """Writes a strip of a held-out pan and a zoom, each above what the U-net makes of its first frame in 10 steps.

    Both through the codec's inverse transform alone: the autoencoder's decoder would take longer than the sampling.
    """
    picks = clips.of("pan")[:1] + clips.of("zoom")[:1]
    latents, image, context, ids = condition(clips.get(picks), encoder, torch.Generator().manual_seed(1))
    device = next(unet.parameters()).device
    made = sample(unet, (image.to(device), context.to(device), ids.to(device)), 10, 1.0, 1).cpu()
    rows = [codec.decode(clip).clamp(-1, 1)[::3] for pair in zip(latents, made, strict=True) for clip in pair]
    out.parent.mkdir(exist_ok=True)
    strip(rows).save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("clips", type=Path, help="the folder with held_out/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    vae, unet = load(options.model)
    held_out = Clips(options.clips / "held_out")
    picks = held_out.of("pan")[: options.count - options.count // 2] + held_out.of("zoom")[: options.count // 2]
    clips = held_out.get(picks)
    _, image, context, ids = condition(clips, build_image_encoder().eval(), torch.Generator().manual_seed(options.seed))
    samples = decode(vae, sample(unet, (image, context, ids), options.steps, options.guidance, options.seed))
    strip([row[::3] for pair in zip(clips, samples, strict=True) for row in pair]).save(options.out)


if __name__ == "__main__":
    main()
