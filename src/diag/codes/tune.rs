//! Codes of the area `tune`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
