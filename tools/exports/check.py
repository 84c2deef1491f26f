#!/usr/bin/env python3
"""Does `vidc optimize` keep what torch's exporters write? Prints a table.

    python tools/exports/check.py VIDC FOLDER [WORD ...]

FOLDER is what `export.py` filled. Every file is optimized with its dims open and, for each of two sizes, bound; what is written runs in
ONNX Runtime without optimisation beside the original, likewise; the distance is the relative L2 of the output. WORD: only names that
contain one. Needs numpy, onnx, onnxruntime; ends with 1 if a distance is above the limit or a file is refused.
"""

import os
import re
import subprocess
import sys
import tempfile

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime as ort

LIMIT = 2e-5
SECONDS = 300
SIZES = 2


def headline(text):
    """The line of an error's text that says what is wrong."""
    lines = [line.strip() for line in text.strip().splitlines()]
    errors = [line for line in lines if "Error: " in line and "Failed to export" not in line]
    return (errors or lines)[-1][:160]


def session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, arrays):
    s = session(path)
    return s.run(None, {i.name: arrays[i.name] for i in s.get_inputs()})[0]


def distance(got, want):
    if got.shape != want.shape:
        return float("inf")
    a, b = got.astype(np.float64), want.astype(np.float64)
    return float(np.linalg.norm((a - b).ravel()) / np.linalg.norm(b.ravel()))


def dims_at(path, arrays):
    """What each open dim of the file is worth at the sizes of these inputs; without a name, as vidc calls it."""
    out = {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        for axis, d in enumerate(value.type.tensor_type.shape.dim):
            if not d.HasField("dim_value"):
                out[d.dim_param or f"{value.name}.{axis}"] = arrays[value.name].shape[axis]
    return out


def optimize(vidc, path, dims, out):
    """None and the counts of operators, or a reason."""
    command = [vidc, "optimize", path, "-o", out]
    for name, n in dims.items():
        command += ["--dim", f"{name}={n}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} s", None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return "refused: " + " ".join(lines)[:160], None
    found = re.search(r"(\d+) operators -> (\d+)", done.stdout)
    return None, f"{found[1]} → {found[2]}" if found else "?"


def originals(path, sizes):
    """What the original computes at the sizes that it takes, and what is to be said of the others."""
    wanted, notes = [], []
    for name, arrays in sizes:
        try:
            want = run(path, arrays)
        except Exception as e:
            reason = str(e).split("failed:")[-1].split("Name:")[-1].split(" at /")[0].strip()[:120].replace("|", "/")
            notes.append(f"the original fails at size {name}: {reason}")
            continue
        if not distance(want, arrays["torch_output"]) <= 1e-3:
            notes.append(f"the original is not torch's at size {name}")
        wanted.append((arrays, want))
    return wanted, notes


def check(vidc, path, sizes, dims, folder):
    """One row: is it equal, and the counts of operators."""
    wanted, notes = originals(path, sizes)
    if not wanted:
        return "; ".join(notes), "", True
    out = os.path.join(folder, "out.onnx")
    reason, counts = optimize(vidc, path, dims, out)
    if reason:
        return reason, "", False
    errors = []
    for arrays, want in wanted:
        try:
            errors.append(distance(run(out, arrays), want))
        except Exception as e:
            return f"fails in the runtime: {str(e)[:160]}", counts, False
    good = all(e <= LIMIT for e in errors)
    return "; ".join([f"{'equal' if good else 'DIFFERENT'} ({max(errors):.0e})", *notes]), counts, good


def main():
    vidc, folder, words = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    names = sorted(n.rsplit(".", 1)[0] for n in os.listdir(folder) if n.endswith((".onnx", ".failed")))
    all_good = True
    print("| model | exporter | dims | equal | operators |\n| --- | --- | --- | --- | --- |")
    for name in names:
        if words and not any(w in name for w in words):
            continue
        model, exporter = name.rsplit(".", 1)
        path = os.path.join(folder, f"{name}.onnx")
        if not os.path.exists(path):
            with open(os.path.join(folder, f"{name}.failed")) as f:
                reason = headline(f.read()).replace("|", "/")
            print(f"| {model} | {exporter} | – | not exported: {reason} | |", flush=True)
            continue
        sizes = [(str(i), dict(np.load(os.path.join(folder, f"{name}.{i}.npz")))) for i in range(SIZES)]
        cases = [("open", sizes, {})] + [(f"bound {i}", [s], dims_at(path, s[1])) for i, s in enumerate(sizes)]
        for label, some, dims in cases:
            with tempfile.TemporaryDirectory() as temporary:
                text, counts, good = check(vidc, path, some, dims, temporary)
            all_good &= good
            print(f"| {model} | {exporter} | {label} | {text} | {counts or ''} |", flush=True)
    sys.exit(0 if all_good else 1)


if __name__ == "__main__":
    main()
