#!/usr/bin/env python3
"""Holds predicted peaks of memory against what processes need, over random plans of a graph on this machine's CPU.

    python3 tools/memory/random_plans.py --graph svd-tiny --count 200 --seed 1 -o benches/memory/svd-tiny.csv

Each plan has a random shape and random answers to a random half of its knobs. It is compiled, run once by `vidc bench memory` in a
process of its own, and run once more with `--memory` at the upper end of its prediction, which must not stop it. One row a plan:
predicted and needed bytes, bytes that kernels asked for beside those predicted for them, whether the budget held.
"""

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def vidc(binary, *args):
    environment = dict(os.environ, ORT_DISABLE_TELEMETRY="1")
    return subprocess.run([str(binary), *map(str, args)], capture_output=True, text=True, env=environment, cwd=ROOT)


def draw(options, random):
    """Shape and answers of a plan; None if the graph refuses the shape."""
    sides = [int(s) for s in options.sides.split(",")]
    frames = [int(f) for f in options.frames.split(",")]
    shape = [f"frames={random.choice(frames)}", f"height={random.choice(sides)}", f"width={random.choice(sides)}", "steps=2"]
    sets = [word for pair in shape for word in ("--set", pair)]
    explained = vidc(options.vidc, "explain", options.graph, "--hw", "cpu", "--format", "json", *sets)
    if explained.returncode:
        return None
    answers = []
    for knob in json.loads(explained.stdout)["knobs"]:
        names = [a["name"] for a in knob["answers"] if a["name"] != options.skip]
        if random.random() < 0.5 and names:
            answers += ["--choose", f"{knob['id']}={random.choice(names)}"]
    return shape, sets, answers


def measure(options, folder, shape, sets, answers):
    """The row of a plan; None if these answers do not go together."""
    plan = Path(folder) / "plan"
    weights = ["--weights", options.weights] if options.weights else []
    made = vidc(options.vidc, "compile", options.graph, "--hw", "cpu", "--ladder", 1, "-o", plan, *weights, *sets, *answers)
    if made.returncode:
        return None
    told = vidc(options.vidc, "bench", "memory", plan, "--format", "json")
    if told.returncode:
        raise SystemExit(f"{shape} {answers}\n{told.stderr}")
    one = json.loads(told.stdout)["plans"][0]
    predicted, needed = one["predicted"], one["measured"]
    asked = max(s["activations"] for s in needed["sessions"].values())
    foretold = max(s["transient_bytes"] for s in predicted["stages"])
    run = vidc(options.vidc, "run", plan, "--input", f"image={ROOT / 'examples/coffee.png'}", "--memory",
               f"{predicted['peak_bytes_hi']}B", "-o", Path(folder) / "out.npy")
    held = run.returncode == 0 and "smaller plan" not in run.stderr
    return {
        "shape": " ".join(shape[:3]),
        "answers": " ".join(answers[1::2]),
        "predicted": predicted["peak_bytes"],
        "needed": needed["needed"],
        "resident": needed["resident"],
        "ratio": round(needed["needed"] / predicted["peak_bytes"], 4),
        "kernels_predicted": foretold,
        "kernels_counted": asked,
        "budget_held": held,
    }


def write(rows, path):
    """All rows so far: what was measured is there when the rest is stopped."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", default="svd-tiny")
    parser.add_argument("--weights", help="as `vidc compile --weights`")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", default="1,2,3,4,6,8")
    parser.add_argument("--sides", default="64,128,192,256")
    parser.add_argument("--skip", help="an answer that is not drawn, such as f16")
    parser.add_argument("--vidc", default=ROOT / "target/release/vidc")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    source = random.Random(options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    while len(rows) < options.count:
        drawn = draw(options, source)
        if drawn is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(options, folder, *drawn)
        if row:
            rows.append(row)
            print(len(rows), row["shape"], row["ratio"], "" if row["budget_held"] else "OVERRUN", flush=True)
            write(rows, options.output)
    ratios = [r["ratio"] for r in rows]
    errors = [abs(r - 1) for r in ratios]
    print(f"{len(rows)} plans: error {statistics.median(errors):.1%} in the median, {max(errors):.1%} at worst; "
          f"needed / predicted {min(ratios):.3f} to {max(ratios):.3f}; overruns {sum(not r['budget_held'] for r in rows)}")


if __name__ == "__main__":
    main()
