#!/usr/bin/env python3
"""Makes the pictures of README.md anew: docs/pictures/svd-mini-strip.png and svd-mini.gif.

    python3 tools/readme/strip.py

The strip is the picture and frames 1, 4, 7, 10 and 14 of the video that `vidc run` makes of it. Needs numpy, Pillow and target/release/vidc.
"""
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PICTURE, SHOWN = "examples/coffee.png", (0, 3, 6, 9, 13)


def run(out):
    subprocess.run(["target/release/vidc", "run", "graphs/svd-mini.yaml", "--input", f"image={PICTURE}", "-o", str(out)], check=True)


def main():
    pictures = Path("docs/pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "out.npy")
        frames = np.load(Path(folder) / "out.npy")
        run(Path(folder) / "out.gif")
        (pictures / "svd-mini.gif").write_bytes((Path(folder) / "out.gif").read_bytes())
    height, width = frames.shape[1:3]
    picture = np.asarray(Image.open(PICTURE).convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
    Image.fromarray(np.concatenate([picture, *frames[list(SHOWN)]], axis=1)).save(pictures / "svd-mini-strip.png", optimize=True)


if __name__ == "__main__":
    main()
