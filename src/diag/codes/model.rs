//! Codes of the area `model`.

use super::{Code, bug, input};

pub(super) const CODES: &[Code] = &[
    input(
        "model/shape",
        "The tensors that meet at an operator of a model do not fit together. The message names the operator, what it was given and what is wrong; check the model's config and the sizes it is called with.",
    ),
    input(
        "model/evaluate",
        "The reference evaluator cannot compute an operator graph: a size has no value yet, an input is missing or of another shape, a constant is not at hand, or an operator is not one that vidc knows. The message says which.",
    ),
    bug(
        "model/invalid",
        "An operator graph breaks a rule that every graph keeps. If a pass made it, the pass is wrong; the note shows the lines concerned, with each broken rule beneath its line.",
    ),
    bug(
        "model/unbound",
        "A model was to be lowered before all of its symbolic dimensions had numbers. The pass `bind-shapes` must run first.",
    ),
    input(
        "model/unknown-architecture",
        "The pipeline names an architecture that vidc cannot build. Use one of those listed, or export the model to ONNX and name the file instead.",
    ),
    input(
        "model/config-missing-key",
        "The config.json of a component lacks a key without which its architecture cannot be built. Check that the file belongs to the architecture; a key set to null counts as missing.",
    ),
    input(
        "model/config-unsupported",
        "The config.json of a component asks for something that this architecture does not compute, or for sizes that do not fit together. The message names the key and its value, the help what can be built; export the model to ONNX to use it as it is.",
    ),
    input(
        "model/text",
        "The text of an operator graph is not as vidc prints it. The message names the line and the column; types must be those that the operators yield.",
    ),
];
