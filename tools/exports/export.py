#!/usr/bin/env python3
"""Writes the tiny models of `models.py` by both exporters of torch into a folder.

    python tools/exports/export.py FOLDER [WORD ...]

FOLDER gets FAMILY.EXPORTER.onnx, FAMILY.EXPORTER.SIZE.npz (inputs and torch's output), or FAMILY.EXPORTER.failed with the reason.
What is there already is left. WORD: only names that contain one. Every export is a process of its own with a time limit.
"""

import os
import subprocess
import sys
import traceback

LIMIT = 1500
EXPORTERS = ("legacy", "dynamo")


def export(folder, family, exporter):
    import numpy as np
    import torch

    import models

    module, shapes, axes = models.module(family)
    sizes = models.FAMILIES[family][1]
    first = models.inputs(shapes, sizes[0])
    path = os.path.join(folder, f"{family}.{exporter}.onnx")
    with torch.no_grad():
        for i, size in enumerate(sizes):
            given = models.inputs(shapes, size)
            got = module(**given)
            arrays = {name: x.numpy() for name, x in given.items()}
            np.savez(os.path.join(folder, f"{family}.{exporter}.{i}.npz"), torch_output=got.numpy(), **arrays)
        common = {"input_names": list(first), "output_names": ["out"], "external_data": False}
        if exporter == "legacy":
            models.make_plain(module)
            torch.onnx.export(
                module, tuple(first.values()), path, dynamo=False, opset_version=17, dynamic_axes=axes, **common
            )
        else:
            dynamic = {
                name: {axis: torch.export.Dim.DYNAMIC for axis in axes.get(name, {})} or None for name in first
            }
            torch.onnx.export(module, tuple(first.values()), path, dynamo=True, opset_version=18,
                              dynamic_shapes=tuple(dynamic.values()), **common)


def main():
    folder, words = os.path.abspath(sys.argv[1]), sys.argv[2:]
    os.makedirs(folder, exist_ok=True)
    if words[:1] == ["--one"]:
        export(folder, *words[1:3])
        return
    import models
    from check import headline

    for family in models.FAMILIES:
        for exporter in EXPORTERS:
            name = f"{family}.{exporter}"
            stem = os.path.join(folder, name)
            if words and not any(w in name for w in words):
                continue
            if os.path.exists(f"{stem}.onnx") or os.path.exists(f"{stem}.failed"):
                continue
            command = [sys.executable, os.path.abspath(__file__), folder, "--one", family, exporter]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
                reason = done.stdout + done.stderr if done.returncode else ""
            except subprocess.TimeoutExpired:
                reason = f"not done after {LIMIT} s"
            if reason:
                with open(f"{stem}.failed", "w") as f:
                    f.write(reason)
                if os.path.exists(f"{stem}.onnx"):
                    os.remove(f"{stem}.onnx")
            last = headline(reason) if reason else "written"
            print(f"{name}: {last}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
