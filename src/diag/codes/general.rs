//! Codes that belong to no area.

use super::{Class, Code, bug, environment, input};

pub(super) const CODES: &[Code] = &[
    bug(
        "internal/bug",
        "vidc did something that its own rules forbid. The message names the pass or module; please report it with the reproducer that was written.",
    ),
    Code {
        code: "run/interrupted",
        class: Class::Interrupted,
        explain: "Ctrl-C stopped the run at a step boundary. Finished steps are kept where the message says; `vidc run --resume` goes on from there.",
    },
    input("io/unreadable", "A file that was named cannot be read: it does not exist, is a folder, or may not be read by this user."),
    input(
        "io/output-is-input",
        "The command would write a file that its input reads, by this or another name (a link, a second name, weights beside a model). Write to another name or folder.",
    ),
    input(
        "io/output-taken",
        "A file that goes with the output (weights beside a model, the report beside a video) would replace one that vidc did not write. What `-o` itself names is kept as NAME.old instead.",
    ),
    input("io/output-twice", "Two outputs of one command have the same name. Give each its own."),
    input("io/not-a-file", "A folder, a device or a pipe stands where a file is to be written. Name a file."),
    input("io/extension", "The name of an output ends in another way than files of its kind. The help says how it should end."),
    environment(
        "io/unwritable",
        "A file cannot be written: the folder does not exist, is read-only, or the disk is full. Nothing that was there before was changed.",
    ),
];
