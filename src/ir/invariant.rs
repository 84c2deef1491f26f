//! The invariants of operator graphs as values: which one is broken, where, and the sentence that says so. [`verify`](mod@super::verify)
//! lists them in prose and checks them.

use std::fmt;

use super::place::Location;
use super::types::TensorType;

/// An invariant that a graph breaks, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// Where.
    pub at: Location,
    /// Which invariant, with both sides of a mismatch.
    pub invariant: Invariant,
}

/// An invariant with what breaks it. `Display` is the sentence that stands beneath the line.
#[derive(Clone, Debug, PartialEq)]
pub enum Invariant {
    /// 1: the types of a node are those that inference gives.
    Types {
        /// What the node has.
        stated: Vec<TensorType>,
        /// What its inputs give.
        inferred: Vec<TensorType>,
    },
    /// 1: a constant has the type of its expression.
    ConstantType {
        /// What the node has.
        stated: Vec<TensorType>,
        /// The expression's.
        expression: TensorType,
    },
    /// 1: the operator takes its inputs.
    Takes {
        /// What it is given.
        given: Vec<TensorType>,
        /// What inference says.
        why: String,
    },
    /// 2: input slots are 0, 1, ….
    Slots {
        /// Those that are filled, ascending, once for each edge.
        filled: Vec<u16>,
    },
    /// 2: an edge leaves an output that exists.
    Edge {
        /// The input slot that reads it.
        slot: usize,
        /// Name of the producer.
        producer: String,
        /// The output that is read.
        output: u16,
        /// How many the producer has.
        outputs: usize,
    },
    /// 3: a producer runs before its consumers.
    Order {
        /// Name of the producer.
        producer: String,
    },
    /// 4: an output of the graph is a tensor of the graph.
    OutputTensor {
        /// Its name.
        output: String,
        /// Name of the node and how many outputs it has; `None` if the node is gone.
        node: Option<(String, usize)>,
    },
    /// 4: what is listed as an input is an input node.
    InputNode,
    /// 4: an input is listed once.
    InputOnce {
        /// Its name.
        input: String,
    },
    /// 4: every input node is listed.
    InputListed {
        /// Its name.
        input: String,
    },
    /// 5: a body of chunks takes the pieces of the inputs.
    Pieces {
        /// The types of the body's inputs.
        takes: Vec<TensorType>,
        /// The types of the pieces.
        pieces: Vec<TensorType>,
    },
    /// 5: what bodies capture is among the inputs of the node.
    CapturesGiven {
        /// How many values the bodies capture.
        captures: usize,
        /// How many inputs the node has.
        inputs: usize,
    },
    /// 5: what a body captures has the same type inside as outside.
    CaptureTypes {
        /// Outside.
        outside: Vec<TensorType>,
        /// The types of the body's inputs, of which the last ones are captured.
        inside: Vec<TensorType>,
    },
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Types { stated, inferred } => write!(f, "is typed {}, but its inputs give {}", Types(stated), Types(inferred)),
            Self::ConstantType { stated, expression } => write!(f, "the constant is typed {}, but is {expression}", Types(stated)),
            Self::Takes { given, why } => write!(f, "does not take {}: {why}", Types(given)),
            Self::Slots { filled } => write!(f, "its filled input slots are {filled:?}, not 0, 1, …"),
            Self::Edge { slot, producer, output, outputs } => {
                write!(f, "input {slot} reads output {output} of `{producer}`, which has {outputs}")
            }
            Self::Order { producer } => write!(f, "runs before its producer `{producer}`"),
            Self::OutputTensor { output, node: None } => write!(f, "the output `{output}` is no node of the graph"),
            Self::OutputTensor { output, node: Some((node, outputs)) } => {
                write!(f, "the output `{output}` is none of the {outputs} outputs of `{node}`")
            }
            Self::InputNode => write!(f, "what is listed as an input is no input node"),
            Self::InputOnce { input } => write!(f, "the input `{input}` is listed more than once"),
            Self::InputListed { input } => write!(f, "the input node `{input}` is not listed"),
            Self::Pieces { takes, pieces } => write!(f, "the body takes {}, but its pieces are {}", Types(takes), Types(pieces)),
            Self::CapturesGiven { captures, inputs } => write!(f, "its bodies capture {captures} values, but it has {inputs} inputs"),
            Self::CaptureTypes { outside, inside } => {
                write!(f, "the body captures {}, but its inputs end otherwise: {}", Types(outside), Types(inside))
            }
        }
    }
}

/// Types in one list.
struct Types<'a>(&'a [TensorType]);

impl fmt::Display for Types<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "({})", all.join(", "))
    }
}
