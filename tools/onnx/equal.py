#!/usr/bin/env python3
"""Is what `vidc optimize` writes equal to what it read?

    python tools/onnx/equal.py VIDC FOLDER [WORD ...]

FOLDER holds legacy17/MODEL.onnx and dynamo18/MODEL.onnx of the small reference networks with their weights. Every model is written
at every level, with its dims bound and left open, checked by `onnx.checker`, and run by ONNX Runtime without optimisation on random
inputs; the distance is the relative L2 of the worst output from the original file's. WORD: only paths that contain one.
Needs numpy, onnx, onnxruntime.
"""

import os
import subprocess
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime as ort

# Sizes for each open model; the other dialect has fixed ones.
SIZES = {
    "unet": [
        {"batch": 2, "frames": 4, "latent_h": 16, "latent_w": 16},
        {"batch": 1, "frames": 3, "latent_h": 8, "latent_w": 24},
    ],
    "vae_decoder": [
        {"batch": 1, "frames": 4, "latent_h": 16, "latent_w": 16},
        {"batch": 2, "frames": 3, "latent_h": 8, "latent_w": 16},
    ],
    "vae_encoder": [{"batch": 1, "height": 128, "width": 128}, {"batch": 2, "height": 64, "width": 128}],
    "image_encoder": [{"batch": 1}, {"batch": 2}],
}
OFF = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


def run(path, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = OFF
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def inputs(model, dims):
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        shape = [d.dim_value or dims[d.dim_param] for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = random.standard_normal(shape).astype(np.float32)
    return feeds


def distance(got, want):
    norm = lambda x: np.linalg.norm(x.astype(np.float64).ravel())
    return max(norm(a - b) / norm(b) for a, b in zip(got, want))


def check(vidc, source, level, dims, feeds, want):
    out = os.path.join("out", f"{source.replace(os.sep, '_')}.{level}.{'bound' if dims else 'open'}.onnx")
    command = [vidc, "optimize", source, "-o", out, "--level", level]
    for name, n in dims.items():
        command += ["--dim", f"{name}={n}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return f"refused: {done.stderr.strip()[:300]}", False
    onnx.checker.check_model(out)
    error = distance(run(out, feeds), want)
    counts = next(line for line in done.stdout.splitlines() if "operators" in line)
    return f"{error:.2e}  {counts.split(';')[0]}", error <= 1e-5


def main():
    vidc, words = os.path.abspath(sys.argv[1]), sys.argv[3:]
    os.chdir(sys.argv[2])
    os.makedirs("out", exist_ok=True)
    good = True
    for name, sizes in SIZES.items():
        for folder in ("legacy17", "dynamo18"):
            source = os.path.join(folder, f"{name}.onnx")
            if words and not any(w in source for w in words):
                continue
            model = onnx.load(source, load_external_data=False)
            fixed = all(d.dim_value for v in model.graph.input for d in v.type.tensor_type.shape.dim)
            for dims in [{}] if fixed else sizes:
                feeds = inputs(model, dims)
                want = run(source, feeds)
                for level in ("none", "basic", "full"):
                    for bound in [{}] if fixed else [dims, {}]:
                        text, ok = check(vidc, source, level, bound, feeds, want)
                        good &= ok
                        sizes_text = " ".join(f"{k}={v}" for k, v in dims.items()) or "fixed"
                        print(f"{source:28} {sizes_text:42} {level:5} {'bound' if bound or fixed else 'open':5} {text}", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
