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
        "An operator graph breaks a rule that every graph keeps. If a pass made it, the pass is wrong; the notes list each broken rule.",
    ),
];
