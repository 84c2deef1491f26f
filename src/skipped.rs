//! Tests that cannot run here say so where it is seen: the test runner hides what a passing test prints through `eprintln!`.

use std::io::Write;

/// Says on stderr that a test was skipped, and for want of what. `.ci/run` counts these lines.
pub(crate) fn skipped(test: &str, want: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {want}");
}

/// The folder of further references that `VIDC_SHARED` names; without one the test says that it is skipped.
pub(crate) fn shared(test: &str) -> Option<std::path::PathBuf> {
    let found = std::env::var_os("VIDC_SHARED").map(std::path::PathBuf::from);
    if found.is_none() {
        skipped(test, "VIDC_SHARED names no folder of references");
    }
    found
}
