"""Writes one hardware profile a row of a CSV of device specifications.

    python3 tools/hwdb/from_csv.py DEVICES.csv hwdb/

The columns are those named in FIGURES and `main`; an empty cell is a figure that the device lacks or nobody knows.
The `source` cell is `labels:text;labels:text`; a part without a known label speaks for the whole row. The `uncertain`
cell names figures or is free text: figures that it names are flagged, and text that names none flags the whole row.
"""

import csv
import json
import pathlib
import re
import sys

SCHEMA = 1

# figure of the profile: (column, unit, labels that mean it in `source` and `uncertain`)
FIGURES = {
    "sm_count": ("sm_count", "1", {"sm", "sm_count"}),
    "boost_clock": ("boost_clock_mhz", "MHz", {"clk", "clocks"}),
    "tensor_clock": ("tensor_clock_mhz", "MHz", {"clk", "clocks", "tensor clk"}),
    "fp32": ("fp32_tflops", "TFLOPS", {"fp32"}),
    "tf32_tensor": ("tf32_tensor_tflops_dense", "TFLOPS", {"tensor", "tensor rates"}),
    "fp16_tensor_fp16_accumulate": ("fp16_tensor_tflops_dense_fp16acc", "TFLOPS", {"tensor", "tensor rates", "fp16"}),
    "fp16_tensor_fp32_accumulate": ("fp16_tensor_tflops_dense_fp32acc", "TFLOPS", {"tensor", "tensor rates", "fp16", "fp32-acc"}),
    "bf16_tensor_fp32_accumulate": ("bf16_tensor_tflops_dense_fp32acc", "TFLOPS", {"tensor", "tensor rates", "bf16", "fp32-acc"}),
    "int8": ("int8_dense_tops", "TOPS", {"tensor", "tensor rates", "int8", "int8_tops"}),
    "fp8_tensor_fp16_accumulate": ("fp8_tensor_tflops_dense_fp16acc", "TFLOPS", {"tensor", "tensor rates", "fp8"}),
    "fp8_tensor_fp32_accumulate": ("fp8_tensor_tflops_dense_fp32acc", "TFLOPS", {"tensor", "tensor rates", "fp8", "fp32-acc"}),
    "fp4_tensor": ("fp4_tensor_tflops_dense", "TFLOPS", {"tensor", "tensor rates", "fp4"}),
    "memory": ("memory_gb", "GiB", {"mem", "memory"}),
    "memory_bandwidth": ("memory_bandwidth_gb_s", "GB/s", {"bw"}),
    "l2": ("l2_mb", "MB", {"l2", "l2_mb"}),
    "shared_memory_per_sm": ("shared_mem_per_sm_kb", "KiB", {"smem", "smem/blocks per sm"}),
    "shared_memory_per_block": ("shared_mem_max_per_block_kb", "KiB", {"smem", "smem/blocks per sm"}),
    "registers_per_sm": ("registers_per_sm", "1", set()),
    "threads_per_sm": ("max_threads_per_sm", "1", set()),
    "blocks_per_sm": ("max_blocks_per_sm", "1", {"blocks per sm", "smem/blocks per sm"}),
    "pcie_generation": ("pcie_gen", "1", {"pcie"}),
    "pcie_lanes": ("pcie_lanes", "1", {"pcie"}),
    "pcie_bandwidth": ("pcie_gb_s_per_dir_theoretical", "GB/s", {"pcie"}),
    "nvlink_bandwidth": ("nvlink_gb_s_total_bidir", "GB/s", {"nvlink"}),
}
LABELS = set().union(*(labels for _, _, labels in FIGURES.values()), {"tdp", "all", "rest"})


def label_of(word):
    """The label that a word of a source or uncertain cell means, or None: `clk 1755` is `clk`, `tensor 125` is `tensor`."""
    word = word.strip().lower()
    several = next((label for label in LABELS if " " in label and word.startswith(label)), None)
    first = re.split(r"[\s(:]", word)[0]
    return several or (word if word in LABELS else first if first in LABELS else None)


def split_outside_brackets(text, separators):
    parts, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c in separators and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts if p.strip()]


def sources(cell):
    """`[(labels, text)]`; the labels of a part that speaks for the whole row are `{"all"}`."""
    found = []
    for part in split_outside_brackets(cell, ";"):
        # `bf16 364 dense,bw:text` carries labels before the colon; a colon inside plain prose does not.
        head, colon, text = part.partition(":")
        labels = {label_of(w) for w in head.split(",")} - {None} if colon else set()
        if labels:
            found.append(({"all"} if labels & {"all", "rest"} else labels, text.strip()))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + "; " + part)
        else:
            found.append(({"all"}, part))
    return found


