//! The command line of vidc.

fn main() {}
