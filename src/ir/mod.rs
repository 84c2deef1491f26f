//! The two levels of IR.
//!
//! An [`OpGraph`] is a model as operators with typed, symbolically shaped tensors; a pipeline calls models in loops. The graph
//! structure is in [`graph`], what an operator means in [`op`], its types in [`infer`], the invariants in [`mod@verify`], the one
//! text form in [`text`], read back by [`mod@parse`].

mod cursor;
pub mod dim;
mod equate;
pub mod graph;
pub mod infer;
pub mod listing;
pub mod live;
pub mod op;
pub mod parse;
pub mod pipeline;
pub mod program;
pub mod schedule;
pub mod signature;
pub mod standard;
pub mod stays;
pub mod text;
pub mod types;
pub mod verify;

pub use dim::{Bindings, Dim};
pub use graph::{Node, NodeId, OpGraph, Order, Outlet};
pub use op::Op;
pub use pipeline::Pipeline;
pub use program::{CallSite, Program};
pub use schedule::{Schedule, schedule};
pub use signature::{Mismatch, Signature};
pub use types::{DType, TensorType};
pub use verify::{Broken, Verified, broken, verify};
