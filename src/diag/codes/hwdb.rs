//! Codes of the area `hwdb`.

use super::{Code, input};

pub(super) const CODES: &[Code] = &[
    input(
        "hwdb/unknown-device",
        "No hardware profile has this key. `vidc hw list` prints the keys there are; `cpu` and `auto` mean this machine; a profile of your own goes into the folder that `vidc hw list` names, or is given as a path that ends in .yaml.",
    ),
    input(
        "hwdb/invalid-profile",
        "A hardware profile is not the YAML that vidc reads: a key is unknown, missing or written twice, or a value has another type. `vidc hw show KEY` prints a profile to start from.",
    ),
    input(
        "hwdb/wrong-unit",
        "A figure of a hardware profile is given in another unit than the one its field has. Convert the value; the message names the unit.",
    ),
    input(
        "hwdb/impossible-figure",
        "A figure of a hardware profile contradicts another one or physics, such as a rate with fp32 accumulation above the rate with fp16 accumulation. The message says which two disagree.",
    ),
];
