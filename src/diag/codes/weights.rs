//! Codes of the area `weights`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
