#!/usr/bin/env python3
"""The backend tests of the `onnx` package as plain folders, and what ONNX Runtime makes of them.

    python3 tools/onnx/backend.py extract TESTS              every test of the installed `onnx` package
    python3 tools/onnx/backend.py baseline TESTS [-o FILE]   ONNX Runtime on the files as they are: the counts that a compiler is held to
    python3 tools/onnx/backend.py compare TESTS EXPORTED     the same for `EXPORTED/KIND/NAME.onnx`, against the original's outputs
    python3 tools/onnx/backend.py subset TESTS OUT BASELINE  what the repository keeps: one file a test, many operators, few bytes
                                                             (BASELINE: what `baseline -o` wrote)

`TESTS/KIND/NAME` holds `model.onnx`, `test_data_set_N/{input,output}_M.pb` (`TensorProto`, `SequenceProto`, `OptionalProto`) and, where
they are not 1e-3 and 1e-7, the tolerances in `tolerance.json`. The kinds are those of the package: `node` (computed by its Python code,
the wheel holds no such files), `simple`, `pytorch-operator`, `pytorch-converted`, and `light` (topologies with constant weights).

Needs numpy and onnx==1.23.2, for `baseline` and `compare` also onnxruntime==1.31.1. Every model is run in a process of its own, so that one
that crashes the runtime is a row of the table and not the end of it.
"""

import argparse
import collections
import ctypes
import json
import math
import multiprocessing
import os
import pathlib
import shutil
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the runtime is loaded

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import numpy_helper  # noqa: E402

PACKAGE = pathlib.Path(onnx.__file__).parent / "backend/test/data"
RTOL, ATOL = 1e-3, 1e-7
# What the outputs of an exported model may differ from those of the original, relative and absolute: the same kernels in the same order.
SAME = 1e-6


# --- extract ---------------------------------------------------------------------------------------------------------------------


def extract(out):
    counts = {"node": extract_node(out / "node")}
    for kind in ("simple", "pytorch-operator", "pytorch-converted"):
        counts[kind] = extract_stored(PACKAGE / kind, out / kind)
    counts["light"] = extract_light(PACKAGE / "light", out / "light")
    print(json.dumps(counts))


def proto_of(value, value_info):
    """A value of a data set as the message that the package's own runner writes."""
    if isinstance(value, onnx.TensorProto):
        return value
    write = {
        "map_type": numpy_helper.from_dict,
        "sequence_type": numpy_helper.from_list,
        "optional_type": numpy_helper.from_optional,
    }.get(value_info.type.WhichOneof("value"))
    return write(value, value_info.name) if write else numpy_helper.from_array(np.asarray(value), value_info.name)


def write_sets(folder, model, data_sets):
    for i, (inputs, outputs) in enumerate(data_sets):
        at = folder / f"test_data_set_{i}"
        at.mkdir(parents=True)
        for word, values, infos in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
            for j, value in enumerate(values):
                (at / f"{word}_{j}.pb").write_bytes(proto_of(value, infos[j]).SerializeToString())


def write_tolerance(folder, rtol, atol):
    if (rtol, atol) != (RTOL, ATOL):
        (folder / "tolerance.json").write_text(json.dumps({"rtol": rtol, "atol": atol}) + "\n")


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def extract_node(out):
    from onnx.backend.test.loader import load_model_tests

    cases = load_model_tests(kind="node")
    for case in cases:
        folder = fresh(out / case.name)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        write_sets(folder, case.model, case.data_sets)
        write_tolerance(folder, case.rtol, case.atol)
    return len(cases)


def extract_stored(source, out):
    folders = sorted(p for p in source.iterdir() if (p / "model.onnx").is_file())
    for folder in folders:
        shutil.rmtree(out / folder.name, ignore_errors=True)
        shutil.copytree(folder, out / folder.name)
        data = folder / "data.json"
        if data.is_file():
            data = json.loads(data.read_text())
            write_tolerance(out / folder.name, data.get("rtol", RTOL), data.get("atol", ATOL))
    return len(folders)


