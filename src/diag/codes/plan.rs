//! Codes of the area `plan`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
