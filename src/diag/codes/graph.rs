//! Codes of the area `graph`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
