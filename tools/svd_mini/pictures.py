"""Collects pictures with free licences out of installed Python packages.

`python pictures.py DIR` writes `DIR/train/NAME.png` and `DIR/held_out/NAME.png`: 8-bit RGB, at most 768 pixels on the
longer side (Lanczos). The generator of clips (`vidc bench scenarios --pictures`) reads such a folder. The table below
is the whole list; a picture whose package says nothing about its licence is not in it (scikit-image's motorcycle, moon
and colour wheel; matplotlib's Grace Hopper and Minduka, whose sources are not named by the package itself).
"""

import argparse
import hashlib
import importlib.metadata
import importlib.resources
from pathlib import Path

from PIL import Image

LONGEST = 768

# (package, distribution, file inside the package, split, licence as the package states it)
PICTURES = [
    ("skimage", "scikit-image", "data/astronaut.png", "train", "public domain (NASA)"),
    ("skimage", "scikit-image", "data/brick.png", "train", "CC0 1.0"),
    ("skimage", "scikit-image", "data/camera.png", "train", "CC0 1.0 (Lav Varshney)"),
    ("skimage", "scikit-image", "data/chelsea.png", "train", "CC0 1.0 (Stefan van der Walt)"),
    ("skimage", "scikit-image", "data/coins.png", "train", "no known copyright restrictions (Brooklyn Museum)"),
    ("skimage", "scikit-image", "data/grass.png", "train", "CC0 1.0 (linolafett)"),
    ("skimage", "scikit-image", "data/gravel.png", "train", "CC0 1.0"),
    ("skimage", "scikit-image", "data/hubble_deep_field.jpg", "train", "public domain (NASA)"),
    ("skimage", "scikit-image", "data/ihc.png", "train", "no known copyright restrictions"),
    ("skimage", "scikit-image", "data/retina.jpg", "held_out", "CC0 1.0"),
    ("skimage", "scikit-image", "data/rocket.jpg", "train", "public domain (SpaceX)"),
    ("skimage", "scikit-image", "data/coffee.png", "held_out", "CC0 1.0 (Rachel Michetti)"),
    ("sklearn", "scikit-learn", "datasets/images/flower.jpg", "train", "CC BY 2.0 (vultilion)"),
    ("sklearn", "scikit-learn", "datasets/images/china.jpg", "held_out", "CC BY 2.0 (danielbuechele)"),
]


def as_rgb(path: Path) -> Image.Image:
    """The picture as 8-bit RGB with its longer side at most `LONGEST` pixels."""
    picture = Image.open(path).convert("RGB")
    scale = LONGEST / max(picture.size)
    if scale < 1:
        size = tuple(round(side * scale) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def collect(out: Path) -> list[str]:
    """Writes every picture below `out` and returns the rows of the licence table (Markdown)."""
    rows = []
    for package, distribution, name, split, licence in PICTURES:
        source = Path(str(importlib.resources.files(package))) / name
        target = out / split / (source.stem + ".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        as_rgb(source).save(target)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        version = importlib.metadata.version(distribution)
        rows.append(f"| {split} | `{source.name}` | {distribution}=={version} | {licence} | `{digest}` |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    rows = collect(parser.parse_args().out)
    print("| split | file | package | licence | sha256 of the file |\n| --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
