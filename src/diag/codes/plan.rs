//! Codes of the area `plan`.

use super::{Code, input};

pub(super) const CODES: &[Code] = &[
    input(
        "plan/not-a-plan",
        "The folder has no manifest.json, or it cannot be read. `vidc compile` makes plans; a graph file can be given to `vidc run` directly.",
    ),
    input(
        "plan/version",
        "The plan was written by another version of vidc in a format that this one does not read. Compile the graph again.",
    ),
    input(
        "plan/no-prediction",
        "The plan does not say how much memory it needs, so that no budget can be held against it. Compile the graph again.",
    ),
    input(
        "plan/broken",
        "The plan's manifest is damaged or was edited: a field is missing or unknown, an index leads nowhere, or a file name leaves the folder. Compile the graph again.",
    ),
    input(
        "plan/exists",
        "The output folder has files in it that are no plan. vidc replaces plans, and nothing else; choose another folder.",
    ),
    input(
        "plan/order-not-kept",
        "ONNX Runtime would run the operators of a model in another order than planned, and need more memory for that than the prediction allows for. On the CPU vidc holds it to the order; elsewhere choose another answer of the knobs that cut the model, or another provider.",
    ),
    input(
        "plan/weights-changed",
        "A weights file that the plan reads is gone, or has another size or header than when the plan was made. Put it back, or compile the graph again.",
    ),
];
