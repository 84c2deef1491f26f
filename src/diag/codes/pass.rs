//! Codes of the area `pass`.

use super::{Code, bug, input};

pub(super) const CODES: &[Code] = &[
    bug(
        "pass/not-lowered",
        "After all passes an operator is left that no provider runs. Switching off `select-kernels` or `unroll-chunks` leads here; otherwise a pass forgot a form.",
    ),
    input(
        "pass/no-kernel",
        "A plan was asked for in which an operator has an element type that the execution provider has no kernel for (`src/target/kernels`), and none of the providers behind it has one. Choose another precision for that model, or another provider.",
    ),
    bug(
        "pass/order",
        "The order of the passes puts one before another whose result it needs. The order is one function, `passes::pipeline`.",
    ),
    bug(
        "pass/misreported",
        "A pass changed a graph without saying so, or said so without changing it. Each edit must go through `Rewriter::apply`.",
    ),
    bug("pass/interface", "A pass changed the inputs or outputs of a model. Passes may only change what lies between."),
];
