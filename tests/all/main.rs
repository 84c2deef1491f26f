//! The integration tests of vidc, one binary.

mod examples;
mod layering;
mod order;
mod reference;
mod repo;
mod source;
