//! Codes of the area `onnx`.

use super::{Code, input};

pub(super) const CODES: &[Code] = &[
    input(
        "onnx/not-a-model",
        "The file is not an ONNX model: its bytes are not the protobuf message that ONNX defines, or there is no graph in it. A file fetched without git-lfs is a small text; fetch it again with `git lfs pull`.",
    ),
    input(
        "onnx/too-large",
        "An ONNX file is limited to 2 GiB, which is what protobuf can hold. Larger models keep their weights as external data beside the file; export it that way.",
    ),
    input(
        "onnx/too-deep",
        "Graphs stand inside graphs (bodies of If, Loop, Scan) deeper than any real model needs. Such a file is refused because readers of it would exhaust their stack.",
    ),
    input(
        "onnx/too-many-parts",
        "The file holds more nodes, names or numbers than a model of its kind can have. Small on disk, it would fill the memory once decoded, so it is refused before.",
    ),
    input(
        "onnx/external-malformed",
        "The external data of a tensor must name a location, and may name an offset and a length as decimal numbers, each once. A tensor of strings, or one that also has values in the model, cannot be external.",
    ),
    input(
        "onnx/external-path-escape",
        "External data must lie in a regular file directly in the model's own folder: no absolute path, no other folder, no `..`, no link that leads out, no device. Move the file beside the model and name it by its bare name.",
    ),
    input(
        "onnx/external-missing",
        "The file that holds a tensor's external data is not in the model's folder. Copy it there; its name must be kept as it is.",
    ),
    input(
        "onnx/external-out-of-range",
        "Offset and length of a tensor's external data reach beyond the end of the file. The file is truncated or belongs to another model.",
    ),
    input(
        "onnx/tensor-size-mismatch",
        "The bytes or values stored for a tensor are not as many as its shape and type need. The model or its external data file is damaged, or they do not belong together.",
    ),
    input(
        "onnx/tensor-shape",
        "A stored tensor has a negative extent, or so many elements that their number of bytes overflows. The model is damaged.",
    ),
    input(
        "onnx/tensor-type",
        "A stored tensor has a type that ONNX does not define, is a segment of another tensor, or keeps its values in a field that is not the one of its type.",
    ),
    input(
        "onnx/opset",
        "The operators of ONNX change meaning between operator sets. vidc reads models of the sets 11 to 28 and writes 21 or the model's own, if that is newer. `onnx.version_converter` converts older models.",
    ),
    input(
        "onnx/function",
        "A model may define operators by graphs (local functions), which are inlined when it is read. These call themselves, are nested beyond reason, are called with more arguments than they have, or grow into more nodes than a model can have.",
    ),
    input(
        "onnx/not-a-graph",
        "The nodes do not make a graph: a value is made twice, read but never made, or needed for itself. `onnx.checker` reports the same; export the model again.",
    ),
    input(
        "onnx/shape",
        "The inputs of a node contradict what the ONNX standard says about its operator: element types or extents do not fit. If dims were bound with --dim, the model does not take these values.",
    ),
    input(
        "onnx/unknown-dim",
        "--dim binds an extent that the model's inputs leave open, by the name that the file gives it, or INPUT.AXIS where it has none. `vidc inspect MODEL` lists them.",
    ),
];
