//! Codes of the area `weights`.

use super::{Code, bug, environment, input};

pub(super) const CODES: &[Code] = &[
    input(
        "weights/not-safetensors",
        "The file is not a safetensors file: its header is not the JSON that the format defines. A file fetched without git-lfs is a small text; fetch it again with `git lfs pull`.",
    ),
    input("weights/truncated", "A safetensors file ends before its header does. The download stopped early; fetch it again."),
    input(
        "weights/header-too-large",
        "The header of a safetensors file is limited to 100 MB, as in every other reader. A larger one is damaged or hostile.",
    ),
    input(
        "weights/duplicate-tensor",
        "A file, an index or a model names one tensor twice, so it is not known which is meant. The file is damaged or hostile.",
    ),
    input("weights/overlap", "Two tensors of a safetensors file share bytes, which the format forbids. The file is damaged or hostile."),
    input(
        "weights/out-of-range",
        "A tensor reaches beyond the end of its file. The file is truncated, or its header belongs to another one; fetch it again.",
    ),
    input(
        "weights/tensor-size-mismatch",
        "The bytes stored for a tensor are not as many as its shape and type need, or there are more than can be counted. The file is damaged.",
    ),
    input(
        "weights/unsupported-dtype",
        "A tensor that is needed is stored in a type that vidc does not read (such as an 8-bit float). Use the float32, float16 or bfloat16 files of the model.",
    ),
    input(
        "weights/pickle",
        "The folder holds pickled weights (.bin, .ckpt, .pt, .pth) and no safetensors. Loading a pickle runs the code in it, so vidc never does. Most models are also published as safetensors; otherwise convert the file where you trust it, with `safetensors.torch.save_file`.",
    ),
    environment(
        "weights/not-found",
        "There are no weights where they were looked for: neither NAME.safetensors nor NAME.safetensors.index.json, for the names that diffusers and transformers use. The message lists what is in the folder.",
    ),
    input(
        "weights/index",
        "The index of a sharded model (*.safetensors.index.json) is not the JSON object that it should be: `weight_map`, from tensor to file.",
    ),
    input(
        "weights/path-escape",
        "The index of a sharded model may only name regular files directly in its own folder: no absolute path, no other folder, no `..`, no link that leads out, no device.",
    ),
    environment(
        "weights/dangling-link",
        "The weights are a link to a file that is not there, as a hub cache has where a download did not finish or a file was removed. Fetch the model again.",
    ),
    environment(
        "weights/shard-missing",
        "A file named by the index of a sharded model is not in the folder. The download is not complete.",
    ),
    input(
        "weights/index-mismatch",
        "The index of a sharded model places a tensor in a file that does not hold it. Index and files are of different versions; fetch them together.",
    ),
    environment(
        "weights/changed",
        "A weights file is not as long as it was when it was opened. Something replaced or truncated it meanwhile; run the command again.",
    ),
    environment(
        "weights/missing-model",
        "No weights were given for a model of the pipeline. The folder of a pipeline holds one folder a model.",
    ),
    input(
        "weights/missing-tensor",
        "The weights lack a tensor that the model's architecture needs. They belong to another model, or the configuration beside them does not describe them. The message names the nearest tensors there are.",
    ),
    input(
        "weights/shape-mismatch",
        "A tensor is stored with another shape than the model's configuration needs. The weights and the configuration do not belong together.",
    ),
    input(
        "weights/dtype-mismatch",
        "A tensor of integers is stored where the model needs floats, or the other way round. The weights and the configuration do not belong together.",
    ),
    input(
        "weights/beyond-f16",
        "A weight holds numbers beyond 65504, the largest of f16, for which the model was to be written; they would become infinite, and the pictures black. Choose bf16 or f32 for that model with --choose.",
    ),
    bug("weights/expression", "A weight expression was built from parts that do not fit: a pass computed a wrong shape, axis or type."),
    bug("weights/unbound", "A weight expression was evaluated before its parameters were bound to a file or a seed."),
];
