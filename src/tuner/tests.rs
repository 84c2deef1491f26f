//! The search against brute force: on random instances, and on the small pipeline through full compiles.
