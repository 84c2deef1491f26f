"""Trains svd-mini: rounds of U-net and autoencoder, after each a snapshot where it is better.

Every stage is a process of its own that resumes from `--work`, or from `--snapshot` where that has no state. SIGTERM ends a
round cleanly: the stage saves, no snapshot is written.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from export import export
from unet import add_options

HERE = Path(__file__).parent
# glibc gives large blocks back at once, and torch faults them in again every step.
ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
BETTER = 0.97  # a snapshot is worth its bytes in a repository when a figure fell to this share of the last snapshot's


def last(log: Path) -> dict:
    """The newest line of a stage's log."""
    return json.loads(log.read_text().splitlines()[-1])


def figures(work: Path) -> dict[str, float]:
    """What a snapshot is judged by, both better when smaller: the U-net's held-out loss, the autoencoder's error."""
    reconstruction = last(work / "autoencoder.jsonl")["held-out pictures"][0]
    return {"unet": last(work / "unet.jsonl")["held_out"], "autoencoder": 10 ** (-reconstruction / 10)}


def snapshot(work: Path, out: Path) -> bool:
    """Exports to `out` if a figure is better than the last snapshot's; says whether it did."""
    memory = work / "snapshot.json"
    now = figures(work)
    before = json.loads(memory.read_text()) if memory.exists() else {}
    if before and all(now[name] > BETTER * before[name] for name in now):
        return False
    export(work, out)
    memory.write_text(json.dumps(now))
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder that snapshots go to")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--autoencoder-minutes", type=float, default=20)
    options = parser.parse_args()
    shared = ["--clips", options.clips, "--work", options.work, "--device", options.device, "--seed", str(options.seed)]
    shared += ["--snapshot", options.snapshot] if options.snapshot else []
    shared += ["--polite"] if options.polite else []
    stages = {"unet.py": options.minutes, "autoencoder.py": options.autoencoder_minutes}
    for _ in range(options.rounds):
        for script, minutes in stages.items():
            stage = subprocess.Popen([sys.executable, HERE / script, *shared, "--minutes", str(minutes)], env=os.environ | ENVIRONMENT)
            asked = []
            signal.signal(signal.SIGTERM, lambda number, _frame, to=stage, asked=asked: (asked.append(number), to.terminate()))
            if stage.wait() != 0 or asked:
                raise SystemExit(f"{script} ended early")
        print("snapshot written" if snapshot(options.work, options.out) else "no snapshot: less than 3 % better", flush=True)


if __name__ == "__main__":
    main()
