"""The autoencoder: a fixed linear encoder (codec.py), a decoder fitted linearly first and then trained whole.

Pictures are [-1, 1]. Crops of 64x64 lie on whole 8x8 blocks, so that their latents are those of the whole picture.
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn

import codec
from data import Clips
from polite import Clock, Polite
from unet import Average, add_options, start

CROP = 64


def yardstick(pictures: torch.Tensor) -> torch.Tensor:
    """Three numbers a block without any learning: area-downsampled by 8, bicubic back."""
    small = F.interpolate(pictures, scale_factor=1 / 8, mode="area")
    return F.interpolate(small, scale_factor=8, mode="bicubic").clamp(-1, 1)


def psnr(truth: torch.Tensor, other: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of the mean square over everything."""
    return float(-10 * torch.log10(((truth - other.clamp(-1, 1)) / 2).square().mean()))


def crops(clips: Clips, rng: torch.Generator, count: int, frames: int) -> torch.Tensor:
    """Random crops [count, frames, rgb, 64, 64] with turned colours, mirrored either way."""
    cut = clips.random(rng, count, frames, CROP)
    return cut.flip(-1) if torch.rand((), generator=rng) < 0.5 else cut


def fit_linear(clips: Clips, rng: torch.Generator, steps: int) -> codec.LinearDecoder:
    """The trunk alone, by least squares; two minutes on two cores at 3,000 steps."""
    linear = codec.LinearDecoder()
    for conv in [linear.first, *linear.ups]:
        nn.init.zeros_(conv.bias)
        conv.bias.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in linear.parameters() if p.requires_grad], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        pictures = crops(clips, rng, 8, 1)[:, 0]
        loss = (linear(codec.encode(pictures)) - pictures).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return linear


def evaluation_sets(folder: Path) -> dict[str, torch.Tensor]:
    """Clips [n, 2 frames, rgb, 128, 128]: training pictures, held-out pictures, textures."""
    train, held_out = Clips(folder / "train"), Clips(folder / "held_out")
    sets = {}
    for name, clips, pictured in (("training pictures", train, True), ("held-out pictures", held_out, True), ("textures", held_out, False)):
        picks = [i for i, entry in enumerate(clips.entries) if (entry["camera"]["picture"] is not None) == pictured]
        picks = picks[:: max(1, len(picks) // 6)][:6]
        if picks:
            sets[name] = clips.get(picks, slice(0, 2))
    return sets


@torch.no_grad()
def evaluate(vae: AutoencoderKLTemporalDecoder, sets: dict[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    """PSNR in dB of the reconstruction and of the yardstick, for each set."""
    device = next(vae.parameters()).device
    result = {}
    for name, clips in sets.items():
        frames = clips.flatten(0, 1)
        latents = codec.encode(frames).to(device)
        decoded = torch.cat([vae.decode(part, num_frames=clips.shape[1]).sample for part in latents.split(clips.shape[1])])
        result[name] = (round(psnr(frames, decoded.cpu()), 2), round(psnr(frames, yardstick(frames)), 2))
    return result


def loss_of(truth: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean square (what PSNR counts), a little absolute error and the absolute error of differences (edges)."""
    error = other - truth
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return 4 * error.square().mean() + 0.25 * error.abs().mean() + 0.25 * edges


def train(options: argparse.Namespace) -> None:
    """Trains the decoder until `options.minutes` are over; the full state is in `options.work`/autoencoder.pt."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    clips, sets = Clips(options.clips / "train"), evaluation_sets(options.clips)
    state_file = work / "autoencoder.pt"
    vae = codec.build_autoencoder()
    codec.write_encoder(vae)
    step, seconds, samples = 0, 0.0, 0
    state = torch.load(state_file, map_location=device, weights_only=True) if state_file.exists() else None
    if state is None and options.snapshot and (options.snapshot / "vae").exists():
        vae = AutoencoderKLTemporalDecoder.from_pretrained(options.snapshot, subfolder="vae", variant="fp16").float()
    elif state is None:
        codec.write_decoder(vae, fit_linear(clips, torch.Generator().manual_seed(options.seed), options.linear_steps))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    vae.to(device).train()
    average = Average(vae, 0.998)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    if state is not None:
        vae.load_state_dict(state["vae"])
        average.model.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds, samples = state["step"], state["seconds"], state["samples"]
    rng = torch.Generator().manual_seed(options.seed + 1 + step)
    polite, clock, running, saved = Polite(options.polite), Clock(options.minutes), None, -1 if step == 0 else step
    while True:
        done = clock.done()
        if step != saved and (step % options.every == 0 or done):
            saved = step
            elapsed = seconds + clock.worked()
            line = {"step": step, "crops": samples, "seconds": round(elapsed), "train": running}
            line |= evaluate(average.model, sets)
            with (work / "autoencoder.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            parts = {"vae": vae.state_dict(), "average": average.model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(parts | {"step": step, "seconds": elapsed, "samples": samples}, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
        if done:
            break
        clock.slept += polite.wait()
        frames = (1, 4, 1, 7)[step % 4]
        count = max(1, 8 // frames)
        pictures = crops(clips, rng, count, frames).flatten(0, 1)
        latents = codec.encode(pictures)
        pictures, latents = pictures.to(device), latents.to(device)
        loss = loss_of(pictures, vae.decode(latents, num_frames=frames).sample)
        warm = min(1.0, (step + 1) / 100)
        cool = 0.5 * (1 + math.cos(math.pi * min(1.0, step / options.total))) * 0.95 + 0.05
        for group in optimizer.param_groups:
            group["lr"] = options.rate * warm * cool
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimizer.step()
        step, samples = step + 1, samples + len(pictures)
        average.update(vae, step)
        now = loss.item()
        running = round(now if running is None else 0.98 * running + 0.02 * now, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--total", type=int, default=3000, help="steps over which the rate falls")
    parser.add_argument("--linear-steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=200, help="steps between evaluations and saved states")
    start(parser, train)


if __name__ == "__main__":
    main()
