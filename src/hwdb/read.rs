//! Reads the text of a profile and checks it.

use std::sync::Arc;

use super::profile::{MAX_BYTES, Profile, span_at};
use super::validate::validate;
use crate::diag::{Diagnostic, Diagnostics, SourceText};

/// Reads and validates one profile.
///
/// # Errors
/// Every mistake that there is after a clean parse, or the one that stopped the parser.
pub fn parse(name: &str, text: &str) -> Result<Profile, Diagnostics> {
    let source = Arc::new(SourceText { name: name.into(), text: text.into() });
    let refuse =
        |message: String| Diagnostic::new("hwdb/invalid-profile", message).help("`vidc hw show rtx3090` prints a profile to compare with");
    if text.len() > MAX_BYTES {
        return Err(refuse(format!("the profile has {} bytes; {MAX_BYTES} is the limit", text.len())).into());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let profile: Profile = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let span = e.location().map(|l| span_at(&source, l));
        refuse(first_sentence(&e.to_string())).maybe_at(span.as_ref(), "here")
    })?;
    let mut found = Diagnostics::default();
    validate(&profile, &source, &mut found);
    found.into_result(profile)
}

/// The reader repeats the location in its text; the label says it already.
fn first_sentence(text: &str) -> String {
    let line = text.lines().next().unwrap_or(text);
    line.split(" at line ").next().unwrap_or(line).trim_start_matches("error: ").to_owned()
}