def extract_light(source, out):
    """The inputs are those of the package's runner: element i of n is i / n."""
    models = sorted(source.glob("light_*.onnx"))
    for path in models:
        model = onnx.load(path)
        name = path.stem.removeprefix("light_")
        folder = fresh(out / f"test_{name}")
        shutil.copy(path, folder / "model.onnx")
        at = folder / "test_data_set_0"
        at.mkdir()
        stored = {i.name for i in model.graph.initializer}
        feeds = [i for i in model.graph.input if i.name not in stored]
        for j, info in enumerate(feeds):
            shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
            n = math.prod(shape)
            value = (np.arange(n).reshape(shape) / n).astype(np.float32)
            (at / f"input_{j}.pb").write_bytes(numpy_helper.from_array(value, info.name).SerializeToString())
        for j in range(len(model.graph.output)):
            shutil.copy(source / f"{path.stem}_output_{j}.pb", at / f"output_{j}.pb")
        write_tolerance(folder, 2e-3 if name == "densenet121" else RTOL, ATOL)
    return len(models)


# --- run -------------------------------------------------------------------------------------------------------------------------


def tests_below(root):
    return sorted(p.parent for p in root.glob("*/*/model.onnx"))


def load_value(path, info):
    """The value of a file; ONNX Runtime wants lists for sequences and `None` for an empty optional."""
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    if kind == "map_type":
        return numpy_helper.to_dict(onnx.MapProto.FromString(path.read_bytes()))
    return onnx.TensorProto.FromString(path.read_bytes())


# Types that numpy has, by their numbers in ONNX; the others travel as bytes.
NUMPY = {*range(1, 16)}


def as_ort(value, plain):
    """A value as `run` takes it (`plain`), or as an `OrtValue`, which can be of any element type."""
    import onnxruntime as ort

    if not isinstance(value, onnx.TensorProto):
        if plain:
            return value
        raise Unfed("a sequence or optional beside a type that numpy has not")
    array = numpy_helper.to_array(value)
    if plain:
        return array
    if value.data_type in NUMPY:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    # The runtime reads as many bytes as the type needs from the start of the array; 4- and 2-bit types need fewer than there are.
    raw = numpy_helper.from_array(array).raw_data
    held = np.zeros(array.shape, {1: np.uint8, 2: np.uint16}[max(array.dtype.itemsize, 1)])
    held.reshape(-1).view(np.uint8)[: len(raw)] = np.frombuffer(raw, np.uint8)
    HELD.append(held)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(held, value.data_type)


# Arrays that OrtValues look into; the process ends soon.
HELD = []


def from_ort(value):
    """An output of any element type."""
    if value.is_tensor() and value.element_type() not in NUMPY:
        shape, kind = value.shape(), value.element_type()
        bits = next(b for types, b in (((25, 26), 2), ((21, 22, 23), 4), ((16,), 16), (range(17, 30), 8)) if kind in types)
        raw = ctypes.string_at(value.data_ptr(), (math.prod(shape) * bits + 7) // 8)
        return onnx.TensorProto(data_type=kind, dims=shape, raw_data=raw)
    return value.numpy()


class Unfed(Exception):
    """A value that this script cannot give to the runtime."""


def numbers(value):
    """Arrays of a result in order, strings and numbers; `None` for an empty optional."""
    if value is None:
        return [None]
    if isinstance(value, onnx.TensorProto):
        return [numpy_helper.to_array(value)]
    if isinstance(value, dict):
        return [np.array(list(value.keys())), np.array(list(value.values()))]
    if isinstance(value, (list, tuple)):
        return [np.array([len(value)])] + [a for v in value for a in numbers(v)]
    return [np.asarray(value)]


def close(got, want, rtol, atol):
    got, want = numbers(got), numbers(want)
    return len(got) == len(want) and all(close_array(g, w, rtol, atol) for g, w in zip(got, want))


def close_array(got, want, rtol, atol):
    if got is None or want is None:
        return got is None and want is None
    if got.shape != want.shape:
        return False
    if got.dtype.kind in "OSU" or want.dtype.kind in "OSU":
        return got.astype(str).tolist() == want.astype(str).tolist()
    if got.dtype.kind == "c" or want.dtype.kind == "c":
        return np.allclose(got, want, rtol, atol, equal_nan=True)
    if got.dtype != want.dtype and got.dtype.itemsize == want.dtype.itemsize and "V" in (got.dtype.kind, want.dtype.kind):
        return got.tobytes() == want.tobytes()
    if got.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)  # two units in the last place, as the package's runner has it
    return np.allclose(got.astype(np.float64), want.astype(np.float64), rtol, atol, equal_nan=True)


