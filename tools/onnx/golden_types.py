#!/usr/bin/env python3
"""Golden types of single nodes: `tests/data/onnx_types.txt`, from `onnx.shape_inference` and the backend node tests of `onnx`.

Run in an environment with `onnx` (1.23 was used) and `numpy`:

    python tools/onnx/golden_types.py tests/data/onnx_types.txt

Each node test of one node whose operator set is at most 26 gives up to four cases: as it is, its small inputs known; small inputs
unknown; extents above 1 of the other inputs as symbols (`d5` for every extent of 5); and at older operator sets at which the
operator had another version. A line is

    domain operator version outputs|attributes|inputs|what onnx infers (strict, with data propagation)|what the test expects

with values separated by `;`: `-` is absent, `?` is no tensor or unknown, else `dtype[extents]` with the number of the element type
(`*` for an unknown rank, `?` for an unknown extent), and `=elements` where they are known. A last column of `=` is as the one before.
Attributes are `name=kind:value`.
"""

import sys
import warnings

import numpy as np
import onnx
import onnx.defs
import onnx.shape_inference
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

LAST_OPSET = 26
FIRST_OPSET = 11
MOST_INTS = 16
MOST_FLOATS = 6
SYMBOLS_FROM = 2
# Attributes that change elements only: left out, so that cases that differ in nothing else are one.
IGNORED = {"scale", "softcap", "is_causal", "left_window_size", "right_window_size", "epsilon", "alpha", "beta", "gamma", "lambd", "bias",
           "coordinate_transformation_mode", "cubic_coeff_a", "nearest_mode", "exclude_outside", "extrapolation_value", "antialias",
           "padding_mode", "align_corners", "ignore_index", "saturate", "seed", "momentum", "softmax_precision", "count_include_pad", "norm_coefficient",
           "qk_matmul_output_mode", "sorted", "largest", "storage_order", "p", "size", "sampling_ratio", "spatial_scale"}
# Values of these types are written.
INTEGERS = {2, 3, 4, 5, 6, 7, 9, 12, 13}
FLOATS = {1, 11}


def small(array, dtype):
    return (dtype in INTEGERS and array.size <= MOST_INTS) or (dtype in FLOATS and array.size <= MOST_FLOATS)


def elements(array, dtype):
    if dtype in FLOATS:
        return ",".join(f"{x:.7g}" for x in array.flatten().tolist())
    return ",".join(str(int(x)) for x in array.flatten().tolist())


def attribute(a):
    """`name=kind:value`, or None for what a line cannot hold."""
    kind = a.type
    if kind == onnx.AttributeProto.FLOAT:
        return f"{a.name}=f:{a.f:.7g}"
    if kind == onnx.AttributeProto.INT:
        return f"{a.name}=i:{a.i}"
    if kind == onnx.AttributeProto.STRING:
        text = a.s.decode("utf-8", "replace")
        return None if any(c in text for c in ";|\n") else f"{a.name}=s:{text}"
    if kind == onnx.AttributeProto.INTS:
        return f"{a.name}=I:" + ",".join(map(str, a.ints[:64]))
    if kind == onnx.AttributeProto.FLOATS:
        return f"{a.name}=F:" + ",".join(f"{x:.7g}" for x in a.floats[:64])
    if kind == onnx.AttributeProto.STRINGS:
        return f"{a.name}=S:" + ",".join(f"w{i}" for i in range(len(a.strings)))
    if kind == onnx.AttributeProto.TENSOR:
        array = numpy_helper.to_array(a.t)
        if not small(array, a.t.data_type):
            return None
        return f"{a.name}=t:{a.t.data_type}[{','.join(map(str, a.t.dims))}]={elements(array, a.t.data_type)}"
    return None


def extent(d):
    if d.HasField("dim_value"):
        return str(d.dim_value)
    return d.dim_param if d.dim_param and not d.dim_param.startswith("unk__") else "?"


def type_text(tp):
    if tp is None or not tp.HasField("tensor_type"):
        return "?"
    t = tp.tensor_type
    if not t.HasField("shape"):
        return f"{t.elem_type}*" if t.elem_type else "?"
    return f"{t.elem_type}[{','.join(extent(d) for d in t.shape.dim)}]"


def array_text(array):
    array = np.asarray(array)
    try:
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    except (ValueError, KeyError):
        dtype = TensorProto.STRING
    text = f"{dtype}[{','.join(map(str, array.shape))}]"
    return text + "=" + elements(array, dtype) if small(array, dtype) else text


