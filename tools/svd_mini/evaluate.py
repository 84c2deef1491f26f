"""Figures of a diffusers folder on held-out pictures, as a Markdown table.

`python evaluate.py MODEL CLIPS` needs minutes: 16 clips, 25 steps. PSNR is in dB on pixels; a clip's PSNR leaves out its first
frame, which is given. *Repeated* is the first frame of the autoencoder's reconstruction, 14 times.
"""

import argparse
from pathlib import Path

import torch

import codec
from autoencoder import evaluate, evaluation_sets, psnr
from data import Clips, difference_of, mean_difference
from images import build_image_encoder, condition
from sample import decode, load, sample
from unet import PROBES, build_unet, held_out_batch, probe, write_start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("clips", type=Path, help="the folder with train/ and held_out/")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-autoencoder", action="store_true", help="leave out its table")
    parser.add_argument("--untrained", action="store_true", help="the U-net's start instead of the folder's")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    vae, unet = load(options.model)
    encoder = build_image_encoder().eval()
    if options.untrained:
        torch.manual_seed(0)
        unet = build_unet().eval()
        write_start(unet)
    vae, unet = vae.to(options.device), unet.to(options.device)

    if not options.without_autoencoder:
        print("| autoencoder, dB | reconstruction | yardstick |\n| --- | --- | --- |")
        for name, (reached, plain) in evaluate(vae, evaluation_sets(options.clips)).items():
            print(f"| {name} | {reached:.2f} | {plain:.2f} |")

    held_out = Clips(options.clips / "held_out")
    batch = tuple(part.to(options.device) for part in held_out_batch(held_out, encoder, 8))
    print("\n| sigma | " + " | ".join(str(sigma) for sigma in PROBES) + " |\n" + "| --- " * (len(PROBES) + 1) + "|")
    print("| v's mean square error | " + " | ".join(f"{value:.3f}" for value in probe(unet, batch)) + " |")

    print("\n| clip | bucket's difference | sample's | ratio | first frame, dB | sample to clip, dB | repeated to clip, dB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    sums: dict[str, list[tuple[float, ...]]] = {}
    half = options.count // 2
    for index in held_out.of("pan")[: options.count - half] + held_out.of("zoom")[:half]:
        entry = held_out.entries[index]
        clip = held_out.get([index])
        _, image, context, ids = condition(clip, encoder, torch.Generator().manual_seed(options.seed))
        given = tuple(part.to(options.device) for part in (image, context, ids))
        sampled = decode(vae, sample(unet, given, options.steps, options.guidance, options.seed)).cpu()[0]
        first = codec.encode(clip[:, :1].flatten(0, 1)).to(options.device)
        still = decode(vae, first.expand(clip.shape[1], -1, -1, -1)[None]).cpu()[0]
        wanted, got = difference_of(float(ids[0, 1])), float(mean_difference(sampled))
        row = (
            wanted, got, got / wanted, psnr(still[0], sampled[0]), psnr(clip[0, 1:], sampled[1:]), psnr(clip[0, 1:], still[1:])
        )  # fmt: skip
        sums.setdefault(entry["scenario"], []).append(row)
        print(f"| {entry['name']} | {row[0]:.4f} | {row[1]:.4f} | " + " | ".join(f"{value:.2f}" for value in row[2:]) + " |", flush=True)
    for name, rows in sums.items():
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        print(f"| mean of {len(rows)}: {name} | {means[0]:.4f} | {means[1]:.4f} | " + " | ".join(f"{value:.2f}" for value in means[2:]) + " |")


if __name__ == "__main__":
    main()
