//! Codes of the area `pass`.

use super::{Code, bug};

pub(super) const CODES: &[Code] = &[
    bug(
        "pass/not-lowered",
        "After all passes an operator is left that no provider runs. Switching off `select-kernels` or `unroll-chunks` leads here; otherwise a pass forgot a form.",
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
