#!/usr/bin/env python3
"""Where OpenVINO's time goes in one model, by its own counters: seconds and how many, by kind of kernel.

    python3 tools/target/openvino_counters.py MODEL.onnx [RUNS]

The model's extents must be fixed, as `vidc optimize --provider openvino --dim ...` writes them. f32, two threads, the fastest of RUNS (3) runs. Needs numpy and
openvino==2026.4.1, the version inside of the plug-in.
"""

import collections
import sys
import time

import numpy as np
import openvino


def main():
    core = openvino.Core()
    model = core.read_model(sys.argv[1])
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.inputs:
        floats = value.element_type == openvino.Type.f32
        feeds[value.any_name] = random.standard_normal(list(value.shape)).astype("f4") if floats else np.full(list(value.shape), 500, "i8")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2, "PERF_COUNT": True}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.infer(feeds)
    best = None
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 3):
        began = time.perf_counter()
        request.infer(feeds)
        took = time.perf_counter() - began
        if best is None or took < best[0]:
            best = took, request.get_profiling_info()
    seconds, count = collections.Counter(), collections.Counter()
    for node in best[1]:
        seconds[node.node_type] += node.real_time.total_seconds()
        count[node.node_type] += 1
    total = sum(seconds.values())
    print(f"{best[0]:.3f} s a run, {total:.3f} s in kernels")
    for kind, s in seconds.most_common(10):
        print(f"{kind:26} {count[kind]:5} {s:8.3f} s {s / total:6.1%}")


if __name__ == "__main__":
    main()
