//! The YAML exactly as written, every scalar with its span; no resolution.
