#!/usr/bin/env python3
"""Runs an ONNX model with ONNX Runtime's Python package in this process, on random inputs: seconds, resident peak, time by operator.

    python3 tools/memory/onnxruntime_run.py MODEL.onnx --dim batch=1 --dim frames=14 --dim latent_h=32 --dim latent_w=32
    python3 tools/memory/onnxruntime_run.py PLANDIR/vae_decoder.onnx --level none --profile

A model of a plan is run as it is (`--level none`) and must lie beside its weights (`vidc compile --bundle`). Prints one JSON line, and with
`--profile` the share of each operator. Needs onnxruntime and numpy.
"""

import argparse
import collections
import json
import os
import resource
import tempfile
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

LEVELS = {"none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL, "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def shares(path):
    with open(path) as file:
        kernels = [e for e in json.load(file) if e.get("cat") == "Node" and e["name"].endswith("kernel_time")]
    time_of, count = collections.Counter(), collections.Counter()
    for kernel in kernels:
        time_of[kernel["args"]["op_name"]] += kernel["dur"]
        count[kernel["args"]["op_name"]] += 1
    whole = sum(time_of.values())
    for op, took in time_of.most_common():
        print(f"{op:24} {count[op]:5} {took / 1e6:8.3f} s {took / whole:6.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--dim", action="append", default=[], help="an open extent, as NAME=N")
    parser.add_argument("--level", choices=LEVELS, default="all")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    dims = {name: int(n) for name, n in (pair.split("=") for pair in options.dim)}
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session_options.graph_optimization_level = LEVELS[options.level]
    if options.profile:
        session_options.enable_profiling = True
        session_options.profile_file_prefix = os.path.join(tempfile.mkdtemp(), "profile")
    session = ort.InferenceSession(options.model, session_options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    extent = lambda d: d if isinstance(d, int) else dims[d]
    inputs = {i.name: random.standard_normal([extent(d) for d in i.shape]).astype(TYPES[i.type]) for i in session.get_inputs()}
    seconds = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"run_s": round(min(seconds), 3), "resident_mib": round(peak, 1)}))
    if options.profile:
        shares(session.end_profiling())


if __name__ == "__main__":
    main()
