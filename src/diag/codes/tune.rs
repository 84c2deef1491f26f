//! Codes of the area `tune`.

use super::{Code, environment, input};

pub(super) const CODES: &[Code] = &[
    input(
        "tune/open-dims",
        "An answer was given for a model whose sizes are not all bound, so that the pass which would use it cannot run. Bind the sizes with `--dim NAME=N`.",
    ),
    input("tune/given-twice", "Two answers were given for one knob, under the name of the graph and under that of the file."),
    input(
        "tune/unknown-knob",
        "A knob was named that this graph does not offer on this device. `vidc explain GRAPH --hw KEY` lists the knobs with their answers.",
    ),
    input("tune/not-in-domain", "A knob was given an answer that it does not have. The help line lists its answers."),
    environment(
        "tune/no-plan-fits",
        "No combination of answers stays within the memory that was allowed. The message gives the nearest miss: the plan that needs least, and how much it needs.",
    ),
    environment(
        "tune/memory-not-known",
        "`--memory auto` takes what is free now, which is known of this machine alone: of its processor (`--hw cpu`), and of devices of NVIDIA where the driver's `nvidia-smi` answers. Name a size instead.",
    ),
    input(
        "tune/nothing-to-fit",
        "Of all the combinations of parameters, or devices, that `vidc fit` was asked about, the graph or the provider refuses every one, so that there is nothing to compare. The message says why the first is refused, and the help line what it takes.",
    ),
    input(
        "tune/quality-not-reached",
        "No combination of answers reaches the decibels that --min-psnr asks for, because fixed answers round more than that. Ask for less, or leave those knobs open.",
    ),
    environment(
        "tune/out-of-time",
        "The time limit was over before a plan was found that keeps to the memory and quality that were asked for. Allow more time, or more memory.",
    ),
    input(
        "tune/stale-record",
        "A tuning record was made for another graph, other parameters or another machine than it is used with. `vidc tune` with the same graph and `--hw` makes a new one.",
    ),
    input(
        "tune/bad-record",
        "A tuning record cannot be read: it is not the YAML that `vidc tune` writes, or was written by a version with another format. `vidc tune` makes a new one.",
    ),
];
