#!/usr/bin/env python3
"""Golden values of operators: `tests/data/operators/*.npy`, computed by the reference evaluator of the `onnx` package.

That evaluator computes a few operators partly in single precision (`stash_type`, constants of function bodies). For those,
`EXACT` holds the formula in numpy, double precision throughout: it is compared with the evaluator to 1e-6 and stored instead.

Run in an environment with `onnx` (1.23 was used) and `numpy`:

    python tools/golden/operators.py tests/data/operators

Each case is a small graph in ONNX's text syntax over inputs x0, x1, … of the shapes given. The inputs are not stored: both
sides compute them as `wave(position, elements)`. `src/interp/golden.rs` holds the same cases as vidc's operators.
"""

import math
import pathlib
import sys

import numpy as np
import onnx.parser
from onnx.reference import ReferenceEvaluator

OPSET = 23

# name: (shapes of the inputs, graph body ending in `y`)
CASES = {
    "conv_stride_pad_groups": (
        [(2, 4, 7, 6), (6, 2, 3, 3), (6,)],
        "y = Conv<group=2, kernel_shape=[3,3], strides=[2,1], pads=[1,0,2,1]>(x0, x1, x2)",
    ),
    "conv_3x3": ([(1, 3, 5, 5), (4, 3, 3, 3), (4,)], "y = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x0, x1, x2)"),
    "conv_1x1_no_bias": ([(2, 3, 4, 5), (4, 3, 1, 1)], "y = Conv<kernel_shape=[1,1]>(x0, x1)"),
    "conv_1d_depthwise": ([(1, 4, 9), (4, 1, 4)], "y = Conv<kernel_shape=[4], strides=[3], pads=[2,1], group=4>(x0, x1)"),
    "conv_transpose": (
        [(2, 3, 4, 5), (3, 2, 4, 3), (2,)], "y = ConvTranspose<kernel_shape=[4,3], strides=[2,3], pads=[1,0,2,1]>(x0, x1, x2)"),
    "conv_3d": (
        [(1, 2, 4, 5, 6), (3, 2, 3, 2, 3), (3,)],
        "y = Conv<kernel_shape=[3,2,3], strides=[1,2,2], pads=[2,0,1,0,1,1]>(x0, x1, x2)",
    ),
    "temporal_conv": ([(2, 3, 5, 2, 3), (4, 3, 3, 1, 1), (4,)], "y = Conv<kernel_shape=[3,1,1], pads=[1,0,0,1,0,0]>(x0, x1, x2)"),
    "group_norm_4d": ([(2, 6, 3, 4), (6,), (6,)], "y = GroupNormalization<num_groups=3, epsilon=0.001>(x0, x1, x2)"),
    "group_norm_5d_silu": (
        [(1, 4, 3, 2, 5), (4,), (4,)],
        "n = GroupNormalization<num_groups=2, epsilon=0.00001>(x0, x1, x2)\n s = Sigmoid(n)\n y = Mul(n, s)",
    ),
    "group_norm_nhwc_silu": (
        [(2, 3, 4, 6), (6,), (6,)],
        "t = Transpose<perm=[0,3,1,2]>(x0)\n n = GroupNormalization<num_groups=2, epsilon=0.001>(t, x1, x2)\n"
        "s = Sigmoid(n)\n m = Mul(n, s)\n y = Transpose<perm=[0,2,3,1]>(m)",
    ),
    "instance_norm": ([(2, 3, 4, 5), (3,), (3,)], "y = InstanceNormalization<epsilon=0.001>(x0, x1, x2)"),
    "layer_norm": ([(2, 3, 8), (8,), (8,)], "y = LayerNormalization<axis=-1, epsilon=0.001>(x0, x1, x2)"),
    "rms_norm": ([(2, 3, 8), (8,)], "y = RMSNormalization<axis=-1, epsilon=0.001>(x0, x1)"),
    "softmax": ([(2, 3, 4)], "y = Softmax<axis=1>(x0)"),
    "attention": (
        [(2, 5, 6), (2, 7, 6), (2, 7, 4)],
        "y, k, v = Attention<q_num_heads=2, kv_num_heads=2, scale=0.625>(x0, x1, x2)",
    ),
    # The operator wants the tables once a batch entry.
    "rotary": (
        [(2, 5, 8), (5, 2), (5, 2)],
        "n = Constant<value_ints=[2,5,2]>()\n c = Expand(x1, n)\n s = Expand(x2, n)\n y = RotaryEmbedding<num_heads=2>(x0, c, s)",
    ),
    "gelu_erf": ([(2, 9)], 'y = Gelu(x0)'),
    "gelu_tanh": ([(2, 9)], 'y = Gelu<approximate="tanh">(x0)'),
    "ge_glu": ([(2, 3, 8)], "a, g = Split<axis=-1, num_outputs=2>(x0)\n h = Gelu(g)\n y = Mul(a, h)"),
    "silu": ([(2, 9)], "s = Sigmoid(x0)\n y = Mul(x0, s)"),
    "gemm": ([(3, 4), (5, 4), (5,)], "y = Gemm<transB=1>(x0, x1, x2)"),
    "matmul_broadcast": ([(2, 1, 3, 4), (3, 4, 5)], "y = MatMul(x0, x1)"),
    "upsample": (
        [(1, 2, 3, 2)],
        "f = Constant<value_floats=[1.0,1.0,2.0,3.0]>()\n"
        'y = Resize<mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric">(x0, , f)',
    ),
    "reduce_mean": ([(2, 3, 4, 5)], "a = Constant<value_ints=[1,3]>()\n y = ReduceMean<keepdims=1>(x0, a)"),
    "pad": ([(2, 3, 4)], 'p = Constant<value_ints=[0,1,2,1,0,3]>()\n y = Pad<mode="constant">(x0, p)'),
    "transpose": ([(2, 3, 4, 5)], "y = Transpose<perm=[2,0,3,1]>(x0)"),
}


