#!/usr/bin/env python3
"""Writes tests/data/svd_tiny_ref/ from the full reference of the tiny Stable Video Diffusion (see README.md beside this file).

    python3 tools/reference/subset.py REF.npz tests/data/svd_tiny_ref

Needs numpy. The arrays are written as they are, under their own names.
"""
import os
import sys

import numpy as np

KEPT = {
    "image": "uint8",
    "noise_aug_noise": "float32",
    "init_noise": "float32",
    "image_embeddings": "float32",
    "image_latents": "float32",
    "unet_sample_0": "float32",
    "unet_out_0": "float32",
    "unet_sample_2": "float32",
    "unet_out_2": "float32",
    "latents_0": "float32",
    "latents_1": "float32",
    "latents_2": "float32",
    "frames": "float32",
}


def main(reference, out):
    os.makedirs(out, exist_ok=True)
    with np.load(reference) as arrays:
        for name, dtype in KEPT.items():
            array = np.ascontiguousarray(arrays[name])
            assert array.dtype == dtype, f"{name} is {array.dtype}, not {dtype}"
            np.save(os.path.join(out, f"{name}.npy"), array)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
