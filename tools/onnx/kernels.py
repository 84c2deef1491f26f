#!/usr/bin/env python3
"""Turn ONNX Runtime's docs/OperatorKernels.md into a small table.

usage: kernels.py MARKDOWN PROVIDER [SOURCE] > TABLE

SOURCE is what the first line calls the source. Remarks go to standard error.

One operator a line: the element types of the first input that the execution
provider has kernels for, at opset 21 of ai.onnx and opset 1 of com.microsoft.
OPSET can be set in the environment.
"""
import os
import re
import sys

OPSET = int(os.environ.get("OPSET", "21"))
DOMAINS = {"ai.onnx": ("", OPSET), "com.microsoft": ("com.microsoft.", 1)}
SHORT = {
    "float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64",
    "int2": "i2", "int4": "i4", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint2": "u2", "uint4": "u4", "uint8": "u8", "uint16": "u16", "uint32": "u32",
    "uint64": "u64", "bool": "bool", "string": "string", "float8e4m3fn": "f8e4m3fn",
    "float8e4m3fnuz": "f8e4m3fnuz", "float8e5m2": "f8e5m2", "float8e5m2fnuz": "f8e5m2fnuz",
    "float8e8m0": "f8e8m0", "float4e2m1": "f4e2m1",
}
# Kernels that do not constrain their first input's type variable: the types that
# the operator's schema allows (read from the onnxruntime 1.31.1 wheel).
SCHEMA = {
    "DynamicQuantizeLinear": ["f32"],
    "Where": ["bool"],
    "com.microsoft.BeamSearch": ["f32", "f16", "i32"],
    "com.microsoft.EmbedLayerNormalization": ["i32"],
    "com.microsoft.GreedySearch": ["i32"],
    "com.microsoft.QEmbedLayerNormalization": ["i32"],
    "com.microsoft.QLinearAveragePool": ["i8", "u8"],
    "com.microsoft.QLinearConcat": ["f32"],
    "com.microsoft.QLinearGlobalAveragePool": ["i8", "u8"],
    "com.microsoft.QLinearWhere": ["bool"],
    "com.microsoft.Sampling": ["i32"],
    "com.microsoft.WhisperBeamSearch": ["f32", "f16", "i32"],
}
ORDER = ["f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64",
         "bool", "string", "i4", "u4", "i2", "u2", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2",
         "f8e5m2fnuz", "f8e8m0", "f4e2m1", "complex64", "complex128", "other", "any"]


def holds(versions, opset):
    """Does `[13, 21]`, `13+` or `21` contain the opset?"""
    numbers = [int(n) for n in re.findall(r"\d+", versions)]
    if not numbers:
        raise SystemExit(f"no version in {versions!r}")
    if versions.strip().endswith("+"):
        return opset >= numbers[0]
    if len(numbers) == 2:
        return numbers[0] <= opset <= numbers[1]
    return opset == numbers[0]


def short(name):
    """`tensor(float)` -> f32; sequences, optionals, maps and sparse tensors -> other."""
    m = re.fullmatch(r"tensor\((\w+)\)", name.strip())
    return SHORT.get(m.group(1), m.group(1)) if m else "other"


def literals(text):
    """The types of a list `tensor(double), seq(tensor(float)), ...`."""
    return [t for t in re.findall(r"[a-z_]+\((?:[^()]|\([^()]*\))*\)", text)]


def first_inputs(parameters):
    """The first input's type or type variable, one per signature ("or" between them)."""
    out = []
    for signature in re.split(r"<br><br>or<br><br>", parameters):
        m = re.search(r"\*in\*\s+[^:|]*:\*\*(.+?)\*\*", signature)
        name = m.group(1) if m else None
        if name not in out:
            out.append(name)
    return out


def types(parameters, constraints):
    """The row's types of the first input, or None where they are not constrained."""
    variables = {}
    for part in re.split(r"<br\s*/?>", constraints):
        m = re.match(r"\s*\*\*(.+?)\*\*\s*=\s*(.*)$", part)
        if m:
            variables[m.group(1)] = literals(m.group(2))
    names = first_inputs(parameters)
    # Several signatures, of several versions: the first whose variable this row has.
    for name in names:
        if name is None:
            continue
        if name in variables:
            return [short(t) for t in variables[name]]
        if "(" in name:
            return [short(t) for t in literals(name)]
    return ["any"]


def table(text, provider):
    rows, notes = {}, []
    section = re.search(rf"^## Operators implemented by {provider}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not section:
        raise SystemExit(f"no section of {provider}")
    domain = operator = parameters = None
    for line in section.group(1).splitlines():
        m = re.match(r"\|\*\*Operator Domain:\*\* \*(.+?)\*", line)
        if m:
            domain = m.group(1)
            continue
        if not line.startswith("|") or domain not in DOMAINS:
            continue
        m = re.match(r"\|([^|]*)\|([^|]*)\|([^|]*)\|(.*)\|\s*$", line)
        if not m or not m.group(3).strip():
            continue
        if m.group(1).strip():
            operator, parameters = m.group(1).strip(), m.group(2)
        prefix, opset = DOMAINS[domain]
        if not holds(m.group(3), opset):
            continue
        found = types(parameters, m.group(4))
        if found == ["any"] and "*in*" in parameters:
            found = SCHEMA.get(prefix + operator, found)
            notes.append(f"{prefix}{operator}: first input {first_inputs(parameters)} not constrained by its row; "
                         f"the schema's types: {' '.join(found)}")
        key = prefix + operator
        if key in rows:
            notes.append(f"{key}: more than one row holds the opset; types joined")
        rows[key] = rows.get(key, set()) | set(found)
    return rows, notes


def main():
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    path, provider = sys.argv[1:3]
    source = sys.argv[3] if len(sys.argv) > 3 else "(commit not given), docs/OperatorKernels.md"
    rows, notes = table(open(path, encoding="utf-8").read(), provider)
    print(f"# ONNX Runtime {source}, {provider}, opset {OPSET}: types of the first input")
    rank = {t: i for i, t in enumerate(ORDER)}
    for key in sorted(rows):
        print(f"{key}: " + " ".join(sorted(rows[key], key=lambda t: (rank.get(t, 99), t))))
    for note in notes:
        print("note: " + note, file=sys.stderr)


main()