def session(path):
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_set(made, model, folder):
    """The outputs for the inputs of a data set."""
    values = {info.name: load_value(folder / f"input_{j}.pb", info) for j, info in enumerate(fed(model)) if (folder / f"input_{j}.pb").is_file()}
    types = [v.data_type for v in values.values() if isinstance(v, onnx.TensorProto)]
    types += [o.type.tensor_type.elem_type for o in model.graph.output if o.type.HasField("tensor_type")]
    plain = all(t in NUMPY for t in types)
    feeds = {name: as_ort(value, plain) for name, value in values.items()}
    return made.run(None, feeds) if plain else [from_ort(v) for v in made.run_with_ort_values(None, feeds)]


def fed(model):
    """The inputs that a data set has values for: those without a value of their own."""
    stored = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in stored]


def tolerance(folder):
    path = folder / "tolerance.json"
    data = json.loads(path.read_text()) if path.is_file() else {}
    return data.get("rtol", RTOL), data.get("atol", ATOL)


def original(folder):
    """(verdict, detail) of ONNX Runtime on a test as it is."""
    model = onnx.load(folder / "model.onnx")
    try:
        made = session(folder / "model.onnx")
    except Exception as e:
        return "refused", first_line(e)
    rtol, atol = tolerance(folder)
    for data in sorted(folder.glob("test_data_set_*")):
        try:
            got = run_set(made, model, data)
        except Unfed as e:
            return "unfed", str(e)
        except Exception as e:
            return "run-failed", first_line(e)
        want = [load_value(data / f"output_{j}.pb", info) for j, info in enumerate(model.graph.output)]
        if len(got) != len(want) or not all(close(g, w, rtol, atol) for g, w in zip(got, want)):
            return "differs", ""
    return "pass", ""


def exported(folder, path):
    """(verdict, detail) of the exported model of a test, measured against the original on ONNX Runtime."""
    if not path.is_file():
        return "absent", ""
    model = onnx.load(folder / "model.onnx")
    try:
        before = session(folder / "model.onnx")
    except Exception as e:
        return "refused", first_line(e)
    try:
        onnx.checker.check_model(str(path))
    except Exception as e:
        return "FAIL checker", first_line(e)
    try:
        after = session(path)
    except Exception as e:
        return "FAIL session", first_line(e)
    signature = lambda made: [[(p.name, p.type) for p in ports] for ports in (made.get_inputs(), made.get_outputs())]
    if signature(before) != signature(after):
        return "FAIL interface", f"{signature(before)} became {signature(after)}"
    rtol, atol = tolerance(folder)
    for data in sorted(folder.glob("test_data_set_*")):
        verdict = compare_set(before, after, model, data, rtol, atol)
        if verdict:
            return verdict
    return "pass", ""


def compare_set(before, after, model, data, rtol, atol):
    try:
        want = run_set(before, model, data)
    except Unfed as e:
        return "unfed", str(e)
    except Exception as e:
        return "run-failed", first_line(e)
    try:
        got = run_set(after, model, data)
    except Exception as e:
        return "FAIL run", first_line(e)
    if len(got) == len(want) and all(close(g, w, SAME, SAME) for g, w in zip(got, want)):
        return None
    expected = [load_value(data / f"output_{j}.pb", info) for j, info in enumerate(model.graph.output)]
    if not all(close(w, e, rtol, atol) for w, e in zip(want, expected)):
        again = run_set(before, model, data)
        if not all(close(a, w, SAME, SAME) for a, w in zip(again, want)):
            return "random", ""
    return "FAIL differs", ""


def first_line(e):
    return " ".join(str(e).split())[:240]


