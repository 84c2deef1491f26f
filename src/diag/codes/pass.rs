//! Codes of the area `pass`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
