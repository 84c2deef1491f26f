//! Codes of the area `graph`: what a graph means, once its text is read.

use super::{Code, input};

pub(super) const CODES: &[Code] = &[
    input(
        "graph/unknown-value",
        "A value is used that nothing makes. Values are the names under `pipeline` and `inputs`, and what a loop carries; parameters are used in arithmetic only.",
    ),
    input("graph/unknown-parameter", "Arithmetic or `--set` names a parameter that the graph does not declare under `parameters`."),
    input("graph/unknown-model", "A call names a model that the graph does not declare under `models`."),
    input(
        "graph/unknown-port",
        "A call gives a value to an input that the model does not have. The help names the nearest, or all of them.",
    ),
    input("graph/missing-port", "A call leaves an input of the model without a value. Every input of a model must be given."),
    input(
        "graph/unknown-axis",
        "A tensor has no axis of this name. Axes are named where a tensor is made; one without a name is given by its index from 0.",
    ),
    input("graph/duplicate-axis", "Two axes of one tensor would have the same name, so that the name would not say which is meant."),
    input(
        "graph/duplicate-value",
        "Two values have the same name. Names are unique in the whole graph, inside loops as well, because values are fed and dumped by name.",
    ),
    input(
        "graph/use-before-definition",
        "A value is used above the line that makes it. Values stand in the order in which they are made; move one of the two.",
    ),
    input(
        "graph/cycle",
        "Values need each other in a circle, so none of them can be made first. What goes around is a loop with a carried value.",
    ),
    input(
        "graph/kind",
        "A picture stands where a tensor is wanted, or the other way round. `resize` and `to_tensor` make a tensor of a picture.",
    ),
    input("graph/dtype", "A tensor has another element type than the place wants. Both ends are shown."),
    input(
        "graph/shape",
        "Extents or axes of two tensors, or of a tensor and a port, do not fit each other. Both ends are shown with the names of their axes.",
    ),
    input(
        "graph/model-size",
        "The model cannot take a tensor of this size: it halves it several times, and each half must be whole. The help names the two nearest sizes that it can take.",
    ),
    input(
        "graph/picture-size",
        "The size of a picture file is known only when it is read, and a tensor needs its size before. `resize` gives a picture a size.",
    ),
    input(
        "graph/range",
        "A number is outside of what makes sense at its place, such as a slice beyond the end of an axis. The message says the limits.",
    ),
    input(
        "graph/not-whole",
        "Arithmetic gives a fraction where a whole number is wanted, such as `height / 8` with a height that 8 does not divide.",
    ),
    input("graph/arithmetic", "Arithmetic has no value: it divides by zero or its result is too large for a number."),
    input("graph/arity", "An operator is given too few or too many values. The message says how many it takes."),
    input(
        "graph/too-large",
        "A value would have more elements than vidc handles in one piece. Lower the parameters that its shape comes from.",
    ),
    input("graph/parameter-type", "`--set` gives a parameter something that is no number, or a fraction where the default is whole."),
    input("graph/parameter-range", "A parameter is below its `min` or above its `max`, by its default or by `--set`."),
    input(
        "graph/parameter-multiple",
        "A parameter is not a multiple of its `multiple_of`. The help names the two nearest values that are.",
    ),
    input("graph/each-too-short", "An array under `each` of a loop has fewer elements than the loop has steps, or is no array at all."),
    input(
        "graph/carry-unassigned",
        "A loop carries a value that its body never assigns, so that every step would see the same. Use the value directly, or name a value of the body like it.",
    ),
    input(
        "graph/carry-type",
        "A loop's body makes another type of a carried value than it began with. What a loop carries keeps its type and shape.",
    ),
    input(
        "graph/condition",
        "What decides a branch is not one number: the value under `if` has more elements than one, or is a picture. `relative_change` makes one number of two tensors.",
    ),
    input(
        "graph/arms-differ",
        "The arms of a branch give values of different types or shapes under one name. What follows needs one type, whichever arm ran; both are shown.",
    ),
    input(
        "graph/gives-nothing",
        "A branch names nothing under `gives`, so that neither of its arms has an effect. Name what comes out, with its value in either arm.",
    ),
    input("graph/no-output", "The graph names nothing under `outputs`. A graph that gives nothing is a mistake."),
    input("graph/output-type", "An output is not a video: f32 [batch, frames, 3, height, width] with values in [-1, 1]."),
];