def inferred(node, inputs, constants, domain, opset):
    """What onnx infers of the outputs, in order; an exception if it refuses the node."""
    graph = helper.make_graph([node], "g", inputs, [], initializer=constants)
    imports = [helper.make_opsetid(domain, opset)]
    if domain:
        imports.append(helper.make_opsetid("", LAST_OPSET))
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    found = {v.name: v.type for v in model.graph.value_info}
    return ["-" if not name else type_text(found.get(name)) for name in node.output]


def symbolic(value_info):
    out = onnx.ValueInfoProto()
    out.CopyFrom(value_info)
    if out.type.HasField("tensor_type"):
        for d in out.type.tensor_type.shape.dim:
            if d.dim_value >= SYMBOLS_FROM:
                d.dim_param = f"d{d.dim_value}"
    return out


def line(node, domain, opset, attributes, inputs, types, results):
    head = f"{domain or '-'} {node.op_type} {opset} {len(node.output)}"
    columns = [";".join(attributes), ";".join(inputs), ";".join(types), "=" if results == types else ";".join(results)]
    return "|".join([head, *columns])


class Case:
    def __init__(self, test):
        self.node = test.model.graph.node[0]
        self.domain = self.node.domain
        self.opset = {o.domain: o.version for o in test.model.opset_import}[self.domain]
        self.infos = {v.name: v for v in test.model.graph.input}
        data = test.data_sets[0] if test.data_sets else ([], [])
        self.arrays = {v.name: a for v, a in zip(test.model.graph.input, data[0]) if isinstance(a, np.ndarray)}
        to_array = lambda a: numpy_helper.to_array(a) if isinstance(a, TensorProto) else a
        self.results = {v.name: to_array(a) for v, a in zip(test.model.graph.output, data[1])}
        self.attributes = [attribute(a) for a in self.node.attribute if a.name not in IGNORED]

    def known(self):
        """Inputs that are small enough to be written with their elements."""
        out = set()
        for name, array in self.arrays.items():
            info = self.infos[name].type
            if info.HasField("tensor_type") and small(array, info.tensor_type.elem_type):
                out.add(name)
        return out

    def result(self, name):
        value = self.results.get(name)
        return "?" if value is None or isinstance(value, (list, dict)) else array_text(value)

    def text(self, known, opset, rename=lambda v: v):
        infos, constants, inputs = [], [], []
        seen = set()
        for name in self.node.input:
            if not name:
                inputs.append("-")
                continue
            info = self.infos[name]
            if name in known:
                tensor = numpy_helper.from_array(self.arrays[name], name)
                inputs.append(array_text(self.arrays[name]))
                if name not in seen:
                    constants.append(tensor)
            else:
                info = rename(info)
                inputs.append(type_text(info.type))
                if name not in seen:
                    infos.append(info)
            seen.add(name)
        types = inferred(self.node, infos, constants, self.domain, opset)
        results = [self.result(n) if n else "-" for n in self.node.output]
        return line(self.node, self.domain, opset, self.attributes, inputs, types, results)

    def older(self):
        """Operator sets at which the operator had another version."""
        versions = sorted({s.since_version for s in onnx.defs.get_all_schemas_with_history()
                           if s.name == self.node.op_type and s.domain == self.domain})
        below = {v for v in (max(v, FIRST_OPSET) for v in versions) if v < self.opset}
        return [v for v in sorted(below) if self.fits(v)]

    def fits(self, opset):
        """Whether the operator of that set has the attributes and inputs of the node: checks of onnx let more pass."""
        try:
            schema = onnx.defs.get_schema(self.node.op_type, opset, self.domain)
        except onnx.defs.SchemaError:
            return False
        return all(a.name in schema.attributes for a in self.node.attribute) and len(self.node.input) <= schema.max_input

    def texts(self):
        known = self.known()
        yield lambda: self.text(known, self.opset)
        integers = {n for n in known if self.infos[n].type.tensor_type.elem_type in INTEGERS}
        if integers:
            yield lambda: self.text(set(), self.opset)
        yield lambda: self.text(known, self.opset, symbolic)
        if not self.domain:
            for opset in self.older():
                yield lambda opset=opset: self.text(known, opset)


def main(path):
    warnings.simplefilter("ignore")
    lines, refused = {}, 0
    for test in collect_testcases(None):
        if test.model is None or len(test.model.graph.node) != 1:
            continue
        case = Case(test)
        if (not case.domain and case.opset > LAST_OPSET) or any(a is None for a in case.attributes):
            continue
        for make in case.texts():
            try:
                lines[make()] = None
            except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, TypeError, ValueError, KeyError):
                refused += 1
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(l + "\n" for l in sorted(lines))
    print(f"{len(lines)} cases, {refused} refused by onnx", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
