//! Program, Pipeline, OpGraph, types, symbolic dims, shape inference, weight expressions, Schedule, verify, canonical text, fingerprint.
