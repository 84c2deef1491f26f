"""The U-net: how it starts, its loss, its training. Latents are [clips, frames, 8, 16, 16].

As in Stable Video Diffusion, with sigma the noise and x = x0 + sigma e: the network sees x / sqrt(sigma^2 + 1) beside the
first frame's latents, the timestep ln(sigma) / 4, and gives v with x0 = x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1).
The loss is the plain mean square of v's error, sigma is log-normal.
"""

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import nn

import codec
from data import Clips
from images import build_image_encoder, condition
from polite import Clock, Polite
from sample import look

P_MEAN, P_STD = 0.3, 1.6  # of ln(sigma)
DROP = 0.1  # share of the clips trained without their first frame, for guidance
STRIPS = 500  # steps between strips of sample frames
PROBES = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 50.0)  # sigmas of the held-out loss
CLEAR = 10.0  # K of the last normalisation, see codec.lift


def build_unet() -> UNetSpatioTemporalConditionModel:
    """The class at svd-mini's sizes. Level 0 has 96 channels, three to a group of the last normalisation."""
    channels = (codec.CHANNELS, 64, 64, 64)
    return UNetSpatioTemporalConditionModel(
        sample_size=16,
        in_channels=2 * codec.LATENTS,
        out_channels=codec.LATENTS,
        block_out_channels=channels,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        transformer_layers_per_block=1,
        cross_attention_dim=64,
        num_attention_heads=tuple(width // 32 for width in channels),
        num_frames=14,
    )


@torch.no_grad()
def write_start(unet: UNetSpatioTemporalConditionModel) -> None:
    """Makes the first output v = -(the first frame's latents), i.e. x0 is the first frame wherever noise is high.

    The way is conv_in, its skip to the last residual block, that block's 1x1 shortcut, the last normalisation. What
    else goes on starts random, with silent last layers.
    """
    codec.quiet(unet)
    count = codec.LATENTS
    unet.conv_in.weight[: 2 * count] = 0
    unet.conv_in.bias[: 2 * count] = 0
    for signal in range(2 * count):
        unet.conv_in.weight[signal, signal, 1, 1] = 1
    shortcut = unet.up_blocks[-1].resnets[-1].spatial_res_block.conv_shortcut
    skip = shortcut.in_channels - codec.CHANNELS
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    for signal in range(count):
        shortcut.weight[6 * signal] = 0
        shortcut.weight[6 * signal, skip + count + signal] = -1
        unet.conv_out.weight[signal, 6 * signal : 6 * signal + 6, 1, 1] = codec.lowered(CLEAR)
    codec.lift(shortcut.weight, shortcut.bias, CLEAR)


def v_error(unet: nn.Module, batch: tuple[torch.Tensor, ...], sigma: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Mean square error of v for each clip, [n]; `sigma` is [n]."""
    latents, image, context, ids = batch
    wide = sigma[:, None, None, None, None]
    root = (wide.square() + 1).sqrt()
    noisy = latents + wide * noise
    given = torch.cat([noisy / root, image], dim=2)
    v = unet(given, 0.25 * sigma.log(), context, ids).sample
    return (v - (noise - wide * latents) / root).square().mean((1, 2, 3, 4))


def held_out_batch(clips: Clips, encoder: nn.Module, count: int) -> tuple[torch.Tensor, ...]:
    """The first pans and zooms of the held-out clips, half each, always with the same noise on their pictures."""
    picks = clips.of("pan")[: count // 2] + clips.of("zoom")[: count // 2]
    return condition(clips.get(picks), encoder, torch.Generator().manual_seed(1))


@torch.no_grad()
def probe(unet: nn.Module, batch: tuple[torch.Tensor, ...]) -> list[float]:
    """The held-out loss at each of `PROBES`, with fixed noise."""
    noise = torch.randn(batch[0].shape, generator=torch.Generator().manual_seed(2))
    return [float(v_error(unet, batch, torch.full((len(noise),), sigma), noise).mean()) for sigma in PROBES]


class Average:
    """An exponential mean of a model's weights whose memory grows with the steps, up to `decay`."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).requires_grad_(False).eval(), decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), weight)


def train(options: argparse.Namespace) -> None:
    """Trains until `options.minutes` are over; the full state is in `options.work`/unet.pt, the log beside it."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    encoder = build_image_encoder().eval()
    clips = Clips(options.clips / "train")
    held_out = Clips(options.clips / "held_out")
    probes = tuple(part.to(device) for part in held_out_batch(held_out, encoder, 8))
    unet = build_unet()
    write_start(unet)
    if options.snapshot and (options.snapshot / "unet").exists():
        unet = UNetSpatioTemporalConditionModel.from_pretrained(options.snapshot, subfolder="unet", variant="fp16")
        unet = unet.float()
    unet.to(device).train()
    average = Average(unet, 0.999)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    step, seconds, samples = 0, 0.0, 0
    state_file = work / "unet.pt"
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        unet.load_state_dict(state["unet"])
        average.model.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds, samples = state["step"], state["seconds"], state["samples"]
    rng = torch.Generator().manual_seed(options.seed + step)
    polite, clock, running, saved = Polite(options.polite), Clock(options.minutes), None, -1 if step == 0 else step
    while True:
        done = clock.done()
        if step != saved and (step % options.every == 0 or done):
            saved = step
            values = probe(average.model, probes)
            elapsed = seconds + clock.worked()
            line = {"step": step, "samples": samples, "seconds": round(elapsed), "train": running}
            line |= {"held_out": round(sum(values) / len(values), 5), "by_sigma": [round(value, 4) for value in values]}
            with (work / "unet.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            parts = {"unet": unet.state_dict(), "average": average.model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(parts | {"step": step, "seconds": elapsed, "samples": samples}, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
            if step % STRIPS == 0:
                look(average.model, held_out, encoder, work / "strips" / f"{step:06}.png")
        if done:
            break
        clock.slept += polite.wait()
        frames = 7 if torch.rand((), generator=rng) < options.short else 14
        count = options.batch * 14 // frames
        latents, image, context, ids = condition(clips.random(rng, count, frames), encoder, rng)
        kept = (torch.rand(count, generator=rng) >= DROP).float()
        batch = (latents, image * kept[:, None, None, None, None], context * kept[:, None, None], ids)
        sigma = (P_MEAN + P_STD * torch.randn(count, generator=rng)).exp()
        noise = torch.randn(latents.shape, generator=rng)
        loss = v_error(unet, tuple(part.to(device) for part in batch), sigma.to(device), noise.to(device)).mean()
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1.0, (step + 1) / 100) / (1 + step / 2000) ** 0.5
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        step, samples = step + 1, samples + count
        average.update(unet, step)
        now = loss.item()
        running = round(now if running is None else 0.98 * running + 0.02 * now, 5)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `train.py` shares."""
    parser.add_argument("--clips", type=Path, required=True, help="folder with train/ and held_out/, each written by vidc bench scenarios")
    parser.add_argument("--work", type=Path, required=True, help="folder for logs and full training states")
    parser.add_argument("--snapshot", type=Path, help="diffusers folder to begin from where --work has no state")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--polite", action="store_true", help="sleep while others use the cores")


def start(parser: argparse.ArgumentParser, train: Callable[[argparse.Namespace], None]) -> None:
    """Reads the command line and trains."""
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(2)
    train(options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--batch", type=int, default=2, help="in clips of 14 frames; twice as many of 7")
    parser.add_argument("--rate", type=float, default=7e-4, help="falls with the root of the steps, whatever their number")
    parser.add_argument("--short", type=float, default=0.5, help="share of steps with 7 frames")
    parser.add_argument("--every", type=int, default=250, help="steps between logs and saved states")
    start(parser, train)


if __name__ == "__main__":
    main()
