"""Turns a table of ONNX Runtime CPU microbenchmarks into the raw points of a CPU profile.

    python3 tools/hwdb/points_from_microbench.py MICROBENCH.csv hwdb/points/cpu-avx512.csv

Input columns: op,dtype,shape,flops,bytes_min,best_ms,contended_p20_ms,... (two threads where op ends in _t2).
`best_us` is the less of the two times: both are real runs of the same operator.
"""

import csv
import re
import sys


def convert(op, shape):
    """(family, shape as `cpu_probe.py` writes it), or None for rows that no formula reads."""
    size = [int(x) for x in re.findall(r"\d+", shape)]
    if op in ("matmul_t2", "matmulinteger_t2"):
        return "gemm", f"1x{shape}"  # m x n x k
    if op == "conv2d_t2":
        n, c, h, w, out, k = size
        return "conv", f"{n}x{c}x{out}x{h}x{w}x{k}x{k}"
    if op == "conv3d_3x1x1_t2":
        n, c, f, h, w, out = size
        return "conv", f"{n}x{c}x{out}x{f}x{h * w}x3x1"
    if op in ("add_t2", "sigmoid_t2"):
        return "elementwise", f"{op[:-3]} {shape}"
    if op == "layernorm_t2":
        return "norm", f"layer {shape}"  # the GroupNormalization rows are a function of 29 nodes, no operator
    if op == "softmax_t2":
        return "softmax", shape
    if op == "session_run_floor":
        return "dispatch", "chain 1"
    return None


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], newline="") as source, open(sys.argv[2], "w", newline="") as target:
        rows = csv.writer(target, lineterminator="\n")
        rows.writerow(["family", "dtype", "shape", "flop", "bytes", "best_us", "p20_us", "median_us", "runs"])
        for r in csv.DictReader(source):
            found = convert(r["op"], r["shape"])
            if found:
                best, p20 = float(r["best_ms"]) * 1e3, float(r["contended_p20_ms"]) * 1e3
                dtype = {"u8s8": "int8"}.get(r["dtype"], r["dtype"])
                rows.writerow([found[0], dtype, found[1], r["flops"], r["bytes_min"], f"{min(best, p20):.2f}", f"{max(best, p20):.2f}", "", ""])


if __name__ == "__main__":
    main()
