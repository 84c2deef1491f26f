"""Measures operators on the CPU provider of ONNX Runtime and writes the raw points of a CPU profile.

    python3 tools/hwdb/cpu_probe.py --threads 2 --out hwdb/points/cpu-avx2.csv

Needs: onnxruntime, onnx, numpy (a virtual environment will do). Graph optimisation is off, as vidc runs its plans.
Each row is one operator at one shape; times are microseconds of a session run with the empty-run floor still inside.
`best` is the least and `p20` the 20th percentile of all runs: on a shared machine the least is nearest the truth.
"""

import argparse
import csv
import os
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

F32, F16 = TensorProto.FLOAT, TensorProto.FLOAT16
NP = {F32: np.float32, F16: np.float16}
NAME = {F32: "f32", F16: "f16"}


def model(nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, "probe", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    m = helper.make_model(graph, opset_imports=opsets)
    m.ir_version = 10
    return m.SerializeToString()


def single(op, shapes, out, dtype=F32, weights=0, domain="", **attributes):
    """One node; the last `weights` inputs are initialisers, as they are in a plan."""
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(len(shapes))]
    arrays = [(rng.standard_normal(s) * 0.1).astype(NP[dtype]) for s in shapes]
    split = len(shapes) - weights
    infos = [helper.make_tensor_value_info(n, dtype, a.shape) for n, a in zip(names[:split], arrays)]
    inits = [onnx.numpy_helper.from_array(a, n) for n, a in zip(names[split:], arrays[split:])]
    node = helper.make_node(op, names, ["y"], domain=domain, **attributes)
    data = model([node], infos, [helper.make_tensor_value_info("y", dtype, out)], inits)
    return data, dict(zip(names[:split], arrays))


def chain(length):
    """`length` tiny nodes in a row: the slope over the length is the dispatch cost of one node."""
    nodes = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(length)]
    ends = [helper.make_tensor_value_info(v, F32, [1]) for v in ("v0", f"v{length}")]
    return model(nodes, ends[:1], ends[1:], []), {"v0": np.ones(1, np.float32)}


