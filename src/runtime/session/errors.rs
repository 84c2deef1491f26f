//! What ONNX Runtime says when something fails, as diagnostics.

use crate::diag::Diagnostic;
use crate::target::{Provider, row};

/// What ONNX Runtime and the allocators below it say when memory runs out.
const OUT_OF_MEMORY: [&str; 7] = [
    "BFCArena",
    "Failed to allocate memory",
    "bad allocation",
    "bad_alloc",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
];

/// What it says when the provider is not there: no build, no library, no device.
const NO_PROVIDER: [&str; 4] =
    ["no CUDA-capable device", "CUDA driver version is insufficient", "Failed to load library", "invalid device ordinal"];

fn says(text: &str, any: &[&str]) -> bool {
    any.iter().any(|t| text.contains(t))
}

pub(super) fn run_error<T>(e: &ort::Error<T>) -> Diagnostic {
    if e.message().contains("terminate flag") {
        return Diagnostic::new("run/interrupted", "the run was stopped");
    }
    words("runtime/run", "ONNX Runtime failed to run a model", e.message())
}

/// A run that was stopped because it went beyond the limit of its memory.
pub(super) fn beyond_limit<T>(e: &ort::Error<T>) -> Diagnostic {
    Diagnostic::new("runtime/out-of-memory", "a run needed more memory than it was allowed")
        .note(e.message().trim())
        .help("allow more, or compile for a smaller memory budget")
}

pub(super) fn session_error<T>(e: &ort::Error<T>) -> Diagnostic {
    words("runtime/session", "ONNX Runtime refused a model", e.message())
}

pub(super) fn provider_error<T>(providers: &[Provider], e: &ort::Error<T>) -> Diagnostic {
    let names: Vec<&str> = providers.iter().filter_map(|p| row(&p.provider).ok()).map(|row| row.name).collect();
    if names.is_empty() {
        return session_error(e);
    }
    Diagnostic::new("runtime/provider-missing", format!("{} was asked for and cannot be used", names.join(" with ")))
        .note(e.message())
        .help("`--runtime PATH` takes the GPU build of ONNX Runtime; ask for the CPU to run there")
}

pub(super) fn commit_error<T>(providers: &[Provider], e: &ort::Error<T>) -> Diagnostic {
    if says(e.message(), &NO_PROVIDER) && !says(e.message(), &OUT_OF_MEMORY) { provider_error(providers, e) } else { session_error(e) }
}

fn words(code: &'static str, what: &str, said: &str) -> Diagnostic {
    let place = node_name(said).map_or(String::new(), |n| format!(" at node `{n}`"));
    let diagnostic = if says(said, &OUT_OF_MEMORY) {
        Diagnostic::new("runtime/out-of-memory", format!("memory ran out{place}")).help("compile for a smaller memory budget")
    } else {
        Diagnostic::new(code, format!("{what}{place}"))
    };
    diagnostic.note(said.trim())
}

/// The node that a message of ONNX Runtime names.
pub(super) fn node_name(said: &str) -> Option<&str> {
    const BEFORE: [(&str, char); 4] = [("Name:'", '\''), ("node with name '", '\''), ("Node (", ')'), ("Node:", ' ')];
    let (rest, end) = BEFORE.into_iter().find_map(|(mark, end)| Some((said.split_once(mark)?.1, end)))?;
    rest.split(end).next().filter(|name| !name.is_empty())
}
