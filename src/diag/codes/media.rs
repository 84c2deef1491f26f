//! Codes of the area `media`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
