//! The integration tests of vidc, one binary.

mod layering;
mod reference;
mod repo;
mod source;
