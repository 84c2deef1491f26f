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
    environment(
        "io/unwritable",
        "A file cannot be written: the folder does not exist, is read-only, or the disk is full. Nothing that was there before was changed.",
    ),
];
