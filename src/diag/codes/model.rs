//! Codes of the area `model`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