def doubted(cell):
    """Labels of the figures that the `uncertain` cell names; `{"all"}` when it names none but says something."""
    if not cell:
        return set()
    labels = {label_of(w) for w in split_outside_brackets(cell, ",;") } - {None}
    return {"all"} if not labels or "all" in labels else labels


def quote(text):
    return json.dumps(text, ensure_ascii=False)


def number(text):
    value = float(text)
    return str(int(value)) if value == int(value) else repr(value)


def usable_memory(row):
    """Bytes that a process can have, and why. Cards sold as N GB carry N GiB, of which firmware and ECC take a share."""
    if row["device_reported_memory_bytes"]:
        return row["device_reported_memory_bytes"], "memory", False
    if not row["compute_capability"]:
        share, why = 0.8, "the operating system and other processes take a share"
    elif row["pcie_gen"] == "unified":
        share, why = 0.85, "shared with the operating system"
    elif row["memory_type"].startswith("GDDR") and not row["name"].startswith("GeForce"):
        share, why = 0.92, "GDDR with ECC on; L40S reports 0.928 of its GiB"
    else:
        share, why = 0.97, "A100, H100 and A6000 report 0.989 to 0.991 of their GiB; less to be safe"
    return str(int(float(row["memory_gb"]) * 2**30 * share)), f"derived: {share} of the GiB sold ({why})", True


def sustained(row):
    """Share of the boost clock that a card holds under matrix load: priors by power, no measurement of this card."""
    tdp = float(row["tdp_w"])
    full_rate = row["fp16_tensor_tflops_dense_fp16acc"] == row["fp16_tensor_tflops_dense_fp32acc"]
    if row["pcie_gen"] == "unified":
        return 0.75, "prior: module in its default power mode"
    if tdp <= 75:
        return 0.45, "prior: cards up to 75 W throttle under matrix load"
    if tdp <= 200 and full_rate:
        return 0.75, "prior: full-rate tensor cores at 200 W or less"
    return 0.9, "prior: card with the power that its clock needs"


def profile(row):
    gpu = bool(row["compute_capability"])
    parts, doubts = sources(row["source"]), doubted(row["uncertain"])
    whole = " ".join(text for labels, text in parts if labels == {"all"}) or row["source"]
    names = {"row": whole}

    def source_of(labels):
        for i, (mine, text) in enumerate(parts):
            if mine & labels:
                names[f"part{i + 1}"] = text
                return f"part{i + 1}"
        return "row"

    def figure(value, unit, source, uncertain):
        flag = ", uncertain: true" if uncertain else ""
        return f"{{value: {value}, unit: {unit}, source: {source}{flag}}}"

    unknown = lambda labels: bool(doubts & (labels | {"all"}))
    spec = []
    for name, (column, unit, labels) in FIGURES.items():
        cell = row[column]
        if cell and re.fullmatch(r"[0-9.]+", cell) and not (column == "pcie_lanes" and cell == "0"):
            name = "cores" if not gpu and name == "sm_count" else name
            spec.append(f"  {name}: {figure(number(cell), unit, source_of(labels), unknown(labels))}")
    size, why, derived = usable_memory(row)
    if derived:
        names["usable"], why = why, "usable"
    else:
        why = source_of({why})
    spec.append(f"  usable_memory: {figure(size, 'B', why, derived)}")

    lines = [f"schema: {SCHEMA}", f"key: {row['key']}", f"name: {quote(row['name'])}", f"vendor: {row['vendor']}", f"kind: {'gpu' if gpu else 'cpu'}", f"architecture: {row['arch'] if gpu else 'cpu'}"]
    if gpu:
        lines.append(f"compute_capability: {quote(row['compute_capability'])}")
    if row["memory_type"]:
        lines.append(f"memory_type: {quote(row['memory_type'])}")
    if row["pcie_gen"] == "unified":
        lines.append("unified_memory: true")
    power = []
    if row["tdp_w"]:
        power.append(f"  tdp: {figure(number(row['tdp_w']), 'W', source_of({'tdp'}), unknown({'tdp'}))}")
    if gpu:
        factor, names["sustained"] = sustained(row)
        power.append(f"  sustained_factor: {figure(factor, quote('1'), 'sustained', True)}")
    lines += ["sources:", *(f"  {k}: {quote(v)}" for k, v in names.items())]
    if row["uncertain"]:
        lines.append(f"doubts: {quote(row['uncertain'])}")
    lines += ["spec:", *spec]
    if power:
        lines += ["power:", *power]
    return "\n".join(lines).replace("unit: 1,", 'unit: "1",') + "\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2])
    with open(sys.argv[1], newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            (folder / f"{row['key']}.yaml").write_text(profile(row), encoding="utf-8")


if __name__ == "__main__":
    main()
