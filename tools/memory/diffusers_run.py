#!/usr/bin/env python3
"""Runs a StableVideoDiffusionPipeline folder with diffusers on the CPU in this process: seconds of the call, resident peak of the process.

    python3 tools/memory/diffusers_run.py FOLDER --frames 14 --size 256 --steps 25

Needs torch, diffusers and transformers. Prints one JSON line. `--chunk` is diffusers' `decode_chunk_size`; with the number of frames,
its default, the video is decoded in one piece.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--image", type=Path, default=ROOT / "examples/coffee.png")
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--chunk", type=int)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    begun = time.perf_counter()
    pipeline = StableVideoDiffusionPipeline.from_pretrained(options.folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = Image.open(options.image).convert("RGB").resize((options.size, options.size))
    start = time.perf_counter()
    pipeline(image, height=options.size, width=options.size, num_frames=options.frames, num_inference_steps=options.steps,
             decode_chunk_size=options.chunk or options.frames, generator=torch.manual_seed(0), output_type="np")
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"load_s": round(start - begun, 2), "call_s": round(end - start, 2), "resident_mib": round(peak, 1)}))


if __name__ == "__main__":
    main()
