//! The integration tests of vidc, one binary.

mod layering;
mod order;
mod reference;
mod repo;
mod source;
