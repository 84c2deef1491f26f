//! Codes of the area `spec`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
