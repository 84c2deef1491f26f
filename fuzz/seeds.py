#!/usr/bin/env python3
"""Writes fuzz/seeds anew: the same bytes every time. Run from the root of the repository: `python3 fuzz/seeds.py`.

onnx_reader: the smallest model of each kind of operator among the stored backend tests.
import_passes_verify: bytes without pattern, in a few lengths.
"""

import hashlib
import json
import pathlib
import shutil

ROOT = pathlib.Path(__file__).parent
MODELS = 200  # files
LENGTHS = [16, 48, 96, 192, 384]  # bytes
EACH = 8  # files of each length


def models():
    """The first part of each packed test, by the name of its test up to the second word, smallest first."""
    found = {}
    for path in sorted((ROOT.parent / "tests/data/onnx_backend").rglob("*.test")):
        head, _, rest = path.read_bytes().partition(b"\n")
        model = rest[: json.loads(head)["parts"][0][1]]
        kind = "_".join(path.stem.split("_")[:2])
        if kind not in found or len(model) < len(found[kind]):
            found[kind] = model
    return sorted(found.values(), key=lambda m: (len(m), m))[:MODELS]


def bytes_without_pattern(name, length):
    out = b""
    while len(out) < length:
        out += hashlib.sha256(f"{name} {len(out)}".encode()).digest()
    return out[:length]


def write(target, seeds):
    folder = ROOT / "seeds" / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for i, seed in enumerate(seeds):
        (folder / f"{i:03}").write_bytes(seed)


if __name__ == "__main__":
    write("onnx_reader", models())
    write("import_passes_verify", [bytes_without_pattern(f"{n} {k}", n) for n in LENGTHS for k in range(EACH)])
