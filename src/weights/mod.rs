//! Tensors on disk by file, offset and length, never loaded before they are written; seeded generators.

mod dtype;

pub use dtype::DType;

pub mod expr;
pub use expr::WeightExpr;
