#!/usr/bin/env python3
"""Builds vidc, proves a provider on this machine's NVIDIA card and times it, in eight minutes: one table in the end.

    python3 tools/gpu/run.py [--provider cuda|tensorrt-rtx|tensorrt] [--hw KEY] [--runtime LIBRARY] [-o FOLDER] [--dry-run]

1. `cargo build --release`, libraries of the provider (`vidc runtime install`), the self-check of every form against vidc's reference evaluator.
2. SVD-tiny, 2 steps: the same frames as on the CPU provider, whose frames the tests hold to diffusers'. Relative L2 of f32 below 1e-3.
3. SVD-XT at full size with seeded weights, 2 steps: seconds and peak of device memory beside what was predicted.

Without a card, `--dry-run --hw KEY` goes as far as it can: build, plans, options of the sessions; nothing is fetched or run.
Only Python's standard library is used. Results: `FOLDER/table.csv`, `FOLDER/machine.txt` and the JSON of each run.
"""

import argparse
import array
import csv
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
VIDC = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "vidc"
PICTURE = ROOT / "examples" / "boat.png"
BUDGET_S = 480


class Steps:
    """Commands one after the other, within the budget."""

    def __init__(self, folder):
        self.start, self.folder, self.rows = time.monotonic(), folder, []

    def left(self):
        return max(1.0, BUDGET_S - (time.monotonic() - self.start))

    def run(self, name, command, must=True):
        print(f"[{time.monotonic() - self.start:5.0f} s] {name}: {' '.join(map(str, command))}", flush=True)
        began = time.monotonic()
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=self.left())
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, out, err = 124, "", "the budget of eight minutes is spent"
        if code:
            print(err[-3000:], file=sys.stderr)
            if must:
                raise SystemExit(f"{name} failed ({code})")
        return code, out, time.monotonic() - began

    def row(self, what, measured, predicted=""):
        self.rows.append([what, measured, predicted])
        print(f"        {what}: {measured}" + (f" (predicted {predicted})" if predicted != "" else ""), flush=True)

    def write(self):
        with open(self.folder / "table.csv", "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["what", "measured", "predicted"])
            out.writerows(self.rows)


def card():
    """Name, compute capability, MiB and driver of the first card; nothing without one."""
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [field.strip() for field in lines[0].split(",")] if lines else None


def profile_of(name):
    """The key of the profile whose words are all in the card's name."""
    devices = json.loads(subprocess.run([VIDC, "hw", "list", "--format", "json"], capture_output=True, text=True, check=True).stdout)["devices"]
    words = lambda text: set(re.findall(r"[a-z]+|\d+", text.lower())) - {"nvidia", "geforce", "rtx", "tesla"}
    fitting = [(len(words(d["name"])), d["key"]) for d in devices if words(d["name"]) and words(d["name"]) <= words(name)]
    return max(fitting, default=(0, None))[1]


def frames(path):
    """The numbers of a .npy file of f32."""
    content = path.read_bytes()
    length = int.from_bytes(content[8:10], "little")
    values = array.array("f")
    values.frombytes(content[10 + length:])
    return values


def relative_l2(got, want):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(got, want)) / max(sum(b * b for b in want), 1e-30))


class Peak(threading.Thread):
    """The most device memory in use beyond what was in use before, MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stop, self.base, self.most = threading.Event(), self.used(), 0

    @staticmethod
    def used():
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return int(subprocess.run(query, capture_output=True, text=True).stdout.splitlines()[0])

    def run(self):
        while not self.stop.wait(0.2):
            self.most = max(self.most, self.used() - self.base)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--provider", default="cuda")
    arguments.add_argument("--hw", help="a key of `vidc hw list`; found by the card's name if not given")
    arguments.add_argument("--runtime", help="an ONNX Runtime that has the provider, instead of the published one")
    arguments.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "benches" / "gpu" / "run")
    arguments.add_argument("--dry-run", action="store_true")
    given = arguments.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    steps = Steps(given.output)
    found = card()
    if found is None and not given.dry_run:
        raise SystemExit("nvidia-smi shows no card here; --dry-run --hw KEY goes as far as one can without")
    steps.run("build", ["cargo", "build", "--release", "--locked"])
    hw = given.hw or (profile_of(found[0]) if found else None)
    if hw is None:
        raise SystemExit("no profile has the name of this card; give one with --hw (`vidc hw list`)")
    target = ["--hw", hw, "--provider", given.provider]
    runtime = ["--runtime", given.runtime] if given.runtime else []
    version = subprocess.run([VIDC, "--version"], capture_output=True, text=True).stdout.strip()
    (given.output / "machine.txt").write_text("\n".join([version, "card: " + (", ".join(found) if found else "none"), " ".join(sys.argv)]) + "\n")

    if given.dry_run:
        for graph in ["svd-tiny", "svd-xt"]:
            folder = given.output / f"plan-{graph}"
            weights = [] if graph == "svd-tiny" else ["--weights", "random:1"]
            steps.run(f"estimate {graph}", [VIDC, "estimate", f"graphs/{graph}.yaml", *target])
            if graph == "svd-tiny":
                steps.run(f"compile {graph}", [VIDC, "compile", f"graphs/{graph}.yaml", *target, *weights, "-o", folder])
                manifest = json.loads((folder / "manifest.json").read_text())
                for session in manifest["sessions"]:
                    print(f"        {session['name']}: {json.dumps(session['providers'])}")
        print("everything up to the card works; libraries and runs need one")
        return

    if not given.runtime:
        steps.run("libraries", [VIDC, "runtime", "install", "--provider", given.provider, "--yes"])
    tiny = ["graphs/svd-tiny.yaml", "--set", "steps=2", "--input", f"image={PICTURE}", "--format", "json"]
    steps.run("svd-tiny on the CPU", [VIDC, "run", *tiny, "--hw", "cpu", "-o", given.output / "cpu.npy"])
    _, out, took = steps.run("svd-tiny", [VIDC, "run", *tiny, *target, *runtime, "-o", given.output / "gpu.npy"])
    (given.output / "svd-tiny.json").write_text(out)
    error = relative_l2(frames(given.output / "gpu.npy"), frames(given.output / "cpu.npy"))
    steps.row("svd-tiny: relative L2 to the CPU provider", f"{error:.2e}")
    steps.row("svd-tiny: seconds with everything", f"{took:.2f}")

    xt = ["graphs/svd-xt.yaml", *target, "--set", "steps=2"]
    _, out, _ = steps.run("estimate svd-xt", [VIDC, "estimate", *xt, "--format", "json"])
    (given.output / "svd-xt-estimate.json").write_text(out)
    predicted = json.loads(out)["predicted"]
    peak = Peak()
    peak.start()
    run = [VIDC, "run", *xt, *runtime, "--weights", "random:1", "--input", f"image={PICTURE}", "--fit", "crop", "--format", "json"]
    code, out, _ = steps.run("svd-xt", [*run, "-o", given.output / "xt.mp4"], must=False)
    peak.stop.set()
    (given.output / "svd-xt.json").write_text(out)
    if code == 0:
        measured = json.loads(out)["measured"]
        steps.row("svd-xt, 2 steps: seconds", f"{measured['latency_s']:.2f}", f"{predicted['latency_s']:.2f}")
    steps.row("svd-xt, 2 steps: peak MiB", peak.most, predicted["peak_bytes"] >> 20)
    steps.write()
    if error > 1e-3:
        raise SystemExit("svd-tiny differs from the CPU provider")


if __name__ == "__main__":
    main()