def opset_of(folder):
    model = onnx.load(folder / "model.onnx")
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _apply(task):
    function, arguments = task
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            verdict = function(*arguments)
        except BaseException as e:  # noqa: BLE001
            verdict = ("script", first_line(e))
        os.write(writer, json.dumps(verdict).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return tuple(json.loads(said)) if said else ("crashed", f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "")


def run_all(tasks):
    """In order; a process a task, so that a crash is a verdict."""
    import onnxruntime  # noqa: F401  loaded once, before the forks

    with multiprocessing.Pool(2) as pool:
        return pool.map(_apply, tasks, chunksize=8)


def table(rows):
    """rows: (kind, opset, verdict)."""
    by_kind = collections.defaultdict(collections.Counter)
    for kind, opset, verdict in rows:
        by_kind[kind][verdict] += 1
        if kind == "node":
            by_kind[f"node opset {opset:02}"][verdict] += 1
    verdicts = sorted({v for c in by_kind.values() for v in c})
    print("| tests | all | " + " | ".join(verdicts) + " |")
    print("|" + " --- |" * (len(verdicts) + 2))
    for kind, counts in sorted(by_kind.items()):
        print(f"| {kind} | {sum(counts.values())} | " + " | ".join(str(counts[v] or "") for v in verdicts) + " |")


def report(root, out, verdicts, quiet=("pass",)):
    rows = []
    for folder, (verdict, detail) in zip(tests_below(root), verdicts):
        rows.append((folder.parent.name, opset_of(folder), verdict))
        if verdict not in quiet:
            print(f"{verdict:14} {folder.parent.name}/{folder.name}: {detail}", file=sys.stderr)
    table(rows)
    if out:
        entries = {f"{f.parent.name}/{f.name}": [o, v, d] for f, (_, o, _), (v, d) in zip(tests_below(root), rows, verdicts)}
        out.write_text(json.dumps(entries, indent=1) + "\n")


def baseline(root, out):
    report(root, out, run_all([(original, (f,)) for f in tests_below(root)]))


def compare(root, exported_root, out):
    tasks = [(exported, (f, exported_root / f.parent.name / f"{f.name}.onnx")) for f in tests_below(root)]
    verdicts = run_all(tasks)
    report(root, out, verdicts, quiet=("pass", "refused"))
    sys.exit(any(v.startswith("FAIL") or v in ("crashed", "script") for v, _ in verdicts))


# --- subset ----------------------------------------------------------------------------------------------------------------------

# Types that vidc's own sessions take; the others are compared by `compare`.
FED = {1, 2, 3, 6, 7, 9, 10, 11, 16}


def operators(graph):
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                yield from operators(body)


def pack(folder):
    """One file a test: a line of JSON, then the parts it counts, one after the other."""
    parts = [folder / "model.onnx", *sorted(folder.glob("test_data_set_*/*.pb"))]
    rtol, atol = tolerance(folder)
    head = {"rtol": rtol, "atol": atol, "parts": [[str(p.relative_to(folder)), p.stat().st_size] for p in parts]}
    return json.dumps(head).encode() + b"\n" + b"".join(p.read_bytes() for p in parts)


def types_of(model):
    values = [*model.graph.input, *model.graph.output]
    return {v.type.tensor_type.elem_type if v.type.HasField("tensor_type") else -1 for v in values}


def subset(root, out, verdicts, limit, most):
    """The smallest tests that the runtime passes, taken in turns: first one for every operator that no taken test has, then a second, …"""
    candidates = []
    for folder in tests_below(root):
        if verdicts[f"{folder.parent.name}/{folder.name}"][1] != "pass":
            continue
        model = onnx.load(folder / "model.onnx")
        candidates.append((len(pack(folder)), folder, set(operators(model.graph)), types_of(model) <= FED))
    candidates.sort(key=lambda c: (not c[3], c[0], c[1].name))
    seen, taken, size = collections.Counter(), [], 0
    for turn in range(4):
        for bytes_, folder, ops, _ in candidates:
            novel = any(seen[o] <= turn for o in ops)
            if novel and folder not in taken and size + bytes_ <= limit and bytes_ <= limit // 40 and len(taken) < most:
                taken.append(folder)
                size += bytes_
                seen.update(ops)
    for kind in {f.parent.name for f in tests_below(root)}:
        shutil.rmtree(out / kind, ignore_errors=True)
    for folder in taken:
        at = out / folder.parent.name
        at.mkdir(parents=True, exist_ok=True)
        (at / f"{folder.name}.test").write_bytes(pack(folder))
    print(f"{len(taken)} tests, {len(seen)} operators, {size} bytes")


# --- command line ----------------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, arguments in {"extract": [], "baseline": [], "compare": ["exported"], "subset": ["out"]}.items():
        command = commands.add_parser(name)
        command.add_argument("tests", type=pathlib.Path)
        for argument in arguments:
            command.add_argument(argument, type=pathlib.Path)
        if name in ("baseline", "compare"):
            command.add_argument("-o", type=pathlib.Path, dest="json")
        if name == "subset":
            command.add_argument("verdicts", type=pathlib.Path)
            command.add_argument("--bytes", type=int, default=1_200_000)
            command.add_argument("--most", type=int, default=400)
    a = parser.parse_args()
    if a.command == "extract":
        extract(a.tests)
    elif a.command == "baseline":
        baseline(a.tests, a.json)
    elif a.command == "compare":
        compare(a.tests, a.exported, a.json)
    else:
        subset(a.tests, a.out, json.loads(a.verdicts.read_text()), a.bytes, a.most)


if __name__ == "__main__":
    main()
