//! Codes of the area `target`.

use super::{Code, environment, input};

pub(super) const CODES: &[Code] = &[
    input(
        "target/unknown-provider",
        "`--provider` names no execution provider that vidc has a row for. The help line gives the nearest; `vidc hw show KEY` lists those of a device.",
    ),
    input(
        "target/misfit",
        "The execution provider is not for this device: another maker, a compute capability that it does not support, or an operating system that it is not built for. The help line lists the providers that fit.",
    ),
    environment(
        "target/cannot-run",
        "vidc can predict this plan and cannot run it: it has no way yet to start an execution provider for this kind of device. `vidc tune` and `vidc estimate` answer as far as the model goes.",
    ),
];
