#!/usr/bin/env python3
"""Compares svd-mini through vidc with diffusers' own pipeline on the same weights, picture and noise, in float32.

    python3 tools/svd_mini/equal.py --vidc target/release/vidc --picture examples/coffee.jpg [--steps 25]

Prints the relative L2 distance ||vidc - diffusers|| / ||diffusers|| of every stage given what diffusers gave that stage, and of what the whole
pipeline makes of the picture alone. Exit 1 if a stage is above 2e-5 or the whole above 5e-5. Needs torch, diffusers and transformers.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image

STAGE, WHOLE = 2e-5, 5e-5
GUIDANCE = 3.0  # of the last frame: both halves run


class Kept:
    """What went in and out of the models while diffusers ran, in order."""

    def __init__(self, pipe):
        self.embeds, self.latents, self.sample, self.out, self.frames = [], [], [], [], []
        pipe.image_encoder.register_forward_hook(lambda m, i, o: self.embeds.append(o.image_embeds))
        pipe.vae.quant_conv.register_forward_hook(lambda m, i, o: self.latents.append(o.chunk(2, dim=1)[0]))
        pipe.unet.register_forward_hook(lambda m, i, o: self.out.append(o[0]))
        pipe.vae.decoder.register_forward_hook(lambda m, i, o: self.frames.append(o))


def by_diffusers(folder, picture, steps, seed):
    """Runs the pipeline of the folder; returns its noises, its tensors by the names of the graph."""
    pipe = StableVideoDiffusionPipeline.from_pretrained(folder, variant="fp16", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    kept = Kept(pipe)
    # The pipeline draws the picture's noise first and would draw the latents' next; both are drawn here in that order.
    drawn = torch.Generator().manual_seed(seed)
    aug = torch.randn(1, 3, 128, 128, generator=drawn)
    frames, channels = pipe.unet.config.num_frames, pipe.unet.config.out_channels
    init = torch.randn(1, frames, channels, 16, 16, generator=drawn)
    made = pipe(
        picture, height=128, width=128, num_frames=frames, num_inference_steps=steps, latents=init, max_guidance_scale=GUIDANCE,
        decode_chunk_size=frames, generator=torch.Generator().manual_seed(seed), output_type="latent",
    ).frames
    with torch.no_grad():
        pipe.decode_latents(made, frames, decode_chunk_size=frames)
    noises = {"noise_aug_noise": aug, "init_noise": init}
    values = {
        "image_embeds": kept.embeds[0], "image_latents": kept.latents[0], "unet_out": torch.stack(kept.out),
        "scaled_latents": made / pipe.vae.config.scaling_factor, "frames": torch.cat(kept.frames),
    }
    return noises, {name: value.detach().numpy().astype(np.float32) for name, value in values.items()}


def by_vidc(args, scratch, feeds, dumps, steps):
    """Runs the graph with values fed; returns the dumped ones."""
    command = [args.vidc, "run", args.graph, "--input", f"image={args.picture}", "-o", str(scratch / "out.npy")]
    command += ["--set", f"steps={steps}", "--set", f"max_guidance_scale={GUIDANCE}"]
    for name, value in feeds.items():
        np.save(scratch / f"in-{name}.npy", np.ascontiguousarray(value, dtype=np.float32))
        command += ["--feed", f"{name}={scratch / f'in-{name}.npy'}"]
    for name in dumps:
        command += ["--dump", f"{name}={scratch / f'{name}.npy'}"]
    # The plain answers: float32 throughout, nothing approximate.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {name: np.load(scratch / f"{name}.npy") for name in dumps}


def distance(got, want):
    """||got - want|| / ||want|| in float64; the arrays may differ in axes of length 1."""
    got, want = got.astype(np.float64).reshape(-1), want.astype(np.float64).reshape(-1)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vidc", default="target/release/vidc")
    parser.add_argument("--graph", default="graphs/svd-mini.yaml")
    parser.add_argument("--folder", default="models/svd-mini")
    parser.add_argument("--picture", required=True)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(2)

    noises, want = by_diffusers(args.folder, Image.open(args.picture).convert("RGB"), args.steps, args.seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        whole = by_vidc(args, scratch, noises, list(want), args.steps)
        rows += [("stage", "image_encoder", distance(whole["image_embeds"], want["image_embeds"]))]
        rows += [("stage", "vae_encoder", distance(whole["image_latents"], want["image_latents"]))]
        known = {name: want[name] for name in ("image_embeds", "image_latents")}
        step = by_vidc(args, scratch, noises | known, ["unet_out"], args.steps)["unet_out"]
        rows += [("stage", "unet, first step", distance(step[0], want["unet_out"][0]))]
        decoded = by_vidc(args, scratch, noises | {"scaled_latents": want["scaled_latents"]}, ["frames"], args.steps)["frames"]
        rows += [("stage", "vae_decoder", distance(decoded, want["frames"]))]
        rows += [("whole", name, distance(whole[name], want[name])) for name in ("unet_out", "scaled_latents", "frames")]
    print(f"{args.steps} steps\n\n| | value | relative L2 | at most |\n| --- | --- | --- | --- |")
    wrong = False
    for kind, name, found in rows:
        most = STAGE if kind == "stage" else WHOLE
        wrong |= not found <= most
        print(f"| {kind} | {name} | {found:.1e} | {most:.0e} |")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
