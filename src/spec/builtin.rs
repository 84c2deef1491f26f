//! The graphs that travel inside the binary.

use std::sync::Arc;

use crate::diag::{Diagnostic, Result, SourceText, suggest};

/// Name and text of every file in `graphs/`; a test compares the table with the folder.
pub const BUILTIN: &[(&str, &str)] = &[
    ("svd", include_str!("../../graphs/svd.yaml")),
    ("svd-mini", include_str!("../../graphs/svd-mini.yaml")),
    ("svd-tiny", include_str!("../../graphs/svd-tiny.yaml")),
    ("svd-xt", include_str!("../../graphs/svd-xt.yaml")),
];

/// The embedded graph `name`, which may be written as the file name (`svd.yaml`, `graphs/svd.yaml`).
///
/// # Errors
/// `spec/unknown-graph` with the nearest name.
pub fn builtin(name: &str) -> Result<Arc<SourceText>> {
    let stem = name.strip_prefix("graphs/").unwrap_or(name);
    let stem = stem.strip_suffix(".yaml").unwrap_or(stem);
    if let Some((known, text)) = BUILTIN.iter().find(|(known, _)| *known == stem) {
        return Ok(Arc::new(SourceText { name: format!("graphs/{known}.yaml"), text: (*text).to_owned() }));
    }
    let d = Diagnostic::new("spec/unknown-graph", format!("there is no graph `{name}`, neither as a file nor inside vidc"));
    Err(Box::new(d.help(suggest(stem, BUILTIN.iter().map(|(known, _)| *known)))))
}
