#!/usr/bin/env python3
"""Runs a graph with several sets of answers in turns: seconds and kernel memory of one model, and how far a value is from the first set's.

    python3 tools/memory/answers.py GRAPH --model vae_decoder --value frames --rounds 3 --set steps=1 \\
        -- vae_decoder.level0.frames=1 vae_decoder.level0.frames=14,vae_decoder.level1.frames=14

Each word behind `--` is one plan: answers joined by commas, or `-` for what a search takes without a limit. Ratios are to the first plan,
of the least of all rounds; the machine is the same, and the plans take turns.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def vidc(options, *args):
    done = subprocess.run([options.vidc, *map(str, args)], capture_output=True, text=True, env=dict(os.environ, ORT_DISABLE_TELEMETRY="1"))
    if done.returncode:
        raise SystemExit(f"vidc {' '.join(map(str, args))}\n{done.stderr}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph")
    parser.add_argument("answers", nargs="+")
    parser.add_argument("--vidc", default=ROOT / "target/release/vidc")
    parser.add_argument("--image", type=Path, default=ROOT / "examples/coffee.png")
    parser.add_argument("--model", required=True)
    parser.add_argument("--value", help="a value of the plan to compare, such as the decoder's frames")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    sets = [word for pair in options.set for word in ("--set", pair)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        plans = []
        for i, words in enumerate(options.answers):
            plan = folder / f"plan{i}"
            answers = [] if words == "-" else [w for a in words.split(",") for w in ("--choose", a)]
            vidc(options, "compile", options.graph, "--hw", "cpu", "--ladder", 1, "-o", plan, *sets, *answers)
            plans.append({"plan": plan, "seconds": [], "words": words})
        first = None
        for _ in range(options.rounds):
            for p in plans:
                out, dump = folder / "out.npy", folder / "value.npy"
                dumps = ["--dump", f"{options.value}={dump}"] if options.value and "value" not in p else []
                vidc(options, "run", p["plan"], "--input", f"image={options.image}", "-o", out, *dumps)
                stage = json.loads(Path(f"{out}.report.json").read_text())["measured"]["stages"][options.model]
                p["seconds"].append(stage["run_s"])
                p["stage"] = stage
                if dumps:
                    value = np.load(dump)
                    first = value if first is None else first
                    p["value"] = float(np.abs(value - first).max() / max(np.abs(first).max(), 1e-30))
        for p in plans:
            told = json.loads(vidc(options, "bench", "memory", p["plan"], "--format", "json"))["plans"][0]
            p["resident"] = told["measured"]["needed"]
            p["kernels"] = told["measured"]["sessions"][options.model]["activations"]
            p["predicted"] = told["predicted"]["peak_bytes"]
    best = min(plans[0]["seconds"])
    print(f"{'seconds':>8} {'ratio':>6} {'kernels MiB':>12} {'resident MiB':>13} {'predicted':>10} {'off':>9}  answers")
    for p in plans:
        mib = [p[k] / 2**20 for k in ("kernels", "resident", "predicted")]
        off = f"{p['value']:.1e}" if "value" in p else "-"
        least = min(p["seconds"])
        print(f"{least:8.3f} {least / best:6.3f} {mib[0]:12.1f} {mib[1]:13.1f} {mib[2]:10.1f} {off:>9}  {p['words']}")


if __name__ == "__main__":
    main()
