//! Tensors on disk by file, offset and length, never loaded before they are written; seeded generators.
//!
//! [`open_folder`] and [`open_file`] read headers only and give a [`Stored`]: names to [`TensorRef`]s. A [`WeightExpr`] says
//! how a tensor of a model is made from stored ones; its type and shape are known without reading anything. It begins as a
//! parameter's name, [`WeightExpr::bind`] ties it to a [`ParamSource`] (files, or a seed), and [`evaluate`] makes the bytes of one
//! tensor at a time. An expression that is [`WeightExpr::bare`] needs no evaluation: its bytes are used where they lie.
//!
//! Pickled weights are never loaded.

mod bind;
mod convert;
mod dtype;
mod evaluate;
mod expr;
mod expr_text;
mod folder;
mod function;
mod map;
mod narrowing;
mod random;
mod safetensors;
mod stored;
mod uniform;

pub use bind::ParamSource;
pub use dtype::DType;
pub use evaluate::{TensorBytes, evaluate, evaluate_unrounded};
pub use expr::{WeightExpr, WeightOp};
pub use folder::{open_folder, open_index};
pub use function::{Arithmetic, Function};
pub use map::WeightsFile;
pub use narrowing::{Narrowing, narrowing, products_stay_normal};
pub use random::{RandomSpec, fill, random_spec};
pub use safetensors::open_file;
pub use stored::{Region, Stored, TensorRef};

#[cfg(test)]
mod expr_tests;
#[cfg(test)]
mod hostile_tests;