def measure(data, feeds, threads, seconds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
    for output in session.get_outputs():
        kind = NP[F16] if "float16" in output.type else NP[F32]
        binding.bind_ortvalue_output(output.name, ort.OrtValue.ortvalue_from_shape_and_type(output.shape, kind))
    for _ in range(3):
        session.run_with_iobinding(binding)
    times, stop = [], time.perf_counter() + seconds
    while (time.perf_counter() < stop or len(times) < 7) and len(times) < 2000:
        start = time.perf_counter_ns()
        session.run_with_iobinding(binding)
        times.append((time.perf_counter_ns() - start) / 1e3)
    return np.sort(times)


def gemms():
    shapes = [(1, 256, 320, 320), (1, 1024, 1280, 1280), (1, 64, 1280, 1280), (1, 1, 1280, 1280), (1, 4096, 320, 1280), (1, 4096, 2560, 320),
              (1, 2304, 640, 640), (1, 77, 768, 768), (1, 1024, 320, 2560), (1, 1536, 1536, 1536), (1, 9216, 320, 320), (1, 16, 320, 1024)]
    for b, m, n, k in shapes:
        yield "gemm", F32, f"{b}x{m}x{n}x{k}", 2 * b * m * n * k, 4 * b * (m * k + k * n + m * n), single("MatMul", [(m, k), (k, n)], (m, n), weights=1)
    for b, m, n, k in [(1, 256, 320, 320), (1, 1024, 1280, 1280), (1, 64, 1280, 1280)]:
        yield "gemm", F16, f"{b}x{m}x{n}x{k}", 2 * b * m * n * k, 2 * b * (m * k + k * n + m * n), single("MatMul", [(m, k), (k, n)], (m, n), F16, weights=1)
    for b, m, n, k in [(16, 256, 256, 64), (16, 256, 64, 256), (2048, 14, 14, 64), (2048, 14, 64, 14)]:
        yield "bmm", F32, f"{b}x{m}x{n}x{k}", 2 * b * m * n * k, 4 * b * (m * k + k * n + m * n), single("MatMul", [(b, m, k), (b, k, n)], (b, m, n))


def convs():
    shapes = [(1, 4, 320, 64, 64, 3), (1, 320, 320, 64, 64, 3), (1, 640, 640, 32, 32, 3), (1, 1280, 1280, 16, 16, 3), (1, 320, 320, 64, 64, 1), (1, 128, 128, 128, 128, 3),
              (4, 64, 64, 64, 64, 3), (2, 320, 640, 32, 32, 3), (1, 512, 512, 64, 64, 3)]
    for b, cin, cout, h, w, k in shapes:
        flop, size = 2 * b * h * w * cin * cout * k * k, 4 * (b * h * w * (cin + cout) + cin * cout * k * k)
        one = single("Conv", [(b, cin, h, w), (cout, cin, k, k)], (b, cout, h, w), weights=1, kernel_shape=[k, k], pads=[k // 2] * 4)
        yield "conv", F32, f"{b}x{cin}x{cout}x{h}x{w}x{k}x{k}", flop, size, one
    for b, c, h, w, k in [(1, 320, 14, 1024, 3), (1, 64, 8, 4096, 3)]:
        flop, size = 2 * b * h * w * c * c * k, 4 * (2 * b * h * w * c + c * c * k)
        one = single("Conv", [(b, c, h, w), (c, c, k, 1)], (b, c, h, w), weights=1, kernel_shape=[k, 1], pads=[1, 0, 1, 0])
        yield "conv", F32, f"{b}x{c}x{c}x{h}x{w}x{k}x1", flop, size, one


def attentions():
    for b, heads, lq, lk, dh in [(1, 5, 1024, 1024, 64), (1, 10, 256, 256, 64), (4, 5, 576, 576, 64), (1024, 5, 14, 14, 64), (1, 8, 4096, 77, 40)]:
        e = heads * dh
        one = single("MultiHeadAttention", [(b, lq, e), (b, lk, e), (b, lk, e)], (b, lq, e), domain="com.microsoft", num_heads=heads)
        yield "attention", F32, f"{b}x{heads}x{lq}x{lk}x{dh}", 4 * b * heads * lq * lk * dh, 8 * b * e * (lq + lk), one


def memories():
    for n in [1 << 12, 1 << 16, 1 << 19, 1 << 22, 1 << 24]:
        yield "elementwise", F32, f"add {n}", n, 12 * n, single("Add", [(n,), (n,)], (n,))
        yield "elementwise", F32, f"sigmoid {n}", n, 8 * n, single("Sigmoid", [(n,)], (n,))
    yield "elementwise", F32, f"mul {1 << 22}", 1 << 22, 12 << 22, single("Mul", [(1 << 22,), (1 << 22,)], (1 << 22,))
    for b, g, n in [(1, 32, 40960), (1, 32, 10240), (1, 32, 262144), (14, 32, 10240)]:
        one = single("InstanceNormalization", [(b, g, n), (g,), (g,)], (b, g, n), weights=2)
        yield "norm", F32, f"instance {b}x{g}x{n}", 8 * b * g * n, 8 * b * g * n, one
    for m, n in [(256, 320), (4096, 320), (4096, 1280), (9216, 320)]:
        one = single("LayerNormalization", [(m, n), (n,), (n,)], (m, n), weights=2)
        yield "norm", F32, f"layer {m}x{n}", 8 * m * n, 8 * m * n, one
    for m, n in [(256, 256), (4096, 320), (4096, 1024), (28672, 14)]:
        yield "softmax", F32, f"{m}x{n}", 5 * m * n, 8 * m * n, single("Softmax", [(m, n)], (m, n), axis=-1)
    for shape, perm in [((64, 64, 320), (2, 0, 1)), ((1, 14, 1024, 320), (0, 2, 1, 3)), ((14, 320, 1024), (0, 2, 1)), ((4096, 4096), (1, 0))]:
        n, out = int(np.prod(shape)), tuple(shape[i] for i in perm)
        yield "transpose", F32, "x".join(map(str, shape)) + ">" + "".join(map(str, perm)), 0, 8 * n, single("Transpose", [shape], out, perm=list(perm))
    for n in [1 << 16, 1 << 20, 1 << 24]:
        yield "copy", F32, f"concat {n}", 0, 16 * n, single("Concat", [(n,), (n,)], (2 * n,), axis=0)


def dispatches():
    for length in (1, 100):
        yield "dispatch", F32, f"chain {length}", length, 8 * length, chain(length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on one point in one round")
    parser.add_argument("--rounds", type=int, default=2, help="rounds over all points, so that a busy minute does not spoil one of them")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    times = {}
    cases = lambda: (c for group in (gemms, convs, attentions, memories, dispatches) for c in group())
    for _ in range(args.rounds):
        for family, dtype, shape, flop, size, (data, feeds) in cases():
            key = (family, NAME[dtype], shape, flop, size)
            times[key] = np.sort(np.concatenate([times.get(key, []), measure(data, feeds, args.threads, args.seconds)]))
    with open(args.out, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["family", "dtype", "shape", "flop", "bytes", "best_us", "p20_us", "median_us", "runs"])
        for key, t in times.items():
            rows.writerow([*key, *(f"{x:.2f}" for x in (t[0], np.quantile(t, 0.2), np.median(t))), len(t)])


if __name__ == "__main__":
    main()
