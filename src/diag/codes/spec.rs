//! Codes of the area `spec`: the YAML of a graph file as a text, before any name is resolved.

use super::{Code, input};

pub(super) const CODES: &[Code] = &[
    input(
        "spec/syntax",
        "The file is not YAML. The place is where the reader gave up; the mistake is often a line above: an unclosed bracket or quote, or indentation.",
    ),
    input("spec/too-large", "The file is larger than a graph can be. A graph names its weights and pictures, it does not contain them."),
    input("spec/too-deep", "Maps and lists are nested deeper than any graph needs. The limit keeps hostile files from exhausting memory."),
    input(
        "spec/alias",
        "YAML anchors (`&a`) and aliases (`*a`) are not part of the language: they can blow up, and a value of the pipeline already has a name by which it is used again.",
    ),
    input("spec/tag", "YAML tags (`!!str`, `!thing`) are not part of the language. A text that looks like a number is written in quotes."),
    input("spec/documents", "A graph file holds one YAML document. Put the second graph into a file of its own."),
    input("spec/duplicate-key", "The same key stands twice in one map, so one of them would be lost. Remove one or rename it."),
    input("spec/unknown-key", "A key that means nothing at its place. The help names the nearest one, or lists all that can stand there."),
    input("spec/missing-key", "A map lacks a key that it must have. The keys of each operator are listed in schemas/graph.schema.json."),
    input("spec/one-key", "A value is made by one operator, written as a map with exactly one key: `{ scale: { value: x, by: 2 } }`."),
    input("spec/unknown-operator", "The pipeline language has no operator of this name. The help names the nearest one or lists all."),
    input(
        "spec/unknown-input-kind",
        "The pipeline language has no input of this kind. Inputs are pictures: `{ picture: { height: …, width: … } }`.",
    ),
    input(
        "spec/type",
        "Something of another kind is wanted: a number, a list, a map, a word. Quotes make a text of what would be a number.",
    ),
    input("spec/word", "Only a few words can stand at this place; the help lists them."),
    input("spec/expression", "The arithmetic cannot be read. Expressions are numbers, parameters, `+ - * /` and parentheses."),
    input(
        "spec/name",
        "Names of parameters, models, inputs, outputs and values are letters, digits and `_`, and do not start with a digit.",
    ),
    input(
        "spec/weights",
        "Weights come from a folder (`DIR`, or `{ folder: DIR, variant: fp16 }` for files such as model.fp16.safetensors) or from `random:SEED` with a whole seed from 0.",
    ),
    input(
        "spec/version",
        "The graph is written in a version of the language that this vidc does not read. The key `vidc` names the version.",
    ),
    input(
        "spec/unknown-graph",
        "No file has this name and no graph inside vidc has it either. The graphs inside vidc are svd, svd-xt and svd-tiny.",
    ),
];
