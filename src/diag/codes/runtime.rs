//! Codes of the area `runtime`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
