//! The integration tests of vidc, one binary.

mod reference;