def wave(position: int, shape: tuple[int, ...]) -> np.ndarray:
    """Values in [-1, 1) without pattern on small shapes, from whole-number arithmetic and one division."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return ((i * 7919 + (position + 1) * 104729) % 1009 / 504.5 - 1.0).reshape(shape)


def evaluate(shapes: list[tuple[int, ...]], body: str) -> np.ndarray:
    inputs = ", ".join(f"double[{','.join(map(str, s))}] x{i}" for i, s in enumerate(shapes))
    text = f'<ir_version: 10, opset_import: ["" : {OPSET}]> case ({inputs}) => (double y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    feed = {f"x{i}": wave(i, s) for i, s in enumerate(shapes)}
    return ReferenceEvaluator(model).run(["y"], feed)[0]


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_erf(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def gelu_tanh(x):
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def group_norm(x, scale, bias, groups, eps):
    """`eps` is an attribute, which ONNX stores in single precision."""
    flat = x.reshape(x.shape[0], groups, -1)
    flat = (flat - flat.mean(-1, keepdims=True)) / np.sqrt(flat.var(-1, keepdims=True) + float(np.float32(eps)))
    wide = (1, -1) + (1,) * (x.ndim - 2)
    return flat.reshape(x.shape) * scale.reshape(wide) + bias.reshape(wide)


def layer_norm(x, scale, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + float(np.float32(0.001))) * scale + bias


def rms_norm(x, scale):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + float(np.float32(0.001))) * scale


def attention(q, k, v, heads=2, scale=0.625):
    q, k, v = (t.reshape(*t.shape[:2], heads, -1) for t in (q, k, v))
    scores = np.exp(scale * np.einsum("bqhd,bkhd->bhqk", q, k))
    out = np.einsum("bhqk,bkhd->bqhd", scores / scores.sum(-1, keepdims=True), v)
    return out.reshape(*out.shape[:2], -1)


EXACT = {
    "group_norm_4d": lambda x, s, b: group_norm(x, s, b, 3, 0.001),
    "group_norm_5d_silu": lambda x, s, b: silu(group_norm(x, s, b, 2, 0.00001)),
    "group_norm_nhwc_silu": lambda x, s, b: silu(group_norm(x.transpose(0, 3, 1, 2), s, b, 2, 0.001)).transpose(0, 2, 3, 1),
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "attention": attention,
    "gelu_erf": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "ge_glu": lambda x: x[..., :4] * gelu_erf(x[..., 4:]),
}


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    for name, (shapes, body) in CASES.items():
        y = evaluate(shapes, body)
        if name in EXACT:
            exact = EXACT[name](*(wave(i, s) for i, s in enumerate(shapes)))
            distance = np.linalg.norm(exact - y) / np.linalg.norm(exact)
            assert exact.shape == y.shape and distance < 1e-6, f"{name}: {distance}"
            y = exact
        assert y.dtype == np.float64
        np.save(folder / f"{name}.npy", np.ascontiguousarray(y))


if __name__ == "__main__":
    main()
