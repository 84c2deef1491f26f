//! Codes of the area `tune`.

use super::{Code, environment, input};

pub(super) const CODES: &[Code] = &[
    input(
        "tune/unknown-knob",
        "A knob was named that this graph does not offer on this device. `vidc explain GRAPH --hw KEY` lists the knobs with their answers.",
    ),
    input("tune/not-in-domain", "A knob was given an answer that it does not have. The help line lists its answers."),
    environment(
        "tune/no-plan-fits",
        "No combination of answers stays within the memory that was allowed. The message gives the nearest miss: the plan that needs least, and how much it needs.",
    ),
];
