//! One file a pass; the Rewriter; the trace.
