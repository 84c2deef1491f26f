//! The integration tests of vidc, one binary.

mod order;
mod reference;
