//! Codes of the area `runtime`.

use super::{Code, bug, environment, input};

pub(super) const CODES: &[Code] = &[
    environment(
        "runtime/missing-library",
        "The ONNX Runtime shared library was not found where it was named, or there is no published build that vidc knows for this platform. Name a library of version 1.31 or newer with `--runtime PATH` or VIDC_ORT, or run `vidc runtime install`.",
    ),
    environment(
        "runtime/hash-mismatch",
        "The ONNX Runtime library in vidc's cache, or the one inside a wheel, is not the published build: its sha256 differs from the pinned one. It was not loaded. `vidc runtime install` fetches it again; `--runtime PATH` takes a library of your own unchecked.",
    ),
    environment(
        "runtime/no-python",
        "vidc fetches ONNX Runtime with Python's own installer (`python3 -m pip download`), and no Python was found. Install Python, or fetch the wheel elsewhere and give it to `vidc runtime install --from WHEEL`.",
    ),
    environment(
        "runtime/pip-failed",
        "`python3 -m pip download` could not fetch the ONNX Runtime wheel; the end of what it said is in the notes. Mend the network or the index settings of pip, or fetch the wheel elsewhere and give it to `vidc runtime install --from WHEEL`.",
    ),
    environment(
        "runtime/bad-wheel",
        "The file given as an ONNX Runtime wheel cannot be read as one: it is no zip archive, or it lacks the library of this platform. Take the CPU wheel of the version and platform that the message names.",
    ),
    environment(
        "runtime/wrong-version",
        "The ONNX Runtime library is older than vidc needs (1.31). Name a newer one, or drop `--runtime`, VIDC_ORT and ORT_DYLIB_PATH and let vidc fetch its own.",
    ),
    environment(
        "runtime/load-failed",
        "The operating system could not load the ONNX Runtime library, or another one is already loaded in this process. The message has the loader's words; a library for another architecture or an older C library are the usual reasons.",
    ),
    bug(
        "runtime/telemetry",
        "ONNX Runtime was about to be loaded with its telemetry on. A program that uses vidc as a library must set ORT_DISABLE_TELEMETRY=1 before it starts threads (`runtime::ffi::disable_telemetry`).",
    ),
    environment(
        "runtime/provider-missing",
        "The execution provider that was asked for (CUDA, TensorRT) cannot be used: this ONNX Runtime is a CPU build, one of the provider's libraries is missing, or there is no such device. vidc does not fall back to the CPU by itself; ask for the CPU if that is what you want.",
    ),
    environment(
        "runtime/not-agreed",
        "A plan needs libraries of an execution provider that are not here, and nobody agreed that they are fetched: vidc asks on a terminal and fetches nothing in silence. `vidc runtime install --provider NAME --yes` fetches them; `--yes` with the command that needs them does the same.",
    ),
    environment(
        "runtime/self-check",
        "An execution provider was tried on a small graph of every form that vidc may choose for it, before its first use on this machine, and came out further from the reference than rounding explains: it computes in a lower precision than it was asked for, or wrongly. It is not used. The notes say which forms; plan for another provider.",
    ),
    environment(
        "runtime/session",
        "ONNX Runtime refused to make a session of a model: an operator or type that the provider has no kernel for, or a model that breaks its rules. The message names the node where ONNX Runtime does.",
    ),
    environment(
        "runtime/weights",
        "A model's weights cannot be taken from the file that they should lie in: the file is not the one that the plan was made with, is too short, or was not given.",
    ),
    environment(
        "runtime/run",
        "ONNX Runtime failed while it ran a model. The message names the node where ONNX Runtime does; its own words are in the notes.",
    ),
    environment(
        "runtime/out-of-memory",
        "A session did not get the memory that it asked for. Compile for a smaller budget (`vidc tune --memory`), close what else uses the device, or take the next plan of the record.",
    ),
    bug(
        "runtime/binding",
        "A tensor that vidc bound to a session does not fit it: a name that the model does not have, an input that was not given, or another type or shape. Plans are checked before they run, so this is a bug of vidc.",
    ),
    environment(
        "runtime/profile",
        "The profile that ONNX Runtime wrote cannot be read: it is missing, cut short, or of a form that this version of vidc does not know.",
    ),
    input(
        "run/unknown-value",
        "`--feed` or `--dump` names a value that the plan does not have. `vidc check PLANDIR` lists the values with their types.",
    ),
    input(
        "run/feed-shape",
        "An array that is fed has another shape than the value. A value that is assigned in a loop takes a leading axis of steps.",
    ),
    input("run/unknown-input", "`--input` names an input that the graph does not declare."),
    input("run/missing-input", "The graph declares an input that was not given."),
    input(
        "run/no-seed",
        "`--seed` or `--repeat` is given, and the plan draws no noise with a parameter `seed`: every run would be the same. Noise whose seed the graph computes from the parameter cannot be drawn anew without compiling; use `--set seed=N`.",
    ),
    input(
        "run/repeat",
        "`--repeat` does not go with `--resume`: saved progress is that of one run. Name its seed and its output, and leave out `--repeat`.",
    ),
    input(
        "run/no-progress",
        "`--resume` found no saved progress beside the output. A run saves its progress after every step; a finished run removes it.",
    ),
    input("run/other-progress", "The saved progress belongs to another plan, other parameters or other weights, or is damaged."),
    environment(
        "run/not-enough-memory",
        "The plan needs more memory than this machine has free now, by its prediction. Close what else runs, or compile for less with `--memory`, fewer frames or a smaller size.",
    ),
    environment(
        "run/over-budget",
        "The plan, and every smaller one behind it, needs more memory than `--memory` allows. Allow more, or compile for less.",
    ),
    environment(
        "run/not-enough-disk",
        "The file system that the plan, the output or the saved progress goes to has not enough room. Nothing was written; free some, or name another place.",
    ),
];
