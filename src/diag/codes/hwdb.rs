//! Codes of the area `hwdb`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
