//! The integration tests of vidc, one binary.

fn main() {}
