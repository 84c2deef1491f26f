#!/usr/bin/env python3
"""Tunes a graph for budgets from the least that a plan fits into to no limit, runs each plan, and draws predicted against measured.

    python3 tools/memory/budget_curve.py GRAPH --budgets 10 --rounds 3 --set steps=2 -o benches/memory/NAME

Writes NAME.csv and NAME.svg. Memory is what a process of its own needs (`vidc bench memory`); seconds are those that models ran, the
least of several runs that take turns.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def vidc(options, *args, check=True):
    environment = dict(os.environ, ORT_DISABLE_TELEMETRY="1")
    done = subprocess.run([options.vidc, *map(str, args)], capture_output=True, text=True, env=environment, cwd=ROOT)
    if check and done.returncode:
        raise SystemExit(f"vidc {' '.join(map(str, args))}\n{done.stderr}")
    return done


def plan(options, folder, name, budget):
    """Tunes for a budget in bytes (None: no limit) and compiles; the plan, its predicted peak and its upper end."""
    limit = ["--memory", f"{budget}B"] if budget else []
    sets = [word for pair in options.set for word in ("--set", pair)]
    choice, path = folder / f"{name}.yaml", folder / name
    vidc(options, "tune", options.graph, "--hw", "cpu", *sets, *limit, "-o", choice)
    vidc(options, "compile", options.graph, "--tuning", choice, "--ladder", 1, "-o", path, *sets)
    predicted = json.loads((path / "manifest.json").read_text())["predicted"]
    return path, predicted


def least(options, folder):
    """The least budget that a plan fits into, bytes, as the refusal of one that is too small says."""
    sets = [word for pair in options.set for word in ("--set", pair)]
    done = vidc(options, "tune", options.graph, "--hw", "cpu", *sets, "--memory", "1MiB", "-o", folder / "none.yaml", "--format", "json", check=False)
    number, unit = re.search(r"the smallest needs ([0-9.]+) (MiB|GiB)", done.stdout + done.stderr).groups()
    return int(float(number) * (MIB if unit == "MiB" else 1024 * MIB)) + MIB


def seconds(options, folder, path):
    out = folder / "out.npy"
    vidc(options, "run", path, "--input", f"image={options.image}", "-o", out)
    return json.loads(Path(f"{out}.report.json").read_text())["measured"]["run_s"]


def draw(rows, path):
    """Peak against seconds: what was predicted, what was measured."""
    wide, high, edge = 640, 360, 60
    every = lambda *keys: [float(r[k]) for r in rows for k in keys]
    xs, ys = every("predicted_mib", "measured_mib"), every("predicted_s", "measured_s")
    right, top = max(xs) * 1.05, max(ys) * 1.1
    at = lambda x, y: (edge + (wide - 2 * edge) * x / right, high - edge - (high - 2 * edge) * y / top)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" font-family="sans-serif" font-size="11">',
             f'<rect width="{wide}" height="{high}" fill="white"/>']
    for i in range(6):
        (x, bottom), (left, y) = at(right * i / 5, 0), at(0, top * i / 5)
        parts.append(f'<text x="{x:.0f}" y="{bottom + 16:.0f}" text-anchor="middle">{right * i / 5:.0f}</text>')
        parts.append(f'<text x="{left - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{top * i / 5:.1f}</text>')
        parts.append(f'<line x1="{left:.0f}" x2="{wide - edge}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
    for kind, colour in (("predicted", "#1f6fb2"), ("measured", "#d2691e")):
        points = [at(float(r[f"{kind}_mib"]), float(r[f"{kind}_s"])) for r in rows]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{wide - edge}" y="{20 if kind == "predicted" else 34}" text-anchor="end" fill="{colour}">{kind}</text>')
    parts += [f'<text x="{wide / 2}" y="{high - 20}" text-anchor="middle">peak of memory, MiB</text>',
              f'<text x="16" y="{high / 2}" text-anchor="middle" transform="rotate(-90 16 {high / 2})">seconds</text>', "</svg>"]
    path.write_text("\n".join(parts) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph")
    parser.add_argument("--vidc", default=ROOT / "target/release/vidc")
    parser.add_argument("--image", type=Path, default=ROOT / "examples/coffee.png")
    parser.add_argument("--budgets", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        low = least(options, folder)
        _, free = plan(options, folder, "free", None)
        high = free["peak_bytes_hi"]
        budgets = [low + (high - low) * i // (options.budgets - 2) for i in range(options.budgets - 1)] + [None]
        rows, times = [], []
        for i, budget in enumerate(budgets):
            path, predicted = plan(options, folder, f"plan{i}", budget)
            told = json.loads(vidc(options, "bench", "memory", path, "--format", "json").stdout)["plans"][0]
            rows.append({
                "budget_mib": "" if budget is None else round(budget / MIB, 1),
                "predicted_mib": round(predicted["peak_bytes"] / MIB, 1),
                "upper_mib": round(predicted["peak_bytes_hi"] / MIB, 1),
                "measured_mib": round(told["measured"]["needed"] / MIB, 1),
                "predicted_s": round(predicted["latency_s"], 3),
            })
            times.append([path])
        for _ in range(options.rounds):
            for row in times:
                row.append(seconds(options, folder, row[0]))
        for row, measured in zip(rows, times):
            row["measured_s"] = round(min(measured[1:]), 3)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with open(options.output.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, options.output.with_suffix(".svg"))
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
