#!/usr/bin/env python3
"""Kills vidc at random moments and looks at what is left.

Each of `optimize`, `compile`, `tune` and `import` is started, killed with SIGKILL after a random time within its usual run, and started
again over whatever that left. After every kill: no file that was there before is changed or gone (under its name, or kept as NAME.old),
and what stands under the name of an output is whole. Files that begin with `.vidc-` are temporary and may stay.

    VIDC_TINY_FOLDER=DIR cargo test --lib makes_a_tiny_folder -- --ignored
    python tools/kill.py target/debug/vidc --pipeline DIR       # 15 kills a command
    python tools/kill.py target/release/vidc --kills 3 --seed 7
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 300


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def number(tag: int, n: int) -> bytes:
    return varint(tag << 3) + varint(n)


def model(path: Path, data: str, layers: int, side: int) -> None:
    """A chain of matrix products whose weights, `layers` of `side` x `side`, lie in another file."""
    weights, nodes, stored = random.Random(1), [], []
    with open(path.with_name(data), "wb") as out:
        for i in range(layers):
            entries = [("location", data), ("offset", str(out.tell())), ("length", str(4 * side * side))]
            external = b"".join(field(13, field(1, k.encode()) + field(2, v.encode())) for k, v in entries)
            stored.append(number(1, side) + number(1, side) + number(2, 1) + field(8, f"w{i}".encode()) + external + number(14, 1))
            out.write(struct.pack(f"<{side}f", *(weights.random() for _ in range(side))) * side)
            nodes.append(field(1, f"x{i}".encode()) + field(1, f"w{i}".encode()) + field(2, f"x{i + 1}".encode()) + field(4, b"MatMul"))
    shape = field(2, field(1, number(1, 1)) + field(1, number(1, side)))
    value = lambda name: field(1, name.encode()) + field(2, field(1, number(1, 1) + shape))
    graph = b"".join(field(1, n) for n in nodes) + field(2, b"chain") + b"".join(field(5, t) for t in stored)
    graph += field(11, value("x0")) + field(12, value(f"x{layers}"))
    path.write_bytes(number(1, 10) + field(2, b"somebody") + field(7, graph) + field(8, field(1, b"") + number(2, 17)))


class Case:
    """One command in a folder of its own."""

    def __init__(self, vidc: Path, root: Path, name: str, args: list[str], outputs: list[str]):
        self.vidc, self.name, self.args, self.outputs = vidc, name, args, outputs
        self.folder = root / name
        (self.folder / "out").mkdir(parents=True)
        (self.folder / "out" / "notes.txt").write_text("precious")

    def start(self) -> subprocess.Popen:
        return subprocess.Popen([self.vidc, *self.args], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def whole_run(self) -> float:
        """Seconds of a run that nobody disturbs."""
        begin = time.monotonic()
        child = self.start()
        _, err = child.communicate(timeout=LIMIT)
        if child.returncode != 0:
            sys.exit(f"{self.name} fails undisturbed: {err.decode()}")
        return time.monotonic() - begin

    def clear(self) -> None:
        """Takes the outputs away."""
        for name in self.outputs:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def users(self) -> dict[str, str]:
        """The files that are not vidc's, with their hashes."""
        found = hashes(self.folder)
        mine = {n for n in self.outputs if n in found and (self.folder / n).read_bytes().startswith(b"mine")}
        own = lambda n: n in self.outputs or n.startswith(tuple(f"{o}/" for o in self.outputs)) or "/.vidc-" in n
        return {n: h for n, h in found.items() if n in mine or not own(n)}

    def kill(self, after: float) -> bool:
        """Starts and kills; was it still running?"""
        child = self.start()
        try:
            child.wait(after)
        except subprocess.TimeoutExpired:
            pass
        running = child.poll() is None
        child.send_signal(signal.SIGKILL) if running else None
        child.communicate(timeout=LIMIT)
        return running

    def look(self, before: dict[str, str], wrong: list[str]) -> None:
        after = hashes(self.folder)
        for name, digest in before.items():
            names = [name, *(n for n in after if n.startswith(f"{name}.old"))]
            if all(after.get(n) != digest for n in names):
                wrong.append(f"{self.name}: {name} is changed or gone")
        for name in self.outputs:
            path = self.folder / name
            if path.exists() and name not in before:
                problem = self.broken(path)
                if problem:
                    wrong.append(f"{self.name}: {name} is not whole: {problem}")

    def broken(self, path: Path) -> str:
        if path.suffix == ".data":
            whole = sum(p.stat().st_size for p in self.folder.glob("*.bin"))
            return "" if path.stat().st_size >= whole else f"{path.stat().st_size} of {whole} bytes"
        if self.name == "optimize":
            check = ["inspect", path]
        elif self.name == "tune":
            # A record that can be read is found stale or used; one that is half written is no record.
            check = ["compile", "svd-tiny", "--tuning", path, "-o", self.folder / ".vidc-checked"]
        else:
            check = ["check", path]
        done = subprocess.run([self.vidc, *check], cwd=self.folder, capture_output=True, timeout=LIMIT, check=False)
        return "" if done.returncode == 0 else done.stderr.decode()


def cases(vidc: Path, root: Path, pipeline: Path | None) -> list[Case]:
    optimize = Case(vidc, root, "optimize", ["optimize", "m.onnx", "-o", "out/o.onnx", "--level", "none"], ["out/o.onnx", "out/o.onnx.data"])
    model(optimize.folder / "m.onnx", "m.bin", 12, 1024)
    compile_ = Case(vidc, root, "compile", ["compile", "svd-tiny", "--hw", "cpu-avx2", "-o", "out/p"], ["out/p"])
    tune = Case(vidc, root, "tune", ["tune", "svd-tiny", "--hw", "cpu-avx2", "-o", "out/r.yaml"], ["out/r.yaml"])
    if pipeline is None:
        return [optimize, compile_, tune]
    import_ = Case(vidc, root, "import", ["import", "m", "-o", "out/g.yaml"], ["out/g.yaml"])
    shutil.copytree(pipeline, import_.folder / "m")
    return [optimize, compile_, tune, import_]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vidc", type=Path)
    parser.add_argument("--kills", type=int, default=15, help="of each command")
    parser.add_argument("--pipeline", type=Path, metavar="DIR", help="a small diffusers folder of Stable Video Diffusion; import is left out without one")
    parser.add_argument("--only", metavar="COMMAND")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chance, wrong, report = random.Random(args.seed), [], {}
    with tempfile.TemporaryDirectory(prefix="vidc-kill-") as root:
        for case in cases(args.vidc.resolve(), Path(root), args.pipeline):
            if args.only not in (None, case.name):
                continue
            seconds = case.whole_run()
            for _ in range(2 if seconds < 5 else 0):
                case.clear()
                seconds = min(seconds, case.whole_run())
            case.clear()
            running = tried = 0
            # What is over before it is killed does not count.
            while running < args.kills and tried < 5 * args.kills:
                i = tried
                tried += 1
                # Every third begins with nothing there, every third with a file of the user, every third over what the last kill left.
                if i % 3 < 2:
                    case.clear()
                first = case.folder / case.outputs[0]
                if i % 3 == 1 and case.name != "compile":
                    first.write_text(f"mine {i}")
                before = case.users()
                running += case.kill(chance.random() * seconds)
                case.look(before, wrong)
            # What the kills left is in nobody's way.
            case.whole_run()
            report[case.name] = {"kills": running, "tried": tried, "seconds": round(seconds, 2)}
    print(json.dumps({"commands": report, "kills": sum(r["kills"] for r in report.values()), "wrong": wrong}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
