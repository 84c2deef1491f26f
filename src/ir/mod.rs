//! The two levels of IR, and what they mean.
//!
//! A *pipeline* ([`Pipeline`]) is tens of nodes: calls of models, loops, primitives on tensors. An *operator graph* ([`OpGraph`]) is
//! one model: 10² to 10⁴ operators. A [`Program`] is a pipeline with the graphs of its models. Both levels are dataflow: a node
//! makes one or more values, an edge says which of them a node reads at which input slot, and nothing else passes between nodes.
//!
//! ```text
//! graph film(…) -> video: f32[…]                                  pipeline: every extent is a number
//!   %x0 = randn(…) : f32[1, 4, 8, 8]
//!   %x = loop denoise(x=%x0; each t=%times; capture %c) {steps=3} : f32[1, 4, 8, 8]
//!     %e = call unet(x=%x, t=%t, c=%c) : f32[1, 4, 8, 8]          a call of the model below
//!     %next = …
//!     yield %next
//!
//! model unet(x: f32[batch, 4, h, w], …) -> y: f32[batch, 4, h, w] = %7      operator graph: extents may be symbols
//!   %0 = Conv{…}(%x, {param unet/conv_in.weight: f32[8, 4, 3, 3]}) : f32[batch, 8, h, w]
//!   …
//! ```
//!
//! # Values
//! A value is made once and never changes. No operator writes into what it reads, and no two values can be seen to share memory,
//! so any order that respects the edges gives the same results, and there is no order of writes to keep. Memory is shared only
//! below the IR, by rules that nobody can observe in the values ("Memory" says which). Noise is a function of its seed, its stream and
//! the position of the element, so it is no state either. A foreign operator ([`op::Foreign`]) is taken to be as pure as the others; what it computes is not known here.
//!
//! # Order of evaluation
//! An operator graph runs by the [`Order`] that each node carries: a path of numbers, compared part by part ([`OpGraph::nodes`]
//! lists them so). Producers stand before consumers; [`fn@verify`] holds that. What replaces a node takes a place *below* its place
//! (`[7]` becomes `[7, 0]`, `[7, 1]`, …), so an expansion runs where its site ran and nothing else moves. The order decides no value,
//! but it decides the peak of memory; [`fn@schedule`] reads it and the writer makes ONNX Runtime keep to it. Constants are there
//! from the start and have no place.
//!
//! A pipeline runs by [`pipeline::PipeGraph::order`]: the fixed one if there is one; else each node after what it reads, and of those that
//! could be next the one that was added first. A loop is one node with a body, which runs `steps` times, always all of them. Its inputs are three groups:
//! - *carry*: in step 0 the body's argument is the input, later the body's result of the step before; after the last step the
//!   results are the outputs of the loop;
//! - *each*: in step i the argument is the slice `i..i+1` of the first axis of the input, so that axis stays, with extent 1; an input
//!   may be longer than the loop;
//! - *captures*: the input itself, the same in every step.
//!
//! The body sees nothing else of the outside. A branch is one node with two arms, each a graph of its own that sees the branch's inputs; one
//! of them runs, by whether the first input, one number, is less than the branch's; its results are the outputs. A [`op::ForChunks`] of an operator graph is another thing: its body runs once for each
//! range of an axis, the runs do not depend on each other, and their outputs are joined along an axis.
//!
//! # A lowered pipeline
//! What the passes decide about calls stands in the pipeline: each call has a [`pipeline::Placement`], the session that runs it, the
//! pieces into which it is cut and the device; `load` and `unload` say when the weights of a session come and go, in bodies and arms too.
//! They have no values, so the order is fixed from then on ([`pipeline::PipeGraph::fix_order`]) and is more than the edges ask for.
//! None of this changes a value. [`Pipeline::walk`] goes through it in that order: at each call the sessions that are loaded and the
//! bytes of values that wait. A session that nothing unloads stays for further runs.
//!
//! # Types and symbols
//! Every value has a [`TensorType`]: element type and extents. In an operator graph an extent is a [`Dim`], an integer polynomial
//! over symbols with floor division, in normal form: equal dims are equal numbers whatever the symbols are. [`infer`] gives the output types of an operator
//! when it is added. [`OpGraph::bind`] replaces symbols by numbers and infers all types anew; a symbol means one number in the whole
//! graph. Extents that depend on data (outputs of foreign operators) are symbols too, which no input gives: an operator that can tell
//! such an extent is needed where only it can ([`live`](mod@live)). A pipeline has no symbols: [`pipeline::resolve`] evaluates parameters first,
//! and a call binds the symbols of the model by the extents of its inputs ([`Signature::unify`]).
//!
//! What an operator does to axes is said once, in [`axes`]: for each axis of an output, which part of each input one index depends on.
//! Passes that cut, batch, merge or divide axes ask there whether that is legal.
//!
//! # Constants
//! A constant ([`Op::Weight`]) is an expression ([`crate::weights::WeightExpr`]): a parameter by name, a tensor in a file, seeded
//! values, a literal, or an operation over those. Its type is known without reading anything. Passes rewrite expressions; bytes
//! are made one tensor at a time when a plan is written.
//!
//! # Memory
//! [`fn@schedule`] counts what ONNX Runtime does with a bound graph in its order. A *buffer* is memory that one or more values use:
//! - inputs and outputs of the graph are bound: the caller has allocated them and they stay for the whole run. What an
//!   operator makes as an output of the graph takes a buffer of its own;
//! - a view shares the buffer of its first input. [`Op::is_view`] says which operators are views: `Reshape` alone. A view that is an
//!   output of the graph is none here, and a view of a constant is counted with a buffer of its own;
//! - `Unary`, `Binary`, `Softmax` and `Cast` write over the first of their inputs whose buffer has exactly the size in bytes of the output, is
//!   not bound, and of which nobody reads any value afterwards (views in it included);
//! - every other output takes a new buffer. A buffer is free after the last reader of the last value in it.
//!
//! Constants are not in these buffers. The pass `place-views` moves and joins `Reshape`s on a CPU, where each is dispatched like a kernel;
//! it changes no value and no other operator's elements, only how axes are divided.
//!
//! # What is held
//! [`fn@verify`] gives [`Verified`], the proof without which no graph is written: types are those of inference, edges join what exists,
//! producers run first, inputs and outputs are of the graph, and bodies keep all of this ([`mod@verify`] lists it). A broken graph is shown
//! with each mistake beneath its line ([`listing`]). It does not say that a graph means what it meant before: that a pass keeps values
//! is tested against the evaluator `interp`, to the bound that the *effect* of the pass states. `exact` passes compute the same
//! function (sums may be taken in another order), `rounding` ones with fewer bits, `approximate` ones another function. All passes keep names
//! and types of inputs and outputs. Two graphs with the same canonical [`text`] are equal, and [`mod@parse`] reads that text back.

pub mod axes;
mod cursor;
pub mod dim;
mod equate;
pub mod graph;
pub mod infer;
pub mod invariant;
pub mod least_peak;
pub mod listing;
pub mod live;
pub mod op;
pub mod parse;
pub mod pipeline;
pub mod place;
pub mod program;
pub mod schedule;
pub mod signature;
pub mod text;
pub mod types;
pub mod verify;

pub use dim::{Bindings, Dim};
pub use graph::{Node, NodeId, OpGraph, Order, Outlet};
pub use invariant::Broken;
pub use op::Op;
pub use pipeline::Pipeline;
pub use program::{CallSite, Program};
pub use schedule::{Schedule, schedule, schedule_in};
pub use signature::{Mismatch, Signature};
pub use types::{DType, TensorType};
pub use verify::{Verified, broken, verify};

/// Constants below this size are not counted as weights: they are less than one allocation unit of any arena and are part
/// of the machine's overhead. (The factor of a tiled attention is one number; it must not make the weights depend on tiles.)
pub const LEAST_WEIGHT: u64 = 256;
