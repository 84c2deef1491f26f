//! Codes of the area `measure`.

use super::{Code, environment, input};

pub(super) const CODES: &[Code] = &[
    input(
        "measure/unbound-dim",
        "A model is to be run and one of its inputs has an extent that the model leaves open. Say what it is with `--dim NAME=N`; an extent without a name is named INPUT.AXIS.",
    ),
    input(
        "measure/unknown-dim",
        "An extent was given for a name that no input of the model has. The help line lists the names that there are.",
    ),
    input(
        "measure/no-input-type",
        "A model is to be run on made-up inputs, and one of them is no tensor of numbers with a known rank. Such models cannot be measured.",
    ),
    input("measure/input-size", "The extents that were given make an input or output larger than memory can be."),
    input(
        "measure/bad-option",
        "A session option was named that vidc does not know, or was given a value that it does not have: in the model's `vidc.session.*` entries, or on the command line.",
    ),
    input(
        "measure/outputs-differ",
        "Two models that should be measured against each other do not give the same outputs: other names, other shapes or other element types. They are not two forms of one model.",
    ),
    environment(
        "measure/child",
        "The process that was started to measure the memory of a model failed. Its own words are in the notes; the usual reason is that memory ran out.",
    ),
];
